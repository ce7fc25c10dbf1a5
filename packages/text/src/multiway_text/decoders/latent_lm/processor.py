"""Documents of text, classes and pictures <-> rows of tokens with latents.

Shape suffixes: B documents, T tokens, N latents in order, D latent size, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from multiway_core.errors import InputError
from torch import Tensor

from multiway_text.decoders.latent_lm.generation import Generated
from multiway_text.decoders.latent_lm.model import LatentLM
from multiway_text.decoders.latent_lm.objective import Batch
from multiway_text.decoders.latent_lm.tokenizer import PictureTokenizer

Piece = int | str | Tensor
"""A class (an id of text), text as UTF-8 bytes, or a span of raw latents (N, D)."""


class LatentLMProcessor:
    """Writes documents for a model; a text id ``n`` is a class or a byte, whichever the model was trained with."""

    def __init__(self, model: LatentLM, tokenizer: PictureTokenizer | None = None) -> None:
        if tokenizer is not None and tokenizer.config.latent_size != model.config.latent_size:
            raise InputError(
                f"the tokenizer's latents have {tokenizer.config.latent_size} numbers, the model's "
                f"{model.config.latent_size}"
            )
        self.model = model
        self.tokenizer = tokenizer
        self.num_text = model.config.vocab_size - model.config.tokens.first_text

    def write(self, pieces: Sequence[Piece], *, open_span: bool = False) -> tuple[Tensor, Tensor]:
        """Ids (T,) and raw latents (N, D) of a document; with ``open_span`` a last <BOD> that asks for a picture.

        Raises InputError for a piece that the vocabulary or the latent size has no place for.
        """
        ids, tokens, latents = self.model.config.tokens, [], []
        for piece in pieces:
            if isinstance(piece, Tensor):
                if piece.ndim != 2 or piece.shape[1] != self.model.config.latent_size or not len(piece):
                    raise InputError(
                        f"a span of latents is (N, {self.model.config.latent_size}), not {list(piece.shape)}"
                    )
                tokens += [ids.begin, *[ids.latent] * len(piece), ids.end]
                latents.append(piece)
                continue
            numbers = [piece] if isinstance(piece, int) else list(piece.encode())
            for number in numbers:
                if not 0 <= number < self.num_text:
                    raise InputError(
                        f"text id {number} of {piece!r}: this model has 0 to {self.num_text - 1}"
                    )
            tokens += [ids.first_text + number for number in numbers]
        if open_span:
            tokens.append(ids.begin)
        if not tokens:
            raise InputError("a document needs a piece at least")
        none = torch.zeros(0, self.model.config.latent_size)
        return torch.tensor(tokens), torch.cat(latents) if latents else none

    def batch(self, documents: Sequence[Sequence[Piece]], *, end: bool = False) -> Batch:
        """Documents padded on the left, latents normalized; ``end`` puts ``eos`` behind each."""
        ids = self.model.config.tokens
        written = [self.write(pieces) for pieces in documents]
        longest = max((len(tokens) for tokens, _ in written), default=0) + end
        tokens_BT = torch.full((len(written), longest), ids.null)
        valid_BT = torch.zeros_like(tokens_BT, dtype=torch.bool)
        for row, (tokens, _) in enumerate(written):
            start = longest - len(tokens) - end
            tokens_BT[row, start : longest - end] = tokens
            valid_BT[row, start:] = True
            if end:
                tokens_BT[row, -1] = ids.eos
        latents_ND = torch.cat([latents for _, latents in written])
        return Batch(tokens_BT, valid_BT, self.model.normalize(latents_ND))

    def text(self, tokens: Sequence[int]) -> str:
        """The UTF-8 text among generated ids; bytes that are none become the replacement character."""
        first = self.model.config.tokens.first_text
        return bytes(t - first for t in tokens if first <= t < first + 256).decode(errors="replace")

    @torch.no_grad()
    def pictures(self, generated: Sequence[Generated]) -> Tensor:
        """Pictures (B, C, H, W) in [-1, 1] of the first whole span of each. Raises InputError where there is none."""
        if self.tokenizer is None:
            raise InputError("pictures need a tokenizer")
        count = self.tokenizer.config.num_latents
        for row, one in enumerate(generated):
            if len(one.latents_ND) < count:
                raise InputError(f"row {row} has {len(one.latents_ND)} latents; a picture has {count}")
        latents_BND = torch.stack([one.latents_ND[:count] for one in generated])
        return self.tokenizer.decode(latents_BND).clamp(-1, 1)
