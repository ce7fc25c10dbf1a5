"""VibeVoice-Realtime: text is read a few tokens ahead of the speech, so audio starts before the text is complete.

    text tokens -> lower layers -> + text type   \\
                                                  upper layers -> hidden state -> DiffusionHead -> latent -> waveform
    latent -> acoustic connector -> + speech type /                            \\-> end of speech?

Shape suffixes: B batch, T positions, E hidden size, F frames, D latent size.
"""

from __future__ import annotations

import torch
from multiway_blocks.diffusion import CosineSchedule, DiffusionHead
from multiway_blocks.gated_decoder import GatedDecoder
from multiway_blocks.linear import Linear
from multiway_core.generation import StaticKVCache
from torch import Tensor, nn

from multiway_speech.language_model import Connector, LanguageModelConfig
from multiway_speech.speech_tokenizer.model import AcousticTokenizer
from multiway_speech.vibevoice_realtime.config import VibeVoiceRealtimeConfig

SPEECH, TEXT = 0, 1  # rows of the type embedding


class EndClassifier(nn.Module):
    """Whether the speech ends behind a position: a logit."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.input = Linear(hidden_size, hidden_size)
        self.output = Linear(hidden_size, 1)

    def forward(self, hidden_BE: Tensor) -> Tensor:
        """(B, E) -> (B,)."""
        return self.output(nn.functional.relu(self.input(hidden_BE)))[:, 0]


class VibeVoiceRealtime(nn.Module):
    """The whole network."""

    latent_scale: Tensor
    latent_bias: Tensor

    def __init__(self, config: VibeVoiceRealtimeConfig) -> None:
        super().__init__()
        self.config = config
        text, hidden_size, latent_size = config.text, config.text.hidden_size, config.acoustic.latent_size
        self.embedding = nn.Embedding(text.vocab_size, hidden_size)
        self.lower = _decoder(text, text.num_layers - config.num_upper_layers, final_norm=False)
        self.upper = _decoder(text, config.num_upper_layers, final_norm=True)
        self.types = nn.Embedding(2, hidden_size)
        self.acoustic = AcousticTokenizer(config.acoustic)
        self.acoustic_connector = Connector(latent_size, hidden_size)
        self.head = DiffusionHead(
            latent_size,
            hidden_size,
            config.head.num_layers,
            config.head.inner_size,
            frequency_size=config.head.frequency_size,
            max_period=config.head.max_period,
            eps=config.head.norm_eps,
        )
        self.end = EndClassifier(hidden_size)
        self.schedule = CosineSchedule(config.head.num_training_steps)
        self.register_buffer("latent_scale", torch.tensor(1.0))
        self.register_buffer("latent_bias", torch.tensor(0.0))

    def denormalize(self, latents: Tensor) -> Tensor:
        """Latents of the head -> raw ones of the acoustic tokenizer."""
        return latents / self.latent_scale - self.latent_bias

    def read(self, tokens_1T: Tensor, lower: StaticKVCache, upper: StaticKVCache) -> Tensor:
        """Read text behind what both caches hold: hidden states (B, T, E) of the upper layers, for all their rows."""
        valid_1T = torch.ones_like(tokens_1T, dtype=torch.bool)
        read_1TE = self.lower(self.embedding(tokens_1T), valid_1T, lower) + self.types.weight[TEXT]
        rows = upper.batch_size
        return self.upper(read_1TE.expand(rows, -1, -1), valid_1T.expand(rows, -1), upper)

    def hear(self, latents_BFD: Tensor, upper: StaticKVCache) -> Tensor:
        """Hear normalized latents behind what the cache holds: hidden states (B, F, E) of the upper layers."""
        x_BFE = self.acoustic_connector(latents_BFD) + self.types.weight[SPEECH]
        return self.upper(x_BFE, torch.ones(x_BFE.shape[:2], dtype=torch.bool, device=x_BFE.device), upper)


def _decoder(config: LanguageModelConfig, num_layers: int, *, final_norm: bool) -> GatedDecoder:
    return GatedDecoder(
        hidden_size=config.hidden_size,
        num_layers=num_layers,
        num_heads=config.num_heads,
        num_kv_heads=config.num_kv_heads,
        inner_size=config.inner_size,
        head_dim=config.head_dim,
        rope_theta=config.rope_theta,
        eps=config.norm_eps,
        final_norm=final_norm,
    )
