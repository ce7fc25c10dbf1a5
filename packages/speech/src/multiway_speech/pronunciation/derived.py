"""Pronunciation by morphology: contractions, suffixes, prefixes and compounds of known words.

``known`` gives everywhere the phones of a word if it has them; it is the dictionary, except where the rules are
measured on words that are taken from it.
"""

from __future__ import annotations

from collections.abc import Callable

from multiway_speech.pronunciation.phones import is_vowel

Phones = tuple[str, ...]
Known = Callable[[str], Phones | None]

_VOICELESS = frozenset(("P", "T", "K", "F", "TH", "S", "SH", "CH"))
_HISSING = frozenset(("S", "Z", "SH", "ZH", "CH", "JH"))
_SHORTEST_STEM = 3
_SHORTEST_PART = 4


def _s(phones: Phones) -> Phones:
    if phones[-1] in _HISSING:
        return (*phones, "IH0", "Z")
    return (*phones, "S" if phones[-1] in _VOICELESS else "Z")


def _ed(phones: Phones) -> Phones:
    if phones[-1] in ("T", "D"):
        return (*phones, "IH0", "D")
    return (*phones, "T" if phones[-1] in _VOICELESS else "D")


def _d(phones: Phones) -> Phones:
    return (*phones, "D") if is_vowel(phones[-1]) else (*phones, "AH0", "D")


def _adding(phones_behind: str) -> Callable[[Phones], Phones]:
    return lambda phones: (*phones, *phones_behind.split())


_CONTRACTIONS: dict[str, Callable[[Phones], Phones]] = {
    "'s": _s,
    "'ll": _adding("AH0 L"),
    "'ve": _adding("AH0 V"),
    "'re": _adding("ER0"),
    "'d": _d,
    "'": _adding(""),
}
# Ending, what it does to the phones, and whether it may take the stem's last e or double its last letter.
_SUFFIXES: tuple[tuple[str, Callable[[Phones], Phones], bool], ...] = (
    ("s", _s, False),
    ("es", _s, True),
    ("ed", _ed, True),
    ("ing", _adding("IH0 NG"), True),
    ("ings", _adding("IH0 NG Z"), True),
    ("er", _adding("ER0"), True),
    ("ers", _adding("ER0 Z"), True),
    ("est", _adding("AH0 S T"), True),
    ("ly", _adding("L IY0"), False),
    ("ally", _adding("L IY0"), False),
    ("ness", _adding("N AH0 S"), False),
    ("less", _adding("L AH0 S"), False),
    ("like", _adding("L AY2 K"), False),
    ("ish", _adding("IH0 SH"), True),
    ("ism", _adding("IH2 Z AH0 M"), True),
    ("able", _adding("AH0 B AH0 L"), True),
)
_PREFIXES = {
    "un": "AH0 N",
    "non": "N AA0 N",
    "re": "R IY0",
    "pre": "P R IY0",
    "mis": "M IH0 S",
    "dis": "D IH0 S",
    "sub": "S AH0 B",
    "anti": "AE2 N T IY0",
    "multi": "M AH2 L T IY0",
    "micro": "M AY2 K R OW0",
    "semi": "S EH2 M IY0",
}


def derive(word: str, known: Known) -> Phones | None:
    """Phones of a word of known parts, or None."""
    return _suffixed(word, known) or _prefixed(word, known) or _compound(word, known)


def contraction(word: str) -> tuple[str, Callable[[Phones], Phones]] | None:
    """What stands before 's, 'll, 've, 're, 'd or a last apostrophe, and what that does to its phones."""
    for ending, change in _CONTRACTIONS.items():
        if word.endswith(ending) and len(word) > len(ending):
            return word.removesuffix(ending), change
    return None


def _suffixed(word: str, known: Known) -> Phones | None:
    for ending, change, merges in _SUFFIXES:
        stem = word.removesuffix(ending)
        if stem == word or len(stem) < _SHORTEST_STEM or (ending == "s" and stem[-1] in "su"):
            continue
        if ending == "ally" and not stem.endswith("ic"):
            continue
        candidates = [stem]
        if merges:
            candidates.append(stem + "e")
            if stem[-1] == stem[-2]:
                candidates.append(stem[:-1])
        if stem[-1] == "i":
            candidates.append(stem[:-1] + "y")
        for candidate in candidates:
            phones = known(candidate)
            if phones is not None:
                return change(phones)
    return None


def _prefixed(word: str, known: Known) -> Phones | None:
    for prefix, before in _PREFIXES.items():
        stem = word.removeprefix(prefix)
        if stem != word and len(stem) > _SHORTEST_STEM:
            phones = known(stem) or _suffixed(stem, known)
            if phones is not None:
                return (*before.split(), *phones)
    return None


def _compound(word: str, known: Known) -> Phones | None:
    """Two known words written as one, the first of them stressed; the most even parts."""
    places = range(_SHORTEST_PART, min(len(word), 40) - _SHORTEST_PART + 1)
    for place in sorted(places, key=lambda place: abs(2 * place - len(word))):
        first, second = known(word[:place]), known(word[place:])
        if first is not None and second is not None:
            return first + tuple(phone.replace("1", "2") for phone in second)
    return None
