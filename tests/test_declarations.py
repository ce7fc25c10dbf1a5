"""What each installed app declares is there."""

import subprocess
import sys

import pytest
from multiway_core.app import installed_apps
from multiway_core.app.registry import Part

APPS = [item.app for item in installed_apps() if item.app is not None]
PARTS = Part.__args__


@pytest.mark.parametrize("app", APPS, ids=lambda app: app.name)
def test_every_declared_part_can_be_imported(app):
    for part in PARTS:
        found = app.load(part)
        assert (found is None) == (getattr(app, part) is None)
    assert app.picture is None or app.picture_path() is not None
    assert app.model.startswith("bundled:")


def test_listing_the_apps_imports_neither_torch_nor_gradio():
    code = (
        "import sys; from multiway_core.app import installed_apps; found = installed_apps();"
        "assert all(item.app for item in found), found; print(sorted({'torch', 'gradio'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
