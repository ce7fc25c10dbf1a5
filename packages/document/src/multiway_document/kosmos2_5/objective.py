"""Losses of the reader: next-token prediction (arXiv 2309.11419, section 2.3) and CTC of the line reader.

Shape suffixes: B batch, T tokens or steps, V vocabulary, K classes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from multiway_document.kosmos2_5.config import Kosmos25Config, TokenConfig
from multiway_document.kosmos2_5.line_reader import LineReader
from multiway_document.kosmos2_5.model import Kosmos25

IGNORED = -100  # a target that does not count


class Reader(nn.Module):
    """What is trained together: the published network and our line reader on its encoder."""

    def __init__(self, config: Kosmos25Config) -> None:
        super().__init__()
        self.kosmos = Kosmos25(config)
        self.line_reader = LineReader(config.vision.hidden_size)

    @torch.no_grad()
    def reset_parameters(self, seed: int) -> None:
        """Initialise for training from scratch.

        The resampler starts as a look-up: each latent query is a direction of its own with a small norm, and the
        projection keeps the length of the features (they have norm 1), so that the image is not drowned by the
        latents, which are keys as well.
        """
        torch.manual_seed(seed)
        config = self.kosmos.config
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=module.in_features**-0.5)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for layers in (self.kosmos.vision.layers, self.kosmos.text.decoder.layers):
            for name, parameter in layers.named_parameters():  # residual branches start small (GPT-2)
                if name.endswith(("attention.output.weight", "feedforward.down.weight")):
                    parameter.mul_((2 * len(layers)) ** -0.5)
        for table in (self.kosmos.vision.positions.row, self.kosmos.vision.positions.column):
            nn.init.normal_(table.weight, std=0.3)
        hidden = config.text.hidden_size
        nn.init.normal_(self.kosmos.text.embedding.weight, std=hidden**-0.5)
        segments = self.kosmos.text.segment_embedding
        assert segments is not None
        nn.init.normal_(segments.weight, std=0.02)
        nn.init.normal_(self.kosmos.resampler.latents, std=0.02)
        nn.init.orthogonal_(self.kosmos.resampler.projection.weight, gain=hidden**0.5)
        _smooth_locations(self.kosmos.text.embedding.weight, config.tokens)


def _smooth_locations(table_VE: Tensor, tokens: TokenConfig) -> None:
    # Neighbouring coordinates start as neighbouring points of a random smooth curve, one for x and one for y.
    width = table_VE.shape[1]
    phase = torch.arange(tokens.num_locations)[:, None] / tokens.num_locations * 2 * math.pi
    for axis in range(2):
        frequencies = torch.randn(width) * 8
        curve = torch.cos(phase * frequencies + torch.rand(width) * 2 * math.pi) * (2 / width) ** 0.5
        table_VE[tokens.first_location + axis : tokens.vocab_size : 2] = curve


def freeze_vision(model: Kosmos25) -> None:
    """Fix the encoder, as the fine-tuning of KOSMOS-2.5-CHAT does (section 2.4): resampler and decoder learn."""
    model.vision.requires_grad_(False)


def ctc_loss(logits_BTK: Tensor, steps_B: Tensor, targets: Tensor, lengths_B: Tensor) -> Tensor:
    """Sum over the batch of ``-log p(target)`` (Graves et al. 2006, eq. 3), computed in float32.

    ``targets`` are the class ids of all lines, one after the other. A line that does not fit its steps counts 0.
    """
    log_probs_TBK = logits_BTK.float().log_softmax(dim=-1).transpose(0, 1)
    return nn.functional.ctc_loss(
        log_probs_TBK, targets, steps_B, lengths_B, blank=0, reduction="sum", zero_infinity=True
    )


def token_loss(
    logits_BTV: Tensor, targets_BT: Tensor, tokens: TokenConfig, *, neighbour_std: float
) -> Tensor:
    """Sum of the cross-entropy over all targets that are not ``IGNORED``.

    The target of a location token is spread over its neighbours on the same axis (a Gaussian of ``neighbour_std``
    tokens): 512 unrelated classes are learnt slowly, and one pixel off is nearly right.
    """
    kept_BT = targets_BT != IGNORED
    log_probs_NV = logits_BTV[kept_BT].float().log_softmax(dim=-1)
    targets_N = targets_BT[kept_BT]
    is_location_N = targets_N >= tokens.first_location
    plain = nn.functional.nll_loss(log_probs_NV[~is_location_N], targets_N[~is_location_N], reduction="sum")
    if neighbour_std == 0 or not bool(is_location_N.any()):
        return plain + nn.functional.nll_loss(
            log_probs_NV[is_location_N], targets_N[is_location_N], reduction="sum"
        )
    location_M = targets_N[is_location_N]
    reach = math.ceil(2 * neighbour_std)
    offsets_O = torch.arange(-reach, reach + 1, device=targets_N.device)
    weights_O = torch.exp(-0.5 * (offsets_O / neighbour_std) ** 2)
    neighbours_MO = location_M[:, None] + 2 * offsets_O  # x and y take turns
    inside_MO = (neighbours_MO >= tokens.first_location) & (neighbours_MO < tokens.vocab_size)
    weights_MO = weights_O * inside_MO
    weights_MO = weights_MO / weights_MO.sum(dim=1, keepdim=True)
    picked_MO = log_probs_NV[is_location_N].gather(
        1, neighbours_MO.clamp(tokens.first_location, tokens.vocab_size - 1)
    )
    return plain - (weights_MO * picked_MO).sum()
