"""LLaMA (arXiv 2302.13971, section 2.2): RMSNorm before each part, rotary positions, SwiGLU, grouped queries.

x + attention(norm(x));  x + down(silu(gate(x')) * up(x')) with x' = norm(x)
"""

from __future__ import annotations

from functools import partial

from multiway_blocks.gated_decoder import GatedDecoder
from multiway_blocks.text_decoder import CausalLM

from multiway_text.decoders.llama.config import LlamaConfig


class Llama(CausalLM):
    """The whole network."""

    def __init__(self, config: LlamaConfig) -> None:
        new_decoder = partial(
            GatedDecoder,
            hidden_size=config.hidden_size,
            num_layers=config.num_layers,
            num_heads=config.num_heads,
            num_kv_heads=config.num_kv_heads,
            inner_size=config.inner_size,
            head_dim=config.head_dim,
            bias=False,
            rope_theta=config.rope_theta,
            eps=config.norm_eps,
        )
        super().__init__(config.vocab_size, config.hidden_size, new_decoder, tied=config.tied_embeddings)
        self.config = config
