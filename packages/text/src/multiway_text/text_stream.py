"""Tokens, one after the other -> text that can be shown at once: whole characters, and nothing of a stop text."""

from __future__ import annotations

from collections.abc import Callable, Sequence

_BROKEN = "\N{REPLACEMENT CHARACTER}"
_MOST_HELD = 8  # tokens; more bytes of one character do not come, so what is broken stays broken


class TextStream:
    """Collects one answer.

    Args:
        decode: ids -> text, as :meth:`multiway_core.tokenization.TextTokenizer.decode`.
        stop: texts that end the answer.

    Attributes:
        text: all that was given out.
        stopped: a stop text was met; nothing more is given out.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], stop: Sequence[str] = ()) -> None:
        self.decode, self.stop = decode, tuple(stop)
        self.text, self.stopped = "", False
        self._context: list[int] = []  # ids given out last: a tokenizer may write a space only behind a word
        self._before = ""  # their text
        self._new: list[int] = []  # ids not given out yet
        self._waiting = ""  # text that may be the beginning of a stop text

    def add(self, token: int) -> str:
        """The text that a token makes certain; often one word, sometimes nothing."""
        if self.stopped:
            return ""
        self._new.append(token)
        text = self._text()
        if text.endswith(_BROKEN) and len(self._new) < _MOST_HELD:
            return ""
        self._context, self._new = self._new, []
        self._before = self.decode(self._context)
        return self._give(text)

    def end(self) -> str:
        """What is left when no more tokens come."""
        if self.stopped:
            return ""
        given = self._give(self._text() if self._new else "")
        if not self.stopped:
            given, self.text, self._waiting = given + self._waiting, self.text + self._waiting, ""
        return given

    def _text(self) -> str:
        whole = self.decode(self._context + self._new)
        return whole[len(self._before) :] if whole.startswith(self._before) else self.decode(self._new)

    def _give(self, new: str) -> str:
        text = self._waiting + new
        places = [place for place in (text.find(stop) for stop in self.stop) if place >= 0]
        if places:
            self.stopped, self._waiting = True, ""
            given = text[: min(places)]
        else:
            held = max((_overlap(text, stop) for stop in self.stop), default=0)
            given, self._waiting = text[: len(text) - held], text[len(text) - held :]
        self.text += given
        return given


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of ``text`` that ``stop`` begins with."""
    for length in range(min(len(stop) - 1, len(text)), 0, -1):
        if stop.startswith(text[-length:]):
            return length
    return 0
