"""The app's declaration."""

from multiway_core.app import App

APP = App(
    name="ocr",
    title="Multiway OCR",
    description="Text, boxes and markdown of pages: pictures, scans and PDF files, read on this machine.",
    model="bundled:ocr-small",
    cli="multiway_ocr.cli:cli",
    pipeline="multiway_document.pipeline:OcrPipeline",
    recipes="multiway_document.kosmos2_5.recipe:RECIPES",
    demo="multiway_ocr.demo:build_demo",
    quick_evaluation="multiway_ocr.evaluation:quick_evaluation",
    serve="multiway_ocr.server:SERVICE",
    picture="demo/card.webp",
)
