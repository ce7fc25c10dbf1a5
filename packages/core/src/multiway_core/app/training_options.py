"""The options of every ``train`` command, and the run behind it: :func:`multiway_core.training.run` on a preset."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import typer

from multiway_core.app.command import pick_device, write_json, write_stdout
from multiway_core.app.options import DeviceOption, JsonOption, MinutesOption, RunFolderOption, SeedOption
from multiway_core.app.registry import App
from multiway_core.errors import InputError

StepsOption = Annotated[int | None, typer.Option("--steps", min=1, show_default="the preset's")]
PrecisionOption = Annotated[
    Literal["fp32", "bf16"] | None, typer.Option("--precision", show_default="the preset's")
]
ParallelOption = Annotated[
    Literal["none", "ddp", "fsdp"], typer.Option("--parallel", help="ddp and fsdp run under torchrun.")
]


@dataclass(frozen=True)
class TrainingOptions:
    """A group of options, see :mod:`multiway_core.app.options`; with :meth:`train` it is the whole of most commands."""

    output: RunFolderOption
    data: Annotated[
        list[str] | None,
        typer.Option(
            "--data",
            metavar="DATA",
            help="What to train on; the text above says in which form.",
        ),
    ] = None
    init_from: Annotated[
        str | None,
        typer.Option(
            "--init-from", "--start-from", metavar="MODEL", help="Begin with the weights of this model."
        ),
    ] = None
    steps: StepsOption = None
    minutes: MinutesOption = None
    precision: PrecisionOption = None
    parallel: ParallelOption = "none"
    accumulation: Annotated[
        int | None, typer.Option("--accumulation", min=1, help="Batches of a step, on each process.")
    ] = None
    checkpoint_every: Annotated[
        float, typer.Option("--checkpoint-every", min=0.0, metavar="MINUTES", help="0: only at the end.")
    ] = 5.0
    resume: Annotated[
        bool, typer.Option("--resume/--no-resume", help="Whether a run found in --output is continued.")
    ] = True
    activation_checkpointing: Annotated[
        bool, typer.Option("--activation-checkpointing", help="Less memory, a third more work.")
    ] = False
    device: DeviceOption = "auto"
    seed: SeedOption = 0
    json: JsonOption = False

    def train(self, app: App, preset: str, changes: Mapping[str, Any] | None = None) -> None:
        """Run a preset of the app's recipes, and print the model's folder and its held-out scores.

        Args:
            changes: fields of the recipe; None leaves the preset's value, and options that are given often are tuples
                there. ``schedule``, ``learning_rate`` and
                ``warmup_steps`` are those of its ``train`` where the recipe itself has none.

        Raises:
            InputError: the app's training extra is not installed.
            ConfigError: no such preset. And what :func:`multiway_core.training.run` raises.
        """
        try:
            import multiway_core.training as training

            recipes = app.load("recipes")
        except ModuleNotFoundError as error:
            raise InputError(f"training needs {error.name}: pip install '{app.program}[training]'") from error
        recipe: Any = training.choose(recipes, preset)
        given = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in (changes or {}).items()
            if value is not None
        }
        fields = {field.name for field in dataclasses.fields(recipe)}
        of_train = [name for name in ("schedule", "learning_rate", "warmup_steps") if name not in fields]
        numbers = {name: given.pop(name) for name in of_train if name in given}
        unknown = sorted(set(given) - fields)
        if unknown:
            raise InputError(f"--{unknown[0].replace('_', '-')}: the preset {preset} has no such thing")
        if numbers:
            given["train"] = dataclasses.replace(recipe.train, **numbers)
        report = training.run(
            dataclasses.replace(recipe, **given),
            training.TrainOptions(
                output=self.output,
                data=tuple(self.data or ()),
                init_from=self.init_from,
                seed=self.seed,
                steps=self.steps,
                minutes=self.minutes,
                device=str(pick_device(self.device)),
                precision=self.precision,
                parallel=self.parallel,
                accumulation=self.accumulation,
                checkpoint_every=self.checkpoint_every,
                resume=self.resume,
                activation_checkpointing=self.activation_checkpointing,
            ),
        )
        if not report.is_main:
            return
        if self.json:
            write_json(report.to_json())
            return
        scores = [
            f"held-out {name} {report.held_out_before.get(name, float('nan')):.4g} -> {value:.4g}"
            for name, value in report.held_out.items()
        ]
        write_stdout("\n".join([str(report.folder), *scores, f"{report.steps} steps"]) + "\n")
