"""The fast engine: find the lines of a page, read each in one pass, without autoregression."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from multiway_blocks.vision import VisionEncoder

from multiway_document.kosmos2_5.line_reader import LineReader, LineReading, read_lines
from multiway_document.markdown_layout import lines_to_markdown
from multiway_document.result import Line, Page
from multiway_document.segmentation import crop_line, find_lines, prepare

LOW_CONFIDENCE = 0.5
LINES_PER_EVENT = 8  # how many lines are read between two events of a stream


class FastEngine:
    """KOSMOS-2.5's vision encoder with a line reader on it; a page is prepared and segmented without a network."""

    def __init__(
        self, vision: VisionEncoder, line_reader: LineReader, *, mixed_precision: bool = False
    ) -> None:
        """``mixed_precision`` computes matrix products in bfloat16 under autocast, as in training."""
        self.vision = vision
        self.line_reader = line_reader
        self.mixed_precision = mixed_precision

    def stream(self, image: np.ndarray, *, markdown: bool) -> Iterator[Line | Page]:
        """Lines of a page (H, W) or (H, W, 3) uint8 as they are read, and the page last.

        Lines whose characters are less probable than ``LOW_CONFIDENCE`` on average carry the flag
        ``low_confidence``. ``markdown`` adds the page as markdown, made of the lines' places.
        """
        height, width = image.shape[:2]
        prepared = prepare(image)
        regions = find_lines(prepared)
        lines: list[Line] = []
        kept = []
        for start in range(0, len(regions), LINES_PER_EVENT):
            part = regions[start : start + LINES_PER_EVENT]
            readings = self._read([crop_line(prepared, region) for region in part])
            for region, reading in zip(part, readings, strict=True):
                text = " ".join(reading.text.split())  # a wide gap may read as two blanks
                if not text:
                    continue
                flags = reading.flags
                if reading.confidence < LOW_CONFIDENCE:
                    flags = (*flags, "low_confidence")
                line = Line(text, prepared.to_source(region.box), reading.confidence, flags)
                lines.append(line)
                kept.append(region)
                yield line
        written = lines_to_markdown(kept, [line.text for line in lines], prepared) if markdown else None
        yield Page(index=0, width=width, height=height, lines=tuple(lines), markdown=written)

    def _read(self, crops: Sequence[np.ndarray]) -> list[LineReading]:
        device = self.vision.patch_projection.weight.device.type
        with torch.autocast(device, torch.bfloat16, enabled=self.mixed_precision):
            return read_lines(self.vision, self.line_reader, crops)
