"""Tiny language models with random weights, and a way to call the command inside this process."""

from __future__ import annotations

import importlib

import pytest

tiny = importlib.import_module("packages.text.tests.tiny_lm")


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A model folder with a chat format."""
    return tiny.save_llama(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def plain_folder(tmp_path_factory):
    """One without."""
    return tiny.save_llama(tmp_path_factory.mktemp("models") / "plain", chat=False)


@pytest.fixture(scope="session")
def ternary_folder(tmp_path_factory):
    """Packed ternary weights, in the layout of the bundled model."""
    return tiny.save_bitnet(tmp_path_factory.mktemp("models") / "ternary")


@pytest.fixture(scope="session")
def model(folder):
    """The first, loaded."""
    from multiway_text.language_model import LanguageModel

    return LanguageModel.from_pretrained(folder)


@pytest.fixture
def call(call_app):
    """Run ``multiway-lm`` with arguments in this process: exit code, standard output, standard error."""
    from multiway_lm.cli import cli

    return call_app(cli, "multiway-lm")
