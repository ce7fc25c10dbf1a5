"""Published names and sizes of the speech tokenizers <-> ours, as rules that the models' tables are put together from.

Two layouts: ``original`` (all of Microsoft's files but those marked HF) and ``hugging_face`` (`transformers`). They
count the stages differently: the original has stem and stages in one list, Hugging Face keeps the first stage apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from multiway_core import checkpoint, config
from multiway_core.checkpoint import Rule, RuleTable
from multiway_core.errors import CheckpointError

from multiway_speech.speech_tokenizer.config import SpeechTokenizerConfig
from multiway_speech.speech_tokenizer.model import AcousticTokenizer

Layout = Literal["original", "hugging_face"]

_BLOCK = (
    ("norm.weight", "mixer_norm.weight"),
    ("ffn_norm.weight", "feedforward_norm.weight"),
    ("gamma", "mixer_scale"),
    ("ffn_gamma", "feedforward_scale"),
    ("ffn.linear1.{kind}", "up.{kind}"),
    ("ffn.linear2.{kind}", "down.{kind}"),
)


def encoder_rules(layout: Layout, published: str, ours: str, num_stages: int) -> list[Rule]:
    """Rules of an encoder whose names begin with the prefixes ``published`` and ``ours``."""
    resampling = ("downsample_layers.{i}.0.conv.conv", "conv.conv", "downsample.{i}.conv")
    return _rules(layout, published, ours, num_stages, resampling)


def decoder_rules(layout: Layout, published: str, ours: str, num_stages: int) -> list[Rule]:
    """Rules of a decoder whose names begin with the prefixes ``published`` and ``ours``."""
    resampling = ("upsample_layers.{i}.0.convtr.convtr", "convtr.convtr", "upsample.{i}.conv")
    return _rules(layout, published, ours, num_stages, resampling)


def _rules(
    layout: Layout, published: str, ours: str, num_stages: int, resampling: tuple[str, str, str]
) -> list[Rule]:
    original, hugging_face, own = resampling  # names of the convolution between two stages
    names: list[tuple[str, str]] = []
    if layout == "original":
        stem = original.partition(".")[0] + ".0.0.conv.conv.{kind}"
        names += [(stem, "stem.conv.{kind}"), ("head.conv.conv.{kind}", "head.conv.{kind}")]
        block, depthwise = "stages.{stage}.{block}.", "mixer.conv.conv.conv.{kind}"
        for name, own_name in (*_BLOCK, (depthwise, "mixer.conv.{kind}")):
            names.append((block + name, block + own_name))
        for i in range(1, num_stages):
            names.append((original.format(i=i) + ".{kind}", own.format(i=i - 1) + ".{kind}"))
    else:
        names += [("stem.conv.conv.{kind}", "stem.conv.{kind}"), ("head.conv.{kind}", "head.conv.{kind}")]
        for i in range(num_stages):
            stage = f"conv_layers.{i - 1}." if i else "stem."
            for name, own_name in (*_BLOCK, ("mixer.conv.{kind}", "mixer.conv.{kind}")):
                names.append((f"{stage}stage.{{block}}.{name}", f"stages.{i}.{{block}}.{own_name}"))
            if i:
                names.append((f"{stage}{hugging_face}.{{kind}}", own.format(i=i - 1) + ".{kind}"))
    return [Rule(published + name, ours + own_name) for name, own_name in names]


_HUGGING_FACE_KEYS = {
    "hidden_size": "latent_size",
    "num_filters": "num_filters",
    "downsampling_ratios": "ratios",
    "depths": "depths",
    "kernel_size": "kernel_size",
    "ffn_expansion": "expansion",
    "rms_norm_eps": "norm_eps",
    "layer_scale_init_value": "layer_scale",
    "vae_std": "noise_std",
}
_ORIGINAL_KEYS = {
    "vae_dim": "latent_size",
    "encoder_n_filters": "num_filters",
    "layernorm_eps": "norm_eps",
    "layer_scale_init_value": "layer_scale",
}
# What the published networks have, and ours therefore too; anything else would be another network.
_FIXED = {
    "channels": 1,
    "causal": True,
    "pad_mode": "constant",
    "conv_norm": "none",
    "conv_bias": True,
    "mixer_layer": "depthwise_conv",
    "layernorm": "RMSNorm",
    "layernorm_elementwise_affine": True,
    "disable_last_norm": True,
    "hidden_act": "gelu",
}


def config_from_published(published: Mapping[str, Any], *, where: str) -> SpeechTokenizerConfig:
    """The sizes in a tokenizer's part of a published ``config.json``, in either dialect.

    Raises :class:`CheckpointError` or :class:`ConfigError`, naming ``where``.
    """
    if not isinstance(published, Mapping):
        raise CheckpointError(f"{where}: the speech tokenizer's sizes are not a JSON object")
    for key, expected in _FIXED.items():
        if published.get(key, expected) != expected:
            raise CheckpointError(f"{where}: {key} is {published[key]!r}, and only {expected!r} is supported")
    if "encoder_ratios" not in published:
        own = {
            ours: published[key] for key, ours in _HUGGING_FACE_KEYS.items() if published.get(key) is not None
        }
        return config.from_dict(SpeechTokenizerConfig, own, where=where)
    own = {ours: published[key] for key, ours in _ORIGINAL_KEYS.items() if published.get(key) is not None}
    own["ratios"] = _listed(published["encoder_ratios"], where)[::-1]  # written from the latents' side
    if published.get("encoder_depths"):
        own["depths"] = _listed(published["encoder_depths"], where)
    for key, mirrored in (
        ("decoder_ratios", own["ratios"][::-1]),
        ("decoder_depths", own.get("depths", [])[::-1]),
        ("decoder_n_filters", own.get("num_filters")),
    ):
        given = published.get(key)
        if given and (_listed(given, where) if key != "decoder_n_filters" else given) != mirrored:
            raise CheckpointError(
                f"{where}: {key} is {given!r}; a decoder that does not mirror its encoder is not supported"
            )
    if published.get("std_dist_type") == "none":
        own["noise_std"] = 0.0
    elif published.get("fix_std") is not None:
        own["noise_std"] = float(published["fix_std"]) / 0.8  # the level is drawn with this spread
    return config.from_dict(SpeechTokenizerConfig, own, where=where)


def config_to_published(own: SpeechTokenizerConfig, model_type: str) -> dict[str, Any]:
    """The sizes as `transformers` has them; the reverse of :func:`config_from_published`."""
    published = {key: getattr(own, ours) for key, ours in _HUGGING_FACE_KEYS.items()}
    return {"model_type": model_type, "hidden_act": "gelu", **published}


def _listed(value: Any, where: str) -> list[int]:
    """``[8, 5]`` or ``"8-5"``."""
    parts = value.split("-") if isinstance(value, str) else value
    try:
        return [int(part) for part in parts]
    except (TypeError, ValueError):
        raise CheckpointError(f"{where}: expected a list of integers, got {value!r}") from None


def load(
    folder: Path, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> AcousticTokenizer:
    """The acoustic tokenizer in a folder of its own, Hugging Face layout, in evaluation mode.

    Raises :class:`CheckpointError` or :class:`ConfigError`.
    """
    path = folder / "config.json"
    published = config.read_json(path)
    if published.get("model_type") != "vibevoice_acoustic_tokenizer":
        raise CheckpointError(
            f"{path}: model_type is {published.get('model_type')!r}, expected 'vibevoice_acoustic_tokenizer'"
        )
    own = config_from_published(published, where=str(path))
    with checkpoint.on_meta():
        model = AcousticTokenizer(own)
    stages = len(own.depths)
    rules = RuleTable(
        [
            *encoder_rules("hugging_face", "encoder.", "encoder.", stages),
            *decoder_rules("hugging_face", "decoder.", "decoder.", stages),
        ]
    )
    checkpoint.load(model, folder, rules=rules, dtype=dtype, device=device)
    return model.to(device).eval()
