"""The symbols that Kokoro reads, of our pronunciation of English: CMUdict's phones -> the phones of its lexicon.

Kokoro was trained on an alphabet of its own: the International Phonetic Alphabet with a letter for each diphthong and
affricate, a stress mark right before its vowel, ``T`` for the tap of "water", ``ᵊ`` and ``ᵻ`` for the faintest vowels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from multiway_speech.pronunciation.english import Word
from multiway_speech.pronunciation.phones import bare, is_vowel

_VOWELS = {
    "AA": "ɑ", "AE": "æ", "AH": "ʌ", "AO": "ɔ", "AW": "W", "AY": "I", "EH": "ɛ", "ER": "ɜɹ", "EY": "A", "IH": "ɪ",
    "IY": "i", "OW": "O", "OY": "Y", "UH": "ʊ", "UW": "u",
}  # fmt: skip
_CONSONANTS = {
    "B": "b", "CH": "ʧ", "D": "d", "DH": "ð", "F": "f", "G": "ɡ", "HH": "h", "JH": "ʤ", "K": "k", "L": "l", "M": "m",
    "N": "n", "NG": "ŋ", "P": "p", "R": "ɹ", "S": "s", "SH": "ʃ", "T": "t", "TH": "θ", "V": "v", "W": "w", "Y": "j",
    "Z": "z", "ZH": "ʒ",
}  # fmt: skip
_STRESS = {"0": "", "1": "ˈ", "2": "ˌ"}
_MARKS = {"-": "—"}
_IDS = {
    mark: number
    for number, mark in (
        (1, ";"), (2, ":"), (3, ","), (4, "."), (5, "!"), (6, "?"), (9, "—"), (16, " "), (24, "A"), (25, "I"),
        (31, "O"), (36, "T"), (39, "W"), (41, "Y"), (42, "ᵊ"), (44, "b"), (46, "d"), (48, "f"), (50, "h"), (51, "i"),
        (52, "j"), (53, "k"), (54, "l"), (55, "m"), (56, "n"), (58, "p"), (61, "s"), (62, "t"), (63, "u"), (64, "v"),
        (65, "w"), (68, "z"), (69, "ɑ"), (70, "ɐ"), (72, "æ"), (76, "ɔ"), (81, "ð"), (82, "ʤ"), (83, "ə"), (86, "ɛ"),
        (87, "ɜ"), (92, "ɡ"), (102, "ɪ"), (112, "ŋ"), (119, "θ"), (123, "ɹ"), (131, "ʃ"), (133, "ʧ"), (135, "ʊ"),
        (138, "ʌ"), (147, "ʒ"), (156, "ˈ"), (157, "ˌ"), (177, "ᵻ"),
    )
}  # fmt: skip
"""As in the published vocabulary."""


def symbols_of(words: Iterable[Word]) -> str:
    """What Kokoro reads for words that are said one behind the other."""
    return "".join(f"{spelt(word)}{_MARKS.get(word.mark, word.mark)} " for word in words).strip()


def ids_of(symbols: str) -> list[int]:
    """The numbers of symbols, without the zeros at the ends."""
    return [_IDS[symbol] for symbol in symbols]


def spelt(word: Word) -> str:
    """A word in Kokoro's alphabet."""
    if word.written == "a" and word.phones == ("AH0",):
        return "ɐ"
    return "".join(_phone(word.phones, place) for place in range(len(word.phones)))


def _phone(phones: Sequence[str], place: int) -> str:
    phone = phones[place]
    before = phones[place - 1] if place else ""
    after = phones[place + 1] if place + 1 < len(phones) else ""
    last = place + 2 == len(phones)
    if not is_vowel(phone):
        tapped = (
            phone == "T" and before and after and (is_vowel(before) or before == "R") and after.endswith("0")
        )
        return "T" if tapped else _CONSONANTS[phone]
    name, stress = bare(phone), phone[-1]
    if stress == "0":
        if name == "AH":
            faint = last and ((after == "L" and before) or (after == "N" and before in ("T", "D")))
            return "ᵊ" if faint and before and not is_vowel(before) else "ə"
        if name == "ER":
            return "əɹ"
        if name == "IH" and last and after in ("D", "Z"):  # as in "roses"
            return "ᵻ"
    return _STRESS[stress] + _VOWELS[name]
