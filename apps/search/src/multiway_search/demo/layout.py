"""What stands where on the demo's page, and what happens when it is pressed."""

from __future__ import annotations

from typing import Any

from multiway_core.app import html_view, messages

from multiway_search.collection import QUESTIONS
from multiway_search.demo.picture import CSS, GALLERY_CSS
from multiway_search.demo.session import SAMPLE, Session
from multiway_search.options import Only

MODES = [("By meaning and words", "hybrid"), ("By meaning", "dense"), ("By words (BM25)", "bm25")]
KINDS = [("Everything", "all"), ("Texts", "text"), ("Pictures", "picture")]
ASKED = ["When are tomatoes planted?", "Wie lange bleibt das Brot im Ofen?", "À qui faut-il payer le loyer ?"]
SEARCHES = [list(QUESTIONS)[row] for row in (0, 2, 5, 8, 17)]
IN_PHOTOGRAPHS = [
    "something to drink from",
    "a puppy",
    "riding on water",
    "public transport for one passenger",
]


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
                collection = gr.Radio(session.names, value=SAMPLE, label="In", elem_id="search-collection")
                with gr.Accordion("Only some documents", open=False, elem_id="search-only"):
                    kind = gr.Radio(KINDS, value="all", label="Kind", elem_id="search-kind")
                    with gr.Row():
                        since = gr.Textbox(label="Pictures from", placeholder="2024-05", min_width=120)
                        until = gr.Textbox(label="Pictures up to", placeholder="2024-06-15", min_width=120)
                    near = gr.Textbox(
                        label="Pictures near: latitude, longitude, km", placeholder="48.14, 11.58, 25"
                    )
                find = gr.Button("Search", variant="primary", elem_id="search-find")
                gr.Examples(SEARCHES, query, label="Searches in the app's notes")
                if session.why_no_pictures is None:
                    gr.Examples(IN_PHOTOGRAPHS, query, label="Searches in the app's photographs")
                gr.Markdown(
                    "Your own notes and pictures: `multiway-search index ~/notes ~/photos`, then open the page again."
                )
            with gr.Column(scale=6, min_width=300):
                gallery = gr.Gallery(
                    label="Pictures, best first",
                    show_label=False,  # it would lie on the first picture
                    columns=3,
                    height=None,
                    object_fit="cover",
                    interactive=False,
                    visible=False,
                    buttons=["fullscreen"],
                    elem_id="search-gallery",
                )
                gr.HTML(f"<style>{GALLERY_CSS}</style>", padding=False)
                shown = html_view(session.search(SEARCHES[0], "hybrid", SAMPLE).page, CSS, "search-results")
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
    def search(query: str, mode: Any, collection: str, kind: Any, *where: str | None) -> tuple[str, Any]:
        days_and_place = ((text or "").strip() or None for text in where)  # None: not touched
        only = Only(None if kind == "all" else kind, *days_and_place)
        answer = session.search(query, mode, collection, only)
        return answer.page, gr.Gallery(
            answer.pictures, visible=bool(answer.pictures), selected_index=None, preview=False
        )

    @messages
    def languages(query: str) -> str:
        return session.languages(query)

    asked_for = [query, mode, collection, kind, since, until, near]
    for event in (find.click, query.submit, mode.input, collection.input, kind.input, near.submit):
        event(search, asked_for, [shown, gallery], **shared)
    for event in (compare.click, asked.submit):
        event(languages, [asked], columns, **shared)
