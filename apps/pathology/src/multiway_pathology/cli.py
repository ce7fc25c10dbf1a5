"""The command line ``multiway-pathology``. Torch and OpenSlide are not imported here: ``--help`` answers at once."""

from __future__ import annotations

import json as json_format
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from multiway_core.app import (
    CommandLine,
    HostOption,
    JsonOption,
    ModelOptions,
    OverwriteOption,
    ReportOptions,
    TrainingOptions,
    counting,
    load_pipeline,
    write_json,
    write_stdout,
)

from multiway_pathology.app import APP

cli = CommandLine(APP)

SlideArgument = Annotated[
    Path, typer.Argument(metavar="SLIDE", help="SVS, NDPI, MRXS, TIFF, DICOM, PNG, JPEG ...")
]
TableArgument = Annotated[Path, typer.Argument(metavar="SLIDES.csv", help="Columns: see `train --help`.")]
SizeOption = Annotated[
    int | None,
    typer.Option("--size", min=1, help="Side of the square it is resized to.", show_default="the model's"),
]
RoiOption = Annotated[
    str | None, typer.Option("--roi", metavar="LEFT,TOP,WIDTH,HEIGHT", help="Only this part, in pixels.")
]
ThumbnailSize = Annotated[int, typer.Option("--size", min=16, max=8192, help="Longer side.")]
PortOption = Annotated[int, typer.Option("--port", min=0, max=65535)]


@cli.command()
def info(slide: SlideArgument, json: JsonOption = False) -> None:
    """Print a slide's size, levels, format and resolution."""
    from multiway_pathology.slides import describe, open_slide

    row = describe(open_slide(slide))
    if json:
        write_json(row)
        return
    microns = row["microns_per_pixel"]
    levels = ", ".join(f"{width} x {height}" for width, height in row["levels"])
    resolution = "unknown" if microns is None else f"{microns[0]:.4g} x {microns[1]:.4g} micrometres a pixel"
    write_stdout(
        f"{row['source']}: {row['width']} x {row['height']} pixels, {row['format']}\n"
        f"levels: {levels}\nresolution: {resolution}\n"
    )


@cli.command()
def thumbnail(
    slide: SlideArgument,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="PNG")],
    size: ThumbnailSize = 1024,
    roi: RoiOption = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Write a small picture of a slide, or of a part of it."""
    from multiway_core import files
    from multiway_vision_language.longvit.pipeline import region_of

    from multiway_pathology.overlay import png
    from multiway_pathology.slides import open_slide, parse_region

    files.check_output(output, inputs=[slide], overwrite=overwrite)
    raster = open_slide(slide)
    files.write_bytes(output, png(raster, region_of(raster, parse_region(roi)), size))


@cli.command()
def classify(
    slide: SlideArgument, size: SizeOption = None, roi: RoiOption = None, json: JsonOption = False, *,
    model: ModelOptions,
) -> None:  # fmt: skip
    """Print the class of a slide. Under torchrun, the processes share the slide: each computes its own rows."""
    _predict("classify", slide, size, roi, json, model)


@cli.command()
def survival(
    slide: SlideArgument, size: SizeOption = None, roi: RoiOption = None, json: JsonOption = False, *,
    model: ModelOptions,
) -> None:  # fmt: skip
    """Print the risk of a slide and the probability to live through each time interval."""
    _predict("survival", slide, size, roi, json, model)


@cli.command()
def embed(
    slides: Annotated[list[Path], typer.Argument(metavar="SLIDE...")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="NPZ", help="Arrays slides and vectors.")],
    size: SizeOption = None,
    overwrite: OverwriteOption = False,
    *,
    model: ModelOptions,
) -> None:
    """Write the vector of each slide, for search and for other models."""
    import numpy as np
    from multiway_core import files

    from multiway_pathology.slides import open_slide

    files.check_output(output, inputs=slides, overwrite=overwrite)
    pipeline = _pipeline(model)
    with counting("slides") as move:
        vectors = []
        for slide in slides:
            vectors.append(pipeline.embed(open_slide(slide), size=size))
            move(len(vectors), len(slides))
    with files.atomic_write(output) as stream:
        np.savez(stream, slides=[str(slide) for slide in slides], vectors=np.stack(vectors))


@cli.command()
def heatmap(
    slide: SlideArgument,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="PNG", help="The slide with the heat over it.")
    ],
    geojson: Annotated[
        Path | None, typer.Option("--geojson", metavar="FILE", help="Also the strongest cells, for QuPath.")
    ] = None,
    method: Annotated[
        Literal["activation", "occlusion"],
        typer.Option("--method", help="activation: one pass; occlusion: a pass for each of 64 cells."),
    ] = "activation",
    size: SizeOption = None,
    roi: RoiOption = None,
    overwrite: OverwriteOption = False,
    *,
    model: ModelOptions,
) -> None:
    """Show which regions decided. A colour is no diagnosis: it says what this model's output depends on."""
    from multiway_core import files

    from multiway_pathology import overlay
    from multiway_pathology.slides import open_slide, parse_region

    files.check_output(output, inputs=[slide], overwrite=overwrite)
    if geojson is not None:
        files.check_output(geojson, inputs=[slide, output], overwrite=overwrite)
    pipeline, raster, region = _pipeline(model), open_slide(slide), parse_region(roi)
    pipeline.require_head()
    if method == "occlusion":
        with counting("cells") as move:
            heat = pipeline.occlusion(raster, size=size, roi=region, on_cell=move)
    else:
        with counting("layers") as move:
            heat = pipeline.heatmap(pipeline.states(raster, size=size, roi=region, on_layer=move))
    files.write_bytes(output, overlay.overlay(raster, heat, region))
    if geojson is not None:
        files.write_text(geojson, json_format.dumps(overlay.geojson(raster, heat, region)) + "\n")


PresetOption = Annotated[
    str, typer.Option("--preset", "-p", help="classify, survival, tissue-local, tissue or smoke.")
]


@cli.command()
def train(
    preset: PresetOption = "classify",
    size: SizeOption = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", min=1, help="Slides of a batch.")] = None,
    epochs: Annotated[float | None, typer.Option("--epochs", min=0.01)] = None,
    num_folds: Annotated[int | None, typer.Option("--folds", min=2, help="Parts of the patients.")] = None,
    fold: Annotated[
        int | None,
        typer.Option("--fold", min=0, help="Hold out this part.", show_default="all, one after another"),
    ] = None,
    *,
    training: TrainingOptions,
) -> None:
    """Train on a CSV of slides: slide, label (or time and event), and optionally patient and split (train, test).

    Without a column split, patients are parted into folds; each fold is held out once, in DIR/fold-0, fold-1 ... A
    patient in train and in test is refused. Presets tissue-local, tissue and smoke generate slides and take no --data.
    """
    import dataclasses

    changes: dict[str, Any] = {
        "size": size, "batch_size": batch_size, "epochs": epochs, "num_folds": num_folds, "fold": fold,
    }  # fmt: skip
    if fold is not None or not training.data or _has_split(training.data):
        training.train(APP, preset, changes)
        return
    for number in range(num_folds or 5):
        run = dataclasses.replace(training, output=training.output / f"fold-{number}")
        run.train(APP, preset, changes | {"fold": number})


@cli.command()
def pretrain(
    preset: Annotated[str, typer.Option("--preset", "-p", help="dino or dino-smoke.")] = "dino",
    batch_size: Annotated[int | None, typer.Option("--batch-size", min=1, help="Slides of a batch.")] = None,
    *,
    training: TrainingOptions,
) -> None:
    """Pre-train on slides without labels (DINO): --data is a slide and may be repeated."""
    training.train(APP, preset, {"batch_size": batch_size})


@cli.command()
def evaluate(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="RUN|SLIDES.csv", help="The folder of a `train` with folds, or labelled slides."
        ),
    ],
    size: SizeOption = None,
    *,
    model: ModelOptions,
    report: ReportOptions,
) -> None:
    """Measure: of a RUN the folds' held-out scores, best and last; of SLIDES.csv the scores of --model.

    AUC, accuracy and calibration for classes, the concordance index for survival, with 95 % intervals.
    """
    from multiway_pathology.evaluation import evaluate_model, evaluate_run

    if source.is_dir():
        row = evaluate_run(source)
    else:
        row = evaluate_model(source, _pipeline(model), size=size, limit=report.limit, seed=report.seed)
    if report.output is not None:
        from multiway_core import files

        files.write_text(report.output / "report.json", json_format.dumps(row, indent=2) + "\n")
    if report.json:
        write_json(row)
    else:
        write_stdout("".join(f"{name}: {value}\n" for name, value in row.items()))


@cli.command()
def example(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="TIFF", help="A tiled TIFF with levels.")],
    size: Annotated[int, typer.Option("--size", min=512, max=65_536, help="Side in pixels.")] = 20_480,
    number: Annotated[
        int, typer.Option("--number", min=0, help="Even: the nest of small cells lies left; odd: right.")
    ] = 0,
    overwrite: OverwriteOption = False,
) -> None:
    """Write a generated tissue-like slide, to try the other commands with. It is no tissue."""
    from multiway_core import files

    from multiway_pathology.example import write_example

    files.check_output(output, overwrite=overwrite)
    write_example(output, size, number)
    APP.note(f"{size} x {size} pixels written to {output}")


cli.add_serve("Serve classes and heat maps of slides over HTTP. For research only; no medical device.")


@cli.command()
def demo(
    slide: Annotated[
        Path | None, typer.Argument(metavar="[SLIDE]", help="What to show.", show_default="a generated one")
    ] = None,
    host: HostOption = "127.0.0.1",
    port: PortOption = 7860,
    *,
    model: ModelOptions,
) -> None:
    """Open a deep-zoom viewer of a slide in the browser; with a --model also its result and the deciding regions."""
    from multiway_pathology.viewer import run_viewer

    run_viewer(slide, model, host, port)


def _predict(
    task: str, slide: Path, size: int | None, roi: str | None, json: bool, options: ModelOptions
) -> None:
    from multiway_pathology.processes import split_over_processes
    from multiway_pathology.slides import open_slide, parse_region

    pipeline, raster = _pipeline(options), open_slide(slide)
    pipeline.require_head(task)
    with split_over_processes(pipeline.model) as is_main, counting("layers") as move:
        result = pipeline(raster, size=size, roi=parse_region(roi), on_layer=move)
    if not is_main:
        return
    if json:
        write_json(result.to_json())
        return
    APP.note("for research only; no medical device")
    if result.task == "survival":
        lines = [f"risk {result.risk:.4g}"]
        ends = [f"to {end:g}" for end in result.time_bins] + ["beyond"]
        lines += [f"survival {end}: {value:.3f}" for end, value in zip(ends, result.survival, strict=True)]
    else:
        lines = [f"{name} {value:.3f}" for name, value in (result.probabilities or {}).items()]
        lines.insert(0, result.label)
    write_stdout("\n".join(lines) + "\n")


def _pipeline(options: ModelOptions) -> Any:
    if (options.model or APP.model) == APP.model:
        APP.note(f"{APP.model} knows generated slides alone; for others give --model (see `train --help`)")
    return load_pipeline(APP, options)


def _has_split(data: list[str]) -> bool:
    """Whether the table itself says what is held out."""
    try:
        with Path(data[0]).open(encoding="utf-8-sig") as file:
            return "split" in file.readline().strip().split(",")
    except (OSError, UnicodeDecodeError):
        return True  # the training says what is wrong
