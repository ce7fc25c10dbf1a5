"""What stands where on the demo's page, and what happens when it is pressed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from multiway_core.app import html_view, messages
from multiway_text.search.extract import HTML, PDF, TEXT

from multiway_question_answering.demo.picture import CSS, waiting_page
from multiway_question_answering.demo.session import Session
from multiway_question_answering.evaluation import own_texts


def components(session: Session) -> None:
    """Put the components on the page that is being built, with their events."""
    import gradio as gr

    examples = own_texts()
    first = next(iter(examples))
    text, questions = examples[first]
    with gr.Row(equal_height=False):
        with gr.Column(scale=4, min_width=300):
            question = gr.Textbox(questions[0], label="Question", elem_id="qa-question")
            ask = gr.Button("Ask", variant="primary", elem_id="qa-ask")
            suggested = gr.Dataset(
                components=[gr.Textbox(visible=False)],
                samples=[[one] for one in questions],
                label="Questions to the example",
                type="values",
                elem_id="qa-suggested",
            )
            example = gr.Dropdown(list(examples), value=first, label="Example", elem_id="qa-example")
            pasted = gr.Textbox(text, label="Text", lines=9, max_lines=16, elem_id="qa-text")
            files = gr.File(
                label="Or files: PDF, text, Markdown, HTML",
                file_count="multiple",
                file_types=[*PDF, *TEXT, *HTML],
                height=150,
                elem_id="qa-files",
            )
        with gr.Column(scale=6, min_width=300):
            view = html_view(session.ask(questions[0], text, None), CSS, "qa-view")

    @messages
    def answer(question: str, text: str, files: Any) -> Iterator[str]:
        if not session.is_known(text, files):
            yield waiting_page()
        yield session.ask(question, text, files)

    def choose(name: str) -> tuple[Any, ...]:
        text, questions = examples[name]
        return text, questions[0], None, gr.Dataset(samples=[[one] for one in questions])

    options: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    asked: dict[str, Any] = {"fn": answer, "inputs": [question, pasted, files], "outputs": view}
    for event in (ask.click, question.submit):
        event(**asked, concurrency_id="model", **options)
    example.input(choose, example, [pasted, question, files, suggested], **options).then(
        **asked, concurrency_id="model", **options
    )
    suggested.click(lambda row: row[0], suggested, question, **options).then(
        **asked, concurrency_id="model", **options
    )
