from __future__ import annotations

import csv
import time
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
from multiway_document.segmentation import crop_line, find_lines, prepare
from multiway_document.segmentation.reading_order import boxes_across_gutters, reading_order
from PIL import Image, ImageDraw, ImageFont

TEXT = (
    "the quick brown fox jumps over a lazy dog while seventeen pages of plain English text, with commas and some "
    "Capitals, go through the line finder; nobody expects Anything unusual (except brackets) in sample 42"
)
WORDS = TEXT.split()
RECEIPTS = Path(__file__).parents[3].parent / "shared/data/documents/sroie/train"


class Sheet:
    """A page under construction, with the box of every line drawn: ink in x, ascent to descent in y."""

    def __init__(self, width: int = 1000, height: int = 1000) -> None:
        self.image = Image.new("L", (width, height), 255)
        self.draw = ImageDraw.Draw(self.image)
        self.boxes: list[tuple[float, float, float, float]] = []
        self.texts: list[str] = []

    def line(self, x: float, y: float, text: str, size: int = 22) -> None:
        font = ImageFont.load_default(size)
        ascent, descent = font.getmetrics()
        self.draw.text((x, y), text, font=font, fill=0)
        x0, _, x1, _ = self.draw.textbbox((x, y), text, font=font)
        self.boxes.append((x0, y, x1, y + ascent + descent))
        self.texts.append(text)

    def lines(self, x: float, y: float, count: int, width: float, size: int = 22, pitch: int = 34) -> Sheet:
        font = ImageFont.load_default(size)
        at = len(self.boxes) * 7
        for _ in range(count):
            words: list[str] = []
            while self.draw.textlength(" ".join([*words, WORDS[at % len(WORDS)]]), font=font) < width:
                words.append(WORDS[at % len(WORDS)])
                at += 1
            self.line(x, y, " ".join(words), size)
            y += pitch
        return self

    @property
    def pixels(self) -> np.ndarray:
        return np.asarray(self.image).copy()


@cache
def page() -> Sheet:
    """Twenty lines; shared, so not to be drawn on."""
    return Sheet().lines(80, 80, 20, 800)


def overlaps(truth, found) -> np.ndarray:
    a, b = np.asarray(truth, float).reshape(-1, 1, 4), np.asarray(found, float).reshape(1, -1, 4)
    shared = np.prod(
        np.clip(np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]), 0, None), -1
    )
    area_a, area_b = (np.prod(x[..., 2:] - x[..., :2], -1) for x in (a, b))
    return shared / (area_a + area_b - shared)


def check_found(sheet: Sheet, pixels: np.ndarray, *, spurious: int = 0, minimum: float = 0.6) -> None:
    """Every line found once, in order, with few regions besides."""
    prepared = prepare(pixels)
    boxes = [prepared.to_source(region.box) for region in find_lines(prepared)]
    assert len(sheet.boxes) <= len(boxes) <= len(sheet.boxes) + spurious
    matches = overlaps(sheet.boxes, boxes)
    assert matches.max(axis=1).min() > minimum
    order = matches.argmax(axis=1)
    assert (np.diff(order) > 0).all()


def test_a_clean_page():
    check_found(page(), page().pixels, minimum=0.7)


def test_colour_pages_and_inverted_pages():
    grey = page().pixels
    check_found(page(), 255 - grey)
    tinted = np.stack([grey // 2 + 120, grey // 2 + 100, grey // 3 + 60], axis=-1).astype(np.uint8)
    check_found(page(), tinted)


def degraded(kind: str) -> np.ndarray:
    rng = np.random.default_rng(0)
    pixels = page().pixels.astype(np.float32)
    y, x = np.mgrid[0 : pixels.shape[0], 0 : pixels.shape[1]] / 1000
    if kind == "uneven":
        pixels = pixels * (0.25 + 0.75 * (0.6 * x + 0.4 * y)) + rng.normal(0, 5, pixels.shape)
    elif kind == "low contrast":
        pixels = 215 - (255 - pixels) * 0.15 + rng.normal(0, 6, pixels.shape)
    elif kind == "noise":
        pixels = pixels * 0.8 + 25 + rng.normal(0, 20, pixels.shape)
    elif kind == "salt and pepper":
        chance = rng.random(pixels.shape)
        pixels[chance < 0.04], pixels[chance > 0.96] = 0, 255
    return np.clip(pixels, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("kind", ["uneven", "low contrast", "noise", "salt and pepper"])
def test_degraded_pages(kind):
    check_found(page(), degraded(kind), spurious=1)


@pytest.mark.parametrize("factor", [0.4, 2.5])
def test_resolutions(factor):
    sheet = Sheet().lines(80, 80, 20, 800)
    sheet.boxes = [tuple(value * factor for value in box) for box in sheet.boxes]
    size = round(1000 * factor)
    kind = Image.Resampling.BOX if factor < 1 else Image.Resampling.BICUBIC
    check_found(sheet, np.asarray(sheet.image.resize((size, size), kind)), spurious=1)


@pytest.mark.parametrize("angle", [-12.0, -3.0, -0.6, 0.0, 0.4, 8.0, 14.0])
def test_skew_is_found_and_boxes_lead_back(angle):
    sheet = Sheet(1400, 1400).lines(250, 400, 18, 800)
    turn = cv2.getRotationMatrix2D((700, 700), angle, 1.0)
    turned = cv2.warpAffine(sheet.pixels, turn, (1400, 1400), borderValue=255)
    prepared = prepare(turned)
    assert prepared.rotation == pytest.approx(angle, abs=0.12)
    regions = find_lines(prepared)
    assert len(regions) == 18
    for (x0, y0, x1, y1), region in zip(sheet.boxes, regions, strict=True):
        corners = np.array([[x0, y0, 1], [x1, y0, 1], [x1, y1, 1], [x0, y1, 1]]) @ turn.T
        assert np.abs(prepared.to_source_quad(region.box) - corners).max() < 8
        box = prepared.to_source(region.box)
        assert box[2] - box[0] == pytest.approx(np.ptp(corners[:, 0]), abs=12)


def test_two_columns_are_read_one_after_the_other():
    sheet = Sheet(1200, 1000)
    sheet.line(150, 60, "A title across both columns of the page", 44)
    sheet.lines(80, 160, 20, 480)
    sheet.lines(640, 160, 20, 480)
    check_found(sheet, sheet.pixels)
    blocks = [region.block for region in find_lines(prepare(sheet.pixels))]
    assert blocks == sorted(blocks)
    assert blocks[0] != blocks[1] != blocks[21]


def set_prose(sheet: Sheet, x: float, y: float, width: int, texts: list[str]) -> None:
    """Justified rows whose sentences ("|" in a text) are parted by 1.1 font sizes."""
    font = ImageFont.load_default(22)
    for text in texts:
        words = text.replace("|", "| ").split()
        lengths = [sheet.draw.textlength(word.rstrip("|"), font=font) for word in words]
        wide = 24 * text.count("|")
        space = (width - sum(lengths) - wide) / (len(words) - 1 - text.count("|"))
        at = x
        for word, length in zip(words, lengths, strict=True):
            sheet.draw.text((at, y), word.rstrip("|"), font=font, fill=0)
            at += length + (24 if word.endswith("|") else space)
        sheet.boxes.append((x, y, x + width, y + 27))
        y += 34


def test_wide_spaces_after_sentences_do_not_cut_rows_of_prose():
    sheet = Sheet(700, 500)
    rows = [
        "every day and whatever I asked for I would get",
        "it come.| But it was not so.| I tried it.| Once I had",
        "a fish line but it had no hooks.| It was not any good",
        "to me without them.| I tried for the hooks again but",
        "somehow I could not make it work.| By and by one",
    ]
    set_prose(sheet, 80, 60, 520, rows)
    check_found(sheet, sheet.pixels)


def test_a_narrow_gutter_still_parts_columns():
    sheet = Sheet(1200, 600)
    texts = ["every day and whatever I asked for I was", "not to get it at all but then it was not so"]
    set_prose(sheet, 80, 60, 400, texts * 6)
    set_prose(sheet, 505, 60, 400, texts[::-1] * 6)
    check_found(sheet, sheet.pixels)


def test_a_drawing_beside_text_gives_no_lines():
    sheet = Sheet(900, 800)
    rng = np.random.default_rng(0)
    for _ in range(420):
        x, y = rng.integers(60, 260), rng.integers(100, 440)
        sheet.draw.line((x, y, x + int(rng.integers(-6, 20)), y + int(rng.integers(15, 60))), fill=0)
    sheet.lines(310, 90, 12, 500)
    sheet.line(110, 520, "The caption under it", 18)
    sheet.lines(60, 570, 4, 750)
    prepared = prepare(sheet.pixels)
    boxes = [prepared.to_source(region.box) for region in find_lines(prepared)]
    matches = overlaps(sheet.boxes, boxes)
    assert matches.max(axis=1).min() > 0.55
    assert len(boxes) <= len(sheet.boxes) + 1
    order = matches.argmax(axis=1)
    caption, beside, under = order[12], order[:12], order[13:]
    assert caption < beside.min() < beside.max() < under.min()


def test_a_stroke_beside_two_lines_does_not_join_them():
    sheet = Sheet().lines(200, 80, 12, 700, pitch=29)
    for row in range(11):
        x = 188 if row % 2 else 906
        y = 80 + 29 * row
        sheet.draw.line((x, y + 10, x, y + 40), fill=0, width=2)
    prepared = prepare(sheet.pixels)
    boxes = [prepared.to_source(region.box) for region in find_lines(prepared)]
    assert overlaps(sheet.boxes, boxes).max(axis=1).min() > 0.55


@pytest.mark.parametrize("ruled", [False, True])
def test_tables_are_read_row_by_row(ruled):
    sheet = Sheet()
    for row in range(12):
        y = 100 + 44 * row
        for column, text in enumerate((f"Item {row}", "x", f"{row}.50", f"{row * 1234}")):
            sheet.line(100 + 200 * column, y, text)
        if ruled:
            sheet.draw.line((80, y - 9, 860, y - 9), fill=0, width=2)
    if ruled:
        for column in range(5):
            sheet.draw.line((80 + 195 * column, 91, 80 + 195 * column, 619), fill=0, width=2)
    check_found(sheet, sheet.pixels, minimum=0.5)


def test_headings_lists_and_paragraphs():
    sheet = Sheet(1000, 1200)
    sheet.line(80, 60, "A large heading", 64)
    sheet.lines(80, 160, 4, 700)
    sheet.line(80, 330, "A smaller heading", 34)
    for i, text in enumerate(("• one", "• two words", "– deeper", "1. numbered item with some more text")):
        sheet.line(100 + 40 * (i % 3), 400 + 36 * i, text)
    sheet.lines(80, 600, 5, 700)
    check_found(sheet, sheet.pixels, minimum=0.55)


@pytest.mark.parametrize("text", ["Hello", "7", "A single line, with 42 in it."])
def test_a_page_with_hardly_anything(text):
    sheet = Sheet()
    sheet.line(400, 500, text)
    check_found(sheet, sheet.pixels)


def test_empty_pages_and_pictures_have_no_lines():
    rng = np.random.default_rng(0)
    for blank in (
        np.full((600, 500), 255),
        np.zeros((600, 500)),
        np.full((600, 500), 128),
        np.full((1, 1), 3),
    ):
        assert find_lines(prepare(blank.astype(np.uint8))) == []
    noise = np.clip(rng.normal(128, 12, (600, 500)), 0, 255).astype(np.uint8)
    assert len(find_lines(prepare(noise))) <= 2


def test_lines_around_a_picture_are_found():
    sheet = Sheet().lines(80, 60, 6, 800)
    photo = cv2.GaussianBlur(np.random.default_rng(1).integers(0, 255, (300, 500), np.uint8), (0, 0), 9)
    photo = cv2.normalize(photo, None, 0, 200, cv2.NORM_MINMAX)
    sheet.image.paste(Image.fromarray(photo), (200, 300))
    sheet.lines(80, 660, 6, 800)
    prepared = prepare(sheet.pixels)
    boxes = [prepared.to_source(region.box) for region in find_lines(prepared)]
    assert overlaps(sheet.boxes, boxes).max(axis=1).min() > 0.6


@pytest.mark.parametrize("size", [14, 22, 60])
def test_crops_have_one_scale_and_one_base_line(size):
    sheet = Sheet(1600, 1200)
    for i in range(6):
        sheet.line(60, 40 + i * round(1.6 * size), "noon exam held vows; moon runs", size)
    prepared = prepare(sheet.pixels)
    regions = find_lines(prepared)
    assert len(regions) == 6
    for region in regions:
        crop = crop_line(prepared, region)
        assert crop.dtype == np.uint8
        assert crop.shape[0] == 32
        assert crop[:, :4].min() == crop[:, -4:].min() == 255
        assert crop.min() < 40
        dark = np.count_nonzero(crop < 128, axis=1)
        rows = np.flatnonzero(dark > 0.25 * dark.max())
        assert abs(rows[0] - 13) <= 1
        assert abs(rows[-1] - 22) <= 1


def test_crops_of_capitals_keep_the_scale_of_the_text_around():
    sheet = Sheet().lines(80, 80, 20, 800)
    sheet.line(80, 850, "TOTAL 1234")
    prepared = prepare(sheet.pixels)
    region = find_lines(prepared)[-1]
    crop = crop_line(prepared, region)
    rows = np.flatnonzero((crop < 128).any(axis=1))
    assert 12 <= rows[-1] + 1 - rows[0] <= 16
    assert abs(rows[-1] - 22) <= 1
    assert crop_line(prepared, region, height=64).shape[0] == 64


def test_neighbouring_lines_stay_out_of_a_crop():
    sheet = Sheet().lines(80, 80, 12, 800, pitch=25)
    prepared = prepare(sheet.pixels)
    for region in find_lines(prepared):
        rows = np.flatnonzero((crop_line(prepared, region) < 100).sum(axis=1) > 2)
        assert rows.min() >= 4
        assert rows.max() <= 30


def test_wrong_arrays_are_refused():
    for wrong in (np.zeros((4, 4), np.float32), np.zeros((4, 4, 4), np.uint8), np.zeros((0, 4), np.uint8)):
        with pytest.raises(ValueError, match="expected"):
            prepare(wrong)


def test_noise_is_bounded_in_time():
    rng = np.random.default_rng(0)
    specks = np.where(rng.random((1500, 1200)) < 0.08, 0, 255).astype(np.uint8)
    blobs = cv2.threshold(cv2.GaussianBlur(specks, (0, 0), 1.5), 225, 255, cv2.THRESH_BINARY)[1]
    for image in (specks, blobs):
        start = time.process_time()
        prepared = prepare(image)
        regions = find_lines(prepared)
        assert time.process_time() - start < 10
        assert len(regions) <= 2000


def test_reading_order_of_boxes():
    assert reading_order([], []) == ([], [])
    rows = [(10.0, 30.0, 50.0, 45.0), (60.0, 10.0, 90.0, 25.0), (10.0, 11.0, 50.0, 26.0)]
    assert reading_order(rows, [7.0] * 3)[0] == [2, 1, 0]


def reading_truth(path: Path) -> list[tuple[int, int, int, int]]:
    boxes = []
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        for row in csv.reader(file, quoting=csv.QUOTE_NONE):
            if len(row) >= 9:
                corners = [int(value) for value in row[:8]]
                boxes.append((min(corners[::2]), min(corners[1::2]), max(corners[::2]), max(corners[1::2])))
    return boxes


@pytest.mark.shared_data
@pytest.mark.skipif(not RECEIPTS.is_dir(), reason="the receipts are not on this machine")
def test_receipts():
    found = truths = 0
    for path in sorted(RECEIPTS.glob("*.jpg")):
        truth = reading_truth(path.with_name(path.stem + ".box.csv"))
        prepared = prepare(np.asarray(Image.open(path).convert("RGB")))
        boxes = [prepared.to_source(region.box) for region in find_lines(prepared)]
        found += int((overlaps(truth, boxes).max(axis=1) >= 0.5).sum())
        truths += len(truth)
    assert found / truths > 0.85


def dark_rows(crop: np.ndarray) -> np.ndarray:
    """Rows of a crop where nearly all of the width between the margins is ink."""
    return np.flatnonzero((crop[:, 6:-6] < 128).mean(axis=1) > 0.8)


@pytest.mark.parametrize("offset", [-4, 31])
def test_short_rules_above_and_below_words_stay_out_of_crops(offset):
    sheet = Sheet().lines(80, 80, 8, 800)
    x0, y = 600, 500
    sheet.line(x0, y, "102.00")
    sheet.draw.line((x0 - 4, y + offset, x0 + 74, y + offset), fill=0, width=2)
    prepared = prepare(sheet.pixels)
    regions = find_lines(prepared)
    assert len(regions) == 9
    crop = crop_line(prepared, regions[-1])
    assert not len(dark_rows(crop))
    rows = np.flatnonzero((crop < 128).any(axis=1))
    assert rows[0] >= 7
    assert rows[-1] <= 25


def test_dashed_rules_above_words_stay_out_of_crops():
    sheet = Sheet().lines(80, 80, 8, 800)
    sheet.line(600, 500, "102.00")
    for x in range(598, 670, 14):
        sheet.draw.line((x, 500, x + 8, 500), fill=0, width=2)
    prepared = prepare(sheet.pixels)
    regions = find_lines(prepared)
    assert len(regions) == 9
    rows = np.flatnonzero((crop_line(prepared, regions[-1]) < 128).any(axis=1))
    assert rows[0] >= 7


def test_condensed_letters_are_widened():
    sheet = Sheet().lines(80, 80, 8, 800)
    narrow = np.asarray(sheet.image.resize((600, 1000), Image.Resampling.LANCZOS))
    widths = []
    for pixels in (sheet.pixels, narrow):
        prepared = prepare(pixels)
        widths.append(sum(crop_line(prepared, region).shape[1] for region in find_lines(prepared)))
    assert 0.75 < widths[1] / widths[0] < 1.05


def test_dashes_and_signs_of_equality_are_no_rules():
    sheet = Sheet()
    for i in range(8):
        sheet.line(80, 80 + 40 * i, "so — said he — if a == b then 4 = 5 – 1")
    sheet.line(80, 500, "A title — with a dash", 44)
    prepared = prepare(sheet.pixels)
    assert not prepared.rules.any()


@pytest.mark.parametrize("sign", ["-", "*", "+"])
def test_a_sign_alone_in_a_cell_is_found(sign):
    sheet = Sheet()
    for row in range(8):
        for column, text in enumerate((f"Item {row}", f"{row}.50", f"{row * 1234}")):
            sheet.line(100 + 200 * column, 100 + 44 * row, sign if (row, column) == (4, 1) else text)
    prepared = prepare(sheet.pixels)
    regions = find_lines(prepared)
    assert len(regions) == 24
    found = regions[13]
    assert found.mark
    assert abs(found.box[0] - sheet.boxes[13][0]) < 8
    assert found.baseline == pytest.approx(regions[12].baseline)
    crop = crop_line(prepared, found)
    rows = np.flatnonzero((crop < 128).any(axis=1))
    assert 8 <= rows[0] <= rows[-1] <= 22


def test_specks_are_no_signs():
    sheet = Sheet().lines(80, 80, 20, 500)
    rng = np.random.default_rng(0)
    for _ in range(60):
        x, y = int(rng.integers(620, 950)), int(rng.integers(60, 950))
        sheet.draw.ellipse((x, y, x + int(rng.integers(1, 6)), y + int(rng.integers(1, 6))), fill=0)
    regions = find_lines(prepare(sheet.pixels))
    assert len(regions) <= 22


def magazine(columns: int, rows: int = 20) -> list[tuple[float, float, float, float]]:
    """A title, columns of lines, and a foot: boxes in reading order."""
    width, pitch = 300.0, 30.0
    boxes = [(0.0, 0.0, 500.0, 40.0)]
    for column in range(columns):
        x = column * (width + 30)
        boxes += [(x, 100 + row * pitch, x + width, 120 + row * pitch) for row in range(rows)]
    bottom = 100 + rows * pitch + 60
    return [
        *boxes,
        (0.0, bottom, 120.0, bottom + 16),
        (columns * 330 - 60.0, bottom, columns * 330 - 30.0, bottom + 16),
    ]


@pytest.mark.parametrize("columns", [2, 3, 4])
def test_columns_are_read_one_after_the_other_and_the_foot_last(columns: int) -> None:
    boxes = magazine(columns)
    shuffled = np.random.default_rng(columns).permutation(len(boxes))
    order, _ = reading_order([boxes[i] for i in shuffled], [10.0] * len(boxes))
    assert [int(shuffled[i]) for i in order] == list(range(len(boxes)))


def test_a_picture_that_reaches_over_the_gutter_does_not_cut_the_columns() -> None:
    boxes = magazine(2)
    picture = (250.0, 400.0, 630.0, 560.0)
    places = [box for box in boxes if box[0] < 330 or not 380 < box[1] < 570] + [picture]
    order, _ = reading_order(places, [10.0] * len(places))
    read = [i for i in order if i != len(places) - 1]
    assert read == sorted(read)


def test_a_caption_between_columns_does_not_cut_them_and_is_read_after_them() -> None:
    _, *lines, left_foot, right_foot = magazine(2)
    narrow = [
        (x0, y0, 220.0, y1) if x0 < 330 else (410.0, y0, x1, y1) for x0, y0, x1, y1 in lines if 370 < y0 < 500
    ]
    caption = [(240.0, y, 390.0, y + 16) for y in (395.0, 415.0, 435.0)]
    beside = iter(narrow)
    columns = [next(beside) if 370 < box[1] < 500 else box for box in lines]
    boxes = [*columns, *caption, left_foot, right_foot]
    order, _ = reading_order(boxes, [10.0] * len(boxes))
    assert order == list(range(len(boxes)))


def test_columns_of_different_grids_are_told_apart() -> None:
    lines = [(330.0 * k, 12.0 * k + 30 * row, 330.0 * k + 300, 12.0 * k + 30 * row + 20) for k in range(3)
             for row in range(20)]  # fmt: skip
    assert reading_order(lines, [10.0] * len(lines))[0] == list(range(len(lines)))


def test_lines_across_a_gutter_are_told_with_its_white() -> None:
    boxes = magazine(2)
    merged = (0.0, boxes[6][1], 630.0, boxes[6][3])
    places = [box for box in boxes if box[1] != boxes[6][1]] + [merged]
    (index, left, right), *rest = [
        found for found in boxes_across_gutters(places, [10.0] * len(places)) if found[0]
    ]
    assert not rest
    assert index == len(places) - 1
    assert 285 < left <= 300 < 330 <= right < 345
