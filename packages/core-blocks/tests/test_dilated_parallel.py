"""Dilated attention over 2 and 4 processes equals one process: results, and gradients of inputs and weights."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing
from multiway_blocks.dilated import DilatedAttention
from multiway_blocks.position import XPos
from multiway_core.errors import InputError
from torch import Tensor

TOKENS = 48
CASES = {
    # name: branches, options. With 4 processes of 12 tokens: inside, shared by 2, by all, and beyond the sequence.
    "causal": ([(4, 1), (24, 2), (48, 4), (96, 6)], {"causal": True}),
    "both ways": ([(12, 1), (24, 3), (48, 4)], {"head_offset": "mod"}),
    "mix": ([(6, 1), (24, 2), (48, 12)], {"causal": True, "grad_through_mix": True}),
}


def build(name: str) -> tuple[DilatedAttention, Tensor]:
    torch.manual_seed(0)
    branches, options = CASES[name]
    layer = DilatedAttention(24, 6, branches, rotary=XPos(4), **options).double()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return layer, torch.randn(2, TOKENS, 24, dtype=torch.float64)


def outcome(layer: DilatedAttention, x: Tensor) -> dict[str, Tensor]:
    x.requires_grad_()
    y = layer(x)
    y.sin().sum().backward()
    return {"y": y.detach(), "x": x.grad} | {name: p.grad for name, p in layer.named_parameters()}


def process(rank: int, size: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=size)
    for name in CASES:
        layer, x = build(name)
        layer.sequence_group = dist.group.WORLD
        own = outcome(layer, x.chunk(size, dim=1)[rank].clone())
        for key, value in own.items():
            if key not in ("y", "x"):
                dist.all_reduce(value)
        torch.save(own, folder / f"{name} {rank}.pt")
    layer, x = build("causal")
    layer.sequence_group = dist.group.WORLD
    try:
        layer(x[:, :10])
    except InputError as error:
        (folder / f"error {rank}").write_text(str(error))
    dist.destroy_process_group()


@pytest.mark.parametrize("size", [2, 4])
def test_processes_equal_one(size: int, tmp_path: Path) -> None:
    multiprocessing.set_forkserver_preload(["torch"])
    torch.multiprocessing.start_processes(
        process, args=(size, tmp_path), nprocs=size, start_method="forkserver"
    )
    for name in CASES:
        whole = outcome(*build(name))
        parts = [torch.load(tmp_path / f"{name} {rank}.pt", weights_only=True) for rank in range(size)]
        for key, expected in whole.items():
            ours = torch.cat([part[key] for part in parts], dim=1) if key in ("y", "x") else parts[0][key]
            torch.testing.assert_close(
                ours, expected, atol=1e-9, rtol=1e-9, msg=lambda m, k=f"{name} {key}": f"{k}: {m}"
            )
    for rank in range(size):
        assert (
            "10 tokens a process do not fit the segment length 4" in (tmp_path / f"error {rank}").read_text()
        )
