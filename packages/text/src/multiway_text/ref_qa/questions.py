"""From a clause to a question: cloze with a question word in place, noise, the paper's tree order, or English order.

reordered(clause, "When")      # "When in built was the bridge"
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from multiway_core.errors import InputError

from multiway_text.ref_qa.clauses import Clause

_TYPES = {
    "PERSONNORPORG": "PERSON NORP ORG PER",
    "PLACE": "GPE LOC FAC",
    "THING": "PRODUCT EVENT WORK_OF_ART LAW LANGUAGE MISC",
    "TEMPORAL": "TIME DATE",
    "NUMERIC": "PERCENT MONEY QUANTITY ORDINAL CARDINAL",
}
TYPES = {label: kind for kind, labels in _TYPES.items() for label in labels.split()}
"""Of the labels of spaCy's entities (its French pipeline has four of its own) the paper's five types."""
WORDS = {
    "en": {
        "PERSONNORPORG": ("Who",),
        "PLACE": ("Where",),
        "THING": ("What",),
        "TEMPORAL": ("When",),
        "NUMERIC": ("How many", "How much"),
    },
    "fr": {
        "PERSONNORPORG": ("Qui",),
        "PLACE": ("Où",),
        "THING": ("Quoi",),
        "TEMPORAL": ("Quand",),
        "NUMERIC": ("Combien de", "Combien"),
    },
}
"""Question words by language and type; the English ones are the paper's."""
VARIED = {
    "PERSON": ("Who", "Who", "What person", "Which person"),
    "NORP": ("What", "Which", "Who", "What group"),
    "ORG": ("What", "What organization", "Which organization", "Who", "What company", "What group"),
    "GPE": (
        "Where",
        "What place",
        "What city",
        "What country",
        "Which country",
        "What location",
        "What state",
    ),
    "LOC": ("Where", "What", "What place", "What region", "Which area"),
    "FAC": ("What", "Where", "What building", "What place"),
    "PRODUCT": ("What", "Which", "What product"),
    "EVENT": ("What", "What event", "Which event"),
    "WORK_OF_ART": ("What", "What work", "What is the name of"),
    "LAW": ("What", "What law", "Which act"),
    "LANGUAGE": ("What language", "Which language"),
    "DATE": ("When", "When", "What year", "In what year", "What date", "What time"),
    "TIME": ("When", "What time", "At what time", "How long"),
    "PERCENT": ("What percentage", "How much", "What percent", "How many"),
    "MONEY": ("How much", "How much money", "What amount"),
    "QUANTITY": ("How much", "How far", "How large", "How many", "How long"),
    "ORDINAL": ("Which", "What", "What rank"),
    "CARDINAL": ("How many", "What number", "How many"),
    "PHRASE": ("What", "What", "What", "What", "Which", "What kind of thing", "What type of"),
    "VERB": ("What",),
}
"""Question words by entity label, for more kinds of questions than the paper's."""
_FORMS = (
    "is",
    "are",
    "was",
    "were",
    "has",
    "have",
    "had",
    "can",
    "could",
    "will",
    "would",
    "may",
    "might",
    "must",
    "should",
    "do",
    "does",
    "did",
)
_DO = {"VBD": "did", "VBZ": "does", "VBP": "do"}
_NOUNS = {"nummod", "amod", "compound", "poss", "quantmod", "nmod", "det", "advmod", "npadvmod"}


def cloze(clause: Clause, kind: str) -> list[str]:
    """The clause's words with a type's name in place of the answer."""
    return [kind if place == clause.answer else word.text for place, word in enumerate(clause.words)]


def identity(clause: Clause, word: str) -> str:
    """The cloze with the question word where the answer was."""
    return asked(cloze(clause, word))


def noisy(
    clause: Clause,
    word: str,
    random_: random.Random,
    *,
    shift: float = 2,
    drop: float = 0.2,
    mask: float = 0.1,
) -> str:
    """The question word, then the other words: each moved by at most ``shift``, dropped or masked by chance.

    Lample et al. 2018 (arXiv 1804.07755), as Lewis et al. 2019 use it for questions."""
    words = [one.text for place, one in enumerate(clause.words) if place != clause.answer]
    keys = [place + random_.uniform(0, shift + 1) for place in range(len(words))]
    moved = [words[place] for place in sorted(range(len(words)), key=lambda place: keys[place])]
    left = [one for one in moved if random_.random() >= drop]
    return asked([word, *("[MASK]" if random_.random() < mask else one for one in left)])


def reordered(clause: Clause, word: str) -> str:
    """The tree read with the answer at the front: the paper's reconstruction.

    On the way from the root to the answer the child that holds the answer goes before all others; the answer loses what
    stands before it. Each word is read after its left and before its right children.
    """
    path = set(clause.path())
    texts = cloze(clause, word)

    def read(place: int) -> list[str]:
        children = clause.children(place)
        left = [child for child in children if child < place]
        right = [child for child in children if child > place]
        if place == clause.answer:
            left = []
        elif place in path:
            (front,) = (child for child in children if child in path)
            left = [front, *(child for child in left if child != front)]
            right = [child for child in right if child != front]
        return [
            *(text for child in left for text in read(child)),
            texts[place],
            *(text for child in right for text in read(child)),
        ]

    return asked([text for root in clause.roots() for text in read(root)])


def natural(clause: Clause, word: str) -> str:
    """The order of English questions: question word with its noun, auxiliary (or a form of do), subject, verb, rest.

    A question for the subject keeps the clause's order. ``When`` and ``Where`` take the place of a preposition.
    """
    words = clause.words
    top = clause.answer
    while (
        words[top].dep in _NOUNS
        and words[top].head != top
        and words[words[top].head].tag.startswith(("N", "CD"))
    ):
        top = words[top].head
    front = clause.below(top)
    if top == clause.answer:
        front = [place for place in front if place >= top]
    elif word.split()[0] != "How":
        word = "Which" if len(word.split()) > 1 else word
    front = [
        place for place in front if words[place].dep not in ("det", "poss", "case") or place == clause.answer
    ]
    dropped = set(clause.below(top))
    above = words[top].head
    if words[top].dep == "pobj" and word in ("When", "Where") and above != top:
        dropped.add(above)
    verb = clause.path()[0]
    auxiliary = next(
        (
            c
            for c in clause.children(verb)
            if c < verb and words[c].text.lower() in _FORMS and words[c].dep in ("aux", "auxpass", "cop")
        ),
        None,
    )
    if auxiliary is None and words[verb].text.lower() in _FORMS:
        auxiliary = verb
    lead, texts = [], [one.text for one in words]
    if words[top].dep in ("nsubj", "nsubjpass") and words[top].head == verb:
        pass
    elif auxiliary is not None and auxiliary not in dropped:
        lead = [texts[auxiliary]]
        dropped.add(auxiliary)
    elif words[verb].tag in _DO and verb not in dropped:
        lead = [_DO[words[verb].tag]]
        texts[verb] = words[verb].lemma
    texts[clause.answer] = word
    fronted = [word, *(texts[place] for place in front if place != clause.answer)]
    rest = [texts[place] for place in range(len(words)) if place not in dropped]
    return asked([*fronted, *lead, *rest])


def asked(words: list[str]) -> str:
    """Words as a question: marks follow their word, and a question mark ends it."""
    text = " ".join(one for one in words if one.strip())
    for mark in (",", ".", ";", ":", "'s", "’s", "%", ")", "n't"):
        text = text.replace(f" {mark}", mark)
    text = text.replace("( ", "(").replace("$ ", "$").strip(" ,.;:-–—")
    return f"{text[:1].upper()}{text[1:]}?"


@dataclass(frozen=True)
class Writer:
    """Writes a question about a clause for an entity label. Raises InputError: not in this style or language."""

    style: str = "reordered"
    varied: bool = False
    language: str = "en"

    def __post_init__(self) -> None:
        if self.language not in WORDS:
            raise InputError(
                f"questions are written in {', '.join(WORDS)}; the parser is for {self.language!r}"
            )
        if self.language != "en" and (self.varied or self.style == "natural"):
            raise InputError("the natural style and varied question words are for English")

    def word(self, label: str, random_: random.Random) -> str:
        """A question word."""
        words = WORDS[self.language][TYPES.get(label, "THING")]
        return random_.choice(VARIED.get(label, ("What",)) if self.varied else words)

    def __call__(self, clause: Clause, label: str, random_: random.Random) -> str:
        word = self.word(label, random_)
        if self.style == "noisy":
            return noisy(clause, word, random_)
        write: dict[str, Callable[[Clause, str], str]] = {
            "identity": identity,
            "reordered": reordered,
            "natural": natural,
        }
        return write[self.style](clause, word)
