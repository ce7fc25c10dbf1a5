"""Pictures -> patches, prompts -> tokens, and tokens -> lines or markdown (arXiv 2309.11419, section 2.2).

The only file that knows KOSMOS-2.5's token formats.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from multiway_blocks.vision import patchify
from multiway_core.errors import InputError
from multiway_core.tokenization import TextTokenizer
from PIL import Image
from torch import Tensor

from multiway_document.kosmos2_5.config import Kosmos25Config, TokenConfig
from multiway_document.kosmos2_5.model import Patches
from multiway_document.result import Line

CHAT_TEMPLATE = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, "
    "and polite answers to the user's questions. USER: {question} ASSISTANT:"
)


@dataclass(frozen=True)
class Picture:
    """One picture on its grid of patches, before batching.

    ``pixels`` (rows * columns, P) float32; ``width`` and ``height`` in pixels after resizing, which is the space
    of the location tokens; ``source_width`` and ``source_height`` of the picture as given.
    """

    pixels_NP: Tensor
    rows: int
    columns: int
    width: int
    height: int
    source_width: int
    source_height: int


def grid_size(height: int, width: int, patch_size: int, max_patches: int) -> tuple[int, int]:
    """Rows and columns of the largest grid of at most ``max_patches`` that keeps the picture's shape, about."""
    scale = math.sqrt(max_patches * (patch_size / height) * (patch_size / width))
    # The published code allows max_patches rows, whose ids do not fit its own table: one less is the most.
    largest = max_patches - 1
    rows = max(min(math.floor(scale * height / patch_size), largest), 1)
    columns = max(min(math.floor(scale * width / patch_size), largest), 1)
    return rows, columns


def picture_patches(
    image: Image.Image | np.ndarray, *, patch_size: int = 16, max_patches: int = 4096, unbiased: bool = False
) -> Picture:
    """Normalise by the picture's own mean and deviation, resize to the grid, cut patches (section 2.2).

    ``image``: PIL picture, or uint8 array (H, W, 3) or (H, W). ``unbiased`` takes the deviation as the torchvision
    backend of `transformers` does (division by n - 1); the authors' own code divides by n. Raises
    :class:`InputError` for any other array.
    """
    if isinstance(image, Image.Image):
        array = np.asarray(image.convert("RGB"))
    else:
        array = np.asarray(image)
        if array.ndim == 2:
            array = np.repeat(array[:, :, None], 3, axis=2)
        if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or not array.size:
            raise InputError(f"a picture of {array.dtype} {array.shape}; expected uint8 (height, width, 3)")
    pixels_CHW = torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32)).permute(2, 0, 1)
    source_height, source_width = pixels_CHW.shape[1:]
    # float64 sums: a page has millions of pixels
    mean = pixels_CHW.double().mean()
    spread = float(pixels_CHW.double().std(correction=1 if unbiased else 0))
    deviation = max(spread, 1.0 / math.sqrt(pixels_CHW.numel()))
    normal_CHW = (pixels_CHW - float(mean)) / deviation
    rows, columns = grid_size(source_height, source_width, patch_size, max_patches)
    height, width = rows * patch_size, columns * patch_size
    resized_CHW = torch.nn.functional.interpolate(
        normal_CHW[None], size=(height, width), mode="bilinear", align_corners=False, antialias=True
    )[0]
    return Picture(
        patchify(resized_CHW, patch_size), rows, columns, width, height, int(source_width), int(source_height)
    )


def batch_pictures(pictures: Sequence[Picture], max_patches: int, *, padded: bool = False) -> Patches:
    """Pictures side by side.

    By default padding is one row with its count (see :class:`Patches`); ``padded`` writes all ``max_patches`` rows
    out, as the published processor does. Both give the same image embeddings.
    """
    counts = [len(picture.pixels_NP) for picture in pictures]
    length = max_patches if padded else min(max_patches, max(counts) + 1)
    pixels_BNP = torch.zeros(len(pictures), length, pictures[0].pixels_NP.shape[1])
    rows_BN = torch.zeros(len(pictures), length, dtype=torch.long)
    columns_BN = torch.zeros_like(rows_BN)
    multiplicity_BN = torch.zeros(len(pictures), length)
    for index, (picture, count) in enumerate(zip(pictures, counts, strict=True)):
        pixels_BNP[index, :count] = picture.pixels_NP
        rows_BN[index, :count] = torch.arange(1, picture.rows + 1).repeat_interleave(picture.columns)
        columns_BN[index, :count] = torch.arange(1, picture.columns + 1).repeat(picture.rows)
        multiplicity_BN[index, :count] = 1.0
        if padded:
            multiplicity_BN[index, count:] = 1.0
        elif count < max_patches:
            multiplicity_BN[index, count] = max_patches - count
    return Patches(pixels_BNP, rows_BN, columns_BN, multiplicity_BN)


@dataclass(frozen=True)
class ParsedLine:
    """A line of ``<ocr>`` output: ``box`` in location units of the resized picture, and the text."""

    box: tuple[int, int, int, int]
    text: str


class Processor:
    """Everything between a picture and the network, and between the network's tokens and a result."""

    def __init__(self, config: Kosmos25Config, tokenizer: TextTokenizer) -> None:
        self.config = config
        self.tokens: TokenConfig = config.tokens
        self.tokenizer = tokenizer

    def picture(self, image: Image.Image | np.ndarray) -> Picture:
        """The picture on this model's grid."""
        vision = self.config.vision
        return picture_patches(image, patch_size=vision.patch_size, max_patches=vision.max_patches)

    def batch(self, pictures: Sequence[Picture]) -> Patches:
        """Pictures ready for the encoder."""
        return batch_pictures(pictures, self.config.vision.max_patches)

    def ocr_prompt(self) -> list[int]:
        """``<ocr>``."""
        return [self.tokens.ocr]

    def markdown_prompt(self) -> list[int]:
        """``<md>``."""
        return [self.tokens.markdown]

    def chat_prompt(self, question: str) -> list[int]:
        """The question of a KOSMOS-2.5-CHAT turn; the answer is text up to ``</s>``."""
        return [self.tokens.markdown, *self.tokenizer.encode(CHAT_TEMPLATE.format(question=question.strip()))]

    def left_padded(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Prompts of different lengths in one tensor (B, T) int64."""
        length = max(len(prompt) for prompt in prompts)
        rows = [[self.tokens.pad] * (length - len(prompt)) + list(prompt) for prompt in prompts]
        return torch.tensor(rows, dtype=torch.long)  # also where there is no token to tell

    def line_tokens(self, line: ParsedLine) -> list[int]:
        """``<bbox><x><y><x><y></bbox>text\\n``: what the model is trained to write for a line."""
        x0, y0, x1, y1 = line.box
        tokens = self.tokens
        return [
            tokens.box, tokens.x(x0), tokens.y(y0), tokens.x(x1), tokens.y(y1), tokens.box_end,
            *self.tokenizer.encode(line.text + "\n"),
        ]  # fmt: skip

    def location(self, pixel: float) -> int:
        """Location index of a coordinate of the resized picture, clipped to the table."""
        return min(max(int(pixel // self.tokens.location_step), 0), self.tokens.num_locations - 1)

    def parse_lines(self, tokens: Sequence[int]) -> tuple[list[ParsedLine], int]:
        """The lines in ``<ocr>`` output up to ``</s>``, and how many malformed ones were left out.

        A run of non-text tokens and a run of text tokens make a line; it counts if the first run is exactly a box
        with its four locations in order, and the text is not empty (the authors' rule).
        """
        lines, malformed = self._parse(tokens)
        return [line for line, _ in lines], malformed

    def parse_lines_with_spans(self, tokens: Sequence[int]) -> list[tuple[ParsedLine, tuple[int, int]]]:
        """As :meth:`parse_lines`, with the place of each line's text among the tokens (start, end)."""
        return self._parse(tokens)[0]

    def _parse(self, tokens: Sequence[int]) -> tuple[list[tuple[ParsedLine, tuple[int, int]]], int]:
        lines: list[tuple[ParsedLine, tuple[int, int]]] = []
        malformed = 0
        place = 0
        output = [int(token) for token in tokens]
        if self.tokens.eos in output:
            output = output[: output.index(self.tokens.eos)]
        while place < len(output):
            start = place
            while place < len(output) and not self.tokens.is_text(output[place]):
                place += 1
            markers = output[start:place]
            start = place
            while place < len(output) and self.tokens.is_text(output[place]):
                place += 1
            text = self.tokenizer.decode(output[start:place]).strip()
            box = self._box(markers)
            if box is not None and text:
                lines.append((ParsedLine(box, text), (start, place)))
            else:
                malformed += 1
        return lines, malformed

    @cached_property
    def newline_tokens(self) -> list[int]:
        """Every text token with a newline in it: the ends of lines. Found once; 100,000 tokens take a moment."""
        first, last = self.tokens.first_text, self.tokens.mask
        return [token for token in range(first, last) if "\n" in self.tokenizer.decode([token])]

    def to_source(self, line: ParsedLine, picture: Picture, confidence: float = 1.0) -> Line:
        """The line with its box in pixels of the source picture (clipped to it)."""
        step = self.tokens.location_step
        x0, y0, x1, y1 = line.box
        horizontal = [min(max(x * step / picture.width, 0.0), 1.0) * picture.source_width for x in (x0, x1)]
        vertical = [min(max(y * step / picture.height, 0.0), 1.0) * picture.source_height for y in (y0, y1)]
        box = (horizontal[0], vertical[0], horizontal[1], vertical[1])
        return Line(text=line.text, box=box, confidence=confidence)

    def markdown(self, tokens: Sequence[int]) -> str:
        """``<md>`` output as the authors clean it: ``<br>`` is a newline, lines stripped, blank lines squeezed."""
        text = self.tokenizer.decode([token for token in tokens if self.tokens.is_text(int(token))])
        text = "\n".join(line.strip() for line in text.replace("<br>", "\n").split("\n"))
        return re.sub(r"\n{2,}", "\n\n", text).strip()

    def _box(self, markers: Sequence[int]) -> tuple[int, int, int, int] | None:
        tokens = self.tokens
        if len(markers) != 6 or markers[0] != tokens.box or markers[5] != tokens.box_end:
            return None
        places = [token - tokens.first_location for token in markers[1:5]]
        if any(place < 0 or place % 2 != axis for place, axis in zip(places, (0, 1, 0, 1), strict=True)):
            return None
        x0, y0, x1, y1 = (place // 2 for place in places)
        return x0, y0, x1, y1
