"""Data sets of passages, queries and judgements in BEIR's layout, and how well an index finds what was judged right.

    FOLDER/corpus.jsonl          {"_id": "...", "title": "...", "text": "..."}
    FOLDER/queries.jsonl         {"_id": "...", "text": "..."}
    FOLDER/qrels/test.tsv        query-id, corpus-id, score

Files may end in ``.gz``. Measures are those of trec_eval (package `pytrec-eval-terrier`), as BEIR's own are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from multiway_core.data_files import number
from multiway_core.errors import DataError, InputError
from multiway_core.evaluation import Metric, Report, Sample, evaluate
from multiway_text.search.fusion import Mode

if TYPE_CHECKING:
    from multiway_text.encoder.rows import Row
    from multiway_text.search.pipeline import SearchPipeline
    from multiway_text.search.store import Index

MODES = get_args(Mode)
MEASURES = {
    "ndcg@10": "ndcg_cut_10",
    "recall@10": "recall_10",
    "recall@100": "recall_100",
    "accuracy@1": "success_1",
    "mrr@10": "recip_rank",
}
PASSAGES = 200
"""Passages that are asked for: enough for 100 documents, of which some have several."""


@dataclass(frozen=True)
class DataSet:
    """Documents and queries by id, and for each query the grades of documents (above 0: relevant)."""

    documents: dict[str, str]
    queries: dict[str, str]
    judgements: dict[str, dict[str, int]]

    @classmethod
    def read(cls, folder: Path, split: str = "test") -> DataSet:
        """Queries without a relevant document are left out.

        Raises InputError: a file is not there, or no query can be measured; DataError (file and line): a row that is
        damaged or doubled, a judgement of a query that is not there.
        """
        documents = _texts(folder, "corpus.jsonl")
        queries = _texts(folder, "queries.jsonl")
        path = _file(folder, f"qrels/{split}.tsv")
        judgements: dict[str, dict[str, int]] = {}
        for row in _rows(path):
            query, document = row.text("query-id"), row.text("corpus-id")
            if query not in queries:
                raise DataError(f"{row.where}: queries.jsonl has no query {query!r}")
            grade = number(row.fields.get("score"), f"{row.where}.score")
            judgements.setdefault(query, {})[document] = round(grade)
        judged = {query: own for query, own in judgements.items() if any(grade > 0 for grade in own.values())}
        if not any(document in documents for own in judged.values() for document in own):
            raise InputError(f"{path}: no document of corpus.jsonl is judged relevant to any query")
        return cls(documents, queries, judged)


def measure(
    pipeline: SearchPipeline,
    index: Index,
    data: DataSet,
    *,
    name: str,
    limit: int | None = None,
    seed: int = 0,
    on_sample: Callable[[dict[str, Any]], None] | None = None,
) -> Report:
    """`MEASURES` of each of `MODES` over the queries; documents that the index has not are put into it.

    A document's place is that of its best passage. A document with the id of the query is passed over, as BEIR does.
    """
    there = {document.path for document in index.documents()}
    new = {id: text for id, text in data.documents.items() if id not in there}
    pipeline.add(index, new)
    samples = (Sample(query, query, own) for query, own in islice(data.judgements.items(), limit))

    def ask(query: str) -> dict[str, dict[str, float]]:
        text, found = data.queries[query], {}
        for mode in MODES:
            hits = pipeline.query(index, text, mode=mode, top=PASSAGES, highlight=False).hits
            ids = dict.fromkeys(hit.passage.path for hit in hits)
            ranking = [id for id in ids if id != query][:100]
            found[mode] = score(ranking, data.judgements[query])
        return found

    metrics: dict[str, Any] = {
        metric_name(measure, mode): lambda found, _, mode=mode, measure=measure: found[mode][measure]
        for mode in MODES
        for measure in MEASURES
    }
    return evaluate(samples, ask, metrics, name=name, seed=seed, on_sample=on_sample)


def score(ranking: list[str], grades: dict[str, int]) -> dict[str, float]:
    """`MEASURES` of one query's ranking of documents."""
    from pytrec_eval import RelevanceEvaluator

    evaluator = RelevanceEvaluator({"": grades}, {"ndcg_cut.10", "recall.10,100", "success.1", "recip_rank"})
    # By score trec_eval would sort equal ones by their ids: ours is the order of the ranking.
    values = evaluator.evaluate({"": {id: float(-place) for place, id in enumerate(ranking)}}).get("", {})
    found = {name: float(values.get(key, 0.0)) for name, key in MEASURES.items()}
    return found | {"mrr@10": found["mrr@10"] if found["mrr@10"] >= 0.1 else 0.0}


def metric_name(measure: str, mode: str) -> str:
    """In a report: those of the hybrid, which is what a query gets, have no mode in their name."""
    return measure if mode == "hybrid" else f"{mode} {measure}"


def side_by_side(report: Report) -> str:
    """The modes as rows and the measures as columns, in Markdown."""
    lines = [f"# {report.name}", "", f"{report.n} queries, {report.failed} failed; mean [95 % interval].", ""]
    lines += ["| | " + " | ".join(MEASURES) + " |", "| --- |" + " --: |" * len(MEASURES)]
    for mode in MODES:
        cells = [_cell(report.metrics[metric_name(measure, mode)]) for measure in MEASURES]
        lines.append(f"| {mode} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(metric: Metric) -> str:
    if metric.low is None or metric.high is None:
        return f"{metric.mean:.3f}"
    return f"{metric.mean:.3f} [{metric.low:.3f}, {metric.high:.3f}]"


def _texts(folder: Path, name: str) -> dict[str, str]:
    """By ``_id``: the title, an empty line, and the text."""
    found: dict[str, str] = {}
    for row in _rows(_file(folder, name)):
        id = row.text("_id")
        if id in found:
            raise DataError(f"{row.where}: _id {id!r} stands twice")
        title = row.fields.get("title")
        text = row.text("text")
        found[id] = f"{title}\n\n{text}" if isinstance(title, str) and title.strip() else text
    if not found:
        raise InputError(f"{folder}/{name}: no row")
    return found


def _rows(path: Path) -> Iterator[Row]:
    from multiway_text.encoder.rows import read_rows

    return read_rows([str(path)])


def _file(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    there = ", ".join(sorted(path.name.split(".")[0] for path in folder.glob("qrels/*.tsv*")))
    hint = f"; --split takes {there}" if name.startswith("qrels/") and there else ""
    raise InputError(
        f"{folder / name}: no such file; expected corpus.jsonl, queries.jsonl, qrels/test.tsv{hint}"
    )
