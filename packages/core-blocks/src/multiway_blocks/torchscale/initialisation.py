"""Weights at the start: the scalings of DeepNorm and sub-LN, and BERT's.

As in the released code, what is scaled is `nn.Linear`'s own initialisation (the papers name Xavier's), and biases are
scaled with their weights.
"""

from __future__ import annotations

import torch
from torch import nn

SCALED = ("fc1", "fc2", "out_proj", "v_proj")


@torch.no_grad()
def scale_parts(module: nn.Module, factor: float, *, cross_attention: bool = True) -> None:
    """Multiply feed-forward networks, values and attention outputs; optionally not those of cross-attention."""
    for name, parameter in module.named_parameters():
        if "encoder_attn" in name and not cross_attention:
            continue
        if any(part in name for part in SCALED):
            parameter.mul_(factor)


@torch.no_grad()
def as_bert(module: nn.Module) -> None:
    """All matrices N(0, 0.02), biases and padding rows zero."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Embedding):
            part.weight.normal_(std=0.02)
        if isinstance(part, nn.Linear) and part.bias is not None:
            part.bias.zero_()
        if isinstance(part, nn.Embedding) and part.padding_idx is not None:
            part.weight[part.padding_idx].zero_()
