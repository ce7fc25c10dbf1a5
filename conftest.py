"""Fixtures of all members' tests."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest

BROWSER_OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
PATIENCE = 250_000  # milliseconds; a test machine may be busy
FEW_FILES = 6  # so many test files run in one process, which starts at once


def pytest_xdist_auto_num_workers(config) -> int:
    """Whole folders are tested by one process a core; a few named files by this process alone."""
    files = {argument.split("::")[0] for argument in config.args}
    if len(files) <= FEW_FILES and all(Path(file).is_file() for file in files):
        return 0
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def pytest_configure(config) -> None:
    """Divide the cores among the test processes, before one of them imports PyTorch."""
    worker = getattr(config, "workerinput", None)
    if worker is not None:
        cores = os.cpu_count() or 1
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores // worker["workercount"])))
        # A demo that ends removes its files from Gradio's folder, where another test's have the same names.
        folder = tempfile.TemporaryDirectory(prefix="gradio-")
        config.add_cleanup(folder.cleanup)
        os.environ.setdefault("GRADIO_TEMP_DIR", folder.name)
    # A shell starts a background job with Ctrl-C ignored, which the processes of tests would inherit.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_runtest_setup(item):
    """Skip a test where a package is missing that its mark ``requires("meeteval", ...)`` names.

    (``importorskip`` at the top of a module would import it while tests are collected.)
    """
    for mark in item.iter_markers("requires"):
        for package in mark.args:
            pytest.importorskip(package)


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory):
    """The folder of a sentence encoder with random weights, for tests that only read it."""
    from packages.text.tests.tiny_encoder import sentence_model

    folder = tmp_path_factory.mktemp("tiny-encoder")
    sentence_model(folder)
    return folder


@pytest.fixture
def call_app(capfd):
    """``call_app(cli, name)`` runs an app's command line in this process: arguments -> exit code, output, errors."""

    def caller(cli, name):
        from multiway_core.app import run

        def run_command(*arguments) -> tuple[int, str, str]:
            capfd.readouterr()
            with pytest.raises(SystemExit) as exit_:
                run(cli, [str(argument) for argument in arguments], name=name)
            out, err = capfd.readouterr()
            assert "Traceback" not in err
            assert "internal error" not in err
            code = exit_.value.code
            assert isinstance(code, int)
            return code, out, err

        return run_command

    return caller


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium; tests that ask for it are skipped where it or Playwright is missing."""
    playwright_api = pytest.importorskip("playwright.sync_api")
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        pytest.skip("no Chromium")
    with playwright_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=BROWSER_OPTIONS)
        yield browser
        browser.close()


@pytest.fixture
def open_tab(browser):
    """``open_tab(url)``: a tab that notes the page's ``errors`` and the ``hosts`` that it asks for anything."""
    tabs = []

    def opener(url, *, width=1440, height=900):
        tab = browser.new_page(viewport={"width": width, "height": height})
        tabs.append(tab)
        tab.set_default_timeout(PATIENCE)
        tab.errors = []
        tab.hosts = set()
        tab.on("pageerror", lambda error: tab.errors.append(str(error)))
        tab.on(
            "request", lambda request: tab.hosts.add(request.url.split("/")[2] if "//" in request.url else "")
        )
        tab.goto(url)
        return tab

    yield opener
    for tab in tabs:
        tab.close()


@pytest.fixture
def keep():
    """``keep(tab, name)``: a screenshot; also written into the folder MULTIWAY_SCREENSHOTS when that is set."""

    def keeper(tab, name: str) -> bytes:
        data = tab.screenshot()
        folder = os.environ.get("MULTIWAY_SCREENSHOTS")
        if folder:
            (Path(folder) / f"{name}.png").write_bytes(data)
        return data

    return keeper
