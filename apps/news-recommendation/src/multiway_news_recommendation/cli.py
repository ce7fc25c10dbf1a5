"""The command line. Torch and Gradio are not imported here: ``--help`` answers at once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from multiway_core.app import (
    CommandLine,
    DeviceOption,
    JsonOption,
    ModelOptions,
    ReportOptions,
    SeedOption,
    TrainingOptions,
    counting,
    load_pipeline,
    stdin_file,
    write_json,
    write_stdout,
)
from multiway_core.errors import InputError

from multiway_news_recommendation.app import APP
from multiway_news_recommendation.options import LogFormat, RecommendOptions, Split, TextFeatures

cli = CommandLine(APP)

DataOption = Annotated[
    Path,
    typer.Option(
        "--data",
        metavar="DIR",
        help="A MIND folder (news.tsv, behaviors.tsv), or one that holds train, dev and test.",
    ),
]
SkipOption = Annotated[bool, typer.Option("--skip-bad-rows", help="Skip bad rows and report their number.")]


@cli.command()
def recommend(
    user: Annotated[
        str | None, typer.Option("--user", metavar="ID", help="A reader of the model's portal, or of --data.")
    ] = None,
    history: Annotated[
        str | None,
        typer.Option(
            "--history",
            metavar="N1,N2,...",
            help="Click history, oldest first; empty for a cold-start reader.",
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="DIR",
            help="Readers and news of this MIND folder; without --model its clicks alone rank.",
        ),
    ] = None,
    split: Annotated[Split, typer.Option("--split", help="Which part of --data.")] = "dev",
    skip_bad_rows: SkipOption = False,
    json: JsonOption = False,
    *,
    options: RecommendOptions,
    model: ModelOptions,
) -> None:
    """Recommend news to one reader."""
    from multiway_news_recommendation.recommend import recommend_to_one

    result = recommend_to_one(
        user,
        history,
        options,
        data=data,
        split=split,
        skip_bad_rows=skip_bad_rows,
        model=model,
    )
    if json:
        write_json(result.to_json())
    else:
        write_stdout(result.to_text())


@cli.command()
def evaluate(
    data: DataOption,
    split: Annotated[Split, typer.Option("--split", help="Which part of the folder.")] = "dev",
    chains: Annotated[
        bool, typer.Option("--chains/--no-chains", help="Use long chains, or rank without them.")
    ] = True,
    fresh_graph: Annotated[
        bool,
        typer.Option("--fresh-graph", help="Rebuild news, graph and chains from this split alone."),
    ] = False,
    live: Annotated[
        bool,
        typer.Option("--live", help="Count the split's own clicks before each impression, as a portal does."),
    ] = False,
    skip_bad_rows: SkipOption = False,
    *,
    model: ModelOptions,
    report: ReportOptions,
) -> None:
    """Measure a model: AUC, MRR, nDCG@5 and @10 as the MIND leaderboard computes them, diversity, and slices.

    Without --model (or --fresh-graph) the clicks of --data's train split rank, each way of counting them beside the
    ensemble of all.
    """
    from multiway_news_recommendation.evaluation import evaluate_folder

    with counting("ranking") as on_progress:
        found = evaluate_folder(
            data,
            split=split,
            model=model,
            limit=report.limit,
            chains=chains,
            fresh_graph=fresh_graph,
            live=live,
            skip_bad_rows=skip_bad_rows,
            seed=report.seed,
            on_progress=on_progress,
        )
    report.publish(found)


@cli.command()
def predict(
    data: DataOption,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The zip file to submit.")
    ] = Path("prediction.zip"),
    split: Annotated[Split, typer.Option("--split", help="Which part of the folder.")] = "test",
    skip_bad_rows: SkipOption = False,
    *,
    model: ModelOptions,
) -> None:
    """Rank every impression and write the file that the MIND leaderboard takes (prediction.zip)."""
    from multiway_news_recommendation.predict import predict_folder

    with counting("ranking") as on_progress:
        written = predict_folder(
            data, output, split=split, model=model, skip_bad_rows=skip_bad_rows, on_progress=on_progress
        )
    write_stdout(f"{written}\n")


@cli.command()
def train(
    preset: Annotated[
        str,
        typer.Option("--preset", help="nrms, naml, lstur, glory or glocim; with -small for a CPU; or smoke."),
    ] = "glocim-small",
    text: Annotated[
        TextFeatures | None,
        typer.Option("--text", help="Text vectors, for presets that take them.", show_default="tfidf"),
    ] = None,
    epochs: Annotated[
        float | None, typer.Option("--epochs", min=0.01, help="Epochs over the clicks.")
    ] = None,
    skip_bad_rows: SkipOption = False,
    *,
    options: TrainingOptions,
) -> None:
    """Train a recommender on the train split of a MIND folder (--data) and write it as a model folder for --model.

    The presets smoke and news-portal (the bundled model) simulate their own portal and need no --data.
    """
    changes = {"text": text, "epochs": epochs, "skip_bad_rows": skip_bad_rows or None}
    options.train(APP, preset, changes)


@cli.command()
def prepare(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A model folder that train wrote.")],
    device: DeviceOption = "auto",
) -> None:
    """Store the vectors of all news and their index beside a model, so that it starts at once."""
    if not model.is_dir():
        raise InputError(f"{model}: no such folder; give one that train wrote")
    load_pipeline(APP, ModelOptions(str(model), device)).store(model)
    write_stdout(f"{model / 'serving'}\n")


@cli.command()
def check(
    data: DataOption,
    split: Annotated[Split, typer.Option("--split", help="Which part of the folder.")] = "train",
    skip_bad_rows: SkipOption = False,
    json: JsonOption = False,
) -> None:
    """Read a MIND folder strictly and print its statistics beside those of MIND itself."""
    from multiway_news_recommendation.check import check_folder

    result = check_folder(data, split=split, skip_bad_rows=skip_bad_rows)
    if json:
        write_json(result.to_json())
    else:
        write_stdout(result.to_markdown())


@cli.command("import")
def import_log(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE|-",
            help="A log file, - for standard input, or the folder of a data set.",
            callback=stdin_file,
        ),
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="DIR", help="The MIND folder to write; must not be there."),
    ],
    format: Annotated[
        LogFormat, typer.Option("--format", "-f", help="auto: by the ending (csv, tsv, parquet).")
    ] = "auto",
    items: Annotated[
        Path | None,
        typer.Option("--items", metavar="FILE", help="Titles and categories of a CSV or Parquet log."),
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(
            "--columns", metavar="user=A,item=B,time=C", help="Names of the log's columns, where they differ."
        ),
    ] = None,
    sessions: Annotated[
        bool, typer.Option("--sessions", help="Clicks without a pause of 30 minutes are one impression.")
    ] = False,
    negatives: Annotated[
        int, typer.Option("--negatives", min=1, help="Sampled negatives of each impression.")
    ] = 19,
    skip_bad_rows: SkipOption = False,
    seed: SeedOption = 0,
) -> None:
    """Convert a click log (CSV, Parquet, Adressa, EB-NeRD, MSWeb, MovieLens) into a MIND folder."""
    from multiway_news_recommendation.import_log import import_folder

    for line in import_folder(
        source,
        output,
        format=format,
        items=items,
        columns=columns,
        sessions=sessions,
        negatives=negatives,
        skip_bad_rows=skip_bad_rows,
        seed=seed,
    ):
        APP.note(line)
    write_stdout(f"{output}\n")


@cli.command()
def simulate(
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="DIR", help="The MIND folder to write; must not be there."),
    ],
    readers: Annotated[int | None, typer.Option("--readers", min=10, help="Readers of the portal.")] = None,
    drift: Annotated[
        float | None,
        typer.Option("--drift", min=0, max=1, help="How often stories change topic; 0: constant interests."),
    ] = None,
    headlines: Annotated[
        Path | None,
        typer.Option("--headlines", metavar="FILE", help="Real headlines in place of generated ones."),
    ] = None,
    seed: SeedOption = 0,
) -> None:
    """Write the log of a simulated news portal with known ground truth (drifting stories, returning readers)."""
    from multiway_news_recommendation.simulate import simulate_portal

    for line in simulate_portal(output, readers=readers, drift=drift, headlines=headlines, seed=seed):
        APP.note(line)
    write_stdout(f"{output}\n")


cli.add_demo()
cli.add_serve()
