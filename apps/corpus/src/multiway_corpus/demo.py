"""The demo: an HTML page or an archive, what each stage makes of it, and what another threshold would change."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

from multiway_core.app import frame, html_view, messages
from multiway_core.errors import InputError
from multiway_text.redstone.document_rules import RULES
from multiway_text.redstone.extraction import EXTRACTORS, Extractor
from multiway_text.redstone.pipeline import RECIPES, Pipeline, Recipe
from multiway_text.redstone.record import Record
from multiway_text.redstone.shards import read_input

from multiway_corpus.app import APP
from multiway_corpus.examples import EXAMPLES
from multiway_corpus.inspection import traced
from multiway_corpus.view import CSS, fragment

DESCRIPTION = (
    "Training text from web pages, by RedStone's rules. Paste or drop a page, see what every stage makes of it, and "
    "move a threshold."
)
_NAMES = [rule.name for rule in RULES]
_extractor = lru_cache(Extractor)  # their processes start slowly


def build_demo() -> Any:
    """The demo as Gradio Blocks."""
    import gradio as gr

    @messages
    def shown(
        html: str, file: str | None, number: float, recipe: str, extractor: str, *thresholds: Any
    ) -> str:
        if not html.strip() and file is None:
            raise InputError("paste the HTML of a page, or drop a file")
        record = Record("page", "", html.encode()) if file is None else _page(Path(file), int(number))
        return fragment(traced(record, pipeline(recipe, extractor, *thresholds)))

    first = next(iter(EXAMPLES))
    recipe_name, html_text = EXAMPLES[first]
    rule = RULES[0]
    with frame(APP.title, DESCRIPTION) as blocks, gr.Row(equal_height=False):
        with gr.Column(scale=5, min_width=320):
            example = gr.Dropdown(list(EXAMPLES), value=first, label="Examples", elem_id="corpus-example")
            html = gr.Textbox(html_text, label="HTML", lines=8, max_lines=14, elem_id="corpus-html")
            file = gr.File(
                label="or a file: HTML or WARC",
                file_types=[".html", ".htm", ".warc", ".gz"],
                elem_id="corpus-file",
                height=110,
            )
            number = gr.Number(
                1, label="Page of the archive", precision=0, minimum=1, elem_id="corpus-number"
            )
            with gr.Row():
                recipe = gr.Dropdown(
                    [name for name in RECIPES if name != "texts"],
                    value=recipe_name,
                    label="Recipe",
                    elem_id="corpus-recipe",
                )
                extractor = gr.Dropdown(
                    ["the recipe's", *EXTRACTORS],
                    value="the recipe's",
                    label="Extractor",
                    elem_id="corpus-extractor",
                )
            with gr.Row():
                name = gr.Dropdown(_NAMES, value=rule.name, label="Rule", elem_id="corpus-rule")
                low = gr.Number(rule.minimum, label="at least", elem_id="corpus-low")
                high = gr.Number(rule.maximum, label="at most", elem_id="corpus-high")
            run = gr.Button("Inspect", variant="primary", elem_id="corpus-run")
        with gr.Column(scale=7, min_width=320):
            view = html_view("", CSS, "corpus-view")
        options: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        inputs = [html, file, number, recipe, extractor, name, low, high]
        example.input(
            lambda chosen: (EXAMPLES[chosen][1], EXAMPLES[chosen][0], None),
            example,
            [html, recipe, file],
            **options,
        ).then(shown, inputs, view, **options)
        name.input(lambda chosen: _bounds(chosen), name, [low, high], **options)
        for part in (recipe, extractor, low, high):
            part.change(shown, inputs, view, **options)
        blocks.load(shown, inputs, view, **options)
        run.click(shown, inputs, view, api_name="inspect")
    return blocks


def pipeline(recipe: str, extractor: str, name: str, low: float | None, high: float | None) -> Pipeline:
    """The pipeline of the page's choices. Raises InputError for one that is none."""
    rules = tuple(
        replace(rule, minimum=low or 0.0, maximum=float("inf") if high is None else high)
        if rule.name == name
        else rule
        for rule in RULES
    )
    chosen = "" if extractor == "the recipe's" else extractor
    found = Recipe(recipe, chosen, rules=rules)
    return Pipeline(found, extractor=_extractor(found.extractor_name))


def _bounds(name: str) -> tuple[float, float | None]:
    rule = RULES[_NAMES.index(name)]
    return rule.minimum, None if rule.maximum == float("inf") else rule.maximum


def _page(path: Path, number: int) -> Record:
    found = next(islice(read_input(path), max(number, 1) - 1, None), None)
    if found is None:
        raise InputError(f"the archive has no page {number}")
    return found
