"""Time and memory of one more token behind 1K to 8K: a RetNet and a Transformer of the same size, side by side.

    python -m benchmarks.text.retnet_decoding [--rounds 7] [--output DIR]

RetNet's base size (6 layers of 512) and Magneto with as many parameters a layer, both as they are generated with: the
steps of the decode loop (`model.decode`), in float32. What a step costs depends on how much the cache holds, not on
what: caches are filled with random numbers. Steps of all lengths and of both models take turns; CPU time, because other
work may share the machine; medians.

One thread. Prints one table in Markdown and writes it, and one JSON file.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from benchmarks import harness

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import torch
from multiway_blocks.retention import RetentionState
from multiway_blocks.text_decoder import CausalLM
from multiway_text.decoders.magneto.config import MagnetoConfig
from multiway_text.decoders.magneto.model import Magneto
from multiway_text.decoders.retnet.config import RetNetConfig
from multiway_text.decoders.retnet.model import RetNet

LENGTHS = (1024, 2048, 4096, 8192)
VOCABULARY = 1024  # small, so that the output matrix does not cover what is measured
STEPS = 4  # a round


def models() -> dict[str, CausalLM]:
    torch.manual_seed(0)
    retnet = RetNet(RetNetConfig(vocab_size=VOCABULARY))
    transformer = Magneto(
        MagnetoConfig(hidden_size=512, num_layers=6, num_heads=8, inner_size=2080, vocab_size=VOCABULARY)
    )
    return {"RetNet": retnet.eval(), "Transformer": transformer.eval()}


def filled(model: CausalLM, length: int, room: int) -> Any:
    """A cache behind ``length`` tokens."""
    cache = model.new_cache(1, length + room)
    if isinstance(model, RetNet):
        own = model.config
        matrix = torch.randn(1, own.num_heads, own.head_dim, own.value_size // own.num_heads)
        cache.states = [RetentionState(matrix.clone(), torch.tensor([length])) for _ in range(own.num_layers)]
    else:
        _, heads, _, width = cache.slots(0)[0].shape
        shape = (1, heads, length, width)
        for layer in range(cache.num_layers):
            cache.update(layer, torch.randn(shape), torch.randn(shape))
    cache.advance(torch.ones(1, length, dtype=torch.bool))
    return cache


def cache_bytes(model: CausalLM, length: int) -> int:
    """What a row of that length keeps, in float32."""
    if isinstance(model, RetNet):
        return 4 * model.config.state_size
    return 4 * 2 * len(model.decoder.layers) * model.embedding.embedding_dim * length


def stepper(model: CausalLM, cache: Any) -> Callable[[], float]:
    token = torch.tensor([[7]])

    def steps() -> float:
        start = time.process_time()
        for _ in range(STEPS):
            model.decode(token, cache)
        return (time.process_time() - start) / STEPS

    return steps


@torch.inference_mode()
def measured(rounds: int) -> tuple[dict[str, int], list[dict[str, Any]]]:
    built = models()
    cells = {
        (name, length): stepper(model, filled(model, length, STEPS * (rounds + 1)))
        for name, model in built.items()
        for length in LENGTHS
    }
    taken: dict[tuple[str, int], list[float]] = {key: [] for key in cells}
    for number in range(rounds + 1):
        for key, steps in cells.items():
            seconds = steps()
            if number:  # the first round warms up
                taken[key].append(seconds)
    lines = [
        {
            "model": name,
            "length": length,
            "milliseconds": 1e3 * statistics.median(values),
            "all": [1e3 * value for value in values],
            "cache_bytes": cache_bytes(built[name], length),
        }
        for (name, length), values in taken.items()
    ]
    return {
        name: sum(p.numel() for p in model.decoder.layers.parameters()) for name, model in built.items()
    }, lines


def main() -> None:
    parser = harness.parser(__doc__, "text")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    parameters, lines = measured(options.rounds)
    result = {
        **harness.provenance("retnet-decoding"),
        "parameters": parameters,
        "lines": lines,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    rows = [
        "| | " + " | ".join(f"behind {length}" for length in LENGTHS) + " | 8192 / 1024 | cache at 8192 |",
        "|---|" + "--:|" * 6,
    ]
    for name, count in parameters.items():
        found = [line for line in lines if line["model"] == name]
        cells = " | ".join(f"{line['milliseconds']:.2f} ms" for line in found)
        ratio = found[-1]["milliseconds"] / found[0]["milliseconds"]
        rows.append(
            f"| {name}, {count / 1e6:.1f} M in layers | {cells} | {ratio:.2f} "
            f"| {found[-1]['cache_bytes'] / 1e6:.1f} MB |"
        )
    page = (
        "# RetNet: the time of a further token\n\n"
        f"One step of the decode loop, one row, float32. One thread of {result['machine']['cpu']} at a load of"
        f" {result['machine']['load_average']:.0f}, torch {torch.__version__}, medians of {options.rounds} interleaved"
        f" rounds of {STEPS} steps in CPU time, {result['date']}; `python -m benchmarks.text.retnet_decoding --rounds"
        f" {options.rounds}`.\n\n" + "\n".join(rows) + "\n"
    )
    harness.save(options.output, "retnet-decoding", result, page)


if __name__ == "__main__":
    main()
