"""English grapheme-to-phoneme conversion: text -> phones and marks."""

# ruff: noqa: SIM905 - lists of words are easier to read and to change as text

from __future__ import annotations

import re
from dataclasses import dataclass

from multiway_core.errors import InputError

from multiway_speech.pronunciation.derived import contraction, derive
from multiway_speech.pronunciation.heteronyms import heteronym
from multiway_speech.pronunciation.letter_to_sound import letter_to_sound
from multiway_speech.pronunciation.lexicon import look_up
from multiway_speech.pronunciation.normalize import normalize
from multiway_speech.pronunciation.phones import BOUNDARY, MARKS, bare, is_vowel

_UNSTRESSED = frozenset(
    (
        "a an the and or but nor of to in for at by with from as than is was were are be been am he she it we you they "
        "his her their my your our its him them me us if has have had do does can could would should will shall must "
        "that there some"
    ).split()
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
        following = mark = said[-1]  # following: the first phone of the next word, or a mark
        for place in range(len(said) - 2, -1, -1):
            item = said[place]
            if item in MARKS:
                following = mark = item
                continue
            before = said[place - 1] if place and said[place - 1] not in MARKS else ""
            behind = said[place + 1] if not mark else ""
            phones = heteronym(item, before, behind) or self._in_context(item, following)
            words.append(Word(item, phones, mark))
            following, mark = phones[0], ""
        return words[::-1]

    def _in_context(self, word: str, following: str) -> tuple[str, ...]:
        """Phones of a word before a symbol, with its weak form where it has one."""
        pause_next = following in MARKS
        if word == "the":
            return ("DH", "IY0" if is_vowel(following) else "AH0")
        if word == "to" and not pause_next:
            return ("T", "UW0" if is_vowel(following) else "AH0")
        phones = self.pronounce(word)
        if word in _UNSTRESSED and not pause_next:
            phones = tuple(bare(phone) + "0" if is_vowel(phone) else phone for phone in phones)
        return phones

    def pronounce(self, word: str) -> tuple[str, ...]:
        """Phones of a word by itself: lower case, or a letter in upper case for its name; "'s" may follow.

        They come from the dictionary, from the word's parts in it, or from its letters by the model.
        """
        found = look_up(word)
        if found is not None:
            return found
        if word.isupper():
            return look_up(f"{word.lower()}.") or ()
        contracted = contraction(word)
        if contracted is not None:
            stem, change = contracted
            return change(self.pronounce(stem))
        for kept in (r"\1\1", r"\1"):  # hmmmm, noooo
            shorter = re.sub(r"(.)\1{2,}", kept, word)
            if shorter != word and (found := look_up(shorter)) is not None:
                return found
        found = derive(word, look_up)
        if found is None and re.search("[aeiouy]", word):
            found = letter_to_sound(word)
        return found or tuple(
            phone for letter in word if letter != "'" for phone in look_up(f"{letter}.") or ()
        )
