"""The app's declaration."""

from multiway_core.app import App

APP = App(
    name="tts",
    title="Multiway TTS",
    description="Text to speech: several speakers, long form, streamed, with subtitles and watermark, on this machine.",
    model="bundled:tts-tiny",
    cli="multiway_tts.cli:cli",
    pipeline="multiway_tts.model:load_synthesizer",
    recipes="multiway_tts.recipes:RECIPES",
    demo="multiway_tts.demo:build_demo",
    quick_evaluation="multiway_tts.evaluation:quick_evaluation",
    serve="multiway_tts.server:SERVICE",
    picture="demo/card.webp",
)
