"""A line of English text -> the symbols that a speech model reads."""

from __future__ import annotations

from dataclasses import dataclass

from multiway_core.errors import InputError

from multiway_speech.pronunciation.derived import contraction, derive
from multiway_speech.pronunciation.lexicon import look_up
from multiway_speech.pronunciation.normalize import normalize
from multiway_speech.pronunciation.phones import BOUNDARY, MARKS, bare, is_vowel

_UNSTRESSED = frozenset(
    "a an the and or but nor of to in for at by with from as than is was were are be been am he she it we you they "
    "his her their my your our its him them me us if has have had do does can could would should will shall must "
    "that there some".split()
)
"""Words that are said without stress unless a mark follows."""


@dataclass(frozen=True)
class Word:
    """A word that is said.

    Attributes:
        written: it in letters, in lower case; a letter that is said by its name is in upper case.
        phones: of ``SYMBOLS``, at least one.
        mark: the mark behind it, or an empty text.
    """

    written: str
    phones: tuple[str, ...]
    mark: str = ""


class EnglishPronouncer:
    """Text -> phones and marks, American English."""

    def __call__(self, text: str) -> list[str]:
        """Symbols of ``text``: the words' phones with ``|`` between words that no mark parts; a mark is last.

        Raises:
            InputError: nothing in the text can be said.
        """
        symbols: list[str] = []
        for word in self.words(text):
            symbols += [*word.phones, word.mark or BOUNDARY]
        return symbols

    def words(self, text: str) -> list[Word]:
        """The words that are said, in order.

        Raises:
            InputError: nothing in the text can be said.
        """
        said = normalize(text)
        if not said:
            raise InputError(
                f"there is nothing to say in {text[:40]!r}: give a text of Latin letters or digits"
            )
        words: list[Word] = []
        following: str | None = None  # first phone of the next word, a mark, or None at the end
        mark = ""
        for item in reversed(said):
            if item in MARKS:
                following = mark = item
                continue
            phones = self._in_context(item, following)
            words.append(Word(item, phones, mark))
            following, mark = phones[0], ""
        return words[::-1]

    def _in_context(self, word: str, following: str | None) -> tuple[str, ...]:
        vowel_next = following is not None and is_vowel(following)
        pause_next = following is None or following in MARKS
        if word == "the":
            return ("DH", "IY0" if vowel_next else "AH0")
        if word == "to" and not pause_next:
            return ("T", "UW0" if vowel_next else "AH0")
        phones = self.pronounce(word)
        if word in _UNSTRESSED and not pause_next:
            phones = tuple(bare(phone) + "0" if is_vowel(phone) else phone for phone in phones)
        return phones

    def pronounce(self, word: str) -> tuple[str, ...]:
        """Phones of a word by itself: lower case, or a letter in upper case for its name; "'s" may follow."""
        found = look_up(word)
        if found is not None:
            return found
        if word.isupper() and len(word) == 1:
            return look_up(f"{word.lower()}.") or ()
        contracted = contraction(word)
        if contracted is not None:
            stem, change = contracted
            return change(self.pronounce(stem))
        return derive(word, look_up) or self._spell(word)

    def _spell(self, word: str) -> tuple[str, ...]:
        return tuple(phone for c in word if c.isalpha() for phone in look_up(f"{c}.") or ())
