"""Captions by a masked language model, behind a cache (the released `engine_for_finetuning.py`).

A step reads the last word and `<mask>`, with the keys and values of the picture and all earlier words cached, and
predicts the word at the mask; the mask's own keys are never kept.

Shape suffixes: B rows, T new tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from multiway_core.errors import InputError
from multiway_core.generation import GenerationConfig, StaticKVCache, generate
from torch import Tensor

from multiway_vision_language.beit3.config import BOS, EOS, MASK, PAD
from multiway_vision_language.beit3.model import BEiT3ForCaptioning, caption_mask


@dataclass(frozen=True)
class SpecialTokens:
    """Ids of the tokenizer; those of `beit3.spm` by default."""

    bos: int = BOS
    pad: int = PAD
    eos: int = EOS
    mask: int = MASK


@dataclass(frozen=True)
class CaptionDecoding:
    """How captions are written; the released model's numbers by default. ``max_tokens`` counts the end token."""

    max_tokens: int = 31
    num_beams: int = 3
    length_penalty: float = 0.6

    def __post_init__(self) -> None:
        if self.max_tokens < 1 or self.num_beams < 1:
            raise InputError("captions need at least one token and one beam")


class CaptionSteps:
    """The model as the decode loops of `multiway_core.generation` call it."""

    def __init__(self, model: BEiT3ForCaptioning, tokens: SpecialTokens) -> None:
        self.model, self.tokens = model, tokens
        self.image_tokens = model.config.image_tokens

    def start(self, pixels_BCHW: Tensor, room: int) -> tuple[StaticKVCache, Tensor]:
        """Read the pictures: a cache with ``room`` for words, and the scores (B, V) of the first word."""
        backbone, batch = self.model.backbone, len(pixels_BCHW)
        weight = backbone.text_embedding.weight
        cache = backbone.stack.new_cache(batch, self.image_tokens + room + 2, like=weight)
        tokens_BT = self._with_mask(torch.full((batch, 1), self.tokens.bos, device=weight.device))
        mask = caption_mask(self.image_tokens, 2, weight.device)
        read = backbone(tokens_BT, pixels_BCHW, mask=mask, cache=cache)
        cache.advance(torch.ones(batch, self.image_tokens + 1, dtype=torch.bool, device=weight.device))
        return cache, self.model.mlm_head(read.hidden_BSE[:, -1])

    def __call__(self, tokens_BT: Tensor, cache: StaticKVCache) -> Tensor:
        """Scores (B, V) of the word behind the one given (B, 1)."""
        position = cache.length - self.image_tokens
        mask = torch.ones(2, cache.length + 2, dtype=torch.bool, device=tokens_BT.device)
        mask[0, -1] = False  # the word does not see the mask
        read = self.model.backbone(
            self._with_mask(tokens_BT), mask=mask, first_position=position, cache=cache
        )
        cache.advance(torch.ones_like(tokens_BT, dtype=torch.bool))
        return self.model.mlm_head(read.hidden_BSE[:, -1])

    def _with_mask(self, tokens_BT: Tensor) -> Tensor:
        return torch.cat([tokens_BT, torch.full_like(tokens_BT, self.tokens.mask)], dim=1)


@torch.inference_mode()
def write_captions(
    model: BEiT3ForCaptioning,
    pixels_BCHW: Tensor,
    decoding: CaptionDecoding | None = None,
    tokens: SpecialTokens | None = None,
) -> Sequence[list[int]]:
    """Tokens of a caption for each picture, without begin and end. Raises InputError: more tokens than positions."""
    decoding, tokens = decoding or CaptionDecoding(), tokens or SpecialTokens()
    if decoding.max_tokens + 1 > model.config.max_text:
        raise InputError(
            f"{decoding.max_tokens} tokens; this model has positions for {model.config.max_text - 1}"
        )
    steps = CaptionSteps(model, tokens)
    cache, logits_BV = steps.start(pixels_BCHW, decoding.max_tokens)
    config = GenerationConfig(
        max_new_tokens=decoding.max_tokens,
        eos_token_ids=(tokens.eos,),
        pad_token_id=tokens.pad,
        num_beams=decoding.num_beams,
        length_penalty=decoding.length_penalty,
    )
    output = generate(steps, logits_BV, cache, config)
    return [[token for token in row.tolist() if token != tokens.eos] for row in output.tokens]
