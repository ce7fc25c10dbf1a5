"""What this app tells the umbrella about itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from multiway_core.app import App

if TYPE_CHECKING:
    from multiway_core.evaluation import Report


def _demo() -> Any:
    from multiway_frame_interpolation.demo import build_demo

    return build_demo()


def _quick_evaluation() -> Report:
    from multiway_frame_interpolation.evaluation import quick_evaluation

    return quick_evaluation()


APP = App(
    name="frame-interpolation",
    title="Multiway Frame Interpolation",
    description="Frames between and after the frames of a video, from the events of an event camera.",
    cli="multiway_frame_interpolation.cli:cli",
    demo=_demo,
    quick_evaluation=_quick_evaluation,
)
