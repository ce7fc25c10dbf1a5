"""The commands for one picture: caption, locate, describe, ask, prompt."""

from __future__ import annotations

from typing import Annotated

import typer
from multiway_core.app import JsonOption, ModelLoader, ModelOptions
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
    """Say what a picture shows, and where what is named stands."""
    from multiway_grounding.single import ground

    request = Request("caption", detailed=detailed, grounded=not plain)
    ground(image, request, ModelLoader(APP, model), json=json, save=save)


def locate(
    image: ImageArgument,
    phrases: Annotated[list[str], typer.Argument(metavar="PHRASE...", help='What to find: "the red car".')],
    threshold: ThresholdOption = 0.5,
    save: SaveOption = None,
    json: JsonOption = False,
    *,
    model: ModelOptions,
) -> None:
    """Find phrases in a picture; each is looked for by itself."""
    from multiway_grounding.single import ground

    request = Request("locate", phrases=tuple(phrases), threshold=threshold)
    ground(image, request, ModelLoader(APP, model), json=json, save=save)


def describe(
    image: ImageArgument,
    box: BoxOption = None,
    frame: FrameOption = "pixel",
    save: SaveOption = None,
    json: JsonOption = False,
    *,
    model: ModelOptions,
) -> None:
    """Say what is inside a box."""
    from multiway_grounding.single import ground

    if box is None:
        raise InputError("--box X1,Y1,X2,Y2 is missing: left, top, right, bottom of the place to describe")
    request = Request("describe", box=parse_box(box), frame=frame)
    ground(image, request, ModelLoader(APP, model), json=json, save=save)


def ask(
    image: ImageArgument,
    question: Annotated[str, typer.Argument(help="What to ask about the picture.")],
    plain: PlainOption = False,
    save: SaveOption = None,
    json: JsonOption = False,
    *,
    model: ModelOptions,
) -> None:
    """Answer a question about a picture, and show where what is named stands."""
    from multiway_grounding.single import ground

    request = Request("ask", text=question, grounded=not plain)
    ground(image, request, ModelLoader(APP, model), json=json, save=save)


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
    """Let the model continue any text."""
    from multiway_grounding.single import ground

    ground(image, Request("prompt", text=text), ModelLoader(APP, model), json=json, save=save)
