"""What this app tells the umbrella about itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from multiway_core.app import App

if TYPE_CHECKING:
    from multiway_core.evaluation import Report


def _demo() -> Any:
    from multiway_grounding.demo import build_demo

    return build_demo()


def _quick_evaluation() -> Report:
    from multiway_grounding.evaluation import quick_evaluation

    return quick_evaluation()


APP = App(
    name="grounding",
    title="Multiway Grounding",
    description="Find what words name in pictures, and put pictures into words, on this machine.",
    cli="multiway_grounding.cli:cli",
    demo=_demo,
    quick_evaluation=_quick_evaluation,
)
