"""Kosmos-1: documents with pictures anywhere, choices, matrices and two-stage prompting, against explicit loops."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from multiway_core.checkpoint import on_meta
from multiway_core.errors import ConfigError, InputError
from multiway_vision_language.kosmos1 import objective
from multiway_vision_language.kosmos1 import processor as formats
from multiway_vision_language.kosmos1.config import KOSMOS_1, KOSMOS_1_TINY
from multiway_vision_language.kosmos1.inference import Kosmos1Generator
from multiway_vision_language.kosmos1.model import Kosmos1
from multiway_vision_language.kosmos1.processor import Document, Kosmos1Processor
from multiway_vision_language.kosmos2.config import KOSMOS_2_TINY
from multiway_vision_language.kosmos2.generation import Decoding
from multiway_vision_language.kosmos2.model import ImageFeatures
from multiway_vision_language.kosmos2.objective import next_token_loss

QUERIES = KOSMOS_1_TINY.num_queries
WIDTH = KOSMOS_1_TINY.text.hidden_size


class HashedWords:
    """An id for every word, by its letters: a tokenizer without a file."""

    def encode(self, text: str) -> list[int]:
        return [4 + sum(map(ord, word)) % 120 for word in text.split()]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(f" w{index}" for index in ids)


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (40, 30, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def generator() -> Kosmos1Generator:
    torch.manual_seed(0)
    model = Kosmos1(KOSMOS_1_TINY)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return Kosmos1Generator(model.double().eval(), Kosmos1Processor(KOSMOS_1_TINY, HashedWords()))


DOCUMENTS: list[Document] = [
    ["two pictures", picture(1), "and", picture(2), "with words"],
    ["no picture at all"],
    [picture(3)],
    [picture(4), picture(5), "one behind the other", picture(6)],
]


def features_of(generator: Kosmos1Generator, documents: Sequence[Document]) -> ImageFeatures:
    return generator.model.encode_images(generator.processor.pixels(formats.pictures_of(documents)))


@torch.no_grad()
def test_pictures_come_to_their_slots_as_in_a_loop_over_tokens(generator: Kosmos1Generator) -> None:
    model, processor = generator.model, generator.processor
    ids = [processor.document(document) for document in DOCUMENTS]
    batch = processor.batch(ids)
    images = features_of(generator, DOCUMENTS)
    together = model(batch.tokens_BT, batch.valid_BT, images=images, image_slots_BT=batch.image_slots_BT)
    remaining = iter(images.embeddings_BQE)
    for row, of_row in enumerate(ids):
        vectors, slots = [], iter(())
        for token in of_row:
            slot = next(slots, None)
            vectors.append(model.text.embedding.weight[token] if slot is None else slot)
            if token == processor.tokens.image:
                slots = iter(next(remaining))
        x = torch.stack(vectors)[None] * math.sqrt(WIDTH)
        hidden = model.text.decoder(x, torch.ones(1, len(of_row), dtype=torch.bool))
        logits = hidden @ model.text.embedding.weight.T
        torch.testing.assert_close(together[row, -len(of_row) :], logits[0], atol=1e-10, rtol=0)


@torch.no_grad()
def test_token_by_token_equals_the_whole(generator: Kosmos1Generator) -> None:
    model, processor = generator.model, generator.processor
    batch = processor.batch([processor.document(document) for document in DOCUMENTS])
    images = features_of(generator, DOCUMENTS)
    whole = model(batch.tokens_BT, batch.valid_BT, images=images, image_slots_BT=batch.image_slots_BT)
    rows, length = batch.tokens_BT.shape
    placed = torch.zeros(rows, length, WIDTH, dtype=torch.float64)
    placed = placed.masked_scatter(batch.image_slots_BT[..., None], images.embeddings_BQE.flatten(0, 1))
    cache = model.text.new_cache(rows, length)
    parts = []
    for stop in range(1, length + 1):
        part = slice(stop - 1, stop)
        slots = batch.image_slots_BT[:, part]
        given = ImageFeatures(placed[:, part][slots][:, None])
        parts.append(
            model(
                batch.tokens_BT[:, part],
                batch.valid_BT[:, part],
                images=given,
                image_slots_BT=slots,
                cache=cache,
            )
        )
    stepwise = torch.cat(parts, dim=1)
    torch.testing.assert_close(stepwise[batch.valid_BT], whole[batch.valid_BT], atol=1e-10, rtol=0)


@torch.no_grad()
def test_only_discrete_tokens_are_judged(generator: Kosmos1Generator) -> None:
    model, processor, ids = generator.model, generator.processor, generator.tokens
    rows = [processor.document(document, end=True) for document in DOCUMENTS]
    batch, images = processor.batch(rows), features_of(generator, DOCUMENTS)
    logits = model(batch.tokens_BT, batch.valid_BT, images=images, image_slots_BT=batch.image_slots_BT)
    expected, number = 0.0, 0
    for row, of_row in enumerate(rows):
        own = logits[row, -len(of_row) :].log_softmax(-1)
        inside = 0
        for place, token in enumerate(of_row[1:]):
            if token == ids.image:
                inside = QUERIES + 2
            if not inside:
                expected -= float(own[place, token])
                number += 1
            inside = max(0, inside - 1)
    total, count = next_token_loss(model, batch, images)
    assert count == number
    assert float(total) == pytest.approx(expected, rel=1e-6)


@torch.no_grad()
def test_candidates_behind_one_cached_prefix_equal_whole_passes(generator: Kosmos1Generator) -> None:
    panels, candidates = [picture(seed) for seed in range(8)], [picture(seed) for seed in range(20, 26)]
    scores = generator.solve_matrix(panels, candidates)
    yes = generator.processor.encode("Yes")[0]
    for candidate, score in zip(candidates, scores, strict=True):
        document = [*formats.raven_prefix(panels), *formats.raven_candidate(candidate)]
        ids = generator.processor.document(document)
        batch = generator.processor.batch([ids])
        images = features_of(generator, [document])
        logits = generator.model(
            batch.tokens_BT, batch.valid_BT, images=images, image_slots_BT=batch.image_slots_BT
        )
        assert score == pytest.approx(float(logits[0, -1].softmax(-1)[yes]), abs=1e-6)
    assert len(set(scores)) == 6


@torch.no_grad()
def test_candidates_as_branches_of_one_row_equal_the_cached_ones(generator: Kosmos1Generator) -> None:
    model, processor = generator.model, generator.processor
    panels, candidates = [picture(seed) for seed in range(3)], [picture(seed) for seed in range(30, 36)]
    ids = processor.document(formats.raven_prefix(panels))
    branches, ends = [0] * len(ids), []
    for number, candidate in enumerate(candidates, start=1):
        more = processor.document(formats.raven_candidate(candidate), begin=False)
        ids, branches = ids + more, branches + [number] * len(more)
        ends.append(len(ids) - 1)
    batch = processor.batch([ids])
    images = features_of(generator, [[*panels, *candidates]])
    hidden = model.hidden(
        batch.tokens_BT,
        batch.valid_BT,
        images=images,
        image_slots_BT=batch.image_slots_BT,
        branches_BT=torch.tensor([branches]),
    )
    scores = model.logits(hidden)[0, ends].softmax(-1)[:, generator.yes_token()]
    assert scores.tolist() == pytest.approx(generator.solve_matrix(panels, candidates), abs=1e-6)


@torch.no_grad()
def test_choices_are_scored_raw_and_per_token(generator: Kosmos1Generator) -> None:
    document = formats.question(picture(1), "what is it?")
    choices = ["a cat", "dog", "neither of the two"]
    scores = generator.choose(document, choices)
    for choice, score in zip(choices, scores, strict=True):
        words = generator.processor.encode(choice)
        ids = generator.processor.document(document) + words
        batch = generator.processor.batch([ids])
        logits = generator.model(
            batch.tokens_BT,
            batch.valid_BT,
            images=features_of(generator, [document]),
            image_slots_BT=batch.image_slots_BT,
        )[0]
        log_probs = logits[-len(words) - 1 : -1].log_softmax(-1)
        expected = sum(float(row[word]) for row, word in zip(log_probs, words, strict=True))
        assert score.log_prob == pytest.approx(expected, abs=1e-4)
        assert score.log_prob_per_token == pytest.approx(expected / len(words), abs=1e-4)
        assert score.text == choice
    chosen = generator.classify(picture(1), ["wug", "dax"], "animal", ["A wug is red."])
    prompt = formats.classification(picture(1), "animal", ["A wug is red."])
    by_hand = generator.choose(prompt, ["wug", "dax"])
    assert chosen == max(by_hand, key=lambda score: score.log_prob).text


def test_two_stages_hand_the_rationale_on(generator: Kosmos1Generator, monkeypatch) -> None:
    asked: list[Document] = []

    def answer(document: Document, decoding: Decoding | None = None) -> str:
        asked.append(document)
        return "a red hat" if len(asked) == 1 else "positive"

    monkeypatch.setattr(generator, "answer", answer)
    shown = picture(1)
    thought = generator.think(shown, formats.SENTIMENT_PROMPT)
    assert (thought.rationale, thought.answer) == ("a red hat", "positive")
    assert asked[0][1] == "Introduce this picture in detail:"
    assert asked[1][0] is shown
    assert asked[1][1] == (
        "Introduce this picture in detail: a red hat Question: what is the sentiment of the opinion? Answer:"
    )
    asked.clear()
    rationale, scores = generator.think_and_choose(shown, formats.SENTIMENT_PROMPT, formats.SENTIMENTS)
    assert rationale == "a red hat"
    assert [score.text for score in scores] == ["positive", "negative"]


def test_names_come_from_the_list_and_wide_search_finds_the_likeliest(generator: Kosmos1Generator) -> None:
    names = ["red fox", "red panda", "owl", "snowy owl", "red", "grey wolf of the north"]
    for seed in range(2):
        shown = picture(seed)
        assert generator.name(shown, names) in names
        prefix = generator.read_documents([[shown, formats.IMAGENET_PROMPT]])
        ended = [[*generator.processor.encode(name), generator.tokens.eos] for name in names]
        sums = [sum(scores) for scores in generator.score(prefix, ended)]
        assert generator.name(shown, names, num_beams=8) == names[sums.index(max(sums))]
    with pytest.raises(InputError, match="class names are empty"):
        generator.name(picture(0), [])
    with pytest.raises(InputError, match="class names are empty"):
        generator.name(picture(0), ["owl", ""])


def test_writing_ends(generator: Kosmos1Generator) -> None:
    text = generator.answer(formats.caption(picture(1)), Decoding(max_new_tokens=5))
    assert isinstance(text, str)
    assert len(text.split()) <= 5


def test_prompts_are_the_papers() -> None:
    shown = picture(1)
    assert formats.raven_prefix([shown] * 8)[0] == "Here are eight images:"
    assert formats.raven_prefix([shown] * 3)[0] == "Here are three images:"
    assert formats.raven_prefix([shown] * 4)[::5] == ["Here are four images:", "The following image is:"]
    assert formats.raven_candidate(shown)[1] == "Is it correct?"
    assert formats.caption(shown)[1] == "An image of"
    assert formats.question(shown, "who?")[1] == "Question: who? Answer:"
    assert (
        formats.classification(shown, "bird")[1]
        == "Question:what is the name of bird in the picture? Answer:"
    )
    assert formats.classification(shown, "bird", ["a", "b"])[0] == "a b"
    shots = formats.few_shot(
        [(formats.caption(shown), "a cat"), ([shown, "An image of"], "a dog")], [shown, "An"]
    )
    assert [part for part in shots if isinstance(part, str)] == [
        "An image of", " a cat ", "An image of", " a dog ", "An",
    ]  # fmt: skip
    assert len(formats.pictures_of([shots])) == 3


def test_the_vision_tower_is_fixed_but_for_its_last_layer() -> None:
    model = Kosmos1(KOSMOS_1_TINY)
    model.freeze_vision()
    trained = {name for name, p in model.vision.named_parameters() if p.requires_grad}
    assert {".".join(name.split(".")[:2]) for name in trained} == {"layers.1", "norm.weight", "norm.bias"}
    assert all(p.requires_grad for p in model.text.parameters())
    vision = dataclasses.replace(KOSMOS_1_TINY.vision, num_layers=3)
    deeper = Kosmos1(dataclasses.replace(KOSMOS_1_TINY, vision=vision))
    deeper.freeze_vision()
    assert [any(p.requires_grad for p in layer.parameters()) for layer in deeper.vision.layers] == [0, 0, 1]


def test_it_starts_with_images_of_the_size_of_words() -> None:
    model = Kosmos1(KOSMOS_1_TINY)
    objective.reset_parameters(model, seed=0)
    again = Kosmos1(KOSMOS_1_TINY)
    objective.reset_parameters(again, seed=0)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    attention = model.text.decoder.layers[0].attention
    xavier, grown = 48**-0.5, math.log(2 * 2) ** 0.5  # a square map of 48; two layers
    for linear, gain in (
        (attention.query, 2**-0.5),
        (attention.value, 2**-0.5 * grown),
        (attention.output, grown),
    ):
        assert float(linear.weight.detach().std()) == pytest.approx(gain * xavier, rel=0.05)
    patches = model.vision.patch_embedding.weight.detach()
    assert float(patches.std()) == pytest.approx(patches[0].numel() ** -0.5, rel=0.05)
    images = model.encode_images(torch.randn(4, 3, 32, 32)).embeddings_BQE.detach()
    ratio = float(images.std() / model.text.embedding.weight.detach().std())
    assert 0.3 < ratio < 3
    logits = model(torch.randint(4, 120, (2, 12)), torch.ones(2, 12, dtype=torch.bool)).detach()
    assert 0.3 < float(logits.std()) < 3


def test_presets_have_the_published_sizes() -> None:
    with on_meta():
        model = Kosmos1(KOSMOS_1)
    total = sum(p.numel() for p in model.parameters())
    assert total == pytest.approx(1.6e9, rel=0.05)
    assert sum(p.numel() for p in model.text.parameters()) == pytest.approx(1.3e9, rel=0.05)
    assert not any("positions" in name for name, _ in model.text.named_buffers() if "rotary" not in name)


def test_errors_are_one_clear_line(generator: Kosmos1Generator) -> None:
    with pytest.raises(ConfigError, match="Kosmos-1 has xPos"):
        Kosmos1(KOSMOS_2_TINY)
    with pytest.raises(InputError, match="a choice is empty"):
        generator.choose(["a"], ["yes", " "])
    with pytest.raises(InputError, match="a choice is empty"):
        generator.choose(["a"], [])
    with pytest.raises(InputError, match="expected uint8"):
        generator.read_documents([[np.zeros((4, 4)), "a"]])
    prefix = generator.read_documents([["a"], ["b"]])
    with pytest.raises(InputError, match="2 rows"):
        generator.extend_documents(prefix, [["c"]])
    with pytest.raises(InputError, match="nothing to read"):
        generator.extend_documents(generator.read_documents([["a"]]), [])

    class Same(HashedWords):
        def encode(self, text: str) -> list[int]:
            return [5 for _ in text.split()]

    with pytest.raises(InputError, match="same piece"):
        Kosmos1Generator(generator.model, Kosmos1Processor(KOSMOS_1_TINY, Same())).yes_token()
    assert dataclasses.asdict(KOSMOS_1_TINY)["text"]["position_code"] == "xpos"
