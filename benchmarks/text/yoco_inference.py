"""YOCO against a Transformer with grouped queries on the same kernels: cache, prefill and decoding over the context.

    python -m benchmarks.text.yoco_inference [--contexts 4096,8192,16384,32768] [--output DIR]

Both have the same number of layers, width, heads, key-value heads and feed-forward networks, and run the same fused
attention; random weights, since what is measured is time and memory. A prompt is read in one chunk. YOCO reads it
with its self-decoder alone, the last token excepted. Decoding is measured behind caches that are filled with random
numbers, so that long contexts need no prompt to be read.

One thread, CPU time because other work may share the machine, medians of interleaved rounds. Prints one table in
Markdown and writes it, and one JSON file; contexts that are not asked for keep what the file has.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

from benchmarks import harness

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import torch
from multiway_blocks.linear import Linear
from multiway_blocks.norm import RMSNorm
from multiway_blocks.retention import RetentionRotary, RetentionState
from multiway_blocks.transformer import Context
from multiway_core.generation import StaticKVCache
from multiway_text.decoders.yoco.config import YocoConfig
from multiway_text.decoders.yoco.model import Yoco, cross_layer
from torch import Tensor, nn

SIZES = YocoConfig(
    hidden_size=64,
    num_layers=4,
    num_self_heads=2,
    num_heads=2,
    num_kv_heads=1,
    inner_size=192,
    vocab_size=256,
    max_positions=1 << 18,
)
CONTEXTS = (4096, 8192, 16_384, 32_768)
DECODE_CONTEXTS = (4096, 32_768, 131_072)
ROUNDS = 3
DECODED = 16


class Transformer(nn.Module):
    """YOCO's cross-decoder layers, each with keys and values of its own."""

    def __init__(self, config: YocoConfig) -> None:
        super().__init__()
        self.config = config
        width = config.num_kv_heads * config.head_dim
        self.embedding = nn.Embedding(config.vocab_size, config.hidden_size)
        rotary = RetentionRotary(config.head_dim, theta=config.rope_theta)
        self.layers = nn.ModuleList(cross_layer(config, rotary) for _ in range(config.num_layers))
        self.keys = nn.ModuleList(
            Linear(config.hidden_size, width, bias=False) for _ in range(config.num_layers)
        )
        self.values = nn.ModuleList(
            Linear(config.hidden_size, width, bias=False) for _ in range(config.num_layers)
        )
        self.norm = RMSNorm(config.hidden_size, eps=config.norm_eps)
        self.head = Linear(config.hidden_size, config.vocab_size, bias=False)

    def new_cache(self, batch_size: int, max_length: int) -> StaticKVCache:
        config = self.config
        return StaticKVCache(config.num_layers, batch_size, config.num_kv_heads, config.head_dim, max_length)

    def read(self, tokens_BT: Tensor, cache: StaticKVCache) -> Tensor:
        """Logits (B, V) behind the last token."""
        first, count = cache.length, tokens_BT.shape[1]
        positions_BT = torch.arange(first, first + count)[None]
        x = self.embedding(tokens_BT) * math.sqrt(self.config.hidden_size)
        for index, layer in enumerate(self.layers):
            normed = layer.attention_norm(x)
            key, value = (
                part[index](normed).unflatten(-1, (self.config.num_kv_heads, -1)).transpose(1, 2)
                for part in (self.keys, self.values)
            )
            key, value = cache.update(index, layer.attention.rotary(key, positions_BT), value)
            if index + 1 == len(self.layers):  # nothing above the last token's result is wanted
                x, positions_BT = x[:, -1:], positions_BT[:, -1:]
            x = layer(x, Context(None, positions_BT, (key, value)))
        cache.advance(torch.ones_like(tokens_BT, dtype=torch.bool))
        return self.head(self.norm(x[:, -1]))


def cpu_seconds(call: Callable[[], Any]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def transformer_bytes(cache: StaticKVCache) -> int:
    config = SIZES
    return 2 * cache.num_layers * cache.length * config.num_kv_heads * config.head_dim * cache.dtype.itemsize


def prefill(yoco: Yoco, transformer: Transformer, contexts: list[int]) -> list[dict[str, Any]]:
    lines = []
    for context in contexts:
        tokens = torch.randint(256, (1, context), generator=torch.Generator().manual_seed(context))
        taken: dict[str, list[float]] = {"yoco": [], "transformer": []}
        for _ in range(ROUNDS):
            own, theirs = yoco.new_cache(1, context), transformer.new_cache(1, context)
            taken["yoco"].append(cpu_seconds(lambda o=own, t=tokens: yoco.prefill(t, o)))
            taken["transformer"].append(cpu_seconds(lambda c=theirs, t=tokens: transformer.read(t, c)))
        seconds = {name: statistics.median(values) for name, values in taken.items()}
        one = 2 * SIZES.num_kv_heads * SIZES.head_dim * 4 * context
        lines.append(
            {
                "context": context,
                "seconds": seconds,
                "all": taken,
                "speedup": seconds["transformer"] / seconds["yoco"],
                "cache_bytes": {"yoco": own.num_bytes(), "transformer": transformer_bytes(theirs)},
                "cache_bytes_of_one_layer": one,
                "state_bytes": own.num_bytes() - one,
            }
        )
        print(lines[-1], flush=True)
    return lines


def fill(cache: StaticKVCache, length: int) -> None:
    """Random keys and values, as if ``length`` tokens had been read."""
    for layer in range(cache.num_layers):
        shape = (1, SIZES.num_kv_heads, length, SIZES.head_dim)
        cache.update(layer, torch.randn(shape), torch.randn(shape))
    cache.advance(torch.ones(1, length, dtype=torch.bool))


def decoding(yoco: Yoco, transformer: Transformer, contexts: list[int]) -> list[dict[str, Any]]:
    lines = []
    width = SIZES.hidden_size // SIZES.num_self_heads
    token = torch.zeros(1, 1, dtype=torch.long)
    for context in contexts:
        own, theirs = (model.new_cache(1, context + ROUNDS * DECODED) for model in (yoco, transformer))
        fill(own, context)
        fill(theirs, context)
        own.states = [
            RetentionState(torch.randn(1, SIZES.num_self_heads, width, width), torch.tensor([context]))
            for _ in yoco.decoder.self_decoder.layers
        ]
        taken: dict[str, list[float]] = {"yoco": [], "transformer": []}
        for _ in range(ROUNDS):
            taken["yoco"].append(cpu_seconds(lambda c=own: [yoco.decode(token, c) for _ in range(DECODED)]))
            taken["transformer"].append(
                cpu_seconds(lambda c=theirs: [transformer.read(token, c) for _ in range(DECODED)])
            )
        rate = {name: DECODED / statistics.median(values) for name, values in taken.items()}
        lines.append({"context": context, "tokens_per_second": rate, "all": taken})
        print(lines[-1], flush=True)
    return lines


def page_of(report: dict[str, Any]) -> str:
    machine, sizes = report["machine"], report["sizes"]
    rows = [
        "| context | cache YOCO | Transformer | ratio | prefill YOCO s | Transformer s | rounds | faster by |",
        "|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for line in report["prefill"]:
        size, seconds = line["cache_bytes"], line["seconds"]
        rows.append(
            f"| {line['context']} | {size['yoco']:,} | {size['transformer']:,} "
            f"| {size['transformer'] / size['yoco']:.2f} | {seconds['yoco']:.2f} | {seconds['transformer']:.2f} "
            f"| {len(line['all']['yoco'])} | {line['speedup']:.1f}x |"
        )
    more = ["| context | YOCO tokens/s | Transformer tokens/s | ratio |", "|--:|--:|--:|--:|"]
    for line in report["decoding"]:
        rate = line["tokens_per_second"]
        more.append(
            f"| {line['context']} | {rate['yoco']:.0f} | {rate['transformer']:.0f} "
            f"| {rate['yoco'] / rate['transformer']:.2f}x |"
        )
    state = report["prefill"][0]["state_bytes"]
    return (
        "# YOCO against a Transformer with grouped queries\n\n"
        f"{sizes['num_layers']} layers of {sizes['hidden_size']}, {sizes['num_heads']} heads, "
        f"{sizes['num_kv_heads']} key-value head, feed-forward {sizes['inner_size']}, float32, random weights. "
        f"One thread of {machine['cpu']} at a load of {machine['load_average']:.0f}, torch "
        f"{report['versions']['torch']}, medians of interleaved rounds in CPU time, seed 0, "
        f"{report['started_at']}; `{report['command']}`.\n\n"
        f"Bytes of a cache are counted from its tensors. YOCO's is the Transformer's divided by {sizes['num_layers']} "
        f"layers, exactly, and {state:,} bytes of states, whatever the context.\n\n"
        + "\n".join(rows)
        + "\n\n## Decoding\n\n"
        + "\n".join(more)
        + "\n"
    )


def _merged(before: list[dict[str, Any]], now: list[dict[str, Any]]) -> list[dict[str, Any]]:
    lines = {line["context"]: line for line in before} | {line["context"]: line for line in now}
    return [lines[context] for context in sorted(lines)]


def main() -> None:
    parser = harness.parser(__doc__, "text")
    parser.add_argument("--contexts", default=",".join(map(str, CONTEXTS)))
    parser.add_argument("--decode-contexts", default=",".join(map(str, DECODE_CONTEXTS)))
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with torch.inference_mode():
        yoco, transformer = Yoco(SIZES).eval(), Transformer(SIZES).eval()
        warm = torch.zeros(1, 512, dtype=torch.long)
        yoco.prefill(warm, yoco.new_cache(1, 512))
        transformer.read(warm, transformer.new_cache(1, 512))
        lines = prefill(yoco, transformer, [int(x) for x in options.contexts.split(",") if x])
        decoded = decoding(yoco, transformer, [int(x) for x in options.decode_contexts.split(",") if x])
    where = options.output / "yoco-inference.json"
    if where.exists():  # contexts that were not asked for keep their lines
        before = json.loads(where.read_text())
        lines, decoded = _merged(before["prefill"], lines), _merged(before["decoding"], decoded)
    report: dict[str, Any] = {
        **harness.provenance("yoco-inference"),
        "sizes": {
            name: getattr(SIZES, name)
            for name in (
                "hidden_size",
                "num_layers",
                "num_self_heads",
                "num_heads",
                "num_kv_heads",
                "inner_size",
            )
        },
        "prefill": lines,
        "decoding": decoded,
    }
    page = page_of(report)
    harness.save(options.output, "yoco-inference", report, page)


if __name__ == "__main__":
    main()
