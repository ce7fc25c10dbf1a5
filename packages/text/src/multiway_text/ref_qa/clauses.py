"""The shortest clause of a sentence that holds an answer, as a dependency tree in which the answer is one word.

The paper takes clauses from a constituency parse (S nodes) and parses the cloze anew; here they are the subtrees of
verbs with a subject of their own in the sentence's one dependency parse, so that spaCy's small pipelines are enough.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spacy.tokens import Span, Token

MIN_WORDS, MIN_PIECE = 6, 10
"""Words of a clause, and of a piece between commas."""
_HEADS = {"conj", "ccomp", "advcl", "relcl", "acl:relcl", "parataxis"}
_SUBJECTS = {"nsubj", "nsubjpass", "nsubj:pass", "csubj", "expl"}
_EDGES = ".,;:!?-–—"


@dataclass(frozen=True)
class Word:
    """A word of a clause; ``tag`` and ``dep`` as spaCy has them, ``head`` the place of its parent (a root's: its own).

    ``token``: the place in the document that was parsed; of the answer, which may be several, that of its head.
    """

    text: str
    head: int
    lemma: str = ""
    tag: str = ""
    dep: str = ""
    token: int = -1


@dataclass(frozen=True)
class Clause:
    """A tree of words, of which one stands for the answer."""

    words: tuple[Word, ...]
    answer: int

    def children(self, place: int) -> list[int]:
        """The places of a word's children, in order."""
        return [child for child, word in enumerate(self.words) if word.head == place != child]

    def below(self, place: int) -> list[int]:
        """The places of a word and of all words under it, in order."""
        found = [place]
        for child in self.children(place):
            found += self.below(child)
        return sorted(found)

    def path(self) -> list[int]:
        """The places from the root down to the answer."""
        found = [self.answer]
        while self.words[found[0]].head != found[0]:
            found.insert(0, self.words[found[0]].head)
        return found

    def roots(self) -> list[int]:
        """The places of the roots, the one above the answer first."""
        first = self.path()[0]
        return [first, *(place for place, word in enumerate(self.words) if word.head == place != first)]


def shortest_clause(sentence: Span, answer: Span) -> Clause:
    """The clause with the fewest words around an answer; the whole sentence where no shorter one holds it."""
    inside = set(range(answer.start, answer.end))
    spans = [[token.i for token in sentence]]
    for token in sentence:
        if token.dep_ in _HEADS and any(child.dep_ in _SUBJECTS for child in token.children):
            spans.append([one.i for one in token.subtree])
    piece: list[int] = []
    for token in sentence:
        if token.text == "," and token.i not in inside:
            spans.append(piece)
            piece = []
        else:
            piece.append(token.i)
    pieces = len(spans)
    spans.append(piece)
    least = [MIN_WORDS] * pieces + [MIN_PIECE]
    doc = sentence.doc
    found = [
        rows
        for rows, count in zip(spans, least, strict=True)
        if inside <= set(rows) and sum(not doc[row].is_punct for row in rows) >= count
    ]
    rows = _trimmed([doc[row] for row in min(found, key=len, default=spans[0])], inside)
    return _tree(rows, answer)


def _trimmed(tokens: list[Token], inside: set[int]) -> list[Token]:
    """Without marks at either end, and without the conjunction that joins the clause to the rest."""
    tokens = [token for token in tokens if not token.is_space]
    while len(tokens) > 1 and tokens[-1].text in _EDGES and tokens[-1].i not in inside:
        tokens.pop()
    while (
        len(tokens) > 1
        and tokens[0].i not in inside
        and (tokens[0].text in _EDGES or tokens[0].dep_ in ("cc", "mark"))
    ):
        del tokens[0]
    return tokens


def _tree(tokens: list[Token], answer: Span) -> Clause:
    """The parse between these tokens; those of the answer become one word, which has all their other children."""
    places: dict[int, int] = {}
    kept: list[Token] = []
    for token in tokens:
        if answer.start <= token.i < answer.end and any(answer.start <= one.i < answer.end for one in kept):
            places[token.i] = len(kept) - 1
            continue
        places[token.i] = len(kept)
        kept.append(token)
    words = []
    for place, token in enumerate(kept):
        is_answer = answer.start <= token.i < answer.end
        own = answer.root if is_answer else token
        head = places.get(own.head.i, place)
        text = answer.text if is_answer else _told(token, places)
        words.append(Word(text, head, own.lemma_, own.tag_, own.dep_, own.i))
    return Clause(tuple(words), places[answer.start])


def _told(token: Token, places: Mapping[int, int]) -> str:
    """A word's text; of a relative pronoun, whose noun is outside of the clause, that noun and what precedes it."""
    noun = token.head.head
    if token.tag_ in ("WDT", "WP") and token.head.dep_ == "relcl" and noun.i not in places:
        return str(noun.doc[noun.left_edge.i : noun.i + 1].text)
    return str(token.text)


_MODIFIERS = {
    "advcl",
    "relcl",
    "appos",
    "acl",
    "prep",
    "npadvmod",
    "advmod",
    "amod",
    "conj",
    "nmod",
}


def pruned(clause: Clause, random_: random.Random, rate: float) -> Clause:
    """The clause without some of its modifiers: each goes, with all below it, with this probability.

    People ask shorter questions than sentences are. The answer stays, what stands above it, and three words beside it.
    """
    kept = set(range(len(clause.words)))
    path = set(clause.path())
    for place, word in enumerate(clause.words):
        if word.dep in _MODIFIERS and place not in path and place in kept and random_.random() < rate:
            less = kept - set(clause.below(place))
            if len(less) > 3:
                kept = less
    joined = {clause.words[place].head for place in kept if clause.words[place].dep == "conj"}
    for place, word in enumerate(clause.words):
        if word.dep == "cc" and word.head not in joined and place not in path:
            kept -= set(clause.below(place))
    order = sorted(kept)
    places = {place: number for number, place in enumerate(order)}
    words = [replace(clause.words[place], head=places[clause.words[place].head]) for place in order]
    return Clause(tuple(words), places[clause.answer])
