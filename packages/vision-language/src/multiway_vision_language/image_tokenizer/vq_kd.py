"""VQ-KD: patches -> codes from which a decoder rebuilds a teacher's features (BEiT v2, section 2.2).

Shape suffixes: B batch, C channels, H height, W width, N patches, M vectors, E hidden size, D code size, K codes,
F teacher's width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from multiway_blocks.transformer import Context, Stack
from multiway_core.training import Loss
from torch import Tensor, nn

from multiway_vision_language.multiway.experts import new_layer
from multiway_vision_language.multiway.model import initialize
from multiway_vision_language.multiway.text_first import TextFirstConfig, TextFirstTransformer


@dataclass(frozen=True)
class VQKDConfig:
    """``encoder``: a plain vision transformer (partition "none"); 8,192 codes of 32 numbers in the paper."""

    encoder: TextFirstConfig
    teacher_width: int
    num_codes: int = 8192
    code_size: int = 32
    decoder_layers: int = 3
    ema_decay: float = 0.99
    restart_below: float = 0.1
    """A code whose average use in a batch falls below this takes a vector of the batch."""


class Codes(NamedTuple):
    """``codes_BN`` int64; ``quantized_BND`` with straight-through gradients; ``distance`` to the codes, ()."""

    codes_BN: Tensor
    quantized_BND: Tensor
    distance: Tensor


class Codebook(nn.Module):
    """Unit vectors, nearest by cosine, that follow the average of what chooses them."""

    vectors_KD: Tensor
    use_K: Tensor
    filled: Tensor

    def __init__(self, config: VQKDConfig) -> None:
        super().__init__()
        self.decay, self.restart_below = config.ema_decay, config.restart_below
        start = nn.functional.normalize(torch.randn(config.num_codes, config.code_size), dim=-1)
        self.register_buffer("vectors_KD", start)
        self.register_buffer("use_K", torch.zeros(config.num_codes))
        self.register_buffer("filled", torch.zeros((), dtype=torch.bool))

    def forward(self, x_BND: Tensor) -> Codes:
        """Unit vectors -> their codes. While training the codebook learns, first by k-means of the batch."""
        flat_MD = x_BND.detach().flatten(0, -2).float()
        if self.training and not bool(self.filled):
            self._fill(flat_MD)
        codes_M = (flat_MD @ self.vectors_KD.T).argmax(-1)
        quantized_BND = self.vectors_KD[codes_M].view_as(x_BND).to(x_BND.dtype)
        if self.training:
            self._follow(flat_MD, codes_M)
        distance = (x_BND - quantized_BND).square().mean()
        straight_BND = x_BND + (quantized_BND - x_BND).detach()
        return Codes(codes_M.view(x_BND.shape[:-1]), straight_BND, distance)

    @torch.no_grad()
    def _fill(self, flat_MD: Tensor, rounds: int = 10) -> None:
        place = torch.randint(len(flat_MD), (len(self.vectors_KD),), device=flat_MD.device)
        self.vectors_KD.copy_(flat_MD[place])
        for _ in range(rounds):
            codes_M = (flat_MD @ self.vectors_KD.T).argmax(-1)
            sums_KD = torch.zeros_like(self.vectors_KD).index_add_(0, codes_M, flat_MD)
            used_K = torch.bincount(codes_M, minlength=len(sums_KD)) > 0
            self.vectors_KD[used_K] = nn.functional.normalize(sums_KD[used_K], dim=-1)
        self.use_K.copy_(torch.bincount(codes_M, minlength=len(self.use_K)).float())
        self.filled.fill_(True)

    @torch.no_grad()
    def _follow(self, flat_MD: Tensor, codes_M: Tensor) -> None:
        count_K = torch.bincount(codes_M, minlength=len(self.use_K)).float()
        sums_KD = torch.zeros_like(self.vectors_KD).index_add_(0, codes_M, flat_MD)
        self.use_K.lerp_(count_K, 1 - self.decay)
        used_K = count_K > 0
        mean_KD = nn.functional.normalize(sums_KD[used_K], dim=-1)
        moved_KD = self.vectors_KD[used_K].lerp(mean_KD, 1 - self.decay)
        self.vectors_KD[used_K] = nn.functional.normalize(moved_KD, dim=-1)
        dead = (self.use_K < self.restart_below).nonzero()[:, 0]
        if len(dead):
            place = torch.randint(len(flat_MD), (len(dead),), device=flat_MD.device)
            self.vectors_KD[dead] = flat_MD[place]
            self.use_K[dead] = 1.0


class VQKD(nn.Module):
    """Encoder, codebook, and the decoder that only training needs."""

    def __init__(self, config: VQKDConfig) -> None:
        super().__init__()
        self.config = config
        width, size = config.encoder.hidden_size, config.code_size
        self.encoder = TextFirstTransformer(config.encoder, reads="image")
        self.to_code = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, size))
        self.codebook = Codebook(config)
        self.from_code = nn.Linear(size, width)
        self.positions = nn.Parameter(torch.zeros(1, config.encoder.grid**2, width))
        self.decoder = Stack(
            (new_layer(config.encoder, index) for index in range(config.decoder_layers)),
            nn.LayerNorm(width, eps=config.encoder.norm_eps),
        )
        self.to_teacher = nn.Sequential(
            nn.Linear(width, width), nn.Tanh(), nn.Linear(width, config.teacher_width)
        )
        for part in (self.to_code, self.from_code, self.decoder, self.to_teacher):
            initialize(part)
        nn.init.trunc_normal_(self.positions, std=0.02)

    def encode(self, pixels_BCHW: Tensor) -> Codes:
        """Pictures between -1 and 1 -> a code for each patch."""
        hidden_BNE = self.encoder(pixels_BCHW=pixels_BCHW).hidden_BSE[:, 1:]
        return self.codebook(nn.functional.normalize(self.to_code(hidden_BNE), dim=-1))

    @torch.no_grad()
    def codes(self, pixels_BCHW: Tensor) -> Tensor:
        """(B, N) int64, for masked prediction."""
        return self.encode(pixels_BCHW).codes_BN

    def forward(self, pixels_BCHW: Tensor) -> tuple[Tensor, Codes]:
        """The rebuilt features of the teacher (B, N, F), and the codes."""
        codes = self.encode(pixels_BCHW)
        hidden_BNE = self.decoder(self.from_code(codes.quantized_BND) + self.positions, Context())
        return self.to_teacher(hidden_BNE), codes


def vq_kd_loss(model: VQKD, pixels_BCHW: Tensor, teacher_BNF: Tensor) -> Loss:
    """``1 - cosine`` of rebuilt and true features, plus the squared distance to the codes (equation 3)."""
    rebuilt_BNF, codes = model(pixels_BCHW)
    cosine = nn.functional.cosine_similarity(rebuilt_BNF.float(), teacher_BNF.float(), dim=-1).mean()
    total = 1 - cosine + codes.distance
    used, perplexity = codebook_usage(codes.codes_BN, model.config.num_codes)
    count = len(pixels_BCHW)
    metrics: dict[str, float | Tensor] = {
        "cosine": cosine.detach(),
        "codes_used": used,
        "code_perplexity": perplexity,
    }
    return Loss(total * count, weight=count, metrics=metrics, samples=count)


def codebook_usage(codes: Tensor, num_codes: int) -> tuple[float, float]:
    """The share of codes that occur, and the perplexity of their distribution: 1 for a collapsed codebook."""
    share_K = torch.bincount(codes.flatten(), minlength=num_codes).float() / codes.numel()
    entropy = -(share_K * share_K.clamp(min=1e-12).log()).sum()
    return float((share_K > 0).float().mean()), float(entropy.exp())
