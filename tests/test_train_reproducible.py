"""`train --preset smoke` of every app, two steps in two fresh processes: the models are equal bit for bit."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

APPS = ["lm", "ocr", "event_detection", "news_recommendation", "asr", "tts"]
"""Those whose smoke preset makes or brings its data. (Grounding's needs published backbones, interpolation's clips.)"""


def trained(app: str, output: Path, hash_seed: int) -> dict[str, str]:
    """SHA-256 of every file of the model folder."""
    command = ("-m", f"multiway_{app}", "train", "--preset", "smoke", "--steps", "2", "--seed", "3")
    done = subprocess.run(
        [sys.executable, *command, "--device", "cpu", "--output", str(output)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": str(hash_seed)},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    model = output / "model"
    return {
        str(file.relative_to(model)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(model.rglob("*"))
        if file.is_file()
    }


@pytest.mark.parametrize("app", APPS)
def test_two_processes_train_the_same_bits(app: str, tmp_path: Path) -> None:
    first = trained(app, tmp_path / "first", 1)
    assert first
    assert trained(app, tmp_path / "second", 2) == first
