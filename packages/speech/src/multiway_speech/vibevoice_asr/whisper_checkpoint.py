"""Whisper from a CTranslate2 model file (``model.bin``, any published float type), with a reduced vocabulary.

The format: a version, the name of the model's kind, its revision, and the number of tensors; then for each its name,
rank, dimensions, data type, bytes and data. Numbers are little-endian, names end with a zero byte.
"""

from __future__ import annotations

import json
import struct
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from multiway_core import files
from multiway_core.checkpoint import Rule, RuleTable
from multiway_core.errors import CheckpointError
from tokenizers import Tokenizer
from torch import Tensor

from multiway_speech.vibevoice_asr.whisper import Whisper
from multiway_speech.vibevoice_asr.whisper_encoder import WhisperConfig

PIECES_FILE = "whisper-pieces.json"
END, START, PROMPT_START, NO_TIMES = 50_256, 50_257, 50_360, 50_362
"""Control tokens of the English models."""

_TYPES = {0: "<f4", 1: "<i1", 2: "<i2", 3: "<i4", 4: "<f2"}
_LAYER = {
    "self_attention/layer_norm/gamma": "attention_norm.weight",
    "self_attention/layer_norm/beta": "attention_norm.bias",
    "self_attention/linear_0/weight": "attention.qkv.weight",
    "self_attention/linear_0/bias": "attention.qkv.bias",
    "self_attention/linear_1/weight": "attention.output.weight",
    "self_attention/linear_1/bias": "attention.output.bias",
    "ffn/layer_norm/gamma": "feedforward_norm.weight",
    "ffn/layer_norm/beta": "feedforward_norm.bias",
    "ffn/linear_0/weight": "feedforward.up.weight",
    "ffn/linear_0/bias": "feedforward.up.bias",
    "ffn/linear_1/weight": "feedforward.down.weight",
    "ffn/linear_1/bias": "feedforward.down.bias",
}
_SOUND = {
    "layer_norm/gamma": "cross_attention_norm.weight",
    "layer_norm/beta": "cross_attention_norm.bias",
    "linear_0/weight": "cross_attention.query.weight",
    "linear_0/bias": "cross_attention.query.bias",
    "linear_1/weight": "cross_attention.kv.weight",
    "linear_1/bias": "cross_attention.kv.bias",
    "linear_2/weight": "cross_attention.output.weight",
    "linear_2/bias": "cross_attention.output.bias",
}
_DECODER = {
    "decoder/embeddings/weight": "embedding.weight",
    "decoder/position_encodings/encodings": "text_positions",
    "decoder/layer_norm/gamma": "norm.weight",
    "decoder/layer_norm/beta": "norm.bias",
}
_REST = {
    "conv1/weight": "conv1.weight",
    "conv1/bias": "conv1.bias",
    "conv2/weight": "conv2.weight",
    "conv2/bias": "conv2.bias",
    "position_encodings/encodings": "positions",
    "layer_norm/gamma": "norm.weight",
    "layer_norm/beta": "norm.bias",
}


_FOLDER = {
    "qkv": "attention.qkv",
    "output": "attention.output",
    "up": "feedforward.up",
    "down": "feedforward.down",
    "sound_norm": "cross_attention_norm",
    "sound_query": "cross_attention.query",
    "sound_kv": "cross_attention.kv",
    "sound_output": "cross_attention.output",
}
FOLDER_RULES = RuleTable(
    [
        Rule(f"{half}layers.{{i}}.{file}.{{kind}}", f"{half}layers.{{i}}.{ours}.{{kind}}")
        for half in ("semantic.encoder.", "semantic.")
        for file, ours in _FOLDER.items()
    ]
    + [Rule("{rest*}", "{rest*}")]
)
"""From the tensor names in our own model folders to the model's."""


def load_whisper(folder: Path, kept: Sequence[int], config: WhisperConfig | None = None) -> Whisper:
    """The English model in a folder, float32, in evaluation mode, with the tokens ``kept`` behind the control tokens.

    Raises CheckpointError.
    """
    path = folder / "model.bin"
    config = replace(config or WhisperConfig(), vocab_size=3 + len(kept))
    reader = Whisper(config)
    names = {f"encoder/{theirs}": f"encoder.{ours}" for theirs, ours in _REST.items()}
    names |= _DECODER
    for layer in range(config.num_layers):
        for theirs, ours in _LAYER.items():
            names[f"encoder/layer_{layer}/{theirs}"] = f"encoder.layers.{layer}.{ours}"
            names[f"decoder/layer_{layer}/{theirs}"] = f"layers.{layer}.{ours}"
        for theirs, ours in _SOUND.items():
            names[f"decoder/layer_{layer}/attention/{theirs}"] = f"layers.{layer}.{ours}"
    found = {names[name]: tensor.float() for name, tensor in read_tensors(path) if name in names}
    try:
        rows = torch.tensor([END, START, NO_TIMES, *kept])
        found["prompt_start"] = found["embedding.weight"][PROMPT_START].clone()
        found["embedding.weight"] = found["embedding.weight"][rows]
        reader.load_state_dict(found)
    except (RuntimeError, KeyError, IndexError) as error:
        raise CheckpointError(f"{path}: not a Whisper model of these sizes: {error}") from None
    reader.pieces = (b"", b"", b"", *pieces_of(folder / "tokenizer.json", kept))
    return reader.eval()


def pieces_of(tokenizer: Path, kept: Sequence[int]) -> list[bytes]:
    """The bytes of tokens of a byte-level vocabulary. Raises CheckpointError."""
    try:
        vocabulary = json.loads(tokenizer.read_text("utf-8"))["model"]["vocab"]
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{tokenizer}: not a tokenizer: {error}") from None
    by_id = {number: token for token, number in vocabulary.items()}
    values = {character: value for value, character in _byte_characters().items()}
    return [bytes(values[character] for character in by_id[number]) for number in kept]


def _byte_characters() -> dict[int, str]:
    """The character that stands for each byte in GPT-2's vocabularies."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [value for value in range(256) if value not in printable]
    return {value: chr(value) for value in printable} | {
        value: chr(256 + number) for number, value in enumerate(others)
    }


def common_tokens(folder: Path, texts: Iterable[str], limit: int) -> list[int]:
    """Ids of all bytes, of short figures, and of what the texts use most, ``limit`` at most; none is suppressed."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    suppressed = set(json.loads((folder / "config.json").read_text("utf-8"))["suppress_ids"])
    counts: Counter[int] = Counter()
    for text in texts:
        counts.update(tokenizer.encode(f" {text}", add_special_tokens=False).ids)
    vocabulary = tokenizer.get_vocab(with_added_tokens=False)
    always = [vocabulary[character] for character in _byte_characters().values()]
    always += [
        number
        for token, number in vocabulary.items()
        if token.removeprefix("\u0120").isdecimal() and len(token) < 4
    ]
    chosen = dict.fromkeys([*always, *(number for number, _ in counts.most_common())])
    return [number for number in chosen if number not in suppressed][:limit]


def save_pieces(pieces: Sequence[bytes], path: Path) -> None:
    """Write the tokens' bytes as a list of strings, a character a byte."""
    files.write_text(path, json.dumps([piece.decode("latin-1") for piece in pieces]) + "\n")


def read_pieces(path: Path, size: int) -> tuple[bytes, ...]:
    """What :func:`save_pieces` wrote. Raises CheckpointError."""
    try:
        pieces = tuple(piece.encode("latin-1") for piece in json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise CheckpointError(f"{path}: not a list of tokens: {error}") from None
    if len(pieces) != size:
        raise CheckpointError(f"{path}: {len(pieces)} tokens, and the model has {size}")
    return pieces


def read_tensors(path: Path) -> Iterator[tuple[str, Tensor]]:
    """Names and tensors of a CTranslate2 ``model.bin``. Raises CheckpointError."""
    try:
        with path.open("rb") as file:
            (version,) = _read(file, "<I")
            kind = _name(file)
            _, count = _read(file, "<II")
            if kind != "WhisperSpec":
                raise CheckpointError(f"{path}: format {version} of {kind!r}, expected 'WhisperSpec'")
            for _ in range(count):
                name = _name(file)
                (rank,) = _read(file, "<B")
                shape = _read(file, f"<{rank}I")
                dtype, size = _read(file, "<BI")
                data = file.read(size)
                if dtype in _TYPES:
                    array = np.frombuffer(data, dtype=_TYPES[dtype]).reshape(shape)
                    yield name, torch.from_numpy(array.copy())
    except (OSError, struct.error, ValueError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path}: not a CTranslate2 model file: {error}") from None


def _read(file: BinaryIO, form: str) -> tuple[int, ...]:
    return struct.unpack(form, file.read(struct.calcsize(form)))


def _name(file: BinaryIO) -> str:
    (length,) = _read(file, "<H")
    return file.read(length).rstrip(b"\0").decode()
