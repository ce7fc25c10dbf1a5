"""The ``train`` command."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import typer
from multiway_core.app import TrainingOptions
from multiway_core.errors import InputError

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
    task: Annotated[
        Literal["retrieval", "vqa", "nlvr2", "caption", "imagenet"] | None,
        typer.Option("--task", help="with --arch: what for."),
    ] = None
    size: Annotated[
        str | None, typer.Option("--size", help="with --arch: base, large, giant, small or tiny.")
    ] = None
    layer_decay: Annotated[
        float | None,
        typer.Option("--layer-decay", min=0.0, max=1.0, help="--arch beit3: of the learning rate by depth."),
    ] = None
    scenes: Annotated[
        int | None, typer.Option("--scenes", min=20, help="with --arch, without --data: generated scenes.")
    ] = None


PRETRAINING = ("pretrain", "pretrain-smoke")


def train(
    preset: Annotated[
        str,
        typer.Option(
            "--preset",
            help="fine-tune; grounding-small, the bundled model; smoke; with --arch also pretrain.",
        ),
    ] = "fine-tune",
    arch: Annotated[
        Literal["beit3", "vl-beit", "vlmo", "dide"] | None,
        typer.Option(
            "--arch",
            help="Train this system for --task instead of a grounding model; vl-beit: only pretrain.",
        ),
    ] = None,
    *,
    changes: RecipeChanges,
    options: TrainingOptions,
) -> None:
    """Fine-tune a model on captions with boxes, or pre-train the bundled one.

    fine-tune: --data is a JSONL file of rows {"image": PATH, "caption": TEXT, "phrases": [{"span": [START, END],
    "boxes": [[LEFT, TOP, RIGHT, BOTTOM], ...]}]}, and --init-from is bundled:grounding-small, a folder or a hub id.
    grounding-small: --data is a folder of pictures and published backbones. smoke fine-tunes the bundled model on
    scenes that come with it: half a minute, without --data.

    With --arch a network learns --task from your files: --data FILE --data DIR, the pictures' folder last: COCO's or
    Karpathy's captions (retrieval, caption), VQA v2's questions and then annotations, or SNLI-VE's rows (vqa), NLVR2's
    rows (nlvr2), a folder of a folder for each class (imagenet). Without --data scenes of coloured shapes are drawn.
    dide trains its fusion teacher first. With --preset smoke a tiny network trains for 20 steps.

    --preset pretrain learns from pictures with captions alone: visual words first, then masked pictures, words and
    pairs (beit3, vl-beit), or the three stages of vlmo, or dide's fusion teacher and then its student. What it writes
    is an --init-from of any --task; of vl-beit with --arch beit3.
    """
    given = vars(changes)
    if arch is not None:
        named = {"fine-tune": "pairs", "smoke": "pairs-smoke"}
        if preset not in (*named, *PRETRAINING):
            raise InputError(f"--preset {preset}: with --arch it is {', '.join((*named, *PRETRAINING))}")
        if arch == "vl-beit" and preset not in PRETRAINING:
            raise InputError(f"--arch {arch} --preset {preset}: vl-beit is pre-trained")
        given = {**given, "arch": arch}
        preset = named.get(preset, preset)
    options.train(APP, preset, given)
