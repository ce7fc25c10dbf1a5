"""The super-network: an encoder whose leading slices are smaller encoders with the same weights.

A member takes the first columns and rows of every tensor (its width, its heads, its inner width) and evenly spaced
layers. It runs as an ordinary `TextEncoder` whose tensors are views of the super-network's: so what is exported is
what was searched, and gradients fall where the slices lie. Nothing is rescaled by width, as in the authors' code.

Shape suffixes: B batch, T tokens, H heads, D head size.
"""

from __future__ import annotations

import re

import torch
from multiway_blocks.distillation import States
from multiway_blocks.text_encoder import TextEncoder, TextEncoderConfig
from multiway_core.errors import InputError
from torch import Tensor, nn

from multiway_text.autodistil.space import skeleton

_LAYER = re.compile(r"stack\.layers\.(\d+)\.")


def slices(source: TextEncoder, config: TextEncoderConfig) -> dict[str, Tensor]:
    """The tensors of a smaller encoder as views of ``source``'s. InputError: it is no slice of it."""
    own = source.config
    sizes = ("num_layers", "num_heads", "hidden_size", "inner_size")
    larger = [name for name in sizes if getattr(config, name) > getattr(own, name)]
    if larger or config.attention_head_size != own.attention_head_size:
        name = larger[0] if larger else "attention_head_size"
        raise InputError(
            f"an encoder of {name} {getattr(config, name)} is no slice of one of {getattr(own, name)}"
        )
    tensors = dict(source.named_parameters())
    found = {}
    for name, target in skeleton(config).named_parameters():
        tensor = tensors[_LAYER.sub(lambda match: _kept(match, config.num_layers, own.num_layers), name)]
        found[name] = tensor[tuple(slice(size) for size in target.shape)]
    return found


def _kept(match: re.Match[str], layers: int, of: int) -> str:
    """Layer i of the member is layer floor(i * of / layers) of the super-network."""
    return f"stack.layers.{int(match[1]) * of // layers}."


def extract(source: TextEncoder, config: TextEncoderConfig) -> TextEncoder:
    """The smaller encoder with weights of its own, in evaluation mode."""
    encoder = TextEncoder(config).to(source.token_embedding.weight.dtype)
    encoder.load_state_dict(
        {name: tensor.detach().clone() for name, tensor in slices(source, config).items()}
    )
    return encoder.eval()


class LastStates(nn.Module):
    """An encoder called for the queries, keys and values inside its last layer, (B, H, T, D) each."""

    def __init__(self, encoder: TextEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, ids_BT: Tensor, valid_BT: Tensor) -> States:
        """Int64 and bool."""
        last = self.encoder.config.num_layers - 1
        states = self.encoder(ids_BT, valid_BT, hidden_states=True).hidden_states
        return self.encoder.q_k_v(last, states[last])


def last_states(source: TextEncoder, config: TextEncoderConfig, ids_BT: Tensor, valid_BT: Tensor) -> States:
    """What `LastStates` gives for a member, with the super-network's weights."""
    tensors = {f"encoder.{name}": tensor for name, tensor in slices(source, config).items()}
    found: States = torch.func.functional_call(LastStates(skeleton(config)), tensors, (ids_BT, valid_BT))
    return found
