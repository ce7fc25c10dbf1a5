"""The kit with a tiny app: groups of options, the demo command, the evaluation report, the model loader."""

import json
from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
from multiway_core.app import (
    App,
    CommandLine,
    JsonOption,
    ModelLoader,
    ModelOptions,
    ReportOptions,
    StopRun,
    TrainingOptions,
    command_line,
    load_pipeline,
    run,
    ticking,
    write_json,
)
from multiway_core.errors import InputError, ModelNotFoundError
from multiway_core.evaluation import Sample, evaluate
from typer.main import get_command


class Pipeline:
    loaded = 0

    def __init__(self, name, device, dtype):
        self.name, self.device, self.dtype = name, device, dtype

    @classmethod
    def from_pretrained(cls, name, *, device=None, dtype=None):
        if name == "missing":
            raise ModelNotFoundError("no model of this name")
        cls.loaded += 1
        return cls(name, device, dtype)


def build_demo(model, *, device, dtype):
    return ("page of", model, device, dtype)


APP = App(
    "tiny-task",
    "Tiny",
    "Does little.",
    cli="x:cli",
    model="bundled:tiny",
    pipeline=Pipeline,
    demo=build_demo,
)


@dataclass(frozen=True)
class Crop:
    width: Annotated[int, typer.Option("--width", min=1, help="Pixels.")]
    height: Annotated[int, typer.Option("--height", min=1, help="Pixels.")] = 4


@dataclass(frozen=True)
class Noise:
    json: JsonOption = False
    level: Annotated[float, typer.Option("--level")] = 0.5


@pytest.fixture
def cli():
    cli = CommandLine(APP)
    cli.add_demo()

    @cli.command()
    def show(
        image: Annotated[str, typer.Argument(metavar="IMAGE")],
        *,
        crop: Crop,
        model: ModelOptions,
        json: JsonOption = False,
    ) -> "NotImported":  # noqa: F821  a type that only type checkers import
        """Show it."""
        write_json([image, crop.width, crop.height, model.model, model.device, json])

    @cli.command("evaluate")
    def measure(*, model: ModelOptions, report: ReportOptions) -> None:
        """Measure it."""
        samples = [Sample(str(i), i, i) for i in range(report.limit or 3)]
        with ticking("measuring") as on_sample:
            found = evaluate(
                samples, lambda x: x, {"right": lambda p, t: float(p == t)}, name="tiny", on_sample=on_sample
            )
        report.publish(found)

    return cli


def call(cli, capfd, *arguments):
    with pytest.raises(SystemExit) as exit_:
        run(cli, arguments, name="multiway-tiny-task")
    out, err = capfd.readouterr()
    assert "Traceback" not in err
    return exit_.value.code, out, err


def test_a_group_of_options_arrives_as_one_value(cli, capfd):
    code, out, _ = call(cli, capfd, "show", "a.png", "--width", "3", "--json", "--device", "cpu")
    assert code == 0
    assert json.loads(out) == ["a.png", 3, 4, "bundled:tiny", "cpu", True]
    _, out, _ = call(cli, capfd, "show", "a.png", "--width", "3", "--height", "7", "-m", "folder")
    assert json.loads(out) == ["a.png", 3, 7, "folder", "auto", False]


def test_options_of_a_group_are_required_checked_and_listed(cli, capfd):
    code, _, err = call(cli, capfd, "show", "a.png")
    assert code == 2
    assert "Missing option '--width'" in err
    code, _, err = call(cli, capfd, "show", "a.png", "--width", "0")
    assert code == 2
    assert "--width" in err
    code, out, _ = call(cli, capfd, "show", "--help")
    assert code == 0
    assert "bundled:tiny" in out
    assert "Show it." in out
    positions = [out.index(name) for name in ("--width", "--height", "--model", "--device", "--json")]
    assert positions == sorted(positions)


def test_two_options_of_one_name_are_a_mistake_of_the_app(cli):
    with pytest.raises(TypeError, match="two options are called width"):

        @cli.command()
        def twice(*, crop: Crop, width: int = 3) -> None: ...


def test_the_same_option_in_two_groups_is_one_option(cli, capfd):
    @cli.command()
    def shared(*, noise: Noise, report: ReportOptions) -> None:
        write_json([noise.json, report.json, noise.level])

    _, out, _ = call(cli, capfd, "shared", "--json", "--level", "2")
    assert json.loads(out) == [True, True, 2.0]


def test_demo_serves_the_page_of_the_declaration(cli, capfd, monkeypatch):
    served = []
    monkeypatch.setattr(command_line, "launch", lambda *args, **more: served.append((args, more)))
    code, _, _ = call(cli, capfd, "demo", "--port", "81", "--device", "cpu", "--dtype", "float32")
    assert code == 0
    ((blocks, host, port), more) = served[0]
    assert blocks == ("page of", "bundled:tiny", "cpu", "float32")
    assert (host, port) == ("127.0.0.1", 81)
    assert more["share"] is False
    code, _, err = call(cli, capfd, "demo", "--port", "70000")
    assert code == 2
    assert "--port" in err


def test_evaluate_prints_a_table_or_json_and_saves_the_report(cli, capfd, tmp_path):
    code, out, _ = call(cli, capfd, "evaluate", "--limit", "2", "--output", str(tmp_path / "r"))
    assert code == 0
    assert "right" in out
    saved = json.loads((tmp_path / "r" / "report.json").read_text())
    assert saved["n"] == 2
    _, out, _ = call(cli, capfd, "evaluate", "--json")
    assert json.loads(out)["n"] == 3


def test_the_loader_loads_once_and_what_it_was_told():
    before = Pipeline.loaded
    loader = ModelLoader(APP, ModelOptions(device="cpu", dtype="bfloat16"))
    first = loader()
    assert loader() is first
    assert Pipeline.loaded == before + 1
    assert first.name == loader.model == "bundled:tiny"
    assert str(first.device) == "cpu"
    assert str(first.dtype) == "torch.bfloat16"
    for options in (ModelOptions("missing"), ModelOptions(dtype="int3")):
        with pytest.raises(StopRun):
            ModelLoader(APP, options)()


def test_a_pipeline_without_a_choice_refuses_one():
    app = App("fixed", "F", "F.", cli="x:cli", model="m", pipeline=lambda name: name.upper())
    assert load_pipeline(app, ModelOptions()) == "M"
    assert load_pipeline(app, ModelOptions("n", "cpu", "float32")) == "N"
    with pytest.raises(InputError, match="float32 only"):
        load_pipeline(app, ModelOptions(dtype="bfloat16"))
    with pytest.raises(InputError):
        load_pipeline(app, ModelOptions(device="cuda:0"))


@dataclass(frozen=True)
class LineRecipe:
    """Fits y = 2 x; the smallest recipe there is."""

    steps: int = 4
    batch_size: int = 8

    def build(self, options):
        import torch
        from multiway_core.training import HeldOut, Loss, TrainConfig, TrainJob

        def batches(step, shard, num_shards):
            return torch.randn(self.batch_size, 1, generator=torch.Generator().manual_seed(step))

        def objective(model, x_B1):
            error = model(x_B1) - 2 * x_B1
            return Loss(error.square().sum(), len(x_B1))

        def export(model, folder):
            (folder / "weights.txt").write_text(f"{model.weight.item():.6f}")

        def score(model):
            return {"loss": float((model.weight - 2).square())}

        config = options.apply(TrainConfig(steps=self.steps, learning_rate=0.1))
        facts = {"data": list(options.data), "batch_size": self.batch_size}
        return TrainJob(
            torch.nn.Linear(1, 1, bias=False),
            objective,
            batches,
            config,
            export,
            HeldOut(score),
            facts=facts,
        )


@dataclass(frozen=True)
class Changes:
    batch_size: Annotated[int | None, typer.Option("--batch-size", min=1)] = None
    depth: Annotated[int | None, typer.Option("--depth", min=1)] = None


def train_cli(recipes):
    app = App("tiny-task", "T", "D.", cli="x:cli", recipes=recipes)
    cli = CommandLine(app)

    @cli.command()
    def train(
        preset: Annotated[str, typer.Option("--preset")] = "line",
        *,
        changes: Changes,
        options: TrainingOptions,
    ) -> None:
        options.train(app, preset, vars(changes))

    @cli.command()
    def nothing() -> None: ...

    return cli


def test_train_runs_a_preset_with_changes_and_resumes(capfd, tmp_path):
    cli = train_cli({"line": LineRecipe()})
    run_ = ("train", "--device", "cpu", "-o", str(tmp_path / "run"))
    code, out, _ = call(cli, capfd, *run_, "--steps", "6", "--data", "a", "--data", "b", "--batch-size", "5")
    assert code == 0
    first, score, steps = out.splitlines()
    assert first == str(tmp_path / "run" / "model")
    assert score.startswith("held-out loss ")
    assert steps == "6 steps"
    assert (tmp_path / "run" / "model" / "weights.txt").is_file()
    code, out, _ = call(cli, capfd, *run_, "--steps", "6", "--json")
    report = json.loads(out)
    assert report["finished"]
    assert report["steps"] == 6
    code, out, _ = call(
        cli,
        capfd,
        "train",
        "--device",
        "cpu",
        "-o",
        str(tmp_path / "b"),
        "--batch-size",
        "5",
        "--data",
        "x",
        "--json",
    )
    assert (json.loads(out)["data"], json.loads(out)["batch_size"], json.loads(out)["steps"]) == (["x"], 5, 4)
    code, _, err = call(cli, capfd, *run_, "--no-resume")
    assert code == 2
    assert "not to be resumed" in err


def test_train_refuses_what_the_recipe_does_not_know(capfd, tmp_path):
    cli = train_cli({"line": LineRecipe()})
    code, _, err = call(cli, capfd, "train", "--depth", "3", "-o", str(tmp_path / "r"))
    assert (code, err) == (2, "multiway-tiny-task: --depth: the preset line has no such thing\n")
    code, _, err = call(cli, capfd, "train", "--preset", "curve", "-o", str(tmp_path / "r"))
    assert code == 2
    assert "there are: line" in err
    cli = train_cli("a_dependency_that_is_not_there:RECIPES")
    code, _, err = call(cli, capfd, "train", "-o", str(tmp_path / "r"))
    assert code == 2
    assert "training needs a_dependency_that_is_not_there: pip install 'multiway-tiny-task[training]'" in err
    assert not (tmp_path / "r").exists()
    options = {name for option in get_command(cli).commands["train"].params for name in option.opts}
    assert options > {
        "--data",
        "--parallel",
        "--precision",
        "--accumulation",
        "--checkpoint-every",
        "--init-from",
    }


def test_main_runs_the_declared_command_line(cli, capfd, monkeypatch):
    app = App("tiny-task", "T", "D.", cli=cli)
    monkeypatch.setattr("sys.argv", ["anything", "nothing"])
    with pytest.raises(SystemExit) as exit_:
        app.main()
    assert exit_.value.code == 2
    assert capfd.readouterr().err.startswith("multiway-tiny-task: No such command 'nothing'.")
