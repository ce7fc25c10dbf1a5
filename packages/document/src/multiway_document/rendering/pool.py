"""Rendered lines on disk: written in shards by a low-priority process, read memory-mapped by training.

A shard is two files: ``shard_0007.pixels.npy`` (uint8, the lines' images one after the other, each row by
row), and ``shard_0007.index.npz`` with ``widths`` and ``lengths`` (int32, one a line) and ``class_ids``
(uint16, the texts one after the other; class ``i`` is ``ALPHABET[i - 1]``). The index is written last, so a
shard without it is one still being made.

`multiway-ocr train` writes the shards that are missing.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from multiway_core.errors import OutputError

from multiway_document.alphabet import ALPHABET
from multiway_document.rendering.lines import LINE_HEIGHT, LineSampler

_CLASS_OF = {character: i for i, character in enumerate(ALPHABET, start=1)}
# Share of the lines, and the least and most characters: short strings keep the reader honest about single
# glyphs.
LENGTHS = ((0.25, 1, 8), (0.35, 8, 40), (0.40, 40, 90))


def encode(text: str) -> np.ndarray:
    """Class ids (uint16) of a text in the alphabet; KeyError for any other character."""
    return np.array([_CLASS_OF[character] for character in text], np.uint16)


def decode(class_ids: np.ndarray) -> str:
    """The text of class ids (no blanks, which are 0)."""
    return "".join(ALPHABET[int(i) - 1] for i in class_ids)


def draw_length_range(rng: np.random.Generator, min_characters: int, max_characters: int) -> tuple[int, int]:
    """Bounds for one line, from the mixture :data:`LENGTHS` cut to the least and most characters."""
    ranges = [
        (share, max(low, min_characters), min(high, max_characters))
        for share, low, high in LENGTHS
        if low <= max_characters and high >= min_characters
    ] or [(1.0, min_characters, max_characters)]
    shares = np.cumsum([share for share, _, _ in ranges])
    _, low, high = ranges[int(np.searchsorted(shares, rng.random() * shares[-1]))]
    return low, high


def write_shard(
    folder: Path, shard: int, sampler: LineSampler, rng: np.random.Generator, lines: int, *,
    min_characters: int = 1, max_characters: int = 90, clean_share: float = 0.2,
) -> Path:  # fmt: skip
    """Render ``lines`` lines into one shard; the path of its index. Raises OutputError if it cannot be written."""
    images, widths, texts = [], [], []
    for _ in range(lines):
        low, high = draw_length_range(rng, min_characters, max_characters)
        line = sampler(rng, high, min_characters=low, degraded=rng.random() >= clean_share)
        images.append(line.image.reshape(-1))
        widths.append(line.image.shape[1])
        texts.append(encode(line.text))
    index = folder / f"shard_{shard:04d}.index.npz"
    lengths = np.array([len(text) for text in texts], np.int32)
    temporary = [folder / f".{index.name}.{os.getpid()}{suffix}" for suffix in (".npy", ".npz")]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        np.save(temporary[0], np.concatenate(images))
        np.savez(
            temporary[1], widths=np.array(widths, np.int32), lengths=lengths, class_ids=np.concatenate(texts)
        )
        temporary[0].replace(folder / f"shard_{shard:04d}.pixels.npy")
        temporary[1].replace(index)
    except OSError as error:
        raise OutputError(f"cannot write the shard to {folder}: {error.strerror or error}") from error
    finally:
        for path in filter(Path.is_file, temporary):
            path.unlink()
    return index


class LinePool:
    """All finished shards of a folder as one sequence of ``(image uint8 (32, width), class_ids uint16)``."""

    def __init__(self, folder: Path | str):
        self.widths = self.lengths = np.zeros(0, np.int32)
        self._shards: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]] = []
        self._starts = [0]
        for index in sorted(Path(folder).glob("shard_*.index.npz")):
            with np.load(index, allow_pickle=False) as data:
                widths, lengths, class_ids = data["widths"], data["lengths"], data["class_ids"]
            pixels = np.load(
                str(index).replace(".index.npz", ".pixels.npy"), mmap_mode="r", allow_pickle=False
            )
            pixel_starts = np.concatenate([[0], np.cumsum(widths.astype(np.int64) * LINE_HEIGHT)])
            text_starts = np.concatenate([[0], np.cumsum(lengths.astype(np.int64))])
            self._shards.append((pixels, pixel_starts, class_ids, text_starts))
            self.widths = np.concatenate([self.widths, widths])
            self.lengths = np.concatenate([self.lengths, lengths])
            self._starts.append(len(self.widths))

    def __len__(self) -> int:
        return len(self.widths)

    def __getitem__(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        if not 0 <= i < len(self):
            raise IndexError(f"line {i} of {len(self)}")
        shard = int(np.searchsorted(self._starts, i, side="right")) - 1
        pixels, pixel_starts, class_ids, text_starts = self._shards[shard]
        k = i - self._starts[shard]
        image = pixels[pixel_starts[k] : pixel_starts[k + 1]].reshape(LINE_HEIGHT, -1)
        return image, class_ids[text_starts[k] : text_starts[k + 1]]
