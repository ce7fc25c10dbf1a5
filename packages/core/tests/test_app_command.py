import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import typer
from multiway_core.app import counting, pick_device, pick_dtype, run, ticking
from multiway_core.errors import InputError, OutputError

PROGRAM = """
    import sys
    import typer
    from multiway_core.app import JsonOption, run, write_stdout
    from multiway_core.errors import InputError

    cli = typer.Typer(add_completion=False)

    @cli.command()
    def fail(kind: str, json: JsonOption = False) -> None:
        if kind == "input":
            raise InputError("page.png is empty;\\ngive a picture")
        if kind == "bug":
            raise ValueError("deep\\ninside")
        if kind == "memory":
            raise MemoryError
        if kind == "interrupt":
            raise KeyboardInterrupt
        raise typer.Exit(int(kind))

    @cli.command()
    def count(until: int) -> None:
        for i in range(until):
            write_stdout(f"{i} é\\n")

    run(cli, name="tool")
"""


@pytest.fixture
def program(tmp_path):
    path = tmp_path / "tool.py"
    path.write_text(textwrap.dedent(PROGRAM), encoding="utf-8")
    return path


def call(program, *arguments, **options):
    return subprocess.run(
        [sys.executable, program, *arguments], capture_output=True, text=True, timeout=60, **options
    )


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (["fail", "input"], 2, "tool: page.png is empty; give a picture"),
        (["fail", "memory"], 2, "tool: out of memory"),
        (["fail", "interrupt"], 130, "tool: interrupted"),
        (
            ["fail", "bug"],
            2,
            "tool: internal error: ValueError: deep inside (a bug; MULTIWAY_TRACEBACK=1 shows where)",
        ),
        (["nothing"], 2, "tool: No such command 'nothing'. (see: tool --help)"),
        (["fail"], 2, "tool: Missing argument 'kind'. (see: tool fail --help)"),
        (["count", "many"], 2, None),
        (["fail", "input", "--bad"], 2, None),
    ],
)
def test_every_mistake_is_one_line_on_stderr(program, arguments, code, line):
    result = call(program, *arguments)
    assert result.returncode == code
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert len(lines) == 1
    assert "Traceback" not in result.stderr
    if line:
        assert lines[0] == line


@pytest.mark.parametrize("code", [0, 1, 2])
def test_exit_codes_pass_through(program, code):
    assert call(program, "fail", str(code)).returncode == code


def test_traceback_on_request(program):
    result = call(program, "fail", "bug", env={**os.environ, "MULTIWAY_TRACEBACK": "1"})
    assert "Traceback" in result.stderr
    assert "deep\ninside" in result.stderr


def test_a_reader_that_goes_away_is_no_error(program):
    process = subprocess.Popen(
        [sys.executable, program, "count", "200000"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout.readline() == "0 é\n".encode()
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(timeout=60) == 141


def test_output_is_utf8_in_any_locale(program):
    environment = {**os.environ, "LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    result = subprocess.run(
        [sys.executable, program, "count", "1"], capture_output=True, env=environment, timeout=60
    )
    assert result.stdout == "0 é\n".encode()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")  # noqa: PTH110
def test_full_disk_behind_standard_output(program):
    with open("/dev/full", "w") as full:  # noqa: PTH123
        result = subprocess.run(
            [sys.executable, program, "count", "1"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
    assert result.returncode == 2
    assert result.stderr == "tool: cannot write to standard output: no space left on device\n"


def test_run_maps_our_errors_in_process(capsys):
    cli = typer.Typer()

    @cli.command()
    def fail() -> None:
        raise OutputError("cannot write x")

    with pytest.raises(SystemExit) as exit_:
        run(cli, [], name="tool")
    assert exit_.value.code == 2
    assert capsys.readouterr().err == "tool: cannot write x\n"


def test_devices_and_dtypes():
    import torch

    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device("auto").type in ("cpu", "cuda")
    assert pick_dtype("auto") is None
    assert pick_dtype("bfloat16") is torch.bfloat16
    for bad in ("gpu", "mps:x", "meta"):
        with pytest.raises(InputError, match="expected cpu"):
            pick_device(bad)
    with pytest.raises(InputError, match="CUDA devices"):
        pick_device("cuda:99")
    with pytest.raises(InputError, match="expected float32"):
        pick_dtype("int8")


def test_importing_the_shell_loads_neither_torch_nor_gradio():
    code = (
        "import sys, multiway_core.app; "
        "print([m for m in ('torch', 'gradio', 'numpy', 'matplotlib') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert result.stdout.strip() == "[]", result.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_help_that_cannot_be_written_is_one_line(tmp_path):
    code = "import typer\nfrom multiway_core.app import run\ncli = typer.Typer()\n"
    code += "@cli.command()\ndef go() -> None: ...\nrun(cli, ['--help'], name='tool')"
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert (done.returncode, done.stderr) == (2, "tool: cannot write: no space left on device\n")


def test_progress_is_a_line_now_and_then_where_there_is_no_terminal(capfd, monkeypatch):
    with counting("reading") as move, ticking("evaluating", total=3) as tick:
        move(5, 10)
        tick()
        assert capfd.readouterr().err == ""
        monkeypatch.setattr("multiway_core.app.command.LINE_SECONDS", 0.0)
        move(1000)
        move(2000, 5000)
        tick("a sample")
    assert capfd.readouterr().err.splitlines() == [
        "reading: 1,000",
        "reading: 2,000 of 5,000",
        "evaluating: 2 of 3",
    ]
