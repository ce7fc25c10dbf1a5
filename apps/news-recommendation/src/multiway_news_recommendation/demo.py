"""The demo: a reader's list with what each score is made of, why, and the way through the click graph as a picture."""

from __future__ import annotations

import html
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from multiway_core.app import ModelLoader, ModelOptions, frame, html_view, messages, viewer
from multiway_core.errors import InputError

from multiway_news_recommendation.app import APP
from multiway_news_recommendation.recommend import parse_ids

if TYPE_CHECKING:
    from multiway_recsys.auto_recommender import Recommender
    from multiway_recsys.serving.result import Recommendation, RecommendationList

TITLE = "Multiway News Recommendation"
DESCRIPTION = (
    "What a reader may want to read next, and why: the click, and the chain that other readers followed."
)
SIMULATED = "Simulated portal: articles, readers and clicks are made up"
SIMULATED_HELP = (
    "This portal is simulated: its articles are written by a program, its readers and clicks are made up. "
    "Nothing here is about real people or events."
)
TOP = 10
_READERS = 80
_COMPARED = 200  # places of the list with chains that the one without is compared with
_DAY = 86_400
_PART_COLOURS = {
    "content": "#94a3b8",
    "neighbours": "#06b6d4",
    "chains": "#2563eb",
    "entities": "#8b5cf6",
    "popularity": "#f59e0b",
    "reader": "#94a3b8",
    "item_knn": "#06b6d4",
    "rp3beta": "#2563eb",
    "ease": "#94a3b8",
    "random_walks": "#14b8a6",
    "popularity-live": "#ef4444",
    "clicks": "#f59e0b",
    "sasrec": "#8b5cf6",
}
_HISTORY_CSS = """
.clicks { border: 1px solid var(--border-color-primary); border-radius: 8px; padding: 8px 4px 8px 12px;
  background: var(--background-fill-primary); font-size: 13px; color: var(--body-text-color); }
.clicks .head { color: var(--body-text-color-subdued); margin-bottom: 4px; }
.clicks ol { margin: 0; padding: 0; list-style: none; max-height: 340px; overflow: auto; scrollbar-width: thin; }
.clicks li { display: flex; gap: 8px; align-items: baseline; padding: 3px 6px 3px 0; line-height: 1.35; }
.clicks li i { flex: none; width: 8px; height: 8px; border-radius: 50%; }
.clicks .note { padding: 4px 0; color: var(--body-text-color-subdued); }
"""


def build_demo(model: str = APP.model, *, device: str = "auto", dtype: str = "auto") -> Any:
    """The demo as Gradio Blocks, with the model loaded. Raises StopRun when it cannot be."""
    session = DemoSession(ModelOptions(model, device, dtype))
    with frame(TITLE, DESCRIPTION) as blocks:
        _fill(session)
    return blocks


def _fill(session: DemoSession) -> None:
    import gradio as gr

    choices = session.reader_choices()
    first = choices[0][1] if choices else None
    clicks = session.history_text(first)
    view, history = session.show(first, clicks, True, 0.3)
    with gr.Row(equal_height=False):
        with gr.Column(scale=0, min_width=320):
            reader = gr.Dropdown(
                choices,
                value=first,
                label="Reader of the portal",
                filterable=True,
                visible=bool(choices),
                elem_id="news-reader",
            )
            typed = gr.Textbox(
                clicks,
                label="What was read: ids, oldest first (yours to change)",
                placeholder="N13321, N2724; empty for a new reader",
                lines=2,
                max_lines=4,
                elem_id="news-history",
            )
            chains = gr.Checkbox(
                True,
                label="Long chains (take them away to compare)",
                visible=session.recommender.has_chains,
                elem_id="news-chains",
            )
            diversity = gr.Slider(0, 1, value=0.3, step=0.1, label="Diversity", elem_id="news-diversity")
            run = gr.Button("Recommend", variant="primary", elem_id="news-run")
            shown = html_view(history, _HISTORY_CSS, "news-clicks")
        with gr.Column(scale=7, min_width=560):
            shown_list = viewer(APP, view, "news-view")

    @messages
    def chosen(user: str | None) -> str:
        return session.history_text(user)

    @messages
    def ranked(user: str | None, text: str, with_chains: bool, wanted: float) -> list[Any]:
        return list(session.show(user, text, with_chains, wanted))

    @messages
    def as_json(user: str, text: str, top: float, with_chains: bool) -> dict[str, Any]:
        return session.document(user or None, text, int(top), with_chains)

    inputs, outputs = [reader, typed, chains, diversity], [shown_list, shown]
    options: dict[str, Any] = {
        "api_visibility": "private",
        "show_progress": "hidden",
        "concurrency_id": "model",
    }
    reader.input(chosen, reader, typed, api_visibility="private", show_progress="hidden").then(
        ranked, inputs, outputs, **options
    )
    for event in (run.click, typed.submit, chains.input, diversity.release):
        event(ranked, inputs, outputs, **options)
    # The same for programs (gradio_client): JSON of schema multiway.news-recommendation/1.
    gr.Button(visible=False).click(
        as_json,
        [gr.Textbox(visible=False), gr.Textbox(visible=False), gr.Number(TOP, visible=False), chains],
        gr.JSON(visible=False),
        api_name="recommend",
        concurrency_id="model",
    )


class DemoSession:
    """One recommender for all visitors, and the values of the page's components."""

    def __init__(self, model: ModelOptions) -> None:
        self.recommender: Recommender = ModelLoader(APP, model)()
        self.model = model.model

    def reader_choices(self) -> list[tuple[str, str]]:
        """Some readers with what is known of them: those with most clicks first in each range of dormancy."""
        import numpy as np

        readers, until = self.recommender.readers, self.recommender.until or 0
        lengths = readers.histories.lengths
        rows = np.flatnonzero(lengths > 0)
        if not len(rows):
            return []
        away = np.maximum(until - readers.last_seen[rows], 0) // _DAY
        order = rows[np.lexsort((rows, -lengths[rows], away // 7))]
        kept = order[np.linspace(0, len(order) - 1, min(_READERS, len(order))).astype(int)]
        kept = sorted(kept.tolist(), key=lambda row: (-int(lengths[row]), row))
        return [
            (f"{readers.ids[row]} · {_count(int(lengths[row]), 'click')}", readers.ids[row]) for row in kept
        ]

    def history_text(self, user: str | None) -> str:
        """A reader's clicks as ids between commas; empty for none."""
        return ", ".join(self.recommender.history_of(user)) if user else ""

    def show(self, user: str | None, text: str, chains: bool, diversity: float) -> tuple[dict[str, Any], str]:
        """The viewer's value and the list of clicks. Raises InputError."""
        started = time.monotonic()
        found = self._recommend(user, text, TOP, chains, diversity)
        seconds = time.monotonic() - started
        before: dict[str, int] = {}
        if not chains and found.rule is None:
            compared = self._recommend(user, text, _COMPARED, True, diversity, detail="score")
            before = {item.article.id: rank for rank, item in enumerate(compared.recommendations, 1)}
        return self._view(found, chains, before, seconds), clicks_html(found)

    def document(self, user: str | None, text: str, top: int, chains: bool) -> dict[str, Any]:
        """The list as JSON, explained. Raises InputError."""
        if not 1 <= top <= 100:
            raise InputError(f"top {top}: expected 1 to 100")
        return dict(self._recommend(user, text or self.history_text(user), top, chains, 0.3).to_json())

    def _recommend(
        self,
        user: str | None,
        text: str,
        top: int,
        chains: bool,
        diversity: float,
        *,
        detail: str = "explanation",
    ) -> RecommendationList:
        from multiway_recsys.serving.reranking import RerankingOptions

        ids = parse_ids(text or "", "history")
        is_readers = user is not None and ids == self.recommender.history_of(user)
        return self.recommender.recommend(
            ids,
            user=user if is_readers else None,
            top=top,
            rules=RerankingOptions(diversity=float(diversity)),
            chains=chains,
            detail="score" if detail == "score" else "explanation",
        )

    def _view(
        self, found: RecommendationList, chains: bool, before: dict[str, int], seconds: float
    ) -> dict[str, Any]:
        items = [
            self._item(rank, item, before, compares=bool(before))
            for rank, item in enumerate(found.recommendations, 1)
        ]
        names = list(dict.fromkeys(part["name"] for item in items for part in item["parts"]))
        parts = [f"{_count(len(found.history), 'click')}"]
        parts.append(f"{self.recommender.live_news():,} live articles ranked in {1000 * seconds:.0f} ms")
        if found.rule is not None:
            parts.append(found.rule)
        elif not chains:
            parts.append("without chains: arrows show the change against the list with chains")
        if found.unknown:
            parts.append(f"{_count(len(found.unknown), 'unknown id')} left out")
        return {
            "badge": SIMULATED if found.simulated else "",
            "help": SIMULATED_HELP if found.simulated else "",
            "summary": " · ".join(parts),
            "note": "Nothing may be shown.",
            "items": items,
            "legend": [{"name": _LEGEND.get(name, name), "colour": _colour(name)} for name in names],
        }

    def _item(
        self, rank: int, item: Recommendation, before: dict[str, int], *, compares: bool
    ) -> dict[str, Any]:
        from multiway_recsys.serving.explanation_svg import category_colour, explanation_svg

        explanation = item.explanation
        assert explanation is not None
        checks = []
        if explanation.occlusion is not None and explanation.click is not None:
            checks.append(("without the click that is explained", explanation.occlusion.without_click))
            if explanation.chain:
                checks.append(("without its chain", explanation.occlusion.without_chain))
            checks.append(("without any chain", explanation.occlusion.without_all_chains))
        return {
            "rank": rank,
            "before": before.get(item.article.id),
            "isNew": compares and item.article.id not in before,
            "id": item.article.id,
            "title": item.article.title or "(no title)",
            "category": item.article.category,
            "colour": category_colour(item.article.category),
            "age": self._age(item.article.row),
            "score": round(item.score, 4),
            "parts": [
                {"name": name, "value": round(value, 4), "colour": _colour(name)}
                for name, value in item.parts.items()
            ],
            "text": explanation.text,
            "checks": [{"what": what, "delta": round(delta, 4)} for what, delta in checks],
            "picture": explanation_svg(explanation, item.article, item.parts, item.score),
        }

    def _age(self, row: int) -> str:
        published, until = self.recommender.published_N, self.recommender.until
        if published is None or until is None or not published[row]:
            return ""
        days = (until - int(published[row])) // _DAY
        return "today" if days <= 0 else f"{_count(int(days), 'day')} old"


_LEGEND = {
    "content": "what the clicks are about",
    "neighbours": "what their readers read next",
    "chains": "where long chains lead",
    "entities": "who and what they name",
    "popularity": "popularity",
    "reader": "the reader",
    "item_knn": "read by the same readers",
    "rp3beta": "walks through readers (RP3beta)",
    "ease": "linear model of the clicks (EASE)",
    "random_walks": "walks along the click graph",
    "popularity-live": "clicked now",
    "clicks": "clicks",
    "sasrec": "what comes next (SASRec)",
}


def clicks_html(found: RecommendationList) -> str:
    """The history as a list, the newest click first; all texts escaped."""
    from multiway_recsys.serving.explanation_svg import category_colour

    if not found.history:
        return "<div class='clicks'><div class='note'>No known click: a new reader.</div></div>"
    times = Counter(article.id for article in found.history)
    rows = [
        f"<li title='{html.escape(article.id)}, {html.escape(article.category)}'>"
        f"<i style='background:{category_colour(article.category)}'></i>"
        f"<span>{html.escape(article.title or article.id)}{_times(times[article.id])}</span></li>"
        for article in dict.fromkeys(reversed(found.history))
    ]
    name = f"History of {html.escape(found.user)}" if found.user else "This history"
    head = f"<div class='head'>{name}, newest first</div>"
    return f"<div class='clicks'>{head}<ol tabindex='0' aria-label='Clicks'>{''.join(rows)}</ol></div>"


def _times(count: int) -> str:
    return f" (read {count} times)" if count > 1 else ""


def _colour(part: str) -> str:
    return _PART_COLOURS.get(part, "#64748b")


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
