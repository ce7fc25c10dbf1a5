"""The app's declaration."""

from multiway_core.app import App

APP = App(
    name="question-answering",
    title="Multiway Question Answering",
    description="Ask your own texts: answers with their place, or that there is none; train, measure and serve it.",
    model="bundled:qa-small",
    cli="multiway_question_answering.cli:cli",
    pipeline="multiway_text.question_answering.pipeline:QuestionAnsweringPipeline",
    recipes="multiway_question_answering.recipes:RECIPES",
    demo="multiway_question_answering.demo:build_demo",
    quick_evaluation="multiway_question_answering.evaluation:quick_evaluation",
    serve="multiway_question_answering.server:SERVICE",
    picture="demo/card.webp",
)
