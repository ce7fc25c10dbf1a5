"""VLMo's released `.pt` files <-> the models here, as a table of rules.

The files join the three projections of the attention and give queries and values biases of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from multiway_core import checkpoint
from multiway_core.checkpoint import Rule, RuleTable
from multiway_core.errors import CheckpointError
from torch import Tensor, nn

from multiway_vision_language.multiway.embeddings import resize_grid
from multiway_vision_language.multiway.text_first import TextFirstConfig, resize_biases
from multiway_vision_language.vlmo.config import BASE

_EXPERTS = {"text": "text", "imag": "image", "vl": "pair"}
_QKV = ("query", "key", "value")


def rules(config: TextFirstConfig, *, backbone: str = "backbone") -> RuleTable:
    """Names of the files and ours; LayerScale stands around the parts where the model has it."""
    block, ours = "transformer.blocks.{i}.", f"{backbone}.stack.layers.{{i}}."
    part = "part." if config.layer_scale else ""
    table = [
        Rule("transformer.cls_token", f"{backbone}.image_embedding.class_token"),
        Rule("transformer.pos_embed", f"{backbone}.image_positions"),
        Rule("transformer.patch_embed.proj.{x}", f"{backbone}.image_embedding.projection.{{x}}"),
        Rule("transformer.norm.{x}", f"{backbone}.stack.norm.{{x}}"),
        Rule(block + "norm1.{x}", ours + "attention_norm.{x}"),
        Rule(block + "attn.proj.{x}", ours + f"attention.{part}output.{{x}}"),
        *(Rule(block + f"attn.{name}.{{x}}", ours + f"attention.{part}{name}.{{x}}") for name in _QKV),
        Rule(block + "gamma_1", ours + "attention.scale"),
        Rule(block + "gamma_2", ours + "feedforward.scale"),
        Rule("text_embeddings.word_embeddings.weight", f"{backbone}.text_embedding.words.weight"),
        Rule("text_embeddings.token_type_embeddings.weight", f"{backbone}.text_embedding.types.weight"),
        Rule("text_embeddings.position_embeddings.weight", f"{backbone}.text_embedding.positions.weight"),
        Rule("text_embeddings.LayerNorm.{x}", f"{backbone}.text_embedding.norm.{{x}}"),
        Rule("token_type_embeddings.weight", f"{backbone}.type_embedding.weight"),
        Rule("relative_position_bias_table", f"{backbone}.bias_table"),
        Rule("pooler.dense.{x}", "pooler.dense.{x}"),
        Rule("mlm_score.transform.dense.{x}", "words.dense.{x}"),
        Rule("mlm_score.transform.LayerNorm.{x}", "words.norm.{x}"),
        Rule("mlm_score.decoder.weight", "words.decoder.weight"),
        Rule("mlm_score.bias", "words.bias"),
        Rule("itm_score.fc.{x}", "matching.{x}"),
        Rule("logit_scale", "contrast.logit_scale"),
        Rule("logit_vl_scale", "pair_contrast.logit_scale"),
    ]
    for kind in ("text", "image"):
        table.append(Rule(f"itc_{kind}_proj.fc.weight", f"contrast.{kind}.weight"))
        table.append(Rule(f"itc_vl_{kind}_proj.fc.weight", f"pair_contrast.{kind}.weight"))
    for theirs, expert in _EXPERTS.items():
        own = f"experts.{expert}."
        table.append(Rule(block + f"norm2_{theirs}.{{x}}", ours + f"feedforward_norm.{own}{{x}}"))
        for name, target in (("fc1", "up"), ("fc2", "down")):
            table.append(
                Rule(block + f"mlp_{theirs}.{name}.{{x}}", ours + f"feedforward.{part}{own}{target}.{{x}}")
            )
    for name in ("vqa_classifier", "nlvr2_classifier"):
        for number, target in (("0", "dense1"), ("1", "norm2"), ("3", "dense2")):
            table.append(Rule(f"{name}.{number}.{{x}}", f"head.{target}.{{x}}"))
    dropped = ["{any}relative_position_index", "relative_position_index", "text_relative_position_index",
               "text_imag_relative_position_index", "text_embeddings.position_ids"]  # fmt: skip
    return RuleTable(table, dropped=dropped[1:])


def canonical(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors without the training program's prefix, with one projection for each of query, key and value."""
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        name = name.removeprefix("module.")
        stem, joined, _ = name.rpartition("attn.qkv.weight")
        if joined:
            for part, matrix in zip(_QKV, tensor.chunk(3), strict=True):
                found[f"{stem}attn.{part}.weight"] = matrix.clone()
        elif name.endswith(("attn.q_bias", "attn.v_bias")):
            part = "query" if name.endswith("q_bias") else "value"
            found[f"{name[:-6]}{part}.bias"] = tensor
        else:
            found[name] = tensor
    return found


def read_config(
    tensors: Mapping[str, Tensor], path: Path, *, num_heads: int | None = None
) -> TextFirstConfig:
    """Sizes of a file's network. ``tensors`` are :func:`canonical`. Raises CheckpointError: it is no VLMo."""
    try:
        projection = tensors["transformer.patch_embed.proj.weight"]
        vocabulary, width = tensors["text_embeddings.word_embeddings.weight"].shape
        inner = len(tensors["transformer.blocks.0.mlp_imag.fc1.weight"])
        types = len(tensors["token_type_embeddings.weight"])
    except KeyError as error:
        raise CheckpointError(f"{path}: no VLMo, it lacks {error}") from error
    numbers = {int(name.split(".")[2]) for name in tensors if name.startswith("transformer.blocks.")}
    pairs = {int(name.split(".")[2]) for name in tensors if ".mlp_vl.fc1.weight" in name}
    table = tensors.get("relative_position_bias_table")
    patch = projection.shape[2]
    if table is not None:
        heads = table.shape[1] // len(numbers)
        grid = (round((len(table) - 3 - 2 - 2 * BASE.bias_text) ** 0.5) + 1) // 2
    else:
        heads = num_heads or 16
        grid = round((tensors["transformer.pos_embed"].shape[1] - 1) ** 0.5)
    return replace(
        BASE,
        vocab_size=vocabulary,
        hidden_size=width,
        num_layers=len(numbers),
        num_heads=heads,
        inner_size=inner,
        image_size=grid * patch,
        patch_size=patch,
        num_channels=projection.shape[1],
        pair_layers=len(pairs),
        relative_bias=table is not None,
        layer_scale=0.1 if "transformer.blocks.0.gamma_1" in tensors else 0.0,
        image_types=types - 1,
    )


def load_published(
    model: nn.Module,
    path: Path,
    tensors: Mapping[str, Tensor] | None = None,
    *,
    dtype: torch.dtype = torch.float32,
) -> nn.Module:
    """Fill a VLMo with a released file's tensors; positions are interpolated to the model's resolution.

    Heads that either side lacks stay as they are. ``tensors``: what was read already, :func:`canonical`.
    Raises CheckpointError.
    """
    found = dict(canonical(checkpoint.read(path)) if tensors is None else tensors)
    config = model.config
    assert isinstance(config, TextFirstConfig)
    old = read_config(found, path, num_heads=config.num_heads)
    name = "relative_position_bias_table"
    if name in found:
        found[name] = resize_biases(found[name], old.grid, config.grid)
    if "transformer.pos_embed" in found:
        found["transformer.pos_embed"] = resize_grid(found["transformer.pos_embed"][0], 1, config.grid)[None]
    types = found["token_type_embeddings.weight"]
    if config.image_types + 1 > len(types):  # a second picture's type starts as the first one's
        found["token_type_embeddings.weight"] = torch.cat([types, types[1:2]])
    heads = ("pooler.{x*}", "words.{x*}", "matching.{x*}", "contrast.{x*}", "pair_contrast.{x*}", "head.{x*}")
    checkpoint.load(model, path, rules=rules(config), dtype=dtype, optional=heads, tensors=found)
    return model.eval()
