"""The app's declaration."""

from multiway_core.app import App

APP = App(
    name="lm",
    title="Multiway LM",
    description="Small language models on this machine: chat, continue, score, train, shrink, serve.",
    model="bundled:lm-tiny",
    cli="multiway_lm.cli:cli",
    pipeline="multiway_text.language_model:LanguageModel",
    recipes="multiway_text.recipe:RECIPES",
    demo="multiway_lm.demo:build_demo",
    quick_evaluation="multiway_lm.evaluation:quick_evaluation",
    serve="multiway_lm.server:SERVICE",
    picture="demo/card.webp",
)
