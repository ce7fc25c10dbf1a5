"""The command ``multiway``: list, show and measure the installed apps, whichever they are."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import Annotated, Literal

import typer
from multiway_core.app import (
    DeviceOption,
    InstalledApp,
    JsonOption,
    ModelOptions,
    installed_apps,
    note,
    run,
    write_stdout,
)
from multiway_core.app.options import AllowHostOption, HostOption, with_groups
from multiway_core.app.serve.command import ServeOptions, serve_apps
from multiway_core.errors import InputError

from multiway.table import aligned

cli = typer.Typer(
    name="multiway",
    help="The installed Multiway apps together: what is there, a demo of all, an evaluation of all.",
    no_args_is_help=True,
    add_completion=False,
)

AppOption = Annotated[
    list[str] | None, typer.Option("--app", metavar="NAME", help="Only this app; may be given several times.")
]


@cli.command()
def apps(json: JsonOption = False) -> None:
    """List the installed apps; one that cannot be loaded is listed with the reason."""
    found = installed_apps()
    if json:
        write_stdout(json_module.dumps([_as_json(item) for item in found], indent=2) + "\n")
        return
    if not found:
        write_stdout("No app is installed (for instance: pip install multiway-ocr).\n")
        return
    rows = [["app", "command", "version", "what it does"]]
    for item in found:
        what = item.app.description if item.app else f"BROKEN: {item.problem}"
        rows.append([item.name, item.distribution, item.version, what])
    write_stdout(aligned(rows))


@cli.command()
def demo(
    app: AppOption = None,
    host: HostOption = "127.0.0.1",
    port: Annotated[int | None, typer.Option("--port", help="\\[default: first free from 7860]")] = None,
    share: Annotated[bool, typer.Option("--share/--no-share", help="Open a public tunnel.")] = False,
    allow_host: AllowHostOption = None,
) -> None:
    """Open the home page of all installed apps; each app's demo has its own address and loads when it is opened."""
    from multiway_core.app.serve.hosts import allowed_hosts
    from multiway_core.app.serve.listener import address, listen, serve_until_interrupted

    from multiway.home import build_home
    from multiway.home.tunnel import open_tunnel

    chosen = _chosen(app, "demo")
    listening = listen(host, port, first=7860)
    url = address(listening, host)
    names = allowed_hosts(host, allow_host or ())
    if share:
        public = open_tunnel(listening.getsockname()[1])
        url, names = f"{url} and {public}", (*names, public.split("/")[2])
    serve_until_interrupted(build_home(chosen, hosts=names), listening, f"The demo is open at {url}")


def serve(*, app: AppOption = None, server: ServeOptions, device: DeviceOption = "auto") -> None:
    """Serve the operations of all installed apps over HTTP, in the OpenAI API's form where it has one; see /docs.

    A model is loaded when a request needs it first.
    """
    chosen = [item.app for item in _chosen(app, "serve") if item.app is not None]
    serve_apps(chosen, server, ModelOptions(device=device), program="multiway")


cli.command()(with_groups(serve, {}))


@cli.command()
def mcp(
    app: AppOption = None,
    allow_folder: Annotated[
        list[Path] | None,
        typer.Option(
            "--allow-folder", metavar="DIR", help="Tools may read files of it; several times for several."
        ),
    ] = None,
    http: Annotated[
        bool,
        typer.Option("--http", help="Serve streamable HTTP at /mcp in place of standard input and output."),
    ] = False,
    host: HostOption = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="With --http; 0 takes a free one.")
    ] = 8001,
    allow_host: AllowHostOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Give the operations of all installed apps to assistants as tools (Model Context Protocol)."""
    from multiway_core.app.serve.hosts import HostGate, allowed_hosts
    from multiway_core.app.serve.listener import address, listen, serve_until_interrupted
    from multiway_core.app.serve.service import endpoint_of

    from multiway.mcp_server import build_mcp_server

    chosen = [item.app for item in _chosen(app, "serve") if item.app is not None]
    endpoints = [endpoint_of(item, ModelOptions(device=device)) for item in chosen]
    server = build_mcp_server(endpoints, allow_folder or [])
    if not http:
        server.run("stdio")
        return
    listening = listen(host, port)
    application = HostGate(server.streamable_http_app(host=host), allowed_hosts(host, allow_host or ()))
    serve_until_interrupted(application, listening, f"The tools are at {address(listening, host)}/mcp")


@cli.command()
def evaluate(
    app: AppOption = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="DIR", help="Write all reports there.")
    ] = None,
    details: Annotated[bool, typer.Option("--details", help="Print every metric, not one an app.")] = False,
    json: JsonOption = False,
) -> None:
    """Run the quick evaluation of every installed app and print one headline each, with its baselines.

    Exit code 0: all were measured. 1: some apps failed (they stand in the table). 2: none could be measured.
    """
    from multiway.evaluation import evaluate_apps, summary_json, summary_rows, write_summary

    measured = evaluate_apps(_chosen(app, "quick_evaluation"))
    if output is not None:
        write_summary(measured, output)
    if json:
        write_stdout(json_module.dumps(summary_json(measured), ensure_ascii=False, indent=2) + "\n")
    else:
        write_stdout(aligned(summary_rows(measured, details=details)))
    failed = sum(item.report is None for item in measured)
    if failed:
        raise typer.Exit(2 if failed == len(measured) else 1)


def _chosen(
    names: list[str] | None, part: Literal["demo", "quick_evaluation", "serve"]
) -> list[InstalledApp]:
    """The installed apps of these names, all when none is given, that have this part.

    Those that are broken are told on stderr; so are, when they were named, those without the part.
    """
    found = installed_apps()
    if not found:
        raise InputError("no app is installed (for instance: pip install multiway-ocr)")
    unknown = set(names or ()) - {item.name for item in found}
    if unknown:
        there = ", ".join(item.name for item in found)
        raise InputError(f"--app {', '.join(sorted(unknown))}: not installed; there are: {there}")
    chosen = [item for item in found if not names or item.name in names]
    have = [item for item in chosen if item.app is None or getattr(item.app, part) is not None]
    noun = part.replace("_", " ")
    if not have:
        raise InputError(f"{', '.join(item.name for item in chosen)}: without a {noun}")
    for item in chosen:
        if item.problem:
            note(f"multiway: the app {item.name} is broken: {item.problem}")
        elif names and item not in have:
            note(f"multiway: the app {item.name} is left out: it has no {noun}")
    return have


def _as_json(item: InstalledApp) -> dict[str, str | None]:
    return {
        "name": item.name,
        "command": item.distribution,
        "version": item.version,
        "title": item.app.title if item.app else None,
        "description": item.app.description if item.app else None,
        "problem": item.problem,
    }


def main() -> None:
    """Entry point of the command ``multiway``."""
    run(cli, name="multiway")


if __name__ == "__main__":
    main()
