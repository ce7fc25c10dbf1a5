"""Training the small grounding network, from towers that see to a decoder that points.

1. Pieces of words (SentencePiece) from captions and from phrases of the names.
2. Scenes, looked at once by the frozen parts of both towers.
3. Cells learn names and boxes, without words.
4. Everything learns together: single things first, then groups and captions, then relations and questions.

    python -m multiway_vision_language.kosmos2_small.recipe --assets pictures --output runs/grounding

`pictures` is the folder that `scenes/assets.py` describes. A second call goes on where the first was stopped.
`runs/grounding/model` is the model folder, `runs/grounding/detector` what stage 3 gave.
"""

from __future__ import annotations

import argparse
import math
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import torch
from multiway_core.errors import ConfigError
from multiway_core.tokenization import TextTokenizer
from multiway_core.training import TrainConfig, Trainer, load_ema_into
from torch import nn

from multiway_vision_language.kosmos2.checkpoint import TOKENIZER_FILE
from multiway_vision_language.kosmos2_small.batches import GroundingBatches
from multiway_vision_language.kosmos2_small.checkpoint import save
from multiway_vision_language.kosmos2_small.config import GROUNDING_SMALL, SmallConfig
from multiway_vision_language.kosmos2_small.detector import save_names
from multiway_vision_language.kosmos2_small.looks import look_at, write_looks
from multiway_vision_language.kosmos2_small.model import Kosmos2Small
from multiway_vision_language.kosmos2_small.objective import Training, training_loss
from multiway_vision_language.kosmos2_small.pieces import strange_words, train_pieces
from multiway_vision_language.kosmos2_small.processor import SmallProcessor
from multiway_vision_language.kosmos2_small.teachers import (
    CenterNet,
    load_name_tower,
    load_place_tower,
)
from multiway_vision_language.kosmos2_small.towers import InvertedResidual
from multiway_vision_language.scenes.assets import training_cutouts
from multiway_vision_language.scenes.compose import Material, compose
from multiway_vision_language.scenes.naming import object_names
from multiway_vision_language.scenes.photo_assets import (
    background_pictures,
    class_names,
    coco_photos,
    imagenet_photos,
)

SCENES_PER_FILE = 64
CLASS_KEY_LENGTH = 6.0
"""Of what the place tower's classes add to the key of a cell, when training begins."""


@dataclass(frozen=True)
class Recipe:
    """The numbers of a run."""

    model: SmallConfig
    scenes: int
    cells: TrainConfig
    """The stage without words."""
    words: TrainConfig
    pictures: int = 16
    """In a batch."""


# The name tower's own filters change ten times more slowly than what is new.
_SLOW = {"model.names.": 0.13}
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
        "model.names.": 0.06,
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
    "grounding-small": Recipe(GROUNDING_SMALL, 20_000, _CELLS, _WORDS),
    "smoke": Recipe(
        GROUNDING_SMALL, 64, replace(_CELLS, steps=3), replace(_WORDS, steps=3, warmup_steps=1), pictures=4
    ),
}
"""`grounding-small` is the bundled model's; `smoke` shows within minutes that all parts work together."""


def new_model(assets: Path, config: SmallConfig, seed: int) -> Kosmos2Small:
    """The network with both towers' published weights, the rest as training begins. Raises CheckpointError."""
    torch.manual_seed(seed)
    model = Kosmos2Small(config)
    weights = sorted((assets / "efficientnet-lite0").rglob("*.pth"))
    model.names = load_name_tower(
        weights[0] if weights else assets / "efficientnet-lite0" / "efficientnet-lite0.pth"
    )
    model.places = load_place_tower(assets / "human-models" / "models" / "centernet.json")
    width = config.text.hidden_size
    nn.init.normal_(model.text.token_embedding.weight, std=width**-0.5)
    nn.init.normal_(model.slot.weight, std=0.02)
    nn.init.normal_(model.sides.weight, std=0.005)
    with torch.no_grad():
        assert model.sides.bias is not None
        model.sides.bias.copy_(torch.tensor([1.2, 1.2, 1.2, 1.2, -1.5]))
    nn.init.zeros_(model.pointer.corner_keys.weight)
    for frozen in (
        model.places,
        model.names.stem,
        *model.names.blocks[: model.names.num_middle],
    ):
        frozen.requires_grad_(False)
    for block in model.names.blocks:
        assert isinstance(block, InvertedResidual)
        # The gradient of a depthwise filter takes as long as all the rest on a CPU.
        block.filter.weight.requires_grad_(False)
    # The form in which convolutions train fastest.
    model.names.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    model.cells.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model


def speak_for_classes(training: Training, classes: Sequence[str]) -> None:
    """Let each class of the place tower begin with the key of its name."""
    rows = nn.functional.normalize(training.names.rows.detach(), dim=-1)
    chosen = rows[[training.names.numbers[name] for name in classes]]
    with torch.no_grad():
        training.model.class_keys.weight.copy_((CLASS_KEY_LENGTH * chosen).T[:, :, None, None])


def prepare_looks(
    assets: Path, model: Kosmos2Small, detector: CenterNet, folder: Path, count: int, seed: int
) -> None:
    """Make ``count`` scenes and look at them, unless that was done before; one file for each 64."""
    missing = [
        folder / f"{number:05d}.safetensors"
        for number in range(math.ceil(count / SCENES_PER_FILE))
        if not (folder / f"{number:05d}.safetensors").exists()
    ]
    if not missing:
        return
    train, _ = training_cutouts(assets)
    photos = [*coco_photos(assets), *imagenet_photos(assets, detector)]
    material = Material(train, background_pictures(assets), photos)
    folder.mkdir(parents=True, exist_ok=True)
    for path in missing:
        rng = random.Random(f"{seed}/{path.stem}")
        write_looks(look_at(model, [compose(material, rng) for _ in range(SCENES_PER_FILE)]), path)


def train(preset: str, assets: Path, output: Path, *, seed: int = 0, minutes: float | None = None) -> Path:
    """Run all stages; the model folder. A run found in ``output`` is continued.

    ``minutes``: stop a stage's training after so long and go on with what it has.
    Raises ConfigError for an unknown preset, InputError or CheckpointError for assets that are not as described.
    """
    if preset not in RECIPES:
        raise ConfigError(f"no recipe {preset!r}: there are {', '.join(RECIPES)}")
    recipe = RECIPES[preset]
    classes = class_names(assets)
    names = sorted({*object_names(), *classes})
    captions = assets / "photos" / "coco" / "captions.json"
    pieces = output / TOKENIZER_FILE
    if not pieces.exists():
        train_pieces(captions, names, recipe.model.tokens, pieces)
    processor = SmallProcessor(recipe.model, TextTokenizer.from_folder(pieces))
    model = new_model(assets, recipe.model, seed)
    looks = output / "looks"
    prepare_looks(assets, model, CenterNet(model.places, classes), looks, recipe.scenes, seed)
    training = Training(model, names)
    speak_for_classes(training, classes)
    for stage, config, words in (("cells", recipe.cells, False), ("words", recipe.words, True)):
        source = GroundingBatches(
            looks,
            processor,
            names,
            classes,
            strange_words(captions, names),
            recipe.pictures,
            config.steps,
            words=words,
            seed=seed,
        )
        trainer = Trainer(training, training_loss, source, replace(config, seed=seed), output / stage)
        trainer.fit(None if minutes is None else minutes * 60)
        load_ema_into(training, output / stage)
        if not words:
            save(model, pieces, output / "detector")
            save_names(training.names, output / "detector")
    save(model.eval(), pieces, output / "model")
    return output / "model"


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preset", choices=sorted(RECIPES), default="grounding-small")
    parser.add_argument("--assets", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float)
    options = parser.parse_args()
    print(train(options.preset, options.assets, options.output, seed=options.seed, minutes=options.minutes))
