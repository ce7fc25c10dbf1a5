"""The ``bench`` command: how fast a model reads and writes here, in what memory, and what its output matrix costs."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from multiway_core.app import ModelOptions, load_pipeline
from multiway_core.errors import InputError
from multiway_core.evaluation import describe_machine, peak_rss_bytes

from multiway_lm.app import APP

SCHEMA = "multiway.lm.bench/1"


def bench_model(
    options: ModelOptions, *, prompt: int, tokens: int, batch: int, repeats: int
) -> dict[str, Any]:
    """Medians over ``repeats`` rounds; reading, writing and the output matrix take turns in each round.

    ``prompt`` tokens are read, and ``tokens`` written behind them, in ``batch`` rows. Raises InputError where they do
    not fit the context.
    """
    import torch

    model = load_pipeline(APP, options)
    network = model.network
    if prompt + tokens > model.max_positions:
        raise InputError(
            f"{prompt} tokens to read and {tokens} to write do not fit the context of {model.max_positions}"
        )
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(model.tokenizer.vocab_size, (batch, prompt), generator=generator).to(model.device)
    read, wrote, head, cache_bytes = [], [], [], 0

    def clock() -> float:
        if model.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    with torch.inference_mode():
        for round_ in range(repeats + 1):  # the first warms up
            cache = network.new_cache(batch, prompt + tokens)
            begun = clock()
            logits = network.prefill(ids, cache)
            middle = clock()
            for _ in range(tokens):
                logits = network.decode(logits.argmax(1)[:, None], cache)
            end = clock()
            state = network.hidden(ids[:, :1])
            before_head = clock()
            for _ in range(tokens):
                network.logits(state[:, -1])
            after_head = clock()
            if round_:
                read.append(middle - begun)
                wrote.append(end - middle)
                head.append(after_head - before_head)
            cache_bytes = _bytes(cache)
    weights = sum(
        tensor.numel() * tensor.element_size() for tensor in [*network.parameters(), *network.buffers()]
    )
    first, second, third = map(statistics.median, (read, wrote, head))
    return {
        "schema": SCHEMA,
        "model": options.model,
        "prompt_tokens": prompt,
        "new_tokens": tokens,
        "batch": batch,
        "repeats": repeats,
        "prefill_tokens_per_second": batch * prompt / first,
        "decode_tokens_per_second": batch * tokens / second,
        "head_share_of_decode": third / second,
        "weight_bytes": weights,
        "cache_bytes": cache_bytes,
        "peak_rss_bytes": peak_rss_bytes(),
        "threads": torch.get_num_threads(),
        "dtype": str(next(network.parameters()).dtype).removeprefix("torch."),
        "device": str(model.device),
        "machine": describe_machine(),
    }


def _bytes(thing: Any) -> int:
    """Of all tensors in an object, whatever holds them."""
    import torch

    if isinstance(thing, torch.Tensor):
        return thing.numel() * thing.element_size()
    if isinstance(thing, dict):
        return sum(map(_bytes, thing.values()))
    if isinstance(thing, list | tuple):
        return sum(map(_bytes, thing))
    return sum(map(_bytes, vars(thing).values())) if hasattr(thing, "__dict__") else 0


def as_table(result: dict[str, Any]) -> str:
    """Lines for people."""

    def size(count: int | None) -> str:
        return "unknown" if count is None else f"{count / 2**20:,.1f} MB"

    rows = [
        ("model", f"{result['model']} ({result['dtype']}, {result['device']}, {result['threads']} threads)"),
        ("read", f"{result['prefill_tokens_per_second']:,.1f} tokens/s ({result['prompt_tokens']} tokens)"),
        ("write", f"{result['decode_tokens_per_second']:,.1f} tokens/s (batch {result['batch']})"),
        ("output matrix", f"{100 * result['head_share_of_decode']:.0f} % of the time of writing"),
        ("weights", size(result["weight_bytes"])),
        ("cache", size(result["cache_bytes"])),
        ("peak memory", size(result["peak_rss_bytes"])),
    ]
    return "".join(f"{name:14} {value}\n" for name, value in rows)


def bench_kernels(*, only: Sequence[str], quick: bool, as_json: bool) -> str:
    """The kernels of ``multiway_blocks``, a row a case. Raises InputError where there is no such table."""
    try:
        from multiway_blocks.kernels import bench
    except ImportError as error:
        raise InputError("this installation of multiway-core-blocks does not measure its kernels") from error
    rows = bench.run(only or None, quick)
    if as_json:
        return json.dumps([asdict(row) for row in rows], indent=2) + "\n"
    return bench.markdown(rows) + "\n"
