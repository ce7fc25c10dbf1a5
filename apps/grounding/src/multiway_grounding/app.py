"""What this app tells the umbrella about itself."""

from __future__ import annotations

from typing import Any

from multiway_core.app import App


def _demo() -> Any:
    from multiway_grounding.demo import build_demo

    return build_demo()


APP = App(
    name="grounding",
    title="Multiway Grounding",
    description="Find what words name in pictures, and put pictures into words, on this machine.",
    cli="multiway_grounding.cli:cli",
    demo=_demo,
)
