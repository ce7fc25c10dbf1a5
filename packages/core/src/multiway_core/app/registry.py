"""What an app declares about itself, and which apps are installed."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.resources
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from multiway_core.app.command import note, run

if TYPE_CHECKING:
    import typer

GROUP = "multiway.apps"
Part = Literal["cli", "pipeline", "recipes", "demo", "serve", "quick_evaluation"]


@dataclass(frozen=True)
class App:
    """One app, as its entry point in the group ``multiway.apps`` gives it.

    A part is an import path (``"multiway_ocr.demo:build_demo"``), imported when :meth:`load` asks for it, so that
    listing the apps and ``--help`` import no torch and no Gradio; or the object itself. A part that an app does not
    have is None, and the umbrella leaves the app out where that part is asked for.

    Attributes:
        name: of the entry point; the command is ``multiway-<name>``, the package ``multiway_<name>``.
        title: heading of the demo and of the home page's card.
        description: one line for ``--help`` and the home page.
        cli: the Typer app.
        demo: ``build_demo(model=..., device=..., dtype=...)`` (those that it takes) to Gradio Blocks, or to a FastAPI
            application whose page has relative addresses only.
        quick_evaluation: no arguments; the bundled model's :class:`~multiway_core.evaluation.Report` in about a
            minute of one core.
        model: what ``--model`` is when it is not given.
        model_hint: a line on standard error whenever that model is loaded, such as how to install a better one.
        pipeline: class with ``from_pretrained(name, device=..., dtype=...)``, or a function called so.
        recipes: the presets of ``train`` by name, a mapping to recipes of :mod:`multiway_core.training`.
        serve: the operations for ``multiway serve`` and MCP.
        picture: file of the app's package that shows a real result, such as ``"demo/card.png"``.
    """

    name: str
    title: str
    description: str
    cli: typer.Typer | str
    demo: Callable[..., Any] | str | None = None
    quick_evaluation: Callable[[], Any] | str | None = None
    model: str = ""
    model_hint: str = ""
    pipeline: Callable[..., Any] | str | None = None
    recipes: Any = None
    serve: Any = None
    picture: str | None = None

    @property
    def program(self) -> str:
        """Name of the command."""
        return f"multiway-{self.name}"

    @property
    def package(self) -> str:
        """Name of the app's Python package."""
        return "multiway_" + self.name.replace("-", "_")

    def load(self, part: Part) -> Any:
        """The object behind a part, imported now; None where the app has none. Raises what the import raises."""
        value = getattr(self, part)
        if not isinstance(value, str):
            return value
        module, _, attribute = value.partition(":")
        found: Any = importlib.import_module(module)
        return getattr(found, attribute) if attribute else found

    def note(self, *lines: str) -> None:
        """Each line on standard error behind the program's name; standard output is for results."""
        for line in lines:
            note(f"{self.program}: {line}")

    def main(self) -> NoReturn:
        """Run the command line as a process; what the console script calls."""
        run(self.load("cli"), name=self.program)

    def picture_path(self) -> Path | None:
        """The picture's file; None where there is none."""
        if self.picture is None:
            return None
        path = Path(str(importlib.resources.files(self.package) / self.picture))
        return path if path.is_file() else None


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
