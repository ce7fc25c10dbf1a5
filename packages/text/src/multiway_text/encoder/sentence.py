"""A sentence model: an encoder, its tokenizer, and how token states become a vector, in sentence-transformers' files.

``modules.json`` lists the steps, ``1_Pooling/config.json`` the pooling, ``sentence_bert_config.json`` the longest text.
A folder without them is a bare encoder: the mean of its tokens, not normalised, as sentence-transformers takes it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from multiway_blocks import text_encoder
from multiway_blocks.text_encoder import TextEncoder
from multiway_core import config, files
from multiway_core.errors import CheckpointError, ConfigError, InputError
from multiway_core.tokenization import TextTokenizer
from torch import Tensor, nn

from multiway_text.encoder.quantized import Int8Network, is_quantized, read_stored, save_quantized

Pooling = Literal["cls", "mean", "max"]
_POOLING: dict[Pooling, str] = {
    "cls": "pooling_mode_cls_token",
    "max": "pooling_mode_max_tokens",
    "mean": "pooling_mode_mean_tokens",
}
"""In the order in which sentence-transformers concatenates several."""
_MODULES = "modules.json"
_LEAST_SHARE = 0.95  # of the embedding's rows that a tokenizer of the model knows; some models pad their rows


@dataclass(frozen=True)
class SentenceSettings:
    """How a vector is made of token states.

    Attributes:
        pooling: one or several, concatenated.
        normalize: to length 1.
        max_length: tokens of a text, special ones included; None: as many as there are positions.
        prompts: texts put before an input, by name; ``default_prompt`` is taken when none is named.
        languages: codes (ISO 639-1) of those that the model reads, where its vocabulary was cut to them.
    """

    pooling: tuple[Pooling, ...] = ("mean",)
    normalize: bool = False
    max_length: int | None = None
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt: str | None = None
    languages: tuple[str, ...] = ()

    @classmethod
    def read(cls, folder: Path) -> SentenceSettings:
        """Of a folder. Raises ConfigError for a step or pooling that is not supported."""
        path = folder / _MODULES
        if not path.is_file():
            return cls()
        try:
            modules = json.loads(path.read_text(encoding="utf-8"))
            kinds = [str(module["type"]).rpartition(".")[2] for module in modules]
            paths = [str(module.get("path", "")) for module in modules]
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise ConfigError(f"{path}: expected a list of modules with type and path") from error
        unknown = [kind for kind in kinds if kind not in ("Transformer", "Pooling", "Normalize")]
        if unknown:
            raise ConfigError(
                f"{path}: a {unknown[0]} module is not supported; supported are Transformer, Pooling, Normalize"
            )
        pooling: tuple[Pooling, ...] = ("mean",)
        if "Pooling" in kinds:
            place = folder / paths[kinds.index("Pooling")] / "config.json"
            pooling = _pooling(config.read_json(place), place)
        length = _max_length(folder)
        told = folder / "config_sentence_transformers.json"
        more = config.read_json(told) if told.is_file() else {}
        prompts = {str(k): str(v) for k, v in (more.get("prompts") or {}).items()}
        languages = more.get("languages") or []
        if not isinstance(languages, list) or not all(isinstance(code, str) for code in languages):
            raise ConfigError(f"{told}: languages: expected a list of codes, got {languages!r}")
        return cls(
            pooling,
            "Normalize" in kinds,
            length,
            prompts,
            more.get("default_prompt_name"),
            tuple(languages),
        )

    def write(self, folder: Path, width: int) -> None:
        """The files that sentence-transformers opens. Raises OutputError."""
        steps = [("", "Transformer"), ("1_Pooling", "Pooling")]
        steps += [("2_Normalize", "Normalize")] if self.normalize else []
        modules = [
            {"idx": n, "name": str(n), "path": place, "type": f"sentence_transformers.models.{kind}"}
            for n, (place, kind) in enumerate(steps)
        ]
        pooling: dict[str, Any] = {"word_embedding_dimension": width}
        pooling |= {key: name in self.pooling for name, key in _POOLING.items()}
        told: dict[str, Any] = {"prompts": dict(self.prompts), "default_prompt_name": self.default_prompt}
        told |= {"languages": list(self.languages)} if self.languages else {}
        for name, content in {
            _MODULES: modules,
            "1_Pooling/config.json": pooling,
            "sentence_bert_config.json": {"max_seq_length": self.max_length, "do_lower_case": False},
            "config_sentence_transformers.json": {"similarity_fn_name": "cosine", **told},
        }.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            files.write_text(folder / name, json.dumps(content, indent=2) + "\n")

    def pool(self, hidden_BTE: Tensor, valid_BT: Tensor) -> Tensor:
        """(B, width * poolings) of token states (B, T, E), where ``valid_BT`` is False for padding."""
        starts = nn.functional.pad(valid_BT.sum(1).cumsum(0), (1, 0))
        return self.pool_packed(hidden_BTE[valid_BT], starts)

    def pool_packed(self, hidden_NE: Tensor, starts: Tensor) -> Tensor:
        """The same of states (N, E) of texts one behind the other; ``starts``: where each begins, and their end."""
        parts = []
        for name in _POOLING:
            if name not in self.pooling:
                continue
            if name == "cls":
                parts.append(hidden_NE[starts[:-1]])
            else:
                parts.append(torch.segment_reduce(hidden_NE, name, offsets=starts))
        pooled_BE = torch.cat(parts, dim=1)
        return nn.functional.normalize(pooled_BE, dim=1) if self.normalize else pooled_BE


@dataclass
class SentenceModel:
    """An encoder with what it needs to make vectors of texts.

    ``int8``: the same encoder in 8 bits, which makes the vectors where it is there.
    """

    encoder: TextEncoder
    tokenizer: TextTokenizer
    settings: SentenceSettings
    int8: Int8Network | None = None

    @classmethod
    def load(
        cls, folder: Path, *, dtype: torch.dtype | None = None, device: torch.device | str = "cpu"
    ) -> SentenceModel:
        """Of a folder in sentence-transformers' or `transformers`' layout. Raises ConfigError, CheckpointError.

        ``dtype``: None means float32, and 8 bits for a file of 8 bits on a CPU.
        """
        encoder = text_encoder.load(folder, dtype=dtype or torch.float32, device=device)
        return cls.around(encoder, folder, dtype=dtype, device=device)

    @classmethod
    def around(
        cls,
        encoder: TextEncoder,
        folder: Path,
        *,
        dtype: torch.dtype | None,
        device: torch.device | str,
        types: int = 1,
    ) -> SentenceModel:
        """An encoder that was loaded from a folder, with what else is there; ``types`` as of `Int8Network.of`."""
        rounded = dtype is None and is_quantized(config.read_json(folder / "config.json"))
        int8 = None
        if rounded and torch.device(device).type == "cpu":
            int8 = Int8Network.of(encoder, read_stored(folder), types=types)
        return cls(encoder, load_tokenizer(folder, encoder), SentenceSettings.read(folder), int8)

    @property
    def max_length(self) -> int:
        """Tokens of a text, special ones included."""
        return min(self.settings.max_length or self.encoder.config.max_length, self.encoder.config.max_length)

    @property
    def width(self) -> int:
        """Numbers of a vector."""
        return self.encoder.config.hidden_size * len(self.settings.pooling)

    def save(self, folder: Path, *, dtype: torch.dtype | None = None, int8: bool = False) -> None:
        """Write what :meth:`load` opens and, not in 8 bits, sentence-transformers. Raises OutputError."""
        if int8:
            save_quantized(self.encoder, folder)
        else:
            text_encoder.save(self.encoder, folder, dtype=dtype)
        self.tokenizer.save(folder)
        self.settings.write(folder, self.encoder.config.hidden_size)


def load_tokenizer(folder: Path, encoder: TextEncoder) -> TextTokenizer:
    """The folder's tokenizer. Raises CheckpointError where it is another model's than the encoder."""
    tokenizer = TextTokenizer.from_folder(folder)
    check_tokenizer(folder, tokenizer, encoder)
    return tokenizer


def check_tokenizer(folder: Path, tokenizer: TextTokenizer, encoder: TextEncoder) -> None:
    """Raise CheckpointError where a folder's tokenizer is another model's than its encoder."""
    size, rows = tokenizer.vocab_size, encoder.config.vocab_size
    if size > rows or size < _LEAST_SHARE * rows:
        # Multilingual-MiniLM calls itself a BERT, and its hub folder was long opened with BERT's tokenizer.
        multilingual = rows == 250_037
        right = "XLM-R's sentencepiece.bpe.model" if multilingual else "the files of its own tokenizer"
        name = "Multilingual-MiniLM" if multilingual else "the model"
        raise CheckpointError(
            f"{folder}: the tokenizer is not this model's: it has {size:,} tokens ({tokenizer.kind}), "
            f"the word embedding {rows:,} rows; {name} takes {right}"
        )


def check_length(length: int, encoder: TextEncoder) -> None:
    """Raise InputError for texts of more tokens than the encoder has positions."""
    positions = encoder.config.max_length
    if length > positions:
        raise InputError(
            f"a length of {length} tokens is beyond the model's {positions} positions; take at most {positions}"
        )


def describe_family(encoder: TextEncoder) -> str | None:
    """What to say about a file of the UniLM family, which programs for plain BERT open wrongly; None for others."""
    own = encoder.config
    if own.num_types == 6:
        what, differs = "UniLM v1", f"six token types, LayerNorm eps {own.norm_eps:g}"
    elif own.family == "unilm2":
        what, differs = "UniLMv2", f"relative position bias in {own.num_buckets} bins, no key bias"
    else:
        return None
    return f"this is a {what} file ({differs}), not plain BERT; it is read as {what}"


def _max_length(folder: Path) -> int | None:
    """Of the longest text: sentence-transformers keeps it in either file."""
    for name, key in (
        ("sentence_bert_config.json", "max_seq_length"),
        ("tokenizer_config.json", "model_max_length"),
    ):
        path = folder / name
        length = config.read_json(path).get(key) if path.is_file() else None
        if length is not None:
            if not isinstance(length, int | float) or length < 3:
                raise ConfigError(f"{path}: {key}: expected a number of tokens, got {length!r}")
            return int(length)
    return None


def _pooling(content: Mapping[str, Any], path: Path) -> tuple[Pooling, ...]:
    named = content.get("pooling_mode")  # what sentence-transformers 6 writes in place of the flags
    if named is not None:
        chosen = set(named if isinstance(named, list) else [named])
    else:
        chosen = {key for key, value in content.items() if key.startswith("pooling_mode_") and value}
    found = tuple(name for name, flag in _POOLING.items() if chosen & {name, flag})
    other = sorted(map(str, chosen - set(_POOLING) - set(_POOLING.values())))
    if other or not found:
        wrong = other[0] if other else "no pooling"
        raise ConfigError(f"{path}: {wrong} is not supported; cls, mean and max are")
    return found
