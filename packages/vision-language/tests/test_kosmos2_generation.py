"""Writing and scoring: prefixes that are shared, grammar, bans on repetition, probabilities of boxes."""

from __future__ import annotations

import importlib
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from multiway_core.errors import InputError
from multiway_vision_language.kosmos2.config import KOSMOS_2_TINY
from multiway_vision_language.kosmos2.constraints import (
    PHRASE_CLOSED,
    GroundingGrammar,
    NoRepeatBehindPrompt,
)
from multiway_vision_language.kosmos2.generation import Decoding, Kosmos2Generator
from multiway_vision_language.kosmos2.model import ImageFeatures, Kosmos2
from multiway_vision_language.kosmos2.processor import Kosmos2Processor
from torch import Tensor, nn

tiny = importlib.import_module("packages.vision-language.tests.tiny_kosmos2")


@pytest.fixture(scope="module")
def generator(tmp_path_factory) -> Kosmos2Generator:
    pieces = tiny.train_vocabulary(tmp_path_factory.mktemp("pieces"))
    config = tiny.tiny_config(pieces)
    torch.manual_seed(0)
    model = Kosmos2(config)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    with torch.no_grad():
        model.resampler.projection.weight.mul_(20)  # so that pictures matter
    return Kosmos2Generator(model.double().eval(), Kosmos2Processor(config, pieces))


@pytest.fixture(scope="module")
def images(generator) -> ImageFeatures:
    with torch.no_grad():
        return generator.model.encode_images(torch.randn(3, 3, 32, 32, generator=torch.manual_seed(1)))


PHRASES = [
    "<phrase>a fire</phrase>",
    "<phrase> two puppies in a field of grass</phrase>",
    "<phrase>it</phrase>",
]


@pytest.mark.parametrize("block", [0, 2])
@pytest.mark.parametrize("grammar", [False, True])
def test_phrases_behind_one_prefix_equal_each_by_itself(generator, images, block: int, grammar: bool) -> None:
    encode = generator.processor.encode
    decoding = Decoding(max_new_tokens=25, no_repeat_ngram_size=block, grammar=grammar)
    picture = images.rows([0])
    prefix = generator.prefill([generator.processor.prompt("<grounding>")], picture)
    before = prefix.logits_BV.clone()
    rows = generator.extend(prefix, [encode(phrase) for phrase in PHRASES], room=25)
    first_BV = rows.logits_BV.clone()
    together = generator.generate(rows, decoding)
    assert torch.equal(prefix.logits_BV, before)
    assert prefix.cache.length == len(generator.processor.prompt("<grounding>"))
    for row, phrase in enumerate(PHRASES):
        alone = generator.prefill([generator.processor.prompt("<grounding>" + phrase)], picture, room=25)
        torch.testing.assert_close(alone.logits_BV[0], first_BV[row], atol=1e-5, rtol=0)
        (single,) = generator.generate(alone, decoding)
        assert single.ids == together[row].ids
        assert single.log_probs == pytest.approx(together[row].log_probs, abs=1e-6)
        assert len(single.locations) == len(together[row].locations)
        for one, other in zip(single.locations, together[row].locations, strict=True):
            torch.testing.assert_close(one, other, atol=1e-6, rtol=0)
    assert (first_BV[0] - first_BV[1]).abs().max() > 0.1


def test_rows_of_different_pictures_and_lengths_equal_single_rows(generator, images) -> None:
    texts = ("An image of", "<grounding>Describe this image in detail:", "")
    prompts = [generator.processor.prompt(text) for text in texts]
    decoding = Decoding(max_new_tokens=20)
    together = generator.generate(generator.prefill(prompts, images, room=20), decoding)
    for row, prompt in enumerate(prompts):
        (alone,) = generator.generate(generator.prefill([prompt], images.rows([row]), room=20), decoding)
        assert alone.ids == together[row].ids


def test_a_prefix_is_read_in_parts(generator, images) -> None:
    """Extending twice equals reading at once; also a row each for several prefixes."""
    encode, prompt = generator.processor.encode, generator.processor.prompt
    prefix = generator.prefill([prompt(""), prompt("a")], images.rows([0, 1]))
    longer = generator.extend(prefix, [encode("fire"), encode("image of")])
    parts = generator.extend(longer, [encode(" by"), encode("a")])
    for row, ids in enumerate(
        ([*prompt(""), *encode("fire"), *encode(" by")], [*prompt("a"), *encode("image of"), *encode("a")])
    ):
        whole = generator.prefill([ids], images.rows([row]))
        torch.testing.assert_close(parts.logits_BV[row], whole.logits_BV[0], atol=1e-5, rtol=0)
        assert parts.batch.tokens_BT[row, -len(ids) :].tolist() == ids
        assert not parts.batch.valid_BT[row, : -len(ids)].any()


@torch.no_grad()
def test_scores_are_the_models_log_probabilities(generator, images) -> None:
    processor, model = generator.processor, generator.model
    prompt = processor.prompt("Question: What is it? Answer:")
    answers = [processor.encode(text) for text in ("a dog", "it is a small tree", "no")]
    prefix = generator.prefill([prompt], images.rows([2]))
    scores = generator.score(prefix, answers)
    for answer, found in zip(answers, scores, strict=True):
        batch = processor.batch([prompt + answer])
        logits_BTV = model(
            batch.tokens_BT, batch.valid_BT, images=images.rows([2]), image_slots_BT=batch.image_slots_BT
        )
        log_probs = logits_BTV[0].log_softmax(-1)
        expected = [float(log_probs[len(prompt) - 1 + place, token]) for place, token in enumerate(answer)]
        assert found == pytest.approx(expected, abs=1e-5)


def test_a_prompt_with_several_pictures(generator, images) -> None:
    text = "<image></image> a fire <image></image><grounding>"
    prompt = generator.processor.prompt(text, picture=False)
    both = generator.prefill([prompt], images.rows([0, 1]))
    exchanged = generator.prefill([prompt], images.rows([1, 0]))
    assert (both.logits_BV - exchanged.logits_BV).abs().max() > 1e-5
    with pytest.raises(InputError, match="places for 2 pictures, but 1 are given"):
        generator.prefill([prompt], images.rows([0]))
    with pytest.raises(InputError, match="places for 0 pictures, but 3"):
        generator.prefill([[0, 5]], images)


def test_nothing_to_read_is_refused(generator, images) -> None:
    with pytest.raises(InputError, match="a prompt is empty"):
        generator.prefill([])
    prefix = generator.prefill([generator.processor.prompt("")], images.rows([0]))
    for suffixes in ([], [[]]):
        with pytest.raises(InputError, match="nothing to read"):
            generator.extend(prefix, suffixes)


@pytest.mark.parametrize("seed", range(12))
def test_whatever_the_grammar_lets_through_parses(generator, images, seed: int) -> None:
    """Sampled from a random model, which without the grammar writes hardly a sound tag."""
    processor, tokens = generator.processor, generator.tokens
    prompts = [processor.prompt("<grounding>")] * 6
    for grammar in (True, False):
        decoding = Decoding(
            max_new_tokens=120, grammar=grammar, block_scope="text", temperature=1.5, seed=seed
        )
        written = generator.generate(generator.prefill(prompts, images.rows([0] * 6), room=120), decoding)
        problems = 0
        for row in written:
            ids = row.ids
            if row.truncated:  # up to the last whole thing
                tags = [place for place, token in enumerate(ids) if token == tokens.phrase]
                ends = [place for place, token in enumerate(ids) if token == tokens.object_end]
                if tags and (not ends or tags[-1] > ends[-1]):
                    ids = ids[: tags[-1]]
            problems += len(processor.parse(ids).problems)
        assert (problems == 0) == grammar


def test_a_phrase_of_the_prompt_gets_a_box_at_once_and_stops(generator, images) -> None:
    tokens = generator.tokens
    prefix = generator.prefill(
        [generator.processor.prompt("<grounding>" + phrase) for phrase in PHRASES], images, room=60
    )
    decoding = Decoding(max_new_tokens=60, grammar=True, block_scope="text", stop_after=(tokens.object_end,))
    for row in generator.generate(prefix, decoding):
        assert row.ids[0] == tokens.object
        if row.stop_reason == "stopped:complete":
            assert row.ids[-1] == tokens.object_end
        assert len(row.locations) == sum(map(tokens.is_location, row.ids))
        for place, distribution in zip(filter(tokens.is_location, row.ids), row.locations, strict=True):
            assert float(distribution.sum()) == pytest.approx(1, abs=1e-5)
            assert int(distribution.argmax()) == place - tokens.first_location  # greedy
        for first, second in zip(row.locations[::2], row.locations[1::2], strict=False):
            above, left = divmod(int(first.argmax()), tokens.grid_size)
            grid = second.view(tokens.grid_size, tokens.grid_size)
            assert not grid[:above].any()
            assert not grid[:, :left].any()


def test_mixed_prompts_cannot_share_a_grammar(generator, images) -> None:
    prompts = [generator.processor.prompt(text) for text in ("<grounding>", "<grounding><phrase>a</phrase>")]
    prefix = generator.prefill(prompts, images.rows([0, 1]), room=5)
    with pytest.raises(InputError, match="write them in two calls"):
        generator.generate(prefix, Decoding(max_new_tokens=5, grammar=True))


def test_absence_may_be_said_only_by_a_model_that_knows_it(generator) -> None:
    tokens = generator.tokens
    logits = torch.zeros(1, tokens.vocab_size)
    for absence in (False, True):
        grammar = GroundingGrammar(tokens, start=PHRASE_CLOSED, absence=absence)
        grammar.start(1, torch.device("cpu"))
        allowed = grammar(torch.empty(1, 0), logits).isfinite()[0].nonzero()[:, 0].tolist()
        assert allowed == [tokens.eos, tokens.object] if absence else [tokens.object]


def test_text_only_grammar_and_words_with_tag_signs(generator) -> None:
    tokens = generator.tokens
    signs = generator.processor.words_with_tag_signs
    assert signs  # "3 < 5" is among the lines
    grammar = GroundingGrammar(tokens, grounded=False, forbidden_words=signs)
    grammar.start(1, torch.device("cpu"))
    allowed = set(
        grammar(torch.empty(1, 0), torch.zeros(1, tokens.vocab_size)).isfinite()[0].nonzero()[:, 0].tolist()
    )
    assert allowed == {tokens.eos, *range(tokens.first_text, tokens.mask)} - set(signs)


TOKENS = KOSMOS_2_TINY.tokens


def forbidden_by_definition(ids: list[int], size: int, text_only: bool) -> set[int]:
    followers = set()
    latest = ids[len(ids) - size + 1 :]
    for start in range(len(ids) - size + 1):
        ngram = ids[start : start + size]
        if ngram[:-1] == latest and not (text_only and not all(map(TOKENS.is_text, ngram))):
            followers.add(ngram[-1])
    return followers


@settings(max_examples=150, deadline=None)
@given(
    prompt=st.lists(st.integers(4, 12), max_size=8),
    written=st.lists(st.sampled_from([4, 5, 6, TOKENS.object, TOKENS.first_location]), max_size=12),
    size=st.integers(1, 4),
    scope=st.sampled_from(["all", "text"]),
    padding=st.integers(0, 3),
)
def test_the_ban_by_its_definition(prompt, written, size: int, scope, padding: int) -> None:
    rows = torch.tensor([[TOKENS.pad] * padding + prompt], dtype=torch.long)
    ban = NoRepeatBehindPrompt(size, rows, TOKENS, scope=scope)
    ban.start(1, torch.device("cpu"))
    found = ban(torch.tensor([written], dtype=torch.long).view(1, -1), torch.zeros(1, TOKENS.vocab_size))
    expected = forbidden_by_definition(rows[0].tolist() + written, size, scope == "text") - (
        {TOKENS.pad} if size > 1 else set()
    )
    assert set((~found[0].isfinite()).nonzero()[:, 0].tolist()) - {TOKENS.pad} == expected - {TOKENS.pad}


def test_two_phrases_may_have_the_same_box_where_the_ban_is_of_text(generator) -> None:
    tokens = generator.tokens
    box = [tokens.object, tokens.first_location, tokens.first_location + 5, tokens.object_end]
    written = torch.tensor([[*box, 4, 5, tokens.phrase_end, *box[:2]]])
    for scope, allowed in (("all", False), ("text", True)):
        ban = NoRepeatBehindPrompt(3, torch.empty(1, 0, dtype=torch.long), tokens, scope=scope)
        ban.start(1, torch.device("cpu"))
        logits_BV = ban(written, torch.zeros(1, tokens.vocab_size))
        assert math.isfinite(logits_BV[0, box[2]]) == allowed


class Pointing(Kosmos2):
    """A network that looks at the cells of its row's picture at every token."""

    def logits(self, hidden_BTE: Tensor, images: ImageFeatures | None = None) -> Tensor:
        assert images is not None
        assert images.cells_BNF is not None
        assert len(images.cells_BNF) == len(hidden_BTE)
        logits_BTV = super().logits(hidden_BTE)
        return logits_BTV + images.cells_BNF.mean(dim=(1, 2))[:, None, None] * torch.arange(
            logits_BTV.shape[-1]
        )


def test_cells_follow_the_rows_that_are_left(generator, images) -> None:
    model = Pointing(generator.model.config).double().eval()
    model.load_state_dict(generator.model.state_dict())
    pointing = Kosmos2Generator(model, generator.processor)
    cells = torch.tensor([0.3, -0.02, 0.4], dtype=torch.float64)[:, None, None].expand(3, 16, 2)
    images = ImageFeatures(images.embeddings_BQE, cells)
    prompts = [generator.processor.prompt("<grounding>" + phrase) for phrase in PHRASES]
    decoding = Decoding(max_new_tokens=30, grammar=True, stop_after=(generator.tokens.object_end,))
    together = pointing.generate(pointing.prefill(prompts, images, room=30), decoding)
    assert len({len(row.ids) for row in together}) > 1  # rows end at different steps
    for row, prompt in enumerate(prompts):
        (alone,) = pointing.generate(pointing.prefill([prompt], images.rows([row]), room=30), decoding)
        assert alone.ids == together[row].ids
    shared = pointing.prefill([generator.processor.prompt("<grounding>")], images.rows([0]))
    suffixes = [generator.processor.encode(phrase) for phrase in PHRASES]
    rows = pointing.generate(pointing.extend(shared, suffixes, room=30), decoding)
    assert rows[0].ids == together[0].ids
    assert [len(scores) for scores in pointing.score(shared, suffixes)] == [len(ids) for ids in suffixes]


def test_beam_search_runs_with_the_grammar(generator, images) -> None:
    prefix = generator.prefill([generator.processor.prompt("<grounding>")], images.rows([0]), room=20)
    (row,) = generator.generate(replace(prefix), Decoding(max_new_tokens=20, grammar=True, num_beams=3))
    assert row.ids
    assert not row.locations
