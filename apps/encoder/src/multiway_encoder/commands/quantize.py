"""The command that makes a model of one byte a weight: quantize."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from multiway_encoder.app import APP


def quantize(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="bundled:NAME, package:NAME, a folder, or a hub id OWNER/NAME."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Where the new model goes.")],
) -> None:
    """Write a copy of a sentence model in 8 bits: a quarter of the size, and embedded faster on a CPU."""
    import torch
    from multiway_core import hub
    from multiway_text.encoder.quantized import Int8Network
    from multiway_text.encoder.sentence import SentenceModel

    found = SentenceModel.load(hub.resolve(model), dtype=torch.float32)
    Int8Network.of(found.encoder)  # refuses what the engine could not run
    found.save(output, int8=True)
    APP.note(f"{model} in 8 bits written to {output}")
