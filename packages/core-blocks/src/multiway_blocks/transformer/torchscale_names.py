"""TorchScale's tensor names of a pre-norm layer with sub-LN, beside those of our blocks."""

from __future__ import annotations

from multiway_core.tensor_names import Rule

_LAYER = {
    "self_attn.q_proj": "attention.query",
    "self_attn.k_proj": "attention.key",
    "self_attn.v_proj": "attention.value",
    "self_attn.inner_attn_ln": "attention.norm",
    "self_attn.out_proj": "attention.output",
    "self_attn_layer_norm": "attention_norm",
    "ffn.fc1": "feedforward.up",
    "ffn.ffn_layernorm": "feedforward.norm",
    "ffn.fc2": "feedforward.down",
    "final_layer_norm": "feedforward_norm",
}


def torchscale_layers(theirs: str, ours: str) -> list[Rule]:
    """Rules of the layers of TorchScale's ``Encoder`` or ``Decoder`` and of our ``Stack`` of ``PreNorm`` blocks.

    Both prefixes end before ``layers``: ``torchscale_layers("encoder.", "backbone.")``.
    """
    return [
        Rule(f"{theirs}layers.{{i}}.{a}.{{kind}}", f"{ours}layers.{{i}}.{b}.{{kind}}")
        for a, b in _LAYER.items()
    ]
