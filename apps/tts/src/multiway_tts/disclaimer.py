"""The spoken disclaimer, a turn before or after the script."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from multiway_speech.script import Script

Disclaimer = Literal["none", "prefix", "suffix"]
PAUSE_MS = 400


def with_disclaimer(script: Script, where: Disclaimer) -> Script:
    """The script with the sentence as a turn of its own (``line`` 0), apart by a pause."""
    from multiway_speech.audio_writer import STATEMENT
    from multiway_speech.script import Script, Turn

    first, rest = script.turns[0], script.turns[1:]
    if where == "prefix":
        later = Turn(first.speaker, first.text, max(first.pause_ms, PAUSE_MS), first.line)
        turns = (Turn(first.speaker, STATEMENT, 0, 0), later, *rest)
        return Script(script.speakers, turns, script.final_pause_ms)
    if where == "suffix":
        pause = max(script.final_pause_ms, PAUSE_MS)
        last = Turn(script.turns[-1].speaker, STATEMENT, pause, 0)
        return Script(script.speakers, (*script.turns, last), 0)
    return script


def is_disclaimer(line: int) -> bool:
    """Whether a turn with this ``line`` is the sentence."""
    return line == 0
