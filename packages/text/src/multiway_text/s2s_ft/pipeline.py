"""Texts to titles, passages to questions, texts to summaries: the one path of command, demo, server and evaluation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import torch
from multiway_core import hub
from multiway_core.errors import InputError
from multiway_core.tokenization import TextTokenizer

from multiway_text.encoder import checkpoint
from multiway_text.encoder.heads import MaskedLM
from multiway_text.s2s_ft import windows
from multiway_text.s2s_ft.config import Seq2SeqConfig
from multiway_text.s2s_ft.result import Question, Section, Summary, SummarySentence, Title
from multiway_text.s2s_ft.windows import Span
from multiway_text.seq2seq.decode import Decoding, Writer
from multiway_text.seq2seq.rules import LengthPenalty
from multiway_text.seq2seq.surface import Spelling

DECODING = Decoding(num_beams=5, penalty=LengthPenalty("power", 1.0))
_SCORED_AT_ONCE = 32


class SummarizationPipeline:
    """A fine-tuned encoder at work; see :class:`~multiway_text.s2s_ft.config.Seq2SeqConfig` for its prompts."""

    def __init__(self, model: MaskedLM, config: Seq2SeqConfig, tokenizer: TextTokenizer) -> None:
        self.writer, self.tokenizer, self.config = Writer(model, config, tokenizer), tokenizer, config

    @classmethod
    def from_pretrained(
        cls,
        name: str = "bundled:title-question",
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
    ) -> SummarizationPipeline:
        """The pipeline of a folder that ``train`` wrote, of ``bundled:NAME`` or a hub id.

        Raises ModelNotFoundError, ConfigError, CheckpointError (among others: the model was not fine-tuned to write).
        """
        folder = hub.resolve(name)
        config = Seq2SeqConfig.of_folder(folder)
        model, _ = checkpoint.load(folder, MaskedLM, dtype=dtype or torch.float32, device=device)
        assert isinstance(model, MaskedLM)
        return cls(model, config, TextTokenizer.from_folder(folder))

    def title(self, text: str, decoding: Decoding = DECODING) -> Title:
        """A title. A text longer than a window gets one for each, and that whose words most of them share as its own.

        Raises InputError for an empty text.
        """
        return self.titles([text], decoding)[0]

    def titles(
        self,
        texts: Sequence[str],
        decoding: Decoding = DECODING,
        *,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> list[Title]:
        """Titles of many texts, whose windows share batches."""
        parts = [self._windows(text, "title") for text in texts]
        sources = [
            text[part.start : part.end]
            for text, of_text in zip(texts, parts, strict=True)
            for part in of_text
        ]
        prompts = [self._prompt("title", text=source) for source in sources]
        written = iter(self._write(prompts, sources, decoding, on_progress))
        found = []
        for of_text in parts:
            sections = tuple(Section(part.start, part.end, *next(written)) for part in of_text)
            found.append(Title(shared_title(sections), sections))
        return found

    def ask(
        self, passage: str, answer: str = "", decoding: Decoding = DECODING, *, start: int | None = None
    ) -> Question:
        """A question that ``answer`` answers; without an answer, one about the passage's first sentences.

        A long passage is read around the answer: its sentences and as many more as the model holds. ``start``: where
        in the passage the answer stands; its first occurrence by default. Raises InputError for an empty passage, an
        answer that is not in it, and a model that was not taught to ask.
        """
        return self.questions([(passage, answer, start)], decoding)[0]

    def questions(
        self,
        items: Sequence[tuple[str, str, int | None]],
        decoding: Decoding = DECODING,
        *,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> list[Question]:
        """Questions for many (passage, answer, start)."""
        if "question" not in self.config.prompts:
            raise InputError("this model was not taught to ask questions; bundled:title-question was")
        spans = [self._context(*item) for item in items]
        sources = [passage[span.start : span.end] for (passage, *_), span in zip(items, spans, strict=True)]
        prompts = [
            self._prompt("question", text=source, answer=answer)
            for source, (_, answer, _) in zip(sources, items, strict=True)
        ]
        written = self._write(prompts, sources, decoding, on_progress)
        return [
            Question(question, answer, span.start, span.end, score)
            for (question, score), (_, answer, _), span in zip(written, items, spans, strict=True)
        ]

    def summarize(self, text: str, num_sentences: int = 3, decoding: Decoding = DECODING) -> Summary:
        """The sentences of the text from which its title can best be told, in their order, and the title.

        The sentences are the text's own; only the title is generated. Raises InputError for an empty text.
        """
        if num_sentences < 1:
            raise InputError(f"a summary needs at least 1 sentence, not {num_sentences}")
        title = self.title(text, decoding).title
        parts = windows.sentences(text)
        scores = self.support(title, [text[part.start : part.end] for part in parts])
        best = sorted(sorted(range(len(parts)), key=lambda i: (-scores[i], i))[:num_sentences])
        chosen = (
            SummarySentence(text[parts[i].start : parts[i].end], parts[i].start, parts[i].end, scores[i])
            for i in best
        )
        return Summary(title, tuple(chosen))

    def support(self, title: str, texts: Sequence[str]) -> list[float]:
        """Mean log-probability of a token of the title behind each text; of the best window for a long one."""
        target = self.tokenizer.encode(title)
        rows, owners = [], []
        for owner, text in enumerate(texts):
            for part in self._windows(text, "title"):
                rows.append(self.tokenizer.encode(self._prompt("title", text=text[part.start : part.end])))
                owners.append(owner)
        best = [-float("inf")] * len(texts)
        for start in range(0, len(rows), _SCORED_AT_ONCE):
            scores = self.writer.log_probs(rows[start : start + _SCORED_AT_ONCE], target)
            for owner, score in zip(owners[start:], scores, strict=False):
                best[owner] = max(best[owner], score)
        return best

    def _prompt(self, task: str, *, text: str, answer: str = "") -> str:
        # Not str.format: the text may hold braces.
        form = self.config.prompts.get(task, "{text}")
        return form.replace("{answer}", answer).replace("{text}", " ".join(text.split()))

    def _count(self, text: str) -> int:
        return len(self.tokenizer.encode(text))

    def _room(self, task: str, answer: str = "") -> int:
        room = self.writer.max_source - self._count(self._prompt(task, text="", answer=answer))
        if room < 8:
            raise InputError(
                f"the answer is too long: {self._count(answer)} tokens leave no room for the passage"
            )
        return room

    def _windows(self, text: str, task: str) -> list[Span]:
        room = self._room(task)
        whole = text.strip()
        if whole and self._count(text) <= room:
            start = text.index(whole)
            return [Span(start, start + len(whole))]
        return windows.windows(text, windows.sentences(text), room, self._count)

    def _context(self, passage: str, answer: str, start: int | None) -> Span:
        """What is read of a passage."""
        place = passage.find(answer) if start is None else start
        if place < 0 or passage[place : place + len(answer)] != answer:
            raise InputError(f"the answer {answer!r} does not stand in the passage; copy it from there")
        room, parts = self._room("question", answer), windows.sentences(passage)
        if not answer:
            return windows.windows(passage, parts, room, self._count)[0]
        holding = [part for part in parts if part.start < place + len(answer) and place < part.end]
        if not holding:
            raise InputError("the answer is only space")
        if self._count(passage[holding[0].start : holding[-1].end]) > room:
            # One sentence alone is too long: the piece of it that holds the answer.
            pieces = windows.windows(passage, holding, room, self._count)
            return next(piece for piece in pieces if place < piece.end)
        return windows.around(parts, place, place + len(answer), min(room, 70), passage, self._count)

    def _write(
        self,
        prompts: Sequence[str],
        sources: Sequence[str],
        decoding: Decoding,
        on_progress: Callable[[int, int], None] | None,
    ) -> list[tuple[str, float]]:
        """(text, mean log-probability) of the target of each prompt, spelt as its source is."""
        ids = [self.tokenizer.encode(prompt) for prompt in prompts]
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        found: dict[int, tuple[str, float]] = {}
        for begin in range(0, len(order), decoding.batch_size):
            rows = order[begin : begin + decoding.batch_size]
            output = self.writer.write([ids[i] for i in rows], decoding)
            for i, tokens, log_probs in zip(rows, output.tokens, output.log_probs, strict=True):
                text = Spelling(self.tokenizer, sources[i]).write(tokens.tolist())
                found[i] = text, float(log_probs.mean()) if len(log_probs) else 0.0
            if on_progress is not None:
                on_progress(len(found), len(order))
        return [found[i] for i in range(len(ids))]


def shared_title(sections: Sequence[Section]) -> str:
    """The title whose words most of the sections' titles have, per word; of equals the first."""
    words = [set(section.title.lower().split()) for section in sections]
    counts = Counter(word for of_title in words for word in of_title)
    scores = [sum(counts[word] for word in of_title) / max(1, len(of_title)) for of_title in words]
    return sections[scores.index(max(scores))].title
