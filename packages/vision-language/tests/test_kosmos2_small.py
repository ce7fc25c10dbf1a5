"""The small grounding network: backbones, cells, pointer, training, and the bundled model on scenes it has not seen."""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from multiway_core.errors import CheckpointError, InputError
from multiway_core.tokenization import TextTokenizer
from multiway_core.training import TrainOptions, run
from multiway_vision_language.kosmos2.config import TextConfig, TokenConfig
from multiway_vision_language.kosmos2_small import recipe
from multiway_vision_language.kosmos2_small.backbones import CenterNet, Convolution, EfficientNetLite0
from multiway_vision_language.kosmos2_small.batches import GroundingBatch, pack
from multiway_vision_language.kosmos2_small.checkpoint import load_pretrained, save
from multiway_vision_language.kosmos2_small.config import CellConfig, SmallConfig
from multiway_vision_language.kosmos2_small.feature_cache import (
    extract_features,
    read_features,
    write_features,
)
from multiway_vision_language.kosmos2_small.model import Kosmos2Small, spread, surest_boxes
from multiway_vision_language.kosmos2_small.objective import (
    Training,
    middle_cells,
    near_cells,
    training_loss,
    word_losses,
)
from multiway_vision_language.kosmos2_small.processor import SmallProcessor
from multiway_vision_language.kosmos2_small.published_backbones import load_centernet, load_efficientnet_lite0
from multiway_vision_language.kosmos2_small.vocabulary import train_vocabulary
from multiway_vision_language.metrics.boxes import box_iou
from multiway_vision_language.pipeline import GroundingPipeline
from multiway_vision_language.scenes.compose import Material, compose
from multiway_vision_language.scenes.folder import open_scenes
from multiway_vision_language.scenes.scene import Scene
from multiway_vision_language.scenes.tasks import Task, boxes_text
from torch import nn

TOKENS = TokenConfig(num_text_tokens=300)
CONFIG = SmallConfig(
    cells=CellConfig(hidden_size=32, key_size=16),
    text=TextConfig(
        hidden_size=64, num_layers=2, num_heads=4, inner_size=96, vocab_size=TOKENS.vocab_size,
        max_positions=256, dropout=0.0,
    ),
    tokens=TOKENS,
)  # fmt: skip


@pytest.fixture(scope="module")
def pieces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pieces")
    captions = folder / "captions.json"
    captions.write_text(
        '{"1": ["a red ball beside a very old yellow coin", "the quick brown fox jumps over a dog"]}'
    )
    path = folder / "sentencepiece.bpe.model"
    train_vocabulary(
        captions,
        ["ball", "coin", "zebra", "kiwi", "wolf", "juice", "quilt"],
        replace(TOKENS, num_text_tokens=60),
        path,
    )
    return path


@pytest.fixture(scope="module")
def model() -> Kosmos2Small:
    torch.manual_seed(0)
    made = Kosmos2Small(CONFIG)
    nn.init.normal_(made.text.embedding.weight, std=0.125)
    return made.eval()


@pytest.fixture(scope="module")
def processor(pieces: Path) -> SmallProcessor:
    return SmallProcessor(CONFIG, TextTokenizer.from_folder(pieces))


def scenes(count: int) -> list[Scene]:
    ball = np.full((50, 50, 4), 255, np.uint8)
    coin = np.dstack([np.full((40, 60, 3), (250, 200, 0), np.uint8), np.full((40, 60), 255, np.uint8)])
    material = Material({"ball": [ball], "coin": [coin]})
    rng = random.Random(1)
    return [compose(material, rng, "cutouts") for _ in range(count)]


def test_convolutions_pad_as_tensorflow_does() -> None:
    convolution = Convolution(1, 1, 3, stride=2, bias=False)
    nn.init.ones_(convolution.weight)
    # "SAME" at stride 2 on an even side pads at the end only: the first window starts at the first pixel.
    sums = convolution(torch.arange(16.0).view(1, 1, 4, 4))
    assert sums.flatten().tolist() == [45.0, 39.0, 66.0, 50.0]


def test_surest_boxes_against_a_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    scores, sides = (
        torch.randn(2, 5, 8, 8, generator=generator),
        8 * torch.rand(2, 4, 8, 8, generator=generator),
    )
    boxes = surest_boxes(scores, sides)
    for row in range(2):
        for y in range(4):
            for x in range(4):
                cells = [(2 * y + dy, 2 * x + dx) for dy in (0, 1) for dx in (0, 1)]
                best_y, best_x = max(cells, key=lambda cell: scores[row, :, cell[0], cell[1]].max())
                left, top, right, bottom = sides[row, :, best_y, best_x].tolist()
                corners = (4 * best_x - left, 4 * best_y - top, 4 * best_x + right, 4 * best_y + bottom)
                expected = torch.tensor(corners).div(8).clamp(0, 4)
                torch.testing.assert_close(boxes[row, :, y, x], expected)


def test_locations_are_a_distribution(model: Kosmos2Small) -> None:
    pixels = 255 * torch.rand(1, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    images = model.encode_images(pixels)
    assert images.embeddings_BQE.shape == (1, 64, 64)
    assert images.cells_BNF is not None
    keys, boxes = images.cells_BNF.split([16, 4], dim=-1)
    states = torch.randn(1, 3, 64, generator=torch.Generator().manual_seed(1))
    corners = model.pointer.corners(boxes)
    scores = model.pointer.scores(states, model.pointer.keys(keys, corners))
    locations = model.pointer.log_locations(states, scores, corners).exp()
    torch.testing.assert_close(locations.sum(-1), torch.ones(1, 3), atol=1e-3, rtol=0)
    logits = model.logits(states, images)
    assert logits.shape == (1, 3, TOKENS.vocab_size)
    # The location logits share the mass that the first location's embedding asks for.
    due = model.text.logits(states)[..., TOKENS.first_location]
    torch.testing.assert_close(logits[..., TOKENS.first_location :].logsumexp(-1), due, atol=1e-3, rtol=0)


def test_spread_puts_a_point_into_its_cell() -> None:
    weights = spread(torch.tensor([[0.2, 7.9, 4.0]]), 8)[0]
    torch.testing.assert_close(weights.sum(-1), torch.ones(3))
    assert weights[0].argmax() == 0
    assert weights[1].argmax() == 7
    torch.testing.assert_close(weights[2, 3], weights[2, 4])


def test_cells_in_the_middle() -> None:
    cells = middle_cells((0.25, 0.5, 0.75, 1.0), 8).view(8, 8)
    assert cells.nonzero().tolist() == [[y, x] for y in (5, 6) for x in (3, 4)]
    assert middle_cells((0.30, 0.30, 0.31, 0.31), 8).sum() == 1
    near = near_cells(torch.tensor([9]), 8)[0]
    assert near.argmax() == 9
    torch.testing.assert_close(near.sum(), torch.tensor(1.0))


def test_generalized_iou_against_hand() -> None:
    from torchvision import ops

    boxes = torch.tensor([[0.0, 0, 2, 2], [0, 0, 1, 1], [0, 0, 2, 2]])
    others = torch.tensor([[0.0, 0, 2, 2], [2, 0, 3, 1], [1, 1, 3, 3]])
    expected = torch.tensor([1.0, -1 / 3, 1 / 7 - 2 / 9])
    torch.testing.assert_close(1 - ops.generalized_box_iou_loss(boxes, others), expected, atol=1e-5, rtol=0)


def test_a_task_among_others_is_what_it_is_alone(model: Kosmos2Small, processor: SmallProcessor) -> None:
    tasks = [
        Task("<grounding><phrase>the ball</phrase>", boxes_text([(0.1, 0.2, 0.4, 0.6)])),
        Task("An image of", " a coin</s>"),
        Task("<grounding><phrase>a wolf</phrase>", "</s>"),
    ]
    together = pack(processor, [tasks], 100)
    alone = [pack(processor, [[task]], 100) for task in tasks]
    slots = torch.randn(1, 64, 64, generator=torch.Generator().manual_seed(2))

    def states(packed):  # type: ignore[no-untyped-def]
        with torch.no_grad():
            return model.text.hidden(
                packed.tokens_BT, packed.valid_BT, image_embeddings_BQE=slots,
                image_slots_BT=packed.image_slots_BT, branches_BT=packed.branches_BT,
            )[0]  # fmt: skip

    whole = states(together)
    for number, single in enumerate(alone, start=1):
        mine = whole[together.branches_BT[0] == number]
        torch.testing.assert_close(mine, states(single)[67:], atol=1e-5, rtol=1e-4)
    assert (together.targets_BT >= 0).sum() == sum((single.targets_BT >= 0).sum() for single in alone)


def test_looks_round_trip(model: Kosmos2Small, tmp_path: Path) -> None:
    cached = extract_features(model, scenes(3))
    write_features(cached, tmp_path / "cached.safetensors")
    again = read_features(tmp_path / "cached.safetensors")
    assert all(torch.equal(one, other) for one, other in zip(cached.backbones, again.backbones, strict=True))
    assert [scene.things for scene in again.scenes] == [scene.things for scene in cached.scenes]


def test_it_learns_a_batch(processor: SmallProcessor) -> None:
    torch.manual_seed(0)
    training = Training(Kosmos2Small(CONFIG), ["ball", "coin"])
    nn.init.normal_(training.model.text.embedding.weight, std=0.125)
    nn.init.normal_(training.model.slot.weight, std=0.02)
    bias = training.model.centernet.class_scores.bias
    assert bias is not None
    nn.init.constant_(bias, -10.0)  # an untrained tower is sure of nothing
    made = scenes(3)
    cached = extract_features(training.model, made).rows(slice(0, 3))
    tasks = [
        [
            Task(f"<grounding><phrase>the {thing.name}</phrase>", boxes_text([thing.box]))
            for thing in scene.things[:2]
        ]
        + [Task("<grounding><phrase>the wolf</phrase>", "</s>")]
        for scene in made
    ]
    batch = GroundingBatch(cached, pack(processor, tasks, 120))
    parameters = [
        own
        for name, own in training.named_parameters()
        if "efficientnet.b" not in name and "centernet" not in name
    ]
    optimizer = torch.optim.AdamW(parameters, lr=3e-3)
    losses = []
    for _ in range(40):
        loss = training_loss(training, batch)
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
        losses.append({name: float(value.detach()) for name, value in loss.metrics.items()})
    # The backbones are untrained, so only what does not need to see is learnt well: the boxes' sizes, the words.
    assert losses[-1]["box"] < 0.75 * losses[0]["box"]
    assert losses[-1]["presence"] < 0.5 * losses[0]["presence"]
    # Only cells: no words, no pointing.
    assert set(training_loss(training, GroundingBatch(cached, None)).metrics) == {"box", "name", "background"}


def test_phrases_that_are_absent_have_no_cells(model: Kosmos2Small, processor: SmallProcessor) -> None:
    features, keys, boxes = model.encode(extract_features(model, scenes(1)).rows(slice(0, 1)).backbones)
    packed = pack(processor, [[Task("<grounding><phrase>the wolf</phrase>", "</s>")]], 60)
    losses = word_losses(model, keys, boxes, features.embeddings_BQE, packed)
    assert losses["phrase_pointing"] == 0
    assert losses["presence"] > 0


def test_too_few_words_for_the_pieces_are_told(tmp_path: Path) -> None:
    (tmp_path / "captions.json").write_text('{"1": ["a ball"]}')
    with pytest.raises(InputError, match="too few"):
        train_vocabulary(tmp_path / "captions.json", ["ball"], TOKENS, tmp_path / "pieces")


def test_model_folder_round_trip(model: Kosmos2Small, pieces: Path, tmp_path: Path) -> None:
    save(model, pieces, tmp_path / "model", dtype=torch.float32)
    loaded, _ = load_pretrained(str(tmp_path / "model"))
    assert loaded.config == CONFIG
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name


def test_teachers_of_another_kind_are_told(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="not EfficientNet-lite0"):
        load_efficientnet_lite0(tmp_path / "other.pth")
    (tmp_path / "graph.json").write_text('{"weightsManifest": []}')
    with pytest.raises(CheckpointError, match="not the CenterNet"):
        load_centernet(tmp_path / "graph.json")
    (tmp_path / "graph.json").write_text("[]")
    with pytest.raises(CheckpointError, match=r"not a TensorFlow\.js graph"):
        load_centernet(tmp_path / "graph.json")


def test_the_bundled_model_finds_what_it_has_not_seen() -> None:
    pipeline = GroundingPipeline.from_pretrained("bundled:grounding-small")
    folder = Path(__file__).parents[1] / "src/multiway_vision_language/pretrained/grounding-small/held_out"
    opened = open_scenes(folder)
    hits, there, missing = [], [], []
    for scene in list(opened.scenes(opened.sets[0]))[:12]:
        single = [things[0] for things in scene.by_name().values() if len(things) == 1]
        absent = [name for name in ("zebra", "piano", "train") if name not in scene.by_name()]
        found = pipeline.locate(
            scene.picture,
            [f"the {thing.name}" for thing in single] + [f"the {name}" for name in absent],
            threshold=0.0,
        )
        for thing, entity in zip(single, found.entities, strict=False):
            there.append(entity.present)
            hits.append(box_iou([side / 256 for side in entity.boxes[0].xyxy], thing.box) >= 0.5)
        missing += [entity.present for entity in found.entities[len(single) :]]
    assert np.mean(hits) >= 0.5
    assert np.mean(there) > np.mean(missing) + 0.25


def test_pretraining_runs_its_stages_and_scores_held_out_scenes(
    monkeypatch, pieces: Path, tmp_path: Path
) -> None:
    assets = tmp_path / "assets"
    (assets / "photos" / "coco").mkdir(parents=True)
    words = "a red ball beside a very old yellow coin, a wolf drinks juice on a quilt with a kiwi and a zebra"
    (assets / "photos" / "coco" / "captions.json").write_text(json.dumps({"1": [words]}))
    (assets / "photos" / "coco" / "classes.txt").write_text(
        "\n".join(["ball", "coin", *(f"class {index}" for index in range(78))])
    )
    ball = np.full((50, 50, 4), 255, np.uint8)
    monkeypatch.setattr(
        recipe, "training_cutouts", lambda folder: ({"ball": [ball], "coin": [ball]}, {"ball": [ball]})
    )
    monkeypatch.setattr(recipe, "coco_photos", lambda folder: [])
    monkeypatch.setattr(recipe, "imagenet_photos", lambda folder, detector: [])
    monkeypatch.setattr(recipe, "background_pictures", lambda folder: [])
    monkeypatch.setattr(recipe, "load_efficientnet_lite0", lambda path: EfficientNetLite0())
    monkeypatch.setattr(recipe, "load_centernet", lambda path: CenterNet())
    monkeypatch.setattr(recipe, "object_names", lambda: ["ball", "coin"])
    monkeypatch.setattr(recipe, "SCENES_PER_FILE", 4)
    monkeypatch.setattr(recipe, "HELD_OUT_SCENES", 2)
    monkeypatch.setattr(recipe, "train_vocabulary", lambda *rest: shutil.copyfile(pieces, rest[-1]))
    smoke = recipe.RECIPES["grounding-small-smoke"]
    own = replace(smoke, model=CONFIG, scenes=8, batch_size=2)
    report = run(own, TrainOptions(tmp_path / "run", data=(str(assets),)))
    assert report.finished
    assert {"loss", "box", "presence"} <= set(report.held_out)
    assert len(list((tmp_path / "run" / "features").glob("*"))) == 2
    assert load_pretrained(str(tmp_path / "run" / "detector"))[0].config == CONFIG
    first, _ = load_pretrained(str(report.folder))
    # It begins again with the trained weights, and keeps their vocabulary.
    again = run(
        own, TrainOptions(tmp_path / "again", data=(str(assets),), init_from=str(report.folder), steps=1)
    )
    second, _ = load_pretrained(str(again.folder))
    distance = (second.slot.weight - first.slot.weight).norm() / first.slot.weight.norm()
    assert 0 < distance < 0.2
    with pytest.raises(InputError, match="--data DIR"):
        run(own, TrainOptions(tmp_path / "none"))
