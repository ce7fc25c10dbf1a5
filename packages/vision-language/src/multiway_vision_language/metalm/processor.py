"""Documents of causal text and encoded spans -> tensors: the only place that knows MetaLM's formats.

Shape suffixes: B rows, T tokens, P pictures, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from multiway_core.errors import InputError
from multiway_core.tokenization import TextTokenizer
from PIL import Image
from torch import Tensor

from multiway_vision_language.metalm.config import MetaLMConfig

CAPTION_PROMPT = "Summarize this image:"
VQA_PROMPT = "question: {} answer:"


@dataclass(frozen=True)
class Span:
    """What the encoder reads as a whole: text, a picture, or a picture followed by text."""

    text: str = ""
    picture: Image.Image | np.ndarray | None = None


Document = Sequence[str | Span]
"""Causal text and spans in reading order."""


class MetaLMInputs(NamedTuple):
    """Arguments of the model, rows padded on the left."""

    tokens_BT: Tensor
    valid_BT: Tensor
    spans: list[list[tuple[int, int]]]
    pixels_PCHW: Tensor | None
    picture_spans: list[list[bool]]


class MetaLMProcessor:
    """Tokenizes documents, prepares pictures, and keeps the places of spans."""

    def __init__(self, config: MetaLMConfig, tokenizer: TextTokenizer, *, bos: int, pad: int) -> None:
        self.config, self.tokenizer = config, tokenizer
        self.bos, self.pad = bos, pad

    def batch(self, documents: Sequence[Document], *, extra: int = 0) -> MetaLMInputs:
        """Documents, each behind ``<s>``; ``extra`` pads in front of all. Raises InputError for an empty span."""
        rows = [self._row(document) for document in documents]
        length = max((len(ids) for ids, _, _ in rows), default=0) + extra
        tokens_BT = torch.full((len(rows), length), self.pad)
        valid_BT = torch.zeros(len(rows), length, dtype=torch.bool)
        spans: list[list[tuple[int, int]]] = []
        marks: list[list[bool]] = []
        pictures: list[Image.Image | np.ndarray] = []
        for row, (ids, of_row, read) in enumerate(rows):
            start = length - len(ids)
            tokens_BT[row, start:] = torch.tensor(ids)
            valid_BT[row, start:] = True
            spans.append([(first + start, stop + start) for first, stop in of_row])
            marks.append([picture is not None for picture in read])
            pictures += [picture for picture in read if picture is not None]
        pixels = self.pixels(pictures) if pictures else None
        return MetaLMInputs(tokens_BT, valid_BT, spans, pixels, marks)

    def _row(
        self, document: Document
    ) -> tuple[list[int], list[tuple[int, int]], list[Image.Image | np.ndarray | None]]:
        ids, spans = [self.bos], []
        pictures: list[Image.Image | np.ndarray | None] = []
        for part in document:
            if isinstance(part, str):
                ids += self.tokenizer.encode(part)
                continue
            patches = 0 if part.picture is None else self.config.encoder.num_patches
            read = [self.pad] * patches + (self.tokenizer.encode(part.text) if part.text else [])
            if not read:
                raise InputError("a span has neither text nor a picture")
            spans.append((len(ids), len(ids) + len(read)))
            pictures.append(part.picture)
            ids += read
        return ids, spans, pictures

    def pixels(self, pictures: Iterable[Image.Image | np.ndarray]) -> Tensor:
        """Upright pictures (PIL, or uint8 (height, width, 3)) -> float32 (P, 3, H, W) between -1 and 1.

        Whole pictures are resized to the encoder's square, bicubic. Raises InputError if it reads none.
        """
        size = self.config.encoder.image_size
        if size is None:
            raise InputError("this model's encoder reads no pictures (image_size is None)")
        arrays = []
        for picture in pictures:
            image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
            if image.size != (size, size) or image.mode != "RGB":
                image = image.convert("RGB").resize((size, size), Image.Resampling.BICUBIC)
            arrays.append(torch.from_numpy(np.array(image)))
        return torch.stack(arrays).permute(0, 3, 1, 2).float() / 127.5 - 1


def caption(picture: Image.Image | np.ndarray) -> Document:
    """Ask for a caption: the encoder reads the picture and the prompt."""
    return [Span(CAPTION_PROMPT, picture)]


def question(picture: Image.Image | np.ndarray, text: str) -> Document:
    """Ask about a picture; the answer is written behind the span."""
    return [Span(VQA_PROMPT.format(text), picture)]


def in_context(examples: Sequence[tuple[Document, str]], query: Document) -> Document:
    """k solved examples (document, answer) in front of a query, concatenated."""
    return [part for document, answer in examples for part in [*document, answer]] + list(query)
