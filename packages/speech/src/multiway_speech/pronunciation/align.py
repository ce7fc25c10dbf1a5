"""Alignment of our phones to a synthesizer's, which come with times.

A teacher (``speech_tokenizer.teachers``) reads phones of the International Phonetic Alphabet in espeak-ng's spelling
and tells the end of each. Its words are not ours: espeak joins "of the" into one and parts compounds. So the phones of
a whole sentence are aligned with ours at the least edit cost, boundaries and pauses in them, and each of ours takes the
time of its partner; those without a partner share a neighbour's time.
"""

# ruff: noqa: SIM905 - lists of words are easier to read and to change as text

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from multiway_speech.pronunciation.english import EnglishPronouncer
from multiway_speech.pronunciation.phones import BOUNDARY, MARKS, VOWELS, bare, is_vowel

SHORT_PAUSE = 0.1
"""Seconds; a gap between words shorter than this is no pause, and the phones around it share it."""
WORST_SENTENCE = 0.3
WORST_WORD = 0.4
"""Edit cost per phone above which the teacher has read other words than we."""
_BAND = 16

_IPA = {
    "p": "P", "b": "B", "t": "T", "d": "D", "k": "K", "ɡ": "G", "g": "G", "ʔ": "T", "ɾ": "DX", "T": "DX",
    "f": "F", "v": "V", "θ": "TH", "ð": "DH", "s": "S", "z": "Z", "ʃ": "SH", "ʒ": "ZH", "h": "HH", "x": "K",
    "ç": "K", "ʤ": "JH", "ʧ": "CH", "m": "M", "n": "N", "ŋ": "NG", "l": "L", "ɫ": "L", "ɬ": "L", "ɹ": "R", "r": "R",
    "j": "Y", "w": "W", "ʍ": "W",
    "i": "IY", "ɪ": "IH", "ᵻ": "IH", "ɨ": "IH", "e": "EH", "ɛ": "EH", "æ": "AE", "a": "AE", "ə": "AH", "ɐ": "AH",
    "ʌ": "AH", "ᵊ": "AH", "ɚ": "ER", "ɝ": "ER", "ɜ": "ER", "ɑ": "AA", "ɒ": "AA", "ɔ": "AO", "o": "AO", "ʊ": "UH",
    "u": "UW", "A": "EY", "I": "AY", "W": "AW", "Y": "OY", "O": "OW", "Q": "OW", "y": "UW", "ø": "ER", "œ": "ER",
}  # fmt: skip
"""Each letter of the teachers' alphabet -> CMUdict's phone (``DX``, a flap: T or D)."""
_PAIRS = {"aɪ": "AY", "aʊ": "AW", "eɪ": "EY", "oʊ": "OW", "əʊ": "OW", "ɔɪ": "OY", "tʃ": "CH", "dʒ": "JH"}
IPA_OF = {phone: letter for letter, phone in reversed(_IPA.items())}
"""CMUdict's phones -> the first of the letters that stand for them; a diphthong is Kokoro's letter."""
_STRESS = frozenset("ˈˌ")
_LENGTHENING = frozenset("ː\u0329ʲ\u0303")

_CLASSES = ("P B T D K G DX", "CH JH SH ZH S Z", "F V TH DH HH", "M N NG", "L R", "W Y")
_CLASS = {phone: number for number, phones in enumerate(_CLASSES) for phone in phones.split()}
_NEAR = {
    frozenset(pair.split())
    for pair in (
        "DX T,DX D,P B,T D,K G,CH JH,SH ZH,S Z,F V,TH DH,N NG,AA AO,AH IH,AH UH,AH ER,IH IY,UH UW,AH AA,AH AE,AH EH,"
        "IH EH,ER R,AO OW,AH OW,Y IY,Y IH,W UW,W UH,AO UH,EH EY,AE AA,AE EH,EH AE,AH AO,HH W,T TH,ER AO,ER UH,AH R"
    ).split(",")
}
_FREE = frozenset({("DX", "T"), ("DX", "D"), ("T", "DX"), ("D", "DX")})


@dataclass
class _Unit:
    """A phone in CMUdict's alphabet, or a gap (``|``), with the seconds that it spans."""

    phone: str
    start: float
    end: float


def _units(symbols: list[str], ends: list[float], start: float) -> list[_Unit]:
    units: list[_Unit] = []
    begun, previous = start, ""  # previous: the letter just before, if it may be the first of a pair
    for symbol, end in zip(symbols, ends, strict=True):
        if symbol in _STRESS:
            previous = ""
            continue  # its time becomes the following vowel's
        if symbol in _LENGTHENING and units:
            units[-1].end = end
        elif previous + symbol in _PAIRS:
            units[-1] = _Unit(_PAIRS[previous + symbol], units[-1].start, end)
        elif symbol in _IPA:
            units.append(_Unit(_IPA[symbol], begun, end))
        elif units and units[-1].phone == BOUNDARY:
            units[-1].end = end
        else:
            units.append(_Unit(BOUNDARY, begun, end))
        begun, previous = end, symbol
    return units


def _substitution(ours: str, theirs: str) -> float:
    if ours == theirs or (ours, theirs) in _FREE:
        return 0.0
    if BOUNDARY in (ours, theirs):
        return 9.0
    if frozenset((ours, theirs)) in _NEAR:
        return 0.25
    vowels = (ours in VOWELS) + (theirs in VOWELS)
    if vowels == 2:
        return 0.5
    if vowels == 0:
        return 0.7 if _CLASS[ours] == _CLASS[theirs] else 1.0
    return 1.5


_PHONES = [*_CLASS, *VOWELS, BOUNDARY]
_COST = {ours: {theirs: _substitution(ours, theirs) for theirs in _PHONES} for ours in _PHONES}
_LOST = {
    phone: {"R": 0.3, "AH": 0.5, "Y": 0.5, "HH": 0.5, BOUNDARY: 0.15}.get(phone, 0.8) for phone in _PHONES
}


def _partners(ours: list[str], theirs: list[str]) -> tuple[list[tuple[int, int]], list[float]]:
    """The cheapest path: pairs of places, -1 for none, in order; and the cost of each of its steps."""
    rows, columns = len(ours), len(theirs)
    width = _BAND + abs(rows - columns)
    infinite = float("inf")
    best = [[infinite] * (columns + 1) for _ in range(rows + 1)]
    step = [[0] * (columns + 1) for _ in range(rows + 1)]  # 0: both, 1: ours alone, 2: theirs alone
    best[0][0] = 0.0
    for j in range(1, columns + 1):
        best[0][j], step[0][j] = best[0][j - 1] + _LOST[theirs[j - 1]], 2
    for i in range(1, rows + 1):
        row, above, steps = best[i], best[i - 1], step[i]
        cost, lost = _COST[ours[i - 1]], _LOST[ours[i - 1]]
        row[0], steps[0] = above[0] + lost, 1
        middle = i * columns // rows
        for j in range(max(1, middle - width), min(columns, middle + width) + 1):
            least, kind = above[j - 1] + cost[theirs[j - 1]], 0
            if above[j] + lost < least:
                least, kind = above[j] + lost, 1
            alone = row[j - 1] + _LOST[theirs[j - 1]]
            if alone < least:
                least, kind = alone, 2
            row[j], steps[j] = least, kind
    path: list[tuple[int, int]] = []
    costs: list[float] = []
    i, j = rows, columns
    while i or j:
        kind = step[i][j]
        before = (i - (kind != 2), j - (kind != 1))
        path.append((i - 1 if kind != 2 else -1, j - 1 if kind != 1 else -1))
        costs.append(best[i][j] - best[before[0]][before[1]])
        i, j = before
    return path[::-1], costs[::-1]


@dataclass
class _Span:
    """Symbols of ours that share some time."""

    places: list[int]
    start: float
    end: float
    gap: bool


def _spans(path: list[tuple[int, int]], ours: list[str], units: list[_Unit], start: float) -> list[_Span]:
    spans: list[_Span] = []
    waiting: list[int] = []  # phones of ours at the start of a word, without a partner
    owed: float | None = None  # start of a phone of theirs at the start of a word, without a partner
    now = start
    for i, j in path:
        inside = bool(spans) and not spans[-1].gap
        if j < 0:
            if ours[i] == BOUNDARY:
                if waiting:
                    spans.append(_Span(waiting, now, now, False))
                    waiting = []
                spans.append(_Span([i], now, now, True))
            elif inside and not waiting:
                spans[-1].places.append(i)
            else:
                waiting.append(i)
            continue
        unit = units[j]
        now = unit.end
        if i < 0:
            if inside:
                spans[-1].end = unit.end
            elif owed is None:
                owed = unit.start
            continue
        first = unit.start if owed is None else owed
        owed = None
        if ours[i] == BOUNDARY and waiting:
            spans.append(_Span(waiting, first, first, False))
            waiting = []
        spans.append(_Span([*waiting, i], first, unit.end, ours[i] == BOUNDARY))
        waiting = []
    if waiting:
        spans.append(_Span(waiting, now, now, False))
    return spans


def _times(symbols: list[str], spans: list[_Span], start: float) -> list[float]:
    """Ends of all symbols. A phone without time takes half of a neighbour's in the same word."""
    ends = [start] * len(symbols)
    for number, span in enumerate(spans):
        short = span.gap and symbols[span.places[0]] == BOUNDARY and span.end - span.start < SHORT_PAUSE
        if short and 0 < number < len(spans) - 1:
            middle = (span.start + span.end) / 2
            for place in spans[number - 1].places[-1:]:
                ends[place] = middle
            span.start = span.end = spans[number + 1].start = middle
        weights = [2.0 if is_vowel(symbols[place]) else 1.0 for place in span.places]
        done = 0.0
        for place, weight in zip(span.places, weights, strict=True):
            done += weight
            ends[place] = span.start + (span.end - span.start) * done / sum(weights)
    for place in range(1, len(ends)):
        ends[place] = max(ends[place], ends[place - 1])
    return ends


def phones_of(symbols: list[str]) -> list[str]:
    """CMUdict's phones, without stress, of letters of the International Phonetic Alphabet; a flap is a T."""
    units = _units(symbols, [0.0] * len(symbols), 0.0)
    return ["T" if unit.phone == "DX" else unit.phone for unit in units if unit.phone != BOUNDARY]


def align(word_symbols: list[str], ends: list[float], start: float, phones: list[str]) -> list[float]:
    """Ends of ``phones``, CMUdict's of one word, from the letters that a teacher read for it and their ends.

    Args:
        word_symbols: letters of the International Phonetic Alphabet with stress and length marks.
        ends: seconds at which each ends.
        start: seconds at which the first begins.
        phones: our phones of the word.
    """
    units = _units(word_symbols, ends, start)
    ours = [bare(phone) for phone in phones]
    path, _ = _partners(ours, [unit.phone for unit in units])
    return _times(phones, _spans(path, ours, units, start), start)


def align_sentence(entry: dict[str, Any], pronouncer: EnglishPronouncer) -> list[tuple[str, float]] | None:
    """Our symbols of a sentence with the second at which each ends, or None where the teacher read other words.

    A boundary ends where the phone before it ends unless there is a pause; a mark takes the pause.

    Args:
        entry: a line of a manifest: ``text``, ``symbols``, ``ends`` and ``start`` (seconds).
        pronouncer: makes our symbols.
    """
    start = float(entry["start"])
    units = _units(entry["symbols"], entry["ends"], start)
    symbols = pronouncer(entry["text"])
    ours = [BOUNDARY if symbol in MARKS else bare(symbol) for symbol in symbols]
    path, costs = _partners(ours, [unit.phone for unit in units])
    if sum(costs) > WORST_SENTENCE * len(ours) or not _all_words_fit(path, costs, ours):
        return None
    return list(zip(symbols, _times(symbols, _spans(path, ours, units, start), start), strict=True))


def _all_words_fit(path: list[tuple[int, int]], costs: list[float], ours: list[str]) -> bool:
    cost, length = 0.0, 0
    for (i, _), paid in zip(path, costs, strict=True):
        if i >= 0 and ours[i] == BOUNDARY:
            if cost > max(WORST_WORD * length, 1.3):
                return False
            cost, length = 0.0, 0
        else:
            cost += paid
            length += i >= 0
    return True
