"""What the umbrella learns of the app, and the start of its command."""

from __future__ import annotations

import subprocess
import sys
from typing import get_args

from multiway_core.app import installed_apps
from multiway_frame_interpolation.options import Unit


def test_the_app_is_installed_and_can_be_loaded():
    (app,) = [item for item in installed_apps() if item.name == "frame-interpolation"]
    assert app.problem is None
    assert app.app.cli == "multiway_frame_interpolation.cli:cli"


def test_help_loads_no_framework():
    code = (
        "import sys\n"
        "from multiway_frame_interpolation.cli import cli\n"
        "from multiway_core.app import run\n"
        "try: run(cli, ['--help'])\n"
        "except SystemExit: pass\n"
        "print([m for m in ('torch', 'numpy', 'cv2', 'av', 'gradio') if m in sys.modules])\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert result.stdout.splitlines()[-1] == "[]", result.stderr
    for command in ("interpolate", "extrapolate", "evaluate", "train", "demo"):
        assert command in result.stdout


def test_the_units_are_the_packages():
    from multiway_event_vision.formats.time_unit import MICROSECONDS_IN

    assert get_args(Unit) == tuple(MICROSECONDS_IN)
