"""Conventions of every command: exit codes, one-line errors, clean standard output, progress.

Exit codes: 0 all done, 1 some inputs failed, 2 bad usage or nothing done, 130 interrupted, 141 the reader of
standard output went away.
"""

from __future__ import annotations

import errno
import itertools
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import typer
from typer.main import get_command

from multiway_core.errors import InputError, MultiwayError, OutputError, os_reason
from multiway_core.files import DISK_ERRORS

if TYPE_CHECKING:
    import torch
    from rich.progress import Progress

LINE_SECONDS = 15.0
INTERRUPTED = 130
PIPE_CLOSED = 141
TRACEBACK_VARIABLE = "MULTIWAY_TRACEBACK"
_DTYPES = ("float32", "bfloat16", "float16")


def run(cli: typer.Typer, arguments: Sequence[str] | None = None, *, name: str | None = None) -> NoReturn:
    """Run a Typer app as a process: a user's mistake is one line on stderr and exit code 2, no traceback.

    ``arguments`` default to the command line, ``name`` to the program's. An error that is none of ours is
    a bug: it too is one line; with MULTIWAY_TRACEBACK=1 its traceback is printed.
    """
    name = name or Path(sys.argv[0]).name
    try:
        command = get_command(cli)
        code = command.main(
            args=None if arguments is None else list(arguments), prog_name=name, standalone_mode=False
        )
        if code == INTERRUPTED:  # what Typer makes of a KeyboardInterrupt
            _fail(name, "interrupted", INTERRUPTED)
        raise SystemExit(code if isinstance(code, int) else 0)
    except MultiwayError as error:
        _fail(name, str(error), error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        _fail(name, "interrupted", INTERRUPTED)
    except BrokenPipeError:
        _drop_stdout()
        raise SystemExit(PIPE_CLOSED) from None
    except MemoryError:
        _fail(name, "out of memory", 2)
    except Exception as error:
        if (
            isinstance(error, OSError) and error.errno in DISK_ERRORS
        ):  # of `--help`, which Typer prints itself
            _drop_stdout()
            _fail(name, f"cannot write: {os_reason(error)}", 2)
        if hasattr(error, "format_message"):  # Typer's usage errors
            context = getattr(error, "ctx", None)
            path = context.command_path if context is not None else name
            message = " ".join(error.format_message().split()).replace(
                "Value error, ", ""
            )  # pydantic's words
            _fail(name, f"{message} (see: {path} --help)", getattr(error, "exit_code", 2))
        if os.environ.get(TRACEBACK_VARIABLE):
            traceback.print_exc()
        _fail(name, f"{describe(error)} (a bug; {TRACEBACK_VARIABLE}=1 shows where)", 2)


def describe(error: BaseException) -> str:
    """Any exception as one line for a user: ours as they are, others with their type."""
    if isinstance(error, MultiwayError):
        return str(error)
    if isinstance(error, MemoryError):
        return "out of memory"
    return str(MultiwayError(f"internal error: {type(error).__name__}: {error}"))


def note(message: str) -> None:
    """One line on standard error (never on standard output, which is for results)."""
    try:
        sys.stderr.write(message.encode("utf-8", "backslashreplace").decode("utf-8") + "\n")
        sys.stderr.flush()
    except OSError:  # nobody listens; the exit code still tells
        pass


def write_stdout(data: str | bytes) -> None:
    """Write a piece of the result to standard output, as UTF-8 whatever the locale says, and flush it.

    Raises:
        SystemExit: with code 141 and no noise when the reader went away (``| head``).
        OutputError: standard output cannot take it, such as a full disk behind ``> file``.
    """
    if isinstance(data, str):
        data = data.encode("utf-8", errors="replace")
    try:
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        _drop_stdout()
        raise SystemExit(PIPE_CLOSED) from None
    except OSError as error:
        _drop_stdout()
        if error.errno == errno.EPIPE:
            raise SystemExit(PIPE_CLOSED) from None
        raise OutputError(f"cannot write to standard output: {os_reason(error)}") from error


def write_json(value: Any) -> None:
    """Write a JSON document to standard output; errors as of :func:`write_stdout`."""
    write_stdout(json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def progress_bar(*, enabled: bool = True) -> Progress:
    """A Rich progress bar on standard error that shows only when standard error is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not (enabled and sys.stderr.isatty()),
        transient=True,
    )


@contextmanager
def counting(what: str) -> Iterator[Callable[..., None]]:
    """A progress bar; yields ``move(done, total=None)``, for work whose size may be unknown before."""
    with progress_bar() as progress:
        bar = progress.add_task(what, total=None)
        tell = _Lines(what)

        def move(done: int, total: int | None = None) -> None:
            progress.update(bar, completed=done, total=total)
            tell(done, total)

        yield move


@contextmanager
def ticking(what: str, total: int | None = None) -> Iterator[Callable[..., None]]:
    """A progress bar; yields a function that moves it by one, whatever it is called with (``on_sample``)."""
    with progress_bar() as progress:
        bar = progress.add_task(what, total=total)
        tell, done = _Lines(what), itertools.count(1)

        def tick(*_: object) -> None:
            progress.advance(bar)
            tell(next(done), total)

        yield tick


class _Lines:
    """What a bar shows on a terminal, as a line now and then where standard error is a file or a pipe."""

    def __init__(self, what: str) -> None:
        self.what, self.said = what, time.monotonic()
        self.is_silent = sys.stderr.isatty()

    def __call__(self, done: int, total: int | None) -> None:
        if not self.is_silent and time.monotonic() - self.said >= LINE_SECONDS:
            self.said = time.monotonic()
            note(f"{self.what}: {done:,}" + (f" of {total:,}" if total else ""))


def pick_device(name: str) -> torch.device:
    """``auto``, ``cpu``, ``cuda`` or ``cuda:N`` as a device that is really there; else InputError."""
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise InputError(f"--device {name}: expected cpu, cuda, cuda:N or auto")
    if device.type == "cuda":
        count = torch.cuda.device_count()
        if (device.index or 0) >= count:
            raise InputError(
                f"--device {name}: this machine has {count} CUDA devices; use --device cpu or auto"
            )
    return device


def pick_dtype(name: str) -> torch.dtype | None:
    """``float32``, ``bfloat16`` or ``float16`` as a torch dtype, None for ``auto``; else InputError."""
    import torch

    if name == "auto":
        return None
    if name not in _DTYPES:
        raise InputError(f"--dtype {name}: expected {', '.join(_DTYPES)} or auto")
    dtype = getattr(torch, name)
    assert isinstance(dtype, torch.dtype)
    return dtype


def _fail(name: str, message: str, code: int) -> NoReturn:
    note(f"{name}: {message}")
    raise SystemExit(code)


def _drop_stdout() -> None:
    """Point standard output at nothing, so that the interpreter's flush at exit does not fail once more."""
    try:
        descriptor = sys.stdout.fileno()
    except (OSError, ValueError):
        return
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, descriptor)
    os.close(nothing)
