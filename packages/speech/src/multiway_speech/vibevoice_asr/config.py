"""Sizes of VibeVoice-ASR and its presets (arXiv 2601.18184, section 2)."""

from __future__ import annotations

from dataclasses import dataclass, field

from multiway_speech.language_model import LanguageModelConfig
from multiway_speech.speech_tokenizer.config import ACOUSTIC, SEMANTIC, SpeechTokenizerConfig
from multiway_speech.vibevoice_asr.speaker_encoder import SpeakerEncoderConfig
from multiway_speech.vibevoice_asr.whisper_encoder import WhisperConfig


@dataclass(frozen=True)
class AsrTokens:
    """Ids of the tokens of a transcription's prompt; Qwen2.5's object and box tokens stand for speech."""

    start: int = 151_646
    end: int = 151_647
    frame: int = 151_648
    """Its embedding is replaced by that of a frame of sound."""
    turn_start: int = 151_644
    turn_end: int = 151_645
    eos: int = 151_643


@dataclass(frozen=True)
class VibeVoiceAsrConfig:
    """The whole model."""

    acoustic: SpeechTokenizerConfig = ACOUSTIC
    semantic: SpeechTokenizerConfig = SEMANTIC
    text: LanguageModelConfig = field(default_factory=LanguageModelConfig)
    tokens: AsrTokens = field(default_factory=AsrTokens)
    whisper: WhisperConfig | None = None
    """If given, Whisper stands in the place of the semantic tokenizer: its words, where they are said, are added to the
    acoustic frames. No published model has that."""
    speaker: SpeakerEncoderConfig | None = None
    """If given, speakers are assigned by clustering this encoder's embeddings; else by the language model alone."""
    stacked: int = 1
    """Frames of sound that stand at one position of the language model; one in the published models."""

    def __post_init__(self) -> None:
        if self.whisper is None and self.acoustic.hop != self.semantic.hop:
            raise ValueError(
                f"acoustic frames are {self.acoustic.hop} samples and semantic ones {self.semantic.hop}; "
                "they must be equal"
            )
        if self.whisper is not None and self.whisper.sample_rate != self.acoustic.sample_rate:
            raise ValueError(
                f"Whisper hears {self.whisper.sample_rate} Hz and the acoustic tokenizer "
                f"{self.acoustic.sample_rate} Hz; they must be equal"
            )

        if self.speaker is not None and self.speaker.sample_rate != self.acoustic.sample_rate:
            raise ValueError(
                f"the speaker encoder hears {self.speaker.sample_rate} Hz and the acoustic tokenizer "
                f"{self.acoustic.sample_rate} Hz; they must be equal"
            )

    @property
    def hop(self) -> int:
        """Samples at one position of the language model."""
        return self.acoustic.hop * self.stacked

    def num_positions(self, num_samples: int) -> int:
        """Positions for so many samples, the last one partial."""
        return -(-num_samples // self.hop)


VIBEVOICE_ASR = VibeVoiceAsrConfig(
    text=LanguageModelConfig(
        hidden_size=3584,
        num_heads=28,
        num_kv_heads=4,
        inner_size=18_944,
        vocab_size=152_064,
        max_positions=131_072,
        tied=False,
    )
)
"""``microsoft/VibeVoice-ASR``."""

PRESETS = {"vibevoice-asr": VIBEVOICE_ASR}
