"""Logits processors: what changes or forbids next tokens, composable in any order.

Shape legend: B rows, T tokens generated so far (the prompt is not among them), V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import LongTensor, Tensor

# (tokens_BT, logits_BV) -> logits_BV; a forbidden token gets -inf. Beam search passes log-softmaxed logits.
LogitsProcessor = Callable[[LongTensor | Tensor, Tensor], Tensor]

NEVER = float("-inf")
TOP_P_WIDTH = 1024  # sorting a whole vocabulary is slow, and the nucleus is seldom larger than this


def at_least_float32(logits: Tensor) -> Tensor:
    """Logits as processors and choices take them: half precision is widened, float64 stays."""
    return logits if logits.dtype == torch.float64 else logits.float()


class StatefulConstraint:
    """A logits processor that remembers something per row and may end a row. Override what is needed.

    The loop calls `start` once; then at every step the instance itself (to change the logits), `observe` with
    the chosen tokens, and `select` when rows are dropped, reordered or repeated. A row that `observe` returns
    ends at once, its last token kept, with the stop reason "stopped:<name>". An instance serves one run at a
    time.
    """

    name: str = "constraint"

    def start(self, batch_size: int, device: torch.device) -> None:
        """Forget everything; `batch_size` rows begin."""

    def __call__(self, tokens_BT: LongTensor | Tensor, logits_BV: Tensor) -> Tensor:
        return logits_BV

    def observe(self, tokens_B: Tensor) -> Iterable[int]:
        """Take note of every row's new token (int64, on the CPU); return the indices of rows to be ended."""
        return ()

    def select(self, rows: Tensor) -> None:
        """Make row i what row `rows[i]` was (int64, on the CPU)."""


class ProcessorChain:
    """The processors of one run, called as one."""

    def __init__(self, processors: Sequence[LogitsProcessor]) -> None:
        self.processors = tuple(processors)
        self.stateful = [p for p in self.processors if isinstance(p, StatefulConstraint)]

    def start(self, batch_size: int, device: torch.device) -> None:
        for processor in self.stateful:
            processor.start(batch_size, device)

    def __call__(self, tokens_BT: Tensor, logits_BV: Tensor) -> Tensor:
        for processor in self.processors:
            logits_BV = processor(tokens_BT, logits_BV)
        return logits_BV

    def observe(self, tokens_B: Tensor) -> dict[int, str]:
        """Rows to be ended, and the stop reason of each."""
        stopped: dict[int, str] = {}
        for processor in self.stateful:
            for row in processor.observe(tokens_B):
                stopped.setdefault(int(row), f"stopped:{processor.name}")
        return stopped

    def select(self, rows: Tensor) -> None:
        for processor in self.stateful:
            processor.select(rows)


class MinLength:
    """No row ends with fewer than ``length`` tokens before its end token."""

    def __init__(self, length: int, eos_token_ids: Sequence[int]) -> None:
        self.length, self.eos = length, list(eos_token_ids)

    def __call__(self, tokens_BT: LongTensor | Tensor, logits_BV: Tensor) -> Tensor:
        if tokens_BT.shape[1] >= self.length:
            return logits_BV
        return logits_BV.index_fill(1, torch.tensor(self.eos, device=logits_BV.device), NEVER)


class NoRepeatNGram:
    """No n-gram of generated tokens occurs twice in a row of the batch, but for those with a token of ``ignore``."""

    def __init__(self, size: int, ignore: Sequence[int] = ()) -> None:
        if size < 1:
            raise ValueError(f"an n-gram has at least 1 token, not {size}")
        self.size, self.ignore = size, torch.tensor(sorted(ignore), dtype=torch.long)

    def __call__(self, tokens_BT: LongTensor | Tensor, logits_BV: Tensor) -> Tensor:
        length = tokens_BT.shape[1]
        if length < self.size:
            return logits_BV
        ngrams_BNn = tokens_BT.unfold(1, self.size, 1)
        latest_B1n = tokens_BT[:, None, length - self.size + 1 :]
        seen_BN = (ngrams_BNn[..., :-1] == latest_B1n).all(dim=-1)
        if len(self.ignore):
            seen_BN &= ~torch.isin(ngrams_BNn, self.ignore.to(ngrams_BNn.device)).any(dim=-1)
        # Forbidden is what followed the same n-1 tokens before; the rest points at a spare column, cut off.
        vocabulary = logits_BV.shape[1]
        followers_BN = torch.where(seen_BN, ngrams_BNn[..., -1], vocabulary)
        forbidden = logits_BV.new_zeros(len(logits_BV), vocabulary + 1, dtype=torch.bool)
        forbidden.scatter_(1, followers_BN, True)
        return logits_BV.masked_fill(forbidden[:, :-1], NEVER)


class Temperature:
    """Divide the logits by a temperature above 0."""

    def __init__(self, temperature: float) -> None:
        self.temperature = temperature

    def __call__(self, tokens_BT: LongTensor | Tensor, logits_BV: Tensor) -> Tensor:
        return logits_BV / self.temperature


class TopK:
    """Keep the k likeliest tokens, and what ties with the k-th."""

    def __init__(self, k: int) -> None:
        self.k = k

    def __call__(self, tokens_BT: LongTensor | Tensor, logits_BV: Tensor) -> Tensor:
        kth = logits_BV.topk(min(self.k, logits_BV.shape[1]), dim=1).values[:, -1:]
        return logits_BV.masked_fill(logits_BV < kth, NEVER)


class TopP:
    """Keep the smallest set of likeliest tokens whose probabilities sum to at least p (nucleus sampling)."""

    def __init__(self, p: float) -> None:
        self.p = p

    def __call__(self, tokens_BT: LongTensor | Tensor, logits_BV: Tensor) -> Tensor:
        total_B1 = logits_BV.logsumexp(dim=1, keepdim=True)
        descending, order = logits_BV.topk(min(TOP_P_WIDTH, logits_BV.shape[1]), dim=1)
        keep, complete = self._nucleus(descending, total_B1)
        if not complete:
            descending, order = logits_BV.sort(dim=1, descending=True)
            keep, _ = self._nucleus(descending, total_B1)
        forbidden = torch.ones_like(logits_BV, dtype=torch.bool).scatter_(1, order, ~keep)
        return logits_BV.masked_fill(forbidden, NEVER)

    def _nucleus(self, descending: Tensor, total_B1: Tensor) -> tuple[Tensor, bool]:
        """Which of the likeliest tokens to keep, and whether they reach p in every row."""
        probabilities = (descending - total_B1).exp().double()
        reached = probabilities.cumsum(dim=1)
        keep = reached - probabilities < self.p
        keep[:, 0] = True
        return keep, bool((reached[:, -1] >= self.p).all())
