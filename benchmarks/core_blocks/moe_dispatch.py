"""Mixture of experts: dispatch by sorting against the dense einsum of GShard and TorchScale, side by side in one run.

    python -m benchmarks.core_blocks.moe_dispatch [--output DIR]

One forward pass of a layer with two experts a token, the same weights in both. The dense form makes tensors of tokens x
experts x capacity (two tokens' fair share, as TorchScale) and multiplies all slots; ours sorts and drops nothing. One
thread, CPU time because other work may share the machine, medians of interleaved rounds.

Prints one table in Markdown and writes it, and one JSON file.
"""

from __future__ import annotations

import os
import statistics
import time
from typing import Any

from benchmarks import harness

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import torch
from multiway_blocks.moe import Experts, Gate, MixtureOfExperts
from multiway_blocks.transformer import Context
from torch import Tensor, nn

ROUNDS = 5
TOKENS, HIDDEN, INNER = 4096, 256, 512
EXPERTS = (8, 64, 96)


def dense(layer: MixtureOfExperts, x_SE: Tensor) -> Tensor:
    """GShard's algorithm 1 with one-hot masks, two experts a token."""
    gates = layer.gate(x_SE).softmax(-1)
    count = gates.shape[1]
    capacity = 2 * -(-len(x_SE) // count)
    masks = [nn.functional.one_hot(gates.argmax(-1), count)]
    masks.append(nn.functional.one_hot(gates.masked_fill(masks[0].bool(), -1).argmax(-1), count))
    weights = [(gates * mask).sum(-1) for mask in masks]
    total = weights[0] + weights[1]
    places = [masks[0].cumsum(0) - 1, masks[1].cumsum(0) - 1 + masks[0].sum(0)]
    combine = torch.zeros(len(x_SE), count, capacity)
    for weight, mask, place in zip(weights, masks, places, strict=True):
        kept = mask * (place < capacity)
        slot = nn.functional.one_hot((place * kept).sum(-1), capacity).float()
        combine += torch.einsum("se,sc->sec", (weight / total)[:, None] * kept, slot)
    dispatched = torch.einsum("sec,sm->ecm", combine.bool().float(), x_SE)
    experts = layer.experts
    inner = torch.baddbmm(experts.up_bias[:, None], dispatched, experts.up.transpose(1, 2))
    results = torch.baddbmm(
        experts.down_bias[:, None], experts.activation(inner), experts.down.transpose(1, 2)
    )
    return torch.einsum("sec,ecm->sm", combine, results)


def measured(num_experts: int) -> dict[str, Any]:
    layer = MixtureOfExperts(
        Gate(HIDDEN, num_experts), Experts(num_experts, HIDDEN, INNER), num_experts
    ).eval()
    x = torch.randn(TOKENS, HIDDEN)
    taken: dict[str, list[float]] = {"sorted": [], "dense": []}
    for number in range(ROUNDS + 1):
        for name, candidate in (("sorted", lambda: layer(x, Context())), ("dense", lambda: dense(layer, x))):
            start = time.process_time()
            candidate()
            if number:  # the first round warms up
                taken[name].append(time.process_time() - start)
    seconds = {name: statistics.median(values) for name, values in taken.items()}
    return {
        "experts": num_experts,
        "seconds": seconds,
        "tokens_per_second": {name: TOKENS / value for name, value in seconds.items()},
        "speedup": seconds["dense"] / seconds["sorted"],
        "largest_dense_tensor_bytes": 4 * TOKENS * num_experts * 2 * -(-TOKENS // num_experts),
    }


def main() -> None:
    parser = harness.parser(__doc__, "core_blocks")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with torch.inference_mode():
        lines = [measured(count) for count in EXPERTS]
    machine = harness.machine()
    report: dict[str, Any] = {
        **harness.provenance("moe-dispatch"),
        "rounds": ROUNDS,
        "sizes": {"tokens": TOKENS, "hidden_size": HIDDEN, "inner_size": INNER},
        "lines": lines,
    }
    rows = [
        "| experts | sorted ms | dense ms | sorted tokens/s | faster by | largest tensor of the dense form |",
        "|--:|--:|--:|--:|--:|--:|",
    ]
    for line in lines:
        seconds = line["seconds"]
        rows.append(
            f"| {line['experts']} | {1e3 * seconds['sorted']:.0f} | {1e3 * seconds['dense']:.0f} "
            f"| {line['tokens_per_second']['sorted']:.0f} | {line['speedup']:.1f}x "
            f"| {line['largest_dense_tensor_bytes'] / 1e6:.0f} MB |"
        )
    page = (
        "# Dispatch of a mixture of experts\n\n"
        f"{TOKENS} tokens of {HIDDEN}, experts of {INNER}, two a token, float32. One thread of {machine['cpu']} at "
        f"a load of {machine['load_average']:.0f}, torch {torch.__version__}, medians of {ROUNDS} interleaved rounds "
        f"in CPU time, seed 0, {harness.STARTED_AT}; `{report['command']}`.\n\n" + "\n".join(rows) + "\n"
    )
    harness.save(options.output, "moe-dispatch", report, page)


if __name__ == "__main__":
    main()
