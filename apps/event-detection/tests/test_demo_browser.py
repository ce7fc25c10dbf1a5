"""The demo in a real browser: open, see events and boxes, scrub, play. Skips without Chromium or Playwright."""

from __future__ import annotations

import numpy as np
import pytest
from multiway_core.app import launch
from multiway_event_vision.formats import open_events
from multiway_event_vision.pipeline import DetectionOptions, DetectionPipeline
from multiway_event_vision.rendering import VIEWS

SEEK = """microseconds => {
    const bar = document.querySelector('#events-view .time');
    bar.value = microseconds;
    bar.dispatchEvent(new Event('input'));
}"""
PIXELS = """() => {
    const canvas = document.querySelector('#events-view canvas');
    return Array.from(canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data);
}"""


@pytest.fixture(scope="module")
def url(browser, model):
    from multiway_event_detection.demo import build_demo

    blocks = build_demo(str(model))
    yield launch(blocks, block=False)
    blocks.close(verbose=False)


@pytest.fixture
def tab(open_tab, url):
    tab = open_tab(url)
    tab.wait_for_selector("#events-view .viewer")
    tab.wait_for_timeout(1000)  # until the page's components listen
    return tab


def open_file(tab, path) -> None:
    tab.set_input_files("#events-file input[type=file]", str(path))
    tab.wait_for_function("/read-outs in/.test(document.querySelector('#events-view .summary').textContent)")
    tab.evaluate(SEEK, 0)  # it begins to play by itself; this stops it


def test_events_and_boxes_at_any_microsecond(tab, url, recording, events, model, keep):
    keep(tab, "start")
    open_file(tab, recording)
    assert tab.inner_text("#events-view .play") == "Play"
    # The recording's grid of read-outs begins at 0, and so does the bar.
    pipeline = DetectionPipeline.from_pretrained(str(model))
    predictions = list(pipeline.detect(open_events(recording), DetectionOptions(score=0.1)))
    tab.evaluate("() => { document.querySelector('#events-view .score').value = 0.1; }")
    for now in (95_000, 103_217, 200_000):
        tab.evaluate(SEEK, now)
        read = max((read for read in predictions if read.t <= now), key=lambda read: read.t)
        assert tab.locator("#events-view .pane").first.locator(".box").count() == len(read)
        title = tab.locator("#events-view .pane").first.locator(".box").first.get_attribute("title")
        old = (read.age_M[0] + now - read.t) / 1000
        name = pipeline.names[read.class_M[0]]
        assert title == f"{name}, score {read.score_M[0]:.3f}, {old:.1f} ms old"
        assert tab.inner_text("#events-view .at") == f"{now:,} µs"
        newest = (read.age_M.min() + now - read.t) / 1000
        assert abs(float(tab.inner_text("#events-view [data-counter=age]")) - newest) <= 0.051
    keep(tab, "boxes")
    tab.evaluate("() => { document.querySelector('#events-view .score').value = 0.95; }")
    tab.evaluate(SEEK, 100_000)
    assert tab.locator("#events-view .pane").first.locator(".box").count() == 0
    for counter in ("us", "mean", "p99", "peeks"):
        assert float(tab.inner_text(f"#events-view [data-counter={counter}]")) > 0
    assert tab.errors == []
    assert tab.hosts <= {url.split("/")[2], ""}  # nothing is fetched from anywhere else


def test_the_browsers_pictures_are_the_packages(tab, recording, events):
    open_file(tab, recording)
    window = tab.evaluate("() => Math.round(1000 * 10 ** (2.3 * document.querySelector('.window').value))")
    assert 15_000 < window < 25_000
    for mode in ("frame", "count", "surface"):
        tab.select_option("#events-view .mode", mode)
        tab.evaluate(SEEK, 150_000)
        found_HW3 = np.array(tab.evaluate(PIXELS)).reshape(30, 40, 4)[..., :3]
        view = VIEWS[mode](40, 30)
        if mode == "surface":
            view.add(events.between(0, 150_000 - window))
        view.begin(150_000 - window, window)
        view.add(events.between(150_000 - window, 150_000))
        assert np.abs(found_HW3 - view.picture().astype(int)).max() <= 1, mode
        assert (found_HW3 != 255).any()


def test_it_plays_and_can_be_narrow(tab, recording, keep):
    tab.set_viewport_size({"width": 420, "height": 900})
    open_file(tab, recording)
    tab.select_option("#events-view .speed", "1")
    tab.click("#events-view .play")
    tab.wait_for_function("document.querySelector('#events-view .time').value > 50000")
    picture = tab.locator("#events-view .stage").first.bounding_box()
    assert picture["x"] >= 0
    assert picture["x"] + picture["width"] <= 420
    assert tab.evaluate("document.documentElement.scrollWidth") <= 420
    keep(tab, "narrow")
    assert tab.errors == []


def test_an_example_is_a_click_away(tab, keep):
    tab.locator("#events-examples button").first.click()
    tab.wait_for_selector("#events-view canvas")
    tab.wait_for_function("document.querySelector('#events-view .summary').textContent.length > 0")
    keep(tab, "example")
    assert tab.errors == []


def test_a_bad_file_is_a_message_in_the_page(tab, tmp_path):
    path = tmp_path / "broken.raw"
    path.write_bytes(b"not events at all")
    tab.set_input_files("#events-file input[type=file]", str(path))
    toast = tab.wait_for_selector(".toast-body")
    assert "broken.raw" in toast.inner_text()
    assert "Traceback" not in toast.inner_text()
