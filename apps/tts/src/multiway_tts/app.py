"""The app's declaration."""

from multiway_core.app import App

APP = App(
    name="tts",
    title="Multiway TTS",
    description="Scripts to speech: several speakers, long form, heard while it is made.",
    model="bundled:tts-tiny",
    cli="multiway_tts.cli:cli",
    pipeline="multiway_tts.model:load_synthesizer",
    evaluation="multiway_tts.evaluation",
    demo="multiway_tts.demo:build_demo",
    quick_evaluation="multiway_tts.evaluation:quick_evaluation",
    picture="demo/card.webp",
)
