"""PP-OCR: detection, straightening, columns, recognition, and the engine around them."""

from __future__ import annotations

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from multiway_core import hub
from multiway_core.errors import CheckpointError
from multiway_document.auto_engine import AutoEngine, is_sure
from multiway_document.fast_engine import FastReading
from multiway_document.ppocr.columns import split_at_gutters
from multiway_document.ppocr.detector import UNCLIP, lines_of
from multiway_document.ppocr.light import even_light
from multiway_document.ppocr.recogniser import CropReading, TextRecogniser, WordReading, _plain
from multiway_document.ppocr.regions import regions_of
from multiway_document.ppocr.session import open_session
from multiway_document.ppocr.straighten import straighten
from multiway_document.ppocr_engine import PpocrEngine
from multiway_document.result import Line, Page
from multiway_document.segmentation import prepare
from PIL import Image, ImageDraw, ImageFont

TEXT = ["Photographs of pages lean", "and curl, and lie in shadow.", "Total for 3 items: 42,50"]


@pytest.fixture(scope="module")
def engine() -> PpocrEngine:
    return PpocrEngine(hub.resolve("bundled:pp-ocrv6"))


def drawn(lines: list[str], size: tuple[int, int] = (640, 360)) -> np.ndarray:
    image = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(image)
    for number, line in enumerate(lines):
        draw.text((60, 60 + 50 * number), line, fill="black", font=ImageFont.load_default(26))
    return np.asarray(image)


def read(engine: PpocrEngine, image: np.ndarray, *, markdown: bool = False) -> Page:
    *lines, page = engine.stream(image, markdown=markdown)
    assert isinstance(page, Page)
    assert list(page.lines) == lines
    return page


def test_a_core_grows_back_by_area_over_perimeter() -> None:
    probability = np.zeros((64, 128), np.float32)
    probability[20:30, 30:90] = 0.9
    quads, scores = lines_of(probability)
    # The mask is dilated by one pixel to the right and below; a rectangle's corners are pixel centres.
    width, height = 60.0, 10.0
    grown = UNCLIP * width * height / (2 * (width + height))
    assert quads.shape == (1, 4, 2)
    assert np.allclose(quads[0, 1] - quads[0, 0], [width + 2 * grown, 0], atol=1e-3)
    assert np.allclose(quads[0, 3] - quads[0, 0], [0, height + 2 * grown], atol=1e-3)
    assert scores[0] > 0.7


def test_what_is_faint_or_tiny_is_no_line() -> None:
    probability = np.zeros((64, 128), np.float32)
    probability[10:12, 10:12] = 1.0
    probability[30:40, 30:90] = 0.4
    assert len(lines_of(probability)[0]) == 0


def quad(x0: float, y0: float, x1: float, y1: float) -> np.ndarray:
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], np.float32)


def test_upright_lines_stay_and_turned_lines_are_levelled() -> None:
    quads = np.stack([quad(50, 40 * row, 450, 40 * row + 24) for row in range(1, 9)])
    assert np.allclose(straighten(quads), [(*q[0], *q[2]) for q in quads], atol=0.1)
    angle = np.radians(7)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    boxes = np.array(straighten((quads @ turn.T).astype(np.float32)))
    assert np.allclose(np.diff(boxes[:, 1]), 40 / np.cos(angle), atol=1.0)


def test_halves_of_a_curled_line_have_one_height() -> None:
    """Two pieces a line; the page sinks with the square of x."""
    pieces, rows = [], []
    for row in range(8):
        for start, end in ((0.0, 300.0), (330.0, 700.0)):
            y = [40.0 * row + 1e-4 * x * x for x in (start, end)]
            pieces.append(
                np.array([[start, y[0]], [end, y[1]], [end, y[1] + 20], [start, y[0] + 20]], np.float32)
            )
            rows.append(row)
    boxes = np.array(straighten(np.stack(pieces)))
    left, right = boxes[::2, 1], boxes[1::2, 1]
    assert np.abs(left - right).max() < 4
    raw = np.array([piece[:, 1].mean() for piece in pieces])
    assert np.abs(raw[::2] - raw[1::2]).min() > 15


def test_lines_of_a_photograph_are_read_with_their_words(engine: PpocrEngine) -> None:
    flat = drawn(TEXT)
    corners = np.array([[0, 0], [640, 0], [640, 360], [0, 360]], np.float32)
    seen = np.array([[60, 30], [600, 5], [640, 340], [10, 330]], np.float32)
    ramp = np.linspace(1.0, 0.4, 640)[None, :, None]
    picture = cv2.warpPerspective(
        (flat * ramp).astype(np.uint8),
        cv2.getPerspectiveTransform(corners, seen),
        (640, 360),
        borderValue=(60, 50, 40),
    )
    page = read(engine, picture)
    assert [line.text for line in page.lines] == TEXT
    for line in page.lines:
        assert " ".join(word.text for word in line.words) == line.text
        ends = [word.box[2] for word in line.words]
        assert all(a < word.box[2] for a, word in zip(ends, line.words[1:], strict=False))
        assert all(line.box[0] - 1 <= word.box[0] < word.box[2] <= line.box[2] + 1 for word in line.words)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_turned_page_is_turned_back(engine: PpocrEngine, turns: int) -> None:
    picture = np.rot90(drawn(TEXT), turns)
    page = read(engine, picture)
    assert page.text.split("\n") == TEXT
    assert (page.width, page.height) == picture.shape[1::-1]
    upright = read(engine, drawn(TEXT)).lines[0].box
    box, (height, width) = page.lines[0].box, (360, 640)
    expected = {
        1: (upright[1], width - upright[2], upright[3], width - upright[0]),
        2: (width - upright[2], height - upright[3], width - upright[0], height - upright[1]),
        3: (height - upright[3], upright[0], height - upright[1], upright[2]),
    }[turns]
    assert np.allclose(box, expected, atol=8)


@pytest.mark.parametrize("grey", [0, 128, 255])
def test_a_picture_of_nothing_reads_as_nothing(engine: PpocrEngine, grey: int) -> None:
    assert read(engine, np.full((300, 400), grey, np.uint8), markdown=True).markdown == ""
    assert read(engine, np.full((1, 1, 3), grey, np.uint8)).lines == ()


def test_lines_of_two_columns_that_were_taken_for_one_are_parted() -> None:
    image = np.full((600, 900, 3), 255, np.uint8)
    quads = []
    for row in range(12):
        y = 40 + 40 * row
        for x0, x1 in ((50, 430), (470, 850)):
            cv2.putText(
                image, "text of a column here", (x0 + 4, y + 16), cv2.FONT_HERSHEY_SIMPLEX, 0.95, (0, 0, 0), 2
            )
            if row != 5:
                quads.append(quad(x0, y - 8, x1, y + 24))
    quads.append(quad(50, 232, 850, 264))
    known = {0: CropReading("first", 1.0, ()), len(quads) - 1: CropReading("both", 1.0, ())}
    parts, kept = split_at_gutters(image, np.stack(quads), known)
    assert len(parts) == len(quads) + 1
    assert kept == {0: known[0]}
    left, right = parts[-2], parts[-1]
    assert 300 < left[1, 0] < 470 <= right[0, 0] + 10


def test_full_width_forms_are_plain_only_in_latin_lines() -> None:
    latin = CropReading("Ⅲ：", 1.0, (WordReading("Ⅲ：", 0, 1, 1.0),))
    assert _plain(latin).text == "III:"
    chinese = CropReading("第：", 1.0, (WordReading("第：", 0, 1, 1.0),))
    assert _plain(chinese) == chinese


def test_regions_of_one_size_of_type_have_one_x_height() -> None:
    places = [(0.0, 0.0, 100.0, 22.0), (0.0, 30.0, 100.0, 55.0), (0.0, 60.0, 100.0, 110.0)]
    readings = [
        CropReading("a b", 1.0, (WordReading("a", 0.0, 0.4, 1.0), WordReading("b", 0.6, 1.0, 1.0)))
    ] * 3
    regions = regions_of(places, readings, [0, 0, 1])
    assert regions[0].x_height == regions[1].x_height < regions[2].x_height
    assert regions[0].components.x1[regions[0].owner == 0].tolist() == [40, 100]


def test_markdown_has_the_title_as_heading(engine: PpocrEngine) -> None:
    image = Image.new("RGB", (900, 500), "white")
    draw = ImageDraw.Draw(image)
    draw.text((60, 30), "A title", fill="black", font=ImageFont.load_default(54))
    for row in range(7):
        draw.text(
            (60, 130 + 40 * row),
            "Some words that run on in a line",
            fill="black",
            font=ImageFont.load_default(24),
        )
    markdown = read(engine, np.asarray(image), markdown=True).markdown
    assert markdown is not None
    assert markdown.startswith("# A title\n\nSome words that run on in a line Some words")


def test_a_file_that_is_no_network_is_refused(tmp_path) -> None:
    path = tmp_path / "det.onnx"
    path.write_bytes(b"no network")
    with pytest.raises(CheckpointError, match=r"det\.onnx"):
        open_session(path)


def test_readings_do_not_depend_on_what_is_read_beside_them(engine: PpocrEngine) -> None:
    recogniser: TextRecogniser = engine.recogniser
    crops = [drawn([text])[50:100, 40:600] for text in TEXT] + [drawn(["12"])[50:100, 40:110]]
    together = [reading.text for reading in recogniser(crops)]
    assert together == [recogniser([crop])[0].text for crop in crops]


def test_auto_takes_the_second_engine_only_where_the_first_is_unsure() -> None:
    def page(confidence: float) -> Page:
        return Page(0, 100, 100, (Line("some letters", (0, 0, 90, 10), confidence),) if confidence else ())

    class Fixed:
        def __init__(self, confidence: float) -> None:
            self.page = page(confidence)

        def detector(self, image, sides):
            box = [[0, 0], [90, 0], [90, 10], [0, 10]]
            return np.array([box], np.float32), np.ones(1, np.float32)

        def stream(self, image, *, markdown, draft):
            assert draft.turns is None
            yield self.page

        def reading(self, image, *, markdown):
            regions = [SimpleNamespace(box=line.box) for line in self.page.lines]
            return FastReading(self.page, prepare(image), regions)

    def chosen(fast: float) -> float:
        *_, result = AutoEngine(Fixed(fast), lambda: Fixed(0.5)).stream(
            np.full((100, 100), 255, np.uint8), markdown=False
        )
        return result.lines[0].confidence

    assert chosen(0.999) == 0.999
    assert chosen(0.7) == 0.5
    assert chosen(0.0) == 0.5
    assert not is_sure(page(0.0))


def test_a_deep_shadow_is_lit_and_even_light_is_left_alone() -> None:
    page = np.full((400, 300, 3), 230, np.uint8)
    page[100:104, 40:260] = 20
    assert even_light(page) is page
    dark = page.copy()
    dark[:, 150:] //= 5
    lit = even_light(dark)
    assert lit[300, 250].min() > 180
    assert lit[101, 250].max() < 60
    assert np.abs(lit[:, :100].astype(int) - dark[:, :100]).max() < 12
