"""The sizes of a generator, and how much it reads and writes; kept beside its weights in ``config.json``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from multiway_core.errors import ConfigError

Arch = Literal["pair2seq", "seq2seq"]


@dataclass(frozen=True)
class UnansQaConfig:
    """A generator of unanswerable questions.

    Attributes:
        arch: "pair2seq" reads context and question apart and compares them; "seq2seq" reads them as one text.
        embedding_size: of pieces; the output layer is tied to them.
        hidden_size: of an LSTM in one direction; the decoder's is twice that.
        pad_id, begin_id, end_id: ``[PAD]``, ``[CLS]``, ``[SEP]`` of the tokenizer.
        max_context: pieces around the answer that are read of a context.
        max_question, max_target: pieces of a question (a longer one is refused), and that a twin may have.
    """

    arch: Arch = "pair2seq"
    vocab_size: int = 30_000
    embedding_size: int = 300
    hidden_size: int = 150
    dropout: float = 0.3
    pad_id: int = 0
    begin_id: int = 2
    end_id: int = 3
    max_context: int = 400
    max_question: int = 64
    max_target: int = 48

    model_type: Literal["unans_qa"] = "unans_qa"

    def __post_init__(self) -> None:
        sizes = (
            self.embedding_size,
            self.hidden_size,
            self.max_context,
            self.max_question,
            self.max_target - 1,
        )
        if min(sizes) < 1 or not 0 <= self.dropout < 1:
            raise ConfigError("unans_qa: all sizes must be at least 1, and dropout from 0 to below 1")
        if (
            not 0
            <= min(self.pad_id, self.begin_id, self.end_id)
            <= max(self.pad_id, self.begin_id, self.end_id)
            < self.vocab_size
        ):
            raise ConfigError(f"unans_qa: special tokens must be below vocab_size {self.vocab_size}")
