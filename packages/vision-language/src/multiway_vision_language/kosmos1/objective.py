"""How Kosmos-1 starts; what it learns by is :func:`multiway_vision_language.kosmos2.objective.next_token_loss`.

The loss is the same for documents with any number of pictures: all discrete tokens count but ``<s>`` and the pictures'
blocks (arXiv 2302.14045, section 2.3).
"""

from __future__ import annotations

import math

import torch
from torch import nn

from multiway_vision_language.kosmos1.model import Kosmos1


@torch.no_grad()
def reset_parameters(model: Kosmos1, seed: int) -> None:
    """Initialise for training from scratch as Magneto does, the image embeddings with the size of token embeddings.

    Values, outputs and feed-forward networks are multiplied by ``sqrt(ln 2L)`` behind their Xavier initialisation
    (Wang et al. 2022, section 2); the connector is not, and ends in vectors that neither drown words nor vanish.
    """
    torch.manual_seed(seed)
    hidden = model.config.text.hidden_size
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for layers in (model.text.decoder.layers, model.vision.layers):
        gain = math.log(2 * len(layers)) ** 0.5
        for name, parameter in layers.named_parameters():
            if name.endswith((".query.weight", ".key.weight", ".value.weight")):
                parameter.mul_(2**-0.5)
            if name.endswith((".value.weight", ".output.weight", ".up.weight", ".down.weight")):
                parameter.mul_(gain)
    nn.init.normal_(model.text.embedding.weight, std=hidden**-0.5)
    patches = model.vision.patch_embedding.weight
    nn.init.normal_(patches, std=patches[0].numel() ** -0.5)
    nn.init.normal_(model.vision.positions.weight, std=0.02)
    nn.init.normal_(model.vision.class_embedding, std=0.02)
    nn.init.normal_(model.resampler.latents)
    nn.init.orthogonal_(model.resampler.projection.weight, gain=hidden**0.5)
    model.resampler.attention.output.weight.mul_(hidden**-0.5)
