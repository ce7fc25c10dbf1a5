"""Contrastive learning: InfoNCE over the batches of all processes, a momentum queue of negatives, and hard negatives.

InfoXLM (arXiv 2007.07834, section 3.3) takes dot products at temperature 0.25 with a queue; CLIP, VLMo and BEiT-3 take
cosines of the whole batch in both directions (`info_nce(image, text)` and `info_nce(text, image)`, each normalised by
the caller). Without `torch.distributed`, or with one process, gathering is the identity.

A process's losses are those of its own queries. Gradients added up over the processes are those of the whole batch.

Shape suffixes: B items of a process, A items of all processes, N negatives of the queue, E width.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from multiway_core.errors import InputError
from torch import Tensor, nn


def _world() -> tuple[int, int]:
    """(this process's number, how many there are)."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def gather(x_BE: Tensor) -> Tensor:
    """The rows of all processes in their order, (A, E), with gradients to every process; B must be the same in all."""
    if _world()[1] == 1:
        return x_BE
    import torch.distributed.nn  # takes a while

    return torch.cat(torch.distributed.nn.all_gather(x_BE.contiguous()))


def info_nce(
    query_BE: Tensor,
    key_BE: Tensor,
    scale: float | Tensor,
    *,
    negatives_NE: Tensor | None = None,
    within_batch: bool = True,
) -> Tensor:
    """``-log softmax`` of each query's own key among all keys, (B,) (van den Oord et al. 2018, equation 4).

    Args:
        query_BE, key_BE: row i of the one belongs to row i of the other.
        scale: of the dot products: 1 / temperature, or a learned tensor ().
        negatives_NE: further keys, such as a queue's.
        within_batch: whether keys of other items, of all processes, are negatives; False leaves ``negatives_NE``.

    Raises:
        InputError: shapes do not fit, or there is no negative.
    """
    if query_BE.ndim != 2 or query_BE.shape != key_BE.shape:
        raise InputError(
            f"info_nce: queries are {tuple(query_BE.shape)} and keys {tuple(key_BE.shape)}, expected (B, E) both"
        )
    if not within_batch and negatives_NE is None:
        raise InputError("info_nce: there are no negatives: give a queue, or take those of the batch")
    rank = _world()[0]
    if within_batch:
        scores = query_BE @ gather(key_BE).T
        own_B = torch.arange(len(query_BE), device=query_BE.device) + rank * len(query_BE)
    else:
        scores = (query_BE * key_BE).sum(-1, keepdim=True)
        own_B = torch.zeros(len(query_BE), dtype=torch.long, device=query_BE.device)
    if negatives_NE is not None:
        scores = torch.cat([scores, query_BE @ negatives_NE.T], dim=1)
    return nn.functional.cross_entropy(scale * scores, own_B, reduction="none")


class MomentumQueue(nn.Module):
    """The newest ``size`` keys of all processes, in a ring (MoCo, arXiv 1911.05722, section 3.2).

    It starts as Gaussian noise. Keys are pushed after the loss, so that a positive is never its own negative.
    """

    keys_NE: Tensor
    place: Tensor

    def __init__(self, size: int, width: int, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.register_buffer("keys_NE", torch.randn(size, width, generator=generator))
        self.register_buffer("place", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def push(self, key_BE: Tensor) -> None:
        """Put the keys of all processes in the place of the oldest; every process calls it."""
        self.fill(gather(key_BE.detach()))

    @torch.no_grad()
    def fill(self, key_AE: Tensor) -> None:
        """The same of keys that this process alone has, such as those of a queue that is filled before training."""
        key_AE = key_AE.to(self.keys_NE.dtype)
        size = len(self.keys_NE)
        newest = key_AE[-size:]
        start = self.place + len(key_AE) - len(newest)
        self.keys_NE[(start + torch.arange(len(newest), device=start.device)) % size] = newest
        self.place.copy_((self.place + len(key_AE)) % size)

    def negatives(self) -> Tensor:
        """A copy, (N, E): a later push must not change what a backward pass needs."""
        return self.keys_NE.clone()


@torch.no_grad()
def momentum_update(slow: nn.Module, fast: nn.Module, momentum: float) -> None:
    """``slow = momentum * slow + (1 - momentum) * fast`` for all parameters; buffers are copied."""
    for parameter, other in zip(slow.parameters(), fast.parameters(), strict=True):
        parameter.lerp_(other.to(parameter.dtype), 1 - momentum)
    for buffer, value in zip(slow.buffers(), fast.buffers(), strict=True):
        buffer.copy_(value)


def hard_negatives(scores_BA: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
    """For each item of this process the number of another item, drawn by ``softmax(scores)``, (B,) int64.

    ``scores_BA``: similarity to the items of all processes, of which this process's own are left out one by one
    (ALBEF, arXiv 2107.07651, section 3.2; VLMo's image-text matching). Raises InputError for a batch of one.
    """
    rank, world = _world()
    count = len(scores_BA)
    if scores_BA.shape != (count, world * count) or world * count < 2:
        raise InputError(
            f"hard_negatives: scores are {tuple(scores_BA.shape)}, expected ({count}, {world * count}) and two items"
        )
    own_B = torch.arange(count, device=scores_BA.device) + rank * count
    scores_BA = scores_BA.detach().float().scatter(1, own_B[:, None], -torch.inf)
    return torch.multinomial(scores_BA.softmax(-1), 1, generator=generator)[:, 0]
