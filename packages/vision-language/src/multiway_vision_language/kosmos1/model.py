"""Kosmos-1: Kosmos-2's network with xPos in the attention (arXiv 2302.14045, figure 1 and section 2.2)."""

from __future__ import annotations

from multiway_core.errors import ConfigError

from multiway_vision_language.kosmos2.config import Kosmos2Config
from multiway_vision_language.kosmos2.model import Kosmos2


class Kosmos1(Kosmos2):
    """Documents with any number of pictures at any place; see :class:`Kosmos2` for the arguments."""

    def __init__(self, config: Kosmos2Config) -> None:
        if config.text.position_code != "xpos":
            raise ConfigError(f"Kosmos-1 has xPos; its text.position_code is {config.text.position_code!r}")
        super().__init__(config)

    def freeze_vision(self) -> None:
        """Fix the image encoder but for its last layer and what follows it, as in training (section 2.4)."""
        self.vision.requires_grad_(False)
        for module in (self.vision.layers[-1], self.vision.norm):
            module.requires_grad_(True)
