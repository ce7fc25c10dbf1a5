"""`train --preset smoke` of every app, two steps in two fresh processes: the models are equal bit for bit."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

SMOKE = ("train", "--preset", "smoke")
APPS = {
    "lm": SMOKE,
    "lm-distill": ("distill", "--preset", "bitdistill-smoke"),
    "encoder-distill": ("distill", "--preset", "minilm-smoke", "--teacher", "bundled:minilm-l6"),
    "ocr": SMOKE,
    "grounding": SMOKE,
    "event_detection": SMOKE,
    "frame_interpolation": SMOKE,
    "news_recommendation": SMOKE,
    "asr": SMOKE,
    "tts": SMOKE,
    "encoder-finetune": ("finetune", "--preset", "smoke"),
    "encoder-xtune": ("finetune", "--method", "xtune", "--preset", "smoke"),
    "encoder-pretrain": ("pretrain", "--preset", "smoke"),
    "pathology": SMOKE,
    "pathology-pretrain": ("pretrain", "--preset", "dino-smoke"),
    "search": SMOKE,
    "summarization": SMOKE,
    "question_answering": SMOKE,
    "question_answering-unanswerable": ("train", "--preset", "unanswerable-smoke"),
}
"""By the app: its command."""


def trained(app: str, output: Path, hash_seed: int, threads: int = 1) -> dict[str, str]:
    """SHA-256 of every file of the model folder."""
    command = ("-m", f"multiway_{app.partition('-')[0]}", *APPS[app], "--steps", "2", "--seed", "3")
    done = subprocess.run(
        [sys.executable, *command, "--device", "cpu", "--output", str(output)],
        env={**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONHASHSEED": str(hash_seed)},
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


def test_threads_add_in_one_order(tmp_path: Path) -> None:
    """Gradients of indexing are many in a detector of events."""
    first = trained("event_detection", tmp_path / "first", 1, threads=2)
    assert trained("event_detection", tmp_path / "second", 1, threads=2) == first
