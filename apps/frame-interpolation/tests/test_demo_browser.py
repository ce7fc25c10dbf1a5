"""The demo in a real browser: frames, slider, a bad file. Skips without Chromium or Playwright."""

from __future__ import annotations

import os

import pytest
from multiway_core.app import launch


@pytest.fixture
def url(browser, model):
    from multiway_frame_interpolation.demo import build_demo

    blocks = build_demo(os.environ.get("MULTIWAY_DEMO_MODEL", str(model)), device="cpu")
    yield launch(blocks, block=False)
    blocks.close(verbose=False)


def test_frames_slider_and_a_bad_file(open_tab, url, video, tmp_path, keep):
    tab = open_tab(url, width=1500)
    tab.wait_for_selector("#fi-summary table")  # the drawn shapes, at once
    assert tab.locator("#fi-slider img").count() >= 2
    assert tab.locator("#fi-gallery img").count() >= 6
    keep(tab, "shapes")
    assert "TimeReplayer" in tab.inner_text("#fi-summary")

    tab.set_viewport_size({"width": 390, "height": 844})
    tab.wait_for_timeout(500)
    widest = "Math.max(...[...document.querySelectorAll('#fi-summary td')].map(e => e.getBoundingClientRect().right))"
    assert tab.evaluate(widest) <= 390
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    keep(tab, "phone")
    tab.set_viewport_size({"width": 1500, "height": 900})

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
    assert tab.errors == []
    assert tab.hosts <= {url.split("/")[2], ""}  # nothing is fetched from anywhere else
    tab.close()
