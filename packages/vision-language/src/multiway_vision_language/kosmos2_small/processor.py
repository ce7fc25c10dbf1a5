"""Pictures and tagged text for the small network: Kosmos-2's, but for what its backbones expect of pixels."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from multiway_core.tokenization import TextTokenizer
from PIL import Image
from torch import Tensor

from multiway_vision_language.kosmos2.processor import Kosmos2Processor, to_rgb
from multiway_vision_language.kosmos2_small.config import SmallConfig

_SPACE_BEFORE_SIGN = re.compile(r" (?=[.,;:!?])")


class SmallProcessor(Kosmos2Processor):
    """Everything between pictures and text on one side and the network on the other."""

    config: SmallConfig  # type: ignore[assignment]

    def __init__(self, config: SmallConfig, tokenizer: TextTokenizer) -> None:
        super().__init__(config, tokenizer)  # type: ignore[arg-type]

    def decode(self, ids: Sequence[int]) -> str:
        """As Kosmos-2's, without spaces before full stops and commas: behind a tag the network learned them with the
        space that every stretch of text begins with."""
        return _SPACE_BEFORE_SIGN.sub("", super().decode(ids))

    def pixels(self, pictures: Iterable[Image.Image | np.ndarray]) -> Tensor:
        """Whole pictures warped to a square, bicubic: float32 (B, 3, H, W), 0 to 255. Raises InputError."""
        size = self.config.cells.image_size
        rows = [
            torch.from_numpy(np.array(to_rgb(picture).resize((size, size), Image.Resampling.BICUBIC)))
            for picture in pictures
        ]
        if not rows:
            return torch.empty(0, 3, size, size)
        return torch.stack(rows).permute(0, 3, 1, 2).float()
