"""Training the small grounding network from backbones with published weights, in two stages.

1. A SentencePiece vocabulary from captions and from phrases of the objects' names.
2. Generated scenes, and the features that the frozen backbones give for them (the feature cache).
3. Stage "cells": location cells learn names and boxes, without text.
4. Stage "words": everything learns together: single objects first, then groups and captions, then relations and
   questions.

`options.data` is the folder that `scenes/assets.py` describes. The exported model is that of the last stage that ran;
`detector` in the run's folder is what the first gave.
"""

from __future__ import annotations

import functools
import itertools
import json
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import torch
from multiway_core import files, hub
from multiway_core.errors import InputError
from multiway_core.tokenization import TextTokenizer
from multiway_core.training import HeldOut, TrainConfig, TrainJob, TrainOptions
from PIL import Image
from torch import nn

from multiway_vision_language.kosmos2.checkpoint import TOKENIZER_FILE
from multiway_vision_language.kosmos2.recipe import FineTuning
from multiway_vision_language.kosmos2_small.batches import GroundingBatches
from multiway_vision_language.kosmos2_small.checkpoint import load_pretrained, save
from multiway_vision_language.kosmos2_small.config import GROUNDING_SMALL, SmallConfig
from multiway_vision_language.kosmos2_small.detector import save_names
from multiway_vision_language.kosmos2_small.feature_cache import extract_features, write_features
from multiway_vision_language.kosmos2_small.model import Kosmos2Small
from multiway_vision_language.kosmos2_small.objective import Training, training_loss
from multiway_vision_language.kosmos2_small.processor import SmallProcessor
from multiway_vision_language.kosmos2_small.published_backbones import (
    CenterNetDetector,
    load_centernet,
    load_efficientnet_lite0,
)
from multiway_vision_language.kosmos2_small.vocabulary import train_vocabulary, unknown_nouns
from multiway_vision_language.scenes.assets import training_cutouts
from multiway_vision_language.scenes.compose import Material, compose
from multiway_vision_language.scenes.folder import open_scenes
from multiway_vision_language.scenes.object_names import object_names
from multiway_vision_language.scenes.photo_assets import (
    background_pictures,
    class_names,
    coco_photos,
    imagenet_photos,
)
from multiway_vision_language.scenes.phrases import plain_expressions

BUNDLED_MODEL = "bundled:grounding-small"
SCENES_PER_FILE, HELD_OUT_SCENES = 64, 32
FEATURES, HELD_OUT_FEATURES = "features", "held_out_features"
CLASS_KEY_LENGTH = 6.0
"""Of what CenterNet's classes add to the key of a cell, when training begins."""


@dataclass(frozen=True)
class Pretraining:
    """The numbers of a run.

    Attributes:
        scenes: how many are generated.
        cells, words: of the stages without and with text.
        batch_size: pictures of a shard.
    """

    model: SmallConfig
    scenes: int
    cells: TrainConfig
    words: TrainConfig
    batch_size: int = 16

    def build(self, options: TrainOptions) -> Iterator[TrainJob]:
        """The two stages; what is prepared in ``options.output`` already is taken as it is.

        ``options.init_from``: a model folder of this network whose weights replace the first ones; its vocabulary is
        kept. Raises InputError or CheckpointError for pictures or weights that are not as described.
        """
        assets = _assets(options)
        classes = class_names(assets)
        names = sorted({*object_names(), *classes})
        captions = assets / "photos" / "coco" / "captions.json"
        vocabulary = options.output / TOKENIZER_FILE
        if options.init_from is None:
            model = new_model(assets, self.model, options.seed)
            if not vocabulary.exists():
                train_vocabulary(captions, names, self.model.tokens, vocabulary)
        else:
            model, processor = load_pretrained(options.init_from)
            processor.tokenizer.engine.save(options.output)
            prepare(model)
        processor = SmallProcessor(model.config, TextTokenizer.from_folder(vocabulary))
        cache_features(assets, model, classes, options.output, self.scenes, options.seed)
        training = Training(model, names)
        if options.init_from is None:
            initialize_class_keys(training, classes)

        def export(trained: Any, folder: Path) -> None:
            save(trained.model, vocabulary, folder)

        for stage, config, with_text in (("cells", self.cells, False), ("words", self.words, True)):
            config = options.apply(config)
            batches = functools.partial(
                GroundingBatches,
                processor=processor,
                names=names,
                photo_names=classes,
                unknown_nouns=unknown_nouns(captions, names),
                steps=config.steps,
                with_text=with_text,
            )
            yield TrainJob(
                training,
                training_loss,
                batches(options.output / FEATURES, batch_size=self.batch_size, seed=options.seed),
                config,
                export,
                held_out=_held_out(
                    batches(options.output / HELD_OUT_FEATURES, batch_size=HELD_OUT_SCENES, seed=0)
                ),
                name=stage,
            )
            if not with_text:
                save(model, vocabulary, options.output / "detector")
                save_names(training.names, options.output / "detector")


@dataclass(frozen=True)
class Smoke(FineTuning):
    """Half a minute of fine-tuning the bundled model on scenes that come with it: shows that every part works."""

    epochs: float = 2.0
    batch_size: int = 4

    def build(self, options: TrainOptions) -> TrainJob:
        """As :meth:`FineTuning.build`; captions are written to ``options.output/data`` where no data is given."""
        name = options.init_from or BUNDLED_MODEL
        data = options.data or (str(_bundled_captions(options.output / "data")),)
        return super().build(replace(options, init_from=name, data=data))


def _bundled_captions(folder: Path) -> Path:
    """Expressions of the bundled model's scenes as rows of captions with boxes."""
    path = folder / "captions.jsonl"
    if path.is_file():
        return path
    opened = open_scenes(hub.resolve(BUNDLED_MODEL) / "held_out")
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for index, scene in enumerate(itertools.islice(opened.scenes(opened.sets[0]), 12)):
        image = Image.fromarray(scene.picture)
        image.save(folder / f"{index}.png")
        for found in plain_expressions(scene, random.Random(index))[:2]:
            sides = image.width, image.height, image.width, image.height
            boxes = [[part * side for part, side in zip(box, sides, strict=True)] for box in found.boxes]
            phrase = {"span": [0, len(found.phrase)], "boxes": boxes}
            rows.append({"image": f"{index}.png", "caption": found.phrase, "phrases": [phrase]})
    files.write_text(path, "".join(json.dumps(row) + "\n" for row in rows))
    return path


def _assets(options: TrainOptions) -> Path:
    if len(options.data) != 1:
        raise InputError("pre-training needs --data DIR, the folder of pictures to train on")
    folder = Path(options.data[0])
    if not folder.is_dir():
        raise InputError(f"--data {folder}: no such folder")
    return folder


def _held_out(batches: GroundingBatches) -> HeldOut:
    """The losses on scenes made of cut-outs that are not trained on, with the tasks of the last step."""

    def score(training: nn.Module) -> dict[str, float]:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(0)  # the loss of the background takes a sample of cells
            loss = training_loss(training, batches(batches.steps - 1, 0, 1))
        return {"loss": float(loss.total), **{name: float(value) for name, value in loss.metrics.items()}}

    return HeldOut(score)


# EfficientNet-lite0's own filters change ten times more slowly than what is new.
_SLOW = {"model.efficientnet.": 0.13}
_CELLS = TrainConfig(
    steps=1300,
    learning_rate=1.5e-3,
    learning_rate_ratios=_SLOW,
    warmup_steps=100,
    schedule="linear",
    final_learning_rate_ratio=0.1,
    betas=(0.9, 0.98),
    weight_decay=0.02,
    clip_norm=2.0,
    ema_decay=0.99,
    checkpoint_every_seconds=240,
    keep_checkpoints=1,
)
_WORDS = replace(
    _CELLS,
    steps=2500,
    learning_rate=2e-3,
    learning_rate_ratios={
        "model.efficientnet.": 0.06,
        "model.cells.": 0.4,
        "model.key.": 0.4,
        "model.sides.": 0.4,
        "names.": 0.4,
    },
    optimizer="muon",
    final_learning_rate_ratio=0.02,
    ema_decay=0.998,
)

RECIPES: Final = {
    "fine-tune": FineTuning(),
    "grounding-small": Pretraining(GROUNDING_SMALL, 20_000, _CELLS, _WORDS),
    "grounding-small-smoke": Pretraining(
        GROUNDING_SMALL, 64, replace(_CELLS, steps=3), replace(_WORDS, steps=3, warmup_steps=1), batch_size=4
    ),
    "smoke": Smoke(),
}
"""The presets of `train`: `fine-tune` takes any model here and captions with boxes; `grounding-small` is the bundled
model's, and `grounding-small-smoke` shows within minutes that its parts work together; `smoke` needs no data."""


def new_model(assets: Path, config: SmallConfig, seed: int) -> Kosmos2Small:
    """The network with both backbones' published weights, the rest as training begins. Raises CheckpointError."""
    torch.manual_seed(seed)
    model = Kosmos2Small(config)
    weights = sorted((assets / "efficientnet-lite0").rglob("*.pth"))
    model.efficientnet = load_efficientnet_lite0(
        weights[0] if weights else assets / "efficientnet-lite0" / "efficientnet-lite0.pth"
    )
    model.centernet = load_centernet(assets / "human-models" / "models" / "centernet.json")
    width = config.text.hidden_size
    nn.init.normal_(model.text.embedding.weight, std=width**-0.5)
    nn.init.normal_(model.slot.weight, std=0.02)
    nn.init.normal_(model.sides.weight, std=0.005)
    with torch.no_grad():
        assert model.sides.bias is not None
        model.sides.bias.copy_(torch.tensor([1.2, 1.2, 1.2, 1.2, -1.5]))
    nn.init.zeros_(model.pointer.corner_keys.weight)
    return prepare(model)


def prepare(model: Kosmos2Small) -> Kosmos2Small:
    """Freeze the published weights, and lay out the others in the form in which convolutions train fastest."""
    model.freeze_backbones()
    model.efficientnet.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    model.cells.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model


def initialize_class_keys(training: Training, classes: Sequence[str]) -> None:
    """Let each class of CenterNet begin with the key of its name."""
    rows = nn.functional.normalize(training.names.rows.detach(), dim=-1)
    chosen = rows[[training.names.numbers[name] for name in classes]]
    with torch.no_grad():
        training.model.class_keys.weight.copy_((CLASS_KEY_LENGTH * chosen).T[:, :, None, None])


def cache_features(
    assets: Path, model: Kosmos2Small, classes: Sequence[str], output: Path, count: int, seed: int
) -> None:
    """Generate ``count`` scenes to train on and :data:`HELD_OUT_SCENES` of held-out cut-outs, with their features.

    Files of ``output`` that are there already stay; one holds 64 scenes.
    """
    wanted = [
        output / FEATURES / f"{number:05d}.safetensors"
        for number in range(math.ceil(count / SCENES_PER_FILE))
    ]
    held_out = output / HELD_OUT_FEATURES / "00000.safetensors"
    missing = [path for path in (*wanted, held_out) if not path.exists()]
    if not missing:
        return
    train, unseen = training_cutouts(assets)
    detector = CenterNetDetector(model.centernet, classes)
    photos = [*coco_photos(assets), *imagenet_photos(assets, detector)]
    material = Material(train, background_pictures(assets), photos)
    for path in missing:
        rng = random.Random(f"{seed}/{path.stem}")
        path.parent.mkdir(parents=True, exist_ok=True)
        if path == held_out:
            made = [
                compose(replace(material, cutouts=unseen), rng, "cutouts") for _ in range(HELD_OUT_SCENES)
            ]
        else:
            made = [compose(material, rng) for _ in range(SCENES_PER_FILE)]
        write_features(extract_features(model, made), path)
