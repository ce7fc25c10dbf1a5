"""The command line ``multiway-grounding``. Torch and Gradio are not imported here: ``--help`` answers at once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from multiway_core.app import (
    DeviceOption,
    DtypeOption,
    JsonOption,
    ModelOption,
    SeedOption,
    note,
    run,
    write_stdout,
)
from multiway_core.errors import InputError

from multiway_grounding.model import BUNDLED_MODEL, PROGRAM, PipelineLoader
from multiway_grounding.request import Frame, Request, Task, parse_box

cli = typer.Typer(
    name=PROGRAM,
    help="Find what words name in pictures, and put pictures into words, on this machine and offline.",
    no_args_is_help=True,
    add_completion=False,
)

ImageArgument = Annotated[Path, typer.Argument(metavar="IMAGE", help="A picture file.")]
SaveOption = Annotated[
    Path | None,
    typer.Option("--save", metavar="FILE", help="Write the picture with its boxes: .png, .jpg or .webp."),
]
PlainOption = Annotated[bool, typer.Option("--plain", help="Words only, without places.")]
DetailedOption = Annotated[bool, typer.Option("--detailed", help="Several sentences.")]
BoxOption = Annotated[
    str | None, typer.Option("--box", metavar="X1,Y1,X2,Y2", help="Left, top, right, bottom.")
]
FrameOption = Annotated[
    Frame, typer.Option("--frame", help="The box is in pixels of the picture, or in fractions of it.")
]
ThresholdOption = Annotated[
    float,
    typer.Option(
        "--threshold", min=0.0, max=1.0, help="Least 'present' of a phrase that gets boxes; 0 for all."
    ),
]
Format = Literal["coco", "referring", "yolo", "voc", "label-studio", "csv"]


@cli.command()
def caption(
    image: ImageArgument,
    detailed: DetailedOption = False,
    plain: PlainOption = False,
    save: SaveOption = None,
    model: ModelOption = BUNDLED_MODEL,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    json: JsonOption = False,
) -> None:
    """Say what a picture shows, and where what is named stands."""
    from multiway_grounding.single import ground

    request = Request("caption", detailed=detailed, grounded=not plain)
    ground(image, request, PipelineLoader(model, device, dtype), json=json, save=save)


@cli.command()
def locate(
    image: ImageArgument,
    phrases: Annotated[list[str], typer.Argument(metavar="PHRASE...", help='What to find: "the red car".')],
    threshold: ThresholdOption = 0.5,
    save: SaveOption = None,
    model: ModelOption = BUNDLED_MODEL,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    json: JsonOption = False,
) -> None:
    """Find phrases in a picture; each is looked for by itself."""
    from multiway_grounding.single import ground

    request = Request("locate", phrases=tuple(phrases), threshold=threshold)
    ground(image, request, PipelineLoader(model, device, dtype), json=json, save=save)


@cli.command()
def describe(
    image: ImageArgument,
    box: BoxOption = None,
    frame: FrameOption = "pixel",
    save: SaveOption = None,
    model: ModelOption = BUNDLED_MODEL,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    json: JsonOption = False,
) -> None:
    """Say what is inside a box."""
    from multiway_grounding.single import ground

    if box is None:
        raise InputError("--box X1,Y1,X2,Y2 is missing: left, top, right, bottom of the place to describe")
    request = Request("describe", box=parse_box(box), frame=frame)
    ground(image, request, PipelineLoader(model, device, dtype), json=json, save=save)


@cli.command()
def ask(
    image: ImageArgument,
    question: Annotated[str, typer.Argument(help="What to ask about the picture.")],
    plain: PlainOption = False,
    save: SaveOption = None,
    model: ModelOption = BUNDLED_MODEL,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    json: JsonOption = False,
) -> None:
    """Answer a question about a picture, and show where what is named stands."""
    from multiway_grounding.single import ground

    request = Request("ask", text=question, grounded=not plain)
    ground(image, request, PipelineLoader(model, device, dtype), json=json, save=save)


@cli.command()
def prompt(
    image: ImageArgument,
    text: Annotated[
        str, typer.Argument(help="Text with the model's tags: '<grounding><phrase>a dog</phrase>'.")
    ],
    save: SaveOption = None,
    model: ModelOption = BUNDLED_MODEL,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    json: JsonOption = False,
) -> None:
    """Let the model continue any text."""
    from multiway_grounding.single import ground

    ground(image, Request("prompt", text=text), PipelineLoader(model, device, dtype), json=json, save=save)


@cli.command()
def batch(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...", help='Pictures, folders, globs, or JSONL files of rows {"image": PATH, ...}.'
        ),
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FILE.jsonl", help="One line a picture; what is there stays."),
    ],
    task: Annotated[Task, typer.Option("--task", help="What to ask of every picture.")] = "caption",
    phrase: Annotated[
        list[str] | None, typer.Option("--phrase", help="locate: what to find; may be given several times.")
    ] = None,
    threshold: ThresholdOption = 0.5,
    box: BoxOption = None,
    frame: FrameOption = "pixel",
    text: Annotated[str, typer.Option("--text", help="ask: the question; prompt: the text.")] = "",
    detailed: DetailedOption = False,
    plain: PlainOption = False,
    save: Annotated[
        Path | None, typer.Option("--save", metavar="DIR", help="A folder for the annotated pictures.")
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="Processes, one thread each.")] = 1,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Begin the file anew.")] = False,
    model: ModelOption = BUNDLED_MODEL,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    json: Annotated[bool, typer.Option("--json", help="Print a summary as JSON.")] = False,
) -> None:
    """Ask the same of many pictures, or each row's own; one bad picture costs only itself.

    Exit code 0: all done. 1: some failed (named on standard error); a second call tries them again. 2: none done.
    """
    from multiway_grounding.batch import BatchOptions
    from multiway_grounding.batch import batch as run_batch

    request = Request(
        task,
        detailed=detailed,
        grounded=not plain,
        phrases=tuple(phrase or ()),
        threshold=threshold,
        box=None if box is None else parse_box(box),
        frame=frame,
        text=text,
    )
    options = BatchOptions(output, model, device, dtype, save, jobs, overwrite, json)
    raise typer.Exit(run_batch(inputs, request, options))


@cli.command()
def export(
    results: Annotated[
        list[Path],
        typer.Argument(metavar="RESULTS...", help="What --json or batch wrote: JSON or JSON lines."),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="PATH", help="A file; a folder for yolo and voc.")
    ],
    format: Annotated[Format, typer.Option("--format", "-f", help="What to write.")] = "coco",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a folder that is not empty, with all in it.")
    ] = False,
) -> None:
    """Write results as files of other tools: COCO, YOLO, VOC, Label Studio, CSV."""
    from multiway_grounding.exporting import export_results

    count = export_results(results, format, output, overwrite=overwrite)
    note(f"{PROGRAM}: {count} results written to {output}")


@cli.command()
def train(
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="FILE.jsonl",
            help='Rows {"image": PATH, "caption": ..., "phrases": [{"span": [start, end], "boxes": [...]}]}.',
        ),
    ] = None,
    start_from: Annotated[
        str | None, typer.Option("--start-from", metavar="MODEL", help="A Kosmos-2 folder or hub id.")
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Folder of the run; a second call goes on.")
    ] = Path("training"),
    epochs: Annotated[float, typer.Option("--epochs", min=0.001, help="Times the data is seen.")] = 3.0,
    learning_rate: Annotated[float, typer.Option("--learning-rate", min=0.0, help="The peak.")] = 1e-5,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Captions of a step.")] = 8,
    freeze_tower: Annotated[
        bool, typer.Option("--freeze-tower", help="Leave the vision tower as it is.")
    ] = False,
    minutes: Annotated[
        float | None, typer.Option("--minutes", min=0.1, help="Stop by then, with a checkpoint and a model.")
    ] = None,
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
) -> None:
    """Fine-tune a Kosmos-2 model on captions with boxes; prints the folder of the model."""
    from multiway_grounding.training import fine_tune

    folder = fine_tune(
        output,
        data=data,
        start_from=start_from,
        epochs=epochs,
        learning_rate=learning_rate,
        batch_size=batch_size,
        freeze_tower=freeze_tower,
        minutes=minutes,
        device=device,
        seed=seed,
    )
    write_stdout(f"{folder}\n")


@cli.command()
def demo(
    model: ModelOption = BUNDLED_MODEL,
    host: Annotated[str, typer.Option("--host", help="Address to serve on.")] = "127.0.0.1",
    port: Annotated[int | None, typer.Option("--port", help="[default: first free from 7860]")] = None,
    share: Annotated[bool, typer.Option("--share/--no-share", help="Open a public tunnel.")] = False,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
) -> None:
    """Open the demo page in this machine's browser."""
    from multiway_core.app import launch

    from multiway_grounding.demo import build_demo

    launch(build_demo(model, device=device, dtype=dtype), host, port, share=share)


def main() -> None:
    """Entry point of the command ``multiway-grounding``."""
    run(cli, name=PROGRAM)


if __name__ == "__main__":
    main()
