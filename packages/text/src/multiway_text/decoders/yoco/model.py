"""YOCO (arXiv 2405.05254, section 2): a self-decoder makes one key-value cache, a cross-decoder reads it.

    self-decoder    x + mixer(norm(x)), x + SwiGLU(norm(x))       mixer: gated retention, or a sliding window
    cache           K, V = norm(x) W_K, norm(x) W_V               once, for all layers above
    cross-decoder   x + attention(norm(x); K, V), x + SwiGLU(norm(x))

Nothing that a later token needs comes out of the cross-decoder but its own result, so a prompt is read by the
self-decoder alone, all but its last token.

Shape suffixes: B batch, T new tokens, S all tokens so far, K key-value heads, D head dim, E hidden size, V vocabulary.
"""

from __future__ import annotations

import math

import torch
from multiway_blocks.causal import causal_visibility, token_positions
from multiway_blocks.gated_decoder import gated_layer
from multiway_blocks.linear import Linear
from multiway_blocks.norm import RMSNorm
from multiway_blocks.retention import Retention, RetentionRotary
from multiway_blocks.state_cache import StateCache
from multiway_blocks.text_decoder import CausalLM
from multiway_blocks.transformer import Context, PreNorm, Stack
from torch import Tensor, nn

from multiway_text.decoders.yoco.attention import CrossAttention, WindowAttention
from multiway_text.decoders.yoco.config import YocoConfig

PREFILL_CHUNK = 32_768


def self_layer(config: YocoConfig, rotary: RetentionRotary) -> PreNorm:
    """One block of the self-decoder; what it keeps of the past has a constant size."""
    size, heads = config.hidden_size, config.num_self_heads
    mixer: Retention | WindowAttention
    if config.window is None:
        mixer = Retention(size, heads, decay="gated", theta=config.rope_theta, eps=config.norm_eps)
        nn.init.xavier_uniform_(mixer.output.weight, gain=0.5)
    else:
        mixer = WindowAttention(size, heads, config.window, rotary=rotary)
    return gated_layer(size, config.inner_size, mixer, eps=config.norm_eps)


def cross_layer(config: YocoConfig, rotary: RetentionRotary) -> PreNorm:
    """One block of the cross-decoder."""
    mixer = CrossAttention(config.hidden_size, config.num_heads, rotary=rotary)
    return gated_layer(config.hidden_size, config.inner_size, mixer, eps=config.norm_eps)


class YocoDecoder(nn.Module):
    """Both halves, and the maps to the keys and values between them."""

    def __init__(self, config: YocoConfig) -> None:
        super().__init__()
        self.config = config
        half, width = config.num_layers // 2, config.num_kv_heads * config.head_dim
        rotary = RetentionRotary(config.hidden_size // config.num_self_heads, theta=config.rope_theta)
        self.self_decoder = Stack(self_layer(config, rotary) for _ in range(half))
        self.key_value_norm = RMSNorm(config.hidden_size, eps=config.norm_eps)
        self.key = Linear(config.hidden_size, width, bias=False)
        self.value = Linear(config.hidden_size, width, bias=False)
        self.rotary = RetentionRotary(config.head_dim, theta=config.rope_theta)
        norm = RMSNorm(config.hidden_size, eps=config.norm_eps)
        self.cross_decoder = Stack((cross_layer(config, self.rotary) for _ in range(half)), norm)

    def forward(
        self,
        x_BTE: Tensor,
        valid_BT: Tensor | None = None,
        cache: StateCache | None = None,
        *,
        last_only: bool = False,
    ) -> Tensor:
        """States (B, T, E) behind the last norm of new tokens behind the cache; of the last one with ``last_only``.

        All tokens go through the self-decoder and into the cache; with ``last_only`` the others never see the
        cross-decoder.
        """
        if valid_BT is None:
            valid_BT = torch.ones(x_BTE.shape[:2], dtype=torch.bool, device=x_BTE.device)
        visible_BS = valid_BT
        if cache is not None and cache.length:
            visible_BS = torch.cat([cache.valid_BS[:, : cache.length], valid_BT], dim=1)
        x_BTE, positions_BT, shared = self._lower(x_BTE, valid_BT, cache)
        if last_only:
            x_BTE, positions_BT = x_BTE[:, -1:], positions_BT[:, -1:]
        mask = None
        if not bool(visible_BS.all()):
            mask = visible_BS[:, None, None] if last_only else causal_visibility(valid_BT, cache)
        x_BTE = self.cross_decoder(x_BTE, Context(mask, positions_BT, shared))
        if cache is not None:
            cache.advance(valid_BT)
        return x_BTE

    def read(self, x_BTE: Tensor, cache: StateCache, valid_BT: Tensor) -> None:
        """Put tokens into the cache without predicting anything: the self-decoder alone."""
        self._lower(x_BTE, valid_BT, cache)
        cache.advance(valid_BT)

    def new_cache(self, batch_size: int, max_length: int, like: Tensor) -> StateCache:
        """A cache of one layer, and the self-decoder's states."""
        config = self.config
        return StateCache(
            config.num_layers // 2,
            batch_size,
            max_length,
            like,
            num_kv_layers=1,
            num_heads=config.num_kv_heads,
            head_dim=config.head_dim,
        )

    def _lower(
        self, x_BTE: Tensor, valid_BT: Tensor, cache: StateCache | None
    ) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
        """The self-decoder's results (B, T, E), positions (B, T), and the shared keys and values (B, K, S, D)."""
        if cache is not None:
            cache.require(x_BTE.shape[1])  # before a state is changed
        positions_BT = token_positions(valid_BT, cache)
        x_BTE = self.self_decoder(x_BTE, Context(None, positions_BT, cache, valid_BT))
        normed_BTE = self.key_value_norm(x_BTE)
        key_BKTD, value_BKTD = (
            part(normed_BTE).unflatten(-1, (self.config.num_kv_heads, -1)).transpose(1, 2)
            for part in (self.key, self.value)
        )
        shared = (self.rotary(key_BKTD, positions_BT), value_BKTD)
        return x_BTE, positions_BT, shared if cache is None else cache.update(0, *shared)


class Yoco(CausalLM):
    """The whole network."""

    def __init__(self, config: YocoConfig) -> None:
        super().__init__(
            config.vocab_size,
            config.hidden_size,
            lambda: YocoDecoder(config),
            tied=config.tied_embeddings,
            max_positions=config.max_positions,
        )
        self.config = config
        nn.init.normal_(self.embedding.weight, std=self.embedding_std)

    @property
    def embedding_std(self) -> float:
        """E^-1/2, which `embed` scales to 1; E^-1 where the output matrix is the same.

        A token's vector e passes the residual stream, so its own logit begins near |sqrt(E) e| |e|: with E^-1/2 that is
        sqrt(E), and a new network is sure that every token repeats (a loss of 15.2 where uniform is 6.2, E = 256).
        """
        size = self.config.hidden_size
        return 1 / size if self.config.tied_embeddings else size**-0.5

    def embed(self, tokens: Tensor) -> Tensor:
        """The tokens' vectors, scaled."""
        return super().embed(tokens) * math.sqrt(self.config.hidden_size)

    def last_hidden(self, tokens_BT: Tensor, valid_BT: Tensor | None, cache: StateCache) -> Tensor:  # type: ignore[override]
        """State (B, E) of the last token, the only one that the cross-decoder reads."""
        self.require_tokens(tokens_BT)
        return self.decoder(self.embed(tokens_BT), valid_BT, cache, last_only=True)[:, -1]

    def read(self, tokens_BT: Tensor, cache: StateCache, valid_BT: Tensor | None = None) -> None:
        """Put tokens into the cache without predicting anything: the self-decoder alone."""
        self.require_tokens(tokens_BT)
        if valid_BT is None:
            valid_BT = torch.ones_like(tokens_BT, dtype=torch.bool)
        self.decoder.read(self.embed(tokens_BT), cache, valid_BT)

    def prefill(  # type: ignore[override]
        self,
        tokens_BT: Tensor,
        cache: StateCache,
        valid_BT: Tensor | None = None,
        *,
        chunk: int = PREFILL_CHUNK,
    ) -> Tensor:
        """Read prompts, ``chunk`` tokens at a time; float logits (B, V) of the first new token (section 3.3).

        Rows are padded on the left where ``valid`` is False. Raises InputError for prompts that do not fit the cache.
        """
        cache.require(tokens_BT.shape[1])
        starts = range(0, tokens_BT.shape[1], chunk)
        for start in starts[:-1]:
            part = slice(start, start + chunk)
            self.read(tokens_BT[:, part], cache, None if valid_BT is None else valid_BT[:, part])
        last = slice(starts[-1] if starts else 0, None)
        return super().prefill(tokens_BT[:, last], cache, None if valid_BT is None else valid_BT[:, last])
