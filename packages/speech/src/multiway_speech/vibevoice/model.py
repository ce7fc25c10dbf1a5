"""VibeVoice: script and voices -> language model -> a latent a step by diffusion -> sound (arXiv 2508.19205, figure 2).

    tokens, voice latents -> LanguageModel -> hidden state -> DiffusionHead -> latent -> acoustic decoder -> waveform
                                  ^                                             |                              |
                                  +---- acoustic connector + semantic connector <--- semantic encoder <--------+

Shape suffixes: B batch, T tokens, E hidden size, V vocabulary, F frames, D latent size, N frames of all rows.
"""

from __future__ import annotations

import torch
from multiway_blocks.diffusion import CosineSchedule, DiffusionHead
from torch import Tensor, nn

from multiway_speech.language_model import Connector, LanguageModel
from multiway_speech.speech_tokenizer.model import AcousticTokenizer, new_encoder
from multiway_speech.vibevoice.config import VibeVoiceConfig


class PhoneContext(nn.Module):
    """Phones that know what stands around them: ``x + W2 * gelu(W1 * x)``, two convolutions over five phones each."""

    def __init__(self, hidden_size: int, kernel_size: int = 5) -> None:
        super().__init__()
        self.input = nn.Conv1d(hidden_size, hidden_size, kernel_size, padding="same")
        self.output = nn.Conv1d(hidden_size, hidden_size, kernel_size, padding="same")

    def forward(self, x_BTE: Tensor) -> Tensor:
        """(B, T, E) -> (B, T, E)."""
        inner_BET = nn.functional.gelu(self.input(x_BTE.transpose(1, 2)))
        return x_BTE + self.output(inner_BET).transpose(1, 2)


class VibeVoice(nn.Module):
    """The whole network. Latents are *raw* at the acoustic tokenizer and *normalized* at head and connector."""

    latent_scale: Tensor
    latent_bias: Tensor

    def __init__(self, config: VibeVoiceConfig) -> None:
        super().__init__()
        self.config = config
        hidden_size, latent_size = config.text.hidden_size, config.acoustic.latent_size
        self.language_model = LanguageModel(config.text)
        self.acoustic = AcousticTokenizer(config.acoustic)
        self.acoustic_connector = Connector(latent_size, hidden_size)
        if config.semantic is not None:
            self.semantic = new_encoder(config.semantic)
            self.semantic_connector = Connector(config.semantic.latent_size, hidden_size)
        if config.reads_along:
            self.neighbours = PhoneContext(hidden_size)
        self.head = DiffusionHead(
            latent_size,
            hidden_size,
            config.head.num_layers,
            config.head.inner_size,
            frequency_size=config.head.frequency_size,
            max_period=config.head.max_period,
            eps=config.head.norm_eps,
        )
        self.schedule = CosineSchedule(config.head.num_training_steps)
        # Statistics of the training data's latents, kept in the checkpoint.
        self.register_buffer("latent_scale", torch.tensor(1.0))
        self.register_buffer("latent_bias", torch.tensor(0.0))

    def normalize(self, latents: Tensor) -> Tensor:
        """Raw latents -> about zero mean and unit variance; the same shape."""
        return (latents + self.latent_bias) * self.latent_scale

    def denormalize(self, latents: Tensor) -> Tensor:
        """The inverse of :meth:`normalize`."""
        return latents / self.latent_scale - self.latent_bias

    def embed_prompt(self, tokens_BT: Tensor, voices_ND: Tensor | None = None) -> Tensor:
        """Inputs (B, T, E); the frame tokens, row by row, stand for ``voices``: raw latents (N, D) of all prompts.

        Voices enter through the acoustic connector alone. Raises :class:`InputError` if the numbers differ.
        """
        frames_NE = None
        if voices_ND is not None:
            frames_NE = self.acoustic_connector(self.normalize(voices_ND))
        return self.language_model.embed(tokens_BT, tokens_BT == self.config.tokens.frame, frames_NE)

    def embed_phones(self, tokens_BT: Tensor) -> Tensor:
        """Inputs (B, T, E) of a script's phones as they are written while it is spoken; see ``reading``."""
        return self.neighbours(self.language_model.embedding(tokens_BT))

    def forward(self, tokens_BT: Tensor, valid_BT: Tensor, voices_ND: Tensor | None = None) -> Tensor:
        """Logits (B, T, V) of a whole sequence; see :meth:`embed_prompt`."""
        hidden_BTE = self.language_model.decoder(self.embed_prompt(tokens_BT, voices_ND), valid_BT)
        return self.language_model.logits(hidden_BTE)
