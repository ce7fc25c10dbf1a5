"""The demo in a real browser: open, transcribe, lanes, play a segment, another context. Skips without Chromium."""

from __future__ import annotations

import pytest
import soundfile
from multiway_core.app import launch

from apps.asr.tests.conftest import FIRST, SAID

OTHER = SAID.replace("the audio", "the radio <b>station</b>")


@pytest.fixture(scope="module")
def url(browser, model_folder):
    from multiway_asr.demo import build_demo

    blocks = build_demo(str(model_folder), device="cpu")
    yield launch(blocks, block=False)
    blocks.close(verbose=False)


@pytest.fixture
def talk(tmp_path, noise):
    """Longer than the sound of what is played, so that it can be seen to stop."""
    path = tmp_path / "talk.wav"
    soundfile.write(path, noise(4.0), 16_000)
    return path


def open_page(open_tab, url, **size):
    tab = open_tab(url, **size)
    tab.wait_for_selector("#asr-view .copy")
    tab.wait_for_timeout(1000)  # until the page's components listen
    return tab


def transcribe(tab, count: int) -> None:
    tab.click("#asr-transcribe")
    tab.wait_for_function(f"document.querySelectorAll('#asr-view .line').length === {count}")
    tab.wait_for_function("document.querySelector('#asr-view .summary').textContent.includes(' s in ')")


def test_open_transcribe_play_and_another_context(open_tab, url, say, talk, tmp_path, keep) -> None:
    say()
    tab = open_page(open_tab, url, width=1280)
    keep(tab, "start")
    tab.set_input_files("#asr-file input[type=file]", str(talk))
    tab.wait_for_selector("#asr-view .wave path[d^=M]")
    keep(tab, "opened")
    transcribe(tab, 2)
    keep(tab, "transcribed")

    # a lane a speaker, and a segment where it is spoken: the second from 0.5 to 1.5 s of 4 s
    lanes = tab.locator("#asr-view .lane")
    assert lanes.count() == 2
    assert lanes.nth(1).inner_text() == "Speaker 1"
    sheet, part = tab.locator("#asr-view .sheet").bounding_box(), lanes.nth(1).locator(".part").bounding_box()
    assert (part["x"] - sheet["x"]) / sheet["width"] == pytest.approx(0.125, abs=0.01)
    assert part["width"] / sheet["width"] == pytest.approx(0.25, abs=0.01)
    wave = tab.locator("#asr-view .wave").bounding_box()
    assert wave["y"] + wave["height"] <= part["y"]

    rows = tab.locator("#asr-view .line")
    assert rows.nth(0).inner_text().split("\n") == ["0:00.0", "Speaker 0", "Grüße, Anna."]
    rows.nth(1).click()
    assert "chosen" in lanes.nth(1).locator(".part").get_attribute("class")
    time = "document.querySelector('#asr-view audio').currentTime"
    tab.wait_for_function(f"{time} > 0.6")
    tab.wait_for_function("document.querySelector('#asr-view audio').paused")
    assert 1.4 < tab.evaluate(time) < 2.5  # it ends with the segment
    lanes.nth(0).locator(".part").click()
    assert "chosen" in rows.nth(0).get_attribute("class")
    keep(tab, "played")

    with tab.expect_download() as waiting:
        tab.click("#asr-get-srt")
    target = tmp_path / "download.srt"
    waiting.value.save_as(target)
    assert waiting.value.suggested_filename == "talk.srt"
    assert "Speaker 1: the audio" in target.read_text()

    say(OTHER)
    tab.fill("#asr-context textarea", "radio station")
    transcribe(tab, 2)
    tab.wait_for_selector("#asr-view .line.fresh")
    assert rows.nth(1).locator(".words").inner_text() == "the radio <b>station</b>"  # text, not markup
    assert tab.locator("#asr-view .line.fresh").count() == 1  # what is new beside the run before
    keep(tab, "again")
    assert tab.errors == []
    assert tab.hosts <= {url.split("/")[2], ""}  # nothing is fetched from anywhere else


def test_a_narrow_page_has_no_sideways_scroll(open_tab, url, say, talk, keep) -> None:
    say(f"[{FIRST},{FIRST.replace('Grüße, Anna.', 'a rather long sentence that has to be broken ' * 4)}]")
    tab = open_page(open_tab, url, width=400, height=900)
    tab.set_input_files("#asr-file input[type=file]", str(talk))
    tab.wait_for_selector("#asr-view .wave path[d^=M]")
    transcribe(tab, 2)
    tab.locator("#asr-view").scroll_into_view_if_needed()
    keep(tab, "narrow")
    assert tab.evaluate("document.documentElement.scrollWidth") <= 400
    view = tab.locator("#asr-view .text").bounding_box()
    assert view["x"] >= 0
    assert view["x"] + view["width"] <= 400


def test_a_bad_file_is_a_message_in_the_page(open_tab, url, tmp_path, keep) -> None:
    path = tmp_path / "broken.wav"
    path.write_bytes(b"RIFF not really")
    tab = open_page(open_tab, url)
    tab.set_input_files("#asr-file input[type=file]", str(path))
    toast = tab.wait_for_selector(".toast-body")
    keep(tab, "bad")
    assert "broken.wav" in toast.inner_text()
    assert "Traceback" not in toast.inner_text()


def test_examples_are_one_click_away(open_tab, url) -> None:
    from multiway_asr.app import APP
    from multiway_asr.transcriber import SUFFIXES
    from multiway_core.app import repository_examples

    files = repository_examples(APP, SUFFIXES)
    if not files:
        pytest.skip("the examples lie in the repository")
    tab = open_page(open_tab, url)
    tab.click(f"#asr-example-{files[0].stem}")
    tab.wait_for_selector("#asr-view .wave path[d^=M]")
