"""What a reader of English should say before it reads a text that is not English, or not all of which it can read."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

from multiway_core.errors import InputError

if TYPE_CHECKING:
    from multiway_speech.pronunciation.english import EnglishPronouncer
    from multiway_speech.script import Script

_FUNCTION_WORDS = {
    "English": "the a an and or of to in is it that was for on with as at by this are be have not you he she they we",
    "German": "der die das und ist ein eine nicht mit zu den von sich auf dem des im für auch es wir ich sie er war",
    "French": "le la les de des et est un une dans pour que qui pas sur avec ce il elle nous vous je au du en se",
    "Spanish": "el la los las de y es un una en que por con no para se del al su lo como más pero está yo",
    "Italian": "il lo la i gli le di e è un una in che per con non si del della sono come più ma al io nel",
    "Portuguese": "o a os as de e é um uma em que por com não para se do da no na mais mas eu ao foi",
    "Dutch": "de het een en is van in dat niet op te zijn met voor die er aan ook als maar wij ik hij naar",
    "Swedish": "och att det som en ett är på för av med den till inte har jag vi han hon var om men",
    "Polish": "i w na z się nie to jest do że o jak ale po co za od przez dla są był ja on ona",
}
_WORDS = {language: frozenset(words.split()) for language, words in _FUNCTION_WORDS.items()}
_FEWEST = 2
"""Function words of another language that must be found, and more than of English: one may be a name."""


def language_of(text: str) -> str:
    """The language that most of a text's function words are of, as an English word; English where too few are."""
    words = re.findall(r"[^\W\d_]+", text.lower())
    counts = {language: sum(word in known for word in words) for language, known in _WORDS.items()}
    best = max(counts, key=lambda language: (counts[language], language == "English"))
    return best if counts[best] >= _FEWEST else "English"


def unreadable(text: str) -> str:
    """Letters of scripts that the English reader leaves out, each once."""
    others = (c for c in text if c.isalpha() and not unicodedata.name(c, "").startswith(("LATIN", "GREEK")))
    return "".join(dict.fromkeys(c for c in others if unicodedata.normalize("NFKD", c).isascii() is False))


def remarks_on(script: Script, pronounce: EnglishPronouncer) -> list[str]:
    """A line for each thing about a script that will not sound as it is meant.

    Raises InputError with the line of what cannot be said at all.
    """
    for turn in script.turns:
        try:
            pronounce(turn.text)
        except InputError as error:
            raise InputError(f"script, line {turn.line}: {error}") from error
    text = " ".join(turn.text for turn in script.turns)
    remarks = []
    language = language_of(text)
    if language != "English":
        remarks.append(
            f"the text looks {language}; this voice has English phones only and will read it as English"
        )
    left_out = unreadable(text)
    if left_out:
        shown = left_out[:10] + ("..." if len(left_out) > 10 else "")
        remarks.append(f"letters of other scripts are left out: {shown}")
    return remarks
