"""The options that commands share, declared once: alone as ``Annotated`` types, and in groups.

A group is a frozen dataclass whose fields are options. A command of a :class:`~multiway_core.app.CommandLine` that
has a parameter of such a type gets the options of the group, and the group as one value:

    @cli.command()
    def locate(image: Path, *, model: ModelOptions, json: JsonOption = False) -> None: ...

Apps declare groups of their own the same way.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from multiway_core.app.command import write_json, write_stdout

if TYPE_CHECKING:
    from multiway_core.evaluation import Report

ModelOption = Annotated[
    str, typer.Option("--model", "-m", help="bundled:NAME, a file or folder, or a hub id.", show_default=True)
]
DeviceOption = Annotated[
    str, typer.Option("--device", help="cpu, cuda, cuda:N, or auto (cuda where there is one).")
]
DtypeOption = Annotated[str, typer.Option("--dtype", help="float32, bfloat16, float16, or auto.")]
SeedOption = Annotated[int, typer.Option("--seed", help="Seed of everything random.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
LimitOption = Annotated[int | None, typer.Option("--limit", min=1, help="Measure at most so many.")]
JobsOption = Annotated[int, typer.Option("--jobs", "-j", min=1, help="Processes, one thread each.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Redo outputs that are there.")]
ReportOption = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="DIR", help="Also write report.json, report.md and report.png."),
]
RunFolderOption = Annotated[
    Path,
    typer.Option("--output", "-o", metavar="DIR", help="Folder of the run; an interrupted run resumes."),
]
MinutesOption = Annotated[
    float | None,
    typer.Option("--minutes", min=0.0, help="Stop by then, with a checkpoint and a model."),
]
AllowHostOption = Annotated[
    list[str] | None,
    typer.Option("--allow-host", metavar="NAME", help="Answer requests to this host name as well."),
]
HostOption = Annotated[str, typer.Option("--host", help="Address to serve on.")]


@dataclass(frozen=True)
class ModelOptions:
    """Which model, and how it is computed. An empty model is the app's own (see :class:`ModelLoader`)."""

    model: ModelOption = ""
    device: DeviceOption = "auto"
    dtype: DtypeOption = "auto"


@dataclass(frozen=True)
class ReportOptions:
    """Of every ``evaluate``: how much is measured, and where the report goes."""

    limit: LimitOption = None
    output: ReportOption = None
    seed: SeedOption = 0
    json: JsonOption = False

    def publish(self, report: Report, text: str | None = None) -> None:
        """Save the report where --output says and print it: as JSON, as ``text``, or as its table."""
        if self.output is not None:
            report.save(self.output)
        if self.json:
            write_json(report.to_json())
        else:
            write_stdout(report.to_markdown() if text is None else text)


@dataclass(frozen=True)
class PageOptions:
    """Where a demo's page is served."""

    host: HostOption = "127.0.0.1"
    port: Annotated[
        int | None,
        typer.Option("--port", min=0, max=65535, show_default="the first free one from 7860"),
    ] = None
    allow_host: AllowHostOption = None
    share: Annotated[bool, typer.Option("--share/--no-share", help="Open a public tunnel.")] = False


def with_groups(function: Callable[..., Any], defaults: Mapping[str, Any]) -> Callable[..., Any]:
    """``function`` as Typer wants it: each parameter whose type is a dataclass replaced by the dataclass's fields.

    The same option in two groups is one option.

    Args:
        function: its annotations but the returned type can be evaluated now.
        defaults: by name of a field, the default that replaces an empty string.

    Raises:
        TypeError: two different options of one name.
    """
    signature = inspect.signature(function)
    annotations = {
        name: item.annotation
        for name, item in signature.parameters.items()
        if item.annotation is not inspect.Parameter.empty
    }
    # The result's type may be imported for type checkers alone; Typer does not need it.
    holder = SimpleNamespace(__annotations__=annotations)
    hints = typing.get_type_hints(holder, globalns=function.__globals__, include_extras=True)
    parameters: dict[str, inspect.Parameter] = {}
    groups: dict[str, tuple[Any, list[str]]] = {}

    def add(name: str, annotation: Any, default: Any) -> None:
        default = defaults.get(name, default) if default == "" else default
        option = inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default
        )
        if parameters.setdefault(name, option) != option:
            raise TypeError(f"{function.__name__}: two options are called {name}")

    for name, item in signature.parameters.items():
        kind = hints.get(name)
        if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
            add(name, kind, item.default)
            continue
        fields = [field for field in dataclasses.fields(kind) if field.init]
        groups[name] = (kind, [field.name for field in fields])
        of_fields = typing.get_type_hints(kind, include_extras=True)
        for field in fields:
            missing = field.default is dataclasses.MISSING
            add(field.name, of_fields[field.name], inspect.Parameter.empty if missing else field.default)

    @functools.wraps(function)
    def call(**values: Any) -> Any:
        given = {name: values[name] for name in signature.parameters if name not in groups}
        for name, (kind, names) in groups.items():
            given[name] = kind(**{field: values[field] for field in names})
        return function(**given)

    call.__signature__ = inspect.Signature(list(parameters.values()))  # type: ignore[attr-defined]
    call.__annotations__ = {name: item.annotation for name, item in parameters.items()}
    del call.__wrapped__
    return call
