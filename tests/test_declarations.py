"""What each installed app declares is there."""

import subprocess
import sys

import pytest
from multiway_core.app import App, CommandLine, TrainingOptions, installed_apps
from multiway_core.app.registry import Part
from rich.text import Text
from typer.main import get_command

from multiway.cli import cli

APPS = [item.app for item in installed_apps() if item.app is not None]
PARTS = Part.__args__
TRAIN = CommandLine(App("any", "A", "A.", cli="x:cli"))


@TRAIN.command()
def train(*, options: TrainingOptions) -> None:
    """What the kit gives."""


@pytest.mark.parametrize("app", APPS, ids=lambda app: app.name)
def test_every_declared_part_can_be_imported(app):
    for part in PARTS:
        found = app.load(part)
        assert (found is None) == (getattr(app, part) is None)
    assert app.picture is None or app.picture_path() is not None
    assert app.model.startswith("bundled:") or app.model == "auto" or app.pipeline is None


def test_listing_the_apps_imports_neither_torch_nor_gradio():
    code = (
        "import sys; from multiway_core.app import installed_apps; found = installed_apps();"
        "assert all(item.app for item in found), found; print(sorted({'torch', 'gradio'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def helps(command, path):
    """(path, text) of every text of help below a Click command."""
    yield path, command.help or ""
    for parameter in command.params:
        yield f"{path} {parameter.name}", getattr(parameter, "help", None) or ""
    for name, found in getattr(command, "commands", {}).items():
        yield from helps(found, f"{path} {name}")


CLIS = {app.program: app.load("cli") for app in APPS} | {"multiway": cli}


@pytest.mark.parametrize("program", CLIS)
def test_help_shows_its_brackets(program):
    """Rich takes [default: ...] for a style, and drops it, unless the bracket is escaped."""
    found = list(helps(get_command(CLIS[program]), program))
    assert len(found) > 20
    assert [p for p, text in found if Text.from_markup(text).plain != text.replace("\\[", "[")] == []


def commands(command, path):
    """(path, options) of every command below a Click command."""
    for name, found in getattr(command, "commands", {}).items():
        yield from commands(found, f"{path} {name}")
    if not hasattr(command, "commands"):
        yield path, {option for parameter in command.params for option in parameter.opts}


COMMANDS = [pair for app in APPS for pair in commands(get_command(app.load("cli")), app.program)]


def test_every_command_with_a_model_takes_device_and_dtype():
    found = {path: options for path, options in COMMANDS if "--model" in options}
    assert len(found) >= 20
    assert [path for path, options in found.items() if not {"--device", "--dtype"} <= options] == []


def test_every_train_takes_the_same_options():
    found = {path: options for path, options in COMMANDS if path.endswith(" train")}
    assert len(found) >= 8
    shared = {option for _, options in commands(get_command(TRAIN), "train") for option in options}
    assert shared >= {
        "--data",
        "--steps",
        "--parallel",
        "--precision",
        "--accumulation",
        "--checkpoint-every",
    }
    lacking = {path: sorted(shared - options) for path, options in found.items() if shared - options}
    assert lacking == {}
