"""The app's declaration."""

from multiway_core.app import App

APP = App(
    name="asr",
    title="Multiway ASR",
    description="Speaker-attributed transcripts of recordings and videos: text, subtitles, scores, on this machine.",
    model="bundled:whisper-tiny.en",
    cli="multiway_asr.cli:cli",
    pipeline="multiway_speech.recognition:SpeechRecognizer",
    recipes="multiway_speech.vibevoice_asr.recipe:RECIPES",
    demo="multiway_asr.demo:build_demo",
    quick_evaluation="multiway_asr.evaluation:quick_evaluation",
    serve="multiway_asr.server:SERVICE",
    picture="demo/card.webp",
)
