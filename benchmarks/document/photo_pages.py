"""Pages as users have them: scans, drawn columns, (simulated) telephone photographs, pages of real PDF files.

Two splits by source, which share no text, no font and no file: ``dev`` is what thresholds were set on, ``held_out`` is
what is reported. Texts are news (dev) and Wikipedia paragraphs (held out) of ``shared/data/text``.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from benchmarks.document.ocr_pages import REPOSITORY, Case

TEXTS = REPOSITORY.parent / "shared/data/text"
FONTS = {
    "dev": ("LiberationSerif-Regular", "DejaVuSerif", "LinLibertine_R", "Lato-Regular"),
    "held_out": ("EBGaramond12-Regular", "OpenSans-Regular", "C059-Roman", "Carlito-Regular"),
}
COLUMN_FILES = {  # in two or three columns, with a text layer in the order of reading
    "dev": ("tesseracticdar2007", "Limits_on_the_Application", "MOCRadaptingtesseract2"),
    "held_out": (
        "PageLayoutAnalysisICDAR2",
        "Combined_Orientation",
        "Improving_Book_OCR",
        "federal-register",
        "issue-982-example",
    ),
}
PLAIN_FILES = {
    "dev": ("libtasn1", "shared-mime-info-spec", "manual"),
    "held_out": ("nettle", "valgrind_manual", "fontconfig-user", "debian-reference", "chelsea", "cupertino"),
}
SIZE = (1240, 1754)  # A4 at 150 dpi


# Pictures of tesseract-ocr/test and their transcripts; they are measured on and never tuned on.
REAL_SCANS = {
    "scans_real": {
        "phototest.tif": "phototest.gold.txt",
        "phototest-rotated-180.png": "phototest.gold.txt",
        "phototest-rotated-L.png": "phototest.gold.txt",
        "phototest-rotated-R.png": "phototest.gold.txt",
        "phototest_2.tif": "phototest.gold.txt",
        "eurotext.tif": "eurotext.txt",
    },
    "columns_scan": {"8071_093.3B.tif": "8071_093.3B.txt", "8087_054.3B.tif": "8087_054.3B.txt"},
}


@dataclass(frozen=True)
class Source:
    """Texts and faces of one split. ``fonts``, ``pdfs`` and ``scans`` are folders searched through by file name."""

    split: str
    fonts: Path
    pdfs: Path
    scans: Path

    def paragraphs(self, rng: np.random.Generator) -> Iterator[str]:
        texts = _news() if self.split == "dev" else _encyclopedia()
        while True:
            yield texts[int(rng.integers(len(texts)))]

    def face(self, rng: np.random.Generator, size: int) -> ImageFont.FreeTypeFont:
        name = FONTS[self.split][int(rng.integers(len(FONTS[self.split])))]
        found = sorted(self.fonts.rglob(name + ".?tf")) or sorted(
            Path("/usr/share/fonts").rglob(name + ".?tf")
        )
        if not found:
            raise SystemExit(f"{name}: no such font below {self.fonts}; see --fonts")
        return ImageFont.truetype(str(found[0]), size)


def _news() -> list[str]:
    with gzip.open(TEXTS / "agnews/test.tsv.gz", "rt", encoding="utf-8") as rows:
        texts = [row.rsplit("\t", 1)[0] for row in rows]
    return [
        text for text in texts if 150 < len(text) < 600 and text.isascii() and not set("\\#&<") & set(text)
    ]


def _encyclopedia() -> list[str]:
    with gzip.open(TEXTS / "xquad/xquad.en.json.gz", "rt", encoding="utf-8") as file:
        articles = json.load(file)["data"]
    texts = [" ".join(p["context"].split()) for article in articles for p in article["paragraphs"]]
    return [text for text in texts if text.isascii()]


class Sheet:
    """A white page that text is set on, remembering its lines in the order of reading."""

    def __init__(self, size: tuple[int, int] = SIZE) -> None:
        self.image = Image.new("L", size, 255)
        self.draw = ImageDraw.Draw(self.image)
        self.lines: list[str] = []
        self.boxes: list[tuple[float, float, float, float]] = []

    def line(
        self, x: float, y: float, words: list[str], face: ImageFont.FreeTypeFont, width: float | None
    ) -> None:
        """One line of words from (x, base line y), stretched to ``width`` where it is given."""
        space, start = face.getlength(" "), x
        if width is not None and len(words) > 1:
            space = (width - sum(face.getlength(word) for word in words)) / (len(words) - 1)
        for word in words:
            self.draw.text((x, y), word, fill=20, font=face, anchor="ls")
            x += face.getlength(word) + space
        self.lines.append(" ".join(words))
        self.boxes.append((start, y - 0.75 * face.size, x - space, y + 0.25 * face.size))

    def paragraph(
        self, text: str, x: float, y: float, width: float, bottom: float, face: ImageFont.FreeTypeFont
    ) -> float:
        """A justified paragraph; the y after it. What does not fit above ``bottom`` is left out."""
        pitch = 1.32 * face.size
        words, row = text.split(), list[str]()
        for word in [*words, None]:
            if word is not None and face.getlength(" ".join([*row, word])) <= width:
                row.append(word)
                continue
            if y + pitch > bottom:
                return y
            y += pitch
            self.line(x, y, row, face, None if word is None else width)
            row = [word] if word else []
        return y

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


def letter(source: Source, rng: np.random.Generator) -> Sheet:
    """One column with a title, some 30 lines."""
    sheet, texts = Sheet(), source.paragraphs(rng)
    size = int(rng.integers(22, 30))
    face = source.face(rng, size)
    y = 190.0
    sheet.line(150, y, next(texts).split()[:4], face.font_variant(size=int(1.6 * size)), None)
    while y < 1350:
        y = sheet.paragraph(next(texts), 150, y + 0.7 * size, 940, 1420, face)
    return sheet


def magazine(source: Source, rng: np.random.Generator) -> Sheet:
    """A page of two or three columns: a title across, pictures with captions, a page number and a running foot."""
    sheet, texts = Sheet(), source.paragraphs(rng)
    columns = int(rng.integers(2, 4))
    size = int(rng.integers(19, 23)) if columns == 3 else int(rng.integers(21, 26))
    face = source.face(rng, size)
    gutter = float(rng.uniform(26, 56))
    left, right, top, bottom = 90.0, 1150.0, 130.0, 1600.0
    width = (right - left - (columns - 1) * gutter) / columns
    title = face.font_variant(size=2 * size)
    y = top
    for row in range(int(rng.integers(1, 3))):
        sheet.line(left, y + row * 2.5 * size, next(texts).split()[:5], title, None)
    y += 4 * size
    if rng.random() < 0.5:
        y = sheet.paragraph(" ".join(next(texts).split()[:30]), left, y, right - left, bottom, face) + size
    start = y
    pictured = int(rng.integers(columns))
    for column in range(columns):
        x, y = left + column * (width + gutter), start
        if column == pictured:
            height = float(rng.uniform(180, 320))
            grey = cv2.resize(rng.integers(60, 220, (6, 8), np.uint8), (int(width), int(height)))
            sheet.image.paste(Image.fromarray(grey), (int(x), int(y) + 10))
            small = face.font_variant(size=int(0.82 * size))
            caption = " ".join(next(texts).split()[:14])
            y = sheet.paragraph(caption, x, y + height + 14, width, bottom, small) + 1.4 * size
        while y < bottom - 1.4 * size:
            if rng.random() < 0.18:
                if y + 5 * size > bottom:
                    break
                heading = face.font_variant(size=int(1.25 * size))
                y += 2.4 * size
                sheet.line(x, y, next(texts).split()[:2], heading, None)
            after = sheet.paragraph(next(texts), x, y, width, bottom, face)
            if after == y:
                break
            y = after + 0.35 * size
    sheet.line(left, 1680, next(texts).split()[:3], face.font_variant(size=int(0.8 * size)), None)
    sheet.line(
        right - 40, 1680, [str(int(rng.integers(10, 400)))], face.font_variant(size=int(0.8 * size)), None
    )
    return sheet


def inset(source: Source, rng: np.random.Generator) -> Sheet:
    """Two or three columns around a picture with a caption that reaches into two of them; both run on beside it.

    The columns are the text in the order of reading, and the caption comes after them.
    """
    sheet, texts = Sheet(), source.paragraphs(rng)
    columns = 2 if rng.random() < 0.6 else 3
    size = int(rng.integers(21, 25)) if columns == 2 else int(rng.integers(18, 21))
    face = source.face(rng, size)
    gutter = float(rng.uniform(30, 50))
    left, right, top, bottom = 90.0, 1150.0, 150.0, 1600.0
    width = (right - left - (columns - 1) * gutter) / columns
    if rng.random() < 0.5:
        sheet.line(left, top, next(texts).split()[:4], face.font_variant(size=2 * size), None)
        top += 2 * size
    middle = left + int(rng.integers(1, columns)) * (width + gutter) - gutter / 2
    picture_top = float(rng.uniform(top + 150, 800))
    picture_height, half = float(rng.uniform(250, 500)), float(rng.uniform(0.35, 0.6)) * width
    picture_end = picture_top + picture_height
    grey = cv2.resize(rng.integers(20, 160, (6, 8), np.uint8), (int(2 * half), int(picture_height)))
    sheet.image.paste(Image.fromarray(grey), (int(middle - half), int(picture_top)))
    small = face.font_variant(size=int(0.8 * size))
    caption, caption_half = next(texts).split()[:18], half * float(rng.uniform(0.6, 1.0))
    rows = _rows(caption, small, 2 * caption_half)
    caption_end = picture_end + 10 + 1.4 * small.size * len(rows)
    for column in range(columns):
        x0 = left + column * (width + gutter)
        y = top
        while y < bottom:
            words = next(texts).split()
            while words and y + 1.32 * size < bottom:
                y += 1.32 * size
                a, b = x0, x0 + width
                for start, end, reach in (
                    (picture_top, picture_end + 0.5 * size, half),
                    (picture_end, caption_end, caption_half),
                ):
                    if start - 0.5 * size < y < end + 1.2 * size and x0 < middle + half and b > middle - half:
                        a, b = (
                            (a, min(b, middle - reach - size))
                            if x0 < middle - width / 2
                            else (max(a, middle + reach + size), b)
                        )
                row = _rows(words, face, b - a)[0]
                words = words[len(row) :]
                sheet.line(a, y, row, face, b - a if words and len(row) > 2 else None)
            if y + 1.32 * size >= bottom:
                break
    for number, row in enumerate(rows):
        y = picture_end + 10 + 1.4 * small.size * (number + 1)
        sheet.line(middle - small.getlength(" ".join(row)) / 2, y, row, small, None)
    foot = face.font_variant(size=int(0.8 * size))
    sheet.line(left, 1690, next(texts).split()[:3], foot, None)
    return sheet


def _rows(words: list[str], face: ImageFont.FreeTypeFont, width: float) -> list[list[str]]:
    rows: list[list[str]] = [[]]
    for word in words:
        if rows[-1] and face.getlength(" ".join([*rows[-1], word])) > width:
            rows.append([])
        rows[-1].append(word)
    return rows


def perspective(page: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Seen at a strong angle, on a dark even ground."""
    height, width = page.shape
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    moved = corners.copy()
    narrow = float(rng.uniform(0.10, 0.16)) * width
    far = int(rng.integers(4))
    moved[far, 0] += narrow if far in (0, 3) else -narrow
    moved[(far + 1) % 4] += rng.uniform(-0.05, 0.05, 2) * width
    moved[far, 1] += 0.05 * height * (1 if far < 2 else -1)
    moved = moved * 0.86 + 0.07 * np.array([width, height], np.float32)
    matrix = cv2.getPerspectiveTransform(corners, moved.astype(np.float32))
    return cv2.warpPerspective(page, matrix, (width, height), flags=cv2.INTER_CUBIC, borderValue=70)


def curl(page: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A page that bends towards a book's spine, darker where it turns away."""
    height, width = page.shape
    x = np.linspace(0, 1, width, dtype=np.float32)
    side = x if rng.random() < 0.5 else 1 - x
    lift = float(rng.uniform(30, 55)) * (side**2.2) + 10 * np.sin(3 * side)
    map_x = np.tile(np.arange(width, dtype=np.float32), (height, 1))
    rows = np.arange(height, dtype=np.float32)[:, None]
    map_y = rows + lift[None] * (1 - 1.2 * rows / height)
    bent = cv2.remap(page, map_x, map_y, cv2.INTER_CUBIC, borderValue=90)
    return np.clip(bent * (1 - 0.45 * side**3)[None], 0, 255).astype(np.uint8)


def soft_shadow(page: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The shadow of a hand and a telephone, and light from one side."""
    height, width = page.shape
    mask = np.ones((height, width), np.float32)
    centre = (int(rng.uniform(0.2, 0.8) * width), int(rng.uniform(0.3, 0.9) * height))
    cv2.ellipse(
        mask, centre, (int(0.35 * width), int(0.22 * height)), float(rng.uniform(0, 180)), 0, 360, 0.4, -1
    )
    mask = cv2.GaussianBlur(mask, (0, 0), 35)
    ramp = np.linspace(1.0, float(rng.uniform(0.45, 0.7)), width, dtype=np.float32)
    return np.clip(page * mask * (ramp if rng.random() < 0.5 else ramp[::-1])[None], 0, 255).astype(np.uint8)


def hard_shadow(page: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A straight shadow edge across the text, at less than half of the light."""
    height, width = page.shape
    angle = float(rng.uniform(0.2, 1.3))
    x, y = np.meshgrid(np.arange(width) - width / 2, np.arange(height) - height / 2)
    side = (np.cos(angle) * x + np.sin(angle) * y > rng.uniform(-0.15, 0.15) * height).astype(np.float32)
    light = 1 - float(rng.uniform(0.5, 0.62)) * cv2.GaussianBlur(side, (0, 0), 1.5)
    return (page * light).astype(np.uint8)


def wood(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """A table top: boards with grain."""
    height, width = shape
    grain = cv2.resize(rng.normal(0, 1, (height // 2, 24)).astype(np.float32), (width, height))
    grain = cv2.GaussianBlur(grain, (0, 0), 2)
    rows = np.linspace(0, 60, height, dtype=np.float32)[:, None]
    board = 110 + 16 * np.sin(rows + 2 * grain) + 14 * grain + rng.normal(0, 5, shape)
    for y in range(0, height, max(40, height // 6)):
        board[y : y + 3] *= 0.5
    return np.clip(board, 0, 255).astype(np.uint8)


def desk(page: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The page lies turned on a table beside a keyboard; it fills half of the picture."""
    height, width = page.shape
    picture = wood((height + 500, width + 700), rng)
    for row in range(4):  # without letters, which a reader would rightly read
        for key in range(14):
            x, y = 60 + 108 * key, 2020 + 56 * row
            cv2.rectangle(picture, (x, y), (x + 92, y + 42), 45, -1)
    angle = float(rng.uniform(-9, 9))
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), angle, 0.94)
    matrix[:, 2] += (330, 60)
    size = (picture.shape[1], picture.shape[0])
    mask = cv2.warpAffine(np.full_like(page, 255), matrix, size)
    laid = cv2.warpAffine(page, matrix, size, flags=cv2.INTER_CUBIC)
    shadow = cv2.GaussianBlur(np.roll(mask, (12, 14), (0, 1)), (0, 0), 12).astype(np.float32) / 255
    picture = (picture * (1 - 0.5 * shadow)).astype(np.uint8)
    picture[mask > 127] = laid[mask > 127]
    return picture


def camera(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Paper is not white, the lens blurs a little, the sensor is noisy."""
    soft = cv2.GaussianBlur(picture.astype(np.float32) * 0.9, (0, 0), 0.7)
    return np.clip(soft + rng.normal(0, 4, soft.shape), 0, 255).astype(np.uint8)


Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]
PHOTOGRAPHS: dict[str, tuple[Change, ...]] = {
    "photo_perspective": (perspective,),
    "photo_perspective_shadow": (perspective, soft_shadow),
    "photo_curl_shadow": (curl, soft_shadow),
    "photo_hard_shadow": (hard_shadow,),
    "photo_desk": (desk,),
}


def low_contrast(page: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A faint print on grey paper, a fifth of the range between ink and paper, and noise of a fifth of that."""
    paper = float(rng.uniform(170, 210))
    faint = paper - (255.0 - page) * 50 / 235
    return np.clip(faint + rng.normal(0, 10, page.shape), 0, 255).astype(np.uint8)


def skew(page: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Turned by 6 degrees, one way or the other."""
    height, width = page.shape
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), 6.0 if rng.random() < 0.5 else -6.0, 0.9)
    return cv2.warpAffine(page, matrix, (width, height), flags=cv2.INTER_CUBIC, borderValue=255)


def rotated(page: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """On its side or on its head."""
    return np.ascontiguousarray(np.rot90(page, int(rng.integers(1, 4))))


SCANS: dict[str, tuple[Change, ...]] = {
    "scan_clean": (),
    "scan_low_contrast": (low_contrast,),
    "scan_skew": (skew,),
    "scan_rotated": (rotated,),
}


def scans(kind: str, count: int, folder: Path, seed: int, source: Source) -> Iterator[Case]:
    """Pages of one column, scanned in one of :data:`SCANS`."""
    for number in range(count):
        rng = np.random.default_rng([seed, number, 50 + list(SCANS).index(kind)])
        sheet = letter(source, rng)
        picture = np.asarray(sheet.image)
        for change in SCANS[kind]:
            picture = change(picture, rng)
        path = folder / f"{kind}-{number}.png"
        Image.fromarray(picture).save(path)
        yield Case(kind, f"{kind}/{seed}-{number}", path, sheet.text, None)


def real_scans(name: str, count: int, folder: Path, source: Source) -> Iterator[Case]:
    """Pictures of :data:`REAL_SCANS` that are found; only the held-out split has them."""
    pairs = list(REAL_SCANS[name].items()) if source.split == "held_out" else []
    for picture, transcript in pairs[:count]:
        if not (source.scans / picture).is_file():
            continue
        path = folder / f"{Path(picture).stem}.png"
        Image.open(source.scans / picture).convert("RGB").save(path)
        rows = (source.scans / transcript).read_text(encoding="utf-8").split("\n")
        text = "\n".join(row.strip() for row in rows if row.strip())
        yield Case(name, picture, path, text, None)


def photographs(kind: str, count: int, folder: Path, seed: int, source: Source) -> Iterator[Case]:
    """Pages of one column, photographed in one of :data:`PHOTOGRAPHS`."""
    for number in range(count):
        rng = np.random.default_rng([seed, number, sorted(PHOTOGRAPHS).index(kind)])
        sheet = letter(source, rng)
        picture = np.asarray(sheet.image)
        for change in (*PHOTOGRAPHS[kind], camera):
            picture = change(picture, rng)
        path = folder / f"{kind}-{number}.jpg"
        Image.fromarray(picture).save(path, quality=88)
        yield Case(kind, f"{kind}/{seed}-{number}", path, sheet.text, None)


COLUMNS = {"columns": magazine, "columns_inset": inset}


def columns(kind: str, count: int, folder: Path, seed: int, source: Source) -> Iterator[Case]:
    """Magazine pages at 150 dpi, of one of :data:`COLUMNS`."""
    for number in range(count):
        sheet = COLUMNS[kind](source, np.random.default_rng([seed, number, 99]))
        path = folder / f"{kind}-{number}.png"
        sheet.image.save(path)
        yield Case(kind, f"{kind}/{seed}-{number}", path, sheet.text, None)


def pdf_pages(name: str, count: int, folder: Path, source: Source) -> Iterator[Case]:
    """Pages of real PDF files as pictures at 150 dpi; the truth is their text layer in the order of the file."""
    import pypdfium2

    files = (COLUMN_FILES if name == "columns_pdf" else PLAIN_FILES)[source.split]
    found = [path for start in files for path in sorted(source.pdfs.rglob(start + "*.pdf"))[:1]]
    turn, made = 0, 0
    while found and made < count and turn < 40:
        for path in found:
            with pypdfium2.PdfDocument(path) as pdf:
                index = (1 + turn if name == "columns_pdf" else 3 + 5 * turn) % len(pdf)
                if turn >= len(pdf) or made >= count:
                    continue
                page = pdf[index]
                text = page.get_textpage().get_text_range().replace("\r", "").replace("\ufffe", "-")
                if len(text) < 1200 or ". . . ." in text:
                    continue
                made += 1
                target = folder / f"{name}-{path.stem[:24]}-{index + 1}.png"
                page.render(scale=150 / 72).to_pil().convert("RGB").save(target)
                lines = "\n".join(line.strip() for line in text.split("\n") if line.strip())
                yield Case(name, f"{path.stem[:24]} page {index + 1}", target, lines, None)
        turn += 1


def nothing(folder: Path) -> Iterator[Case]:
    """Pictures without any text, from which nothing should be read."""
    rng = np.random.default_rng(5)
    pictures = {
        "black": np.zeros((1200, 900), np.uint8),
        "white": np.full((1200, 900), 255, np.uint8),
        "table top": camera(wood((1600, 1200), rng), rng),
        "dark noise": np.clip(rng.normal(12, 5, (1200, 900)), 0, 255).astype(np.uint8),
        "coffee": np.asarray(Image.open(REPOSITORY / "examples/coffee.jpg").convert("L")),
    }
    for name, picture in pictures.items():
        path = folder / f"nothing-{name.replace(' ', '-')}.png"
        Image.fromarray(picture).save(path)
        yield Case("nothing", name, path, "", None)
