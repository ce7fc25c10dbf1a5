"""Sizes of VibeVoice and its presets (arXiv 2508.19205, section 2)."""

from __future__ import annotations

from dataclasses import dataclass, field

from multiway_speech.language_model import LanguageModelConfig
from multiway_speech.speech_tokenizer.config import (
    ACOUSTIC,
    SEMANTIC,
    TINY_25HZ,
    SpeechTokenizerConfig,
)


@dataclass(frozen=True)
class DiffusionHeadConfig:
    """The network that samples an acoustic latent from a hidden state of the language model."""

    num_layers: int = 4
    inner_size: int = 4608
    frequency_size: int = 256
    max_period: float = 10_000.0
    norm_eps: float = 1e-5
    num_training_steps: int = 1000
    """Length of the noise schedule, a squared cosine; the head predicts velocities."""


@dataclass(frozen=True)
class SpeechTokens:
    """Ids of the tokens that speech is written with; Qwen2.5's vision tokens play these roles."""

    start: int = 151_652
    end: int = 151_653
    frame: int = 151_654
    """Stands for one frame: in a prompt its embedding is replaced, when predicted a latent is sampled."""
    eos: int = 151_643


@dataclass(frozen=True)
class VibeVoiceConfig:
    """The whole model."""

    acoustic: SpeechTokenizerConfig = ACOUSTIC
    semantic: SpeechTokenizerConfig | None = SEMANTIC
    """None: what was spoken is heard as latents alone, as VibeVoice-Realtime does."""
    text: LanguageModelConfig = field(default_factory=LanguageModelConfig)
    head: DiffusionHeadConfig = field(default_factory=DiffusionHeadConfig)
    tokens: SpeechTokens = field(default_factory=SpeechTokens)
    codec: str = ""
    """The model whose acoustic tokenizer this one has, where it is not in its own files."""
    reads_along: bool = False
    """Whether the model is given the script while it speaks, phone by phone; see ``reading``. No published one is."""
    voices: tuple[str, ...] = ()
    """Of those that come with the model, which the first speakers of a script get: the clearest first."""

    def __post_init__(self) -> None:
        if self.semantic is not None and self.acoustic.hop != self.semantic.hop:
            raise ValueError(
                f"acoustic frames are {self.acoustic.hop} samples and semantic ones {self.semantic.hop}; "
                "they must be equal"
            )
        ids = (self.tokens.start, self.tokens.end, self.tokens.frame, self.tokens.eos)
        if len(set(ids)) < 4 or not all(0 <= i < self.text.vocab_size for i in ids):
            raise ValueError(f"the speech tokens {ids} are not four different ids of the vocabulary")


VIBEVOICE_1_5B = VibeVoiceConfig()
"""``microsoft/VibeVoice-1.5B``: 64K positions, about 90 minutes."""

VIBEVOICE_7B = VibeVoiceConfig(
    text=LanguageModelConfig(
        hidden_size=3584,
        num_heads=28,
        num_kv_heads=4,
        inner_size=18_944,
        vocab_size=152_064,
        max_positions=32_768,
        tied=False,
    ),
    head=DiffusionHeadConfig(inner_size=10_752),
)
"""VibeVoice-Large: 32K positions, about 45 minutes."""

TINY_TOKENS = SpeechTokens(start=1, end=2, frame=3, eos=0)

TINY = VibeVoiceConfig(
    acoustic=TINY_25HZ,
    semantic=None,
    text=LanguageModelConfig(
        hidden_size=256,
        num_layers=6,
        num_heads=4,
        num_kv_heads=2,
        inner_size=768,
        vocab_size=96,
        max_positions=2048,
        rope_theta=10_000.0,
    ),
    head=DiffusionHeadConfig(num_layers=3, inner_size=768),
    tokens=TINY_TOKENS,
    codec="bundled:codec-tiny",
    reads_along=True,
)
"""``bundled:tts-tiny``: 25 frames a second of 16 kHz sound; it reads phones."""

PRESETS = {"vibevoice-1.5b": VIBEVOICE_1_5B, "vibevoice-7b": VIBEVOICE_7B, "tiny": TINY}
