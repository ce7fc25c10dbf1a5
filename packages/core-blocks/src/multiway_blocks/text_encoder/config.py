"""Shapes of the BERT family, and the published models by name."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

Family = Literal["bert", "roberta", "xlm-roberta", "unilm2"]


@dataclass(frozen=True)
class TextEncoderConfig:
    """A text encoder.

    Attributes:
        family: whose published layout and conventions the model has.
        num_positions: rows of the position table, those before ``first_position`` included.
        num_types: rows of the token type table; 0: there is none. UniLM v1 has six.
        norm_eps: of every LayerNorm: 1e-12 in BERT and MiniLM, 1e-5 in RoBERTa and UniLM v1.
        pad_id: the padding token.
        first_position: position of the first token. Above 0 positions count real tokens only, and padding stands at
            ``first_position - 1`` (RoBERTa); at 0 they count all places (BERT).
        key_bias: whether keys have a bias, which no softmax can tell from none; UniLMv2 has none.
        num_buckets: of the relative position bias that all layers share, 0 for none; ``max_distance`` as in T5.
        pooler: whether there is a layer on the first token's state.
        head_size: width of an attention head; 0 is ``hidden_size / num_heads``, as in all published models but
            AutoDistil's.
    """

    family: Family
    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    inner_size: int
    num_positions: int
    num_types: int
    norm_eps: float
    pad_id: int
    first_position: int
    key_bias: bool = True
    num_buckets: int = 0
    max_distance: int = 128
    pooler: bool = True
    activation: Literal["gelu", "gelu_tanh", "relu"] = "gelu"
    dropout: float = 0.1
    attention_dropout: float = 0.1
    initializer_range: float = 0.02
    head_size: int = 0

    def __post_init__(self) -> None:
        sizes = (self.vocab_size, self.hidden_size, self.num_layers, self.num_heads, self.inner_size)
        if min(*sizes, self.num_positions - self.first_position) < 1:
            raise ValueError("all sizes must be at least 1")
        if not self.head_size and self.hidden_size % self.num_heads:
            raise ValueError(f"hidden_size {self.hidden_size} is not divisible by num_heads {self.num_heads}")
        if not self.norm_eps > 0:
            raise ValueError(f"norm_eps must be above 0, not {self.norm_eps}")
        if not 0 <= self.pad_id < self.vocab_size:
            raise ValueError(f"pad_id must be a token, 0 to {self.vocab_size - 1}, not {self.pad_id}")

    @property
    def attention_head_size(self) -> int:
        """Width of an attention head."""
        return self.head_size or self.hidden_size // self.num_heads

    @property
    def max_length(self) -> int:
        """Tokens of the longest text."""
        return self.num_positions - self.first_position


_BERT = TextEncoderConfig("bert", 30_522, 768, 12, 12, 3072, 512, 2, 1e-12, 0, 0)
_ROBERTA = TextEncoderConfig("roberta", 50_265, 768, 12, 12, 3072, 514, 1, 1e-5, 1, 2)
_XLM_R = replace(_ROBERTA, family="xlm-roberta", vocab_size=250_002)
_UNILM = replace(_BERT, vocab_size=28_996, num_types=6, norm_eps=1e-5)
_UNILM2 = replace(_BERT, family="unilm2", key_bias=False, num_buckets=32)
_LARGE = {"hidden_size": 1024, "num_layers": 24, "num_heads": 16, "inner_size": 4096}
_H384 = {"hidden_size": 384, "inner_size": 1536}


def _sized(config: TextEncoderConfig, **sizes: int) -> TextEncoderConfig:
    return replace(config, **sizes)  # type: ignore[arg-type]


PRESETS: dict[str, TextEncoderConfig] = {
    "bert-base-uncased": _BERT,
    "bert-base-cased": _sized(_BERT, vocab_size=28_996),
    "bert-large-uncased": _sized(_BERT, **_LARGE),
    "bert-large-cased": _sized(_BERT, vocab_size=28_996, **_LARGE),
    "roberta-base": _ROBERTA,
    "roberta-large": _sized(_ROBERTA, **_LARGE),
    "xlm-roberta-base": _XLM_R,
    "xlm-roberta-large": _sized(_XLM_R, **_LARGE),
    "unilm1-base-cased": _UNILM,
    "unilm1-large-cased": _sized(_UNILM, **_LARGE),
    "unilm1.2-base-uncased": _sized(_UNILM, vocab_size=30_522),
    "unilm2-base-uncased": _UNILM2,
    "unilm2-large-uncased": _sized(_UNILM2, **_LARGE),
    "unilm2-large-cased": _sized(_UNILM2, vocab_size=28_996, **_LARGE),
    "minilm-l12-h384-uncased": _sized(_BERT, **_H384),
    "minilm-l6-h384-uncased": _sized(_BERT, num_layers=6, **_H384),
    "multilingual-minilm-l12-h384": _sized(_BERT, vocab_size=250_037, **_H384),
    "minilmv2-l12-h384-roberta": _sized(_ROBERTA, **_H384),
    "minilmv2-l6-h384-roberta": _sized(_ROBERTA, num_layers=6, **_H384),
    "minilmv2-l6-h768-roberta": _sized(_ROBERTA, num_layers=6),
    "mminilmv2-l12-h384-xlmr": _sized(_XLM_R, **_H384),
    "mminilmv2-l6-h384-xlmr": _sized(_XLM_R, num_layers=6, **_H384),
}
"""Published models by name; what a folder's own config.json and tensors say goes before these."""
