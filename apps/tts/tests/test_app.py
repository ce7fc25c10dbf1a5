"""What the umbrella sees."""

from __future__ import annotations

from multiway_core.app import installed_apps


def test_the_app_is_installed() -> None:
    found = next(app for app in installed_apps() if app.name == "tts")
    assert found.problem is None
    assert found.app is not None
    assert found.app.cli == "multiway_tts.cli:cli"
    assert callable(found.app.load("demo"))
    assert callable(found.app.load("quick_evaluation"))
