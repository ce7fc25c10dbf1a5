"""GGUF containers: written and read, against the `gguf` package, and damaged in every byte."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from multiway_core.errors import CheckpointError, MultiwayError
from multiway_text import gguf, gguf_tokenizer

METADATA = {
    "general.architecture": "test",
    "test.count": 7,
    "test.negative": -5,
    "test.large": 1 << 40,
    "test.flag": True,
    "test.rate": 0.5,
    "test.names": ["a", "ü", ""],
    "test.numbers": [1, 2, 3],
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    tensors = {
        "a": gguf.floating(torch.arange(15, dtype=torch.float32).view(3, 5)),
        "b": gguf.floating(torch.arange(4, dtype=torch.float16)),
        "c": gguf.floating(torch.ones(2, 1, 3, dtype=torch.bfloat16)),
    }
    gguf.write(tmp_path / "test.gguf", METADATA, tensors)
    return tmp_path / "test.gguf"


def test_there_and_back(path: Path) -> None:
    file = gguf.read(path)
    assert file.metadata == METADATA
    assert torch.equal(file.floats("a"), torch.arange(15.0).view(3, 5))
    assert file.floats("b").dtype == torch.float16
    assert torch.equal(file.floats("c"), torch.ones(2, 1, 3, dtype=torch.bfloat16))
    assert file.get("test.rate", float) == 0.5
    assert file.get("test.absent", int, 3) == 3
    with pytest.raises(CheckpointError, match=r"metadata test\.count: expected str, found int"):
        file.get("test.count", str)
    with pytest.raises(CheckpointError, match="holds no tensor z"):
        file.floats("z")


def test_the_package_reads_ours(path: Path) -> None:
    peer = pytest.importorskip("gguf")
    reader = peer.GGUFReader(path)
    assert reader.fields["general.architecture"].contents() == "test"
    assert reader.fields["test.names"].contents() == ["a", "ü", ""]
    assert {t.name: tuple(reversed(t.shape.tolist())) for t in reader.tensors} == {
        "a": (3, 5), "b": (4,), "c": (2, 1, 3),
    }  # fmt: skip
    np.testing.assert_array_equal(reader.tensors[0].data, np.arange(15.0).reshape(3, 5))


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1", "Q8_0"])
def test_block_types_of_the_package(kind: str, tmp_path: Path) -> None:
    peer = pytest.importorskip("gguf")
    values = np.random.default_rng(0).normal(size=(4, 64)).astype(np.float32)
    quantized = peer.quantize(values, peer.GGMLQuantizationType[kind])
    writer = peer.GGUFWriter(tmp_path / "peer.gguf", "test")
    writer.add_tensor("w", quantized, raw_dtype=peer.GGMLQuantizationType[kind])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    file = gguf.read(tmp_path / "peer.gguf")
    assert file.tensors["w"].shape == (4, 64)
    np.testing.assert_array_equal(
        file.floats("w").numpy(), peer.dequantize(quantized, peer.GGMLQuantizationType[kind])
    )


def test_cut_anywhere(path: Path) -> None:
    content = path.read_bytes()
    for length in range(0, len(content) - 31, 3):  # the last bytes are padding
        path.write_bytes(content[:length])
        with pytest.raises(CheckpointError):
            gguf.read(path)


def test_any_byte_may_be_wrong(path: Path) -> None:
    """Nothing but a clear error escapes, and nothing is allocated that the file cannot hold."""
    content = bytearray(path.read_bytes())
    for place in range(0, len(content), 2):
        for value in (0, 255):
            damaged = bytearray(content)
            damaged[place] = value
            path.write_bytes(damaged)
            try:
                file = gguf.read(path)
                for name in file.tensors:
                    file.floats(name)
            except MultiwayError:
                continue


def test_not_gguf(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(b"not a model at all")
    with pytest.raises(CheckpointError, match="does not begin with GGUF"):
        gguf.read(tmp_path / "x.gguf")
    (tmp_path / "empty.gguf").write_bytes(b"")
    for name in ("empty.gguf", "absent.gguf", "."):
        with pytest.raises(CheckpointError):
            gguf.read(tmp_path / name)


def test_shapes_are_checked_before_anything_is_unpacked(tmp_path: Path) -> None:
    peer = pytest.importorskip("gguf")
    number = peer.GGMLQuantizationType.Q4_0
    data = torch.zeros(64 * 18, dtype=torch.uint8)
    path = tmp_path / "test.gguf"
    gguf.write(path, {}, {"w": gguf.GGUFTensor(int(number), (64, 32), data)})
    with pytest.raises(CheckpointError, match=r"w has \[64, 32\], the model needs \[64, 64\]"):
        gguf.read(path).floats("w", (64, 64))
    gguf.write(path, {}, {"w": gguf.GGUFTensor(int(number), (0, 32), data[:0])})
    with pytest.raises(CheckpointError, match="w has no elements"):
        gguf.read(path)


def test_tensors_that_share_bytes(tmp_path: Path) -> None:
    path = tmp_path / "test.gguf"
    values = gguf.floating(torch.arange(8, dtype=torch.float32))
    gguf.write(path, {}, {"first": values, "second": values})
    content = path.read_bytes()
    place = content.index(b"second") + 6 + 4 + 8 + 4  # dimensions, one size, type
    assert content[place : place + 8] == (32).to_bytes(8, "little")
    path.write_bytes(content[:place] + bytes(8) + content[place + 8 :])
    with pytest.raises(CheckpointError, match="second overlaps the tensor before it"):
        gguf.read(path)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({}, {}),
        ({"general.basename": "SmolLM2"}, {"temperature": 0.2, "top_p": 0.9}),
        ({"general.basename": "smollm2", "general.sampling.temp": 0.5}, {"temperature": 0.5}),
        ({"general.sampling.penalty_repeat": 1.5}, {"repetition_penalty": 1.5}),
    ],
)  # fmt: skip
def test_how_the_authors_sample(told: dict[str, object], expected: dict[str, object], tmp_path: Path) -> None:
    vocabulary = {"model": "gpt2", "tokens": ["a", "b", "ab"], "merges": ["a b"]}
    gguf.write(
        tmp_path / "m.gguf", told | {f"tokenizer.ggml.{key}": value for key, value in vocabulary.items()}, {}
    )
    assert gguf_tokenizer.read(gguf.read(tmp_path / "m.gguf")).generation == expected
