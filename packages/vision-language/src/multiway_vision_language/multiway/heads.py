"""Heads on top of a Multiway Transformer, with the released BEiT-3's parts.

Shape suffixes: B batch, N words, E width, L labels, V vocabulary.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from multiway_vision_language.multiway.model import initialize


class Pooler(nn.Module):
    """``tanh(dense(norm(x)))`` of a class token; VLMo's has no norm."""

    def __init__(self, width: int, *, eps: float | None = 1e-5) -> None:
        super().__init__()
        self.norm = nn.Identity() if eps is None else nn.LayerNorm(width, eps=eps)
        self.dense = nn.Linear(width, width)
        initialize(self)

    def forward(self, class_BE: Tensor) -> Tensor:
        """(B, E) -> (B, E)."""
        return self.dense(self.norm(class_BE)).tanh()


class TwoLayerHead(nn.Module):
    """``dense2(gelu(norm2(dense1(norm1(x)))))``; ``norm_input`` is False for VQA; NLVR2's begins near 0."""

    def __init__(
        self, width: int, inner: int, labels: int, *, norm_input: bool, scale: float = 1.0, eps: float = 1e-5
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=eps) if norm_input else nn.Identity()
        self.dense1 = nn.Linear(width, inner)
        self.norm2 = nn.LayerNorm(inner, eps=eps)
        self.dense2 = nn.Linear(inner, labels)
        initialize(self)
        with torch.no_grad():
            for dense in (self.dense1, self.dense2):
                dense.weight.mul_(scale)

    def forward(self, x_BE: Tensor) -> Tensor:
        """(B, E) -> (B, L)."""
        return self.dense2(nn.functional.gelu(self.norm2(self.dense1(self.norm1(x_BE)))))


class WordHead(nn.Module):
    """BERT's head for masked words."""

    def __init__(self, width: int, vocab_size: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, eps=1e-12)
        self.decoder = nn.Linear(width, vocab_size, bias=False)
        self.bias = nn.Parameter(torch.zeros(vocab_size))
        initialize(self)

    def forward(self, x_NE: Tensor) -> Tensor:
        """(N, E) -> (N, V)."""
        return self.decoder(self.norm(nn.functional.gelu(self.dense(x_NE)))) + self.bias


class ContrastiveHeads(nn.Module):
    """Projections of both class tokens into one space, as unit vectors, and the learned scale of their cosines."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.image = nn.Linear(width, width, bias=False)
        self.text = nn.Linear(width, width, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        initialize(self)

    def of_images(self, class_BE: Tensor) -> Tensor:
        """Unit vectors (B, E)."""
        return nn.functional.normalize(self.image(class_BE), dim=-1)

    def of_texts(self, class_BE: Tensor) -> Tensor:
        """Unit vectors (B, E)."""
        return nn.functional.normalize(self.text(class_BE), dim=-1)
