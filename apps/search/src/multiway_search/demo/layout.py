"""What stands where on the demo's page, and what happens when it is pressed."""

from __future__ import annotations

from typing import Any

from multiway_core.app import html_view, messages

from multiway_search.collection import QUESTIONS
from multiway_search.demo.picture import CSS
from multiway_search.demo.session import SAMPLE, Session

MODES = [("By meaning and words", "hybrid"), ("By meaning", "dense"), ("By words (BM25)", "bm25")]
ASKED = ["When are tomatoes planted?", "Wie lange bleibt das Brot im Ofen?", "À qui faut-il payer le loyer ?"]
SEARCHES = [list(QUESTIONS)[row] for row in (0, 2, 5, 8, 17)]


def components(session: Session) -> None:
    """Put the components on the page that is being built, with their events."""
    import gradio as gr

    shared: dict[str, Any] = {
        "api_visibility": "private",
        "show_progress": "hidden",
        "concurrency_id": "model",
    }

    with gr.Tabs():
        with gr.Tab("Search", elem_id="search-tab"), gr.Row(equal_height=False):
            with gr.Column(scale=4, min_width=300):
                query = gr.Textbox(label="Search for", value=SEARCHES[0], elem_id="search-query")
                mode = gr.Radio(MODES, value="hybrid", label="How", elem_id="search-mode")
                collection = gr.Radio(
                    list(session.collections), value=SAMPLE, label="In", elem_id="search-collection"
                )
                find = gr.Button("Search", variant="primary", elem_id="search-find")
                gr.Examples(SEARCHES, query, label="Searches in the app's notes")
                gr.Markdown("Your own notes: `multiway-search index ~/notes`, then open this page again.")
            with gr.Column(scale=6, min_width=300):
                shown = html_view(session.search(SEARCHES[0], "hybrid", SAMPLE), CSS, "search-results")
        with gr.Tab("Languages side by side", elem_id="search-tab-languages"):
            asked = gr.Textbox(label="Search for", value=ASKED[0], elem_id="search-asked")
            gr.Examples(ASKED, asked, label="Searches in four languages")
            compare = gr.Button("Search in four languages", variant="primary", elem_id="search-compare")
            gr.Markdown(
                "Your own notes in several languages: `multiway-search index ~/notes -m bundled:multilingual-small`."
            )
            columns = html_view(
                "<div class='search'><div class='note'>Press the button.</div></div>", CSS, "search-languages"
            )

    @messages
    def search(query: str, mode: Any, collection: str) -> str:
        return session.search(query, mode, collection)

    @messages
    def languages(query: str) -> str:
        return session.languages(query)

    for event in (find.click, query.submit, mode.input, collection.input):
        event(search, [query, mode, collection], shown, **shared)
    for event in (compare.click, asked.submit):
        event(languages, [asked], columns, **shared)
