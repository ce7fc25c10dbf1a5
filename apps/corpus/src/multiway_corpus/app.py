"""The app's declaration."""

from multiway_core.app import App

APP = App(
    name="corpus",
    title="Multiway Corpus",
    description="Training text from web archives: extract, filter, deduplicate; why was this page dropped?",
    cli="multiway_corpus.cli:cli",
    demo="multiway_corpus.demo:build_demo",
    picture="viewer/card.webp",
)
