"""Pictures -> pixels, tagged text -> token ids, and token ids -> text with entities.

The only file that knows Kosmos-2's token formats. A prompt is

    <s> <image> [Q slots] </image> <grounding> ... text ...

Shape suffixes: B batch, H height, W width, T tokens.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from multiway_core.errors import InputError
from multiway_core.tokenization import TextTokenizer
from PIL import Image
from torch import Tensor

from multiway_vision_language import grounded_text
from multiway_vision_language.grounded_text import GroundedText
from multiway_vision_language.kosmos2.config import Kosmos2Config, TokenConfig
from multiway_vision_language.locations import Cells

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_DEVIATION = (0.26862954, 0.26130258, 0.27577711)
PICTURE = grounded_text.IMAGE + grounded_text.IMAGE_END
"""A picture within a text."""

Location = Cells | tuple[float, float, float, float]
"""A box: two cells, or left, top, right, bottom as fractions of the picture."""
Boxes = Sequence[Location | Sequence[Location] | None]
"""One entry a phrase, in order: nothing, one box, or several."""


class TokenBatch(NamedTuple):
    """Prompts of different lengths side by side, padded on the left: arguments of the model."""

    tokens_BT: Tensor
    valid_BT: Tensor
    image_slots_BT: Tensor

    def to(self, device: torch.device | str) -> TokenBatch:
        """Move to a device."""
        return TokenBatch(*(part.to(device) for part in self))


class Kosmos2Processor:
    """Everything between pictures and text on one side and the network on the other."""

    def __init__(self, config: Kosmos2Config, tokenizer: TextTokenizer) -> None:
        self.config = config
        self.tokens: TokenConfig = config.tokens
        self.grid = config.tokens.grid
        self.tokenizer = tokenizer
        ids = self.tokens
        self._tag_ids = dict(
            zip(grounded_text.TAGS, range(ids.document_end, ids.first_location), strict=True)
        )
        self._tags = {token: tag for tag, token in self._tag_ids.items()}
        self._splitter = re.compile(
            f"({'|'.join(map(re.escape, grounded_text.TAGS))}|<patch_index_\\d{{4,}}>)"
        )

    @cached_property
    def words_with_tag_signs(self) -> list[int]:
        """Text pieces with a ``<``, which would be read as the begin of a tag. Found once."""
        pieces = range(self.tokens.first_text, self.tokens.mask)
        return [token for token in pieces if "<" in self.tokenizer.decode([token])]

    def location_token(self, cell: int) -> int:
        """Id of a cell. Raises :class:`InputError` outside the grid."""
        if not 0 <= cell < self.grid.num_cells:
            raise InputError(f"location {cell} is outside the grid: expected 0 to {self.grid.num_cells - 1}")
        return self.tokens.first_location + cell

    def pixels(self, pictures: Iterable[Image.Image | np.ndarray]) -> Tensor:
        """Whole pictures warped to the tower's square, bicubic, normalised as CLIP: float32 (B, 3, H, W).

        Pictures are upright PIL images or uint8 arrays (height, width, 3). Raises :class:`InputError` for others.
        """
        size = self.config.vision.image_size
        rows = []
        for picture in pictures:
            image = to_rgb(picture).resize((size, size), Image.Resampling.BICUBIC)
            rows.append(torch.from_numpy(np.array(image)))
        if not rows:
            return torch.empty(0, 3, size, size)
        pixels_BCHW = torch.stack(rows).permute(0, 3, 1, 2).float() / 255
        mean, deviation = (torch.tensor(values).view(3, 1, 1) for values in (CLIP_MEAN, CLIP_DEVIATION))
        return (pixels_BCHW - mean) / deviation

    def encode(self, text: str, boxes: Boxes | None = None) -> list[int]:
        """Ids of text with tags; ``boxes`` are put behind its phrases first. No ``<s>``.

        Spaces before a tag vanish, those behind one stay, and each stretch of text between tags is encoded for
        itself, as the published tokenizer does. ``<image>`` brings its slots with it.
        Raises :class:`InputError` for boxes that do not fit the phrases or the grid.
        """
        if boxes:
            text = grounded_text.insert_boxes(text, [self._cells(entry) for entry in boxes])
        parts = self._splitter.split(text)  # text and tags in turn
        ids: list[int] = []
        for index, part in enumerate(parts):
            if index % 2:
                ids += self._tag(part)
            else:
                ids += self._text(part.rstrip() if index + 1 < len(parts) else part)
        return ids

    def prompt(self, text: str, boxes: Boxes | None = None, *, picture: bool = True) -> list[int]:
        """``<s>``, a picture's block (unless the text brings its pictures as :data:`PICTURE`), and the text."""
        return [self.tokens.bos, *self.encode((PICTURE if picture else "") + text, boxes)]

    def batch(self, prompts: Sequence[Sequence[int]]) -> TokenBatch:
        """Prompts in one tensor each, padded on the left."""
        length = max((len(prompt) for prompt in prompts), default=0)
        tokens_BT = torch.full((len(prompts), length), self.tokens.pad)
        valid_BT = torch.zeros(len(prompts), length, dtype=torch.bool)
        slots_BT = torch.zeros(len(prompts), length, dtype=torch.bool)
        for row, prompt in enumerate(prompts):
            start = length - len(prompt)
            tokens_BT[row, start:] = torch.tensor(prompt, dtype=torch.long)
            valid_BT[row, start:] = True
            for place in self.slots(prompt):
                slots_BT[row, start + place.start : start + place.stop] = True
        return TokenBatch(tokens_BT, valid_BT, slots_BT)

    def slots(self, prompt: Sequence[int]) -> list[range]:
        """Where a prompt has image slots: one range a picture."""
        starts = (index + 1 for index, token in enumerate(prompt) if token == self.tokens.image)
        return [range(start, start + self.config.num_queries) for start in starts]

    def decode(self, ids: Sequence[int]) -> str:
        """Tagged text of ids behind the last ``</image>``, up to ``</s>``; control tokens are left out."""
        output = [int(token) for token in ids]
        if self.tokens.image_end in output:
            output = output[len(output) - output[::-1].index(self.tokens.image_end) :]
        if self.tokens.eos in output:
            output = output[: output.index(self.tokens.eos)]
        parts: list[str] = []
        run: list[int] = []
        for token in output:
            if self.tokens.is_text(token):
                run.append(token)
                continue
            parts.append(self.tokenizer.decode(run))
            run = []
            if self.tokens.is_location(token):
                parts.append(grounded_text.location_tag(token - self.tokens.first_location))
            else:
                parts.append(self._tags.get(token, ""))
        return "".join([*parts, self.tokenizer.decode(run)])

    def parse(self, output: str | Sequence[int]) -> GroundedText:
        """Text and entities of tagged text or of ids; what is malformed is told, never raised."""
        tagged = output if isinstance(output, str) else self.decode(output)
        return grounded_text.parse(tagged.split(grounded_text.IMAGE_END)[-1], self.grid)

    def _tag(self, tag: str) -> list[int]:
        if tag == grounded_text.IMAGE:
            # What stands in the slots is overwritten; the published processor counts up from the first piece, which
            # matters to a ban on repetition that reads the prompt as well.
            first = self.tokens.first_text
            return [self.tokens.image, *range(first, first + self.config.num_queries)]
        if tag in self._tag_ids:
            return [self._tag_ids[tag]]
        return [self.location_token(int(tag.removeprefix("<patch_index_").removesuffix(">")))]

    def _text(self, text: str) -> list[int]:
        return self.tokenizer.encode(text) if text.strip() else []

    def _cells(self, entry: Location | Sequence[Location] | None) -> list[Cells]:
        if entry is None:
            return []
        if not entry or not isinstance(entry[0], int | float):
            return [cells for location in entry for cells in self._cells(location)]  # type: ignore[arg-type]
        if len(entry) == 4:
            return [self.grid.encode(entry)]  # type: ignore[arg-type]
        if len(entry) != 2 or not all(isinstance(cell, int) for cell in entry):
            raise InputError(f"{entry} is not a box: expected two cells, or left, top, right, bottom")
        for cell in entry:
            self.location_token(cell)  # type: ignore[arg-type]
        return [(entry[0], entry[1])]  # type: ignore[list-item]


def to_rgb(picture: Image.Image | np.ndarray) -> Image.Image:
    """The picture as RGB. Raises :class:`InputError` for what is no picture."""
    if isinstance(picture, Image.Image):
        return picture.convert("RGB")
    array = np.asarray(picture)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or not array.size:
        raise InputError(f"a picture of {array.dtype} {array.shape}; expected uint8 (height, width, 3)")
    return Image.fromarray(array)
