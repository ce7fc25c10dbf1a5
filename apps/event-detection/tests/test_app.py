"""What the umbrella learns of the app, and the start of its command."""

from __future__ import annotations

import subprocess
import sys
from typing import get_args

from multiway_core.app import installed_apps
from multiway_event_detection.app import APP
from multiway_event_detection.options import (
    EngineName,
    EventFormat,
    PolicyName,
    PresetName,
    Unit,
    ViewName,
)


def test_the_app_is_installed_and_can_be_loaded():
    (app,) = [item for item in installed_apps() if item.name == "event-detection"]
    assert app.problem is None
    assert app.app.cli == "multiway_event_detection.cli:cli"
    assert app.app.demo is not None
    assert app.app.quick_evaluation is not None


def test_help_loads_no_framework():
    code = (
        "import sys\n"
        "from multiway_event_detection.cli import cli\n"
        "from multiway_core.app import run\n"
        "try: run(cli, ['--help'])\n"
        "except SystemExit: pass\n"
        "print([m for m in ('torch', 'numpy', 'cv2', 'av', 'h5py') if m in sys.modules])\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert result.stdout.splitlines()[-1] == "[]", result.stderr
    for command in ("detect", "evaluate", "demo", "train", "info", "convert", "render", "simulate"):
        assert command in result.stdout


def test_the_names_are_the_packages():
    from multiway_event_vision import pipeline
    from multiway_event_vision.formats.time_unit import MICROSECONDS_IN
    from multiway_event_vision.formats.writer import WRITERS
    from multiway_event_vision.metrics.detection import PRESETS
    from multiway_event_vision.pipeline import ENGINES
    from multiway_event_vision.rendering import VIEWS
    from multiway_event_vision.ssla_det import policies

    assert get_args(EventFormat) == tuple(WRITERS)
    assert get_args(ViewName) == tuple(VIEWS)
    assert get_args(Unit) == tuple(MICROSECONDS_IN)
    assert get_args(EngineName) == tuple(ENGINES)
    assert get_args(PolicyName) == get_args(policies.PolicyName)
    assert set(get_args(PresetName)) == set(PRESETS)
    assert APP.model == pipeline.AUTO


def test_help_shows_defaults_that_no_value_stands_for(call, monkeypatch):
    """Rich takes what stands in brackets for markup and drops it, unless it is escaped."""
    monkeypatch.setenv("COLUMNS", "200")
    for command, default in (("detect", "at most 304"), ("render", "1/fps"), ("simulate", "128x96")):
        code, out, _ = call(command, "--help")
        assert code == 0
        assert f"[default: {default}]" in out
