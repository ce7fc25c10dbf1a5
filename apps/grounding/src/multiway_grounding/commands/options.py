"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from multiway_core.app import stdin_file

from multiway_grounding.request import Frame

ImageArgument = Annotated[
    Path, typer.Argument(metavar="IMAGE|-", help="A picture file; - is standard input.", callback=stdin_file)
]
SaveOption = Annotated[
    Path | None,
    typer.Option("--save", metavar="FILE", help="Write the picture with its boxes: .png, .jpg or .webp."),
]
PlainOption = Annotated[bool, typer.Option("--plain", help="Text only, without boxes.")]
DetailedOption = Annotated[bool, typer.Option("--detailed", help="A caption of several sentences.")]
BoxOption = Annotated[
    str | None, typer.Option("--box", metavar="X1,Y1,X2,Y2", help="Left, top, right, bottom.")
]
FrameOption = Annotated[
    Frame, typer.Option("--frame", help="The box is in pixels of the picture, or in fractions of it.")
]
ThresholdOption = Annotated[
    float,
    typer.Option(
        "--threshold",
        min=0.0,
        max=1.0,
        help="Minimum probability of presence for a phrase to get boxes; 0 keeps all.",
    ),
]
