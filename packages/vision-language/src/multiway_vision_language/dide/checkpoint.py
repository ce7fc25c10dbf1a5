"""ViLT checkpoints of the hub <-> the teacher, as a table of rules."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from multiway_core import checkpoint, config
from multiway_core.checkpoint import Rule, RuleTable
from multiway_core.errors import CheckpointError

from multiway_vision_language.dide.config import VILT
from multiway_vision_language.multiway.embeddings import resize_grid
from multiway_vision_language.multiway.fusion import FusionClassifier
from multiway_vision_language.multiway.text_first import TextFirstConfig

_THEIRS, _OURS = "vilt.encoder.layer.{i}.", "backbone.stack.layers.{i}."
_TEXT = {"word_embeddings": "words", "position_embeddings": "positions", "token_type_embeddings": "types"}
VILT_NAMES = RuleTable(
    [
        *(
            Rule(f"vilt.embeddings.text_embeddings.{theirs}.weight", f"backbone.text_embedding.{ours}.weight")
            for theirs, ours in _TEXT.items()
        ),
        Rule("vilt.embeddings.text_embeddings.LayerNorm.{x}", "backbone.text_embedding.norm.{x}"),
        Rule("vilt.embeddings.cls_token", "backbone.image_embedding.class_token"),
        Rule("vilt.embeddings.position_embeddings", "backbone.image_positions"),
        Rule("vilt.embeddings.patch_embeddings.projection.{x}", "backbone.image_embedding.projection.{x}"),
        Rule("vilt.embeddings.token_type_embeddings.weight", "backbone.type_embedding.weight"),
        Rule(_THEIRS + "attention.attention.{part}.{x}", _OURS + "attention.{part}.{x}"),
        Rule(_THEIRS + "attention.output.dense.{x}", _OURS + "attention.output.{x}"),
        Rule(_THEIRS + "intermediate.dense.{x}", _OURS + "feedforward.up.{x}"),
        Rule(_THEIRS + "output.dense.{x}", _OURS + "feedforward.down.{x}"),
        Rule(_THEIRS + "layernorm_before.{x}", _OURS + "attention_norm.{x}"),
        Rule(_THEIRS + "layernorm_after.{x}", _OURS + "feedforward_norm.{x}"),
        Rule("vilt.layernorm.{x}", "backbone.stack.norm.{x}"),
        Rule("vilt.pooler.dense.{x}", "pooler.dense.{x}"),
        Rule("classifier.0.{x}", "head.dense1.{x}"),
        Rule("classifier.1.{x}", "head.norm2.{x}"),
        Rule("classifier.3.{x}", "head.dense2.{x}"),
    ],
    dropped=["vilt.embeddings.text_embeddings.position_ids", "mlm_score.{x*}", "rank_output.{x*}"],
)


def read_config(folder: Path) -> TextFirstConfig:
    """Sizes of a ViLT folder. Raises ConfigError or CheckpointError: it is none."""
    path = folder / "config.json"
    found = config.read_json(path)
    if found.get("model_type") != "vilt":
        raise CheckpointError(f"{path}: model_type is {found.get('model_type')!r}, expected 'vilt'")
    sizes = {
        "vocab_size": "vocab_size",
        "hidden_size": "hidden_size",
        "num_hidden_layers": "num_layers",
        "num_attention_heads": "num_heads",
        "intermediate_size": "inner_size",
        "image_size": "image_size",
        "patch_size": "patch_size",
        "num_channels": "num_channels",
        "max_position_embeddings": "max_text",
    }
    values = {ours: found[theirs] for theirs, ours in sizes.items() if theirs in found}
    eps = found.get("layer_norm_eps", VILT.norm_eps)
    pictures = 2 if found.get("modality_type_vocab_size", 2) > 2 else 1
    return replace(VILT, **values, norm_eps=eps, text_eps=eps, image_types=pictures)


def load_teacher(
    folder: Path, *, labels: int = 0, image_size: int | None = None, dtype: torch.dtype = torch.float32
) -> FusionClassifier:
    """A fine-tuned ViLT for questions, or a pre-trained one with a new head of ``labels``, in evaluation mode.

    ``image_size``: of the square pictures that it shall take; positions are interpolated. Raises CheckpointError.
    """
    tensors = dict(checkpoint.read(folder))
    own = read_config(folder)
    head = tensors.get("classifier.3.weight")
    if head is None and not labels:
        raise CheckpointError(
            f"{folder}: this ViLT has no classifier; say how many labels a new one shall have"
        )
    own = replace(own, image_size=image_size or own.image_size)
    name = "vilt.embeddings.position_embeddings"
    tensors[name] = resize_grid(tensors[name][0], 1, own.grid)[None]
    model = FusionClassifier(own, labels if head is None else len(head), pictures=own.image_types)
    optional = ("head.{x*}",) if head is None else ()
    checkpoint.load(model, folder, rules=VILT_NAMES, dtype=dtype, optional=optional, tensors=tensors)
    return model.eval()
