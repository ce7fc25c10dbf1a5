"""`train` of three apps under torchrun: two processes (gloo) give the weights of one with --accumulation 2."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m")


def python(*arguments: object) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def one_and_two(folder: Path, module: str, *arguments: object, parallel: str) -> list[dict]:
    """The exported weights of one process with accumulation 2, and of two processes."""
    command = (module, "train", *arguments, "--device", "cpu", "--json")
    printed = [
        python("-m", *command, "--output", folder / "one", "--accumulation", 2),
        python(*TORCHRUN, *command, "--output", folder / "two", "--parallel", parallel),
    ]
    assert [json.loads(out)["model"] for out in printed] == [
        str(folder / name / "model") for name in ("one", "two")
    ]
    assert [json.loads(out)["finished"] for out in printed] == [True, True]
    return [
        {
            f"{file.name}/{name}": tensor.float()
            for file in sorted((folder / name / "model").glob("*.safetensors"))
            for name, tensor in load_file(file).items()
        }
        for name in ("one", "two")
    ]


def assert_close(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor], tolerance: float = 1e-5) -> None:
    assert one.keys() == two.keys()
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=tolerance, atol=tolerance, msg=name)


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_a_language_model(tmp_path: Path, parallel: str) -> None:
    small = ("--preset", "smoke", "--steps", 3, "--max-tokens", 20_000, "--batch-size", 2)
    one, two = one_and_two(tmp_path, "multiway_lm", *small, parallel=parallel)
    assert_close(one, two)


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_a_reader_that_answers(tmp_path: Path, parallel: str) -> None:
    from multiway_document.alphabet import ALPHABET
    from multiway_document.kosmos2_5 import checkpoint
    from multiway_document.kosmos2_5.config import Kosmos25Config, TextConfig, TokenConfig, VisionConfig
    from multiway_document.kosmos2_5.objective import Reader
    from multiway_document.kosmos2_5.tokenizer import train_small_tokenizer
    from PIL import Image

    tokens = TokenConfig(num_text_tokens=len(ALPHABET) + 1, num_locations=4)
    vision = VisionConfig(hidden_size=16, num_layers=1, num_heads=2, head_dim=8, inner_size=16, max_patches=8)
    text = TextConfig(
        hidden_size=16,
        num_layers=2,
        num_heads=2,
        inner_size=16,
        vocab_size=tokens.vocab_size,
        max_positions=260,
        dropout=0.0,
    )
    reader = Reader(Kosmos25Config(vision=vision, text=text, tokens=tokens, num_queries=2))
    reader.reset_parameters(seed=0)
    checkpoint.save(reader.kosmos, tmp_path / "tiny")
    train_small_tokenizer(["ab"], len(ALPHABET) + 1).save(str(tmp_path / "tiny" / "tokenizer.json"))
    rows = []
    for number in range(8):
        Image.new("RGB", (64, 48), (30 * number, 90, 120)).save(tmp_path / f"{number}.png")
        rows.append(
            json.dumps({"image": f"{number}.png", "question": "Who?", "answer": "Ada" * (1 + number % 3)})
        )
    (tmp_path / "rows.jsonl").write_text("\n".join(rows))
    arguments = ("--preset", "chat", "--data", tmp_path / "rows.jsonl", "--init-from", tmp_path / "tiny")
    one, two = one_and_two(
        tmp_path, "multiway_ocr", *arguments, "--batch-size", 2, "--steps", 3, parallel=parallel
    )
    assert_close(one, two, 1e-4)


def test_a_detector(tmp_path: Path) -> None:
    one, two = one_and_two(
        tmp_path, "multiway_event_detection", "--preset", "smoke", "--steps", 2, parallel="ddp"
    )
    # BatchNorm's running means are the first process's own: they have seen its batches alone.
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    parts = [{name: part[name] for name in part if not name.endswith(buffers)} for part in (one, two)]
    assert len(parts[0]) > 10
    assert_close(*parts, 1e-4)
