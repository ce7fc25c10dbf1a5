"""The command that serves the API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from multiway_core.app import ModelOptions, load_pipeline
from multiway_core.app.serve import command as kit
from multiway_core.app.serve.command import ServeOptions

from multiway_lm.app import APP

if TYPE_CHECKING:
    from fastapi import FastAPI
    from multiway_core.app.serve.service import Limits


def serve(
    name: Annotated[
        str | None, typer.Option("--name", help="What clients call the model. \\[default: as --model]")
    ] = None,
    max_concurrency: Annotated[
        int, typer.Option("--max-concurrency", min=1, max=256, help="Requests that run side by side.")
    ] = 8,
    max_tokens: Annotated[
        int, typer.Option("--max-tokens", min=1, help="Largest max_tokens of a request.")
    ] = 4096,
    *,
    model: ModelOptions,
    server: ServeOptions,
) -> None:
    """Serve completions and chat over HTTP, in the form of the OpenAI API."""

    def build(limits: Limits) -> FastAPI:
        from multiway_lm.server import build_server

        first = [load_pipeline(APP, model)]  # at once, so that a bad model ends the command
        return build_server(
            lambda: first.pop() if first else load_pipeline(APP, model),
            name or model.model,
            limits,
            max_concurrency=max_concurrency,
            max_tokens=max_tokens,
        )

    kit.serve(build, server, program=APP.program)
