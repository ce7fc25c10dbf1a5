import sys
import textwrap

import pytest
from multiway_core.app import App, installed_apps


@pytest.fixture
def fake_apps(tmp_path, monkeypatch):
    """Two installed distributions: one app that works, one whose import fails, one that is no app."""
    (tmp_path / "good_app.py").write_text(
        textwrap.dedent(
            """
            from multiway_core.app import App
            APP = App("good", "Good", "Does good.", "good_app:cli", lambda: None, lambda: None)
            NOT_AN_APP = 3
            def demo():
                return "a page"
            """
        )
    )
    (tmp_path / "broken_app.py").write_text("import a_dependency_that_is_not_there\n")
    info = tmp_path / "fake_apps-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fake-apps\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(
        "[multiway.apps]\nzz-good = good_app:APP\nbroken = broken_app:APP\nodd = good_app:NOT_AN_APP\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    for name in ("good_app", "broken_app"):
        sys.modules.pop(name, None)


def test_broken_apps_are_listed_and_hide_no_other(fake_apps):
    found = {app.name: app for app in installed_apps()}
    assert isinstance(found["zz-good"].app, App)
    assert found["zz-good"].distribution == "fake-apps"
    assert found["zz-good"].version == "1.2"
    assert found["broken"].app is None
    assert "a_dependency_that_is_not_there" in found["broken"].problem
    assert "expected multiway_core.app.App" in found["odd"].problem


def test_a_part_is_imported_when_it_is_asked_for(fake_apps):
    app = App("some-task", "T", "D.", "good_app:cli", demo="good_app:demo", pipeline="good_app")
    assert app.program == "multiway-some-task"
    assert app.package == "multiway_some_task"
    assert "good_app" not in sys.modules
    assert app.load("demo")() == "a page"
    assert app.load("pipeline") is sys.modules["good_app"]
    assert app.load("serve") is None
    assert App("x", "X", "X.", "x:cli", demo=lambda: 3).load("demo")() == 3
    assert app.picture_path() is None
