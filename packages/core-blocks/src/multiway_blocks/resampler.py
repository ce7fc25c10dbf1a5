"""Perceiver-style resampler: learned queries look once at the image features and at each other.

Shape suffixes: B batch, N features, Q queries, E input size, F output size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from multiway_blocks.attention import CrossAttention
from multiway_blocks.transformer import Context


class Resampler(nn.Module):
    """One cross-attention without norm, residual or feed-forward (KOSMOS-2.5, eq. 1 and 2).

    ``H = MHA(query = V, key = value = [W f + b; V])`` with learned ``V`` and L2-normalised features ``f``.
    """

    def __init__(self, input_size: int, output_size: int, num_queries: int, num_heads: int) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.randn(num_queries, output_size))
        self.projection = nn.Linear(input_size, output_size)
        self.attention = CrossAttention(output_size, num_heads, bias=True)

    def forward(self, features_BNE: Tensor, multiplicity_BN: Tensor | None = None) -> Tensor:
        """Image features (B, N, E) -> image embeddings (B, Q, F).

        ``multiplicity`` (B, N): how many equal feature rows each row stands for; a key counted ``m`` times in a
        softmax is one key whose score is raised by ``log m``, so all padding rows of an image may be given as one
        row with their count (exact), and a count of 0 removes a row.
        """
        features_BNF = self.projection(nn.functional.normalize(features_BNE, dim=-1))
        batch, num_queries = features_BNE.shape[0], self.latents.shape[0]
        latents_BQF = self.latents.to(features_BNF.dtype).expand(batch, -1, -1)
        mask = None
        if multiplicity_BN is not None:
            # The logarithm comes before the rounding to a low precision, in which counts are not exact.
            precision = torch.promote_types(features_BNF.dtype, torch.float32)
            weight_BS = nn.functional.pad(multiplicity_BN.to(precision), (0, num_queries), value=1.0)
            mask = weight_BS.log().to(features_BNF.dtype)[:, None, None, :]
        memory_BSF = torch.cat([features_BNF, latents_BQF], dim=1)
        return self.attention(latents_BQF, Context(memory_BME=memory_BSF, memory_mask=mask))
