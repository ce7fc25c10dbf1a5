"""RetNet: the decoder whose attention is retention (arXiv 2307.08621, section 2.3).

Shape suffixes: B batch, T tokens, E hidden size, V vocabulary.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from multiway_blocks.norm import RMSNorm
from multiway_blocks.residual_scaling import deep_norm_decoder
from multiway_blocks.torchscale import initialisation
from multiway_blocks.torchscale.config import check, check_values
from multiway_blocks.torchscale.decoder import CausalStack
from multiway_blocks.torchscale.feedforward import GLU, MOELayer
from multiway_blocks.torchscale.layer import ResidualLayer, has_experts
from multiway_blocks.torchscale.retention import MultiScaleRetention, RetNetRelPos


class RetNetLayer(ResidualLayer):
    """Retention, then a gated feed-forward network or experts; RMSNorm before both."""

    def __init__(self, args: Any, depth: int) -> None:
        alpha = deep_norm_decoder(args.decoder_layers).alpha if args.deepnorm else 1.0
        super().__init__(args, "decoder", depth, alpha)
        width, inner = args.decoder_embed_dim, args.decoder_ffn_embed_dim
        self.retention = MultiScaleRetention(args)
        self.retention_layer_norm = RMSNorm(width, eps=args.layernorm_eps)
        if has_experts(args, depth):
            self.moe_layer = MOELayer(args, width, inner)
        else:
            self.ffn = GLU(args, width, inner)
        self.final_layer_norm = RMSNorm(width, eps=args.layernorm_eps)

    def forward(
        self, x_BTE: Tensor, rel_pos: RetNetRelPos, state: dict[str, Tensor] | None, first: int
    ) -> tuple[Tensor, Tensor | None]:
        """(B, T, E) -> (B, T, E), and the experts' balance loss if there are any."""
        y = self.retention(self.before(x_BTE, self.retention_layer_norm), rel_pos, state, first)
        x_BTE = self.after(x_BTE, self.dropout_module(y), self.retention_layer_norm)
        y, l_aux = self.feed_forward(self.before(x_BTE, self.final_layer_norm))
        return self.after(x_BTE, y, self.final_layer_norm), l_aux


class RetNetDecoder(CausalStack):
    """A language model that trains in parallel or in chunks and decodes with a state of constant size."""

    def __init__(
        self,
        args: Any,
        embed_tokens: nn.Module | None = None,
        output_projection: nn.Module | None = None,
        **kwargs: Any,
    ) -> None:
        check(args, ("decoder",), heads="retention_heads")
        check_values(args)
        super().__init__(args, embed_tokens, None, output_projection)
        if args.layernorm_embedding:
            self.layernorm_embedding = RMSNorm(self.embed_dim, eps=args.layernorm_eps)
        self.layers.extend(RetNetLayer(args, i) for i in range(args.decoder_layers))
        if args.decoder_normalize_before:
            self.layer_norm = RMSNorm(self.embed_dim, eps=args.layernorm_eps)
        self.retnet_rel_pos = RetNetRelPos(args)
        if args.deepnorm:
            initialisation.scale_parts(self, 1 / deep_norm_decoder(args.decoder_layers).divisor)

    def forward(
        self,
        prev_output_tokens: Tensor,
        incremental_state: Any = None,
        features_only: bool = False,
        return_all_hiddens: bool = False,
        token_embeddings: Tensor | None = None,
        **kwargs: Any,
    ) -> tuple[Tensor, dict[str, Any]]:
        """Logits (B, T, V), or features (B, T, E), of int64 tokens (B, S), and a dictionary.

        Without ``incremental_state`` in the parallel form, or in the chunkwise one (``chunkwise_recurrent``). With it
        recurrently: the last of ``prev_output_tokens``, which are all tokens so far, or all of them with
        ``state["is_first_step"] = True``.
        """
        x, _ = self.forward_embedding(prev_output_tokens, token_embeddings, incremental_state)
        first = prev_output_tokens.shape[1] - x.shape[1]
        return self.walk(x, [], incremental_state, features_only, self.retnet_rel_pos, first)
