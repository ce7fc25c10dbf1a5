"""The ``train`` command."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer
from multiway_core.app import TrainingOptions

from multiway_grounding.app import APP


@dataclass(frozen=True)
class RecipeChanges:
    """Fields of the recipe."""

    epochs: Annotated[
        float | None, typer.Option("--epochs", min=0.001, help="fine-tune: passes over the captions.")
    ] = None
    learning_rate: Annotated[
        float | None, typer.Option("--learning-rate", min=0.0, help="fine-tune: peak learning rate.")
    ] = None
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", min=1, help="Captions, or pictures, of a batch.")
    ] = None
    freeze_vision: Annotated[
        bool | None,
        typer.Option("--freeze-vision", help="fine-tune: leave the vision encoder as it is."),
    ] = None


def train(
    preset: Annotated[
        str, typer.Option("--preset", help="fine-tune; grounding-small, the bundled model; or smoke.")
    ] = "fine-tune",
    *,
    changes: RecipeChanges,
    options: TrainingOptions,
) -> None:
    """Fine-tune a model on captions with boxes, or pre-train the bundled one.

    fine-tune: --data is a JSONL file of rows {"image": PATH, "caption": TEXT, "phrases": [{"span": [START, END],
    "boxes": [[LEFT, TOP, RIGHT, BOTTOM], ...]}]}, and --init-from is bundled:grounding-small, a folder or a hub id.
    grounding-small: --data is a folder of pictures and published backbones. smoke fine-tunes the bundled model on
    scenes that come with it: half a minute, without --data.
    """
    options.train(APP, preset, vars(changes))
