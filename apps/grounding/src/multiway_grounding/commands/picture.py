"""The commands for pictures: caption, locate, describe, ask, classify, compare, prompt."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from multiway_core.app import JsonOption, ModelLoader, ModelOptions, write_json, write_stdout
from multiway_core.errors import InputError

from multiway_grounding.app import APP
from multiway_grounding.commands.options import (
    BoxOption,
    DetailedOption,
    FrameOption,
    ImageArgument,
    PlainOption,
    SaveOption,
    ThresholdOption,
)
from multiway_grounding.request import Request, parse_box


def caption(
    image: ImageArgument,
    detailed: DetailedOption = False,
    plain: PlainOption = False,
    save: SaveOption = None,
    json: JsonOption = False,
    *,
    model: ModelOptions,
) -> None:
    """Caption a picture, with boxes for the phrases of the caption."""
    request = Request("caption", detailed=detailed, grounded=not plain)
    _ground(image, request, ModelLoader(APP, model), json=json, save=save)


def locate(
    image: ImageArgument,
    phrases: Annotated[list[str], typer.Argument(metavar="PHRASE...", help='What to find: "the red car".')],
    threshold: ThresholdOption = 0.5,
    save: SaveOption = None,
    json: JsonOption = False,
    *,
    model: ModelOptions,
) -> None:
    """Phrase grounding: a box for each phrase, or "not present"."""
    request = Request("locate", phrases=tuple(phrases), threshold=threshold)
    _ground(image, request, ModelLoader(APP, model), json=json, save=save)


def describe(
    image: ImageArgument,
    box: BoxOption = None,
    frame: FrameOption = "pixel",
    save: SaveOption = None,
    json: JsonOption = False,
    *,
    model: ModelOptions,
) -> None:
    """Describe the region inside a box."""
    if box is None:
        raise InputError("--box X1,Y1,X2,Y2 is missing: left, top, right, bottom of the region to describe")
    request = Request("describe", box=parse_box(box), frame=frame)
    _ground(image, request, ModelLoader(APP, model), json=json, save=save)


def ask(
    image: ImageArgument,
    question: Annotated[str, typer.Argument(help="What to ask about the picture.")],
    plain: PlainOption = False,
    save: SaveOption = None,
    json: JsonOption = False,
    *,
    model: ModelOptions,
) -> None:
    """Visual question answering, with boxes for the phrases of the answer."""
    request = Request("ask", text=question, grounded=not plain)
    _ground(image, request, ModelLoader(APP, model), json=json, save=save)


def classify(
    image: ImageArgument,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Choose among these.")
    ] = None,
    top: Annotated[int, typer.Option("--top", min=1, help="So many classes.")] = 5,
    json: JsonOption = False,
    *,
    model: ModelOptions,
) -> None:
    """The class of a picture: of a model trained for classes (train --arch beit3 --task imagenet), or the likeliest
    of the names (Kosmos-1, MetaLM).
    """
    from dataclasses import asdict

    from multiway_vision_language.pictures import open_picture

    picture = open_picture(image)
    pipeline = _with(ModelLoader(APP, model)(), "classify", "train --arch beit3 --task imagenet")
    found = pipeline.classify(picture, names or (), top=top)
    if json:
        write_json(
            {"source": picture.source, "model": pipeline.name, "classes": [asdict(one) for one in found]}
        )
    else:
        write_stdout("".join(f"{one.probability:.3f}  {one.label}\n" for one in found))


def compare(
    first: Annotated[Path, typer.Argument(metavar="IMAGE", help="The first picture.")],
    second: Annotated[Path, typer.Argument(metavar="IMAGE", help="The second picture.")],
    statement: Annotated[str, typer.Argument(help='What may be true of them: "both show a dog".')],
    json: JsonOption = False,
    *,
    model: ModelOptions,
) -> None:
    """Whether a statement is true of two pictures, with a model for NLVR2 (train --task nlvr2)."""
    from multiway_vision_language.pictures import open_picture

    pictures = open_picture(first), open_picture(second)
    pipeline = _with(ModelLoader(APP, model)(), "compare", "train --arch beit3 --task nlvr2")
    found = pipeline.compare(*pictures, statement)
    if json:
        sources = [picture.source for picture in pictures]
        content = {"sources": sources, "model": pipeline.name, "statement": statement, "answer": found.label}
        write_json({**content, "probability": found.probability})
    else:
        write_stdout(f"{found.label}  {found.probability:.3f}\n")


def prompt(
    image: ImageArgument,
    text: Annotated[
        str, typer.Argument(help="Text with the model's tags: '<grounding><phrase>a dog</phrase>'.")
    ],
    save: SaveOption = None,
    json: JsonOption = False,
    *,
    model: ModelOptions,
) -> None:
    """Continue any text with the model's tags."""
    _ground(image, Request("prompt", text=text), ModelLoader(APP, model), json=json, save=save)


def _with(pipeline: Any, method: str, how: str) -> Any:
    """The pipeline, if its model can do that. Raises InputError."""
    if not hasattr(pipeline, method):
        raise InputError(f"{pipeline.name} cannot {method}; give --model a model that can, from {how}")
    return pipeline


def _ground(image: Path, request: Request, loader: ModelLoader, *, json: bool, save: Path | None) -> None:
    """Open, run, print. Raises InputError, OutputError; StopRun when the model cannot be loaded."""
    from multiway_vision_language.pictures import open_picture

    from multiway_grounding.render import as_text, require_picture_file, save_annotated

    if save is not None:
        require_picture_file(save)
    picture = open_picture(image)
    result = request.run(loader(), picture)
    if save is not None:
        save_annotated(picture, result, save)
    if json:
        write_json(result.to_json())
    else:
        write_stdout(as_text(result))
