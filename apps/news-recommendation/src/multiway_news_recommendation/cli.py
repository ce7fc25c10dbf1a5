"""The command line. Torch and Gradio are not imported here: ``--help`` answers at once."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import Annotated

import typer
from multiway_core.app import (
    DeviceOption,
    JsonOption,
    ModelOption,
    SeedOption,
    note,
    progress_bar,
    run,
    write_stdout,
)

from multiway_news_recommendation.options import BUNDLED_MODEL, PROGRAM, LogFormat, Split, TextFeatures

cli = typer.Typer(
    name=PROGRAM,
    help="Recommend news from click logs, and say why: which click, which neighbours, which chain of other readers.",
    no_args_is_help=True,
    add_completion=False,
)

DataOption = Annotated[
    Path,
    typer.Option(
        "--data",
        metavar="DIR",
        help="A MIND folder (news.tsv, behaviors.tsv), or one that holds train, dev and test.",
    ),
]
SkipOption = Annotated[
    bool, typer.Option("--skip-bad-rows", help="Go on after bad rows; they are counted at the end.")
]


@cli.command()
def recommend(
    user: Annotated[
        str | None, typer.Option("--user", metavar="ID", help="A reader of the model's portal, or of --data.")
    ] = None,
    history: Annotated[
        str | None,
        typer.Option(
            "--history", metavar="N1,N2,...", help="News that were read, oldest first; empty: a new reader."
        ),
    ] = None,
    top: Annotated[int, typer.Option("--top", min=1, max=1000, help="How many news.")] = 10,
    explain: Annotated[
        bool,
        typer.Option("--explain", help="Say which click, neighbours and chain led to each, and check it."),
    ] = False,
    pictures: Annotated[
        Path | None,
        typer.Option("--pictures", metavar="DIR", help="Write each explanation's picture there, as SVG."),
    ] = None,
    chains: Annotated[
        bool, typer.Option("--chains/--no-chains", help="Rank as if no click had a long chain.")
    ] = True,
    diversity: Annotated[
        float, typer.Option("--diversity", help="0: best scores only, to 1: as different as can be.")
    ] = 0.3,
    per_category: Annotated[
        int | None, typer.Option("--per-category", help="Most news of one category in the list.")
    ] = None,
    max_age_days: Annotated[
        float | None, typer.Option("--max-age-days", help="Only news of so many days. [default: the model's]")
    ] = None,
    include_seen: Annotated[
        bool, typer.Option("--include-seen", help="Also news that the reader has clicked.")
    ] = False,
    block: Annotated[
        str | None, typer.Option("--block", metavar="N1,N2,...", help="News that must not be shown.")
    ] = None,
    at: Annotated[
        str | None,
        typer.Option("--at", metavar="TIME", help="Such as 2019-11-15T08:00. [default: the log's end]"),
    ] = None,
    min_readers: Annotated[
        int,
        typer.Option("--min-readers", min=1, help="Do not tell smaller counts of readers in explanations."),
    ] = 1,
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="DIR", help="Readers and further news of this MIND folder."),
    ] = None,
    split: Annotated[Split, typer.Option("--split", help="Which part of --data.")] = "dev",
    skip_bad_rows: SkipOption = False,
    model: ModelOption = BUNDLED_MODEL,
    device: DeviceOption = "auto",
    json: JsonOption = False,
) -> None:
    """Recommend news to one reader."""
    from multiway_news_recommendation.recommend import RecommendOptions, recommend_to_one

    options = RecommendOptions(
        top=top,
        explain=explain,
        pictures=pictures,
        chains=chains,
        diversity=diversity,
        per_category=per_category,
        max_age_days=max_age_days,
        include_seen=include_seen,
        block=block,
        at=at,
        min_readers=min_readers,
    )
    result = recommend_to_one(
        user,
        history,
        options,
        data=data,
        split=split,
        skip_bad_rows=skip_bad_rows,
        model=model,
        device=device,
    )
    if json:
        write_stdout(json_module.dumps(result.to_json(), ensure_ascii=False, indent=2) + "\n")
    else:
        write_stdout(result.to_text())


@cli.command()
def evaluate(
    data: DataOption,
    split: Annotated[Split, typer.Option("--split", help="Which part of the folder.")] = "dev",
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="At most so many impressions.")] = None,
    chains: Annotated[
        bool, typer.Option("--chains/--no-chains", help="Measure as if no click had a long chain.")
    ] = True,
    fresh_graph: Annotated[
        bool,
        typer.Option(
            "--fresh-graph", help="News, graph and chains of this split alone, the network as it is."
        ),
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="Write report.json, report.md and report.png."),
    ] = None,
    skip_bad_rows: SkipOption = False,
    model: ModelOption = BUNDLED_MODEL,
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Measure a model: AUC, MRR, nDCG@5 and @10 as the MIND leaderboard computes them, diversity, and slices."""
    from multiway_news_recommendation.evaluation import evaluate_folder

    with progress_bar() as progress:
        bar = progress.add_task("ranking", total=None)
        report = evaluate_folder(
            data,
            split=split,
            model=model,
            device=device,
            limit=limit,
            chains=chains,
            fresh_graph=fresh_graph,
            skip_bad_rows=skip_bad_rows,
            seed=seed,
            on_progress=lambda done, total: progress.update(bar, completed=done, total=total),
        )
    if output is not None:
        report.save(output)
    if json:
        write_stdout(json_module.dumps(report.to_json(), ensure_ascii=False, indent=2) + "\n")
    else:
        write_stdout(report.to_markdown())


@cli.command()
def predict(
    data: DataOption,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The zip file to hand in.")
    ] = Path("prediction.zip"),
    split: Annotated[Split, typer.Option("--split", help="Which part of the folder.")] = "test",
    skip_bad_rows: SkipOption = False,
    model: ModelOption = BUNDLED_MODEL,
    device: DeviceOption = "auto",
) -> None:
    """Rank every impression and write them as the MIND leaderboard wants them (prediction.zip)."""
    from multiway_news_recommendation.predict import predict_folder

    with progress_bar() as progress:
        bar = progress.add_task("ranking", total=None)
        written = predict_folder(
            data,
            output,
            split=split,
            model=model,
            device=device,
            skip_bad_rows=skip_bad_rows,
            on_progress=lambda done, total: progress.update(bar, completed=done, total=total),
        )
    write_stdout(f"{written}\n")


@cli.command()
def train(
    data: DataOption,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Folder of the run; a second call goes on.")
    ] = Path("training"),
    preset: Annotated[
        str, typer.Option("--preset", help="nrms, naml, lstur, glory or glocim; with -small for a CPU.")
    ] = "glocim-small",
    text: Annotated[
        TextFeatures, typer.Option("--text", help="News vectors of presets that take given ones.")
    ] = "tfidf",
    epochs: Annotated[
        float | None, typer.Option("--epochs", min=0.01, help="Passes over the clicks.")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option("--minutes", min=0.1, help="Stop by then, with a checkpoint and a model.")
    ] = None,
    init_from: Annotated[
        Path | None, typer.Option("--init-from", metavar="DIR", help="Fine-tune this model folder.")
    ] = None,
    skip_bad_rows: SkipOption = False,
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
) -> None:
    """Train a recommender on the train split of a folder and write it as a model folder for --model."""
    from multiway_news_recommendation.train import train_recommender

    folder = train_recommender(
        data,
        output,
        preset=preset,
        text=text,
        epochs=epochs,
        minutes=minutes,
        init_from=init_from,
        skip_bad_rows=skip_bad_rows,
        device=device,
        seed=seed,
    )
    write_stdout(f"{folder}\n")


@cli.command()
def prepare(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A model folder that train wrote.")],
    device: DeviceOption = "auto",
) -> None:
    """Keep the vectors of all news and the index over them beside a model, so that it starts at once."""
    from multiway_news_recommendation.train import prepare_model

    write_stdout(f"{prepare_model(model, device)}\n")


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
        write_stdout(json_module.dumps(result.to_json(), ensure_ascii=False, indent=2) + "\n")
    else:
        write_stdout(result.to_markdown())


@cli.command("import")
def import_log(
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="A log file, or the folder of a data set.")
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
        int, typer.Option("--negatives", min=1, help="Other candidates of an impression that is made.")
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
        note(f"{PROGRAM}: {line}")
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
        typer.Option("--drift", min=0, max=1, help="How often stories move on; 0: interests stay."),
    ] = None,
    headlines: Annotated[
        Path | None,
        typer.Option(
            "--headlines", metavar="FILE", help="Real headlines to use; without: our own generator's."
        ),
    ] = None,
    seed: SeedOption = 0,
) -> None:
    """Write the log of a simulated news portal with a known truth (drifting stories, returning readers)."""
    from multiway_news_recommendation.simulate import simulate_portal

    for line in simulate_portal(output, readers=readers, drift=drift, headlines=headlines, seed=seed):
        note(f"{PROGRAM}: {line}")
    write_stdout(f"{output}\n")


@cli.command()
def demo(
    model: ModelOption = BUNDLED_MODEL,
    host: Annotated[str, typer.Option("--host", help="Address to serve on.")] = "127.0.0.1",
    port: Annotated[int | None, typer.Option("--port", help="[default: first free from 7860]")] = None,
    share: Annotated[bool, typer.Option("--share/--no-share", help="Open a public tunnel.")] = False,
    device: DeviceOption = "auto",
) -> None:
    """Open the demo page in this machine's browser."""
    from multiway_core.app import launch

    from multiway_news_recommendation.demo import build_demo

    launch(build_demo(model, device=device), host, port, share=share)


def main() -> None:
    """Entry point of the command ``multiway-news-recommendation``."""
    run(cli, name=PROGRAM)


if __name__ == "__main__":
    main()
