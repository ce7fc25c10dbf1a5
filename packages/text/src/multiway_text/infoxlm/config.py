"""The numbers of the contrast, for the published sizes."""

from __future__ import annotations

from dataclasses import dataclass

from multiway_core.errors import ConfigError


@dataclass(frozen=True)
class Contrast:
    """Cross-lingual contrast (XlCo; Chi et al. 2021, arXiv 2007.07834, section 3.3).

    Attributes:
        layer: whose state of ``<s>`` is compared, from 1; 0 follows the encoder's depth, see :meth:`layer_of`. Middle
            layers align languages best; the last ones serve the masked language model.
        queue_size: keys of earlier batches that are negatives. 0: the batch's other keys are the negatives, and they
            come from the trained encoder, not from a momentum encoder.
        momentum: of the key encoder's weights, m in ``slow = m slow + (1 - m) fast`` after every step.
        temperature: by which dot products are divided; the vectors are not normalised.
        mixup: whether a side is two sentences, in an order drawn for each side.
        weight: of the loss beside those of the masked language models.
    """

    layer: int = 0
    queue_size: int = 131_072
    momentum: float = 0.9999
    temperature: float = 0.25
    mixup: bool = True
    weight: float = 1.0

    def __post_init__(self) -> None:
        if self.layer < 0 or self.queue_size < 0 or not self.temperature > 0 or self.weight < 0:
            raise ConfigError(
                f"contrast: layer {self.layer} and queue_size {self.queue_size} and weight "
                f"{self.weight} must be at least 0, temperature {self.temperature} above 0"
            )
        if not 0 <= self.momentum < 1:
            raise ConfigError(f"contrast: momentum must be at least 0 and below 1, not {self.momentum}")

    def layer_of(self, num_layers: int) -> int:
        """The layer that is compared in an encoder of so many: the published 8 of 12 and 12 of 24.

        Two thirds of the way up to 12 layers; of each further three, one.
        """
        return self.layer or max(1, round(min(num_layers * 2 / 3, 4 + num_layers / 3)))


BASE = Contrast()
LARGE = Contrast(momentum=0.999)
SMALL = Contrast(queue_size=4096, momentum=0.999)
