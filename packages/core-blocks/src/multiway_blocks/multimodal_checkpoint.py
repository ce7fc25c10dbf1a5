"""Published names of the Kosmos family's decoder, resampler and their sizes, beside those of our modules.

A model has its :class:`~multiway_blocks.multimodal_decoder.MultimodalDecoder` as ``text`` and its
:class:`~multiway_blocks.resampler.Resampler` as ``resampler``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from multiway_core import checkpoint, config, files
from multiway_core.errors import CheckpointError
from multiway_core.tensor_names import Rule, RuleTable
from torch import nn

from multiway_blocks.transformer.torchscale_names import torchscale_layers

Config = TypeVar("Config")
Model = TypeVar("Model", bound=nn.Module)

_TEXT_NAMES = (
    ("embed_tokens.weight", "text.embedding.weight"),
    ("segment_emb.weight", "text.segment_embedding.weight"),
    *((rule.published, rule.ours) for rule in torchscale_layers("", "text.decoder.")),
    ("layer_norm.{kind}", "text.decoder.norm.{kind}"),
)
_RESAMPLER_NAMES = (
    ("latent_query", "resampler.latents"),
    ("dense.{kind}", "resampler.projection.{kind}"),
    ("x_attn.q_proj.{kind}", "resampler.attention.query.{kind}"),
    ("x_attn.k_proj.{kind}", "resampler.attention.key.{kind}"),
    ("x_attn.v_proj.{kind}", "resampler.attention.value.{kind}"),
    ("x_attn.out_proj.{kind}", "resampler.attention.output.{kind}"),
)
TEXT_KEYS = {
    "embed_dim": "hidden_size",
    "layers": "num_layers",
    "attention_heads": "num_heads",
    "ffn_dim": "inner_size",
    "vocab_size": "vocab_size",
    "max_position_embeddings": "max_positions",
    "layer_norm_eps": "norm_eps",
    "dropout": "dropout",
    "scale_embedding": "scale_embedding",
}
"""Key of the hub's ``text_config`` -> field of our decoder's sizes."""


def hugging_face_rules(vision_prefix: str, vision_names: tuple[tuple[str, str], ...]) -> RuleTable:
    """Rules of the hub's ``model.safetensors``. The output matrix is tied; older files carry it once more."""
    return _table(
        ("text_model.model.", _TEXT_NAMES),
        (vision_prefix, vision_names),
        ("image_to_text_projection.", _RESAMPLER_NAMES),
        dropped=("text_model.lm_head.weight",),
    )


def fairseq_rules(vision_prefix: str, vision_names: tuple[tuple[str, str], ...]) -> RuleTable:
    """Rules of the authors' checkpoint. xPos's scale is in the file, but the released code does not apply it."""
    return _table(
        ("gpt_model.decoder.", _TEXT_NAMES),
        (vision_prefix, vision_names),
        ("img_connector.", _RESAMPLER_NAMES),
        dropped=(
            "gpt_model.decoder.output_projection.weight",
            "gpt_model.decoder.embed_positions._float_tensor",
            "gpt_model.decoder.self_attn_sope.scale",
        ),
    )


def _table(*parts: tuple[str, tuple[tuple[str, str], ...]], dropped: tuple[str, ...]) -> RuleTable:
    rules = [Rule(prefix + name, ours) for prefix, names in parts for name, ours in names]
    return RuleTable(rules, dropped=dropped)


@dataclass(frozen=True)
class PublishedLayout(Generic[Config, Model]):
    """A system's published files: the hub's (safetensors, also what we write) and the authors' fairseq checkpoint.

    Configurations have ``vision``, ``text``, ``tokens`` and ``num_queries``. In the tables of keys the current spelling
    of a size stands before older ones; ``derived`` are keys of the vision part that are written and not read,
    ``required`` the values that some keys must have.
    """

    model_type: str
    architecture: str
    build: Callable[[Config], Model]
    original: Config
    """Of the authors' file, which carries no sizes that we trust: it is the published model."""
    original_file: str
    hugging_face: RuleTable
    fairseq: RuleTable
    vision_keys: Mapping[str, str]
    text_keys: Mapping[str, str] = field(default_factory=lambda: TEXT_KEYS)
    keys: Mapping[str, str] = field(default_factory=lambda: {"latent_query_num": "num_queries"})
    derived: Mapping[str, str] = field(default_factory=dict)
    required: Mapping[tuple[str, str], str] = field(default_factory=dict)

    def read_config(self, folder: Path) -> Config:
        """The sizes of the model in a folder. Raises CheckpointError."""
        path = folder / "config.json"
        if path.is_file():
            return self.config_from_published(config.read_json(path), where=str(path))
        if (folder / self.original_file).is_file():
            return self.original
        raise CheckpointError(f"{folder}: no config.json, so this is not a {self.model_type} model folder")

    def config_from_published(self, published: Mapping[str, Any], *, where: str) -> Config:
        """The sizes in a published ``config.json``; keys that do not concern the network are ignored.

        ``token_layout`` is our own key: where a model with another vocabulary than the published one has its tokens.
        Raises CheckpointError naming ``where`` for a foreign model type or an ill-typed size.
        """
        if not isinstance(published, Mapping):
            raise CheckpointError(f"{where}: not a JSON object")
        parts = {key: published.get(key) or {} for key in ("vision_config", "text_config", "token_layout")}
        for key, part in parts.items():
            if not isinstance(part, Mapping):
                raise CheckpointError(f"{where}: {key} is not a JSON object")
        found = published.get("model_type")
        if found != self.model_type:
            raise CheckpointError(f"{where}: model_type is {found!r}, expected {self.model_type!r}")
        for (part, key), wanted in self.required.items():
            given = parts[part].get(key, wanted)
            if given != wanted:
                raise CheckpointError(f"{where}: {part}.{key} is {given!r}, expected {wanted!r}")
        own: dict[str, Any] = {
            "vision": _picked(parts["vision_config"], self.vision_keys),
            "text": _picked(parts["text_config"], self.text_keys),
            "tokens": parts["token_layout"],
            **{name: published[key] for key, name in self.keys.items() if key in published},
        }
        result: Any = config.from_dict(type(self.original), own, where=where)
        if result.tokens.vocab_size != result.text.vocab_size:
            raise CheckpointError(
                f"{where}: the vocabulary has {result.text.vocab_size} tokens, "
                f"but the token layout {result.tokens.vocab_size}"
            )
        return result

    def config_to_published(self, own: Any) -> dict[str, Any]:
        """The ``config.json`` that `transformers` and :meth:`config_from_published` read."""
        kind = self.model_type.replace("-", "_").replace(".", "_")
        current = {name: key for key, name in reversed(list(self.vision_keys.items()))}
        vision = {key: getattr(own.vision, name) for name, key in reversed(current.items())}
        return {
            "architectures": [self.architecture],
            "model_type": self.model_type,
            "token_layout": config.to_dict(own.tokens),
            **{key: getattr(own, name) for key, name in self.keys.items()},
            "text_config": {
                "model_type": f"{kind}_text_model",
                **{key: getattr(own.text, name) for key, name in TEXT_KEYS.items()},
                "bos_token_id": own.tokens.bos,
                "pad_token_id": own.tokens.pad,
                "eos_token_id": own.tokens.eos,
            },
            "vision_config": {
                "model_type": f"{kind}_vision_model",
                **vision,
                **{key: getattr(own.vision, name) for key, name in self.derived.items()},
            },
        }

    def load(
        self, folder: Path, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
    ) -> Model:
        """The model in a folder with ``config.json`` and safetensors, or the original file; in evaluation mode.

        Weights are mapped into memory, not copied, where dtype and device allow. Raises CheckpointError.
        """
        own = self.read_config(folder)
        with checkpoint.on_meta():
            model = self.build(own)
        if has_safetensors(folder):
            checkpoint.load(model, folder, rules=self.hugging_face, dtype=dtype, device=device)
        else:
            path = folder / self.original_file
            checkpoint.load(model, path, rules=self.fairseq, dtype=dtype, device=device)
        return model.to(device).eval()

    def save(
        self,
        model: Model,
        folder: Path,
        *,
        dtype: torch.dtype | None = None,
        max_shard_bytes: int = 5_000_000_000,
    ) -> None:
        """Write ``config.json`` and ``model.safetensors`` (or shards with an index) in the Hugging Face layout."""
        folder.mkdir(parents=True, exist_ok=True)
        checkpoint.save(model, folder, rules=self.hugging_face, dtype=dtype, max_shard_bytes=max_shard_bytes)
        self.save_config(model.config, folder)

    def save_config(self, own: Any, folder: Path) -> None:
        """Write ``config.json``."""
        text = json.dumps(self.config_to_published(own), indent=2)
        files.write_text(folder / "config.json", text + "\n")


def has_safetensors(folder: Path) -> bool:
    """Whether a folder holds a model in the hub's layout."""
    return any((folder / name).is_file() for name in ("model.safetensors", "model.safetensors.index.json"))


def _picked(published: Mapping[str, Any], keys: Mapping[str, str]) -> dict[str, Any]:
    picked: dict[str, Any] = {}
    for key, own in keys.items():
        if published.get(key) is not None:
            picked.setdefault(own, published[key])
    return picked
