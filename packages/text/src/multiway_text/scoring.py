"""Scoring texts: log-likelihoods of tokens, perplexity with a sliding window, multiple choice.

Shape suffixes: B rows, T tokens, E hidden size, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from multiway_core.errors import CheckpointError, InputError
from torch import Tensor

if TYPE_CHECKING:
    from multiway_text.language_model import LanguageModel

BATCH_TOKENS = 4096
"""Tokens of a batch, padding included."""
_LOGIT_ROWS = 256  # positions whose logits are in memory at once: 128,000 words in float32 are 131 MB
MAX_CHOICES = 100


@dataclass(frozen=True)
class TokenScores:
    """Tokens of one continuation: natural log-probability of each, and whether it was the likeliest.

    ``alternatives``: the likeliest (id, log-probability) of each place, where they were asked for.
    """

    log_probs: list[float]
    greedy: list[bool]
    alternatives: list[list[tuple[int, float]]]

    @property
    def total(self) -> float:
        return math.fsum(self.log_probs)


@torch.inference_mode()
def log_likelihoods(
    network: Any,
    rows: Sequence[tuple[Sequence[int], Sequence[int]]],
    *,
    device: torch.device | str = "cpu",
    pads: bool = True,
    alternatives: int = 0,
) -> list[TokenScores]:
    """Log-probabilities of each continuation's tokens behind its context, in the order of the rows.

    Rows of about one length go in one batch, padded on the left. A context may not be empty where there is a
    continuation. Raises InputError (an empty context), CheckpointError (a prediction that is no finite number).
    """
    for context, continuation in rows:
        if continuation and not context:
            raise InputError("a first token is predicted from nothing: give a context of at least one token")
    found: dict[int, TokenScores] = {}
    for batch in _batches(rows, pads):
        longest = max(len(rows[i][0]) + len(rows[i][1]) for i in batch) - 1
        if longest < 1:
            found |= {i: TokenScores([], [], []) for i in batch}
            continue
        tokens_BT = torch.zeros(len(batch), longest, dtype=torch.long)
        valid_BT = torch.zeros(len(batch), longest, dtype=torch.bool)
        for place, i in enumerate(batch):
            ids = [*rows[i][0], *rows[i][1]][:-1]
            tokens_BT[place, longest - len(ids) :] = torch.tensor(ids, dtype=torch.long)
            valid_BT[place, longest - len(ids) :] = True
        valid = None if bool(valid_BT.all()) else valid_BT.to(device)
        hidden_BTE = network.hidden(tokens_BT.to(device), valid)
        for place, i in enumerate(batch):
            count = len(rows[i][1])
            hidden_TE = hidden_BTE[place, longest - count :]
            found[i] = _scores(network, hidden_TE, rows[i][1], alternatives)
    return [found[i] for i in range(len(rows))]


def _batches(rows: Sequence[tuple[Sequence[int], Sequence[int]]], pads: bool) -> Iterator[list[int]]:
    """Indices of rows that go together: the longest first, so that what does not fit shows at once."""
    lengths = [len(context) + len(continuation) for context, continuation in rows]
    batch: list[int] = []
    for i in sorted(range(len(rows)), key=lambda i: -lengths[i]):
        full = batch and (len(batch) + 1) * lengths[batch[0]] > BATCH_TOKENS
        if full or (batch and not pads and lengths[i] != lengths[batch[0]]):
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def _scores(network: Any, hidden_TE: Tensor, targets: Sequence[int], alternatives: int) -> TokenScores:
    log_probs: list[float] = []
    greedy: list[bool] = []
    others: list[list[tuple[int, float]]] = []
    target_T = torch.tensor(list(targets), dtype=torch.long, device=hidden_TE.device)
    for start in range(0, len(target_T), _LOGIT_ROWS):
        part_T = target_T[start : start + _LOGIT_ROWS]
        logits_TV = network.logits(hidden_TE[start : start + len(part_T)]).float()
        log_TV = logits_TV.log_softmax(dim=1)
        chosen_T = log_TV.gather(1, part_T[:, None])[:, 0]
        log_probs += chosen_T.tolist()
        greedy += (log_TV.argmax(dim=1) == part_T).tolist()
        if alternatives:
            values, ids = log_TV.topk(min(alternatives, log_TV.shape[1]), dim=1)
            others += [
                list(zip(best, likely, strict=True))
                for best, likely in zip(ids.tolist(), values.tolist(), strict=True)
            ]
    if not all(math.isfinite(value) for value in log_probs):
        raise CheckpointError("the network's prediction is not a finite number: its weights are damaged")
    return TokenScores(log_probs, greedy, others)


@dataclass(frozen=True)
class ScoredToken:
    """A token of a text: None as ``log_prob`` where nothing stands before it."""

    id: int
    text: str
    log_prob: float | None
    alternatives: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class TextScore:
    """How likely a text is.

    ``perplexity`` = exp(-mean log-probability of a scored token): comparable between models of one tokenizer.
    ``bits_per_byte`` = -sum of log2-probabilities / bytes in UTF-8: comparable between all.
    """

    tokens: list[ScoredToken]
    num_bytes: int

    @property
    def num_scored(self) -> int:
        return sum(token.log_prob is not None for token in self.tokens)

    @property
    def log_prob(self) -> float:
        return math.fsum(token.log_prob for token in self.tokens if token.log_prob is not None)

    @property
    def perplexity(self) -> float:
        return perplexity(self.log_prob, self.num_scored)

    @property
    def bits_per_byte(self) -> float:
        return -self.log_prob / math.log(2) / self.num_bytes


def perplexity(log_prob: float, count: int) -> float:
    """exp(-log_prob / count); infinite where that overflows."""
    try:
        return math.exp(-log_prob / count)
    except OverflowError:
        return math.inf


def windows(count: int, window: int, stride: int) -> Iterator[tuple[int, int, int]]:
    """(start, first scored, end) of windows over ``count`` tokens: each token is scored once.

    A window holds at most ``window`` tokens and moves on by ``stride``; all but the first score their last ``stride``
    tokens, each of which sees at least ``window - stride`` tokens before it.
    """
    end = min(window, count)
    yield 0, 1, end
    while end < count:
        first, end = end, min(end + stride, count)
        yield max(0, end - window), first, end


def score_text(
    model: LanguageModel,
    text: str,
    *,
    window: int | None = None,
    stride: int | None = None,
    alternatives: int = 0,
) -> TextScore:
    """Every token's log-probability given at least ``window - stride`` tokens before it (where there are).

    ``window``: default the model's context, at most 2,048; ``stride``: default half of it. The first token is predicted
    from the tokenizer's ``prefix_id``; without one it is not scored. Raises InputError.
    """
    window = min(model.max_positions, 2048) if window is None else window
    if not 2 <= window <= model.max_positions:
        raise InputError(f"window must be 2 to the model's context of {model.max_positions}, not {window}")
    stride = max(1, window // 2) if stride is None else stride
    if not 1 <= stride < window:
        raise InputError(f"stride must be 1 to {window - 1} (below the window), not {stride}")
    ids = model.tokenizer.encode(text)
    if not ids:
        raise InputError("the text is empty")
    prefix = model.tokenizer.prefix_id
    whole = ids if prefix is None else [prefix, *ids]
    if len(whole) < 2:
        raise InputError("a text of one token cannot be scored by this model: it has no context")
    rows = [
        (whole[start:first], whole[first:end]) for start, first, end in windows(len(whole), window, stride)
    ]
    model.tokenizer.check(whole, model.vocab_size)
    scores = log_likelihoods(
        model.network, rows, device=model.device, pads=model.pads, alternatives=alternatives
    )
    log_probs: list[float | None] = [value for score in scores for value in score.log_probs]
    others = [places for score in scores for places in score.alternatives] or [[]] * len(log_probs)
    if prefix is None:
        log_probs, others = [None, *log_probs], [[], *others]
    piece = model.tokenizer.decode_token
    tokens = [
        ScoredToken(number, piece(number), value, tuple((piece(i), p) for i, p in best))
        for number, value, best in zip(ids, log_probs, others, strict=True)
    ]
    return TextScore(tokens, len(text.encode("utf-8", "replace")))


@dataclass(frozen=True)
class Choice:
    """Multiple choice: the log-probability of each continuation, and which is best by three measures.

    ``best``: by the sum; ``best_by_byte``: by the sum over bytes (longer continuations are not punished);
    ``best_by_token``: by the mean.
    """

    log_probs: list[float]
    num_tokens: list[int]
    num_bytes: list[int]

    @property
    def best(self) -> int:
        return _first_largest(self.log_probs)

    @property
    def best_by_byte(self) -> int:
        return _first_largest([p / max(n, 1) for p, n in zip(self.log_probs, self.num_bytes, strict=True)])

    @property
    def best_by_token(self) -> int:
        return _first_largest([p / max(n, 1) for p, n in zip(self.log_probs, self.num_tokens, strict=True)])


def split_pair(model: LanguageModel, context: str, continuation: str) -> tuple[list[int], list[int]]:
    """Ids of a context and of what continues it, cut as the whole text is cut.

    Spaces at the context's end belong to the continuation: that is how words are cut.
    """
    bare = context.rstrip()
    continuation, context = context[len(bare) :] + continuation, bare
    tokenizer = model.tokenizer
    prefix = [] if tokenizer.prefix_id is None else [tokenizer.prefix_id]
    first = tokenizer.encode_prompt(context) if context else prefix
    whole = [*first[: len(first) - len(tokenizer.encode(context))], *tokenizer.encode(context + continuation)]
    if not context:
        return first, tokenizer.encode(continuation)
    if len(whole) <= len(first):  # both merged into one token: cut them apart
        return first, tokenizer.encode(continuation)
    return whole[: len(first)], whole[len(first) :]


def choose(model: LanguageModel, context: str, choices: Sequence[str]) -> Choice:
    """Score each choice as the continuation of the context. Raises InputError: too few, too many, empty, too long."""
    if not 2 <= len(choices) <= MAX_CHOICES:
        raise InputError(f"2 to {MAX_CHOICES} choices are needed, not {len(choices)}")
    if not all(choices):
        raise InputError("a choice is empty")
    rows = [split_pair(model, context, choice) for choice in choices]
    longest = max(len(first) + len(second) for first, second in rows)
    if longest > model.max_positions:
        raise InputError(
            f"context and choice have {longest} tokens, and the model's context is {model.max_positions}"
        )
    scores = model.log_likelihoods(rows)
    return Choice(
        [score.total for score in scores],
        [len(second) for _, second in rows],
        [len(choice.encode("utf-8", "replace")) for choice in choices],
    )


def _first_largest(values: Sequence[float]) -> int:
    return max(range(len(values)), key=lambda i: (values[i], -i))
