"""A small Kosmos-2: two convolutional backbones, pooled cells as image slots, and a pointer for location tokens.

    pixels -> EfficientNetLite0, CenterNet -> CellEncoder -> 32 x 32 cells (key, box) -> pooled: 64 image slots
    slots, tokens -> Magneto decoder (Kosmos-2's) -> words by the tied embedding, locations by LocationPointer

The token language, the prompts and the decoder are Kosmos-2's. What differs (the published architecture, trained from
nothing at this size, stays at the prior over locations): backbones that already see, a grid of slots instead of learned
queries, and location tokens that are not written from memory: the decoder's state picks cells, every cell knows a box
that it lies in, and the corners of those boxes are the distribution over location tokens.

Shape suffixes: B batch, C channels, H height, W width, N cells by rows (G a side), F width of a cell, K width of a key,
T tokens, E hidden size of the decoder, V vocabulary.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from multiway_vision_language.kosmos2.model import ImageFeatures, Kosmos2, TextModel
from multiway_vision_language.kosmos2_small.backbones import (
    CenterNet,
    Convolution,
    EfficientNetLite0,
    InvertedResidual,
)
from multiway_vision_language.kosmos2_small.config import CellConfig, SmallConfig

# Class scores of CenterNet at which its box counts for nothing by itself, and for all.
_UNSURE, _SURE = 0.05, 0.15


class BackboneFeatures(NamedTuple):
    """What the frozen part of the backbones gives; training computes it once a picture."""

    efficientnet_BCHW: Tensor
    """(B, 112, G/2, G/2) of EfficientNet-lite0."""
    centernet_BCHW: Tensor
    """(B, 128 + 80, G, G): features and class logits of CenterNet."""
    boxes_BCHW: Tensor
    """(B, 4, G, G): CenterNet's box (left, top, right, bottom in grid units) for each cell."""


class CellBlock(nn.Module):
    """Mix each channel with its neighbours, then channels with one another; a residual around both."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, hidden_size)
        self.filter = Convolution(hidden_size, hidden_size, 3, depthwise=True)
        self.up = Convolution(hidden_size, 2 * hidden_size, activation=nn.functional.gelu)
        self.down = Convolution(2 * hidden_size, hidden_size)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, C, G, G) -> (B, C, G, G)."""
        return x_BCHW + self.down(self.up(self.filter(self.norm(x_BCHW))))


class CellEncoder(nn.Module):
    """Both backbones' features, brought to the location grid and mixed."""

    def __init__(self, config: CellConfig) -> None:
        super().__init__()
        size = config.hidden_size
        self.from_centernet = Convolution(CenterNet.channels + CenterNet.num_classes + 4, size)
        self.from_middle = Convolution(EfficientNetLite0.middle_channels, size)
        self.from_last = Convolution(EfficientNetLite0.last_channels, size)
        self.blocks = nn.ModuleList(CellBlock(size) for _ in range(config.num_blocks))
        self.norm = nn.GroupNorm(1, size)

    def forward(self, backbones: BackboneFeatures, last_BCHW: Tensor) -> Tensor:
        """``last``: what EfficientNet-lite0 makes of its middle. -> (B, F, G, G)."""
        grid = backbones.centernet_BCHW.shape[-2:]
        distances = _distances(backbones.boxes_BCHW)
        x_BCHW = self.from_centernet(torch.cat([backbones.centernet_BCHW, distances], dim=1))
        for coarse in (self.from_middle(backbones.efficientnet_BCHW), self.from_last(last_BCHW)):
            x_BCHW = x_BCHW + nn.functional.interpolate(
                coarse, size=grid, mode="bilinear", align_corners=False
            )
        for block in self.blocks:
            x_BCHW = block(x_BCHW)
        return self.norm(x_BCHW)


def _cell_middles(grid_size: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """x and y of the middles of all cells, in grid units: (G, G) each."""
    middles = torch.arange(grid_size, device=like.device, dtype=torch.float32) + 0.5
    y, x = torch.meshgrid(middles, middles, indexing="ij")
    return x, y


def _distances(boxes_B4HW: Tensor) -> Tensor:
    """Logarithms of how far a cell's middle is from the sides of its box; at least a tenth of a cell."""
    x, y = _cell_middles(boxes_B4HW.shape[-1], boxes_B4HW)
    left, top, right, bottom = boxes_B4HW.unbind(1)
    return torch.stack([x - left, y - top, right - x, bottom - y], dim=1).clamp(min=0.1).log()


class Corners(NamedTuple):
    """Of every cell, where the corners of its box fall: distributions over columns and rows of the grid."""

    left_BNG: Tensor
    top_BNG: Tensor
    right_BNG: Tensor
    bottom_BNG: Tensor


def spread(points_BN: Tensor, grid_size: int, sharpness: float = 2.0) -> Tensor:
    """Points on an axis of ``grid_size`` cells, in cells -> a distribution over the cells around each: (B, N, G)."""
    middles_G = torch.arange(grid_size, device=points_BN.device, dtype=points_BN.dtype) + 0.5
    return (-sharpness * (points_BN[..., None] - middles_G).abs()).softmax(dim=-1)


class LocationPointer(nn.Module):
    """States of the decoder -> a distribution over location tokens, by pointing at cells.

    A state's query is compared with the key of every cell; the chosen cells' boxes give the corners. A gate of the
    state says which corner is due, the upper left or the lower right one. (Ours; in place of the tied embedding.)
    """

    def __init__(self, hidden_size: int, key_size: int, grid_size: int) -> None:
        super().__init__()
        self.grid_size = grid_size
        self.query = nn.Linear(hidden_size, key_size)
        self.corner_keys = nn.Linear(4 * grid_size, key_size, bias=False)
        self.which = nn.Linear(hidden_size, 1)
        self.scale = nn.Parameter(torch.tensor(10.0))
        # From the best cell's score to the logit of "the picture shows it".
        self.presence = nn.Parameter(torch.tensor([1.0, 0.0]))

    def corners(self, boxes_BN4: Tensor) -> Corners:
        """Boxes of cells in grid units (left, top, right, bottom) -> distributions over rows and columns."""
        return Corners(*(spread(side_BN, self.grid_size) for side_BN in boxes_BN4.unbind(-1)))

    def keys(self, keys_BNK: Tensor, corners: Corners) -> Tensor:
        """What queries are compared with: what stands in a cell, and where its box ends."""
        return keys_BNK + self.corner_keys(torch.cat(corners, dim=-1))

    def scores(self, states_BTE: Tensor, keys_BNK: Tensor) -> Tensor:
        """How well cells answer states: (B, T, N)."""
        query_BTK = nn.functional.normalize(self.query(states_BTE), dim=-1)
        return self.scale * query_BTK @ nn.functional.normalize(keys_BNK, dim=-1).transpose(1, 2)

    def log_locations(self, states_BTE: Tensor, scores_BTN: Tensor, corners: Corners) -> Tensor:
        """Log-probabilities of all location tokens: (B, T, N)."""
        cells_BTN = scores_BTN.softmax(dim=-1)
        first_BT11 = self.which(states_BTE)[..., None].sigmoid()
        upper_left = self.mixture(cells_BTN, corners.top_BNG, corners.left_BNG)
        lower_right = self.mixture(cells_BTN, corners.bottom_BNG, corners.right_BNG)
        return (first_BT11 * upper_left + (1 - first_BT11) * lower_right + 1e-8).log().flatten(2)

    @staticmethod
    def mixture(cells_BTN: Tensor, rows_BNG: Tensor, columns_BNG: Tensor) -> Tensor:
        """Sum over cells of weight * (row distribution) x (column distribution): (B, T, G, G)."""
        weighted_BTGN = cells_BTN[:, :, None, :] * rows_BNG.transpose(1, 2)[:, None]
        return weighted_BTGN @ columns_BNG[:, None]


def surest_boxes(scores_BCHW: Tensor, sides_B4HW: Tensor) -> Tensor:
    """Of every 2x2 cells of CenterNet, the box of the one that is surest of a class, in grid units.

    ``sides``: distances in pixels from a cell's corner; a cell is 4 pixels wide, the grid's 8. (B, 4, H / 2, W / 2).
    """
    height, width = scores_BCHW.shape[-2:]
    _, place_B1HW = nn.functional.max_pool2d(scores_BCHW.amax(1, keepdim=True), 2, return_indices=True)
    left, top, right, bottom = (
        side.flatten(1).gather(1, place_B1HW.flatten(1)).view_as(place_B1HW) for side in sides_B4HW.unbind(1)
    )
    x, y = 4.0 * (place_B1HW % width), 4.0 * (place_B1HW // width)
    boxes = torch.cat([x - left, y - top, x + right, y + bottom], dim=1) / 8
    return boxes.clamp(0, max(height, width) / 2)


class Kosmos2Small(Kosmos2):
    """The network behind ``bundled:grounding-small``."""

    config: SmallConfig  # type: ignore[assignment]

    def __init__(self, config: SmallConfig) -> None:
        nn.Module.__init__(self)
        self.config = config
        tokens, cells, width = config.tokens, config.cells, config.text.hidden_size
        self.grid_size = tokens.grid_size
        self.efficientnet = EfficientNetLite0()
        self.centernet = CenterNet()
        self.cells = CellEncoder(cells)
        self.key = Convolution(cells.hidden_size, cells.key_size)
        # What CenterNet is sure of need not be learnt again: each of its classes has a key.
        self.class_keys = Convolution(CenterNet.num_classes, cells.key_size, bias=False)
        # Four distances to the sides of the cell's box, and whether CenterNet's own box is the better one.
        self.sides = Convolution(cells.hidden_size, 5)
        pooled = cells.hidden_size + cells.key_size + EfficientNetLite0.last_channels
        self.slot = nn.Linear(pooled, width)
        self.slot_positions = nn.Parameter(0.02 * torch.randn(config.num_queries, width))
        self.text = TextModel(config.text, tokens.pad)
        self.pointer = LocationPointer(width, cells.key_size, tokens.grid_size)

    def freeze_backbones(self) -> None:
        """Leave the backbones' published weights as they are, but for EfficientNet-lite0's last blocks."""
        classifier = self.efficientnet
        for frozen in (self.centernet, classifier.stem, *classifier.blocks[: classifier.num_middle]):
            frozen.requires_grad_(False)
        for block in classifier.blocks:
            assert isinstance(block, InvertedResidual)
            # The gradient of a depthwise filter takes as long as all the rest on a CPU.
            block.filter.weight.requires_grad_(False)

    def extract_features(self, pixels_BCHW: Tensor) -> BackboneFeatures:
        """The backbones' published parts, which training leaves as they are. Pixels are 0 to 255."""
        features_BCHW, scores_BCHW, sides_BCHW = self.centernet(pixels_BCHW)
        # CenterNet's cells are half as wide as the grid's.
        pooled = [nn.functional.avg_pool2d(features_BCHW, 2), nn.functional.max_pool2d(scores_BCHW, 2)]
        boxes_BCHW = surest_boxes(scores_BCHW, sides_BCHW)
        return BackboneFeatures(self.efficientnet.middle(pixels_BCHW), torch.cat(pooled, dim=1), boxes_BCHW)

    def encode(self, backbones: BackboneFeatures) -> tuple[ImageFeatures, Tensor, Tensor]:
        """-> image features, keys of cells (B, N, K), their boxes in grid units (B, N, 4)."""
        last_BCHW = self.efficientnet.last(backbones.efficientnet_BCHW)
        cells_BCHW = self.cells(backbones, last_BCHW)
        class_scores_BCHW = backbones.centernet_BCHW[:, CenterNet.channels :].sigmoid()
        keys_BCHW = self.key(cells_BCHW) + self.class_keys(class_scores_BCHW)
        boxes_BN4 = self._boxes(self.sides(cells_BCHW), backbones.boxes_BCHW, class_scores_BCHW)
        side = self.config.slots_per_side
        pooled = [
            nn.functional.adaptive_avg_pool2d(cells_BCHW, side),
            nn.functional.adaptive_max_pool2d(keys_BCHW, side),
            nn.functional.adaptive_avg_pool2d(last_BCHW, side),
        ]
        slots_BQE = self.slot(torch.cat(pooled, dim=1).flatten(2).transpose(1, 2)) + self.slot_positions
        keys_BNK = keys_BCHW.flatten(2).transpose(1, 2)
        cells_BNF = torch.cat([keys_BNK, boxes_BN4.to(keys_BNK.dtype)], dim=-1)
        return ImageFeatures(slots_BQE, cells_BNF), keys_BNK, boxes_BN4

    def _boxes(self, sides_B5HW: Tensor, tower_boxes_B4HW: Tensor, class_scores_BCHW: Tensor) -> Tensor:
        # The exponential keeps the sides on their sides of the cell's middle.
        x, y = _cell_middles(self.grid_size, sides_B5HW)
        left, top, right, bottom = sides_B5HW[:, :4].float().clamp(max=4.0).exp().unbind(1)
        own_B4HW = torch.stack([x - left, y - top, x + right, y + bottom], dim=1)
        # Where CenterNet is sure of one of its classes, its box stands: it has seen more photographs than we have
        # boxes to learn from.
        surest_B1HW = class_scores_BCHW.amax(dim=1, keepdim=True).float()
        sure_B1HW = ((surest_B1HW - _UNSURE) / (_SURE - _UNSURE)).clamp(0, 1)
        trust_B1HW = torch.maximum(sides_B5HW[:, 4:].float().sigmoid(), sure_B1HW)
        boxes_B4HW = own_B4HW + trust_B1HW * (tower_boxes_B4HW - own_B4HW)
        return boxes_B4HW.clamp(0, self.grid_size).flatten(2).transpose(1, 2)

    def encode_images(self, pixels_BCHW: Tensor) -> ImageFeatures:
        """Pixels 0 to 255, float (B, 3, H, W) -> slots and cells."""
        pixels_BCHW = pixels_BCHW.to(self.device, self.text.embedding.weight.dtype)
        return self.encode(self.extract_features(pixels_BCHW))[0]

    def logits(self, hidden_BTE: Tensor, images: ImageFeatures | None = None) -> Tensor:
        """(B, T, E) -> (B, T, V). Without pictures no location is likely."""
        tokens = self.config.tokens
        words_BTV = self.text.logits(hidden_BTE)
        first = tokens.first_location
        if images is None or images.cells_BNF is None:
            return torch.cat([words_BTV[..., :first], torch.full_like(words_BTV[..., first:], -30.0)], -1)
        key_size = self.pointer.query.out_features
        keys_BNK, boxes_BN4 = images.cells_BNF.split([key_size, 4], dim=-1)
        corners = self.pointer.corners(boxes_BN4)
        scores_BTN = self.pointer.scores(hidden_BTE, self.pointer.keys(keys_BNK, corners))
        words_BTV = self.with_presence(words_BTV, scores_BTN)
        # The first location's embedding answers "is a location due"; which one is the pointer's.
        due_BT1 = words_BTV[..., first : first + 1]
        locations_BTN = self.pointer.log_locations(hidden_BTE, scores_BTN, corners)
        return torch.cat([words_BTV[..., :first], due_BT1 + locations_BTN], dim=-1)

    def with_presence(self, words_BTV: Tensor, scores_BTN: Tensor) -> Tensor:
        """Raise or lower the logit of ``<object>`` by how well the best cell answers."""
        weight, bias = self.pointer.presence
        column = torch.zeros_like(words_BTV[0, 0])
        column[self.config.tokens.object] = 1.0
        return words_BTV + (weight * scores_BTN.amax(dim=-1, keepdim=True) + bias) * column
