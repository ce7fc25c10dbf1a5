"""An app's Typer app: its own commands with groups of options, and the commands that every app has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer

from multiway_core.app.frame import MAX_FILE_SIZE, launch
from multiway_core.app.options import ModelOptions, PageOptions, with_groups
from multiway_core.app.registry import App
from multiway_core.app.serve.command import ServeOptions, serve_apps


class CommandLine(typer.Typer):
    """The commands of one app. A command's ``--model`` is the app's bundled one when nothing else is said.

    ``CommandLine(APP)`` is the app's; ``CommandLine(APP, help="...")`` a group of commands below it, for ``add_typer``.
    """

    def __init__(self, app: App, *, help: str | None = None) -> None:
        super().__init__(
            name=app.program if help is None else None,
            help=help or app.description,
            no_args_is_help=True,
            add_completion=False,
        )
        self.app = app

    def command(self, name: str | None = None, **settings: Any) -> Callable[..., Any]:
        """As Typer's; parameters of the command that are dataclasses are groups of options."""
        register = super().command(name, **settings)

        def add(function: Callable[..., Any]) -> Callable[..., Any]:
            register(with_groups(function, {"model": self.app.model}))
            return function

        return add

    def add_demo(
        self,
        help: str = "Open the demo page in this machine's browser.",
        *,
        max_file_size: str = MAX_FILE_SIZE,
    ) -> None:
        """Add ``demo``: the page that the app declares, served until Ctrl-C."""

        @self.command("demo", help=help)
        def demo(*, model: ModelOptions, page: PageOptions) -> None:
            build_demo = self.app.load("demo")
            blocks = build_demo(model.model, device=model.device, dtype=model.dtype)
            launch(
                blocks,
                page.host,
                page.port,
                hosts=page.allow_host or (),
                share=page.share,
                max_file_size=max_file_size,
            )

    def add_serve(self, help: str = "Serve the app's operations over HTTP; /docs describes them.") -> None:
        """Add ``serve``: the service that the app declares, until Ctrl-C."""

        @self.command("serve", help=help)
        def serve(*, model: ModelOptions, server: ServeOptions) -> None:
            serve_apps([self.app], server, model, program=self.app.program)
