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
from multiway_blocks.feedforward import GatedFeedForward
from multiway_blocks.linear import Linear, project
from multiway_blocks.norm import RMSNorm
from multiway_blocks.retention import Retention, RetentionRotary, RetentionState
from multiway_core.errors import InputError
from torch import Tensor, nn

from multiway_text.yoco.attention import CrossAttention, WindowAttention
from multiway_text.yoco.cache import State, WindowState, YocoCache
from multiway_text.yoco.config import YocoConfig

PREFILL_CHUNK = 32_768


class SelfLayer(nn.Module):
    """One block of the self-decoder; what it keeps of the past has a constant size."""

    def __init__(self, config: YocoConfig) -> None:
        super().__init__()
        self.mixer_norm = RMSNorm(config.hidden_size, eps=config.norm_eps)
        self.mixer: Retention | WindowAttention
        if config.window is None:
            self.mixer = Retention(
                config.hidden_size,
                config.num_self_heads,
                decay="gated",
                theta=config.rope_theta,
                eps=config.norm_eps,
            )
            nn.init.xavier_uniform_(self.mixer.output.weight, gain=0.5)
        else:
            self.mixer = WindowAttention(
                config.hidden_size, config.num_self_heads, config.window, theta=config.rope_theta
            )
        self.feedforward_norm = RMSNorm(config.hidden_size, eps=config.norm_eps)
        self.feedforward = GatedFeedForward(
            config.hidden_size, config.inner_size, activation=nn.functional.silu
        )

    def forward(
        self, x_BTE: Tensor, positions_BT: Tensor, state: State | None, valid_BT: Tensor
    ) -> tuple[Tensor, State]:
        """(B, T, E) and the state before -> (B, T, E) and the state behind."""
        normed = self.mixer_norm(x_BTE)
        after: State
        if isinstance(self.mixer, Retention):
            assert state is None or isinstance(state, RetentionState)
            mixed, after = self.mixer(normed, state, valid_BT)
        else:
            assert state is None or isinstance(state, WindowState)
            mixed, after = self.mixer(normed, positions_BT, state, valid_BT)
        x_BTE = x_BTE + mixed
        return x_BTE + self.feedforward(self.feedforward_norm(x_BTE)), after


class CrossLayer(nn.Module):
    """One block of the cross-decoder."""

    def __init__(self, config: YocoConfig) -> None:
        super().__init__()
        self.mixer_norm = RMSNorm(config.hidden_size, eps=config.norm_eps)
        self.mixer = CrossAttention(config.hidden_size, config.num_heads, theta=config.rope_theta)
        self.feedforward_norm = RMSNorm(config.hidden_size, eps=config.norm_eps)
        self.feedforward = GatedFeedForward(
            config.hidden_size, config.inner_size, activation=nn.functional.silu
        )

    def forward(
        self, x_BTE: Tensor, positions_BT: Tensor, key_BKSD: Tensor, value_BKSD: Tensor, mask: Tensor | None
    ) -> Tensor:
        """(B, T, E) -> (B, T, E)."""
        x_BTE = x_BTE + self.mixer(self.mixer_norm(x_BTE), positions_BT, key_BKSD, value_BKSD, mask)
        return x_BTE + self.feedforward(self.feedforward_norm(x_BTE))


class Yoco(nn.Module):
    """The whole network, with the calls of the decode loop."""

    def __init__(self, config: YocoConfig) -> None:
        super().__init__()
        self.config = config
        half = config.num_layers // 2
        self.embedding = nn.Embedding(config.vocab_size, config.hidden_size)
        nn.init.normal_(self.embedding.weight, std=config.hidden_size**-0.5)
        self.self_layers = nn.ModuleList(SelfLayer(config) for _ in range(half))
        self.key_value_norm = RMSNorm(config.hidden_size, eps=config.norm_eps)
        self.key = Linear(config.hidden_size, config.num_kv_heads * config.head_dim, bias=False)
        self.value = Linear(config.hidden_size, config.num_kv_heads * config.head_dim, bias=False)
        self.rotary = RetentionRotary(config.head_dim, theta=config.rope_theta)
        self.cross_layers = nn.ModuleList(CrossLayer(config) for _ in range(half))
        self.norm = RMSNorm(config.hidden_size, eps=config.norm_eps)
        self.head = None
        if not config.tied_embeddings:
            self.head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    def hidden(
        self,
        tokens_BT: Tensor,
        valid_BT: Tensor | None = None,
        cache: YocoCache | None = None,
        *,
        last_only: bool = False,
    ) -> Tensor:
        """States (B, T, E) behind the last norm of new tokens behind the cache; of the last one with ``last_only``.

        ``valid`` (B, T) bool is False at padding, which stands on the left; None: all are real. All tokens go through
        the self-decoder and into the cache; with ``last_only`` the others never see the cross-decoder.
        """
        self._check(tokens_BT)
        if valid_BT is None:
            valid_BT = torch.ones_like(tokens_BT, dtype=torch.bool)
        visible_BS = valid_BT
        if cache is not None and cache.length:
            visible_BS = torch.cat([cache.valid_BS[:, : cache.length], valid_BT], dim=1)
        x_BTE, positions_BT, key_BKSD, value_BKSD = self._lower(tokens_BT, valid_BT, cache)
        if last_only:
            x_BTE, positions_BT = x_BTE[:, -1:], positions_BT[:, -1:]
        mask = None
        if not bool(visible_BS.all()):
            mask = visible_BS[:, None, None] if last_only else causal_visibility(valid_BT, cache)
        for layer in self.cross_layers:
            x_BTE = layer(x_BTE, positions_BT, key_BKSD, value_BKSD, mask)
        if cache is not None:
            cache.advance(valid_BT)
        return self.norm(x_BTE)

    def read(self, tokens_BT: Tensor, cache: YocoCache, valid_BT: Tensor | None = None) -> None:
        """Put tokens into the cache without predicting anything: the self-decoder alone."""
        self._check(tokens_BT)
        if valid_BT is None:
            valid_BT = torch.ones_like(tokens_BT, dtype=torch.bool)
        self._lower(tokens_BT, valid_BT, cache)
        cache.advance(valid_BT)

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., E) -> (..., V)."""
        return project(hidden, self.embedding.weight if self.head is None else self.head.weight)

    def forward(self, tokens_BT: Tensor, valid_BT: Tensor | None = None) -> Tensor:
        """Logits (B, T, V) of the token that follows each."""
        return self.logits(self.hidden(tokens_BT, valid_BT))

    def new_cache(self, batch_size: int, max_length: int) -> YocoCache:
        """An empty cache for ``max_length`` tokens a row. Raises InputError beyond the context."""
        weight = self.embedding.weight
        return YocoCache(self.config, batch_size, max_length, weight.dtype, weight.device)

    def prefill(
        self,
        tokens_BT: Tensor,
        cache: YocoCache,
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
        hidden = self.hidden(
            tokens_BT[:, last], None if valid_BT is None else valid_BT[:, last], cache, last_only=True
        )
        return self.logits(hidden[:, -1]).float()

    def decode(self, tokens_BT: Tensor, cache: YocoCache) -> Tensor:
        """Read further tokens behind the cache; float logits (B, V) of the next one."""
        return self.logits(self.hidden(tokens_BT, cache=cache, last_only=True)[:, -1]).float()

    def _lower(
        self, tokens_BT: Tensor, valid_BT: Tensor, cache: YocoCache | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The self-decoder's results (B, T, E), positions (B, T), and the shared keys and values (B, K, S, D)."""
        if cache is not None:
            cache.require(tokens_BT.shape[1])  # before a state is changed
        positions_BT = token_positions(valid_BT, cache)
        x_BTE = self.embedding(tokens_BT) * math.sqrt(self.config.hidden_size)
        before = cache.states if cache is not None and cache.states else [None] * len(self.self_layers)
        states = []
        for layer, state in zip(self.self_layers, before, strict=True):
            x_BTE, state = layer(x_BTE, positions_BT, state, valid_BT)
            states.append(state)
        normed_BTE = self.key_value_norm(x_BTE)
        key_BKTD, value_BKTD = (
            part(normed_BTE).unflatten(-1, (self.config.num_kv_heads, -1)).transpose(1, 2)
            for part in (self.key, self.value)
        )
        key_BKTD = self.rotary(key_BKTD, positions_BT)
        if cache is None:
            return x_BTE, positions_BT, key_BKTD, value_BKTD
        cache.states = states
        return x_BTE, positions_BT, *cache.update(0, key_BKTD, value_BKTD)

    def _check(self, tokens_BT: Tensor) -> None:
        if tokens_BT.shape[1] == 0:
            raise InputError("empty prompt: a language model needs at least one token to continue")
        if tokens_BT.shape[1] > self.config.max_positions:
            raise InputError(
                f"prompt too long: {tokens_BT.shape[1]} tokens, and YOCO's context has {self.config.max_positions}"
            )
