"""The decode guard under random logits: whatever the network wants, the output parses."""

from __future__ import annotations

import itertools

import pytest
import torch
from multiway_core.generation import GenerationConfig, GenerationOutput, StaticKVCache, generate
from multiway_document.kosmos2_5.config import Kosmos25Config, TextConfig, TokenConfig
from multiway_document.kosmos2_5.guard import OcrGrammar, TextGrammar, ocr_guard, text_guard
from multiway_document.kosmos2_5.processor import ParsedLine, Processor
from torch import Tensor

TOKENS = TokenConfig(num_text_tokens=27, num_locations=12)
LETTERS = "\nabcdefghijklmnopqrstuvwxyz"


class LetterTokenizer:
    def encode(self, text: str) -> list[int]:
        return [TOKENS.first_text + LETTERS.index(c) for c in text]

    def decode(self, ids) -> str:
        return "".join(LETTERS[i - TOKENS.first_text] for i in ids if TOKENS.first_text <= i < TOKENS.mask)


@pytest.fixture(scope="module")
def processor() -> Processor:
    config = Kosmos25Config(text=TextConfig(vocab_size=TOKENS.vocab_size), tokens=TOKENS)
    return Processor(config, LetterTokenizer())


class RandomNetwork:
    """Logits from a generator; ``likely`` tokens are wanted more."""

    def __init__(self, seed: int, likely: dict[int, float]) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.bias_V = torch.zeros(TOKENS.vocab_size)
        for token, bias in likely.items():
            self.bias_V[token] = bias

    def logits(self, rows: int) -> Tensor:
        return 3 * torch.randn(rows, TOKENS.vocab_size, generator=self.generator) + self.bias_V

    def __call__(self, tokens_BT: Tensor, cache: StaticKVCache) -> Tensor:
        cache.advance(torch.ones_like(tokens_BT, dtype=torch.bool))
        return self.logits(len(tokens_BT))


def run(network: RandomNetwork, guard, *, rows: int = 8, length: int = 60, **options) -> GenerationOutput:
    cache = StaticKVCache(1, rows, 1, 4, length)
    config = GenerationConfig(
        max_new_tokens=length, eos_token_ids=(TOKENS.eos,), pad_token_id=TOKENS.pad, **options
    )
    return generate(network, network.logits(rows), cache, config, processors=guard)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("temperature", [0.0, 2.0])
def test_output_always_parses(processor, seed: int, temperature: float) -> None:
    network = RandomNetwork(seed, {TOKENS.box: 3.0, TOKENS.eos: 0.0, TOKENS.ocr: 9.0})
    output = run(network, [OcrGrammar(TOKENS)], temperature=temperature, seed=seed)
    for tokens, finished in zip(output.tokens, output.finished, strict=True):
        written = tokens.tolist()
        lines, malformed = processor.parse_lines(written)
        boxes = written.count(TOKENS.box)
        # Left out are lines of newlines only, and the line that the length limit cut off.
        assert len(lines) + malformed == boxes
        starts = [place for place, token in enumerate(written) if token == TOKENS.box]
        complete = itertools.pairwise([*starts, len(written)] if finished else starts)
        blank = sum(not processor.tokenizer.decode(written[start:end]).strip() for start, end in complete)
        assert malformed <= blank + (not finished)
        for line in lines:
            x0, y0, x1, y1 = line.box
            assert x0 <= x1
            assert y0 <= y1
            assert line.text
    assert any(len(processor.parse_lines(tokens.tolist())[0]) > 1 for tokens in output.tokens)


def test_a_written_page_passes_the_grammar(processor) -> None:
    """The guard forbids nothing that a good network writes."""
    lines = [
        ParsedLine((0, 0, 11, 3), "abc"),
        ParsedLine((2, 3, 2, 3), "x"),
        ParsedLine((0, 11, 11, 11), "yz"),
    ]
    tokens = [token for line in lines for token in processor.line_tokens(line)] + [TOKENS.eos]
    grammar = OcrGrammar(TOKENS)
    grammar.start(1, torch.device("cpu"))
    for place, token in enumerate(tokens):
        allowed = grammar(torch.tensor([tokens[:place]]), torch.zeros(1, TOKENS.vocab_size))
        assert allowed[0, token] == 0, place
        grammar.observe(torch.tensor([token]))


def test_second_corner_is_not_before_the_first() -> None:
    grammar = OcrGrammar(TOKENS)
    grammar.start(2, torch.device("cpu"))
    for pair in ([TOKENS.box] * 2, [TOKENS.x(5), TOKENS.x(0)], [TOKENS.y(7), TOKENS.y(11)]):
        grammar.observe(torch.tensor(pair))

    def allowed(row: int) -> set[int]:
        logits = grammar(torch.empty(2, 0), torch.zeros(2, TOKENS.vocab_size))
        return set(logits[row].isfinite().nonzero()[:, 0].tolist())

    assert allowed(0) == {TOKENS.x(i) for i in range(5, 12)}
    assert allowed(1) == {TOKENS.x(i) for i in range(12)}
    grammar.observe(torch.tensor([TOKENS.x(6), TOKENS.x(3)]))
    assert allowed(0) == {TOKENS.y(i) for i in range(7, 12)}
    assert allowed(1) == {TOKENS.y(11)}
    grammar.select(torch.tensor([1, 1]))  # row 0 ended, row 1 was repeated
    assert allowed(0) == allowed(1) == {TOKENS.y(11)}


def test_a_page_may_be_empty() -> None:
    output = run(RandomNetwork(0, {TOKENS.eos: 50.0}), [OcrGrammar(TOKENS)])
    assert [tokens.tolist() for tokens in output.tokens] == [[]] * 8
    assert all(output.finished)


class Script:
    """A network that writes given tokens, over and over."""

    def __init__(self, tokens: list[int]) -> None:
        self.tokens, self.place = tokens, 0

    def logits(self, rows: int) -> Tensor:
        logits = torch.zeros(rows, TOKENS.vocab_size)
        logits[:, self.tokens[self.place % len(self.tokens)]] = 10.0
        self.place += 1
        return logits

    def __call__(self, tokens_BT: Tensor, cache: StaticKVCache) -> Tensor:
        cache.advance(torch.ones_like(tokens_BT, dtype=torch.bool))
        return self.logits(len(tokens_BT))


def test_a_repeated_line_stops(processor) -> None:
    line = processor.line_tokens(ParsedLine((0, 0, 5, 5), "again"))
    output = run(Script(line), ocr_guard(processor), rows=1, length=300)
    assert output.stop_reasons == ["stopped:loop"]
    assert len(output.tokens[0]) <= 5 * len(line)


def test_the_same_text_in_other_places_goes_on(processor) -> None:
    lines = [processor.line_tokens(ParsedLine((0, y, 5, y), "total")) for y in range(12)]
    script = [token for line in lines for token in line] + [TOKENS.eos]
    output = run(Script(script), ocr_guard(processor), rows=1, length=300)
    assert output.stop_reasons == ["eos"]
    assert len(processor.parse_lines(output.tokens[0].tolist())[0]) == 12


def test_markdown_is_text_only_and_stops_in_a_loop(processor) -> None:
    output = run(RandomNetwork(0, {TOKENS.box: 20.0, TOKENS.pad: 20.0}), [TextGrammar(TOKENS)])
    for tokens in output.tokens:
        assert all(TOKENS.first_text <= token < TOKENS.mask for token in tokens.tolist())
    looping = run(Script(processor.tokenizer.encode("row\n")), text_guard(processor), rows=1, length=300)
    assert looping.stop_reasons == ["stopped:loop"]
    blank = processor.tokenizer.encode("a\n\n\n\n\n\n\n\n\n\nb") + [TOKENS.eos]
    assert run(Script(blank), text_guard(processor), rows=1, length=300).stop_reasons == ["eos"]
