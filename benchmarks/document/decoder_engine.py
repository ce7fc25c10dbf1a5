"""Our KOSMOS-2.5 against the class of `transformers`: the same random weights, one thread, measured in turn.

    python -m benchmarks.document.decoder_engine [--rounds 5] [--dtypes float32 bfloat16] [--output DIR]

A model of about 200 M parameters with the published vocabulary is made by the peer's class and saved as published;
both implementations load it, each in a process of its own, and take turns (A B A B ...). A round measures the encoder
with the resampler, and greedy decoding at batch 1 and 8: time to the first token (page encoded, prompt read, token
chosen) and tokens a second after it. Times are CPU seconds of a single thread, because other work may share the
machine; a ratio is the median of the rounds' ratios, each of two measurements that follow each other. The peak
resident set is that of the process from its start to its end, weights included.

Both must write the same tokens in float32, or the run fails. About 10 minutes on a free core, plus the time that
others take from it.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import harness

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import torch

NUM_PATCHES = 512
NUM_QUERIES = 256
SIZES: dict[str, Any] = {
    "vision_config": {
        "hidden_size": 768,
        "num_hidden_layers": 8,
        "num_attention_heads": 12,
        "head_dim": 64,
        "intermediate_size": 2048,
        "max_num_patches": NUM_PATCHES,
    },
    "text_config": {"embed_dim": 768, "layers": 8, "attention_heads": 12, "ffn_dim": 3072},
    "latent_query_num": NUM_QUERIES,
}
BATCHES = (1, 8)
NEW_TOKENS = 48
SIDES = ("multiway", "transformers")
TARGETS = {
    "encoder_seconds_1": 1.0,
    "encoder_seconds_8": 1.0,
    "tokens_per_second_1": 1.2,
    "tokens_per_second_8": 1.5,
    "peak_rss_bytes": 0.9,
}

Round = dict[str, Any]


def make_model(folder: Path) -> None:
    """Save the peer's model with random weights."""
    from transformers import Kosmos2_5Config, Kosmos2_5ForConditionalGeneration

    torch.manual_seed(0)
    model = Kosmos2_5ForConditionalGeneration(Kosmos2_5Config(**SIZES))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    model.save_pretrained(folder)


def count_parameters(folder: Path) -> int:
    from safetensors import safe_open

    with safe_open(folder / "model.safetensors", framework="pt") as tensors:
        return sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118


def random_pictures(count: int) -> list[Any]:
    import numpy as np

    # The shape of an A4 page, of which almost no patch is padding.
    return [
        np.random.default_rng(seed).integers(0, 256, (420, 297, 3), dtype=np.uint8) for seed in range(count)
    ]


def ours(folder: Path, dtype: torch.dtype) -> Callable[[int], Round]:
    from multiway_core.generation import GenerationConfig, generate
    from multiway_document.kosmos2_5 import checkpoint
    from multiway_document.kosmos2_5.processor import batch_pictures, picture_patches

    model = checkpoint.load(folder, dtype=dtype)
    tokens = model.config.tokens
    config = GenerationConfig(max_new_tokens=NEW_TOKENS, eos_token_ids=(), pad_token_id=tokens.pad)

    def measure(batch: int) -> Round:
        pictures = [picture_patches(image, max_patches=NUM_PATCHES) for image in random_pictures(batch)]
        patches = batch_pictures(pictures, NUM_PATCHES).to("cpu", dtype)
        suffix = torch.full((batch, 1), tokens.ocr)
        stamps: list[float] = []
        with torch.inference_mode():
            start = time.process_time()
            embeddings = model.embed_images(patches)
            encoded = time.process_time()
            cache = model.text.new_cache(batch, NUM_QUERIES + 3 + 1 + NEW_TOKENS)
            first = model.prefill(embeddings, suffix, cache)
            output = generate(
                model.text.decode,
                first,
                cache,
                config,
                on_step=lambda event: stamps.append(time.process_time()),
            )
        return result(encoded - start, start, stamps, [row.tolist() for row in output.tokens])

    return measure


def theirs(folder: Path, dtype: torch.dtype) -> Callable[[int], Round]:
    from multiway_document.kosmos2_5.config import KOSMOS_2_5
    from multiway_document.kosmos2_5.processor import batch_pictures, picture_patches
    from transformers import Kosmos2_5ForConditionalGeneration, LogitsProcessor, LogitsProcessorList

    model = Kosmos2_5ForConditionalGeneration.from_pretrained(folder, dtype=dtype).eval()
    tokens = KOSMOS_2_5.tokens

    class Stamp(LogitsProcessor):
        """Called once a step, when the logits are there."""

        def __init__(self) -> None:
            self.times: list[float] = []

        def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            self.times.append(time.process_time())
            return scores

    def measure(batch: int) -> Round:
        # Their own preprocessing gives the same patches (tests/test_kosmos2_5_parity.py) and is not measured.
        pictures = [picture_patches(image, max_patches=NUM_PATCHES) for image in random_pictures(batch)]
        patches = batch_pictures(pictures, NUM_PATCHES, padded=True)
        ids = torch.stack([patches.rows_BN, patches.columns_BN], dim=-1)
        flattened = torch.cat([ids.to(dtype), patches.pixels_BNP.to(dtype)], dim=-1)
        head = [tokens.bos, tokens.image, *[0] * NUM_QUERIES, tokens.image_end, tokens.ocr]
        places = [0, -1, *[1] * NUM_QUERIES, -1, 0]
        input_ids, mask = (torch.tensor([row] * batch) for row in (head, places))
        stamp = Stamp()
        with torch.inference_mode():
            start = time.process_time()
            features = model.vision_model(flattened).last_hidden_state
            features = torch.nn.functional.normalize(features, dim=-1)
            embeddings, _ = model.image_to_text_projection(features)
            encoded = time.process_time()
            output = model.generate(
                input_ids=input_ids,
                image_embeds=embeddings,
                image_embeds_position_mask=mask,
                attention_mask=torch.ones_like(input_ids),
                max_new_tokens=NEW_TOKENS,
                do_sample=False,
                eos_token_id=None,
                pad_token_id=tokens.pad,
                logits_processor=LogitsProcessorList([stamp]),
            )
        return result(encoded - start, start, stamp.times, output[:, len(head) :].tolist())

    return measure


def result(encoder_seconds: float, start: float, stamps: list[float], tokens: list[list[int]]) -> Round:
    return {
        "encoder_seconds": encoder_seconds,
        "first_token_seconds": stamps[0] - start,
        "tokens_per_second": len(tokens) * (len(stamps) - 1) / (stamps[-1] - stamps[0]),
        "tokens": tokens,
    }


def work(side: str, folder: Path, dtype: torch.dtype) -> None:
    """A side's process: for every batch size that comes in, one round goes out."""
    torch.set_num_threads(1)
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints must not mix with the answers
    measure = (ours if side == "multiway" else theirs)(folder, dtype)
    for row in sys.stdin:
        answer = measure(int(row))
        status = Path("/proc/self/status").read_text()
        answer["peak_rss_bytes"] = int(status.split("VmHWM:")[1].split()[0]) * 1024
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


class Side:
    """One implementation's process."""

    def __init__(self, name: str, folder: Path, dtype: str) -> None:
        command = [
            sys.executable,
            "-m",
            __spec__.name,
            "--worker",
            name,
            "--folder",
            str(folder),
            "--dtypes",
            dtype,
        ]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def round(self, batch: int) -> Round:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{batch}\n")
        self.process.stdin.flush()
        row = self.process.stdout.readline()
        if not row:
            raise SystemExit(f"a worker ended with exit code {self.process.wait()}")
        return json.loads(row)

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(timeout=60)


def compare(folder: Path, dtype: str, rounds: int) -> dict[str, Any]:
    """Medians of both sides and their ratios (above 1: ours is faster, or for memory below 1: smaller)."""
    sides = {name: Side(name, folder, dtype) for name in SIDES}
    taken: dict[str, dict[str, list[float]]] = {name: {} for name in SIDES}
    same = dict.fromkeys(BATCHES, True)
    for number in range(rounds + 1):  # the first round warms up
        for batch in BATCHES:
            written = []
            for name, side in sides.items():
                values = side.round(batch)
                written.append(values.pop("tokens"))
                taken[name]["peak_rss_bytes"] = [values.pop("peak_rss_bytes")]
                if number:
                    for key, value in values.items():
                        taken[name].setdefault(f"{key}_{batch}", []).append(value)
            same[batch] = same[batch] and written[0] == written[1]
    for side in sides.values():
        side.close()
    if dtype == "float32" and not all(same.values()):
        raise SystemExit("the two implementations did not write the same tokens in float32")
    medians = {
        name: {key: statistics.median(values) for key, values in taken[name].items()} for name in SIDES
    }
    ratios = {}
    for key, mine in taken["multiway"].items():
        pairs = zip(mine, taken["transformers"][key], strict=True)
        # Time: theirs over ours. Tokens a second and memory: ours over theirs.
        both = [other / value if "_seconds" in key else value / other for value, other in pairs]
        ratios[key] = statistics.median(both)
    return {"medians": medians, "ratios": ratios, "same_tokens": same, "rounds": taken}


def table(results: dict[str, dict[str, Any]]) -> str:
    lines = [
        "| | type | multiway | transformers | ratio | target | |",
        "|---|---|--:|--:|--:|--:|---|",
    ]
    for dtype, values in results.items():
        for key, ratio in values["ratios"].items():
            mine, other = (values["medians"][name][key] for name in SIDES)
            if key == "peak_rss_bytes":
                shown = [f"{value / 2**20:.0f} MiB" for value in (mine, other)]
            elif "per_second" in key:
                shown = [f"{value:.2f}/s" for value in (mine, other)]
            else:
                shown = [f"{value:.3f} s" for value in (mine, other)]
            target, verdict = TARGETS.get(key), ""
            if target is not None:
                met = ratio <= target if key == "peak_rss_bytes" else ratio >= target
                verdict = "met" if met else "**missed**"
            bound = "" if target is None else ("<= " if key == "peak_rss_bytes" else ">= ") + f"{target}"
            name = NAMES.get(key, key)
            lines.append(
                f"| {name} | {dtype} | {shown[0]} | {shown[1]} | {ratio:.2f} | {bound} | {verdict} |"
            )
    return "\n".join(lines)


NAMES = {
    "encoder_seconds_1": "encoder and resampler, batch 1",
    "encoder_seconds_8": "encoder and resampler, batch 8",
    "first_token_seconds_1": "time to first token, batch 1",
    "first_token_seconds_8": "time to first token, batch 8",
    "tokens_per_second_1": "tokens a second, batch 1",
    "tokens_per_second_8": "tokens a second, batch 8",
    "peak_rss_bytes": "peak resident set",
}


def main() -> None:
    parser = harness.parser(__doc__, "document")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--dtypes", nargs="+", default=["float32", "bfloat16"], choices=["float32", "bfloat16"]
    )
    parser.add_argument("--worker", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help="keep the model here, or use the one that is here")
    options = parser.parse_args()
    if options.worker:
        work(options.worker, options.folder, getattr(torch, options.dtypes[0]))
        return

    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or Path(scratch)
        if not (folder / "config.json").is_file():
            make_model(folder)
        parameters = count_parameters(folder)
        results = {dtype: compare(folder, dtype, options.rounds) for dtype in options.dtypes}
    report: dict[str, Any] = {
        **harness.provenance("decoder-engine"),
        "parameters": parameters,
        "sizes": SIZES,
        "new_tokens": NEW_TOKENS,
        "clock": "CPU seconds of one thread",
        "results": results,
    }
    page = (
        "# KOSMOS-2.5: our engine and the class of `transformers`\n\n"
        f"{parameters / 1e6:.0f} M parameters, random weights, {NUM_PATCHES} patches and {NUM_QUERIES} image "
        f"embeddings a page, {NEW_TOKENS} new tokens; one thread, CPU time, medians of {options.rounds} rounds in "
        "turn, ratios taken round by round; "
        f"{report['machine']['cpu']}, torch {torch.__version__}, transformers "
        f"{report['versions']['transformers']}, {harness.STARTED_AT}. "
        "The ratio is transformers' time over ours (for the peak "
        "resident set: ours over theirs). Both wrote the same tokens in float32.\n\n" + table(results) + "\n"
    )
    harness.save(options.output, "decoder-engine", report, page)


if __name__ == "__main__":
    main()
