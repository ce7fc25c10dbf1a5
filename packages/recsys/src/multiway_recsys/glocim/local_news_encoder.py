"""Local category-enhanced news representation: title and category.

Shape suffixes: N news, E hidden size, C width of a category vector.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from multiway_recsys.glocim.attention import AdditivePooling, SelfAttention
from multiway_recsys.glocim.config import GlocimConfig
from multiway_recsys.glocim.short_sequence_attention import short_sequence_attention
from multiway_recsys.glocim.title_encoder import TitleEncoder, VectorEncoder, WordTable


@dataclass(frozen=True)
class NewsInput:
    """The rows of the features that a batch encodes; None where the model does not look."""

    categories_N: Tensor  # int64
    subcategories_N: Tensor  # int64
    tokens_NT: Tensor | None = None  # int64
    abstract_tokens_NT: Tensor | None = None  # int64
    vectors_ND: Tensor | None = None  # float

    def __len__(self) -> int:
        return len(self.categories_N)


class CategoryTables(nn.Module):
    """Vectors of categories and of subcategories; row 0 is the unknown one, a row of its own and no padding."""

    def __init__(self, config: GlocimConfig) -> None:
        super().__init__()
        self.category = nn.Embedding(max(1, config.num_categories), config.category_dim)
        self.subcategory = nn.Embedding(max(1, config.num_subcategories), config.category_dim)
        for table in (self.category, self.subcategory):
            nn.init.normal_(table.weight, std=0.1)

    def forward(self, news: NewsInput) -> tuple[Tensor, Tensor]:
        """Two of (N, C)."""
        return self.category(news.categories_N), self.subcategory(news.subcategories_N)


class EnhancedCategory(nn.Module):
    """Title, category and subcategory as three tokens: self-attention, LayerNorm, additive pooling, LayerNorm (ours).

    The released code means this and concatenates them into ONE token of 1000 numbers, over which attention is idle.
    Queries, keys and values of categories are made once a category, not once a news.
    """

    def __init__(self, config: GlocimConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.tables = CategoryTables(config)
        self.category_projection = nn.Linear(config.category_dim, width)
        self.subcategory_projection = nn.Linear(config.category_dim, width)
        self.attention = SelfAttention(width, config.num_heads, config.head_dim)
        self.attention_norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(config.dropout)
        self.pooling = AdditivePooling(width, config.attention_hidden_size)
        self.norm = nn.LayerNorm(width)
        self.residual = config.residual
        if self.residual:
            self.attention.start_silent()

    def forward(self, title_NE: Tensor, news: NewsInput) -> Tensor:
        category = self.attention.project(self.category_projection(self.tables.category.weight))
        subcategory = self.attention.project(self.subcategory_projection(self.tables.subcategory.weight))
        look_up = nn.functional.embedding
        queries, keys, values = (
            [of_title, look_up(news.categories_N, of_category), look_up(news.subcategories_N, of_subcategory)]
            for of_title, of_category, of_subcategory in zip(
                self.attention.project(title_NE), category, subcategory, strict=True
            )
        )
        if title_NE.device.type == "cpu":
            mixed_N3E = short_sequence_attention(queries, keys, values, self.attention.num_heads)
        else:
            mixed_N3E = self.attention.mix(*(torch.stack(parts, dim=1) for parts in (queries, keys, values)))
        tokens_N3E = self.dropout(self.attention_norm(mixed_N3E))
        pooled_NE = self.pooling(tokens_N3E)
        return self.norm(title_NE + pooled_NE if self.residual else pooled_NE)


class ReleasedCategory(nn.Module):
    """What the released code computes, written plainly: LN(LN(W_V [title; category; subcategory] + b)), then linear.

    Its attention runs over a single token, where softmax is one; and its category vectors are rows of the WORD table,
    looked up with category ids. Queries, keys and pooling weights of that block are without effect and left out.
    """

    heads, head_dim = 20, 50  # written into the released code

    def __init__(self, config: GlocimConfig) -> None:
        super().__init__()
        width = config.hidden_size + 2 * config.word_dim
        inner = self.heads * self.head_dim
        self.dropout = nn.Dropout(config.dropout)
        self.value = nn.Linear(width, inner)
        self.attention_norm = nn.LayerNorm(inner)
        self.norm = nn.LayerNorm(inner)
        self.output = nn.Linear(inner, config.hidden_size)

    def forward(self, title_NE: Tensor, news: NewsInput, words: WordTable) -> Tensor:
        joined = torch.cat([title_NE, words(news.categories_N), words(news.subcategories_N)], dim=1)
        value = self.dropout(self.attention_norm(self.value(self.dropout(joined))))
        return self.output(self.norm(value))


class CategoryViews(nn.Module):
    """NAML: category and subcategory through a dense layer with ReLU are views beside the text's, pooled additively."""

    def __init__(self, config: GlocimConfig) -> None:
        super().__init__()
        self.tables = CategoryTables(config)
        self.category_projection = nn.Linear(config.category_dim, config.hidden_size)
        self.subcategory_projection = nn.Linear(config.category_dim, config.hidden_size)
        self.pooling = AdditivePooling(config.hidden_size, config.attention_hidden_size)

    def forward(self, texts: list[Tensor], news: NewsInput) -> Tensor:
        category_NC, subcategory_NC = self.tables(news)
        views = [
            *texts,
            self.category_projection(category_NC).relu(),
            self.subcategory_projection(subcategory_NC).relu(),
        ]
        return self.pooling(torch.stack(views, dim=1))


class LocalNewsEncoder(nn.Module):
    """A news as a vector of its own content (N, E)."""

    def __init__(self, config: GlocimConfig) -> None:
        super().__init__()
        self.kind = config.category
        width = config.hidden_size
        if self.kind == "concatenated":
            width -= 2 * config.category_dim
        self.words = WordTable(config.num_words, config.word_dim) if config.text == "words" else None
        self.title: TitleEncoder | None = None
        self.vector: VectorEncoder | None = None
        if config.text == "words":
            self.title = TitleEncoder(config, width)
        else:
            self.vector = VectorEncoder(
                config.text_dim, width, norm=config.title_norm, rotation=config.rotation
            )
        self.abstract = (
            TitleEncoder(config, width) if config.abstract_length and config.text == "words" else None
        )
        self.enhanced = EnhancedCategory(config) if self.kind == "enhanced" else None
        self.released = ReleasedCategory(config) if self.kind == "released" else None
        self.views = CategoryViews(config) if self.kind == "views" else None
        self.tables = CategoryTables(config) if self.kind == "concatenated" else None
        self.text_pooling = (
            AdditivePooling(width, config.attention_hidden_size)
            if self.abstract is not None and self.views is None
            else None
        )

    def forward(self, news: NewsInput) -> Tensor:
        texts = self._texts(news)
        if self.views is not None:
            return self.views(texts, news)
        text_NE = texts[0] if self.text_pooling is None else self.text_pooling(torch.stack(texts, dim=1))
        if self.enhanced is not None:
            return self.enhanced(text_NE, news)
        if self.released is not None:
            return self.released(text_NE, news, self.words)
        if self.tables is not None:
            return torch.cat([text_NE, *self.tables(news)], dim=1)
        return text_NE

    def _texts(self, news: NewsInput) -> list[Tensor]:
        if self.vector is not None:
            assert news.vectors_ND is not None
            return [self.vector(news.vectors_ND)]
        assert self.title is not None
        assert news.tokens_NT is not None
        texts = [self.title(news.tokens_NT, self.words)]
        if self.abstract is not None:
            assert news.abstract_tokens_NT is not None
            texts.append(self.abstract(news.abstract_tokens_NT, self.words))
        return texts
