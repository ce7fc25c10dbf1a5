"""Position codes: sinusoidal, learned, two-dimensional, relative in buckets, rotary and xPos."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn


def sinusoidal_table(num_positions: int, hidden_size: int, *, zero_row: int | None = None) -> Tensor:
    """Sinusoids in the tensor2tensor layout, (num_positions, hidden_size) float32.

    Row ``p`` is ``[sin(p f), cos(p f)]`` with ``f_j = 10000^(-j / (half - 1))`` (Vaswani et al. 2017, section 3.5,
    halves instead of interleaved pairs). ``zero_row`` is set to zeros: the position of padding.
    """
    if hidden_size < 4:
        raise ValueError(f"sinusoidal positions need a hidden_size of at least 4, got {hidden_size}")
    half = hidden_size // 2
    frequencies = torch.exp(torch.arange(half, dtype=torch.float32) * -(math.log(10000.0) / (half - 1)))
    angles = torch.arange(num_positions, dtype=torch.float32)[:, None] * frequencies[None, :]
    table = torch.cat([angles.sin(), angles.cos()], dim=1)
    if hidden_size % 2:
        table = torch.cat([table, torch.zeros(num_positions, 1)], dim=1)
    if zero_row is not None:
        table[zero_row] = 0.0
    return table


class SinusoidalPositions(nn.Module):
    """Sinusoidal position codes that are computed, never stored in a checkpoint, and grow on demand."""

    table: Tensor

    def __init__(self, num_positions: int, hidden_size: int, *, zero_row: int | None = None) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.zero_row = zero_row
        # Computed even while the rest of a model is built on the meta device: no checkpoint will fill it.
        with torch.device("cpu"):
            table = sinusoidal_table(num_positions, hidden_size, zero_row=zero_row)
        self.register_buffer("table", table, persistent=False)

    def forward(self, positions: Tensor, *, end: int | None = None) -> Tensor:
        """``positions``: int64 of any shape; codes (..., hidden_size), float32 unless the module was cast.

        ``end``: a number above all positions, where the caller knows one; finding it waits for the device.
        """
        needed = end
        if needed is None:
            needed = int(positions.max()) + 1 if positions.numel() else 0
        if needed > self.table.shape[0]:
            size = max(needed, 2 * self.table.shape[0])
            table = sinusoidal_table(size, self.hidden_size, zero_row=self.zero_row)
            self.table = table.to(self.table)  # the same device and dtype
        return self.table[positions]


class LearnedPositions(nn.Embedding):
    """One learned vector a position; positions at or past ``num_positions`` raise ``IndexError``."""

    def __init__(self, num_positions: int, hidden_size: int) -> None:
        super().__init__(num_positions, hidden_size)


class GridPositions(nn.Module):
    """Two-dimensional code of a patch: learned row vector + learned column vector (Pix2Struct, section 3).

    Ids start at 1; row 0 and column 0 are the code of padding.
    """

    def __init__(self, num_rows: int, num_columns: int, hidden_size: int) -> None:
        super().__init__()
        self.row = nn.Embedding(num_rows, hidden_size)
        self.column = nn.Embedding(num_columns, hidden_size)

    def forward(self, rows_BN: Tensor, columns_BN: Tensor) -> Tensor:
        """Int64 ids (B, N) each; (B, N, hidden_size)."""
        return self.row(rows_BN) + self.column(columns_BN)


def distance_buckets(distance: Tensor, num_buckets: int, max_distance: int) -> Tensor:
    """Key place minus query place, int64 of any shape -> numbers of buckets, as :class:`RelativeBias` has them."""
    side = num_buckets // 2
    exact = side // 2
    far = distance.abs()
    growth = torch.log(far.clamp(min=1).float() / exact) / math.log(max_distance / exact)
    logarithmic = (exact + (growth * (side - exact)).long()).clamp(max=side - 1)
    return torch.where(far < exact, far, logarithmic) + side * (distance > 0)


class RelativeBias(nn.Module):
    """One number a head for the distance of a key from its query, in buckets (T5, Raffel et al. 2020, section 2.1).

    Half of the buckets are for keys behind the query. In each half the first are single distances and the rest grow
    logarithmically up to ``max_distance``; what is farther shares the last.
    """

    def __init__(self, num_heads: int, *, num_buckets: int = 32, max_distance: int = 128) -> None:
        super().__init__()
        if num_buckets < 4 or num_buckets % 2:
            raise ValueError(f"num_buckets must be even and at least 4, not {num_buckets}")
        if max_distance <= num_buckets // 4:
            raise ValueError(f"max_distance must be above {num_buckets // 4}, not {max_distance}")
        self.max_distance = max_distance
        self.bias = nn.Embedding(num_buckets, num_heads)

    def buckets(self, distance: Tensor) -> Tensor:
        """Key place minus query place, int64 of any shape -> numbers of buckets."""
        return distance_buckets(distance, self.bias.num_embeddings, self.max_distance)

    def forward(self, num_queries: int, num_keys: int, *, offset: int = 0) -> Tensor:
        """Additive mask (1, H, T, S) for queries at the places ``offset``, ``offset + 1`` ... and keys from 0 on."""
        device = self.bias.weight.device
        query_T1 = torch.arange(offset, offset + num_queries, device=device)[:, None]
        return self.bias(self.buckets(torch.arange(num_keys, device=device) - query_T1)).permute(2, 0, 1)[
            None
        ]


class Rotation(NamedTuple):
    """What pairs of a head's numbers are turned by, (B, 1, T, F) each: one of all heads, and of all layers."""

    cosine_B1TF: Tensor
    sine_B1TF: Tensor


class Rotary(nn.Module):
    """Rotary position embedding (Su et al. 2021, section 3.2) over the last dimension of queries or keys.

    ``interleaved=True`` rotates pairs ``(0, 1), (2, 3) ...`` as in the paper; ``False`` rotates halves as LLaMA's
    published weights expect.
    """

    inverse_frequency: Tensor

    def __init__(self, head_dim: int, *, theta: float = 10000.0, interleaved: bool = False) -> None:
        super().__init__()
        if head_dim % 2:
            raise ValueError(f"rotary needs an even head_dim, got {head_dim}")
        self.interleaved = interleaved
        with torch.device("cpu"):
            exponents = torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim
            inverse_frequency = theta**-exponents
        self.register_buffer("inverse_frequency", inverse_frequency, persistent=False)

    def forward(self, x_BHTD: Tensor, positions_BT: Tensor) -> Tensor:
        """Rotate queries (B, H, T, D) by int64 ``positions`` (B, T); the same shape and dtype back."""
        return self.rotate(x_BHTD, self.rotations(positions_BT)[0])

    def keys(self, x_BHTD: Tensor, positions_BT: Tensor) -> Tensor:
        """The same for keys, which plain rotary treats as it treats queries."""
        return self.rotate(x_BHTD, self.rotations(positions_BT)[1])

    def rotations(self, positions_BT: Tensor) -> tuple[Rotation, Rotation]:
        """What queries and what keys at these positions are rotated by: for :meth:`rotate`."""
        angles_B1TF = (positions_BT[..., None].float() * self.inverse_frequency)[:, None]
        both = Rotation(angles_B1TF.cos(), angles_B1TF.sin())
        return both, both

    def rotate(self, x_BHTD: Tensor, rotation: Rotation) -> Tensor:
        """(B, H, T, D) -> the same shape and dtype, computed in at least float32."""
        cosine, sine = rotation
        x = x_BHTD.to(torch.promote_types(x_BHTD.dtype, torch.float32))
        if self.interleaved:
            even, odd = x[..., 0::2], x[..., 1::2]
            rotated = torch.stack([even * cosine - odd * sine, even * sine + odd * cosine], dim=-1).flatten(
                -2
            )
        else:
            first, second = x.chunk(2, dim=-1)
            rotated = torch.cat([first * cosine - second * sine, second * cosine + first * sine], dim=-1)
        return rotated.to(x_BHTD.dtype)


class XPos(Rotary):
    """Extrapolatable position embedding (Sun et al. 2022, "A Length-Extrapolatable Transformer", section 2.2).

    Rotary in interleaved pairs; pair ``j`` of a query at position ``n`` is also multiplied by ``z_j^(n / base)`` and
    that of a key at ``m`` by ``z_j^(-m / base)``, with ``z_j = (2j + 0.4 D) / (1.4 D)``, so that far keys count less.
    A product depends on ``n - m`` alone. Other implementations count positions from the middle of the sequence and
    must therefore cache keys as they were before the rotation; here they count from ``centre``, which never moves, so
    rotated keys can be cached. Powers stay within float32 and bfloat16 up to 35,000 positions from the centre.
    """

    decay: Tensor

    def __init__(self, head_dim: int, *, scale_base: int = 512, centre: int = 0) -> None:
        super().__init__(head_dim, interleaved=True)
        self.scale_base, self.centre = scale_base, centre
        with torch.device("cpu"):
            decay = (torch.arange(0, head_dim, 2, dtype=torch.float32) + 0.4 * head_dim) / (1.4 * head_dim)
        self.register_buffer("decay", decay, persistent=False)

    def rotations(self, positions_BT: Tensor) -> tuple[Rotation, Rotation]:
        """As `Rotary` has it; keys are scaled inversely."""
        plain, _ = super().rotations(positions_BT)
        query, key = (self._scaled(plain, positions_BT, sign) for sign in (1, -1))
        return query, key

    def _scaled(self, plain: Rotation, positions_BT: Tensor, sign: int) -> Rotation:
        exponents_BT = (positions_BT - self.centre).float() * (sign / self.scale_base)
        scale_B1TF = (self.decay ** exponents_BT[..., None])[:, None]
        return Rotation(plain.cosine_B1TF * scale_B1TF, plain.sine_B1TF * scale_B1TF)
