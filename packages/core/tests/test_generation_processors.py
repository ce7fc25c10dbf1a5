"""Logits processors and constraints, alone and inside the loop."""

from __future__ import annotations

import itertools

import pytest
import torch
from multiway_core.generation import (
    FiniteStateConstraint,
    GenerationConfig,
    NoRepeatNGram,
    StaticKVCache,
    StopOnRepetition,
    Temperature,
    TopK,
    TopP,
    generate,
)
from torch import Tensor

NEVER = float("-inf")
NOTHING = torch.empty(2, 0, dtype=torch.long)


class Writer:
    """A model that has a text in mind for every row and very likely writes it."""

    def __init__(self, texts: list[list[int]], vocabulary: int, noise: float = 0.0, seed: int = 0) -> None:
        self.texts = torch.tensor(texts)
        self.vocabulary = vocabulary
        generator = torch.Generator().manual_seed(seed)
        self.noise = torch.randn(*self.texts.shape, vocabulary, generator=generator).double() * noise

    def logits(self, rows: Tensor, step: int) -> Tensor:
        wanted = torch.nn.functional.one_hot(self.texts[rows, step], self.vocabulary).double() * 10
        return wanted + self.noise[rows, step]

    def __call__(self, tokens_BT: Tensor, cache: StaticKVCache) -> Tensor:
        keys, _ = cache.update(0, *torch.zeros(2, len(tokens_BT), 1, 1, 1))  # slot 0 holds the row's number
        cache.advance(torch.ones_like(tokens_BT, dtype=torch.bool))
        return self.logits(keys[:, 0, 0, 0].long(), cache.length - 1)

    def run(self, processors=(), **options):
        rows = len(self.texts)
        cache = StaticKVCache(1, rows, 1, 1, self.texts.shape[1] + 1)
        cache.update(0, torch.arange(rows).float().view(-1, 1, 1, 1), torch.zeros(rows, 1, 1, 1))
        cache.advance(torch.ones(rows, 1, dtype=torch.bool))
        config = GenerationConfig(
            **{"max_new_tokens": self.texts.shape[1], "eos_token_ids": (0,), "pad_token_id": 0} | options
        )
        return generate(self, self.logits(torch.arange(rows), 0), cache, config, processors)


def test_ngram_block_against_its_definition():
    generator = torch.Generator().manual_seed(0)
    for size in (1, 2, 3):
        tokens = torch.randint(3, (20, 12), generator=generator)
        allowed = NoRepeatNGram(size)(tokens, torch.zeros(20, 3)) == 0
        for row, token in itertools.product(range(20), range(3)):
            text = [*tokens[row].tolist(), token]
            ngrams = [tuple(text[i : i + size]) for i in range(len(text) - size + 1)]
            assert allowed[row, token] == (ngrams[-1] not in ngrams[:-1])


def test_top_p_keeps_the_smallest_sufficient_set():
    probabilities = torch.tensor([[0.5, 0.3, 0.15, 0.05], [0.05, 0.15, 0.3, 0.5]], dtype=torch.float64)
    for p, kept in ((0.01, 1), (0.49, 1), (0.51, 2), (0.79, 2), (0.81, 3), (0.96, 4), (1.0, 4)):
        filtered = TopP(p)(NOTHING, probabilities.log())
        assert filtered.isfinite().sum(1).tolist() == [kept, kept]
        assert filtered[0].isfinite().tolist() == filtered[1].flip(0).isfinite().tolist()
    logits = torch.randn(3, 4000, generator=torch.Generator().manual_seed(0)).double()
    for scale in (0.1, 3.0, 30.0):  # nuclei from most of the vocabulary to one token
        for p in (0.3, 0.95):
            probabilities = (logits * scale).softmax(1)
            descending = probabilities.sort(1, descending=True).values
            sizes = (descending.cumsum(1) < p).sum(1) + 1
            threshold = descending.gather(1, sizes[:, None] - 1)
            kept = TopP(p)(NOTHING, logits * scale).isfinite()
            assert torch.equal(kept, probabilities >= threshold)


def test_sampling_filters_in_the_loop():
    writer = Writer([[1] * 30] * 50, vocabulary=12, noise=8.0)
    drawn = writer.run(temperature=5.0, top_k=3, seed=0, eos_token_ids=())
    for row, step in itertools.product(range(50), range(30)):
        logits = writer.logits(torch.tensor([row]), step)
        best = TopK(3)(NOTHING, Temperature(5.0)(NOTHING, logits))[0]
        assert best[drawn.tokens[row][step]] > NEVER
    narrow = writer.run(temperature=5.0, top_k=1, seed=0, eos_token_ids=())
    greedy = writer.run(eos_token_ids=())
    assert all(torch.equal(a, b) for a, b in zip(narrow.tokens, greedy.tokens, strict=True))


# A line of the document reader: <bbox> <x_i> <y_j> <x_k> <y_l> </bbox> text... with i <= k and j <= l.
EOS, OPEN, CLOSE, TEXT, FIRST_LOCATION, CELLS = 0, 1, 2, (3, 4, 5), 6, 8
WORDS = FIRST_LOCATION + 2 * CELLS  # x_i is FIRST_LOCATION + 2 i, y_i the next


class BoxGrammar(FiniteStateConstraint):
    """States: 0 in text, 1 to 4 before the coordinates, 5 before the closing token."""

    def __init__(self) -> None:
        classes = torch.tensor([0, 1, 2, 3, 3, 3] + [4, 5] * CELLS)  # eos, open, close, text, x, y
        transitions = torch.full((6, 6), -1)
        transitions[0, torch.tensor([0, 1, 3])] = torch.tensor([0, 1, 0])
        for state, token_class in ((1, 4), (2, 5), (3, 4), (4, 5), (5, 2)):
            transitions[state, token_class] = (state + 1) % 6
        super().__init__(classes, transitions)

    def start(self, batch_size: int, device: torch.device) -> None:
        super().start(batch_size, device)
        self.corners_N2 = torch.zeros(batch_size, 2, dtype=torch.long)

    def __call__(self, tokens_BT: Tensor, logits_BV: Tensor) -> Tensor:
        logits_BV = super().__call__(tokens_BT, logits_BV)
        second_N = (self.states_N == 3) | (self.states_N == 4)
        corner_N = self.corners_N2.gather(1, (self.states_N == 4).long()[:, None])[:, 0]
        least_N = torch.where(second_N, corner_N, 0)
        return logits_BV.masked_fill(torch.arange(logits_BV.shape[1]) < least_N[:, None], NEVER)

    def observe(self, tokens_B: Tensor) -> list[int]:
        for axis, state in enumerate((1, 2)):
            self.corners_N2[:, axis] = torch.where(self.states_N == state, tokens_B, self.corners_N2[:, axis])
        super().observe(tokens_B)
        return []

    def select(self, rows: Tensor) -> None:
        super().select(rows)
        self.corners_N2 = self.corners_N2[rows]


def assert_boxes_are_well_formed(tokens: list[int]) -> int:
    boxes = 0
    while OPEN in tokens:
        assert set(tokens[: tokens.index(OPEN)]) <= set(TEXT)
        tokens = tokens[tokens.index(OPEN) :]
        if len(tokens) < 6:
            return boxes  # cut by the length limit
        values = [token - FIRST_LOCATION for token in tokens[1:5]]
        assert [value % 2 for value in values] == [0, 1, 0, 1]
        assert min(values) >= 0
        assert values[2] >= values[0]
        assert values[3] >= values[1]
        assert tokens[5] == CLOSE
        tokens, boxes = tokens[6:], boxes + 1
    assert set(tokens) <= set(TEXT)
    return boxes


@pytest.mark.parametrize("options", [{}, {"temperature": 3.0, "seed": 0}, {"num_beams": 3}])
def test_a_grammar_with_memory_holds_in_every_way_of_decoding(options):
    generator = torch.Generator().manual_seed(1)
    texts = torch.randint(WORDS, (12, 60), generator=generator).tolist()
    writer = Writer(texts, WORDS, noise=4.0)
    output = writer.run([BoxGrammar()], **options)
    assert sum(assert_boxes_are_well_formed(tokens.tolist()) for tokens in output.tokens) > 5
    assert len({len(tokens) for tokens in output.tokens}) > 2, "rows must leave the batch at different times"
    if "num_beams" not in options:
        for row in (3, 11):
            single = Writer([texts[row]], WORDS)
            single.noise = writer.noise[row : row + 1]
            seed = {"seed": options["seed"] + row} if "seed" in options else {}
            assert torch.equal(single.run([BoxGrammar()], **options | seed).tokens[0], output.tokens[row])


def until_loop(text: list[int], **options) -> int | None:
    """Number of tokens after which `StopOnRepetition` with separator 9 ends a row."""
    constraint = StopOnRepetition(**{"separators": {9}} | options)
    constraint.start(1, torch.device("cpu"))
    for index, token in enumerate(text):
        if list(constraint.observe(torch.tensor([token]))):
            return index + 1
    return None


def lines(*segments: int) -> list[int]:
    return [token for segment in segments for token in (segment, segment + 1, 9)]


def test_repetition_by_its_definition():
    assert until_loop(lines(1, 2, 2, 2, 5)) == 12
    assert until_loop(lines(2, 2, 1, 2, 2, 1, 2, 2)) is None
    assert until_loop(lines(*[1, 2] * 10)) == 3 * 12, "as a cycle of 4"
    assert until_loop(lines(*[1, 2] * 5)) is None
    assert until_loop(lines(7, *[1, 2, 3, 4] * 3)) == 3 * 13
    assert until_loop(lines(7, *[1, 2, 3, 4] * 2, 1, 2, 3, 5)) is None
    assert until_loop(lines(*range(5), *[*range(20, 52)] * 3)) == 3 * (5 + 96)
    assert until_loop([9] * 50) is None, "blank lines are no repetition"
    assert until_loop([1, 2, 9, 9, 1, 2, 9, 9, 9, 1, 2, 9]) == 12
    assert until_loop([1, 2, 1, 2, 1, 2, 1, 2], separators=None, repeats=4, cycles=[2, 3]) == 8
    assert until_loop([0] * 8, separators=None, cycles=[1], repeats=6) == 6
    with pytest.raises(ValueError, match="repeats"):
        StopOnRepetition({9}, repeats=1)


@pytest.mark.parametrize("options", [{}, {"num_beams": 2}])
def test_a_looping_row_ends_and_its_batch_mates_go_on(options):
    texts = [lines(*range(1, 8)), lines(3, 3, 3, 3, 3, 3, 3), [*lines(1, 2), 0, *lines(1, 1, 1, 1, 1)][:21]]
    output = Writer(texts, vocabulary=10).run([StopOnRepetition({9})], **options)
    assert output.stop_reasons == ["length", "stopped:loop", "eos"]
    assert [tokens.tolist() for tokens in output.tokens] == [texts[0], texts[1][:9], texts[2][:6]]
