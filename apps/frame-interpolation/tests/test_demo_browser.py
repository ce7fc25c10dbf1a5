"""The demo in a real browser: frames, slider, a bad file. Skips without Chromium or Playwright."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from multiway_core.app import launch

playwright_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
PATIENCE = 250_000  # milliseconds; a test machine may be busy

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")


@pytest.fixture
def url(model):
    from multiway_frame_interpolation.demo import build_demo

    blocks = build_demo(os.environ.get("MULTIWAY_DEMO_MODEL", str(model)), device="cpu")
    yield launch(blocks, block=False)
    blocks.close(verbose=False)


@pytest.fixture(scope="module")
def browser():
    with playwright_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        yield browser
        browser.close()


def keep(tab, name: str) -> None:
    """A screenshot in the folder MULTIWAY_SCREENSHOTS when that is set."""
    folder = os.environ.get("MULTIWAY_SCREENSHOTS")
    if folder:
        (Path(folder) / f"{name}.png").write_bytes(tab.screenshot())


def test_frames_slider_and_a_bad_file(browser, url, video, tmp_path):
    tab = browser.new_page(viewport={"width": 1500, "height": 900})
    tab.set_default_timeout(PATIENCE)
    errors: list[str] = []
    hosts: set[str] = set()
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.on("request", lambda request: hosts.add(request.url.split("/")[2] if "//" in request.url else ""))
    tab.goto(url)
    tab.wait_for_selector("#fi-summary table")  # the drawn shapes, at once
    assert tab.locator("#fi-slider img").count() >= 2
    assert tab.locator("#fi-gallery img").count() >= 6
    keep(tab, "shapes")
    assert "TimeReplayer" in tab.inner_text("#fi-summary")

    before = tab.inner_text("#fi-summary")
    tab.set_input_files("#fi-video input[type=file]", str(video))
    tab.wait_for_function(f"document.querySelector('#fi-summary').innerText !== {before!r}")
    keep(tab, "video")
    tab.click("#fi-compared label:has-text('true frame')")
    tab.wait_for_timeout(2000)
    keep(tab, "truth")

    noise = tmp_path / "noise.mp4"
    noise.write_bytes(bytes(range(256)) * 20)
    tab.click("#fi-video button[aria-label*='emove'], #fi-video button[aria-label*='lear']")
    tab.set_input_files("#fi-video input[type=file]", str(noise))
    toast = tab.wait_for_selector(".toast-body")
    assert "cannot be read as a video" in toast.inner_text()
    assert errors == []
    assert hosts <= {url.split("/")[2], ""}  # nothing is fetched from anywhere else
    tab.close()
