"""Text normalization before scoring: Whisper's normalizers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from multiway_core.errors import InputError

Normalizer = Literal["english", "basic", "characters", "none"]
BY_CHARACTERS = ("zh", "yue", "ja", "th", "lo", "my", "km")
"""Languages that are written without spaces: their characters are scored as words."""


def normalizer_of(language: str | None) -> Normalizer:
    """By a BCP 47 code; English where none is known."""
    code = (language or "en").lower().split("-")[0].split("_")[0]
    return "english" if code == "en" else "characters" if code in BY_CHARACTERS else "basic"


def load_normalizer(name: Normalizer) -> Callable[[str], str]:
    """Text -> words with single spaces between them.

    ``english``: numbers as digits, British as American spelling, contractions whole, no filled pauses, no punctuation,
    nothing in brackets. ``basic``: lower case, no punctuation, nothing in brackets. ``characters``: so too, each
    character a word. ``none``: only white space is made even. Raises InputError without the evaluation extra.
    """
    if name == "none":
        return _even
    try:
        from whisper_normalizer.basic import BasicTextNormalizer
        from whisper_normalizer.english import EnglishTextNormalizer
    except ImportError as error:
        raise missing_extra(error) from error
    if name == "english":
        normalize: Callable[[str], str] = EnglishTextNormalizer()
    else:
        normalize = BasicTextNormalizer(split_letters=name == "characters")
    return lambda text: _even(normalize(text))


def missing_extra(error: ImportError) -> InputError:
    """What to say when a part of the evaluation extra is not installed."""
    return InputError(
        f"scoring needs {error.name}: pip install 'multiway-asr[evaluation]' (meeteval needs a C++ compiler)"
    )


def _even(text: str) -> str:
    return " ".join(text.split())
