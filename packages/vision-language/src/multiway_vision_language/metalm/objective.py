"""Semi-causal language modelling, and which parts of MetaLM learn (arXiv 2206.06336, sections 2.3 and 3).

Shape suffixes: B rows, T tokens, V vocabulary.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
from multiway_blocks.decoder import scale_for_deep_norm
from multiway_core.errors import InputError
from torch import Tensor, nn

from multiway_vision_language.metalm.model import MetaLM, Spans, span_mask

IGNORED = -100  # a target that does not count
_GELU_GAIN = 1.53  # 1 / root mean square of GELU of standard normal numbers


def semi_causal_targets(tokens_BT: Tensor, valid_BT: Tensor, spans: Spans) -> Tensor:
    """What each place shall predict: the next token if it is causal, else IGNORED; (B, T) int64 (equation 1).

    Tokens of spans are never predicted, nor is a row's first token. The token behind a span is predicted at the
    span's last place, from an encoder's vector.
    """
    counted_BT = valid_BT & ~span_mask(spans, tokens_BT)
    targets_BT = torch.full_like(tokens_BT, IGNORED)
    follows_BT = counted_BT[:, 1:] & valid_BT[:, :-1]
    targets_BT[:, :-1] = torch.where(follows_BT, tokens_BT[:, 1:], IGNORED)
    return targets_BT


def semi_causal_loss(logits_BTV: Tensor, targets_BT: Tensor) -> tuple[Tensor, int]:
    """Sum of the cross-entropy over the targets, in float32, and their number."""
    kept_BT = targets_BT != IGNORED
    total = nn.functional.cross_entropy(logits_BTV[kept_BT].float(), targets_BT[kept_BT], reduction="sum")
    return total, int(kept_BT.sum())


def sample_spans(
    documents: Sequence[tuple[int, int]],
    rng: random.Random,
    *,
    min_length: int = 64,
    max_length: int = 128,
    share: float = 0.25,
) -> list[tuple[int, int]]:
    """Random spans for a row of packed documents: about ``share`` of its tokens, none across documents.

    ``documents``: (start, stop) of each in the row. Spans do not touch, so that every span has a token behind it to
    be judged by (the paper samples 64 to 128 tokens, a quarter of the sequence).
    """
    if not 1 <= min_length <= max_length:
        raise InputError(f"spans need lengths of 1 <= min <= max, got {min_length} and {max_length}")
    wanted = round(share * sum(stop - start for start, stop in documents))
    # The free intervals; the last token of a document stays causal.
    free = [(start, stop - 1) for start, stop in documents]
    spans: list[tuple[int, int]] = []
    while wanted >= min_length:
        length = min(rng.randint(min_length, max_length), wanted)
        rooms = [(start, stop) for start, stop in free if stop - start >= length]
        if not rooms:
            rooms = [(start, stop) for start, stop in free if stop - start >= min_length]
            if not rooms:
                break
            length = min_length
        (room,) = rng.choices(rooms, weights=[stop - start - length + 1 for start, stop in rooms])
        start = rng.randint(room[0], room[1] - length)
        free.remove(room)
        free += [(room[0], start - 1), (start + length + 1, room[1])]
        spans.append((start, start + length))
        wanted -= length
    return sorted(spans)


def sample_prefix(num_patches: int, num_text: int, rng: random.Random) -> tuple[int, int]:
    """The span of a picture-text pair: the picture and a text prefix of random length; the rest is predicted."""
    return 0, num_patches + rng.randrange(num_text)


def train_encoder_and_connector(model: MetaLM) -> None:
    """Fix the decoder (fine-tuning of a single task, section 3.3): what it can do in context stays as it is."""
    model.requires_grad_(False)
    model.encoder.requires_grad_(True)
    model.connector.requires_grad_(True)


def freeze_encoder(model: MetaLM, *, except_last: int = 2) -> None:
    """Fix a pre-trained encoder but for its last layers (language-only pre-training, section 3.1)."""
    model.requires_grad_(True)
    model.encoder.requires_grad_(False)
    for layer in list(model.encoder.layers)[len(model.encoder.layers) - except_last :]:
        layer.requires_grad_(True)
    model.encoder.norm.requires_grad_(True)


@torch.no_grad()
def reset_parameters(model: MetaLM, seed: int) -> None:
    """Initialise for training from scratch: small embeddings, residual branches that start small (GPT-2, DeepNorm).

    The connector's output starts with the size of token embeddings, so that neither drowns the other.
    """
    torch.manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.normal_(module.weight, std=module.weight[0].numel() ** -0.5)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
    nn.init.zeros_(model.encoder.relative_bias.bias_embedding.weight)
    branches = (
        [model.encoder.layers]
        if model.config.decoder.deep_norm
        else [model.decoder.layers, model.encoder.layers]
    )
    for layers in branches:
        for name, parameter in layers.named_parameters():
            if name.endswith(("output.weight", "down.weight")):
                parameter.mul_((2 * len(layers)) ** -0.5)
    if model.config.decoder.deep_norm:
        scale_for_deep_norm(model.decoder)
    matrices = [module.weight for module in model.connector.modules() if isinstance(module, nn.Linear)]
    for weight in matrices[1:]:
        weight.mul_(_GELU_GAIN)
    matrices[-1].mul_(0.02)
