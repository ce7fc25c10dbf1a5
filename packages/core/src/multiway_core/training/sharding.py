"""The model of an "fsdp" run: FSDP2's shards of it, and Muon for sharded matrices.

Imported by such runs only, because `torch.distributed.fsdp` takes seconds to import.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from multiway_core.training.config import TrainConfig
from multiway_core.training.distributed import World
from multiway_core.training.replicas import blocks_of, local, tensors_of, whole


def shard(entry: nn.Module, given: nn.Module, world: World, config: TrainConfig) -> None:
    """Shard a module without storage, and give it the first process's weights, one tensor at a time.

    With "bf16" blocks are gathered in bfloat16, and gradients summed in float32. What lies outside of them (embeddings,
    final norm, head) stays in its own dtype, and so does the residual stream, as autocast has it in one process.
    """
    mesh = init_device_mesh(world.device.type, (world.size,))
    policy = MixedPrecisionPolicy()
    if config.precision == "bf16":
        policy = MixedPrecisionPolicy(torch.bfloat16, torch.float32, cast_forward_inputs=False)
    for block in blocks_of(entry):
        fully_shard(block, mesh=mesh, mp_policy=policy)
        if config.precision == "bf16" and world.device.type == "cpu":
            for norm in block.modules():
                if isinstance(norm, nn.LayerNorm | nn.GroupNorm):
                    norm.register_forward_pre_hook(_input_as_weight)
    fully_shard(entry, mesh=mesh)
    entry.to_empty(device=world.device)
    sources = tensors_of(given)
    with torch.no_grad():
        for name, target in tensors_of(entry.get_submodule("model")).items():
            full = torch.empty(target.shape, dtype=target.dtype, device=world.device)
            if world.is_main:
                full.copy_(sources[name])
            dist.broadcast(full, src=0)
            set_local(target, full)


def _input_as_weight(norm: nn.Module, arguments: tuple[Tensor]) -> tuple[Tensor]:
    # A GPU's autocast brings both to float32; a CPU's leaves them apart, and the operation refuses that.
    weight = norm.weight
    return (arguments[0].to(weight.dtype) if isinstance(weight, Tensor) else arguments[0],)


def without_storage(model: nn.Module) -> nn.Module:
    """A copy on the meta device: the same modules with the same names."""
    memo: dict[int, Any] = {}
    for tensor in tensors_of(model).values():
        empty = torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")
        if isinstance(tensor, nn.Parameter):
            empty = nn.Parameter(empty, tensor.requires_grad)
        memo[id(tensor)] = empty
    return copy.deepcopy(model, memo)


def set_local(target: Tensor, full: Tensor) -> None:
    """Copy this process's part of `full`, which all processes hold, into `target`."""
    if isinstance(target, DTensor):
        parts = distribute_tensor(full, target.device_mesh, target.placements, src_data_rank=None)
        local(target).copy_(local(parts))
    else:
        target.copy_(full)


class ShardedMuon(torch.optim.Muon):
    """Muon for matrices that FSDP2 has spread: each is gathered, moved as in one process, and spread again.

    (torch.optim.Muon takes sharded matrices too, but multiplies them piecewise: with other rounding, and with
    messages in every iteration.)
    """

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                matrix, momentum = nn.Parameter(whole(parameter)), self.state[parameter]["momentum_buffer"]
                matrix.grad = whole(parameter.grad)
                alone = torch.optim.Muon([{**group, "params": [matrix]}])
                alone.state[matrix] = {"momentum_buffer": whole(momentum)}
                alone.step()
                set_local(parameter.detach(), matrix.detach())
                set_local(momentum, alone.state[matrix]["momentum_buffer"])
