"""Meaning, words, or both: how a query's two rankings are put together, tuned on some collections and shown on others.

Tuned on: titles of packages to their bodies (``--descriptions``, rows with title and body), English XQuAD's paragraphs
of even number, and the search app's own notes, whose questions share few words with what answers them. Shown on: the
paragraphs of odd number in six languages, questions of four languages to English paragraphs, and ``--beir``, a folder
in BEIR's layout. English by the bundled ``minilm-l6``, the rest by ``multilingual-small``. In each collection all
passages are searched; a query is found by its own language's words, which in another language are names and numbers.

    python -m benchmarks.text.search_fusion --xquad xquad --descriptions descriptions.dev.jsonl --beir cranfield

nDCG@10 with its 95 % interval by bootstrap over queries, in per cent.
"""

from __future__ import annotations

import gzip
import json
import tempfile
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from multiway_core.evaluation.bootstrap import mean_interval
from multiway_search import beir
from multiway_search.collection import NOTES, QUESTIONS
from multiway_text.search import fusion, lexical
from multiway_text.search.pipeline import SearchPipeline

from benchmarks import harness

ENGLISH, MULTILINGUAL = "bundled:minilm-l6", "bundled:multilingual-small"
WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7)
ASKED = 600


@dataclass(frozen=True)
class Collection:
    """Texts by id, and of each query the grades of those that answer it."""

    name: str
    tuned: bool
    model: str
    texts: dict[str, str]
    queries: list[tuple[str, dict[str, int]]]


def xquad(folder: Path, language: str) -> tuple[dict[str, str], list[tuple[str, int]]]:
    """(paragraphs by number, (question, number of its paragraph))."""
    data = json.loads(gzip.decompress((folder / f"xquad.{language}.json.gz").read_bytes()))["data"]
    paragraphs = [paragraph for article in data for paragraph in article["paragraphs"]]
    asked = [(qa["question"], number) for number, one in enumerate(paragraphs) for qa in one["qas"]]
    return {str(number): one["context"] for number, one in enumerate(paragraphs)}, asked


def collections(options: Any) -> Iterator[Collection]:
    """See the module's description."""
    rows = [json.loads(line) for line in options.descriptions.read_text("utf-8").splitlines()]
    rows = list({row["title"]: row for row in rows[:: max(1, len(rows) // 1200)]}.values())
    titles = [(row["title"], {row["package"]: 1}) for row in rows]
    yield Collection(
        "package titles", True, ENGLISH, {row["package"]: row["body"] for row in rows}, titles[:ASKED]
    )
    notes = {path.stem: path.read_text("utf-8") for path in sorted((NOTES / "en").glob("*.md"))}
    yield Collection(
        "the app's notes", True, ENGLISH, notes, [(text, {name: 1}) for text, name in QUESTIONS.items()]
    )
    english, asked = xquad(options.xquad, "en")

    def part(asked: list[tuple[str, int]], odd: int) -> list[tuple[str, dict[str, int]]]:
        return [(text, {str(number): 1}) for text, number in asked if number % 2 == odd]

    yield Collection("XQuAD en, even", True, ENGLISH, english, part(asked, 0))
    yield Collection("XQuAD en", False, ENGLISH, english, part(asked, 1))
    for language in ("de", "es", "ru", "tr", "zh"):
        texts, own = xquad(options.xquad, language)
        yield Collection(f"XQuAD {language}", False, MULTILINGUAL, texts, part(own, 1))
        if language != "tr":
            yield Collection(f"XQuAD {language} to en", False, MULTILINGUAL, english, part(own, 1))
    data = beir.DataSet.read(options.beir)
    queries = [(data.queries[id], grades) for id, grades in data.judgements.items()]
    yield Collection(options.beir.name, False, ENGLISH, data.documents, queries)


def measured(collection: Collection, pipeline: SearchPipeline) -> dict[str, list[float]]:
    """nDCG@10 of each query by each way."""
    found: dict[str, list[float]] = {}
    with (
        tempfile.TemporaryDirectory(prefix="search-fusion-") as folder,
        pipeline.open(Path(folder, "index"), create=True) as index,
    ):
        pipeline.add(index, collection.texts)
        for text, grades in collection.queries:
            hits = {
                mode: pipeline.query(index, text, mode=mode, top=fusion.FUSED, highlight=False).hits
                for mode in ("dense", "bm25")
            }
            path = {hit.passage.id: hit.passage.path for own in hits.values() for hit in own}
            cosines, bm25 = ({hit.passage.id: hit.score for hit in own} for own in hits.values())
            ways = {"dense": cosines, "bm25": bm25}
            ways["rrf"] = fusion.reciprocal_ranks([list(cosines), list(bm25)])
            best = index.best_bm25(lexical.match(text))
            for weight in WEIGHTS:
                with mock.patch.object(fusion, "NEAR", weight):
                    ways[f"{weight}"] = fusion.weighted_sum(cosines, bm25, best)
            for way, scores in ways.items():
                order = sorted(scores, key=lambda number: (-scores[number], number))
                ranking = list(dict.fromkeys(path[number] for number in order))
                found.setdefault(way, []).append(beir.score(ranking, grades)["ndcg@10"])
    return found


def main() -> None:
    parser = harness.parser(__doc__, "text")
    for name in ("--xquad", "--descriptions", "--beir"):
        parser.add_argument(name, type=Path, required=True, metavar="PATH")
    options = parser.parse_args()
    pipelines = {name: SearchPipeline.from_pretrained(name) for name in (ENGLISH, MULTILINGUAL)}
    rows = []
    for collection in collections(options):
        scores = measured(collection, pipelines[collection.model])
        own = np.array(scores[f"{fusion.NEAR}"])
        row: dict[str, Any] = {"name": collection.name, "tuned": collection.tuned, "queries": len(own)}
        row |= {"passages": len(collection.texts), "ndcg": {k: float(np.mean(v)) for k, v in scores.items()}}
        row["gain"] = {
            way: astuple(mean_interval(own - np.array(scores[way]), resamples=2000))
            for way in ("dense", "bm25", "rrf")
        }
        rows.append(row)
        print(row, flush=True)
    report = harness.provenance("search-fusion") | {"near": fusion.NEAR, "rows": rows}
    harness.save(options.output, "search-fusion", report, page(report))


def page(report: dict[str, Any]) -> str:
    """The tables."""
    tuned = [row for row in report["rows"] if row["tuned"]]
    shown = [row for row in report["rows"] if not row["tuned"]]
    ways = ["dense", "bm25", "rrf", *map(str, WEIGHTS)]
    first = [[row["name"], *(f"{100 * row['ndcg'][way]:.1f}" for way in ways)] for row in tuned]
    first.append(["mean", *(f"{100 * np.mean([row['ndcg'][way] for row in tuned]):.1f}" for way in ways)])
    second = [
        [
            row["name"],
            row["queries"],
            row["passages"],
            *(f"{100 * row['ndcg'][way]:.1f}" for way in ("dense", "bm25", "rrf", str(report["near"]))),
            *(
                "{:+.1f} ({:+.1f} to {:+.1f})".format(*(100 * value for value in row["gain"][way]))
                for way in ("dense", "rrf")
            ),
        ]
        for row in shown
    ]
    described = (__doc__ or "").split("\n\n")
    heads = [
        "nDCG@10, %",
        "queries",
        "passages",
        "meaning",
        "words (BM25)",
        "reciprocal ranks",
        "weighted sum",
    ]
    heads += ["sum over meaning", "sum over reciprocal ranks"]
    return (
        f"# Both rankings of a query\n\n{described[1]}\n\n{described[3]}\n\n"
        f"Weight of meaning in the sum, chosen on these:\n\n{harness.table(['nDCG@10, %', *ways], first)}\n\n"
        f"With {report['near']} on the others:\n\n{harness.table(heads, second)}\n\n"
        f"{report['machine']['cpu']}; `{report['command']}`."
    )


if __name__ == "__main__":
    main()
