"""VibeVoice-ASR: both speech encoders -> frames in the prompt of a language model, which writes the transcript.

arXiv 2601.18184, section 2.2. An hour is encoded piece by piece with exact results, and read in one pass.

Shape suffixes: B batch, T samples or tokens, F frames, E hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from multiway_blocks.causal_conv import StreamState
from multiway_blocks.vae import sample_latents
from torch import Tensor, nn

from multiway_speech.language_model import Connector, LanguageModel
from multiway_speech.speech_tokenizer.model import new_encoder
from multiway_speech.vibevoice_asr.config import VibeVoiceAsrConfig
from multiway_speech.vibevoice_asr.whisper_encoder import WhisperEncoder, WhisperStream


class VibeVoiceAsr(nn.Module):
    """The whole network."""

    def __init__(self, config: VibeVoiceAsrConfig) -> None:
        super().__init__()
        self.config = config
        self.acoustic = new_encoder(config.acoustic)
        self.semantic = WhisperEncoder(config.whisper) if config.whisper else new_encoder(config.semantic)
        sizes = (config.acoustic.latent_size * config.stacked, config.semantic_size * config.stacked)
        self.acoustic_connector = Connector(sizes[0], config.text.hidden_size)
        self.semantic_connector = Connector(sizes[1], config.text.hidden_size)
        self.language_model = LanguageModel(config.text)

    @torch.no_grad()
    def hear(self, pieces: Iterable[Tensor], *, generator: torch.Generator | None = None) -> Tensor:
        """Inputs (B, F, E) of the language model for waveforms that come in pieces (B, 1, T') of any length.

        Silence fills the last frame. Without a ``generator`` the latents are the encoder's means and the result is
        always the same; with one they carry the sigma-VAE's noise, as in training. There must be at least one sample.
        """
        latents_BFD, semantic_BFD = self.encode(pieces)
        if generator is not None:
            latents_BFD = sample_latents(latents_BFD, self.config.acoustic.noise_std, generator)
        return self.connect(latents_BFD, semantic_BFD)

    @torch.no_grad()
    def encode(self, pieces: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
        """Acoustic means (B, F, D) and semantic frames (B, F, D') of waveforms as :meth:`hear` takes them."""
        acoustic: list[Tensor] = []
        semantic: list[Tensor] = []
        state: StreamState | None = None
        whisper = WhisperStream(self.semantic) if isinstance(self.semantic, WhisperEncoder) else None
        samples = 0
        for piece_B1T in pieces:
            state = state or StreamState(len(piece_B1T))
            samples += piece_B1T.shape[-1]
            acoustic.append(self.acoustic(piece_B1T, state))
            semantic.append(self.semantic(piece_B1T, state) if whisper is None else whisper.feed(piece_B1T))
        missing = -samples % self.config.hop

        def silence(num_samples: int) -> Tensor:
            return piece_B1T.new_zeros(*piece_B1T.shape[:-1], num_samples)

        rest = missing + getattr(self.acoustic, "lookahead", 0)
        if rest:
            acoustic.append(self.acoustic(silence(rest), state))
        if whisper is not None:
            if missing:
                semantic.append(whisper.feed(silence(missing)))
            semantic.append(whisper.finish())
        elif missing:
            semantic.append(self.semantic(silence(missing), state))
        return torch.cat(acoustic, dim=1), torch.cat(semantic, dim=1)

    def connect(self, acoustic_BFD: Tensor, semantic_BFD: Tensor) -> Tensor:
        """Inputs (B, F', E) of the language model for encoded frames, of which ``stacked`` stand at one position."""
        shape = (-1, self.config.stacked)
        acoustic_BFD, semantic_BFD = (
            frames_BFD.unflatten(1, shape).flatten(2) for frames_BFD in (acoustic_BFD, semantic_BFD)
        )
        return self.acoustic_connector(acoustic_BFD) + self.semantic_connector(semantic_BFD)

    def embed_prompt(self, tokens_BT: Tensor, frames_NE: Tensor) -> Tensor:
        """Inputs (B, T, E) of prompts whose frame tokens, row by row, stand for ``frames`` (N, E).

        Raises :class:`InputError` if the numbers differ.
        """
        return self.language_model.embed(tokens_BT, tokens_BT == self.config.tokens.frame, frames_NE)

    def forward(self, tokens_BT: Tensor, valid_BT: Tensor, frames_NE: Tensor) -> Tensor:
        """Logits (B, T, V) of a whole sequence."""
        hidden_BTE = self.language_model(self.embed_prompt(tokens_BT, frames_NE), valid_BT)
        return self.language_model.logits(hidden_BTE)
