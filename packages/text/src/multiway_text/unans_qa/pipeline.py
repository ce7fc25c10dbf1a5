"""Answerable questions to unanswerable twins with a trained generator: the one path of command and Python users.

Shape suffixes: B questions, N beams of all questions, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from multiway_core import hub, model_folder
from multiway_core.errors import InputError
from multiway_core.generation import GenerationConfig, beam_search
from multiway_core.generation.beam import BeamRow, Node
from multiway_core.generation.output import StopReason
from multiway_core.tokenization import TextTokenizer
from torch import Tensor

from multiway_text.seq2seq.surface import Spelling
from multiway_text.unans_qa.config import UnansQaConfig
from multiway_text.unans_qa.model import Memory, QuestionGenerator, State
from multiway_text.unans_qa.pairs import Answerable, Rows, collate, encode

Progress = Callable[[int, int], None]


class DecoderCache:
    """What a beam search carries along: the decoder's state, and the sources, which the beams of a text share."""

    def __init__(self, memories: list[Memory], state: State) -> None:
        self.memories, self.state = memories, state
        self.text_N = torch.arange(self.batch_size)

    @property
    def batch_size(self) -> int:
        """Rows: texts at first, then beams."""
        return self.state.hidden.shape[1]

    def require(self, tokens: int) -> None:
        """An LSTM has room for any number."""

    def select(self, rows: Tensor) -> None:
        """Make row i what row ``rows[i]`` was; sources are moved only where a row gets another text."""
        text_N = self.text_N[rows]
        rows = rows.to(self.state.hidden.device)
        self.state = State(*(part[:, rows] for part in self.state))
        if not torch.equal(text_N, self.text_N):
            self.text_N = text_N
            self.memories = [Memory(*(part[rows] for part in memory)) for memory in self.memories]


class TwinRow(BeamRow):
    """The search of one twin, in which a copy of the question never ends."""

    def __init__(self, num_beams: int, length_penalty: float, question: Sequence[int]) -> None:
        super().__init__(num_beams, length_penalty)
        self.question = list(question)

    def finish(self, score: float, length: int, reason: StopReason, node: Node | None) -> None:
        """As in `BeamRow`, unless it says what the question says."""
        ids, last = [], node
        while last is not None:
            ids.append(last.token)
            last = last.before
        if ids[::-1] != self.question:
            super().finish(score, length, reason, node)


class UnansQaPipeline:
    """A generator at work.

    Args:
        num_beams: hypotheses of a twin.
        copies: whether a twin may be its question, as in the paper; otherwise the best that is another one is taken.
        batch_size: questions side by side.
    """

    def __init__(
        self,
        model: QuestionGenerator,
        tokenizer: TextTokenizer,
        *,
        num_beams: int = 5,
        copies: bool = False,
        batch_size: int = 32,
    ) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.num_beams, self.copies, self.batch_size = num_beams, copies, batch_size
        frame = {model.config.end_id}
        self.forbidden = torch.tensor(sorted(set(tokenizer.special.values()) - frame))

    @classmethod
    def from_pretrained(
        cls, name: str, *, device: torch.device | str = "cpu", dtype: torch.dtype | None = None
    ) -> UnansQaPipeline:
        """The pipeline of a folder that training wrote. Raises ModelNotFoundError, ConfigError, CheckpointError."""
        folder = hub.resolve(name)
        model = model_folder.load(
            QuestionGenerator, UnansQaConfig, folder, dtype=dtype or torch.float32, device=device
        )
        return cls(model, TextTokenizer.from_folder(folder))

    def twins(self, questions: Sequence[Answerable], on_progress: Progress | None = None) -> list[str]:
        """A twin of each question, spelt as its context is.

        A question with more than ``max_question`` pieces gets "". Raises InputError: an answer without text.
        """
        longest = self.model.config.max_question
        ids = [self.tokenizer.encode(one.question) for one in questions]
        order = [i for i in range(len(ids)) if 0 < len(ids[i]) <= longest]
        rows = dict(
            zip(order, encode([questions[i] for i in order], self.tokenizer, self.model.config), strict=True)
        )
        order.sort(key=lambda i: len(rows[i].sources[0][0]))
        found: dict[int, str] = {}
        for start in range(0, len(order), self.batch_size):
            chosen = order[start : start + self.batch_size]
            twins = self._search([rows[i] for i in chosen], [ids[i] for i in chosen])
            for i, twin in zip(chosen, twins, strict=True):
                source = f"{questions[i].context}\n{questions[i].question}"
                found[i] = Spelling(self.tokenizer, source).write(twin)
            if on_progress is not None:
                on_progress(len(found), len(order))
        return [found.get(i, "") for i in range(len(questions))]

    @torch.inference_mode()
    def _search(self, rows: Sequence[Rows], questions: Sequence[Sequence[int]]) -> list[list[int]]:
        config = self.model.config
        device = self.model.output_bias.device
        sources = [
            type(source)(*(part.to(device) for part in source)) for source in collate(rows, config).sources
        ]
        cache = DecoderCache(*self.model.read(sources))

        def step(tokens_N1: Tensor, cache: DecoderCache) -> Tensor:
            mixture, cache.state = self.model.decode(tokens_N1, cache.state, cache.memories)
            return mixture.log_probs(cache.memories)[:, -1]

        def allowed(_: Tensor, log_probs_NV: Tensor) -> Tensor:
            return log_probs_NV.index_fill(1, self.forbidden.to(device), -torch.inf)

        begin_B1 = torch.full((len(rows), 1), config.begin_id, device=device)
        generation = GenerationConfig(
            config.max_target, (config.end_id,), config.pad_id, num_beams=self.num_beams
        )
        penalty, asked = generation.length_penalty, iter(questions)
        output = beam_search(
            step,
            step(begin_B1, cache),
            cache,
            generation,
            [allowed],
            new_row=None if self.copies else lambda: TwinRow(self.num_beams, penalty, next(asked)),
        )
        return [tokens.tolist() for tokens in output.tokens]


def save(model: QuestionGenerator, tokenizer: TextTokenizer, folder: Path) -> None:
    """Write the weights in bfloat16, the sizes and the tokenizer. Raises OutputError."""
    model_folder.save(model, model.config, folder, dtype=torch.bfloat16)
    tokenizer.save(folder)


def sized(config: UnansQaConfig, tokenizer: TextTokenizer) -> UnansQaConfig:
    """The config with a tokenizer's numbers. Raises InputError for one that frames no text as BERT's does."""
    frame = tokenizer.engine.frame
    if len(frame.prefix) != 1 or len(frame.suffix) != 1:
        raise InputError(f"a generator needs a tokenizer with [CLS] and [SEP]; this is {tokenizer.kind}")
    return replace(
        config,
        vocab_size=tokenizer.vocab_size,
        pad_id=tokenizer.pad_id,
        begin_id=frame.prefix[0],
        end_id=frame.suffix[0],
    )
