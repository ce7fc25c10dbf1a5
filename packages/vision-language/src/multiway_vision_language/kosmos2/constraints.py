"""Decoding constraints of Kosmos-2: tag grammar, no repeated n-grams, stopping, and box probabilities.

Shape suffixes: N rows still in the batch, T generated tokens, P prompt tokens, V vocabulary, L locations.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Literal

import torch
from multiway_core.generation import FiniteStateConstraint, StatefulConstraint
from multiway_core.generation.constraints import FORBIDDEN
from multiway_core.generation.processors import NEVER
from torch import Tensor

from multiway_vision_language.kosmos2.config import TokenConfig

BlockScope = Literal["all", "text"]

# Token classes and states of the grammar
#   output := (text | entity)* </s> ;  entity := <phrase> text+ </phrase> object ;
#   object := <object> box (delimiter box)* </object> ;  box := location location
WORD, PHRASE, PHRASE_END, OBJECT, OBJECT_END, DELIMITER, LOCATION, END, OTHER = range(9)
OUTSIDE, PHRASE_START, IN_PHRASE, PHRASE_CLOSED, FIRST_CORNER, SECOND_CORNER, BOX_CLOSED = range(7)
_TRANSITIONS = (
    (OUTSIDE, WORD, OUTSIDE),
    (OUTSIDE, PHRASE, PHRASE_START),
    (OUTSIDE, END, OUTSIDE),
    (PHRASE_START, WORD, IN_PHRASE),
    (IN_PHRASE, WORD, IN_PHRASE),
    (IN_PHRASE, PHRASE_END, PHRASE_CLOSED),
    (PHRASE_CLOSED, OBJECT, FIRST_CORNER),
    (FIRST_CORNER, LOCATION, SECOND_CORNER),
    (SECOND_CORNER, LOCATION, BOX_CLOSED),
    (BOX_CLOSED, DELIMITER, FIRST_CORNER),
    (BOX_CLOSED, OBJECT_END, OUTSIDE),
)


class GroundingGrammar(FiniteStateConstraint):
    """Output that always parses: locations in pairs inside ``<object>`` only, the second not above or left.

    An addition of ours; off for parity with the published decoding.

    Args:
        tokens: the vocabulary.
        start: state before the first token: ``OUTSIDE``, or ``PHRASE_CLOSED`` behind a prompt that ends in
            ``</phrase>``.
        grounded: False allows text only.
        absence: whether the output may end behind ``</phrase>``, which says that the phrase has no place.
        forbidden_words: text pieces that never occur, such as those with a ``<`` in them.
    """

    def __init__(
        self,
        tokens: TokenConfig,
        *,
        start: int = OUTSIDE,
        grounded: bool = True,
        absence: bool = False,
        forbidden_words: Collection[int] = (),
    ) -> None:
        classes_V = torch.full((tokens.vocab_size,), OTHER)
        classes_V[tokens.first_text : tokens.mask] = WORD
        classes_V[list(forbidden_words)] = OTHER
        classes_V[tokens.first_location :] = LOCATION
        for token, kind in (
            (tokens.phrase, PHRASE),
            (tokens.phrase_end, PHRASE_END),
            (tokens.object, OBJECT),
            (tokens.object_end, OBJECT_END),
            (tokens.delimiter, DELIMITER),
            (tokens.eos, END),
        ):
            classes_V[token] = kind
        transitions_SC = torch.full((BOX_CLOSED + 1, OTHER + 1), FORBIDDEN)
        for state, kind, following in _TRANSITIONS:
            transitions_SC[state, kind] = following
        if not grounded:
            transitions_SC[OUTSIDE, PHRASE] = FORBIDDEN
        if absence:
            transitions_SC[PHRASE_CLOSED, END] = OUTSIDE
        super().__init__(classes_V, transitions_SC, start=start)
        self.tokens = tokens
        self.corners_N = torch.empty(0, dtype=torch.long)

    def start(self, batch_size: int, device: torch.device) -> None:
        super().start(batch_size, device)
        self.corners_N = torch.zeros(batch_size, dtype=torch.long)

    def __call__(self, tokens_BT: Tensor, logits_BV: Tensor) -> Tensor:
        logits_BV = super().__call__(tokens_BT, logits_BV)
        size, first = self.tokens.grid_size, self.tokens.first_location
        for row, state in enumerate(self.states_N.tolist()):
            if state == SECOND_CORNER:
                above, left = divmod(int(self.corners_N[row]), size)
                grid = logits_BV[row, first:].view(size, size)
                grid[:above] = NEVER
                grid[:, :left] = NEVER
        return logits_BV

    def observe(self, tokens_B: Tensor) -> Iterable[int]:
        first_corner = self.states_N == FIRST_CORNER
        self.corners_N = torch.where(first_corner, tokens_B - self.tokens.first_location, self.corners_N)
        return super().observe(tokens_B)

    def select(self, rows: Tensor) -> None:
        super().select(rows)
        self.corners_N = self.corners_N[rows]


class NoRepeatBehindPrompt(StatefulConstraint):
    """No n-gram occurs twice in prompt and output together, as published decoding has it.

    ``scope``: "all" counts every token, image slots and tags included; "text" only n-grams of text pieces, so that
    two phrases may have the same box.

    Args:
        size: n.
        prompts_BP: the prompts, padded on the left.
        tokens: the vocabulary.
        scope: which n-grams count.
    """

    def __init__(
        self, size: int, prompts_BP: Tensor, tokens: TokenConfig, *, scope: BlockScope = "all"
    ) -> None:
        if size < 1:
            raise ValueError(f"an n-gram has at least 1 token, not {size}")
        self.size, self.prompts_BP, self.tokens, self.scope = size, prompts_BP, tokens, scope
        self.prompts_NP = prompts_BP

    def start(self, batch_size: int, device: torch.device) -> None:
        self.prompts_NP = self.prompts_BP.to(device)

    def __call__(self, tokens_BT: Tensor, logits_BV: Tensor) -> Tensor:
        all_NT = torch.cat([self.prompts_NP, tokens_BT], dim=1)
        if all_NT.shape[1] < self.size:
            return logits_BV
        ngrams_NGn = all_NT.unfold(1, self.size, 1)
        latest_N1n = all_NT[:, None, all_NT.shape[1] - self.size + 1 :]
        seen_NG = (ngrams_NGn[..., :-1] == latest_N1n).all(dim=-1)
        if self.scope == "text":
            is_text = (ngrams_NGn >= self.tokens.first_text) & (ngrams_NGn < self.tokens.mask)
            seen_NG &= is_text.all(dim=-1)
        # Forbidden is what followed the same tokens before; the rest points at a spare column, cut off.
        vocabulary = logits_BV.shape[1]
        followers_NG = torch.where(seen_NG, ngrams_NGn[..., -1], vocabulary)
        forbidden = logits_BV.new_zeros(len(logits_BV), vocabulary + 1, dtype=torch.bool)
        forbidden.scatter_(1, followers_NG, True)
        return logits_BV.masked_fill(forbidden[:, :-1], NEVER)

    def select(self, rows: Tensor) -> None:
        self.prompts_NP = self.prompts_NP[rows.to(self.prompts_NP.device)]


class StopAfter(StatefulConstraint):
    """Ends a row with the first of these tokens, which is kept: ``</object>`` for one phrase's boxes."""

    name = "complete"

    def __init__(self, token_ids: Collection[int]) -> None:
        self.token_ids = torch.tensor(sorted(token_ids), dtype=torch.long)

    def observe(self, tokens_B: Tensor) -> Iterable[int]:
        return torch.isin(tokens_B, self.token_ids).nonzero()[:, 0].tolist()


class LocationProbabilities(StatefulConstraint):
    """Notes the distribution over cells at every location token of a row; stands last among the processors.

    ``distributions[row]`` is a list of float32 (L,) on the CPU, in the order of the row's location tokens: what the
    choice was made from, with what is forbidden left out, and nothing but locations in it. Not for beam search.
    """

    def __init__(self, tokens: TokenConfig) -> None:
        self.tokens = tokens
        self.distributions: list[list[Tensor]] = []
        self.rows_N: list[int] = []
        self.logits_NL = torch.empty(0)

    def start(self, batch_size: int, device: torch.device) -> None:
        self.distributions = [[] for _ in range(batch_size)]
        self.rows_N = list(range(batch_size))

    def __call__(self, tokens_BT: Tensor, logits_BV: Tensor) -> Tensor:
        self.logits_NL = logits_BV[:, self.tokens.first_location : self.tokens.vocab_size]
        return logits_BV

    def observe(self, tokens_B: Tensor) -> Iterable[int]:
        for index, token in enumerate(tokens_B.tolist()):
            if self.tokens.is_location(token):
                distribution = self.logits_NL[index].float().softmax(dim=0).cpu()
                self.distributions[self.rows_N[index]].append(distribution)
        return ()

    def select(self, rows: Tensor) -> None:
        self.rows_N = [self.rows_N[row] for row in rows.tolist()]
