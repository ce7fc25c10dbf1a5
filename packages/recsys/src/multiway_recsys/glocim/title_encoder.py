"""The text of a news as one vector: trained on words, or made of a given vector.

Shape suffixes: N news, T words, W width of a word, E hidden size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from multiway_recsys.glocim.attention import AdditivePooling, AttentionBlock
from multiway_recsys.glocim.config import GlocimConfig


class WordTable(nn.Embedding):
    """Word vectors, trained; row 0 is padding and stays zero."""

    def __init__(self, num_words: int, word_dim: int) -> None:
        super().__init__(num_words, word_dim, padding_idx=0)
        nn.init.normal_(self.weight, std=0.1)
        with torch.no_grad():
            self.weight[0] = 0


class CnnTitleEncoder(nn.Module):
    """Windows of three words, ReLU, additive pooling over the words (NAML and LSTUR)."""

    def __init__(self, word_dim: int, width: int, hidden_size: int, *, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.convolution = nn.Conv1d(word_dim, width, kernel_size=3, padding=1)
        self.pooling = AdditivePooling(width, hidden_size)

    def forward(self, words_NTW: Tensor, mask_NT: Tensor) -> Tensor:
        """(N, T, W) -> (N, width)."""
        windows_NTE = self.convolution(self.dropout(words_NTW).transpose(1, 2)).transpose(1, 2).relu()
        return self.pooling(self.dropout(windows_NTE), mask_NT)


class TitleEncoder(nn.Module):
    """Word ids -> hidden vector, by self-attention (NRMS, GLORY, GLoCIM) or convolution.

    As in the published GLORY and GLoCIM, padding takes part in the self-attention: their title mask is never passed.
    """

    def __init__(self, config: GlocimConfig, width: int) -> None:
        super().__init__()
        self.by_attention = config.title_encoder == "attention"
        self.encoder: nn.Module
        if self.by_attention:
            self.encoder = AttentionBlock(
                config.word_dim,
                config.num_heads,
                config.head_dim,
                config.attention_hidden_size,
                dropout=config.dropout,
                norm=config.title_norm,
            )
        else:
            self.encoder = CnnTitleEncoder(
                config.word_dim, width, config.attention_hidden_size, dropout=config.dropout
            )

    def forward(self, tokens_NT: Tensor, words: WordTable) -> Tensor:
        """(N, T) int64 -> (N, width)."""
        words_NTW = words(tokens_NT)
        if self.by_attention:
            return self.encoder(words_NTW)
        return self.encoder(words_NTW, tokens_NT > 0)


class VectorEncoder(nn.Module):
    """A given text vector, projected: what stands in the title encoder's place when the text encoder is frozen."""

    def __init__(self, text_dim: int, width: int, *, norm: bool, rotation: float = 0.0) -> None:
        super().__init__()
        self.rotation = rotation
        self.projection = nn.Linear(text_dim, width)
        # Like texts stay alike; a random matrix would add noise of 1 / sqrt(width) to every cosine.
        if not self.projection.weight.is_meta:  # what is to be loaded needs no start
            nn.init.orthogonal_(self.projection.weight)
        nn.init.zeros_(self.projection.bias)
        self.norm: nn.Module = nn.LayerNorm(width) if norm else nn.Identity()

    def forward(self, vectors_ND: Tensor) -> Tensor:
        """(N, text dim) -> (N, width)."""
        if self.training and self.rotation and torch.rand(()) < self.rotation:
            width = vectors_ND.shape[-1]
            turned, _ = torch.linalg.qr(torch.randn(width, width, device=vectors_ND.device))
            vectors_ND = vectors_ND @ turned
        # Vectors of length one have numbers of about 1 / sqrt(D), too small to learn from.
        vectors_ND = vectors_ND.to(self.projection.weight.dtype)
        return self.norm(self.projection(vectors_ND * vectors_ND.shape[-1] ** 0.5))
