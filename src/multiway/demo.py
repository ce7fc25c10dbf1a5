"""All demos in one page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from multiway_core.app import InstalledApp, frame


def build_demo(apps: Sequence[InstalledApp]) -> Any:
    """Gradio Blocks with a tab an app; an app whose demo cannot be built has its reason in its tab."""
    # Each demo is built before the page is opened: Blocks made inside other Blocks melt into them at once.
    demos = [_demo_or_problem(item) for item in apps]
    with frame("Multiway", "Every installed app; all of them work on this machine, offline.") as blocks:
        import gradio as gr

        with gr.Tabs():
            for item, demo in zip(apps, demos, strict=True):
                with gr.Tab(item.app.title if item.app else item.name, id=item.name):
                    if isinstance(demo, str):
                        gr.Textbox(demo, label=f"The app {item.name} cannot be shown", interactive=False)
                    else:
                        demo.render()
    return blocks


def _demo_or_problem(item: InstalledApp) -> Any:
    if item.app is None or item.app.demo is None:
        return str(item.problem or "it has no demo")
    try:
        return item.app.load("demo")()
    except Exception as error:  # one broken demo must not take the page down
        return " ".join(f"{type(error).__name__}: {error}".split())
