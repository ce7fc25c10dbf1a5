"""Training the visual words of masked data modelling: VQ-KD with a published EfficientNet-lite as teacher.

The paper's teacher is CLIP, which installs from no registry; the features of a classifier take its place (our choice).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from multiway_core.training import Loss
from torch import Tensor, nn

from multiway_vision_language.dide.config import PRESETS as PLAIN
from multiway_vision_language.image_tokenizer.vq_kd import VQKD, VQKDConfig, codebook_usage, vq_kd_loss
from multiway_vision_language.multiway.config import MultiwayConfig
from multiway_vision_language.photo_search import checkpoint as photo_checkpoint
from multiway_vision_language.photo_search.efficientnet import STRIDE

TEACHER = "bundled:photo-search-small"


class FeatureTeacher:
    """The classifier's features, a cell for each patch: pictures are enlarged until its stride is a patch."""

    def __init__(self, grid: int, name: str = TEACHER) -> None:
        self.size = grid * STRIDE
        self.network = photo_checkpoint.load_pretrained(name).classifier.requires_grad_(False)

    @property
    def width(self) -> int:
        """Numbers of a feature."""
        return self.network.classifier.in_features

    @torch.no_grad()
    def __call__(self, pixels_BCHW: Tensor) -> Tensor:
        """Pictures between -1 and 1 -> (B, N, F)."""
        self.network.to(pixels_BCHW.device)
        large = nn.functional.interpolate(pixels_BCHW.float(), self.size, mode="bilinear", antialias=True)
        return self.network((large + 1) * 127.5).flatten(2).transpose(1, 2)


def new_tokenizer(sizes: MultiwayConfig, size: str, teacher: FeatureTeacher, num_codes: int) -> VQKD:
    """A plain vision transformer of a preset's size on the patches of ``sizes``."""
    encoder = replace(
        PLAIN.get(size, PLAIN["small"]),
        image_size=sizes.image_size,
        patch_size=sizes.patch_size,
        partition="none",
        pair_layers=0,
    )
    return VQKD(VQKDConfig(encoder, teacher.width, num_codes=num_codes))


def tokenizer_loss(teacher: FeatureTeacher, model: nn.Module, pixels_BCHW: Tensor) -> Loss:
    """`vq_kd_loss` with the teacher's features."""
    assert isinstance(model, VQKD)
    return vq_kd_loss(model, pixels_BCHW, teacher(pixels_BCHW))


@torch.no_grad()
def score_tokenizer(teacher: FeatureTeacher, parts: list[Tensor], model: Any) -> dict[str, float]:
    """On pictures that were not trained on: cosine to the teacher's features, share of codes, their perplexity."""
    cosines, codes = [], []
    for pixels_BCHW in parts:
        rebuilt_BNF, found = model(pixels_BCHW)
        cosines.append(
            nn.functional.cosine_similarity(rebuilt_BNF.float(), teacher(pixels_BCHW), dim=-1).flatten()
        )
        codes.append(found.codes_BN.flatten())
    used, perplexity = codebook_usage(torch.cat(codes), model.config.num_codes)
    return {"cosine": float(torch.cat(cosines).mean()), "codes_used": used, "code_perplexity": perplexity}
