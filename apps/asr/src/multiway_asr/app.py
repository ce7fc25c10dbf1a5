"""The app's declaration."""

from multiway_core.app import App

APP = App(
    name="asr",
    title="Multiway ASR",
    description="Who said what and when in recordings and videos, on this machine: text, subtitles, scores.",
    model="bundled:asr-tiny",
    cli="multiway_asr.cli:cli",
    pipeline="multiway_speech.vibevoice_asr.pipeline:AsrPipeline",
    evaluation="multiway_asr.evaluation",
    demo="multiway_asr.demo:build_demo",
    quick_evaluation="multiway_asr.evaluation:quick_evaluation",
    picture="demo/card.webp",
)
