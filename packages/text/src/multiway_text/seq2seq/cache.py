"""Keys and values of sources, which the beams of a text share, and of what each beam has written.

Shape suffixes: B texts, N beams of all texts, K beams of a text, H heads, S source tokens, T new tokens,
W written tokens, D head dim.
"""

from __future__ import annotations

import torch
from multiway_core.errors import InputError
from torch import Tensor


class SourceTargetCache:
    """Stands in for the attention of every layer of a masked model; one object a batch of texts.

    The first pass reads the sources: all valid tokens see each other, and their keys and values stay. Rows of later
    passes hold a written token (``kept`` 1), a mask token, or both in this order; only the written token's keys and
    values stay, and it does not see the mask token.

    Args:
        positions_BS: of the sources' tokens, for relative positions. valid_BS: bool, False at padding.
        num_layers: of the model. max_target: tokens that can be written.
    """

    def __init__(self, positions_BS: Tensor, valid_BS: Tensor, num_layers: int, max_target: int) -> None:
        self.positions_BS, self.valid_BS = positions_BS, valid_BS
        self.lengths_B = valid_BS.sum(1)
        self.num_layers, self.max_target = num_layers, max_target
        self.source: list[tuple[Tensor, Tensor]] = []
        empty = valid_BS.new_empty(0)
        self.target: list[tuple[Tensor, Tensor]] = [(empty, empty)] * num_layers
        self.written, self.kept = 0, 0
        self.text_of_N = torch.arange(len(valid_BS), device=valid_BS.device)
        self.bias: Tensor | None = None
        """Of the scores of a pass, (B or N, H, T, keys); set before it where the model has one."""

    @property
    def batch_size(self) -> int:
        """Rows: texts at first, then beams."""
        return len(self.text_of_N)

    def require(self, tokens: int) -> None:
        """Raise InputError unless ``tokens`` more can be written."""
        if self.written + tokens > self.max_target:
            raise InputError(
                f"{self.written + tokens} tokens were asked for, and max_target is {self.max_target}"
            )

    def select(self, rows: Tensor) -> None:
        """Make row i what row ``rows[i]`` was; each text that is left has as many rows, side by side."""
        rows = rows.to(self.text_of_N.device)
        texts_B, self.text_of_N = self.text_of_N[rows].unique_consecutive(return_inverse=True)
        if len(texts_B) < len(self.valid_BS) or (texts_B[1:] < texts_B[:-1]).any():
            self.source = [(key[texts_B], value[texts_B]) for key, value in self.source]
            self.positions_BS, self.valid_BS = self.positions_BS[texts_B], self.valid_BS[texts_B]
            self.lengths_B = self.lengths_B[texts_B]
        if self.written:
            self.target = [(key[rows], value[rows]) for key, value in self.target]

    def attend(self, layer: int, query_NHTD: Tensor, key_NHTD: Tensor, value_NHTD: Tensor) -> Tensor:
        """Attention of a pass in one layer, (N, H, T, D)."""
        query_NHTD = query_NHTD * query_NHTD.shape[-1] ** -0.5
        if len(self.source) < self.num_layers:
            self.source.append((key_NHTD, value_NHTD))
            scores_BHTS = self._biased(query_NHTD @ key_NHTD.transpose(2, 3))
            return scores_BHTS.masked_fill(~self.valid_BS[:, None, None], -torch.inf).softmax(-1) @ value_NHTD
        source_key, source_value = self.source[layer]
        key, value = key_NHTD, value_NHTD
        if self.written:
            key, value = (
                torch.cat(pair, dim=2) for pair in zip(self.target[layer], (key, value), strict=True)
            )
        if self.kept:
            end = self.written + 1
            self.target[layer] = key[:, :, :end], value[:, :, :end]
        by_text = self._by_text(query_NHTD) @ source_key.transpose(2, 3)
        by_text = by_text.masked_fill(~self.valid_BS[:, None, None], -torch.inf)
        scores = self._biased(
            torch.cat([self._by_row(by_text, query_NHTD), query_NHTD @ key.transpose(2, 3)], dim=3)
        )
        if query_NHTD.shape[2] == 2:
            scores[:, :, 0, -1] = -torch.inf
        weights = scores.softmax(-1)
        num_source = source_key.shape[2]
        mixed = self._by_text(weights[..., :num_source]) @ source_value
        return self._by_row(mixed, query_NHTD) + weights[..., num_source:] @ value

    def advance(self) -> None:
        """Count the token that the pass has kept."""
        self.written += self.kept

    def _biased(self, scores: Tensor) -> Tensor:
        return scores if self.bias is None else scores + self.bias

    def _by_text(self, x_NHTX: Tensor) -> Tensor:
        """(N, H, T, X) -> (B, H, K T, X)."""
        _, heads, tokens, width = x_NHTX.shape
        x_BKHTX = x_NHTX.view(len(self.valid_BS), -1, heads, tokens, width)
        return x_BKHTX.transpose(1, 2).reshape(len(self.valid_BS), heads, -1, width)

    def _by_row(self, x_BHRX: Tensor, like_NHTD: Tensor) -> Tensor:
        """(B, H, K T, X) -> (N, H, T, X)."""
        rows, heads, tokens, _ = like_NHTD.shape
        x_BHKTX = x_BHRX.unflatten(2, (-1, tokens))
        return x_BHKTX.transpose(1, 2).reshape(rows, heads, tokens, -1)
