"""Weights at the start: the scalings of DeepNorm and sub-LN, BERT's, and the output projection.

As in the released code, what is scaled is `nn.Linear`'s own initialisation (the papers name Xavier's), and biases are
scaled with their weights.
"""

from __future__ import annotations

from typing import Any

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


def output_projection(args: Any, width: int, tied: nn.Parameter | None) -> nn.Linear:
    """A map without bias to the vocabulary, N(0, 1 / width), or one that shares the embedding's weight ``tied``."""
    if tied is not None:
        projection = nn.Linear(tied.shape[1], tied.shape[0], bias=False)
        projection.weight = tied
        return projection
    projection = nn.Linear(width, args.vocab_size, bias=False)
    nn.init.normal_(projection.weight, std=width**-0.5)
    return projection
