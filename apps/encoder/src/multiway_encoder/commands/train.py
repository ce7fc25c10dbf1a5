"""The commands that train: finetune, pretrain."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Literal

import typer
from multiway_core.app import TrainingOptions
from multiway_core.errors import InputError

from multiway_encoder.app import APP


@dataclass(frozen=True)
class FineTuningChanges:
    """Fields of the fine-tuning recipe."""

    text: Annotated[
        str | None, typer.Option("--text-column", help="Name of the text's column.", show_default="text")
    ] = None
    label: Annotated[
        str | None,
        typer.Option("--label-column", help="classify: name of the label's.", show_default="label"),
    ] = None
    pair: Annotated[
        str | None,
        typer.Option("--pair-column", help="Name of the second text's.", show_default="pair, for pairs"),
    ] = None
    negative: Annotated[
        str | None, typer.Option("--negative-column", help="pairs: name of a text's that does not belong.")
    ] = None
    columns: Annotated[
        str | None,
        typer.Option("--columns", metavar="A,B", help="The names of a table whose first line is a row."),
    ] = None
    held_out: Annotated[
        list[str] | None,
        typer.Option("--held-out", metavar="FILE", help="Score on this file. \\[default: every tenth text]"),
    ] = None
    max_length: Annotated[int | None, typer.Option("--max-length", min=8, help="Tokens of a text.")] = None
    batch_size: Annotated[int | None, typer.Option("--batch-size", min=2, help="Rows of a batch.")] = None
    epochs: Annotated[float | None, typer.Option("--epochs", min=0.001, help="Passes over the rows.")] = None
    learning_rate: Annotated[float | None, typer.Option("--learning-rate", min=0.0)] = None


@dataclass(frozen=True)
class XTuneChanges:
    """Fields of the recipe of xTune."""

    augmentation: Annotated[
        Literal["subword", "noise", "code-switch", "translation"] | None,
        typer.Option("--augmentation", help="xtune: how an example is changed.", show_default="the preset's"),
    ] = None
    dictionaries: Annotated[
        list[str] | None,
        typer.Option(
            "--dictionary", metavar="FILE", help="xtune: MUSE's en-de.txt, freedict's *.index, or a folder."
        ),
    ] = None
    languages: Annotated[
        str | None,
        typer.Option(
            "--languages", metavar="DE,FR", help="xtune: of the dictionaries these.", show_default="all"
        ),
    ] = None
    translations: Annotated[
        list[str] | None,
        typer.Option("--translations", metavar="FILE", help="xtune: the rows of --data in another language."),
    ] = None
    ratio: Annotated[
        float | None,
        typer.Option("--ratio", min=0.0, max=1.0, help="xtune: share of words that are changed."),
    ] = None
    lambda1: Annotated[float | None, typer.Option("--lambda1", min=0.0, help="xtune: weight of R1.")] = None
    lambda2: Annotated[float | None, typer.Option("--lambda2", min=0.0, help="xtune: weight of R2.")] = None
    stages: Annotated[int | None, typer.Option("--stages", min=1, max=2, help="xtune: 1 ends with R1.")] = (
        None
    )
    stage1: Annotated[
        str | None,
        typer.Option("--stage1", metavar="MODEL", help="xtune: a first stage's model that is there."),
    ] = None


def finetune(
    preset: Annotated[
        str, typer.Option("--preset", help="What is learnt, see above; smoke needs no data.")
    ] = "classify",
    method: Annotated[
        Literal["supervised", "xtune"],
        typer.Option("--method", help="xtune: for languages that the data does not have, see above."),
    ] = "supervised",
    *,
    changes: FineTuningChanges,
    xtune: XTuneChanges,
    options: TrainingOptions,
) -> None:
    """Fine-tune an encoder on your texts; DIR/model is what --model takes.

    classify: --data is JSONL, CSV, TSV or Parquet with the columns text and label. tag: CoNLL files (a word a line, its
    tag last, an empty line behind a sentence), .conllu, or JSONL rows {"tokens": [...], "tags": [...]}. extract:
    questions in SQuAD's JSON. pairs: rows with text and pair that belong together, for vectors. --init-from is the
    model to begin with.

    --method xtune carries classify, tag and extract to other languages: an example and its augmentation
    (--augmentation) get like answers, in two stages. Its presets xnli, paws-x, panx, udpos, mlqa, xquad and tydiqa read
    those tasks' files; --held-out is given once for each language.
    """
    given = dict(vars(changes))
    given["columns"] = None if changes.columns is None else tuple(changes.columns.split(","))
    own = dict(vars(xtune))
    own["languages"] = None if xtune.languages is None else tuple(xtune.languages.split(","))
    if method == "xtune":
        options.train(replace(APP, recipes="multiway_text.xtune.recipe:RECIPES"), preset, given | own)
        return
    unfit = next((name for name, value in own.items() if value is not None), None)
    if unfit is not None:
        raise InputError(f"--{unfit.replace('dictionaries', 'dictionary')} belongs to --method xtune")
    options.train(APP, preset, given)


@dataclass(frozen=True)
class PretrainingChanges:
    """Fields of the pretraining recipe."""

    objective: Annotated[
        Literal["mlm", "unilm", "pmlm", "infoxlm"] | None,
        typer.Option(
            "--objective",
            help="BERT's, UniLM's four tasks, UniLMv2's, or InfoXLM's for many languages.",
            show_default="mlm",
        ),
    ] = None
    size: Annotated[
        str | None,
        typer.Option("--size", help="tiny, mini, small, medium, base or large.", show_default="the preset's"),
    ] = None
    vocab_size: Annotated[
        int | None, typer.Option("--vocab-size", min=100, help="Of the vocabulary that is learnt.")
    ] = None
    tokenizer: Annotated[
        str | None, typer.Option("--tokenizer", metavar="MODEL", help="Take this model's in its place.")
    ] = None
    length: Annotated[int | None, typer.Option("--length", min=11, help="Tokens of the longest text.")] = None
    batch_size: Annotated[int | None, typer.Option("--batch-size", min=1, help="Texts of a step.")] = None
    learning_rate: Annotated[float | None, typer.Option("--learning-rate", min=0.0)] = None
    field: Annotated[
        str | None,
        typer.Option("--field", help="Where the text is in JSONL and Parquet.", show_default="text"),
    ] = None
    pair_fields: Annotated[
        str | None,
        typer.Option(
            "--pair-fields",
            metavar="A,B",
            help="infoxlm: where the two texts of a pair are in JSONL.",
            show_default="the languages' codes",
        ),
    ] = None


def pretrain(
    preset: Annotated[
        Literal["tiny", "small", "base", "large", "smoke"],
        typer.Option("--preset", help="Size, steps and vocabulary."),
    ] = "small",
    *,
    changes: PretrainingChanges,
    options: TrainingOptions,
) -> None:
    """Pretrain an encoder on texts: --data are text files, JSONL, Parquet, folders or globs.

    Without --init-from a vocabulary is learnt first. Every 20th document is held out, and its loss is told while the
    model trains. DIR/model is what finetune --init-from takes.

    --objective infoxlm (presets base, large, small, smoke): --data names languages: de=news.txt for texts,
    en-de=corpus.en,corpus.de (two files of equal line counts), en-de=pairs.tsv, .jsonl or .tmx for translations.
    DIR/model/sentences is for vectors.
    """
    given = dict(vars(changes))
    module = "pretraining"
    if changes.objective == "infoxlm":
        module = "infoxlm.recipe"
        del given["objective"]
    if changes.pair_fields is not None:
        given["pair_fields"] = tuple(changes.pair_fields.split(","))
    options.train(replace(APP, recipes=f"multiway_text.{module}:RECIPES"), preset, given)
