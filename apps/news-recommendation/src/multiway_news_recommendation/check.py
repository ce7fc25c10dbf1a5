"""The ``check`` command: what a log looks like, beside MIND."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multiway_news_recommendation.mind_folder import tell_bad_rows
from multiway_news_recommendation.options import Split

if TYPE_CHECKING:
    from multiway_recsys.data.mind import MindData

# Of 5,000 impressions of MIND-small's train split, measured by us; aggregates only.
MIND = {
    "candidates an impression, mean": 37.9,
    "candidates an impression, median": 24.0,
    "candidates an impression, largest": 283.0,
    "clicks an impression": 1.51,
    "clicked share of candidates, %": 3.98,
    "history length, median": 18.0,
    "history length, 90 %": 70.0,
    "history length, 99 %": 181.0,
    "histories over 50 clicks, %": 17.2,
    "users who repeat a news, %": 20.0,
    "edges of more than one reader, %": 7.6,
    "clicks on the most read 1 % of news, %": 20.1,
    "candidates in the click graph, %": 17.3,
}


@dataclass(frozen=True)
class Statistics:
    """Numbers of a log by name, in the order to print them; NaN where there is nothing to count."""

    folder: str
    values: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """JSON-ready; a number that is not defined is null."""
        values = {key: None if value != value else value for key, value in self.values.items()}
        return {"schema": "multiway.news-statistics/1", "folder": self.folder, "statistics": values}

    def to_markdown(self) -> str:
        """A table with MIND's numbers beside."""
        lines = [f"# {self.folder}", "", "| | this log | MIND-small sample |", "| --- | ---: | ---: |"]
        for key, value in self.values.items():
            beside = f"{MIND[key]:g}" if key in MIND else ""
            lines.append(f"| {key} | {_readable(value)} | {beside} |")
        return "\n".join(lines) + "\n"


def check_folder(data: Path, *, split: Split = "train", skip_bad_rows: bool = False) -> Statistics:
    """Read a folder strictly and count. Raises DataError with file, line and character of the first bad row."""
    from multiway_recsys.data.mind import read_folder

    found = read_folder(data, split, skip_bad_rows=skip_bad_rows)
    tell_bad_rows(found)
    return Statistics(str(data), statistics(found))


def statistics(found: MindData) -> dict[str, float]:
    """The numbers of dossier table 10.1 for any log."""
    import numpy as np
    from multiway_recsys.graph import ClickGraph

    news, behaviors = found.news, found.behaviors
    shown, lengths = behaviors.candidates.lengths, behaviors.histories.lengths
    labels = behaviors.labels
    clicked = np.zeros(0, bool) if labels is None else labels == 1
    graph = ClickGraph.build(behaviors.histories, behaviors.users, len(news))
    in_graph = graph.degrees > 0
    in_graph[graph.indices] = True
    clicks_N = np.sort(np.bincount(behaviors.histories.values, minlength=len(news))[1:])[::-1]
    most = clicks_N[: max(1, int((clicks_N > 0).sum()) // 100)].sum()
    per_user = np.zeros(len(behaviors.user_ids), bool)
    for row in range(len(behaviors)):
        history = behaviors.histories[row]
        if not per_user[behaviors.users[row]]:
            per_user[behaviors.users[row]] = len(np.unique(history)) < len(history)
    users = np.unique(behaviors.users)

    def share(part: float, whole: float) -> float:
        return 100 * part / whole if whole else float("nan")

    def at(quantile: float, values: Any) -> float:
        return float(np.quantile(values, quantile)) if len(values) else float("nan")

    return {
        "news": len(news) - 1,
        "news without title": sum(not title for title in news.titles[1:]),
        "categories": len(news.category_names) - 1,
        "subcategories": len(news.subcategory_names) - 1,
        "users": len(users),
        "impressions": len(behaviors),
        "impressions without history": int((lengths == 0).sum()),
        "candidates an impression, mean": float(shown.mean()) if len(shown) else float("nan"),
        "candidates an impression, median": at(0.5, shown),
        "candidates an impression, largest": at(1.0, shown),
        "clicks an impression": float(clicked.sum()) / len(behaviors) if len(clicked) else float("nan"),
        "clicked share of candidates, %": share(float(clicked.sum()), len(clicked)),
        "history length, median": at(0.5, lengths),
        "history length, 90 %": at(0.9, lengths),
        "history length, 99 %": at(0.99, lengths),
        "histories over 50 clicks, %": share(float((lengths > 50).sum()), len(lengths)),
        "users who repeat a news, %": share(float(per_user[users].sum()), len(users)),
        "edges of the click graph": graph.num_edges,
        "edges of more than one reader, %": share(float((graph.weights > 1).sum()), graph.num_edges),
        "clicks on the most read 1 % of news, %": share(float(most), float(clicks_N.sum())),
        "candidates in the click graph, %": share(
            float(in_graph[behaviors.candidates.values].sum()), len(behaviors.candidates.values)
        ),
    }


def _readable(value: float) -> str:
    if value != value:
        return "–"
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.2f}"
