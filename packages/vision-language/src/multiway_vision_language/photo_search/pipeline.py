"""Picture files -> vectors in the space of a text encoder, words for what they show, and what their EXIF data say.

encoder = PhotoPipeline.from_pretrained("bundled:photo-search-small")
photo = encoder.read("beach.jpg")
photo.vector_E @ text_vector_E, photo.tags
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from multiway_core import hub
from numpy.typing import NDArray
from PIL import ExifTags, Image

from multiway_vision_language.photo_search.checkpoint import load_pretrained
from multiway_vision_language.photo_search.model import PhotoEncoder, seen_size
from multiway_vision_language.pictures import SUFFIXES, open_picture

MAX_TAGS = 6
MIN_TAG = 0.15
"""Weight of a class (about its probability) that is told as a tag."""
_DATE = re.compile(r"(\d{4}):(\d\d):(\d\d)")


@dataclass(frozen=True)
class PhotoFacts:
    """What EXIF data say: the day as ``YYYY-MM-DD``, degrees north and east; None where they do not."""

    taken: str | None = None
    latitude: float | None = None
    longitude: float | None = None


@dataclass(frozen=True)
class Photo:
    """A picture as it is searched for: its vector (E,) of length 1, the classes that it shows, its facts."""

    vector_E: NDArray[np.float32]
    tags: tuple[str, ...]
    facts: PhotoFacts


class PhotoPipeline:
    """A photo encoder.

    Attributes:
        version: a digest of the model's files.
        text_encoder: the model whose vectors can be compared with those of pictures.
        unrelated, related: cosines of a text with a picture that it is not about, and that it is about.
        suffixes: of the files that are looked at.
    """

    suffixes = SUFFIXES

    def __init__(
        self, model: PhotoEncoder, *, name: str, version: str, dtype: torch.dtype = torch.float32
    ) -> None:
        self.model, self.name, self.version, self.dtype = model, name, version, dtype
        own = model.config
        self.text_encoder, self.width = own.text_encoder, own.vector
        self.unrelated, self.related = own.unrelated, own.related

    @classmethod
    def from_pretrained(
        cls, name: str, *, device: torch.device | str = "cpu", dtype: torch.dtype | None = None
    ) -> PhotoPipeline:
        """By ``bundled:NAME``, a folder or a hub id. ``dtype``: of the convolutions; None: bfloat16 where it is fast.

        Raises ModelNotFoundError, ConfigError, CheckpointError.
        """
        folder = hub.resolve(name)
        digest = hashlib.sha256()
        for path in sorted([folder / "config.json", *folder.glob("*.safetensors")]):
            digest.update(path.read_bytes())
        model = load_pretrained(name, device=device)
        if dtype is None:
            dtype = torch.bfloat16 if _fast_bfloat16(device) else torch.float32
        return cls(model, name=name, version=digest.hexdigest(), dtype=dtype)

    def read(self, path: str | Path) -> Photo:
        """A picture file. Raises InputError: missing, damaged, too large, or of a kind that is not read."""
        image = open_picture(path).image
        vectors_NE, weights_NC = self.encode([image])
        return Photo(vectors_NE[0], self.tags(weights_NC[0]), read_facts(Path(path)))

    @torch.inference_mode()
    def encode(self, images: Iterable[Image.Image]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Upright RGB pictures -> (vectors (N, E) of length 1, weights of the classes (N, C))."""
        rows, weights = [], []
        for image in images:
            pixels = [
                self._pixels(image, size) for size in (self._config.pixels, self._config.detector_pixels)
            ]
            with torch.autocast(pixels[0].device.type, self.dtype, enabled=self.dtype != torch.float32):
                vector_BE, weights_BC = self.model(*pixels)
            rows.append(vector_BE[0].float().cpu().numpy())
            weights.append(weights_BC[0].float().cpu().numpy())
        count = len(self._config.classes)
        return (
            np.array(rows, np.float32).reshape(-1, self.width),
            np.array(weights, np.float32).reshape(-1, count),
        )

    def tags(self, weights_C: NDArray[np.float32]) -> tuple[str, ...]:
        """Names of the classes of the most weight, without doubles."""
        order = np.argsort(-weights_C, kind="stable")[: 2 * MAX_TAGS]
        names = dict.fromkeys(self._config.classes[i] for i in order if weights_C[i] >= MIN_TAG)
        return tuple(names)[:MAX_TAGS]

    @property
    def _config(self) -> Any:
        return self.model.config

    def _pixels(self, image: Image.Image, count: int) -> torch.Tensor:
        size = seen_size(*image.size, count)
        small = np.asarray(image.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0))
        pixels_HWC = torch.from_numpy(small.copy()).to(self.model.bias.device)
        return pixels_HWC.permute(2, 0, 1)[None].float().contiguous(memory_format=torch.channels_last)


def read_facts(path: Path) -> PhotoFacts:
    """Day and place of a picture file; broken EXIF data say nothing."""
    try:
        with Image.open(path) as image:
            exif = Image.Image.getexif(image)
            taken = exif.get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.DateTimeOriginal) or exif.get(
                ExifTags.Base.DateTime
            )
            gps = exif.get_ifd(ExifTags.IFD.GPSInfo)
            latitude = _degrees(gps, ExifTags.GPS.GPSLatitude, ExifTags.GPS.GPSLatitudeRef, "S", 90)
            longitude = _degrees(gps, ExifTags.GPS.GPSLongitude, ExifTags.GPS.GPSLongitudeRef, "W", 180)
    except Exception:  # damaged EXIF data raise nearly everything, and the picture may be whole
        return PhotoFacts()
    day = _DATE.match(str(taken))
    known = day is not None and day[1] >= "1826" and "01" <= day[2] <= "12" and "01" <= day[3] <= "31"
    if latitude is None or longitude is None:
        latitude = longitude = None
    return PhotoFacts("-".join(day.groups()) if day is not None and known else None, latitude, longitude)


def _degrees(gps: Any, place: int, side: int, negative: str, most: float) -> float | None:
    """Of degrees, minutes and seconds; None where they are not there or impossible."""
    if place not in gps:
        return None
    degrees, minutes, seconds = (float(part) for part in gps[place])
    value = degrees + minutes / 60 + seconds / 3600
    if not math.isfinite(value) or abs(value) > most:
        return None
    return -value if str(gps.get(side, "")).upper().startswith(negative) else value


def _fast_bfloat16(device: torch.device | str) -> bool:
    if torch.device(device).type != "cpu":
        return True
    return bool(getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)())
