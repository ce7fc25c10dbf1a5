"""One decoding step of our KOSMOS-2.5 and of the class of `transformers`, in turn in one process.

    python -m benchmarks.document.decoder_steps [--rounds 5] [--dtypes float32 bfloat16] [--output DIR]

The model is that of `decoder_engine.py` (200 M parameters, published vocabulary, random weights). Both sides continue
from the same cache of 260 tokens, whose keys and values are random, with the public call of each: our `generate` and
their `generate`. A round writes some tokens with each; its figures are the medians of the CPU time between tokens, and
its ratio theirs over ours. The median of the ratios counts. This is what `decoder_engine.py` measures as tokens a
second, without the rest, so that it can be repeated in a minute on a busy machine.

Both must write the same tokens in float32, or the run fails.
"""

from __future__ import annotations

import itertools
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import harness

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import torch
from torch import Tensor

from benchmarks.document.decoder_engine import count_parameters, make_model

CACHED = 260
BATCHES = (1, 8)
TARGETS = {1: 1.2, 8: 1.5}

Filled = list[tuple[Tensor, Tensor]]  # keys and values of every layer


class Ours:
    def __init__(self, folder: Path, dtype: torch.dtype) -> None:
        from multiway_document.kosmos2_5 import checkpoint

        self.model = checkpoint.load(folder, dtype=dtype)

    def __call__(
        self, filled: Filled, token_B1: Tensor, new_tokens: int
    ) -> tuple[list[float], list[list[int]]]:
        """CPU time at every token, and the tokens."""
        from multiway_core.generation import GenerationConfig, generate

        pad = self.model.config.tokens.pad
        config = GenerationConfig(max_new_tokens=new_tokens, eos_token_ids=(), pad_token_id=pad)
        cache = self.model.text.new_cache(len(token_B1), CACHED + 1 + new_tokens)
        for layer, (key, value) in enumerate(filled):
            cache.update(layer, key, value)
        cache.advance(torch.ones(len(token_B1), CACHED, dtype=torch.bool))
        times: list[float] = []
        first = self.model.text.decode(token_B1, cache)
        output = generate(
            self.model.text.decode,
            first,
            cache,
            config,
            on_step=lambda event: times.append(time.process_time()),
        )
        return times, [row.tolist() for row in output.tokens]


class Theirs:
    def __init__(self, folder: Path, dtype: torch.dtype) -> None:
        from transformers import Kosmos2_5ForConditionalGeneration

        self.model = Kosmos2_5ForConditionalGeneration.from_pretrained(folder, dtype=dtype).eval()

    def __call__(
        self, filled: Filled, token_B1: Tensor, new_tokens: int
    ) -> tuple[list[float], list[list[int]]]:
        """CPU time at every token, and the tokens."""
        from transformers import DynamicCache, LogitsProcessor, LogitsProcessorList

        times: list[float] = []

        class Stamp(LogitsProcessor):
            def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
                times.append(time.process_time())
                return scores

        cache = DynamicCache()
        for layer, (key, value) in enumerate(filled):
            cache.update(key.clone(), value.clone(), layer)
        tokens = torch.cat(
            [torch.full((len(token_B1), CACHED), 10), token_B1], dim=1
        )  # the first are not read
        output = self.model.generate(
            input_ids=tokens,
            attention_mask=torch.ones_like(tokens),
            cache=cache,
            max_new_tokens=new_tokens,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=1,
            logits_processor=LogitsProcessorList([Stamp()]),
        )
        return times, output[:, CACHED + 1 :].tolist()


def compare(folder: Path, dtype: torch.dtype, rounds: int, new_tokens: int) -> list[dict[str, Any]]:
    """One line of the table for each batch size."""
    ours, theirs = Ours(folder, dtype), Theirs(folder, dtype)
    text = ours.model.config.text
    lines = []
    for batch in BATCHES:
        torch.manual_seed(1)
        shape = (batch, text.num_heads, CACHED, text.hidden_size // text.num_heads)
        filled = [
            (torch.randn(shape).to(dtype), torch.randn(shape).to(dtype)) for _ in range(text.num_layers)
        ]
        token_B1 = torch.randint(10, 1000, (batch, 1))
        measured: list[tuple[float, float]] = []
        same = True
        for number in range(rounds + 1):  # the first round warms up
            times, tokens = zip(*(side(filled, token_B1, new_tokens) for side in (ours, theirs)), strict=True)
            same = same and tokens[0] == tokens[1]
            if number:
                one, other = (
                    statistics.median(b - a for a, b in itertools.pairwise(stamps)) for stamps in times
                )
                measured.append((one, other))
        if dtype == torch.float32 and not same:
            raise SystemExit("the two implementations did not write the same tokens in float32")
        lines.append(
            {
                "dtype": str(dtype).removeprefix("torch."),
                "batch": batch,
                "rounds_ms": [(1e3 * one, 1e3 * other) for one, other in measured],
                "ours_ms": 1e3 * statistics.median(one for one, _ in measured),
                "theirs_ms": 1e3 * statistics.median(other for _, other in measured),
                "ratio": statistics.median(other / one for one, other in measured),
                "same_tokens": same,
            }
        )
    return lines


def table(lines: list[dict[str, Any]]) -> str:
    rows = [
        "| type | batch | multiway, tokens/s | transformers, tokens/s | ratio | rounds from - to | target | |",
        "|---|--:|--:|--:|--:|---|--:|---|",
    ]
    for line in lines:
        batch, ratios = line["batch"], [other / one for one, other in line["rounds_ms"]]
        target = TARGETS[batch]
        speeds = [f"{1e3 * batch / line[side]:.1f}" for side in ("ours_ms", "theirs_ms")]
        rows.append(
            f"| {line['dtype']} | {batch} | {speeds[0]} | {speeds[1]} "
            f"| {line['ratio']:.2f} | {min(ratios):.2f} - {max(ratios):.2f} | >= {target} "
            f"| {'met' if line['ratio'] >= target else '**missed**'} |"
        )
    return "\n".join(rows)


def main() -> None:
    parser = harness.parser(__doc__, "document")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--new-tokens", type=int, default=12)
    parser.add_argument(
        "--dtypes", nargs="+", default=["float32", "bfloat16"], choices=["float32", "bfloat16"]
    )
    parser.add_argument("--folder", type=Path, help="keep the model here, or use the one that is here")
    options = parser.parse_args()
    torch.set_num_threads(1)

    with tempfile.TemporaryDirectory() as scratch, torch.inference_mode():
        folder = options.folder or Path(scratch)
        if not (folder / "config.json").is_file():
            with torch.inference_mode(mode=False):
                make_model(folder)
        parameters = count_parameters(folder)
        lines = [
            line
            for dtype in options.dtypes
            for line in compare(folder, getattr(torch, dtype), options.rounds, options.new_tokens)
        ]
    report: dict[str, Any] = {
        **harness.provenance("decoder-steps"),
        "parameters": parameters,
        "cached_tokens": CACHED,
        "new_tokens": options.new_tokens,
        "seed": 1,
        "clock": "CPU seconds of one thread",
        "lines": lines,
    }
    page = (
        "# KOSMOS-2.5: a decoding step of ours and of the class of `transformers`\n\n"
        f"{parameters / 1e6:.0f} M parameters, random weights, {CACHED} cached tokens; one thread of "
        f"{report['machine']['cpu']}, CPU time, medians of {options.rounds} rounds in turn, torch {torch.__version__}, "
        f"transformers {report['versions']['transformers']}, {harness.STARTED_AT}; `{report['command']}`. "
        f"{'Both wrote the same tokens.' if all(line['same_tokens'] for line in lines) else ''}\n\n{table(lines)}\n"
    )
    harness.save(options.output, "decoder-steps", report, page)


if __name__ == "__main__":
    main()
