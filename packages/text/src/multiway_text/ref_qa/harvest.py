"""Questions and answers from documents: a sentence is a statement, its entities are answers, its clause the question.

pipeline = HarvestPipeline.from_pretrained("en", HarvestSettings())
pairs = list(pipeline.harvest(read_sources(["notes"])))
print(pipeline.report.to_json())
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from multiway_core.errors import ConfigError

from multiway_text.data.squad import Answer, Question
from multiway_text.ref_qa.clauses import MIN_WORDS, Clause, pruned, shortest_clause
from multiway_text.ref_qa.pairs import Pair
from multiway_text.ref_qa.parser import load_parser
from multiway_text.ref_qa.questions import TYPES, Writer

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.tokens import Doc, Span

    from multiway_text.ref_qa.sources import Source

SCHEMA = "multiway.question-answering.harvest/1"
MAX_SENTENCE, MAX_ANSWER = 80, 12
"""Words; longer sentences are mostly lists and tables."""
PHRASE = "PHRASE"
"""The label of answers that are no entities."""
_BATCH = 16  # texts that are parsed together
_PRONOUNS = {"he", "she", "it", "they"}
_NOT_ASKED = {"PRON", "DET"}


@dataclass(frozen=True)
class HarvestSettings:
    """What is asked, of which text, and how.

    Attributes:
        style: of the question: the paper's ``reordered``, its baselines ``identity`` and ``noisy``, or ``natural``, the
            order of English questions.
        context: ``passage``: the sentence stays in its context, whose words the question then has; ``rest``: it is
            taken out, and the answer has to stand elsewhere, as in the paper; ``body``: the statements are those of the
            introduction (the first paragraph), the context is the paragraph behind it that shares most words.
        answers: ``entities`` as in the paper, or also the ``phrases`` of nouns.
        varied: more question words than the paper's.
        prune: the probability that a modifier of the clause is left out of the question.
        per_sentence: so many questions of a sentence at most, chosen by chance.
        passage_words: a context has about so many words at most.
    """

    style: Literal["reordered", "natural", "noisy", "identity"] = "reordered"
    context: Literal["passage", "rest", "body"] = "passage"
    answers: Literal["entities", "phrases"] = "entities"
    varied: bool = False
    prune: float = 0.0
    per_sentence: int = 3
    passage_words: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.prune <= 1:
            raise ConfigError(f"prune: expected a probability, got {self.prune}")
        if self.per_sentence < 1 or self.passage_words < 10:
            raise ConfigError("a sentence gives at least one question, and a passage has at least 10 words")


@dataclass
class HarvestReport:
    """How much was read and kept, and why the rest was dropped; counted while the questions are taken."""

    documents: int = 0
    sentences: int = 0
    kept: int = 0
    labels: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)

    def to_json(self) -> dict[str, Any]:
        """Schema ``multiway.question-answering.harvest/1``."""
        counts = {name: dict(getattr(self, name).most_common()) for name in ("labels", "dropped")}
        return {
            "schema": SCHEMA,
            "documents": self.documents,
            "sentences": self.sentences,
            "kept": self.kept,
            **counts,
        }


@dataclass(frozen=True)
class _Statement:
    """A sentence, the text that answers questions about it, and where the sentence begins in it (-1: it does not)."""

    sentence: Span
    context: str
    start: int = -1
    sentences: tuple[Span, ...] = ()


class HarvestPipeline:
    """A parser at work; ``report`` counts what the latest harvest did."""

    def __init__(self, nlp: Language, settings: HarvestSettings | None = None) -> None:
        self.nlp, self.settings = nlp, settings or HarvestSettings()
        self.write = Writer(self.settings.style, self.settings.varied, str(nlp.lang))
        self.report = HarvestReport()

    @classmethod
    def from_pretrained(cls, parser: str = "en", settings: HarvestSettings | None = None) -> HarvestPipeline:
        """By a language, or the name or folder of a spaCy pipeline. Raises InputError."""
        return cls(load_parser(parser), settings)

    def harvest(
        self, sources: Iterable[Source], on_progress: Callable[[int], None] | None = None
    ) -> Iterator[Pair]:
        """The questions of documents, in order; each source has random numbers of its own.

        ``on_progress`` is told how many questions there are."""
        self.report = HarvestReport()
        pairs = ((source.text, source) for source in _counted(sources, self.report))
        for doc, source in self.nlp.pipe(pairs, as_tuples=True, batch_size=_BATCH):
            # Two generators: what is asked does not depend on the style of the questions.
            random_, writing = (random.Random(f"{self.settings.seed} {source.name} {use}") for use in "cw")
            known: set[tuple[str, str]] = set()
            for statement in self._statements(doc, source):
                yield from self._questions(statement, source, random_, writing, known)
            if on_progress is not None:
                on_progress(self.report.kept)

    def _statements(self, doc: Doc, source: Source) -> Iterator[_Statement]:
        given = self.nlp(source.statement) if source.statement else None
        if given is not None:
            for sentence in given.sents:
                yield _Statement(sentence, doc.text, -1, tuple(doc.sents))
            return
        passages = list(_passages(doc, self.settings.passage_words))
        if self.settings.context == "body":
            for sentence in passages[0] if len(passages) > 1 else ():
                lemmas = _lemmas(sentence)
                body = max(
                    passages[1:], key=lambda some: len(lemmas & {x for one in some for x in _lemmas(one)})
                )
                yield _Statement(sentence, _text(body), -1, tuple(body))
            return
        for passage in passages:
            for number, sentence in enumerate(passage):
                if self.settings.context == "passage":
                    yield _Statement(sentence, _text(passage), sentence.start_char - passage[0].start_char)
                    continue
                rest = [*passage[:number], *passage[number + 1 :]]
                yield _Statement(sentence, " ".join(one.text for one in rest), -1, tuple(rest))

    def _questions(
        self,
        statement: _Statement,
        source: Source,
        random_: random.Random,
        writing: random.Random,
        known: set[tuple[str, str]],
    ) -> Iterator[Pair]:
        sentence, report = statement.sentence, self.report
        report.sentences += 1
        words = sum(token.is_alpha for token in sentence)
        if not MIN_WORDS <= words <= MAX_SENTENCE or not any(
            token.pos_ in ("VERB", "AUX") for token in sentence
        ):
            report.dropped["sentence too short, too long or without a verb"] += 1
            return
        candidates = _candidates(sentence, self.settings.answers)
        if not candidates:
            report.dropped["sentence without an answer"] += 1
        random_.shuffle(candidates)
        candidates.sort(key=lambda pair: pair[1] == PHRASE)  # entities first
        taken = phrases = 0
        for span, label in candidates:
            if taken == self.settings.per_sentence or (
                label == PHRASE and 2 * phrases >= self.settings.per_sentence
            ):
                report.dropped["answer beyond those of its sentence"] += 1
                continue
            start = _place(span, statement)
            if start < 0:
                report.dropped["answer not in the context"] += 1
                continue
            clause = shortest_clause(sentence, span)
            if source.title:
                clause = named(clause, source.title)
            if self.settings.prune:
                clause = pruned(clause, writing, self.settings.prune)
            if len(clause.words) < 4:
                report.dropped["clause too short"] += 1
                continue
            question = self.write(clause, label, writing)
            if (question, span.text) in known:
                report.dropped["said already"] += 1
                continue
            known.add((question, span.text))
            report.kept += 1
            report.labels[label] += 1
            taken += 1
            phrases += label == PHRASE
            name = f"{source.name}#{len(known)}"
            asked = Question(
                name, question, statement.context, (Answer(span.text, start),), source.name, (), source.title
            )
            yield Pair(asked, " ".join(sentence.text.split()), label)


def named(clause: Clause, title: str) -> Clause:
    """A pronoun as the subject becomes the document's title, for questions that can be understood alone."""
    subjects = [
        place
        for place, word in enumerate(clause.words)
        if word.dep in ("nsubj", "nsubjpass") and word.text.lower() in _PRONOUNS and place != clause.answer
    ]
    if not subjects:
        return clause
    words = list(clause.words)
    words[subjects[0]] = replace(words[subjects[0]], text=title)
    return replace(clause, words=tuple(words))


def _counted(sources: Iterable[Source], report: HarvestReport) -> Iterator[Source]:
    for source in sources:
        report.documents += 1
        yield source


def _candidates(sentence: Span, kind: str) -> list[tuple[Span, str]]:
    """(span, label) of the entities of the paper's types, and of noun phrases, that overlap with none before them."""
    found = [
        (span, span.label_) for span in sentence.ents if span.label_ in TYPES and len(span) <= MAX_ANSWER
    ]
    if kind == "phrases":
        taken = {token.i for span, _ in found for token in span}
        for chunk in sentence.noun_chunks:
            while len(chunk) > 1 and (chunk[0].pos_ in _NOT_ASKED or chunk[0].is_punct):
                chunk = chunk[1:]
            if (
                not {token.i for token in chunk} & taken
                and chunk.root.pos_ in ("NOUN", "PROPN")
                and len(chunk) <= MAX_ANSWER
            ):
                found.append((chunk, PHRASE))
    return [(span, label) for span, label in found if re.search(r"\w", span.text) and "\n" not in span.text]


def _place(span: Span, statement: _Statement) -> int:
    """Where the answer begins in the context: in the sentence itself, or in that which shares most words with it."""
    if statement.start >= 0:
        return statement.start + span.start_char - statement.sentence.start_char
    own = _lemmas(statement.sentence)
    places = [
        match.start() for match in re.finditer(rf"(?<!\w){re.escape(span.text)}(?!\w)", statement.context)
    ]
    if not places:
        return -1
    starts, position = [], 0
    for one in statement.sentences:
        position = statement.context.index(one.text, position)
        starts.append(position)

    def shared(place: int) -> int:
        inside = [one for one, start in zip(statement.sentences, starts, strict=True) if start <= place]
        return len(own & _lemmas(inside[-1])) if inside else 0

    return max(places, key=shared)


def _lemmas(sentence: Span) -> set[str]:
    return {token.lemma_.lower() for token in sentence if token.is_alpha and not token.is_stop}


def _text(passage: Sequence[Span]) -> str:
    return passage[0].doc.text[passage[0].start_char : passage[-1].end_char]


def _passages(doc: Doc, limit: int) -> Iterator[list[Span]]:
    """Sentences that follow each other, of one paragraph, up to a number of words."""
    held: list[Span] = []
    count = 0
    for sentence in doc.sents:
        if not sentence.text.strip():
            continue
        ends = held and "\n\n" in doc.text[held[-1].end_char - 2 : sentence.start_char + 1]
        if held and (ends or count + len(sentence) > limit):
            yield held
            held, count = [], 0
        held.append(sentence)
        count += len(sentence)
    if held:
        yield held
