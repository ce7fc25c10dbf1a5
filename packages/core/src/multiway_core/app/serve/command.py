"""What the ``serve`` commands of the apps and of the umbrella have in common."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from multiway_core.app.command import note
from multiway_core.app.options import AllowHostOption, HostOption, ModelOptions
from multiway_core.app.registry import App

if TYPE_CHECKING:
    from fastapi import FastAPI

    from multiway_core.app.serve.service import Limits

KEY_VARIABLE = "MULTIWAY_API_KEY"


@dataclass(frozen=True)
class ServeOptions:
    """Where and within which limits a server answers."""

    host: HostOption = "127.0.0.1"
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")] = 8000
    allow_host: AllowHostOption = None
    api_key: Annotated[
        str | None,
        typer.Option("--api-key", help=f"Ask clients for it. \\[default: ${KEY_VARIABLE}, else none]"),
    ] = None
    max_queue: Annotated[
        int, typer.Option("--max-queue", min=0, help="Requests that wait for a model; one more gets 429.")
    ] = 16
    max_bytes: Annotated[
        int, typer.Option("--max-bytes", min=1024, help="Largest body of a request; larger gets 413.")
    ] = 32 << 20
    idle_minutes: Annotated[
        float,
        typer.Option(
            "--idle-minutes", min=0.0, help="A model without requests for so long is dropped; 0 keeps it."
        ),
    ] = 15.0


def serve_apps(apps: Sequence[App], options: ServeOptions, model: ModelOptions, *, program: str) -> None:
    """Serve the apps' operations until Ctrl-C. Raises InputError: the address cannot be used."""

    def build(limits: Limits) -> FastAPI:
        from multiway_core.app.serve.service import build_server, endpoint_of

        return build_server([endpoint_of(app, model, limits) for app in apps], limits, title=program)

    serve(build, options, program=program)


def serve(build: Callable[[Limits], FastAPI], options: ServeOptions, *, program: str) -> None:
    """Serve the application that ``build`` makes for the limits until Ctrl-C. Raises InputError as `serve_apps`."""
    from multiway_core.app.serve.hosts import LOOPBACK, allowed_hosts
    from multiway_core.app.serve.listener import address, listen, serve_until_interrupted
    from multiway_core.app.serve.service import Limits

    with listen(
        options.host, options.port
    ) as listening:  # before a model is loaded: a taken port shows at once
        api_key = options.api_key or os.environ.get(KEY_VARIABLE) or None
        if api_key is None and options.host not in LOOPBACK:
            note(
                f"{program}: {options.host} is reachable from elsewhere, and no key is asked for (--api-key)"
            )
        limits = Limits(
            max_bytes=options.max_bytes,
            max_queue=options.max_queue,
            idle_seconds=60 * options.idle_minutes or None,
            api_key=api_key,
            hosts=allowed_hosts(options.host, options.allow_host or ()),
        )
        url = address(listening, options.host)
        serve_until_interrupted(
            build(limits), listening, f"The server is open at {url}/v1, its operations at {url}/docs"
        )
