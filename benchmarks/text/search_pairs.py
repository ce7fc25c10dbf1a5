"""Known translations hidden among other sentences: the margin of ``multiway-search pairs`` beside the plain cosine.

Of each language's file of Tatoeba the first half of the pairs is hidden; the other half gives sentences without a
translation: of its first half the foreign sides, of its second half the English ones, and so do the English sides of
all other files (sentences that are equal to one with a translation are left out; some that mean the same may remain and
count as mistakes). A pair is kept where each is the other's best, by margin or by cosine, and above a threshold that is
chosen for F1 on some languages (`TUNED`) and measured on others.

    python -m benchmarks.text.search_pairs --data DIR

``DIR`` holds the files of Tatoeba.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from multiway_text.search import bitext
from multiway_text.search.pipeline import SearchPipeline
from multiway_text.search.vectors import nearest_rows

from benchmarks import harness

TUNED = ("fra", "spa", "ita", "nld", "pol")
MEASURED = ("deu", "por", "rus", "jpn", "cmn", "tur")
THRESHOLDS = {"margin": np.arange(1.0, 1.2, 0.0025), "cosine": np.arange(0.8, 0.99, 0.0025)}


class Hidden(NamedTuple):
    """Foreign and English sentences, and those (row, column) that are translations."""

    foreign: list[str]
    english: list[str]
    pairs: set[tuple[int, int]]


class Vectors:
    """Of texts that come again and again."""

    def __init__(self, pipeline: SearchPipeline) -> None:
        self.pipeline = pipeline
        self.made: dict[str, np.ndarray] = {}

    def of(self, texts: list[str]) -> np.ndarray:
        """(texts, width)."""
        new = [text for text in texts if text not in self.made]
        self.made |= zip(new, self.pipeline.embed(new, prompt="query"), strict=True)
        return np.stack([self.made[text] for text in texts])


def sides(folder: Path, code: str) -> tuple[list[str], list[str]]:
    """The lines of a language's file."""
    own, english = (folder / f"tatoeba.{code}-eng.{side}" for side in (code, "eng"))
    return own.read_text("utf-8").splitlines(), english.read_text("utf-8").splitlines()


def hide(folder: Path, code: str) -> Hidden:
    """See the module's description."""
    own, english = sides(folder, code)
    half, most = len(own) // 2, 3 * len(own) // 4
    others = [line for other in (*TUNED, *MEASURED) if other != code for line in sides(folder, other)[1]]
    foreign = list(dict.fromkeys(own[:most]))
    hidden = set(english[:most])
    without = [line for line in (*english[most:], *others) if line not in hidden]
    all_english = list(dict.fromkeys([*english[:half], *without]))
    places = {text: place for place, text in enumerate(all_english)}
    rows = {text: place for place, text in enumerate(foreign)}
    return Hidden(
        foreign, all_english, {(rows[a], places[b]) for a, b in zip(own[:half], english[:half], strict=True)}
    )


def by_cosine(first_NE: np.ndarray, second_ME: np.ndarray) -> list[tuple[int, int, float]]:
    """Each other's nearest, with their cosine."""
    columns_N1, cosines_N1 = nearest_rows(first_NE, second_ME, 1)
    rows_M1, _ = nearest_rows(second_ME, first_NE, 1)
    return [
        (row, int(column), float(cosine))
        for row, (column, cosine) in enumerate(zip(columns_N1[:, 0], cosines_N1[:, 0], strict=True))
        if rows_M1[column, 0] == row
    ]


def counts(found: list[tuple[int, int, float]], hidden: Hidden, thresholds: np.ndarray) -> np.ndarray:
    """(thresholds, 3): pairs that are right, that were found, that there are."""
    scores = np.array([score for *_, score in found])
    right = np.array([(row, column) in hidden.pairs for row, column, _ in found])
    return np.array(
        [[right[scores >= t].sum(), (scores >= t).sum(), len(hidden.pairs)] for t in thresholds], float
    )


def scores_of(counted_T3: np.ndarray) -> np.ndarray:
    """(thresholds, 3): precision, recall, F1."""
    right, found, there = counted_T3.T
    precision, recall = right / np.maximum(found, 1), right / there
    return np.stack([precision, recall, 2 * right / (found + there)], 1)


def main() -> None:
    parser = harness.parser(__doc__, "text")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--model", default="bundled:multilingual-small")
    options = parser.parse_args()
    pipeline = SearchPipeline.from_pretrained(options.model)
    english = Vectors(pipeline)
    curves: dict[str, dict[str, np.ndarray]] = {name: {} for name in THRESHOLDS}
    sizes = {}
    for code in (*TUNED, *MEASURED):
        hidden = hide(options.data, code)
        first_NE, second_ME = pipeline.embed(hidden.foreign, prompt="query"), english.of(hidden.english)
        sizes[code] = [len(hidden.pairs), len(hidden.foreign), len(hidden.english)]
        found = {
            "margin": bitext.mine(first_NE, second_ME, threshold=0.0),
            "cosine": by_cosine(first_NE, second_ME),
        }
        for name, pairs in found.items():
            curves[name][code] = counts(pairs, hidden, THRESHOLDS[name])
            best = scores_of(curves[name][code])[:, 2].argmax()
            print(code, name, THRESHOLDS[name][best], scores_of(curves[name][code])[best], flush=True)
    chosen = {
        name: int(np.mean([scores_of(own[code])[:, 2] for code in TUNED], 0).argmax())
        for name, own in curves.items()
    }
    results, rows = {}, []
    for code in MEASURED:
        row: list[object] = [code, *sizes[code]]
        for name, own in curves.items():
            scored = scores_of(own[code])
            results[f"{name} {code}"] = [float(value) for value in scored[chosen[name]]]
            row += [f"{100 * value:.1f}" for value in results[f"{name} {code}"]]
            row.append(f"{100 * scored[:, 2].max():.1f}")
        rows.append(row)
    means = ["mean", "", "", ""]
    means += [f"{np.mean([float(str(row[place])) for row in rows]):.1f}" for place in range(4, len(rows[0]))]
    thresholds = {name: float(THRESHOLDS[name][place]) for name, place in chosen.items()}
    heads = ["to English", "pairs", "foreign sentences", "English sentences"]
    heads += [f"{name} {what}" for name in curves for what in ("precision", "recall", "F1", "best F1")]
    page = (
        f"# Translations found among other sentences\n\n{(__doc__ or '').split(chr(10) * 2)[1]}\n\n"
        f"Thresholds chosen on {', '.join(TUNED)}: "
        + ", ".join(f"{name} {value:.4g}" for name, value in thresholds.items())
        + '. "Best F1" is at the best threshold of the language itself. Per cent.\n\n'
        + harness.table(heads, [*rows, means])
    )
    data = harness.provenance("search-pairs") | {
        "model": options.model,
        "thresholds": thresholds,
        "sizes": sizes,
        "precision_recall_f1": results,
    }
    harness.save(options.output, "search-pairs", data, page)


if __name__ == "__main__":
    main()
