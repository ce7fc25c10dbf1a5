"""The sizes of a network, the languages in the order of their embeddings, and what is frozen when."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from multiway_core import config
from multiway_core.errors import CheckpointError, ConfigError, InputError

FILE = "xnlg.json"
EOS, PAD, UNK, MASK = 1, 2, 3, 5
"""XLM's ids: ``</s>`` begins and ends every sequence; the mask is ``<special1>``."""
SPECIAL = ("<s>", "</s>", "<pad>", "<unk>", *(f"<special{index}>" for index in range(10)))
XNLI_15 = ("ar", "bg", "de", "el", "en", "es", "fr", "hi", "ru", "sw", "th", "tr", "ur", "vi", "zh")


@dataclass(frozen=True)
class XnlgConfig:
    """A network and how much it reads and writes.

    Attributes:
        languages: codes in the order of the language embeddings.
        encoder_layers, decoder_layers: of width ``hidden_size``.
        max_source, max_target: tokens of the two sides, ``</s>`` at both ends included.
    """

    languages: tuple[str, ...] = XNLI_15
    vocab_size: int = 95_000
    hidden_size: int = 1024
    encoder_layers: int = 10
    decoder_layers: int = 6
    num_heads: int = 8
    inner_size: int = 4096
    num_positions: int = 512
    norm_eps: float = 1e-12
    dropout: float = 0.1
    attention_dropout: float = 0.1
    max_source: int = 120
    max_target: int = 80

    def __post_init__(self) -> None:
        sizes = (self.vocab_size - MASK, self.hidden_size, self.encoder_layers, self.decoder_layers)
        if min(*sizes, self.num_heads, self.inner_size) < 1 or self.hidden_size % self.num_heads:
            raise ConfigError("XNLG: all sizes must be at least 1, and hidden_size divisible by num_heads")
        if not self.languages or len(set(self.languages)) < len(self.languages):
            raise ConfigError(f"XNLG: languages must be named once each, not {', '.join(self.languages)}")
        if not 3 <= max(self.max_source, self.max_target) <= self.num_positions:
            raise ConfigError(
                f"XNLG: max_source {self.max_source} and max_target {self.max_target} must fit "
                f"{self.num_positions} positions"
            )

    def language_id(self, language: str) -> int:
        """The row of a language's embedding. Raises InputError for one that the model does not have."""
        if language not in self.languages:
            raise InputError(
                f"the model has no language {language!r}; its languages are {', '.join(self.languages)}"
            )
        return self.languages.index(language)

    def save(self, folder: Path) -> None:
        """Write ``xnlg.json``. Raises OutputError."""
        config.save(self, folder / FILE)

    @classmethod
    def of_folder(cls, folder: Path) -> XnlgConfig:
        """That of a model folder. Raises CheckpointError, ConfigError."""
        if not (folder / FILE).is_file():
            raise CheckpointError(f"{folder}: no {FILE}: this is not an XNLG model")
        return config.load(cls, folder / FILE)


PRESETS = {
    "xnlg-10-6": XnlgConfig(),
    "xnlg-small": XnlgConfig(
        ("de", "en", "fr", "it"), 8192, 192, 3, 2, 4, 768, 192, max_source=96, max_target=40
    ),
    "smoke": XnlgConfig(("de", "en"), 600, 32, 2, 1, 2, 64, 64, max_source=40, max_target=40),
}
"""The published size (XLM's 15 languages), that of the study in small, and that of the smoke test."""
