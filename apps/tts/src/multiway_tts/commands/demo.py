"""The command that opens the page."""

from __future__ import annotations

from typing import Annotated

import typer
from multiway_core.app import DeviceOption, DtypeOption

from multiway_tts.commands.options import ModelOption
from multiway_tts.model import BUNDLED_MODEL


def demo(
    model: ModelOption = BUNDLED_MODEL,
    host: Annotated[str, typer.Option("--host", help="Address to serve on.")] = "127.0.0.1",
    port: Annotated[int | None, typer.Option("--port", help="\\[default: first free from 7860]")] = None,
    share: Annotated[bool, typer.Option("--share/--no-share", help="Open a public tunnel.")] = False,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
) -> None:
    """Open the demo page in this machine's browser."""
    from multiway_core.app import launch

    from multiway_tts.demo import build_demo

    launch(build_demo(model, device=device, dtype=dtype), host, port, share=share)
