"""What an app tells the umbrella about itself, and which apps are installed."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import typer

    from multiway_core.evaluation import Report

GROUP = "multiway.apps"


@dataclass(frozen=True)
class App:
    """One app, as its entry point in the group ``multiway.apps`` gives it.

    ``cli`` is the Typer app or its import path (``"multiway_ocr.cli:cli"``); ``demo`` builds Gradio Blocks;
    ``quick_evaluation`` measures the bundled model within about a minute of one core. An app that has no demo or no
    model to measure leaves them out, and the umbrella leaves it out where they are asked for.
    """

    name: str
    title: str
    description: str
    cli: typer.Typer | str
    demo: Callable[[], Any] | None = None
    quick_evaluation: Callable[[], Report] | None = None


@dataclass(frozen=True)
class InstalledApp:
    """An entry point of the group: the app, or why it could not be loaded."""

    name: str
    distribution: str
    version: str
    app: App | None
    problem: str | None = None


def installed_apps() -> list[InstalledApp]:
    """All installed apps by name; one that cannot be imported is listed with its problem."""
    found = []
    for point in sorted(importlib.metadata.entry_points(group=GROUP), key=lambda point: point.name):
        distribution = point.dist.name if point.dist else "unknown"
        version = point.dist.version if point.dist else "unknown"
        app, problem = None, None
        try:
            loaded = point.load()
            if isinstance(loaded, App):
                app = loaded
            else:
                problem = f"{point.value} is {type(loaded).__name__}, expected multiway_core.app.App"
        except Exception as error:  # whatever a broken install raises, the other apps still work
            problem = " ".join(f"{type(error).__name__}: {error}".split())
        found.append(InstalledApp(point.name, distribution, version, app, problem))
    return found
