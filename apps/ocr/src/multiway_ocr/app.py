"""What this app tells the umbrella about itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from multiway_core.app import App

if TYPE_CHECKING:
    from multiway_core.evaluation import Report


def _demo() -> Any:
    from multiway_ocr.demo import build_demo

    return build_demo()


def _quick_evaluation() -> Report:
    from multiway_ocr.evaluation import quick_evaluation

    return quick_evaluation()


APP = App(
    name="ocr",
    title="Multiway OCR",
    description="Text, boxes and markdown of pages: pictures, scans and PDF files, read on this machine.",
    cli="multiway_ocr.cli:cli",
    demo=_demo,
    quick_evaluation=_quick_evaluation,
)
