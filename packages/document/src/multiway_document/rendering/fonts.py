"""Font families of this machine, fit for drawing text that a reader can be trained on.

A face is kept if it covers ASCII letters and digits, has real lower case (a face whose lower case looks like
capitals would teach the reader to guess) and is not a symbol, mathematics or ornament face. Families, not
files, are the unit of drawing and of the split: a held-out family, and every family with the same outlines
under another name, is never seen in training.
"""

from __future__ import annotations

import os
import re
import string
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import ImageFont
from PIL.ImageFont import FreeTypeFont, Layout

from multiway_document.alphabet import ALPHABET

Split = Literal["train", "held_out"]
Genre = Literal["serif", "sans", "mono", "script"]

HELD_OUT = ("EB Garamond", "Nimbus Sans", "Open Sans", "C059", "Carlito", "Dancing Script")
# The same outlines (or nearly so) as a held-out family: Helvetica, Century Schoolbook, Open Sans and Lato
# clones.
SAME_OUTLINES_AS_HELD_OUT = (
    "TeX Gyre Heros",
    "FreeSans",
    "TeX Gyre Schola",
    "Noto Sans Display",
    "Noto Sans",
    "Lato",
)
SCRIPT = (
    "Breip", "femkeklaver", "Rufscript", "Dancing Script", "Lobster Two", "Z003", "TeX Gyre Chorus",
    "Comfortaa", "Comic Neue",
)  # fmt: skip
SCRIPT_SHARE = 0.08
LATIN_NOTO = (
    "Noto Sans",
    "Noto Sans Display",
    "Noto Sans Mono",
    "Noto Serif",
    "Noto Serif Display",
    "Noto Mono",
)

_REJECTED_NAME = re.compile(
    r"math|symbol|emoji|dingbat|ornament|initials|keyboard|\bcaps\b|small ?cap|\bsc\b|smallcaps|music|icons"
    r"|braille|fallback|stixint|stixsize|stixvar|stixnon|hairline|\bthin\b|extra ?light|dunhill|unslanted|barcode",
    re.IGNORECASE,
)
_STYLE_WORDS = re.compile(
    r"\b(thin|hairline|extra|ultra|semi|demi|light|regular|book|medium|bold|black|heavy|semibold|extrabold|retina"
    r"|italic|oblique|slanted|condensed|cond|semicondensed|expanded|semiexpanded|beta|display|\d+)\b",
    re.IGNORECASE,
)
_SERIF_NAME = (
    r"serif|roman|termes|pagella|schola|bonum|garamond|p052|c059|bookman|stix|junicode|libertine|standard"
)
_PLAINER = {
    "–": "-", "—": "-", "−": "-", "‘": "'", "’": "'", "‚": ",", "“": '"', "”": '"', "„": '"', "…": "...", "«": '"',
    "»": '"', "ß": "ss", "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "ı": "i",
    "•": "-", "×": "x",
}  # fmt: skip
_REQUIRED = frozenset(string.ascii_letters + string.digits)


def font_directories() -> list[Path]:
    """Folders in which this platform keeps fonts (existing ones only)."""
    home = Path.home()
    folders = [home / ".fonts", home / ".local/share/fonts"]
    if sys.platform == "darwin":
        folders += [Path("/System/Library/Fonts"), Path("/Library/Fonts"), home / "Library/Fonts"]
    elif sys.platform == "win32":
        folders += [Path("C:/Windows/Fonts"), home / "AppData/Local/Microsoft/Windows/Fonts"]
    else:
        folders += [Path(p) for p in ("/usr/share/fonts", "/usr/local/share/fonts", "/usr/share/texmf/fonts")]
    return [folder for folder in folders if folder.is_dir()]


def _font_files(folders: Iterable[Path]) -> list[Path]:
    """TrueType and OpenType files below the folders, each real file once (packages link folders to each
    other).
    """
    files: dict[Path, Path] = {}
    for folder in folders:
        for parent, _, names in os.walk(folder, followlinks=True):
            for name in names:
                if name.lower().endswith((".ttf", ".otf")):
                    path = Path(parent, name)
                    files.setdefault(path.resolve(), path)
    return sorted(files.values())


@lru_cache(maxsize=1024)
def _load(path: Path | None, size: float, shaped: bool) -> FreeTypeFont:
    layout = Layout.RAQM if shaped else Layout.BASIC
    if path is None:
        font = ImageFont.load_default(size)
        assert isinstance(font, FreeTypeFont)  # a size is given, so it is the scalable built-in font
        return font
    return ImageFont.truetype(str(path), size, layout_engine=layout)


def replace_uncovered(text: str, covered: frozenset[str]) -> str:
    """What a typesetter does without some characters: plain letters and ASCII marks instead, or nothing."""
    if covered.issuperset(text):
        return text
    characters = []
    for character in text:
        if character not in covered:
            character = _PLAINER.get(character) or unicodedata.normalize("NFD", character)[0]
        if covered.issuperset(character):
            characters.append(character)
    return "".join(characters)


@dataclass(frozen=True)
class FontFace:
    """One font file. ``path`` None is Pillow's built-in font. Heights are fractions of the em."""

    path: Path | None
    family: str
    genre: Genre
    bold: bool
    italic: bool
    covered: frozenset[str] = field(repr=False)
    x_height: float
    weight: float = 1.0  # how often the face is drawn within its family

    def at(self, size: float, *, shaped: bool = False) -> FreeTypeFont:
        """The face at an em of ``size`` pixels; ``shaped`` turns on ligatures and full kerning where
        available.
        """
        return _load(self.path, size, shaped)

    def restrict(self, text: str) -> str:
        """The text in characters that the face has, single-spaced and stripped."""
        return " ".join(replace_uncovered(text, self.covered).split())


def _is_legible(font: FreeTypeFont) -> bool:
    """Whether lower case is lower case: p, q, g, y go below the base line and x is lower than X."""
    em = font.size
    for character in "pqgy":
        if font.getbbox(character, anchor="ls")[3] < 0.08 * em:
            return False
    x_top, capital_top = -font.getbbox("x", anchor="ls")[1], -font.getbbox("X", anchor="ls")[1]
    return 0.25 * em < x_top < 0.88 * capital_top


def _family_name(name: str) -> str:
    name = name.replace("\\", "").removesuffix(" PS")
    stripped = " ".join(_STYLE_WORDS.sub(" ", name.replace("-", " ")).split())
    return stripped or name


def _belongs(family: str, names: Sequence[str]) -> bool:
    return any(family == name or family.startswith(name + " ") for name in names)


def _read_face(path: Path) -> FontFace | None:
    """The face in a file, or None if it cannot be used."""
    from fontTools.ttLib import (  # an optional dependency: only training needs fonts' tables
        TTFont,
        TTLibError,
    )

    try:
        font = ImageFont.truetype(str(path), 100, layout_engine=Layout.BASIC)
    except OSError:
        return None
    family_raw, style = (part or "" for part in font.getname())
    full_name = f"{family_raw} {style}"
    if _REJECTED_NAME.search(full_name) or _REJECTED_NAME.search(path.stem):
        return None
    if family_raw.startswith("Noto ") and _family_name(family_raw) not in map(_family_name, LATIN_NOTO):
        return None
    try:
        with TTFont(path, lazy=True, fontNumber=0) as tables:
            cmap = tables.getBestCmap() or {}
            typographic = tables["name"].getBestFamilyName() or family_raw
            is_fixed = bool(tables["post"].isFixedPitch)
            panose = tables["OS/2"].panose if "OS/2" in tables else None
            serif_style = panose.bSerifStyle if panose is not None and panose.bFamilyType == 2 else 0
            weight_class = tables["OS/2"].usWeightClass if "OS/2" in tables else 400
    except (TTLibError, OSError, KeyError, AssertionError, ValueError):
        return None
    covered = frozenset(character for character in ALPHABET if ord(character) in cmap)
    if not covered.issuperset(_REQUIRED) or not _is_legible(font):
        return None
    family = _family_name(typographic)
    lowered = full_name.lower() + " " + path.stem.lower()
    bold = weight_class >= 600 or "bold" in lowered or "demi" in lowered
    italic = any(word in lowered for word in ("italic", "oblique", "slanted"))
    genre: Genre = "sans"
    if _belongs(family, SCRIPT):
        genre = "script"
    elif is_fixed or "mono" in lowered or "courier" in lowered or "consol" in lowered:
        genre = "mono"
    elif 2 <= serif_style <= 10 or re.search(_SERIF_NAME, lowered):
        genre = "sans" if "sans" in lowered else "serif"
    plain = re.search(r"black|heavy|light|medium|extra|retina|condensed|expanded", lowered) is None
    weight = (3.0 if not bold and not italic else 1.0 if bold != italic else 0.5) * (1.0 if plain else 0.3)
    x_height = -font.getbbox("x", anchor="ls")[1] / 100
    return FontFace(path, family, genre, bold, italic, covered, x_height, weight)


def built_in_face() -> FontFace:
    """Pillow's own font, for a machine without any other: ASCII only."""
    font = _load(None, 100, False)
    covered = frozenset(chr(code) for code in range(0x20, 0x7F))
    return FontFace(None, "built-in", "sans", False, False, covered, -font.getbbox("x", anchor="ls")[1] / 100)


class FontLibrary:
    """Usable faces grouped by family."""

    def __init__(self, faces: Iterable[FontFace]):
        self.families: dict[str, list[FontFace]] = {}
        for face in faces:
            self.families.setdefault(face.family, []).append(face)
        if not self.families:
            face = built_in_face()
            self.families[face.family] = [face]
        self._draws: dict[str, tuple[list[FontFace], np.ndarray]] = {}
        self._names = sorted(self.families)
        genres = {name: self.families[name][0].genre for name in self._names}
        scripts = sum(genre == "script" for genre in genres.values())
        others = len(self._names) - scripts
        odds = np.array(
            [
                (SCRIPT_SHARE / scripts if others else 1 / scripts)
                if genres[name] == "script"
                else (1 - SCRIPT_SHARE * bool(scripts)) / others
                for name in self._names
            ]
        )
        self._cumulative = np.cumsum(odds / odds.sum())

    @classmethod
    def discover(cls, directories: Sequence[Path] | None = None) -> FontLibrary:
        """Scan ``directories`` (the platform's font folders by default) for TrueType and OpenType faces."""
        folders = font_directories() if directories is None else directories
        faces: dict[tuple[str, str], FontFace] = {}
        for path in _font_files(folders):
            if (face := _read_face(path)) is not None:
                faces.setdefault(
                    (face.family, path.stem), face
                )  # the same file in several formats counts once
        return cls(faces.values())

    @property
    def faces(self) -> list[FontFace]:
        return [face for name in self._names for face in self.families[name]]

    def split(self, split: Split) -> FontLibrary:
        """The families of one side of the split; the built-in font where that side has none."""
        if split == "held_out":
            return FontLibrary(face for face in self.faces if _belongs(face.family, HELD_OUT))
        unseen = HELD_OUT + SAME_OUTLINES_AS_HELD_OUT
        return FontLibrary(
            face
            for face in self.faces
            if not _belongs(face.family, unseen) or face.family == "Noto Sans Mono"
        )

    def draw(self, rng: np.random.Generator, *, genre: Genre | None = None) -> FontFace:
        """A random face: families about equally often (script together 8 %), then a face by its weight."""
        if genre is None:
            name = self._names[
                min(int(np.searchsorted(self._cumulative, rng.random())), len(self._names) - 1)
            ]
        else:
            genres = {name: self.families[name][0].genre for name in self._names}
            names = [name for name in self._names if genres[name] == genre]
            names = names or [name for name in self._names if genres[name] != "script"] or self._names
            name = names[int(rng.integers(len(names)))]
        faces = self.families[name]
        weights = np.cumsum([face.weight for face in faces])
        return faces[int(np.searchsorted(weights, rng.random() * weights[-1]))]
