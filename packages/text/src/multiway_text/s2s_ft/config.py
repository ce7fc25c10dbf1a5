"""What a fine-tuned model must be told again at decoding; kept beside its weights in ``seq2seq.json``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from multiway_core import config
from multiway_core.errors import CheckpointError, ConfigError

Method = Literal["causal", "masked", "pseudo_masked"]
FILE = "seq2seq.json"


@dataclass(frozen=True)
class Seq2SeqConfig:
    """How pairs are laid out.

    Attributes:
        method: "causal" (s2s-ft's v0), "masked" (v1, as UniLM) or "pseudo_masked" (v2).
        max_source, max_target: tokens, special ones included; longer sides are cut at their ends.
        source_type, target_type: token types; UniLM v1 files want 4 and 5.
        prompts: how a task's source is made, with ``{text}`` and ``{answer}``: "title" (the text alone where it is
            missing) and "question".
    """

    method: Method = "pseudo_masked"
    max_source: int = 464
    max_target: int = 48
    source_type: int = 0
    target_type: int = 1
    prompts: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.max_source < 3 or self.max_target < 2:
            raise ConfigError(
                f"max_source must be at least 3 and max_target at least 2, not {self.max_source} and {self.max_target}"
            )

    def save(self, folder: Path) -> None:
        """Write ``seq2seq.json``. Raises OutputError."""
        config.save(self, folder / FILE)

    @classmethod
    def of_folder(cls, folder: Path) -> Seq2SeqConfig:
        """That of a model folder. Raises CheckpointError where the model was not fine-tuned to write, ConfigError."""
        if not (folder / FILE).is_file():
            raise CheckpointError(
                f"{folder}: no {FILE}: this model was not fine-tuned to write; train one from it with --init-from"
            )
        return config.load(cls, folder / FILE)
