"""The command that serves the API."""

from __future__ import annotations

from typing import Annotated

import typer
from multiway_core.app import HostOption, ModelOptions


def serve(
    host: HostOption = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")] = 8000,
    name: Annotated[
        str | None, typer.Option("--name", help="What clients call the model. \\[default: as --model]")
    ] = None,
    max_concurrency: Annotated[
        int, typer.Option("--max-concurrency", min=1, max=256, help="Requests that run side by side.")
    ] = 8,
    max_queue: Annotated[
        int, typer.Option("--max-queue", min=0, max=10_000, help="Requests that wait; one more gets 429.")
    ] = 64,
    max_tokens: Annotated[
        int, typer.Option("--max-tokens", min=1, help="Largest max_tokens of a request.")
    ] = 4096,
    max_bytes: Annotated[
        int, typer.Option("--max-bytes", min=1024, help="Largest body of a request; larger gets 413.")
    ] = 1 << 20,
    api_key: Annotated[
        str | None,
        typer.Option("--api-key", help="Ask clients for it. \\[default: $MULTIWAY_LM_API_KEY, else none]"),
    ] = None,
    *,
    model: ModelOptions,
) -> None:
    """Serve completions and chat over HTTP, in the form of the OpenAI API."""
    from multiway_lm.serve import serve as run_server

    run_server(
        model,
        host=host,
        port=port,
        name=name,
        max_concurrency=max_concurrency,
        max_queue=max_queue,
        max_tokens=max_tokens,
        max_bytes=max_bytes,
        api_key=api_key,
    )
