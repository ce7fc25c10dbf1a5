"""Fine-tuning: targets laid out as in the published training, strict rows, and a run that learns its few captions."""

from __future__ import annotations

import importlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from multiway_core.errors import DataError, InputError
from multiway_core.training import TrainOptions, run
from multiway_vision_language.auto_model import load_pretrained
from multiway_vision_language.datasets.samples import GroundingSample, TruePhrase
from multiway_vision_language.kosmos2 import checkpoint, recipe
from multiway_vision_language.kosmos2.generation import Decoding, Kosmos2Generator
from multiway_vision_language.kosmos2.model import Kosmos2
from multiway_vision_language.kosmos2.processor import Kosmos2Processor
from multiway_vision_language.kosmos2.targets import read_captions, target_tokens
from PIL import Image, ImageDraw

tiny = importlib.import_module("packages.vision-language.tests.tiny_kosmos2")


@pytest.fixture(scope="module")
def processor(tmp_path_factory) -> Kosmos2Processor:
    pieces = tiny.train_vocabulary(tmp_path_factory.mktemp("pieces"))
    return Kosmos2Processor(tiny.tiny_config(pieces), pieces)


def sample(caption: str, *phrases: tuple[str, list[tuple[float, ...]]]) -> GroundingSample:
    marked = tuple(
        TruePhrase(text, (caption.index(text), caption.index(text) + len(text)), tuple(boxes))
        for text, boxes in phrases
    )
    return GroundingSample("row 1", Path("a.png"), 200, 100, caption, marked)


BOX = (20.0, 30.0, 90.0, 100.0)  # of a picture of 200 x 100 pixels: cells 4 and 13 of the 4 x 4 grid


def test_tags_stand_between_the_tokens_of_the_whole_caption(processor) -> None:
    tokens = processor.tokens
    target = target_tokens(processor, sample("An image of a fire.", ("a fire", [BOX])))
    head = processor.prompt("<grounding>")
    assert target[: len(head)] == head
    assert target[-1] == tokens.eos
    written = target[len(head) : -1]
    tags = set(range(tokens.document_end, tokens.vocab_size))
    assert [token for token in written if token not in tags] == processor.encode("An image of a fire.")
    inside = written[written.index(tokens.phrase) + 1 : written.index(tokens.phrase_end)]
    assert inside == processor.encode("a fire")
    first = tokens.first_location
    box = written[written.index(tokens.object) : written.index(tokens.object_end) + 1]
    assert box == [tokens.object, first + 4, first + 13, tokens.object_end]
    # What training writes reads back as the sample.
    parsed = processor.parse(target)
    assert parsed.text == "An image of a fire."
    assert [(e.phrase, e.span, e.cells) for e in parsed.entities] == [("a fire", (12, 18), ((4, 13),))]


def test_a_full_stop_behind_a_tag_is_one_token_in_training_and_two_in_a_prompt(processor) -> None:
    target = target_tokens(processor, sample("a fire.", ("a fire", [BOX])))
    behind = target[target.index(processor.tokens.object_end) + 1 : -1]
    assert len(behind) == 1
    assert processor.encode("</object>.")[1:] != behind
    assert len(processor.encode("</object>.")[1:]) == 2


def test_several_boxes_and_phrases_in_any_order(processor) -> None:
    both = sample("two puppies by a fire", ("a fire", [BOX]), ("two puppies", [BOX, (0, 0, 50, 25)]))
    parsed = processor.parse(target_tokens(processor, both))
    assert [(e.phrase, e.cells) for e in parsed.entities] == [
        ("two puppies", ((4, 13), (0, 0))),
        ("a fire", ((4, 13),)),
    ]
    assert not parsed.problems


def test_edge_rule_of_the_published_training(processor) -> None:
    aligned = sample("a fire", ("a fire", [(0.0, 0.0, 50.0, 25.0)]))
    first = processor.tokens.first_location
    assert target_tokens(processor, aligned)[-3] == first
    assert target_tokens(processor, aligned, edge="legacy")[-3] == first + 5


def test_plain_captions_have_no_grounding(processor) -> None:
    plain = target_tokens(processor, sample("a fire"))
    assert plain == [*processor.prompt("a fire"), processor.tokens.eos]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (sample("a fire by a sea", ("a fire by", [BOX]), ("by a sea", [BOX])), "overlap"),
        (sample("a fire", ("a fire", [(250.0, 0.0, 300.0, 50.0)])), "outside the picture"),
        (sample("a fire", ("a fire", [(5.0, 0.0, 5.0, 50.0)])), "no area"),
        (sample("fire", ("f", [BOX]), ("i", [BOX])), "no token of its own"),
    ],
)  # fmt: skip
def test_targets_that_cannot_be_written_are_refused(processor, bad: GroundingSample, message: str) -> None:
    with pytest.raises(DataError, match=message):
        target_tokens(processor, bad)


def write_rows(folder: Path, rows: list) -> Path:
    path = folder / "captions.jsonl"
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return path


def good_row(**changes) -> dict:
    phrases = [{"span": [0, 6], "boxes": [[1, 2, 30, 40]]}]
    return {"image": "a.png", "caption": "a fire", "phrases": phrases} | changes


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{", "captions.jsonl:1: not JSON"),
        ([1], "expected an object"),
        ({"image": "a.png"}, "missing key 'caption'"),
        (good_row(image="none.png"), "no such file"),
        (good_row(caption=" "), "caption: empty"),
        (good_row(phrases=[{"span": [0, 99], "boxes": [[1, 2, 3, 4]]}]), "within the 6 characters"),
        (good_row(phrases=[{"span": [0, 1.5], "boxes": [[1, 2, 3, 4]]}]), "within the 6 characters"),
        (good_row(phrases=[{"span": [0, 1], "boxes": []}]), "boxes: empty"),
        (good_row(phrases=[{"span": [0, 1], "boxes": [[1, 2, 3]]}]), "expected .left, top, right, bottom"),
        (good_row(phrases=[{"span": [0, 1], "boxes": [[9, 2, 3, 4]]}]), "left < right"),
        ("", "no rows"),
    ],
)
def test_bad_rows_are_refused(tmp_path, row, message: str) -> None:
    Image.new("RGB", (40, 50)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=message):
        read_captions(write_rows(tmp_path, [row]))


def test_rows_are_read_with_the_size_of_their_picture(tmp_path) -> None:
    Image.new("RGB", (40, 50)).save(tmp_path / "a.png")
    (read,) = read_captions(write_rows(tmp_path, [good_row(), ""]))
    assert (read.width, read.height, read.phrases[0].text) == (40, 50, "a fire")


# Colour, side and word: which caption and which box belong together can only be known from the picture.
SCENES = (("red", 0, "bus"), ("blue", 1, "bus"), ("lime", 0, "dog"), ("black", 1, "dog"))


def make_scenes(folder: Path) -> Path:
    rows = []
    for index, (colour, side, word) in enumerate(SCENES):
        image = Image.new("RGB", (64, 64), "white")
        box = [4 + 32 * side, 20, 28 + 32 * side, 60]
        ImageDraw.Draw(image).rectangle(box, fill=colour)
        image.save(folder / f"{index}.png")
        caption = f"An image of a {word}."
        start = caption.index(f"a {word}")
        phrase = {"span": [start, start + len(word) + 2], "boxes": [box]}
        rows.append({"image": f"{index}.png", "caption": caption, "phrases": [phrase]})
    return write_rows(folder, rows)


@pytest.fixture
def start(processor, tmp_path) -> Path:
    torch.manual_seed(0)
    model = Kosmos2(processor.config)
    with torch.no_grad():
        model.text.embedding.weight.mul_(processor.config.text.hidden_size**-0.5)
        # As from a trained tower: patches outweigh their positions, and image rows are as large as tokens.
        model.vision.positions.weight.mul_(0.1)
        model.vision.patch_embedding.weight.mul_(3)
        model.resampler.latents.mul_(0.02)
        torch.nn.init.orthogonal_(
            model.resampler.projection.weight, gain=processor.config.text.hidden_size**0.5
        )
    folder = tmp_path / "start"
    checkpoint.save(model, folder)
    processor.tokenizer.engine.save(folder)
    return folder


def train(output: Path, data: Path, start: Path, fine_tuning: recipe.FineTuning) -> Path:
    return run(fine_tuning, TrainOptions(output, data=(str(data),), init_from=str(start))).folder


def test_a_run_learns_four_captions_with_their_boxes(processor, start, tmp_path) -> None:
    data = make_scenes(tmp_path)
    fine_tuning = recipe.FineTuning(epochs=90, learning_rate=5e-3, batch_size=4)
    folder = train(tmp_path / "run", data, start, fine_tuning)
    model, again = checkpoint.load_pretrained(str(folder))
    generator = Kosmos2Generator(model, again)
    images = [Image.open(tmp_path / f"{index}.png") for index in range(4)]
    with torch.inference_mode():
        features = model.encode_images(again.pixels(images))
    prefix = generator.prefill([again.prompt("<grounding>")] * 4, features, room=40)
    written = generator.generate(prefix, Decoding(max_new_tokens=40, grammar=True))
    for row, sample_ in zip(written, read_captions(data), strict=True):
        parsed = again.parse(row.ids)
        assert parsed.text == sample_.caption
        (entity,) = parsed.entities
        assert entity.phrase == sample_.phrases[0].text
        left, top, right, bottom = sample_.phrases[0].boxes[0]
        assert entity.cells == (again.grid.encode((left / 64, top / 64, right / 64, bottom / 64)),)
        assert row.stop_reason == "eos"


def test_another_data_file_in_the_same_run_is_refused(processor, start, tmp_path) -> None:
    data = make_scenes(tmp_path)
    output = tmp_path / "run"
    train(output, data, start, recipe.FineTuning(epochs=1, batch_size=4))
    data.write_text(data.read_text().replace("An image", "The image"))
    with pytest.raises(InputError, match="not what the run"):
        train(output, data, start, recipe.FineTuning(epochs=1, batch_size=4))


def test_a_caption_longer_than_the_model_is_refused(processor, tmp_path) -> None:
    short = replace(processor.config, text=replace(processor.config.text, max_positions=16))
    with pytest.raises(DataError, match="the model has room for 16"):
        recipe.CaptionBatches(
            [sample("a fire by a field of grass")],
            Kosmos2Processor(short, processor.tokenizer),
            batch_size=1,
            seed=0,
        )


def test_batches_are_a_function_of_the_step(processor, tmp_path) -> None:
    samples = read_captions(make_scenes(tmp_path))
    one, two = (recipe.CaptionBatches(samples, processor, batch_size=3, seed=1) for _ in range(2))
    for step in (0, 5, 2):
        assert torch.equal(one(step, 0, 2).pixels_BCHW, two(step, 0, 2).pixels_BCHW)
    epoch = np.concatenate([one(0, shard, 4).tokens.tokens_BT.shape[:1] for shard in range(4)])
    assert epoch.sum() == 12


def test_frozen_tower_stays(processor, start, tmp_path) -> None:
    data = make_scenes(tmp_path)
    frozen = recipe.FineTuning(epochs=3, batch_size=4, freeze_vision=True, learning_rate=1e-2)
    folder = train(tmp_path / "run", data, start, frozen)
    before, after = checkpoint.load(start), checkpoint.load(folder)
    same = {
        name: torch.equal(a, dict(after.named_parameters())[name]) for name, a in before.named_parameters()
    }
    assert all(equal for name, equal in same.items() if name.startswith("vision."))
    assert not all(same.values())


def test_captions_are_held_out_where_there_are_twenty(processor, start, tmp_path) -> None:
    rows = make_scenes(tmp_path).read_text().splitlines()
    data = write_rows(tmp_path, (rows * 5)[:20])
    report = run(
        recipe.FineTuning(epochs=2, batch_size=4, learning_rate=5e-3),
        TrainOptions(tmp_path / "run", data=(str(data),), init_from=str(start)),
    )
    assert report.facts == {"captions": 19, "held_out_captions": 1}
    assert report.held_out["loss"] < report.held_out_before["loss"]


def test_the_bundled_model_is_fine_tuned(tmp_path) -> None:
    data = make_scenes(tmp_path)
    name = "bundled:grounding-small"
    report = run(
        recipe.FineTuning(epochs=8, batch_size=4, learning_rate=1e-3),
        TrainOptions(tmp_path / "run", data=(str(data),), init_from=name),
    )
    before, processor = load_pretrained(name)
    after, again = load_pretrained(str(report.folder))
    batch = recipe.CaptionBatches(read_captions(data), processor, batch_size=4, seed=0)(0, 0, 1)
    with torch.no_grad():
        old, new = (recipe.caption_objective(model, batch).total for model in (before, after))
    assert new < 0.8 * old
    assert again.encode("a red bus") == processor.encode("a red bus")
    same = {
        name: torch.equal(tensor, after.state_dict()[name]) for name, tensor in before.state_dict().items()
    }
    assert all(equal for name, equal in same.items() if name.startswith("centernet."))
    assert not all(same.values())
