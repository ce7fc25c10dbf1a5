"""The demo: a text with what was written of it: its title, the sentences that tell most of it, a question."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

from multiway_core.app import ModelLoader, ModelOptions, frame, html_view, messages
from multiway_core.errors import InputError

from multiway_summarization.app import APP

if TYPE_CHECKING:
    from multiway_text.s2s_ft.result import Question, Summary, Title

DESCRIPTION = (
    "Titles, questions and extracted summaries by a small model on this machine. Only titles and questions are written "
    "anew: they may be wrong, so read them beside the text."
)
TASKS = {"title": "Title", "summary": "Summary", "question": "Question"}
_CSS = """
.written { border: 1px solid var(--border-color-primary); border-radius: 10px; padding: 18px 22px;
  background: var(--background-fill-primary); color: var(--body-text-color); line-height: 1.55; }
.written .kind { font-size: 12px; color: var(--body-text-color-subdued); letter-spacing: .04em;
  text-transform: uppercase; }
.written h2 { font-size: 1.35rem; line-height: 1.3; margin: 2px 0 12px; font-weight: 650; }
.written .text { white-space: pre-wrap; overflow-wrap: anywhere; font-size: 15px; }
.written mark { background: color-mix(in srgb, #2563eb 22%, transparent); color: inherit; border-radius: 3px;
  padding: 1px 2px; }
.written .unread { color: var(--body-text-color-subdued); }
.written .sections { margin: 14px 0 0; padding: 10px 0 0 18px; border-top: 1px solid var(--border-color-primary);
  font-size: 14px; }
.written .sections span { color: var(--body-text-color-subdued); }
"""
EXAMPLES = {
    "A bridge": (
        "The old stone bridge over the river Lenne was closed to traffic on Monday after engineers found cracks in two "
        "of its five arches. Built in 1783, it carried about four thousand cars a day. The town council expects the "
        "repair to take eleven months and to cost 2.4 million euros, half of which the state will pay. Until then, "
        "buses will run over the motorway bridge two kilometres to the south, and a free ferry will take people "
        "across."
    ),
    "A tool": (
        "This command line tool watches a folder of photographs and copies new pictures to a second disk. It compares "
        "files by their checksums, so that a picture which was renamed is not copied twice. Pictures that were deleted "
        "on purpose stay in the backup for thirty days. A report of what was copied can be sent by e-mail every night."
    ),
    "A scientist": (
        "Lise Meitner was an Austrian-Swedish physicist who was one of those responsible for the discovery of nuclear "
        "fission. She spent much of her scientific career in Berlin, where she was a physics professor and a "
        "department head at the Kaiser Wilhelm Institute for Chemistry. She lost her positions in the 1930s and in "
        "1938 fled to Sweden, where she lived for many years. Element 109, meitnerium, was named after her in 1997."
    ),
}
_ANSWERS = {"A bridge": "eleven months", "A tool": "checksums", "A scientist": "Sweden"}


def build_demo(model: str = APP.model, *, device: str = "auto", dtype: str = "auto") -> Any:
    """The demo as Gradio Blocks, with the model loaded. Raises StopRun when it cannot be."""
    import gradio as gr

    pipeline = ModelLoader(APP, ModelOptions(model, device, dtype))()

    @messages
    def written(task: str, text: str, answer: str, sentences: float) -> str:
        if not text.strip():
            raise InputError("type or paste a text")
        if task == "title":
            return title_view(text, pipeline.title(text))
        if task == "summary":
            return summary_view(text, pipeline.summarize(text, int(sentences)))
        return question_view(text, pipeline.ask(text, answer.strip()))

    first = next(iter(EXAMPLES))
    with frame(APP.title, DESCRIPTION) as blocks, gr.Row(equal_height=False):
        with gr.Column(scale=5, min_width=320):
            example = gr.Dropdown(
                list(EXAMPLES), value=first, label="Examples", elem_id="summarization-example"
            )
            text = gr.Textbox(
                EXAMPLES[first], label="Text", lines=9, max_lines=18, elem_id="summarization-text"
            )
            task = gr.Radio(
                [(label, name) for name, label in TASKS.items()],
                value="title",
                label="What to write",
                elem_id="summarization-task",
            )
            answer = gr.Textbox(
                _ANSWERS[first],
                label="Answer: words of the text (empty: any question)",
                visible=False,
                elem_id="summarization-answer",
            )
            sentences = gr.Slider(
                1, 10, value=2, step=1, label="Sentences", visible=False, elem_id="summarization-sentences"
            )
            run = gr.Button("Write", variant="primary", elem_id="summarization-run")
        with gr.Column(scale=6, min_width=320):
            view = html_view(written("title", EXAMPLES[first], "", 2), _CSS, "summarization-view")
        options: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        inputs = [task, text, answer, sentences]
        example.input(lambda name: (EXAMPLES[name], _ANSWERS[name]), example, [text, answer], **options).then(
            written, inputs, view, concurrency_id="model", **options
        )
        task.change(
            lambda name: (gr.update(visible=name == "question"), gr.update(visible=name == "summary")),
            task,
            [answer, sentences],
            **options,
        ).then(written, inputs, view, concurrency_id="model", **options)
        run.click(written, inputs, view, concurrency_id="model", api_name="write")
    return blocks


def title_view(text: str, found: Title) -> str:
    """The title above its text, and the windows' own below."""
    sections = ""
    if len(found.sections) > 1:
        rows = "".join(
            f"<li>{html.escape(part.title)} <span>characters {part.start} to {part.end}</span></li>"
            for part in found.sections
        )
        sections = f"<ol class='sections'>{rows}</ol>"
    return _card("Title", found.title, html.escape(text), sections)


def summary_view(text: str, found: Summary) -> str:
    """The title above the text, whose chosen sentences are marked."""
    return _card(
        "Generated title; the marked sentences are the summary", found.title, _marked(text, found.sentences)
    )


def question_view(text: str, found: Question) -> str:
    """The question above the passage, with the answer marked and what was not read in grey."""
    read = text[found.start : found.end]
    place = read.find(found.answer)
    body = html.escape(read)
    if found.answer and place >= 0:
        before, behind = read[:place], read[place + len(found.answer) :]
        body = f"{html.escape(before)}<mark>{html.escape(found.answer)}</mark>{html.escape(behind)}"
    around = [
        f"<span class='unread'>{html.escape(part)}</span>"
        for part in (text[: found.start], text[found.end :])
    ]
    return _card("Question", found.question, around[0] + body + around[1])


def _marked(text: str, parts: Any) -> str:
    body, done = "", 0
    for part in parts:
        body += (
            html.escape(text[done : part.start]) + f"<mark>{html.escape(text[part.start : part.end])}</mark>"
        )
        done = part.end
    return body + html.escape(text[done:])


def _card(kind: str, heading: str, body: str, more: str = "") -> str:
    return (
        f"<div class='written'><div class='kind'>{kind}</div><h2>{html.escape(heading)}</h2>"
        f"<div class='text'>{body}</div>{more}</div>"
    )
