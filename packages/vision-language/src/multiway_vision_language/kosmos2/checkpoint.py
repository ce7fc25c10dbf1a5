"""Published checkpoints <-> :class:`~multiway_vision_language.kosmos2.model.Kosmos2`.

Two layouts are read: the Hugging Face one (safetensors, also what we write, so that `transformers` loads our models)
and the original fairseq ``kosmos-2.pt``. Both differ from ours in names only.
"""

from __future__ import annotations

from pathlib import Path

import torch
from multiway_blocks.multimodal_checkpoint import PublishedLayout, fairseq_rules, hugging_face_rules
from multiway_core import hub
from multiway_core.errors import CheckpointError
from multiway_core.tokenization import TextTokenizer

from multiway_vision_language.kosmos2.config import KOSMOS_2
from multiway_vision_language.kosmos2.model import Kosmos2
from multiway_vision_language.kosmos2.processor import Kosmos2Processor

ORIGINAL_FILE = "kosmos-2.pt"
TOKENIZER_FILE = "sentencepiece.bpe.model"
_HUB_FILES = ("*.json", "*.safetensors", TOKENIZER_FILE)

# (name behind the prefix, ours)
_VISION_NAMES = (
    ("embeddings.class_embedding", "vision.class_embedding"),
    ("embeddings.patch_embedding.weight", "vision.patch_embedding.weight"),
    ("embeddings.position_embedding.weight", "vision.positions.weight"),
    ("pre_layrnorm.{kind}", "vision.input_norm.{kind}"),
    ("encoder.layers.{layer}.self_attn.q_proj.{kind}", "vision.layers.{layer}.attention.query.{kind}"),
    ("encoder.layers.{layer}.self_attn.k_proj.{kind}", "vision.layers.{layer}.attention.key.{kind}"),
    ("encoder.layers.{layer}.self_attn.v_proj.{kind}", "vision.layers.{layer}.attention.value.{kind}"),
    ("encoder.layers.{layer}.self_attn.out_proj.{kind}", "vision.layers.{layer}.attention.output.{kind}"),
    ("encoder.layers.{layer}.layer_norm1.{kind}", "vision.layers.{layer}.attention_norm.{kind}"),
    ("encoder.layers.{layer}.layer_norm2.{kind}", "vision.layers.{layer}.feedforward_norm.{kind}"),
    ("encoder.layers.{layer}.mlp.fc1.{kind}", "vision.layers.{layer}.feedforward.up.{kind}"),
    ("encoder.layers.{layer}.mlp.fc2.{kind}", "vision.layers.{layer}.feedforward.down.{kind}"),
    ("post_layernorm.{kind}", "vision.norm.{kind}"),
)
_ORIGINAL_VISION_NAMES = (
    ("class_embedding", "vision.class_embedding"),
    ("conv1.weight", "vision.patch_embedding.weight"),
    ("positional_embedding", "vision.positions.weight"),
    ("ln_pre.{kind}", "vision.input_norm.{kind}"),
    ("transformer.resblocks.{layer}.ts_attn.q_proj.{kind}", "vision.layers.{layer}.attention.query.{kind}"),
    ("transformer.resblocks.{layer}.ts_attn.k_proj.{kind}", "vision.layers.{layer}.attention.key.{kind}"),
    ("transformer.resblocks.{layer}.ts_attn.v_proj.{kind}", "vision.layers.{layer}.attention.value.{kind}"),
    (
        "transformer.resblocks.{layer}.ts_attn.out_proj.{kind}",
        "vision.layers.{layer}.attention.output.{kind}",
    ),
    ("transformer.resblocks.{layer}.ln_1.{kind}", "vision.layers.{layer}.attention_norm.{kind}"),
    ("transformer.resblocks.{layer}.ln_2.{kind}", "vision.layers.{layer}.feedforward_norm.{kind}"),
    ("transformer.resblocks.{layer}.mlp.c_fc.{kind}", "vision.layers.{layer}.feedforward.up.{kind}"),
    ("transformer.resblocks.{layer}.mlp.c_proj.{kind}", "vision.layers.{layer}.feedforward.down.{kind}"),
    ("ln_post.{kind}", "vision.norm.{kind}"),
)


HUGGING_FACE = hugging_face_rules("vision_model.model.", _VISION_NAMES)
"""``model.safetensors`` of the hub."""

FAIRSEQ = fairseq_rules("img_model.visual.", _ORIGINAL_VISION_NAMES)
"""The original ``kosmos-2.pt``."""

_VISION_KEYS = {
    "hidden_size": "hidden_size",
    "num_hidden_layers": "num_layers",
    "num_attention_heads": "num_heads",
    "intermediate_size": "inner_size",
    "patch_size": "patch_size",
    "image_size": "image_size",
    "num_channels": "num_channels",
    "layer_norm_eps": "norm_eps",
}
LAYOUT = PublishedLayout(
    "kosmos-2",
    "Kosmos2ForConditionalGeneration",
    Kosmos2,
    KOSMOS_2,
    ORIGINAL_FILE,
    HUGGING_FACE,
    FAIRSEQ,
    _VISION_KEYS,
    # Our own key: whether the model was taught to say that a phrase is absent.
    keys={"latent_query_num": "num_queries", "trained_absence": "trained_absence"},
    required={("vision_config", "hidden_act"): "quick_gelu", ("text_config", "activation_function"): "gelu"},
)
config_from_published, config_to_published = LAYOUT.config_from_published, LAYOUT.config_to_published
read_config, load, save = LAYOUT.read_config, LAYOUT.load, LAYOUT.save


def load_pretrained(
    name: str,
    *,
    revision: str | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> tuple[Kosmos2, Kosmos2Processor]:
    """Model and processor by hub id (``microsoft/kosmos-2-patch14-224``), folder or path of ``kosmos-2.pt``.

    Raises what `multiway_core.hub.resolve` raises, and :class:`CheckpointError`.
    """
    folder = find(name, revision=revision)
    tokenizer = TextTokenizer.from_folder(folder / TOKENIZER_FILE)
    own = read_config(folder)
    num_text_tokens = tokenizer.vocab_size - len(tokenizer.special)
    if num_text_tokens > own.tokens.num_text_tokens:
        raise CheckpointError(
            f"{folder}: {TOKENIZER_FILE} has {num_text_tokens} pieces, "
            f"but the model has room for {own.tokens.num_text_tokens}"
        )
    model = load(folder, dtype=dtype, device=device)
    return model, Kosmos2Processor(own, tokenizer)


def find(name: str, *, revision: str | None = None) -> Path:
    """The folder of a hub id, a folder or the path of a checkpoint in one. Raises what `hub.resolve` raises."""
    path = hub.resolve(name, revision=revision, allow_patterns=_HUB_FILES)
    return path.parent if path.is_file() else path
