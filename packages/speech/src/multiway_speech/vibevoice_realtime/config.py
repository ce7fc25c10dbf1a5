"""Sizes of VibeVoice-Realtime and its preset."""

from __future__ import annotations

from dataclasses import dataclass, field

from multiway_speech.language_model import LanguageModelConfig
from multiway_speech.speech_tokenizer.config import ACOUSTIC, SpeechTokenizerConfig
from multiway_speech.vibevoice.config import DiffusionHeadConfig

QWEN_0_5B = LanguageModelConfig(
    hidden_size=896, num_layers=24, num_heads=14, num_kv_heads=2, inner_size=4864, max_positions=8192
)


@dataclass(frozen=True)
class VibeVoiceRealtimeConfig:
    """The whole model: a language model split in a part for text alone and a part for text and speech."""

    acoustic: SpeechTokenizerConfig = ACOUSTIC
    text: LanguageModelConfig = QWEN_0_5B
    head: DiffusionHeadConfig = field(default_factory=lambda: DiffusionHeadConfig(inner_size=2688))
    num_upper_layers: int = 20
    """Layers of ``text`` that hear speech as well; those below read text only."""
    text_window: int = 5
    """Text tokens that are read before ..."""
    speech_window: int = 6
    """... so many frames are spoken."""

    def __post_init__(self) -> None:
        if not 0 < self.num_upper_layers < self.text.num_layers:
            raise ValueError(
                f"num_upper_layers must be 1 to {self.text.num_layers - 1}, not {self.num_upper_layers}"
            )
        if min(self.text_window, self.speech_window) < 1:
            raise ValueError("the windows must be at least 1")


VIBEVOICE_REALTIME_0_5B = VibeVoiceRealtimeConfig()
"""``microsoft/VibeVoice-Realtime-0.5B``."""

PRESETS = {"vibevoice-realtime-0.5b": VIBEVOICE_REALTIME_0_5B}
