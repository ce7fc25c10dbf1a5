"""VibeVoice-ASR: both speech encoders -> frames in the prompt of a language model, which writes the transcript.

arXiv 2601.18184, section 2.2. An hour is encoded piece by piece with exact results, and read in one pass.

Shape suffixes: B batch, T samples or tokens, F frames, E hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from multiway_blocks.causal_conv import StreamState
from multiway_blocks.vae import sample_latents
from torch import Tensor, nn

from multiway_speech.language_model import Connector, LanguageModel
from multiway_speech.speech_tokenizer.model import new_encoder
from multiway_speech.vibevoice_asr.config import VibeVoiceAsrConfig
from multiway_speech.vibevoice_asr.speaker_encoder import SpeakerEncoder, VoiceColumns
from multiway_speech.vibevoice_asr.whisper import Whisper, WhisperStream, Word
from multiway_speech.vibevoice_asr.word_tokens import WordConnector


class VibeVoiceAsr(nn.Module):
    """The whole network."""

    def __init__(self, config: VibeVoiceAsrConfig) -> None:
        super().__init__()
        self.config = config
        self.acoustic = new_encoder(config.acoustic)
        self.semantic = Whisper(config.whisper) if config.whisper else new_encoder(config.semantic)
        size = config.text.hidden_size
        self.acoustic_connector = Connector(config.acoustic.latent_size * config.stacked, size)
        self.semantic_connector = (
            WordConnector(size)
            if config.whisper
            else Connector(config.semantic.latent_size * config.stacked, size)
        )
        self.language_model = LanguageModel(config.text)
        self.speaker = SpeakerEncoder(config.speaker) if config.speaker else None

    @torch.no_grad()
    def hear(
        self,
        pieces: Iterable[Tensor],
        *,
        generator: torch.Generator | None = None,
        place: Callable[[Sequence[Word], int], Tensor] | None = None,
        voices: VoiceColumns | None = None,
        context: str = "",
    ) -> Tensor:
        """Inputs (B, F, E) of the language model for waveforms that come in pieces (B, 1, T') of any length.

        Silence fills the last position. Without a ``generator`` the latents are the encoder's means and the result is
        always the same; with one they carry the sigma-VAE's noise, as in training. There must be at least one sample.

        A model with Whisper hears one waveform at a time, and ``place`` gives tokens (F, K) for its words and the
        number of positions; what is known before, ``context``, stands before its transcript. ``voices`` takes the
        same audio for speaker clustering.
        """
        acoustic: list[Tensor] = []
        semantic: list[Tensor] = []
        state: StreamState | None = None
        whisper = WhisperStream(self.semantic, context) if isinstance(self.semantic, Whisper) else None
        samples = 0
        for piece_B1T in pieces:
            state = state or StreamState(len(piece_B1T))
            samples += piece_B1T.shape[-1]
            acoustic.append(self.acoustic(piece_B1T, state))
            if voices is not None:
                voices.feed(piece_B1T[0, 0])
            if whisper is None:
                semantic.append(self.semantic(piece_B1T, state))
            else:
                whisper.feed(piece_B1T[0, 0])
        missing = -samples % self.config.hop
        rest = missing + getattr(self.acoustic, "lookahead", 0)
        if rest:
            silence_B1T = piece_B1T.new_zeros(*piece_B1T.shape[:-1], rest)
            acoustic.append(self.acoustic(silence_B1T, state))
            if whisper is None and missing:
                semantic.append(self.semantic(silence_B1T[..., :missing], state))
        latents_BFD = torch.cat(acoustic, dim=1)
        if generator is not None:
            latents_BFD = sample_latents(latents_BFD, self.config.acoustic.noise_std, generator)
        acoustic_BFE = self.acoustic_connector(self._stacked(latents_BFD))
        if whisper is None:
            return acoustic_BFE + self.semantic_connector(self._stacked(torch.cat(semantic, dim=1)))
        assert place is not None
        words_FK = place(whisper.finish(), acoustic_BFE.shape[1]).to(acoustic_BFE.device)
        return acoustic_BFE + self.semantic_connector(self.language_model.embedding(words_FK))

    def _stacked(self, frames_BFD: Tensor) -> Tensor:
        return frames_BFD.unflatten(1, (-1, self.config.stacked)).flatten(2)

    def embed_prompt(self, tokens_BT: Tensor, frames_NE: Tensor) -> Tensor:
        """Inputs (B, T, E) of prompts whose frame tokens, row by row, stand for ``frames`` (N, E).

        Raises :class:`InputError` if the numbers differ.
        """
        return self.language_model.embed(tokens_BT, tokens_BT == self.config.tokens.frame, frames_NE)

    def forward(self, tokens_BT: Tensor, valid_BT: Tensor, frames_NE: Tensor) -> Tensor:
        """Logits (B, T, V) of a whole sequence."""
        hidden_BTE = self.language_model.decoder(self.embed_prompt(tokens_BT, frames_NE), valid_BT)
        return self.language_model.logits(hidden_BTE)
