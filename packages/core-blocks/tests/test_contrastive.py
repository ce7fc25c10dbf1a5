"""InfoNCE, queue and hard negatives against their formulas; two processes equal one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from multiway_blocks.contrastive import MomentumQueue, gather, hard_negatives, info_nce, momentum_update
from multiway_core.errors import InputError
from torch import Tensor, nn


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_formula() -> None:
    query, key, queue = draw(4, 3), draw(4, 3, seed=1), draw(5, 3, seed=2)
    for i, loss in enumerate(info_nce(query, key, 4.0, negatives_NE=queue)):
        scores = [4 * query[i] @ other for other in (*key, *queue)]
        torch.testing.assert_close(loss, -(scores[i].exp() / torch.stack(scores).exp().sum()).log())
    for i, loss in enumerate(info_nce(query, key, 4.0, negatives_NE=queue, within_batch=False)):
        own = (4 * query[i] @ key[i]).exp()
        others = torch.stack([(4 * query[i] @ other).exp() for other in queue]).sum()
        torch.testing.assert_close(loss, -(own / (own + others)).log())
    scale = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(info_nce, (query.requires_grad_(), key.requires_grad_(), scale))


def test_queue_wraps_around() -> None:
    queue = MomentumQueue(5, 2, generator=torch.Generator().manual_seed(0))
    noise = queue.negatives()
    assert noise.std() > 0.3
    rows = torch.arange(24.0).view(12, 2)
    queue.push(rows[:3])
    assert torch.equal(queue.negatives(), torch.cat([rows[:3], noise[3:]]))
    taken = queue.negatives()
    queue.push(rows[3:7])
    assert torch.equal(queue.negatives(), torch.stack([rows[5], rows[6], rows[2], rows[3], rows[4]]))
    assert torch.equal(taken[0], rows[0])
    queue.push(rows)  # more than fit: the newest five, the oldest of them where the next push begins
    assert sorted(queue.negatives()[:, 0].tolist()) == rows[7:, 0].tolist()
    assert torch.equal(queue.negatives()[int(queue.place)], rows[7])
    other = MomentumQueue(5, 2)
    other.load_state_dict(queue.state_dict())
    assert torch.equal(other.negatives(), queue.negatives())
    assert other.place == queue.place


def test_momentum() -> None:
    slow, fast = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
    nn.init.constant_(fast.weight, 3.0)
    fast.running_mean.fill_(7.0)
    momentum_update(slow, fast, 0.75)
    assert torch.allclose(slow.weight, torch.tensor(1.5))
    assert (slow.running_mean == 7).all()


def test_hard_negatives_are_drawn_by_similarity() -> None:
    scores = torch.tensor([[9.0, 0.0, 1.0], [2.0, 50.0, 2.0], [0.0, -200.0, 0.0]])
    generator = torch.Generator().manual_seed(0)
    drawn = torch.stack([hard_negatives(scores, generator=generator) for _ in range(4000)])
    shares = torch.stack([(drawn == i).float().mean(0) for i in range(3)], dim=1)
    e = float(torch.tensor(1.0).exp())
    expected = torch.tensor([[0, 1 / (1 + e), e / (1 + e)], [0.5, 0, 0.5], [1, 0, 0]])
    torch.testing.assert_close(shares, expected, atol=0.03, rtol=0)
    with pytest.raises(InputError, match="two items"):
        hard_negatives(torch.zeros(1, 1))


def test_bad_shapes() -> None:
    with pytest.raises(InputError, match=r"queries are \(2, 3\) and keys \(3, 3\)"):
        info_nce(torch.zeros(2, 3), torch.zeros(3, 3), 1.0)
    with pytest.raises(InputError, match="no negatives"):
        info_nce(torch.zeros(2, 3), torch.zeros(2, 3), 1.0, within_batch=False)


def train_step(query: Tensor, key: Tensor, queue: MomentumQueue) -> tuple[Tensor, Tensor]:
    """Losses in both directions, and the gradient of a map that both sides share."""
    torch.manual_seed(0)
    shared = nn.Linear(3, 3, dtype=torch.float64)
    a, b = shared(query), shared(key)
    losses = info_nce(a, b, 2.0, negatives_NE=queue.negatives()) + info_nce(b, a, 2.0)
    losses.sum().backward()
    queue.push(b)
    assert shared.weight.grad is not None
    return losses.detach(), shared.weight.grad


def new_queue() -> MomentumQueue:
    return MomentumQueue(7, 3, generator=torch.Generator().manual_seed(3)).double()


def process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    rows = slice(3 * rank, 3 * rank + 3)
    queue = new_queue()
    losses, grad = train_step(draw(6, 3)[rows], draw(6, 3, seed=1)[rows], queue)
    dist.all_reduce(grad)
    scores = torch.full((3, 6), -100.0)
    scores[:, 4] = 0.0
    torch.save(
        [gather(losses[:, None])[:, 0], grad, queue.state_dict(), hard_negatives(scores)],
        f"{folder}/{rank}.pt",
    )
    dist.barrier()
    dist.destroy_process_group()


def test_two_processes_equal_one(tmp_path: Path) -> None:
    mp.spawn(process, (str(tmp_path),), nprocs=2)
    queue = new_queue()
    losses, grad = train_step(draw(6, 3), draw(6, 3, seed=1), queue)
    for rank in range(2):
        theirs = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        torch.testing.assert_close(theirs[0], losses)
        torch.testing.assert_close(theirs[1], grad)
        torch.testing.assert_close(theirs[2], dict(queue.state_dict()))
        assert theirs[3][0] == 4
    # Item 4 is the second process's own second: there it is left out.
    assert torch.load(tmp_path / "1.pt", weights_only=True)[3][1] != 4
