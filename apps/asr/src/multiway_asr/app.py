"""What this app tells the umbrella about itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from multiway_core.app import App

if TYPE_CHECKING:
    from multiway_core.evaluation import Report


def _demo() -> Any:
    from multiway_asr.demo import build_demo

    return build_demo()


def _quick_evaluation() -> Report:
    from multiway_asr.evaluation import quick_evaluation

    return quick_evaluation()


APP = App(
    name="asr",
    title="Multiway ASR",
    description="Who said what and when in recordings and videos, on this machine: text, subtitles, scores.",
    cli="multiway_asr.cli:cli",
    demo=_demo,
    quick_evaluation=_quick_evaluation,
)
