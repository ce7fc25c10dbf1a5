"""The demo in a real browser: upload, read, see the text, choose a line. Skips without Chromium or Playwright."""

from __future__ import annotations

import pytest
from multiway_core.app import launch

pytestmark = pytest.mark.usefixtures("needs_model")


@pytest.fixture(scope="module")
def url(browser):
    import multiway_document.pipeline  # loading torch is no part of what the browser waits for
    from multiway_ocr.demo import build_demo

    assert multiway_document.pipeline
    blocks = build_demo(device="cpu")
    yield launch(blocks, block=False)
    blocks.close(verbose=False)


@pytest.fixture
def tab(open_tab, url):
    tab = open_tab(url)
    tab.wait_for_selector("#ocr-view .copy")
    tab.wait_for_timeout(1000)  # until the page's components listen
    return tab


def test_upload_read_see_and_choose(tab, url, page, tmp_path, keep):
    keep(tab, "start")
    tab.set_input_files("#ocr-file input[type=file]", str(page))
    tab.wait_for_selector("#ocr-view .sheet img[src^=data]")
    before = keep(tab, "opened")
    tab.click("#ocr-read")
    tab.wait_for_function("document.querySelectorAll('#ocr-view .text .line:not(.note)').length === 2")
    tab.wait_for_function("document.querySelector('#ocr-view .summary').textContent.startsWith('2 lines')")
    assert keep(tab, "read") != before

    boxes = tab.locator("#ocr-view rect")
    rows = tab.locator("#ocr-view .text .line")
    assert boxes.count() == rows.count() == 2
    assert len(rows.nth(0).inner_text()) >= 10
    # a box lies on its line: the first in the upper half of the picture, the second below it
    picture = tab.locator("#ocr-view .sheet").bounding_box()
    first, second = boxes.nth(0).bounding_box(), boxes.nth(1).bounding_box()
    assert picture["y"] <= first["y"] < second["y"] < picture["y"] + picture["height"]
    assert first["width"] > picture["width"] / 3

    boxes.nth(1).click()
    assert "chosen" in rows.nth(1).get_attribute("class")
    rows.nth(0).click()
    assert "chosen" in boxes.nth(0).get_attribute("class")
    assert "chosen" not in (boxes.nth(1).get_attribute("class") or "")
    keep(tab, "chosen")

    with tab.expect_download() as waiting:
        tab.click("#ocr-get-json")
    target = tmp_path / "download.json"
    waiting.value.save_as(target)
    assert waiting.value.suggested_filename == "page.json"
    assert '"multiway.ocr/1"' in target.read_text()

    assert tab.errors == []
    assert tab.hosts <= {url.split("/")[2], ""}  # nothing is fetched from anywhere else


def test_a_bad_file_is_a_message_in_the_page(tab, tmp_path, keep):
    path = tmp_path / "broken.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\nnot really")
    tab.set_input_files("#ocr-file input[type=file]", str(path))
    toast = tab.wait_for_selector(".toast-body")
    keep(tab, "bad")
    assert "broken.png" in toast.inner_text()
    assert "Traceback" not in toast.inner_text()


def test_messages_are_text_not_markup(open_tab):
    import gradio as gr
    from multiway_core.app import frame, messages
    from multiway_core.errors import InputError

    @messages
    def fail():
        raise InputError('it\'s <b>bad</b> & "odd"')

    with frame("<i>Title</i>", "a < b") as blocks:
        gr.Button("Fail", elem_id="fail").click(fail)
    url = launch(blocks, block=False)
    try:
        tab = open_tab(url)
        assert tab.wait_for_selector(".mw-header h1").inner_text() == "<i>Title</i>"
        tab.wait_for_timeout(1000)
        tab.click("#fail")
        assert 'it\'s <b>bad</b> & "odd"' in tab.wait_for_selector(".toast-body").inner_text()
    finally:
        blocks.close(verbose=False)
