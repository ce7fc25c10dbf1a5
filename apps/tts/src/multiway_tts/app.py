"""What this app tells the umbrella about itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from multiway_core.app import App

if TYPE_CHECKING:
    from multiway_core.evaluation import Report


def _demo() -> Any:
    from multiway_tts.demo import build_demo

    return build_demo()


def _quick_evaluation() -> Report:
    from multiway_tts.evaluation import quick_evaluation

    return quick_evaluation()


APP = App(
    name="tts",
    title="Multiway TTS",
    description="Scripts to speech: several speakers, long form, heard while it is made.",
    cli="multiway_tts.cli:cli",
    demo=_demo,
    quick_evaluation=_quick_evaluation,
)
