"""LongViT (arXiv 2312.03558): patches of a picture, positions, and Magneto blocks whose attention is dilated.

    x + output(norm(dilated(norm(x)))),  x + down(norm(gelu(up(norm(x)))));  head(norm(mean of all patches))

No class token, and no norm behind the last block. Shape suffixes: B batch, C channels, H and W pixels, N patches by
rows, E hidden size, K outputs of the head.
"""

from __future__ import annotations

import math

import torch
from multiway_blocks.attention import NO_CONTEXT
from multiway_blocks.dilated import DilatedAttention
from multiway_blocks.dilated_parallel import attend_parallel
from multiway_blocks.feedforward import FeedForward
from multiway_blocks.position import sinusoidal_table
from multiway_blocks.transformer import PreNorm, Stack
from multiway_core.errors import InputError
from torch import Tensor, nn
from torch.distributed import ProcessGroup, get_rank, get_world_size
from torch.distributed.nn.functional import all_reduce

from multiway_vision_language.longvit.config import LongViTConfig

POSITION_GUARD = 0.1
"""Added to the number of patches a side before the scale of interpolation, as in DINO's and the released code."""


class PatchAttention(DilatedAttention):
    """Dilated attention whose segments depend on the number of patches (`LongViTConfig.pattern`)."""

    def __init__(self, config: LongViTConfig) -> None:
        branches = config.pattern(1).branches
        super().__init__(config.hidden_size, config.num_heads, branches, eps=config.norm_eps)
        self.pattern_of = config.pattern

    def _mixed(self, query: Tensor, key: Tensor, value: Tensor, *_: object) -> Tensor:
        if self.sequence_group is None:
            return self.pattern_of(query.shape[2]).attend(query, key, value)
        pattern = self.pattern_of(query.shape[2] * get_world_size(self.sequence_group))
        return attend_parallel(query, key, value, pattern, self.sequence_group)


class LongViT(nn.Module):
    """The network with its head."""

    def __init__(self, config: LongViTConfig) -> None:
        super().__init__()
        self.config = config
        side = config.image_size // config.patch_size
        size = config.patch_size
        self.patch_embedding = nn.Conv2d(3, config.hidden_size, kernel_size=size, stride=size)
        self.positions = nn.Parameter(torch.empty(1, side * side, config.hidden_size))
        layers = config.num_layers
        self.encoder = Stack(
            _layer(config, config.drop_path * index / max(1, layers - 1)) for index in range(layers)
        )
        self.norm = nn.LayerNorm(config.hidden_size)
        self.head = nn.Linear(config.hidden_size, config.num_outputs) if config.num_outputs else nn.Identity()
        self.sequence_group: ProcessGroup | None = None
        initialize(self)

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        """Normalised pixels, float (B, 3, H, W), sides whole numbers of patches -> logits (B, K).

        With a sequence group (:meth:`split_sequence`) the pixels are this process's own rows of the pictures.
        """
        return self.head(self.pool(self.encode(pixels_BCHW)))

    def encode(self, pixels_BCHW: Tensor) -> Tensor:
        """The states of all patches (B, N, E) behind the last block."""
        x_BNE = self.patch_embedding(pixels_BCHW).flatten(2).transpose(1, 2)
        rows, columns = (size // self.config.patch_size for size in pixels_BCHW.shape[2:])
        processes, rank = self.place()
        positions_1NE = self.positions_of(rows * processes, columns)
        first = rank * x_BNE.shape[1]
        x_BNE = x_BNE + positions_1NE[:, first : first + x_BNE.shape[1]]
        return self.encoder(x_BNE, NO_CONTEXT)

    def pool(self, x_BNE: Tensor) -> Tensor:
        """The vector of a picture (B, E): the norm of the mean of all patches, over all processes."""
        mean_BE = x_BNE.mean(dim=1)
        if self.sequence_group is not None:
            mean_BE = all_reduce(mean_BE, group=self.sequence_group) / get_world_size(self.sequence_group)
        return self.norm(mean_BE)

    def positions_of(self, rows: int, columns: int) -> Tensor:
        """The table of positions, interpolated to so many rows and columns of patches: (1, rows * columns, E)."""
        side = math.isqrt(self.positions.shape[1])
        if rows == columns == side:
            return self.positions
        grid_1EHW = self.positions.unflatten(1, (side, side)).permute(0, 3, 1, 2)
        scales = tuple((count + POSITION_GUARD) / side for count in (rows, columns))
        grown_1EHW = nn.functional.interpolate(grid_1EHW, scale_factor=scales, mode="bicubic")
        return grown_1EHW[:, :, :rows, :columns].flatten(2).transpose(1, 2)

    def split_sequence(self, group: ProcessGroup | None) -> None:
        """From now on every process of ``group`` calls the model with its own rows of patches; None: no more.

        All have equally many rows. The loss is of the whole picture in every process, so gradients of the layers'
        weights are to be summed over the processes.
        """
        self.sequence_group = group
        for module in self.modules():
            if isinstance(module, PatchAttention):
                module.sequence_group = group

    def place(self) -> tuple[int, int]:
        """How many processes share a picture, and which of them this is."""
        group = self.sequence_group
        return (1, 0) if group is None else (get_world_size(group), get_rank(group))


def split_rows(rows: int, processes: int, rank: int) -> range:
    """The rows of patches of one process. Raises InputError where they cannot be shared equally."""
    if rows % processes:
        raise InputError(
            f"{rows} rows of patches cannot be shared by {processes} processes; choose another size"
        )
    each = rows // processes
    return range(rank * each, (rank + 1) * each)


def _layer(config: LongViTConfig, drop_path: float) -> PreNorm:
    feedforward = FeedForward(config.hidden_size, config.inner_size, sub_norm=True, eps=config.norm_eps)
    norms = [nn.LayerNorm(config.hidden_size, eps=config.norm_eps) for _ in range(2)]
    return PreNorm(PatchAttention(config), feedforward, (norms[0], norms[1]), drop_path=drop_path)


def grid_table(side: int, hidden_size: int, scale: float) -> Tensor:
    """Positions (1, side * side, E) to begin a small training with: sinusoids of the row, then of the column, scaled.

    From the normal values of `initialize` a network has to learn first which patches are neighbours.
    """
    half = hidden_size // 2
    rows, columns = sinusoidal_table(side, half), sinusoidal_table(side, hidden_size - half)
    table = [rows[:, None].expand(side, side, -1), columns[None].expand(side, side, -1)]
    return scale * torch.cat(table, dim=2).reshape(1, side * side, hidden_size)


def initialize(model: LongViT) -> None:
    """Normal values of deviation 0.02, cut at one deviation, for matrices and positions; zeros for biases."""
    nn.init.trunc_normal_(model.positions, std=0.02, a=-0.02, b=0.02)
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02, a=-0.02, b=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
