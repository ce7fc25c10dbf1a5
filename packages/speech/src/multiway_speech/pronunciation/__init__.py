"""English text to phones: the front end of the bundled speech models."""

from multiway_speech.pronunciation.english import EnglishPronouncer, Word
from multiway_speech.pronunciation.phones import SYMBOLS

__all__ = ["SYMBOLS", "EnglishPronouncer", "Word"]
