"""Heteronyms (words with two pronunciations), disambiguated by the words next to them.

The rules look for signs of a verb and take the noun or adjective otherwise; they are not a parser.
"""

# ruff: noqa: SIM905 - lists of words are easier to read and to change as text

from __future__ import annotations

from multiway_speech.pronunciation.lexicon import look_up

# Of each word, CMUdict's variants as a noun or an adjective and as a verb.
_NOUN_AND_VERB = {
    **dict.fromkeys(
        "object project contract progress content desert minute use close excuse abuse estimate advocate graduate "
        "moderate alternate conflict contrast convert attribute extract address console rebel compact".split(),
        (1, 2),
    ),
    **dict.fromkeys(
        "record permit refuse subject increase decrease import insult produce delegate separate tear wind transfer "
        "transport survey suspect upset digest discount impact incline research perfect wound misuse".split(),
        (2, 1),
    ),
    "present": (1, 2),
    "protest": (1, 2),
}
_VERB_CUES = frozenset(
    "to will would can could should shall must may might i you we they who don't doesn't didn't won't can't cannot "
    "couldn't wouldn't shouldn't not never please let's i'll you'll we'll they'll he'll she'll i'd you'd we'd they'd "
    "did do does help let".split()
)
_DETERMINERS = frozenset(
    "a an the this that these those my your his her its our their no some any each of".split()
)
_LIVE_THINGS = frozenset(
    "music show shows concert concerts tv television radio audience performance performances stream broadcast wire "
    "wires news coverage video animals animal bait ammunition recording band".split()
)
_LEAD_THINGS = frozenset(
    "pipe pipes paint poisoning bullet bullets acid shot weight weights pencil mine mines".split()
)
_PRESENT_CUES = _VERB_CUES - frozenset(
    ("i", "we", "they", "who", "never", "i'd", "you'd", "we'd", "they'd", "not")
)


def heteronym(word: str, before: str, behind: str) -> tuple[str, ...] | None:
    """Phones of ``word`` between two others (empty at an end or a mark), or None if it is said in one way."""
    if word == "read":
        return look_up(word, 2 if before in _PRESENT_CUES or (not before and behind) else 1)
    if word == "lead":
        return look_up(word, 1 if behind in _LEAD_THINGS else 2)
    if word == "live":
        lively = behind in _LIVE_THINGS or before in ("a", "go", "broadcast", "recorded", "streamed")
        return look_up(word, 1 if lively else 2)
    if word == "use":
        noun = before in _DETERMINERS or behind == "of" or (not behind and before not in _VERB_CUES)
        return look_up(word, 1 if noun else 2)
    if word == "close":
        verb = before in _VERB_CUES or (
            behind in _DETERMINERS - {"of"} and before not in ("is", "are", "so", "too")
        )
        return look_up(word, 2 if verb else 1)
    if word == "wind" and behind in ("up", "down"):
        return look_up(word, 1)
    if word not in _NOUN_AND_VERB:
        return None
    noun_variant, verb_variant = _NOUN_AND_VERB[word]
    return look_up(word, verb_variant if before in _VERB_CUES else noun_variant)
