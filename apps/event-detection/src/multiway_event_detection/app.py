"""What this app tells the umbrella about itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from multiway_core.app import App

if TYPE_CHECKING:
    from multiway_core.evaluation import Report


def _demo() -> Any:
    from multiway_event_detection.demo import build_demo

    return build_demo()


def _quick_evaluation() -> Report:
    from multiway_event_detection.shapes_evaluation import quick_evaluation

    return quick_evaluation()


APP = App(
    name="event-detection",
    title="Multiway Event Detection",
    description="Event cameras: objects in recordings, at any microsecond; conversion, pictures, simulation.",
    cli="multiway_event_detection.cli:cli",
    demo=_demo,
    quick_evaluation=_quick_evaluation,
)
