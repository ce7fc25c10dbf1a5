"""The demo in a real browser: find, isolate, draw, download, many at once. Skips without Chromium or Playwright."""

from __future__ import annotations

import json
import zipfile

import pytest
from multiway_core.app import launch
from multiway_vision_language.pipeline import GroundingPipeline
from PIL import Image


@pytest.fixture(scope="module")
def url(browser, model):
    from multiway_grounding.demo import build_demo

    blocks = build_demo(str(model), device="cpu")
    yield launch(blocks, block=False)
    blocks.close(verbose=False)


@pytest.fixture
def tab(open_tab, url):
    tab = open_tab(url)
    tab.wait_for_selector("#ground-view .viewer")
    tab.wait_for_timeout(1000)  # until the page's components listen
    return tab


@pytest.fixture
def wide(tmp_path, picture):
    path = tmp_path / "wide.png"
    picture(400, 240, seed=5).save(path)
    return path


def open_picture(tab, path) -> None:
    tab.set_input_files("#ground-file input[type=file]", str(path))
    tab.wait_for_selector("#ground-view .sheet img[src^=data]")
    tab.wait_for_function("/pixels/.test(document.querySelector('#ground-view .summary').textContent)")


def finished(tab) -> None:
    tab.wait_for_function("/ s · /.test(document.querySelector('#ground-view .summary').textContent)")


def test_find_phrases_isolate_one_and_download(tab, url, wide, model, tmp_path, keep):
    keep(tab, "start")
    open_picture(tab, wide)
    tab.fill("#ground-phrases textarea", "a snowman\nthe fire")
    tab.click("#ground-run")
    finished(tab)
    keep(tab, "found")
    result = GroundingPipeline.from_pretrained(str(model)).locate(wide, ["a snowman", "the fire"])
    boxes = tab.locator("#ground-view .box")
    assert boxes.count() == sum(len(entity.boxes) for entity in result.entities)
    assert tab.locator("#ground-view .row.place").count() == boxes.count()
    chips = tab.locator("#ground-view .text .entity")
    assert [chips.nth(index).inner_text() for index in range(2)] == ["a snowman", "the fire"]

    # A box lies where the pipeline says, in the colour of its words.
    sheet = tab.locator("#ground-view .sheet").bounding_box()
    first = tab.locator("#ground-view .box[data-entity='0']").first
    shown = first.bounding_box()
    left, top, right, bottom = max(result.entities[0].boxes, key=lambda box: area(box.xyxy)).xyxy
    scale = sheet["width"] / 400
    assert shown["x"] - sheet["x"] == pytest.approx(left * scale, abs=1.5)
    assert shown["y"] - sheet["y"] == pytest.approx(top * scale, abs=1.5)
    assert shown["width"] == pytest.approx((right - left) * scale, abs=2)
    assert shown["height"] == pytest.approx((bottom - top) * scale, abs=2)
    paint = "item => getComputedStyle(item).getPropertyValue('--paint')"
    assert first.evaluate(paint) == chips.nth(0).evaluate(paint) != chips.nth(1).evaluate(paint)

    chips.nth(1).click()
    opacity = "item => getComputedStyle(item).opacity"
    tab.wait_for_timeout(400)
    assert first.evaluate(opacity) == "0"
    assert tab.locator("#ground-view .box[data-entity='1']").first.evaluate(opacity) == "1"
    assert tab.locator("#ground-view .cells.chosen").first.is_visible()
    keep(tab, "isolated")
    tab.click("#ground-view .all")
    tab.wait_for_timeout(400)
    assert first.evaluate(opacity) == "1"

    tab.click("#ground-view details summary")
    assert "<phrase>a snowman</phrase>" in tab.inner_text("#ground-view .raw pre")
    for kind, name in (("json", "wide.json"), ("png", "wide.annotated.png"), ("coco", "wide.coco.json")):
        with tab.expect_download() as waiting:
            tab.click(f"#ground-get-{kind}")
        assert waiting.value.suggested_filename == name
        waiting.value.save_as(tmp_path / name)
    assert json.loads((tmp_path / "wide.json").read_text())["schema"] == "multiway.grounding/1"
    assert Image.open(tmp_path / "wide.annotated.png").size == (400, 240)
    assert tab.errors == []
    assert tab.hosts <= {url.split("/")[2], ""}  # nothing is fetched from anywhere else


def area(xyxy) -> float:
    return (xyxy[2] - xyxy[0]) * (xyxy[3] - xyxy[1])


def test_a_drawn_box_is_described(tab, wide, model, keep):
    open_picture(tab, wide)
    sheet = tab.locator("#ground-view .sheet").bounding_box()
    tab.mouse.move(sheet["x"] + 0.30 * sheet["width"], sheet["y"] + 0.30 * sheet["height"])
    tab.mouse.down()
    tab.mouse.move(sheet["x"] + 0.70 * sheet["width"], sheet["y"] + 0.80 * sheet["height"], steps=4)
    assert tab.locator("#ground-view .drawn").is_visible()
    # The cells that the box snaps to are the package's.
    pipeline = GroundingPipeline.from_pretrained(str(model))
    cells = pipeline.grid.encode((0.3, 0.3, 0.7, 0.8))
    column, row = cells[0] % pipeline.grid.size, cells[0] // pipeline.grid.size
    snapped = tab.locator("#ground-view .snapped").bounding_box()
    assert (snapped["x"] - sheet["x"]) / sheet["width"] == pytest.approx(column / 4, abs=0.01)
    assert (snapped["y"] - sheet["y"]) / sheet["height"] == pytest.approx(row / 4, abs=0.01)
    assert snapped["width"] / sheet["width"] == pytest.approx((cells[1] % 4 + 1 - column) / 4, abs=0.01)
    keep(tab, "drawing")
    tab.mouse.up()
    finished(tab)
    box = [float(number) for number in tab.input_value("#ground-box textarea, #ground-box input").split(",")]
    assert box == pytest.approx([120, 72, 280, 192], abs=2)
    assert tab.inner_text("#ground-view .text").startswith("It is")
    assert tab.locator("#ground-view .text .entity").inner_text() == "It"
    keep(tab, "described")
    assert tab.errors == []


def test_it_can_be_narrow(open_tab, url, wide, keep):
    tab = open_tab(url, width=400, height=850)
    tab.wait_for_selector("#ground-view .viewer")
    tab.wait_for_timeout(1000)
    tab.locator("#ground-examples button").first.click()
    tab.wait_for_selector("#ground-view .sheet img[src^=data]")
    tab.fill("#ground-phrases textarea", "the red bus")
    tab.click("#ground-run")
    finished(tab)
    picture = tab.locator("#ground-view .sheet").bounding_box()
    assert picture["x"] >= 0
    assert picture["x"] + picture["width"] <= 400
    assert picture["width"] > 250
    assert tab.evaluate("document.documentElement.scrollWidth") <= 400
    keep(tab, "narrow")
    assert tab.errors == []


def test_many_pictures_one_of_them_bad(tab, wide, photo, tmp_path, keep):
    bad = tmp_path / "<i>bad.png"
    bad.write_bytes(b"no picture")
    tab.get_by_role("tab", name="Many pictures").click()
    tab.set_input_files("#ground-files input[type=file]", [str(wide), str(bad), str(photo)])
    tab.wait_for_function("document.querySelectorAll('#ground-files .file').length === 3")
    tab.click("#ground-batch-run")
    tab.wait_for_function(
        "/2 of 3 pictures done, 1 could not be read/.test(document.querySelector('#ground-batch-status').innerText)"
    )
    cards = tab.locator("#ground-batch-cards .card")
    assert cards.count() == 3
    assert "failed" in cards.nth(1).get_attribute("class")
    assert "is no picture" in cards.nth(1).inner_text()
    keep(tab, "many")
    with tab.expect_download() as waiting:
        tab.click("#ground-batch-zip")
    waiting.value.save_as(tmp_path / "all.zip")
    with zipfile.ZipFile(tmp_path / "all.zip") as file:
        assert file.namelist() == ["wide.png", "photo.png", "results.jsonl", "coco.json"]
    assert tab.errors == []


def test_a_bad_file_is_a_message_in_the_page(tab, tmp_path):
    path = tmp_path / "broken.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\nnot really")
    tab.set_input_files("#ground-file input[type=file]", str(path))
    toast = tab.wait_for_selector(".toast-body")
    assert "broken.png" in toast.inner_text()
    assert "Traceback" not in toast.inner_text()
