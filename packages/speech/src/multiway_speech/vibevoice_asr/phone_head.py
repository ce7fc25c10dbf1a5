"""Training of the head that tells phones from Whisper's columns, and features with its answers.

    python -m multiway_speech.vibevoice_asr.phone_head --features features/heard --out phones.safetensors
    python -m multiway_speech.vibevoice_asr.phone_head --features features/heard --head phones.safetensors \
        --out features/phones

The synthesizers told when each phone was said. One text in :data:`UNTAUGHT_OF` is not taught here, so that there are
phones whose answers are as unsure as those of new speech: made-up frames (:mod:`pseudo`) are put together from them.

Shape suffixes: B batch, N columns, C hidden size, P phones, F frames, D numbers of a frame.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from multiway_core.errors import CheckpointError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from multiway_speech.vibevoice_asr.features import ACOUSTIC, PHONES, UNKNOWN, Features
from multiway_speech.vibevoice_asr.whisper_encoder import PhoneHead

UNTAUGHT_OF = 16
_CHUNK, _BATCH = 1000, 8


def is_untaught(text: str) -> bool:
    """Whether the head was not trained on a text: another hash than that of what is held out altogether."""
    digest = hashlib.blake2b(text.lower().encode(), digest_size=4, salt=b"phones").digest()
    return int.from_bytes(digest, "big") % UNTAUGHT_OF == 0


def columns(features: Features, place: int) -> np.ndarray:
    """Float16 (N, C) of one conversation, 50 a second."""
    frames_FD = features.frames(place)[:, ACOUSTIC:]
    return frames_FD.reshape(2 * len(frames_FD), -1)


def targets(features: Features, place: int, *, untaught: bool = False) -> np.ndarray:
    """Uint8 (N,): phones, :data:`UNKNOWN` in texts that are not taught (``untaught``: in all others, and silence)."""
    labels_N = features.labels(place).reshape(-1).copy()
    entry = features.entries[place]
    middles_N = (np.arange(len(labels_N)) + 0.5) / 50
    chosen_N = np.full(len(labels_N), not untaught)
    for start, end, _, text in entry.segments:
        chosen_N[(middles_N >= start) & (middles_N < end)] = is_untaught(text) == untaught
    labels_N[~chosen_N] = UNKNOWN
    return labels_N


def train(features: Features, epochs: float, learning_rate: float, seed: int = 0) -> PhoneHead:
    """A head that was trained on all conversations."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    head = PhoneHead(columns(features, 0).shape[1], len(PHONES))
    optimizer = torch.optim.AdamW(head.parameters(), lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.02)
    total = sum(2 * entry.frames for entry in features.entries)
    steps = int(epochs * total / (_CHUNK * _BATCH))
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, steps, pct_start=0.1)
    seen = torch.zeros(2)
    for step in range(steps):
        chunks, labels = zip(*(_chunk(features, rng) for _ in range(_BATCH)), strict=True)
        x_BNC = torch.from_numpy(np.stack(chunks)).float()
        labels_BN = torch.from_numpy(np.stack(labels)).long()
        x_BNC = x_BNC + 0.3 * torch.randn_like(x_BNC)
        with torch.autocast("cpu", torch.bfloat16):
            logits_BNP = head(x_BNC).float()
        known = labels_BN != UNKNOWN
        loss = nn.functional.cross_entropy(logits_BNP[known], labels_BN[known])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        scheduler.step()
        right = (logits_BNP.argmax(-1) == labels_BN)[known].float().mean()
        seen = seen + torch.stack([loss.detach(), right])
        if step % 20 == 19:
            print(f"step {step + 1}/{steps}  loss {seen[0] / 20:.3f}  right {seen[1] / 20:.3f}", flush=True)
            seen = torch.zeros(2)
    return head.eval()


def _chunk(features: Features, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Columns of random conversations, one behind the other, and their phones."""
    rows, labels, count = [], [], 0
    while count < _CHUNK:
        place = int(rng.integers(len(features.entries)))
        rows.append(columns(features, place))
        labels.append(targets(features, place))
        count += len(labels[-1])
    return np.concatenate(rows)[:_CHUNK], np.concatenate(labels)[:_CHUNK]


def load_head(path: Path) -> PhoneHead:
    """What :func:`main` saved. Raises CheckpointError."""
    try:
        tensors = load_file(path)
        head = PhoneHead(tensors["conv1.weight"].shape[1], len(PHONES))
        head.load_state_dict(tensors)
    except Exception as error:  # the library raises bare exceptions
        raise CheckpointError(f"{path}: not a phone head: {error}") from error
    return head.eval()


@torch.no_grad()
def answers(head: PhoneHead, columns_NC: np.ndarray) -> np.ndarray:
    """Float16 (N, P): probabilities."""
    x_1NC: Tensor = torch.from_numpy(columns_NC.astype(np.float32))[None]
    probabilities: np.ndarray = head(x_1NC)[0].softmax(-1).numpy().astype(np.float16)
    return probabilities


def convert(source: Path, head: PhoneHead, out: Path) -> None:
    """Features whose semantic numbers are a head's probabilities."""
    features = Features([source])
    out.mkdir(parents=True, exist_ok=True)
    rows = []
    for place, entry in enumerate(features.entries):
        semantic = answers(head, columns(features, place)).reshape(entry.frames, -1)
        rows.append(np.concatenate([features.frames(place)[:, :ACOUSTIC], semantic], axis=1))
    np.save(out / "frames.npy", np.concatenate(rows))
    shutil.copy(source / "labels.npy", out / "labels.npy")
    shutil.copy(source / "index.jsonl", out / "index.jsonl")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Train the phone head, or put its answers into features.")
    parser.add_argument("--features", type=Path, required=True, help="folder of vibevoice_asr.features")
    parser.add_argument("--head", type=Path, help="apply this one instead of training")
    parser.add_argument("--out", type=Path, required=True, help="file of the head, or folder of features")
    parser.add_argument("--epochs", type=float, default=2.0)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    options = parser.parse_args(arguments)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    parts = sorted(index.parent for index in options.features.glob("*/index.jsonl"))
    if options.head:
        head = load_head(options.head)
        for part in parts:
            if not (options.out / part.name / "index.jsonl").is_file():
                convert(part, head, options.out / part.name)
    else:
        head = train(Features(parts), options.epochs, options.learning_rate)
        save_file(head.state_dict(), options.out)


if __name__ == "__main__":
    main()
