"""What stands where on the demo's page, and what happens when it is pressed."""

from __future__ import annotations

from typing import Any

from multiway_core.app import html_view, messages

from multiway_encoder.demo.picture import CSS
from multiway_encoder.demo.session import Session
from multiway_encoder.evaluation import QUICK

TEXTS = "\n".join(answer for _, answer in QUICK)
QUERIES = ["insects in the kitchen", "I forgot my login", "healthy pets", "weather"]
SENTENCE = "The keys that she left on the table are gone."


def components(session: Session) -> None:
    """Put the components on the page that is being built, with their events."""
    import gradio as gr

    shared: dict[str, Any] = {
        "api_visibility": "private",
        "show_progress": "hidden",
        "concurrency_id": "model",
    }

    with gr.Tabs():
        with gr.Tab("Nearest texts", elem_id="encoder-tab-map"), gr.Row(equal_height=False):
            with gr.Column(scale=4, min_width=320):
                query = gr.Textbox(label="Search for", value=QUERIES[0], elem_id="encoder-query")
                find = gr.Button("Find the nearest", variant="primary", elem_id="encoder-find")
                searches = gr.Dataset(
                    components=[query], samples=[[one] for one in QUERIES], label="Searches"
                )
                texts = gr.Textbox(
                    label="Texts, one a line", value=TEXTS, lines=10, max_lines=16, elem_id="encoder-texts"
                )
            with gr.Column(scale=6, min_width=320):
                shown = html_view(session.nearest(QUERIES[0], TEXTS), CSS, "encoder-map")
        with gr.Tab("Attention relations", elem_id="encoder-tab-relations"), gr.Row(equal_height=False):
            with gr.Column(scale=3, min_width=280):
                text = gr.Textbox(label="Text", value=SENTENCE, elem_id="encoder-text")
                relation = gr.Radio(
                    [
                        ("Attention", "attention"),
                        ("Queries", "queries"),
                        ("Keys", "keys"),
                        ("Values", "values"),
                    ],
                    value="values",
                    label="Relation in the last layer",
                    elem_id="encoder-relation",
                )
                other = gr.Textbox(
                    label="Second model, such as a student",
                    value=session.suggested,
                    placeholder="bundled:NAME, a folder or a hub id; empty for none",
                    elem_id="encoder-other",
                )
                compare = gr.Button("Show", variant="primary", elem_id="encoder-compare")
            with gr.Column(scale=7, min_width=320):
                opened = session.relations(SENTENCE, "values", session.suggested)
                side_by_side = html_view(opened, CSS, "encoder-relations")

    @messages
    def nearest(query: str, texts: str) -> str:
        return session.nearest(query, texts)

    @messages
    def relations(text: str, relation: Any, other: str) -> str:
        return session.relations(text, relation, other)

    for event in (find.click, query.submit):
        event(nearest, [query, texts], shown, **shared)
    searches.click(lambda row: row[0], searches, query, **shared).then(
        nearest, [query, texts], shown, **shared
    )
    for event in (compare.click, text.submit, relation.input):
        event(relations, [text, relation, other], side_by_side, **shared)
