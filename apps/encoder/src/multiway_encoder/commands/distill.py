"""The commands that make encoders smaller or fit a domain: distill, search-subnet, adapt-vocab, cut-vocab."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import typer
from multiway_core.app import JsonOption, TrainingOptions, write_json, write_stdout

from multiway_encoder.app import APP

TeacherOption = Annotated[
    str, typer.Option("--teacher", metavar="MODEL", help="The large encoder: folder, hub id or bundled:NAME.")
]
DataOption = Annotated[
    list[str], typer.Option("--data", metavar="DATA", help="Text files, JSONL, Parquet, folders, globs.")
]
FieldOption = Annotated[str, typer.Option("--field", help="Where the text is in JSONL and Parquet.")]


@dataclass(frozen=True)
class DistillationChanges:
    """Fields of the recipes; what is not given is the preset's."""

    teacher: TeacherOption
    method: Annotated[
        Literal["minilm", "minilmv2", "logits", "hidden"] | None,
        typer.Option("--method", help="What is learnt of the teacher.", show_default="minilmv2"),
    ] = None
    layers: Annotated[int | None, typer.Option("--layers", min=1, help="Of the student.")] = None
    hidden_size: Annotated[int | None, typer.Option("--hidden-size", min=1, help="Its width.")] = None
    heads: Annotated[int | None, typer.Option("--heads", min=1, help="Its attention heads.")] = None
    relation_heads: Annotated[
        int | None, typer.Option("--relation-heads", help="minilmv2: a divisor of both widths.")
    ] = None
    teacher_layer: Annotated[
        int | None, typer.Option("--teacher-layer", min=0, help="Whose relations are learnt; 0: the last.")
    ] = None
    assistant: Annotated[
        bool | None,
        typer.Option("--assistant/--no-assistant", help="A narrow encoder of all layers learns first."),
    ] = None
    space: Annotated[
        str | None, typer.Option("--space", help="autodistil: base, small, tiny, mini, micro or nano.")
    ] = None
    student: Annotated[
        str | None, typer.Option("--student", metavar="MODEL", help="adalm: a small general encoder.")
    ] = None
    strategy: Annotated[
        str | None,
        typer.Option(
            "--strategy", help="adalm: scratch, distil-then-adapt, adapt-then-distil, adapt-and-distil."
        ),
    ] = None
    length: Annotated[int | None, typer.Option("--length", min=3, help="Tokens of the longest text.")] = None
    field: Annotated[str | None, typer.Option("--field", help="Where the text is in JSONL and Parquet.")] = (
        None
    )


def distill(
    preset: Annotated[
        str,
        typer.Option(
            "--preset",
            help="minilm-small; minilm-sentences, for vectors; minilm-copied, of the teacher's layers; "
            "autodistil-mini and others, a super-network for "
            "search-subnet; adalm-small, for a domain; each kind has a -smoke.",
        ),
    ] = "minilm-small",
    *,
    changes: DistillationChanges,
    options: TrainingOptions,
) -> None:
    """Make a small encoder of a large one on any texts, without labels (MiniLM, MiniLMv2, AutoDistil, AdaLM).

    --init-from: an encoder that the student begins with, with the teacher's tokenizer. DIR/model is what --model takes.
    """
    kind = preset.partition("-")[0]
    kind = kind if kind in ("autodistil", "adalm") else "minilm"
    options.train(replace(APP, recipes=f"multiway_text.{kind}.recipe:RECIPES"), preset, vars(changes))


def search_subnet(
    supernet: Annotated[
        str, typer.Argument(metavar="MODEL", help="What distill --preset autodistil-... made.")
    ],
    teacher: TeacherOption,
    data: DataOption,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Where the best member is written.")
    ],
    budget: Annotated[
        float | None, typer.Option("--budget", min=0.0, help="The member has at most so many, such as 5e6.")
    ] = None,
    cost: Annotated[
        Literal["parameters", "flops"], typer.Option("--cost", help="What the budget counts.")
    ] = "parameters",
    length: Annotated[int, typer.Option("--length", min=3, help="Tokens of a text; FLOPs are of it.")] = 128,
    batches: Annotated[int, typer.Option("--batches", min=1, help="Of held-out text, at most.")] = 8,
    field: FieldOption = "text",
    json: JsonOption = False,
) -> None:
    """Choose the best encoder for a budget out of a super-network, without training (AutoDistil).

    --data are texts that it was not trained on. Members that no other one beats at its cost are marked.
    """
    from multiway_text.autodistil.recipe import search
    from multiway_text.documents import documents

    texts = (document.text for document in documents(data, field=field))
    found = search(supernet, teacher, texts, output, budget=budget, cost=cost, length=length, batches=batches)
    if json:
        write_json([{**vars(one), "subnet": vars(one.subnet)} for one in found])
        return
    lines = [
        f"{'*' if one.on_front else ' '} {one.subnet!s:24} loss {one.loss:.4f}  {one.parameters:>12,} parameters  "
        f"{one.flops / 1e9:8.3f} GFLOPs"
        for one in found
    ]
    write_stdout("\n".join(lines) + "\n")
    APP.note(f"{found[0].subnet} written to {output}; * is beaten by none at its cost")


def adapt_vocab(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="An encoder with a WordPiece vocabulary.")],
    data: DataOption,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="DIR", help="Where the model with more pieces is written."),
    ],
    interval: Annotated[int, typer.Option("--interval", min=1, help="Pieces that a step adds.")] = 10_000,
    delta: Annotated[
        float, typer.Option("--delta", help="The relative gain of P(D) at which growth ends.")
    ] = 0.01,
    keep: Annotated[
        Literal["last", "previous"], typer.Option("--keep", help="The last size, or the one before.")
    ] = "last",
    max_texts: Annotated[int, typer.Option("--max-texts", min=1, help="So many are read at most.")] = 100_000,
    field: FieldOption = "text",
    json: JsonOption = False,
) -> None:
    """Give an encoder the words of a domain (AdaLM): new pieces behind the old ones, each the mean of its old pieces.

    The model goes on learning with pretrain --init-from DIR, or with distill --preset adalm-small.
    """
    from itertools import islice

    from multiway_core import hub
    from multiway_core.tokenization import TextTokenizer
    from multiway_text.adalm.recipe import REPORT_FILE, write_extended, write_vocabulary
    from multiway_text.documents import documents

    folder = hub.resolve(model)
    texts = [document.text for document in islice(documents(data, field=field), max_texts)]
    before = TextTokenizer.from_folder(folder)
    report = write_vocabulary(texts, before, output / REPORT_FILE, interval, delta, keep)
    write_extended(folder, output / REPORT_FILE, output)
    if json:
        write_json({**vars(report), "saved": report.saved})
        return
    words = report.words
    write_stdout(
        f"tokens a word {report.tokens_before / words:.3f} -> {report.tokens_after / words:.3f} "
        f"({100 * report.saved:.1f} % fewer)\n"
        f"words cut otherwise {100 * report.words_cut_otherwise / words:.1f} %\n{output}\n"
    )


def cut_vocab(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A multilingual encoder with a Unigram tokenizer.json.")
    ],
    data: Annotated[
        list[str], typer.Option("--data", metavar="DATA", help="Texts of the languages that stay.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Where the smaller model is written.")
    ],
    size: Annotated[int, typer.Option("--size", min=1, help="Pieces that are kept.")] = 64_000,
    field: FieldOption = "text",
    language_field: Annotated[
        str, typer.Option("--language-field", help="Where a row's language is; each counts as much.")
    ] = "language",
    int8: Annotated[bool, typer.Option("--int8", help="In 8 bits, as quantize writes it.")] = False,
) -> None:
    """Keep of a multilingual model's vocabulary what some languages use: most of its size is the table of pieces.

    Texts of kept pieces have the vectors that they had. Characters that no text of --data has become unknown.
    """
    from collections import defaultdict

    from multiway_core import hub
    from multiway_text.encoder.rows import read_rows
    from multiway_text.encoder.sentence import SentenceModel
    from multiway_text.encoder.vocabulary import cut, most_used, shares

    found = SentenceModel.load(hub.resolve(model))
    texts = defaultdict(list)
    for row in read_rows(data):
        texts[row.label(language_field)].append((row.text(field, "--field"), 1.0))
    languages = {code: shares(found.tokenizer, rows) for code, rows in sorted(texts.items())}
    kept = most_used(found.tokenizer, languages, size)
    cut(found, kept, languages).save(output, int8=int8)
    before = found.encoder.config.vocab_size
    APP.note(f"{len(kept):,} of {before:,} pieces, for {', '.join(languages)}, written to {output}")
