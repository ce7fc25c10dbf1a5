"""Prophesee RAW, EVT 2.1: 64-bit little-endian words, of which each may hold the events of 32 pixels in a row.

The upper half of a word is a word of EVT 2.0 with the first pixel's x; the lower half has a bit for every one of the
32 pixels from there on that sent the event. Older recorders stored the halves in the other order and say so in the
header ("endianness=legacy").
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from multiway_event_vision.formats.evt2 import Evt2Decoder
from multiway_event_vision.formats.prophesee_header import header_size
from multiway_event_vision.formats.source import Columns, Options, Source, record_blocks, whole_records


def open_evt21(path: Path, header: dict[str, str], start: int, options: Options) -> Source:
    """A recording whose words begin at byte `start`. Raises DataError: a cut word."""
    count = whole_records(path, start, 8, options.repair)
    is_legacy = "endianness=legacy" in header.get("format", "").lower()

    def columns() -> Iterator[Columns]:
        decode = Evt21Decoder()
        for words in record_blocks(path, start, "<u8", count):
            yield decode(words << np.uint64(32) | words >> np.uint64(32) if is_legacy else words)

    return Source(
        "evt2.1", columns, header_size(header), header, "1280x720 or 320x320", expected_events=count
    )


class Evt21Decoder:
    """Decodes words block by block; what holds beyond a block's end is kept for the next."""

    def __init__(self) -> None:
        self._decode = Evt2Decoder()

    def __call__(self, words_N: NDArray[np.uint64]) -> Columns:
        """The events of `words_N`: t int64, x and y uint16, p uint8; of one word from the left to the right."""
        upper_N = (words_N >> np.uint64(32)).astype(np.uint32)
        first = self._decode(upper_N)
        mask_E = words_N[upper_N >> 28 < 2].astype("<u4")
        mask_E = mask_E[
            len(mask_E) - len(first.t) :
        ]  # without those before the first time, which nobody knows
        bits_E32 = np.unpackbits(mask_E.view(np.uint8).reshape(-1, 4), axis=1, bitorder="little")
        word_V, pixel_V = np.nonzero(bits_E32)
        t, x, y, p = (column[word_V] for column in first)
        return Columns(t, x + pixel_V.astype(np.uint16), y, p)
