"""Released BEiT-3 files with random weights: torchscale's trunk, and heads by the formulas of the released code."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

WIDTH, HEADS, INNER, LAYERS, WORDS, SIZE, PATCH, EPS = 24, 3, 40, 3, 19, 12, 4, 1e-3


@contextmanager
def torchscale() -> Iterator[tuple[Any, Any]]:
    """PyPI's (EncoderConfig, BEiT3); what it imports of fairscale and timm is stood in for, and not used."""
    pytest.importorskip("torchscale")
    sharding = ModuleType("fairscale.nn")
    sharding.checkpoint_wrapper = sharding.wrap = lambda module, *_, **__: module  # type: ignore[attr-defined]
    depth = ModuleType("timm.models.layers")
    depth.drop_path = None  # type: ignore[attr-defined]
    names = {"fairscale": ModuleType("fairscale"), "fairscale.nn": sharding, "timm.models.layers": depth}
    names |= {"timm": ModuleType("timm"), "timm.models": ModuleType("timm.models")}
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, module in names.items():
            patch.setitem(sys.modules, name, module)
        from torchscale.architecture.config import EncoderConfig
        from torchscale.model.BEiT3 import BEiT3

        yield EncoderConfig, BEiT3
    for name in [name for name in sys.modules if name.split(".")[0] == "torchscale"]:
        del sys.modules[name]


def trunk(classes: tuple[Any, Any], *, final_norm: bool = True) -> nn.Module:
    config, network = classes
    args = config(
        multiway=True, vocab_size=WORDS, encoder_embed_dim=WIDTH, encoder_attention_heads=HEADS,
        encoder_ffn_embed_dim=INNER, encoder_layers=LAYERS, img_size=SIZE, patch_size=PATCH,
        max_source_positions=14, layernorm_eps=EPS, normalize_output=final_norm, no_output_layer=True,
    )  # fmt: skip
    return perturbed(network(args))


def perturbed(module: nn.Module) -> nn.Module:
    with torch.no_grad():  # norms start at one and hide mistakes
        for parameter in module.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.2 + (parameter.ndim == 1) * 0.5)
    return module.eval()


def head(task: str, labels: int) -> nn.Module:
    """The head's tensors under their released names."""
    parts: dict[str, nn.Module] = {}
    if task == "vqa":
        parts["pooler"] = nn.ModuleDict({"norm": nn.LayerNorm(WIDTH), "dense": nn.Linear(WIDTH, WIDTH)})
        inner = 2 * WIDTH
        parts["head"] = nn.Sequential(
            nn.Linear(WIDTH, inner), nn.LayerNorm(inner), nn.GELU(), nn.Linear(inner, labels)
        )
    elif task == "nlvr2":
        wide, inner = 4 * WIDTH, 2 * WIDTH
        parts["head"] = nn.ModuleDict(
            {
                "norm1": nn.LayerNorm(wide),
                "dense1": nn.Linear(wide, inner),
                "norm2": nn.LayerNorm(inner),
                "dense2": nn.Linear(inner, labels),
            }
        )
    elif task == "imagenet":
        parts = {"fc_norm": nn.LayerNorm(WIDTH), "head": nn.Linear(WIDTH, labels)}
    elif task == "caption":
        parts["mlm_head"] = nn.Linear(WIDTH, WORDS)
    else:
        parts = {name: nn.Linear(WIDTH, WIDTH, bias=False) for name in ("vision_head", "language_head")}
    found = perturbed(nn.ModuleDict(parts))
    if task == "retrieval":
        found.register_parameter("logit_scale", nn.Parameter(torch.tensor(1.3)))
    return found


def scores(task: str, trunk: Any, head: Any, pixels: Tensor, tokens: Tensor, padding: Tensor) -> Tensor:
    """What the released code computes. ``pixels`` (B, P, C, H, W)."""

    def read(picture: Tensor | None, text: bool = True, **more: Any) -> dict[str, Any]:
        pad = padding if text else None
        return trunk(tokens if text else None, picture, text_padding_position=pad, **more)

    if task == "vqa":
        x = head["pooler"]["norm"](read(pixels[:, 0])["encoder_out"][:, 0])
        return head["head"](torch.tanh(head["pooler"]["dense"](x)))
    if task == "imagenet":
        x = read(pixels[:, 0], False)["encoder_out"][:, 1:].mean(1)
        return head["head"](head["fc_norm"](x))
    if task == "nlvr2":
        rows = []
        for index in (0, 1):
            out = read(pixels[:, index])
            rows += [out["encoder_out"][:, 0], out["encoder_out"][:, out["multiway_split_position"]]]
        x = head["head"]["dense1"](head["head"]["norm1"](torch.cat(rows, dim=-1)))
        return head["head"]["dense2"](nn.functional.gelu(head["head"]["norm2"](x)))
    if task == "caption":
        image, text = (SIZE // PATCH) ** 2 + 1, tokens.shape[1]
        seen = torch.zeros(image + text, image + text, dtype=torch.long)
        seen[:, :image] = 1
        seen[image:, image:] = torch.ones(text, text).tril()
        return head["mlm_head"](read(pixels[:, 0], attn_mask=1 - seen)["encoder_out"][:, image:])
    images = nn.functional.normalize(
        head["vision_head"](read(pixels[:, 0], False)["encoder_out"][:, 0]), dim=-1
    )
    texts = nn.functional.normalize(head["language_head"](read(None)["encoder_out"][:, 0]), dim=-1)
    return head.logit_scale.exp() * images @ texts.T
