"""The grounding pipeline on a tiny Kosmos-2 with random weights: what it says does not matter, how it says it does."""

from __future__ import annotations

import importlib
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from multiway_core.errors import CheckpointError, InputError, ModelNotFoundError
from multiway_vision_language import pipeline as pipeline_module
from multiway_vision_language import prompts
from multiway_vision_language.answers import close_truncated_boxes
from multiway_vision_language.kosmos2 import checkpoint
from multiway_vision_language.kosmos2.model import Kosmos2
from multiway_vision_language.pictures import open_picture
from multiway_vision_language.pipeline import GroundingPipeline
from multiway_vision_language.result import Grounding
from PIL import Image

tiny = importlib.import_module("packages.vision-language.tests.tiny_kosmos2")

PHRASES = ["a snowman", "the red bus", "grass", "two puppies", " spaces  kept "]


def save_model(folder, **changes):
    folder.mkdir()
    torch.manual_seed(0)
    model = Kosmos2(tiny.tiny_config(tiny.train_vocabulary(folder), **changes))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    checkpoint.save(model, folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def pipeline(folder):
    return GroundingPipeline.from_pretrained(str(folder))


@pytest.fixture(scope="module")
def absence(tmp_path_factory):
    folder = save_model(tmp_path_factory.mktemp("models") / "absence", trained_absence=True)
    return GroundingPipeline.from_pretrained(str(folder))


@pytest.fixture(scope="module")
def photo():
    pixels = np.random.default_rng(3).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((160, 90))


def check(result: Grounding, picture: Image.Image) -> None:
    """What holds of every result."""
    assert (result.width, result.height) == picture.size
    assert Grounding.from_json(result.to_json()) == result
    for entity in result.entities:
        start, end = entity.span
        assert result.text[start:end] == entity.phrase
        assert 0 <= entity.present <= 1
        for box in entity.boxes:
            left, top, right, bottom = box.xyxy
            assert 0 <= left < right <= picture.width
            assert 0 <= top < bottom <= picture.height
            assert 0 < box.confidence <= 1


def test_phrases_are_found_in_order_and_byte_for_byte(pipeline, photo):
    result = pipeline.locate(photo, PHRASES)
    check(result, photo)
    assert [entity.phrase for entity in result.entities] == PHRASES
    assert result.text == "\n".join(PHRASES)
    for entity in result.entities:
        assert entity.boxes
        for box in entity.boxes:
            fractions = pipeline.grid.decode(box.cells)
            assert box.xyxy == pytest.approx(np.multiply(fractions, [160, 90, 160, 90]))
    assert result.model == pipeline.name


def test_a_phrase_is_found_alike_alone_and_among_others(pipeline, absence, photo, monkeypatch):
    monkeypatch.setattr(pipeline_module, "ROWS", 2)
    for model in (pipeline, absence):
        together = model.locate(photo, PHRASES, threshold=0.0).entities
        for phrase, entity in zip(PHRASES, together, strict=True):
            (alone,) = model.locate(photo, [phrase], threshold=0.0).entities
            assert alone.boxes
            assert [box.cells for box in alone.boxes] == [box.cells for box in entity.boxes]
            assert alone.present == pytest.approx(entity.present, abs=1e-4)
            assert [box.confidence for box in alone.boxes] == pytest.approx(
                [box.confidence for box in entity.boxes], abs=1e-4
            )


def test_confidence_is_that_of_the_corners_among_what_the_grammar_allows(pipeline, photo):
    """The first corner's distribution is recomputed from the logits behind ``<object>``."""
    generator, grid = pipeline.generator, pipeline.grid
    box = pipeline.locate(photo, ["grass"]).entities[0].boxes[0]
    prompt = generator.processor.prompt("<grounding><phrase>grass</phrase><object>")
    features = pipeline.features(open_picture(photo))
    behind_object = generator.prefill([prompt], features).logits_BV[0]
    first = generator.tokens.first_location
    cells = behind_object[first : first + grid.num_cells].softmax(dim=0)
    assert int(cells.argmax()) == box.cells[0]
    corner = generator.processor.location_token(box.cells[0])
    behind_corner = generator.prefill([[*prompt, corner]], features).logits_BV[
        0, first : first + grid.num_cells
    ]
    row, column = divmod(box.cells[0], grid.size)
    allowed = [
        cell for cell in range(grid.num_cells) if cell // grid.size >= row and cell % grid.size >= column
    ]
    last = behind_corner[allowed].softmax(dim=0)[allowed.index(box.cells[1])]
    assert box.confidence == pytest.approx(math.sqrt(float(cells.max()) * float(last)), rel=1e-4)


def test_present_of_a_model_that_knows_absence(absence, photo):
    generator = absence.generator
    prompt = generator.processor.prompt("<grounding><phrase>grass</phrase>")
    logits = generator.prefill([prompt], absence.features(open_picture(photo))).logits_BV[0]
    pair = logits[[generator.tokens.object, generator.tokens.eos]].softmax(dim=0)
    (entity,) = absence.locate(photo, ["grass"], threshold=0.0).entities
    assert entity.present == pytest.approx(float(pair[0]), rel=1e-4)
    assert entity.boxes
    assert absence.locate(photo, ["grass"], threshold=1.0).entities[0].boxes == ()
    assert absence.knows_absence


def test_present_of_a_model_that_does_not_is_a_verification(pipeline, photo):
    """sigmoid of the mean log-probability of the words given the box, minus given the whole picture."""
    (entity,) = pipeline.locate(photo, ["grass"], threshold=1.0).entities
    assert entity.boxes  # the threshold is for the other kind
    processor, model = pipeline.generator.processor, pipeline.generator.model
    features = pipeline.features(open_picture(photo))

    def score(cells) -> float:
        start = processor.prompt(prompts.describe_box(cells).tagged)
        words = processor.encode("grass")
        batch = processor.batch([[*start, *words]])
        with torch.inference_mode():
            logits = model(
                batch.tokens_BT, batch.valid_BT, images=features, image_slots_BT=batch.image_slots_BT
            )[0].log_softmax(dim=-1)
        return sum(float(logits[len(start) - 1 + i, word]) for i, word in enumerate(words)) / len(words)

    difference = score(entity.boxes[0].cells) - score((0, pipeline.grid.num_cells - 1))
    assert entity.present == pytest.approx(1 / (1 + math.exp(-difference)), rel=1e-4)


def test_captions(pipeline, photo):
    for detailed in (False, True):
        for grounded in (False, True):
            result = pipeline.caption(photo, detailed=detailed, grounded=grounded)
            check(result, photo)
            assert result.text.startswith("An image of") is not detailed
            assert "<grounding>" not in result.text
            if not grounded:
                assert result.entities == ()
                assert "<" not in result.tagged.replace("<unk>", "")


def test_what_a_text_names_is_asked_for_as_locate_would(pipeline, absence, photo):
    """A prompt that ends in a phrase makes sure that there is one."""
    result = pipeline.prompt(photo, "<grounding>An image of<phrase> grass</phrase>")
    check(result, photo)
    entity = result.entities[0]
    assert (entity.phrase, entity.span) == ("grass", (12, 17))
    assert entity.present < 1
    assert entity.boxes[0].confidence < 1

    (unseen,) = absence.locate(photo, ["grass"]).entities
    assert unseen.present < 0.5
    silent = absence.prompt(photo, "<grounding><phrase>grass</phrase>")
    assert silent.entities == ()
    assert silent.problems == ("the phrase 'grass' has no box",)
    # With the words of the two answers exchanged the same model says that it is there.
    weight, tokens = absence.generator.model.text.embedding.weight, absence.generator.tokens
    pair, exchanged = [tokens.object, tokens.eos], [tokens.eos, tokens.object]
    with torch.no_grad():
        weight[pair] = weight[exchanged]
    try:
        (seen,) = absence.locate(photo, ["grass"]).entities
        named = absence.prompt(photo, "<grounding><phrase>grass</phrase>").entities[0]
    finally:
        with torch.no_grad():
            weight[pair] = weight[exchanged]
    assert seen.present > 0.5
    assert named.boxes[0].cells == seen.boxes[0].cells
    assert named.present == pytest.approx(seen.present, abs=1e-5)


def test_describe_gives_the_box_back_as_the_grid_has_it(pipeline, photo):
    result = pipeline.describe(photo, (10, 20, 100, 80))
    check(result, photo)
    assert result.text.startswith("It is")
    entity = result.entities[0]
    assert (entity.phrase, entity.present) == ("It", 1.0)
    assert entity.boxes[0].confidence == 1.0
    assert entity.boxes[0].cells == pipeline.grid.encode((10 / 160, 20 / 90, 100 / 160, 80 / 90))
    assert result == pipeline.describe(photo, (10 / 160, 20 / 90, 100 / 160, 80 / 90), frame="norm")
    snapped = pipeline.rectangle(open_picture(photo), entity.boxes[0].cells)
    assert snapped[0] <= 10
    assert snapped[1] <= 20
    assert snapped[2] >= 100
    assert snapped[3] >= 80


def test_ask_gives_the_answer_only(pipeline, photo):
    result = pipeline.ask(photo, "What colour is the dog?")
    check(result, photo)
    assert "Question" not in result.tagged


def test_partial_results_grow_into_the_whole(pipeline, photo):
    parts: list[Grounding] = []
    whole = pipeline.describe(photo, (0, 0, 80, 45), on_partial=parts.append)
    assert len(parts) > 1
    lengths = [len(part.tagged) for part in parts]
    assert lengths == sorted(lengths)
    assert (parts[-1].text, parts[-1].tagged) == (whole.text, whole.tagged)
    assert whole == pipeline.describe(photo, (0, 0, 80, 45))


def test_features_of_equal_pictures_are_made_once(folder, photo, monkeypatch):
    monkeypatch.setattr(pipeline_module, "CACHED_PICTURES", 2)
    pipeline = GroundingPipeline.from_pretrained(str(folder))
    calls = []
    encode = pipeline.generator.model.encode_images
    monkeypatch.setattr(
        pipeline.generator.model, "encode_images", lambda pixels: calls.append(1) or encode(pixels)
    )
    other, third = photo.rotate(90), photo.rotate(180)
    for picture in (photo, photo.copy(), np.asarray(photo), other, photo, third, photo):
        pipeline.features(open_picture(picture))
    assert len(calls) == 3
    pipeline.features(open_picture(other))  # it was the one not used for longest
    assert len(calls) == 4


def test_the_size_of_the_source_counts_not_that_of_the_copy(pipeline, photo, monkeypatch):
    before = pipeline.locate(photo, ["grass"])
    large = replace(open_picture(photo), width=1600, height=900)
    after = pipeline.locate(large, ["grass"])
    assert np.multiply(before.entities[0].boxes[0].xyxy, 10) == pytest.approx(after.entities[0].boxes[0].xyxy)


@pytest.mark.parametrize(
    ("phrases", "message"),
    [
        ([], "there is no phrase"),
        (["a dog", ""], "the phrase is empty"),
        (["   "], "the phrase is empty"),
        (["a" * 2000], "the phrase has 2,000 characters, at most 400 are read"),
        (["dog</phrase><object>"], "begins a tag"),
        (["<patch_index_0001>"], "begins a tag"),
        (["bad \udcff"], "no valid Unicode"),
        ("dog", "phrases are a list"),
    ],
)
def test_bad_phrases(pipeline, photo, phrases, message):
    with pytest.raises(InputError, match=message):
        pipeline.locate(photo, phrases)


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ((10, 10, 10, 40), "has no area"),
        ((40, 10, 20, 40), "has no area"),
        ((-5, 0, 20, 40), "reaches outside the picture, which is 0,0,160,90"),
        ((100, 50, 161, 80), "reaches outside"),
        ((1000, 1000, 1100, 1100), "reaches outside"),
        ((0, 0, math.inf, 5), "four numbers"),
        ((0, 0, math.nan, 5), "four numbers"),
        ((0, 0, 5), "four numbers"),
    ],
)
def test_bad_boxes(pipeline, photo, box, message):
    with pytest.raises(InputError, match=message):
        pipeline.describe(photo, box)
    with pytest.raises(InputError):
        pipeline.describe(photo, (0, 0, 1.5, 1), frame="norm")
    with pytest.raises(InputError, match="unknown frame"):
        pipeline.describe(photo, (0, 0, 1, 1), frame="percent")


@pytest.mark.parametrize(
    ("tagged", "message"),
    [
        ("", "the prompt is empty"),
        ("x" * 5000, "at most 4,000"),
        ("<grounding><phrase> a dog", "not closed"),
        ("<grounding><phrase>a</phrase><object><patch_index_0001>", "cannot be continued"),
        ("<grounding>a</object>", "without <object>"),
        (
            "<grounding><phrase>a</phrase><object><patch_index_0001><patch_index_9999></object>",
            "outside the grid",
        ),
        ("two <image></image> pictures", "pictures"),
        ("<grounding>" + "a snowman by a fire. " * 60, "too many"),
    ],
)
def test_bad_prompts(pipeline, photo, tagged, message):
    with pytest.raises(InputError, match=message):
        pipeline.prompt(photo, tagged)


def test_bad_questions_and_pictures(pipeline, photo, tmp_path):
    for question in ("", " ", "x" * 3000, "what is <object>?"):
        with pytest.raises(InputError):
            pipeline.ask(photo, question)
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n....")
    with pytest.raises(InputError):
        pipeline.caption(tmp_path / "bad.png")
    pipeline.locate(Image.new("RGB", (1, 1)), ["grass"])  # one pixel is a picture


def test_bad_models(tmp_path, folder):
    with pytest.raises(ModelNotFoundError):
        GroundingPipeline.from_pretrained("bundled:no-such-model")
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(CheckpointError, match="model_type is 'bert'; there are: kosmos-2"):
        GroundingPipeline.from_pretrained(str(other))
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in folder.iterdir():
        data = file.read_bytes()
        (broken / file.name).write_bytes(data[:200] if file.suffix == ".safetensors" else data)
    with pytest.raises(CheckpointError):
        GroundingPipeline.from_pretrained(str(broken))


def test_places_that_the_length_limit_cut_are_closed(pipeline):
    tokens = pipeline.generator.tokens
    cell, comma = tokens.first_location, tokens.delimiter
    whole = [tokens.object, cell, cell + 1, comma, cell, cell + 2]
    assert close_truncated_boxes([*whole, tokens.object_end], tokens) == [*whole, tokens.object_end]
    for cut in (3, 4, 5):
        assert close_truncated_boxes(whole[:cut], tokens) == [*whole[:3], tokens.object_end]
    assert close_truncated_boxes(whole, tokens) == [*whole, tokens.object_end]
    word = tokens.first_text
    assert close_truncated_boxes([word, *whole], tokens) == [word, *whole, tokens.object_end]
    assert close_truncated_boxes([word, tokens.object, cell], tokens) == [word]
    assert close_truncated_boxes([word, word], tokens) == [word, word]


def test_boxes_that_repeat_end_the_answer(pipeline, photo, monkeypatch):
    """A model that gives the same box for ever is stopped, and its box is given once."""
    tokens = pipeline.generator.tokens
    said = [tokens.object, *([tokens.first_location, tokens.first_location + 5, tokens.delimiter] * 20)]
    steps = iter(said[1:])

    def logits(token: int) -> torch.Tensor:
        return torch.nn.functional.one_hot(torch.tensor([[token]]), tokens.vocab_size).float() * 50

    extend = pipeline.generator.extend
    monkeypatch.setattr(
        pipeline.generator,
        "extend",
        lambda *rest, **more: replace(extend(*rest, **more), logits_BV=logits(said[0])[:, 0]),
    )
    monkeypatch.setattr(pipeline.generator.model, "forward", lambda *rest, **more: logits(next(steps)))
    monkeypatch.setattr(pipeline_module.presence, "verification_scores", lambda *rest: [0.5])
    result = pipeline.locate(photo, ["grass"])
    (entity,) = result.entities
    assert [box.cells for box in entity.boxes] == [(0, 5)]
    assert len(list(steps)) > 40
