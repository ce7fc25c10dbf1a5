"""What this app tells the umbrella about itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from multiway_core.app import App

if TYPE_CHECKING:
    from multiway_core.evaluation import Report


def _demo() -> Any:
    from multiway_lm.demo import build_demo

    return build_demo()


def _quick_evaluation() -> Report:
    from multiway_lm.evaluation import quick_evaluation

    return quick_evaluation()


APP = App(
    name="lm",
    title="Multiway LM",
    description="Small language models on this machine: chat, continue, score, train, shrink, serve.",
    cli="multiway_lm.cli:cli",
    demo=_demo,
    quick_evaluation=_quick_evaluation,
)
