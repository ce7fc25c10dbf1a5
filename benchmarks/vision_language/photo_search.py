"""Photographs found by words: photo-search-small beside tags with exact words, MiniLM over tags, and chance.

Unseen: 92 photographs of public packages and 292 queries (class names, synonyms, free descriptions), which were written
from contact sheets before any search was run on them (photo_search_pictures.tsv, photo_search_queries.tsv). Some of the
packages were backgrounds when another model, grounding-small, was trained; the detector, the classifier and this model
have not seen them. COCO: pictures of val2017 with five captions each. Neither the published backbones nor this model
were trained or tuned on them; grounding-small, of which nothing is used here but the published detector, was trained
on some.

    python -m benchmarks.vision_language.photo_search --pictures DIR [--coco DIR --captions captions_val2017.json]

``DIR`` holds the packages unpacked side by side: scikit-image (its data folder), mvtb-data (its images folder), and the
Debian packages plasma-workspace-wallpapers, mate-backgrounds, lomiri-wallpapers-16.04, opencv-doc.

nDCG is of the ten first. Recall at k is the share of the right pictures among the first k, of at most k.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from multiway_text.search.pipeline import SearchPipeline
from multiway_vision_language.photo_search.pipeline import PhotoPipeline
from multiway_vision_language.pictures import open_picture

from benchmarks import harness

HERE = Path(__file__).parent
CLASSIFIER = 1000
TAGS = 5
METHODS = (
    "photo-search-small",
    "its class table before training",
    "MiniLM over tags",
    "tags and exact words",
)


class Query(NamedTuple):
    """``right``: numbers of pictures."""

    kind: str
    text: str
    right: frozenset[int]


class Pictures(NamedTuple):
    """Vectors (N, E), weights of classes (N, C), and names of the five classifier's classes that are most probable."""

    vectors_NE: np.ndarray
    weights_NC: np.ndarray
    tags: list[list[str]]


def main() -> None:
    """Measure, and write the page."""
    options = harness.parser(__doc__, "vision_language")
    options.add_argument("--pictures", type=Path, required=True)
    options.add_argument("--coco", type=Path)
    options.add_argument("--captions", type=Path)
    given = options.parse_args()
    photos = PhotoPipeline.from_pretrained("bundled:photo-search-small")
    texts = SearchPipeline.from_pretrained("bundled:minilm-l6")
    report: dict[str, Any] = {}
    rows = [line.split("\t") for line in (HERE / "photo_search_pictures.tsv").read_text().splitlines()]
    place = {name: number for number, (name, _) in enumerate(rows)}
    queries = [
        Query(kind, text, frozenset(place[name] for name in right.split()))
        for kind, text, right in (
            line.split("\t") for line in (HERE / "photo_search_queries.tsv").read_text().splitlines()
        )
    ]
    seen = look(photos, [given.pictures / path for _, path in rows])
    report["unseen"] = measured(photos, texts, seen, queries)
    if given.coco:
        paths = sorted(given.coco.glob("*.jpg"))
        number = {int(path.stem): place for place, path in enumerate(paths)}
        captions = json.loads(given.captions.read_text())["annotations"]
        asked = [
            Query("caption", row["caption"].strip(), frozenset([number[row["image_id"]]]))
            for row in captions
            if row["image_id"] in number
        ]
        report["coco val2017"] = measured(photos, texts, look(photos, paths), asked)
    write(given.output, report)


def look(photos: PhotoPipeline, paths: Sequence[Path]) -> Pictures:
    """All pictures through the pipeline of the app."""
    found = [photos.encode([open_picture(path).image]) for path in paths]
    vectors_NE, weights_NC = (np.concatenate(parts) for parts in zip(*found, strict=True))
    names = photos.model.config.classes
    tags = [[names[i] for i in np.argsort(-row[:CLASSIFIER])[:TAGS]] for row in weights_NC]
    return Pictures(vectors_NE, weights_NC, tags)


def measured(
    photos: PhotoPipeline, texts: SearchPipeline, seen: Pictures, queries: Sequence[Query]
) -> dict[str, Any]:
    """For each method and kind of query: number, nDCG@10, recall@1, 5, 10."""
    queries_QE = texts.embed([query.text for query in queries], prompt="query")
    names = list(photos.model.config.classes)
    untrained_NE = seen.weights_NC @ texts.embed(names)
    untrained_NE /= np.linalg.norm(untrained_NE, axis=1, keepdims=True)
    tags_NE = texts.embed([", ".join(tags) for tags in seen.tags])
    scores = dict(
        zip(
            METHODS,
            (
                queries_QE @ seen.vectors_NE.T,
                queries_QE @ untrained_NE.T,
                queries_QE @ tags_NE.T,
                np.stack([shared_words(query.text, seen, names) for query in queries]),
            ),
            strict=True,
        )
    )
    found: dict[str, Any] = {"pictures": len(seen.tags)}
    for name, scores_QN in scores.items():
        found[name] = by_kind(queries, lambda row, made=scores_QN: made[row])
    generator = np.random.default_rng(0)
    found["chance"] = by_kind(queries, lambda _: generator.random(len(seen.tags)))
    return found


def shared_words(text: str, seen: Pictures, names: Sequence[str]) -> np.ndarray:
    """(N,): sums of the probabilities of the tags that have a word of the query."""
    words = set(re.findall(r"[a-z]+", text.lower())) - {
        "a",
        "the",
        "of",
        "in",
        "on",
        "to",
        "and",
        "with",
        "at",
    }
    scores = np.zeros(len(seen.tags))
    for row, tags in enumerate(seen.tags):
        for tag in tags:
            if words & set(re.findall(r"[a-z]+", tag.lower())):
                scores[row] += seen.weights_NC[row, names.index(tag)]
    return scores + np.linspace(0, -1e-9, len(scores))  # what no tag tells stays in the files' order


def by_kind(queries: Sequence[Query], scores: Callable[[int], np.ndarray]) -> dict[str, list[float]]:
    """[queries, nDCG@10, recall@1, recall@5, recall@10], in per cent."""
    discounts = 1 / np.log2(np.arange(10) + 2)
    rows = defaultdict(list)
    for number, query in enumerate(queries):
        order = np.argsort(-scores(number), kind="stable")[:10]
        hits = np.array([place in query.right for place in order], float)
        most = len(query.right)
        gain = float(hits @ discounts / discounts[: min(10, most)].sum())
        rows[query.kind].append([gain, *(hits[:k].sum() / min(k, most) for k in (1, 5, 10))])
    return {kind: [len(own), *(100 * np.mean(own, 0)).round(1).tolist()] for kind, own in rows.items()}


def write(folder: Path, report: dict[str, Any]) -> None:
    """A table for each set."""
    parts = [
        "# Photographs found by words",
        "",
        f"`{harness.command()}`. {(__doc__ or '').split('    python')[0]}",
    ]
    for name, found in report.items():
        kinds = list(found[METHODS[0]])
        for kind in kinds:
            rows = [[method, *found[method][kind][1:]] for method in (*METHODS, "chance")]
            count = found[METHODS[0]][kind][0]
            parts += [
                f"## {name}: {kind}, {count:,} queries, {found['pictures']} pictures",
                "",
                harness.table(["", "nDCG@10", "recall@1", "recall@5", "recall@10"], rows),
                "",
            ]
    harness.save(folder, "photo-search", {**harness.provenance("photo_search"), **report}, "\n".join(parts))


if __name__ == "__main__":
    main()
