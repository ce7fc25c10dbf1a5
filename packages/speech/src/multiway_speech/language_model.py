"""The language model of the VibeVoice systems, Qwen2.5, and the connectors that bring speech frames into it.

Shape suffixes: B batch, T tokens, E hidden size, V vocabulary, F frames, D latent size, C chosen tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from multiway_blocks.gated_decoder import GatedDecoder
from multiway_blocks.linear import Linear
from multiway_blocks.norm import RMSNorm
from multiway_blocks.text_decoder import CausalLM
from multiway_core.errors import InputError
from multiway_core.generation import StaticKVCache
from torch import Tensor, nn

PREFILL_TOKENS = 1024
"""A long prompt is read in pieces of this length, so that memory for its mask grows with its length only once."""


@dataclass(frozen=True)
class LanguageModelConfig:
    """Sizes of a Qwen2 decoder; the defaults are those of Qwen2.5-1.5B."""

    hidden_size: int = 1536
    num_layers: int = 28
    num_heads: int = 12
    num_kv_heads: int = 2
    inner_size: int = 8960
    vocab_size: int = 151_936
    head_dim: int | None = None
    """``hidden_size / num_heads`` if not given."""
    max_positions: int = 65_536
    rope_theta: float = 1_000_000.0
    norm_eps: float = 1e-6
    tied: bool = True
    """Whether the output matrix is the embedding."""

    def __post_init__(self) -> None:
        if self.num_heads < 1 or self.num_kv_heads < 1 or self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"num_heads {self.num_heads} is not divisible by num_kv_heads {self.num_kv_heads}"
            )
        if self.head_dim is None and self.hidden_size % self.num_heads:
            raise ValueError(f"hidden_size {self.hidden_size} is not divisible by num_heads {self.num_heads}")


class LanguageModel(CausalLM):
    """Embedding, decoder, and the output matrix."""

    def __init__(self, config: LanguageModelConfig) -> None:
        new_decoder = partial(
            GatedDecoder,
            hidden_size=config.hidden_size,
            num_layers=config.num_layers,
            num_heads=config.num_heads,
            num_kv_heads=config.num_kv_heads,
            inner_size=config.inner_size,
            head_dim=config.head_dim,
            rope_theta=config.rope_theta,
            eps=config.norm_eps,
        )
        super().__init__(
            config.vocab_size,
            config.hidden_size,
            new_decoder,
            tied=config.tied,
            max_positions=config.max_positions,
        )
        self.config = config

    def embed(
        self, tokens_BT: Tensor, speech_BT: Tensor | None = None, frames_NE: Tensor | None = None
    ) -> Tensor:
        """Inputs (B, T, E): embeddings of tokens, with ``frames`` (N, E) where ``speech`` is True, row by row.

        Raises :class:`InputError` if there are not as many frames as places.
        """
        x_BTE = self.embedding(tokens_BT)
        if speech_BT is None or frames_NE is None:
            return x_BTE
        places = int(speech_BT.sum())
        if places != len(frames_NE):
            raise InputError(
                f"the prompt has places for {places} speech frames, but there are {len(frames_NE)}"
            )
        return x_BTE.masked_scatter(speech_BT[..., None], frames_NE.to(x_BTE.dtype))

    def read(self, x_BTE: Tensor, valid_BT: Tensor, cache: StaticKVCache) -> Tensor:
        """Read inputs into the cache piece by piece: the hidden state (B, E) of their last position."""
        pieces = zip(x_BTE.split(PREFILL_TOKENS, dim=1), valid_BT.split(PREFILL_TOKENS, dim=1), strict=True)
        for piece_BTE, piece_valid_BT in pieces:
            hidden_BTE = self.decoder(piece_BTE, piece_valid_BT, cache)
        return hidden_BTE[:, -1]

    def logits_of(self, hidden: Tensor, tokens_C: Tensor) -> Tensor:
        """Logits (..., C) of a few tokens only, without reading the rest of the output matrix."""
        return hidden @ self.output_matrix_VE[tokens_C].T


class Connector(nn.Module):
    """Speech frames -> inputs of the language model: ``W2 norm(W1 x)``, without an activation in between."""

    def __init__(self, latent_size: int, hidden_size: int) -> None:
        super().__init__()
        self.input = Linear(latent_size, hidden_size)
        self.norm = RMSNorm(hidden_size, 1e-6)
        self.output = Linear(hidden_size, hidden_size)

    def forward(self, latents: Tensor) -> Tensor:
        """(..., D) -> (..., E)."""
        return self.output(self.norm(self.input(latents)))
