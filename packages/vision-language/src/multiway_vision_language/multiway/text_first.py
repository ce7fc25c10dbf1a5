"""The Transformer of VLMo and ViLT: BERT's text embeddings, then the picture, with one table of relative positions.

Shape suffixes: B batch, C channels, H height or heads, W width, N patches, K chosen patches, T text tokens, S tokens of
text and image together (text first), E hidden size, L layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
from multiway_blocks.attention import Attention, padding_mask
from multiway_blocks.transformer import Context, LayerScale, Segment, Stack, apply
from multiway_core.errors import InputError
from torch import Tensor, nn

from multiway_vision_language.multiway.config import MultiwayConfig
from multiway_vision_language.multiway.embeddings import ImageEmbedding
from multiway_vision_language.multiway.experts import IMAGE, PAIR, TEXT, new_layer
from multiway_vision_language.multiway.model import initialize


@dataclass(frozen=True)
class TextFirstConfig(MultiwayConfig):
    """Beside `MultiwayConfig`:

    Attributes:
        relative_bias: whether positions are a bias of the attention (VLMo base, large); else learned vectors.
        bias_text: text tokens that the table of biases has room for (VLMo's second stage reads 196).
        image_types: kinds of pictures: 2 where an example has two (NLVR2).
        dropout: of the text embeddings. text_eps: of their norm.
    """

    relative_bias: bool = True
    bias_text: int = 196
    image_types: int = 1
    dropout: float = 0.0
    text_eps: float = 1e-12

    @property
    def bias_rows(self) -> int:
        """Rows of the table: patches and class token, both directions between text and image, text."""
        return (2 * self.grid - 1) ** 2 + 3 + 2 + 2 * self.bias_text


class Read(NamedTuple):
    """``hidden_BSE`` behind the last norm; ``split``: number of text tokens, which stand first; ``states``: what
    enters the first layer and leaves each."""

    hidden_BSE: Tensor
    split: int
    states: tuple[Tensor, ...]


class TextEmbedding(nn.Module):
    """BERT's embeddings: word, its own type 0, position where there is a table; LayerNorm; dropout."""

    def __init__(self, config: TextFirstConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.words = nn.Embedding(config.vocab_size, width)
        self.types = nn.Embedding(2, width)
        self.positions = None if config.relative_bias else nn.Embedding(config.max_text, width)
        self.norm = nn.LayerNorm(width, eps=config.text_eps)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """(B, T) int64 -> (B, T, E)."""
        x_BTE = self.words(tokens_BT) + self.types.weight[0]
        if self.positions is not None:
            x_BTE = x_BTE + self.positions.weight[: tokens_BT.shape[1]]
        return self.dropout(self.norm(x_BTE))


class TextFirstTransformer(nn.Module):
    """Texts, pictures, and texts with pictures behind them, through one stack with experts.

    ``reads``: "text" or "image" makes a tower for one modality, which has no embeddings of the other.
    """

    def __init__(self, config: TextFirstConfig, *, reads: Literal["both", "text", "image"] = "both") -> None:
        super().__init__()
        self.config = config
        width, layers = config.hidden_size, config.num_layers
        self.text_embedding = None if reads == "image" else TextEmbedding(config)
        self.image_embedding = None if reads == "text" else ImageEmbedding(config, mask_token=False)
        self.type_embedding = nn.Embedding(1 + config.image_types, width)
        self.image_positions: nn.Parameter | None = None
        self.bias_table: nn.Parameter | None = None
        if config.relative_bias:
            self.bias_table = nn.Parameter(torch.zeros(config.bias_rows, config.num_heads * layers))
        elif reads != "text":
            self.image_positions = nn.Parameter(torch.zeros(1, config.image_tokens, width))
        norm = nn.LayerNorm(width, eps=config.norm_eps)
        self.stack = Stack((new_layer(config, index) for index in range(layers)), norm)
        initialize(self)
        if self.image_positions is not None:
            nn.init.trunc_normal_(self.image_positions, std=0.02)

    def embed_text(self, tokens_BT: Tensor) -> Tensor:
        """What enters the first layer. Raises InputError: more tokens than the model reads."""
        if tokens_BT.shape[1] > self.config.max_text:
            raise InputError(f"{tokens_BT.shape[1]} text tokens; this model reads {self.config.max_text}")
        if self.text_embedding is None:
            raise InputError("this tower reads pictures, not texts")
        return self.text_embedding(tokens_BT) + self.type_embedding.weight[0]

    def embed_image(
        self, pixels_BCHW: Tensor, *, image_type: int = 0, chosen_BK: Tensor | None = None
    ) -> Tensor:
        """What enters the first layer. ``chosen_BK``: int64, the patches that are kept, in this order (DiDE)."""
        if self.image_embedding is None:
            raise InputError("this tower reads texts, not pictures")
        x_BNE = self.image_embedding(pixels_BCHW)
        if self.image_positions is not None:
            x_BNE = x_BNE + self.image_positions
        if chosen_BK is not None:
            if self.bias_table is not None:
                raise InputError("patches are chosen where positions are vectors, not biases")
            places_BK = torch.cat([torch.zeros_like(chosen_BK[:, :1]), chosen_BK + 1], dim=1)
            x_BNE = x_BNE.gather(1, places_BK[..., None].expand(-1, -1, x_BNE.shape[2]))
        return x_BNE + self.type_embedding.weight[1 + image_type]

    def forward(
        self,
        tokens_BT: Tensor | None = None,
        pixels_BCHW: Tensor | None = None,
        *,
        valid_BT: Tensor | None = None,
        image_type: int = 0,
        chosen_BK: Tensor | None = None,
    ) -> Read:
        """Encode texts, pictures, or both.

        Args:
            tokens_BT: int64. valid_BT: bool, False for padding; all real by default.
            pixels_BCHW: float pictures. image_type: 1 for the second picture of an example.
            chosen_BK: see :meth:`embed_image`.

        Raises InputError: neither is given, or sizes that the model does not take.
        """
        parts = []
        if tokens_BT is not None:
            parts.append(self.embed_text(tokens_BT))
        if pixels_BCHW is not None:
            parts.append(self.embed_image(pixels_BCHW, image_type=image_type, chosen_BK=chosen_BK))
        if not parts:
            raise InputError("neither a text nor a picture was given")
        split = 0 if tokens_BT is None else tokens_BT.shape[1]
        x_BSE = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
        segments = [s for s in ((0, split, TEXT), (split, x_BSE.shape[1], IMAGE)) if s[1] > s[0]]
        states = [x_BSE]
        masks = self.masks(split, x_BSE.shape[1] - split, valid_BT)
        hidden_BSE = self.run(x_BSE, segments, masks, states=states)
        return Read(hidden_BSE, split, tuple(states))

    def as_pair(self, read: Read, valid_BT: Tensor | None = None) -> Tensor:
        """The state of one modality led through the last layers' expert "pair" instead of its own (VLMo's ITC-VL)."""
        first = self.config.num_layers - self.config.pair_layers
        x_BSE = read.states[first]
        masks = self.masks(read.split, x_BSE.shape[1] - read.split, valid_BT)
        return self.run(x_BSE, [(0, x_BSE.shape[1], PAIR)], masks, first=first)

    def run(
        self,
        x_BSE: Tensor,
        segments: Sequence[Segment],
        masks: Sequence[Tensor | None],
        *,
        first: int = 0,
        states: list[Tensor] | None = None,
    ) -> Tensor:
        """The layers from ``first`` on and the last norm."""
        context = Context(segments=segments)
        for index in range(first, len(self.stack.layers)):
            layer = self.stack.layers[index]
            x_BSE = layer(x_BSE, replace(context, mask=masks[index]), index)
            if states is not None:
                states.append(x_BSE)
        return apply(self.stack.norm, x_BSE, context)

    def masks(self, text: int, image: int, valid_BT: Tensor | None) -> list[Tensor | None]:
        """Of every layer: padded text is seen by nobody, and the biases of relative positions are added."""
        hidden_B11S = None
        if valid_BT is not None and text and not bool(valid_BT.all()):
            valid_BS = torch.cat([valid_BT, valid_BT.new_ones(len(valid_BT), image)], dim=1)
            hidden_B11S = ~padding_mask(valid_BS)
        if self.bias_table is None:
            mask = None if hidden_B11S is None else ~hidden_B11S
            return [mask] * self.config.num_layers
        index_SS = position_index(self.config, text, image).to(self.bias_table.device)
        biases = (
            nn.functional.embedding(index_SS, self.bias_table).permute(2, 0, 1).chunk(self.config.num_layers)
        )
        if hidden_B11S is None:
            return [bias_HSS[None] for bias_HSS in biases]
        return [bias_HSS[None].masked_fill(hidden_B11S, -torch.inf) for bias_HSS in biases]

    def queries_and_keys(self, read: Read, layer: int = -1) -> tuple[Tensor, Tensor]:
        """Inside the attention of a layer, (B, H, S, D) each: what DiDE's students learn from."""
        index = range(self.config.num_layers)[layer]
        block = self.stack.layers[index]
        normed_BSE = block.attention_norm(read.states[index])  # type: ignore[operator]
        attention = block.attention.part if isinstance(block.attention, LayerScale) else block.attention
        assert isinstance(attention, Attention)
        query_BSE, key_BSE = attention.query(normed_BSE), attention.key(normed_BSE)
        heads = (attention.num_heads, attention.head_dim)
        return query_BSE.unflatten(-1, heads).transpose(1, 2), key_BSE.unflatten(-1, heads).transpose(1, 2)


def position_index(config: TextFirstConfig, text: int, image: int) -> Tensor:
    """Rows of the table of biases for ``text`` tokens with ``image`` tokens behind them, (S, S) int64.

    Between patches BEiT's: difference of rows and columns, query minus key; between words key minus query. The class
    token and the text's first token have rows of their own, and so has each direction between text and image.
    """
    grid, rows = config.grid, config.bias_rows
    image_rows = (2 * grid - 1) ** 2 + 3
    index = torch.zeros(text + image, text + image, dtype=torch.long)
    if image:
        places = torch.arange(grid)
        row = places.repeat_interleave(grid)
        column = places.repeat(grid)
        down, across = (x[:, None] - x[None, :] + grid - 1 for x in (row, column))
        between = index[text:, text:]
        between[1:, 1:] = down * (2 * grid - 1) + across
        between[0, :], between[:, 0] = image_rows - 3, image_rows - 2
        between[0, 0] = image_rows - 1
    if text:
        places = torch.arange(text - 1)
        words = index[:text, :text]
        words[1:, 1:] = places[None, :] - places[:, None] + config.bias_text - 2 + image_rows + 2
        words[0, :], words[:, 0] = rows - 3, rows - 2
        words[0, 0] = rows - 1
    index[:text, text:], index[text:, :text] = image_rows, image_rows + 1
    return index


def resize_biases(table: Tensor, old_grid: int, new_grid: int) -> Tensor:
    """The table of biases for another number of patches: BEiT's geometric places, cubic splines over rows and columns.

    The splines are those of SciPy's ``interp2d``, which the released code used and which is no more. Raises InputError:
    the old grid is too small for a spline.
    """
    if old_grid == new_grid:
        return table
    if old_grid < 3:
        raise InputError(f"biases of {old_grid} x {old_grid} patches are too few to be interpolated")
    source, target = 2 * old_grid - 1, 2 * new_grid - 1
    left, right = 1.01, 1.5
    while right - left > 1e-6:
        ratio = (left + right) / 2
        reach = (1 - ratio ** (source // 2)) / (1 - ratio)
        left, right = (left, ratio) if reach > target // 2 else (ratio, right)
    ratio = (left + right) / 2
    distances = [sum(ratio**power for power in range(count)) for count in range(1, source // 2 + 1)]
    places = torch.tensor([*(-d for d in reversed(distances)), 0.0, *distances], dtype=torch.float64)
    weights = spline_weights(places, torch.arange(-(target // 2), target // 2 + 1, dtype=torch.float64))
    square = table[: source * source].double().unflatten(0, (source, source))
    resized = torch.einsum("ya,xb,abn->yxn", weights, weights, square).flatten(0, 1)
    return torch.cat([resized.to(table.dtype), table[source * source :]])


def spline_weights(places: Tensor, wanted: Tensor) -> Tensor:
    """What a cubic spline through values at ``places`` (n,) gives at ``wanted`` (m,), as weights of the values, (m, n).

    Without a knot at the second and the last but one place; outside it keeps its last value. float64.
    """
    count, step = len(places), places.diff()
    wanted = wanted.clamp(places[0], places[-1])
    system, right = torch.zeros(2, count, count, dtype=torch.float64)
    for i in range(1, count - 1):
        before, after = step[i - 1], step[i]
        system[i, i - 1 : i + 2] = torch.stack([before, 2 * (before + after), after])
        right[i, i - 1 : i + 2] = 6 * torch.stack([1 / before, -1 / before - 1 / after, 1 / after])
    system[0, :3] = torch.stack([step[1], -(step[0] + step[1]), step[0]])
    system[-1, -3:] = torch.stack([step[-1], -(step[-2] + step[-1]), step[-2]])
    curvature = torch.linalg.solve(system, right)
    piece = (torch.searchsorted(places, wanted, right=True) - 1).clamp(0, count - 2)
    width = step[piece]
    first = (places[piece + 1] - wanted) / width
    second = 1 - first
    bend = (first**3 - first)[:, None] * curvature[piece] + (second**3 - second)[:, None] * curvature[
        piece + 1
    ]
    values = torch.eye(count, dtype=torch.float64)
    straight = first[:, None] * values[piece] + second[:, None] * values[piece + 1]
    return straight + bend * (width**2 / 6)[:, None]
