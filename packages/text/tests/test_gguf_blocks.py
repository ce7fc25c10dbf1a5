"""GGML's block types as codes, scales and offsets, against what the ``gguf`` package unpacks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from multiway_blocks.block_linear import BlockLinear
from multiway_text.gguf import GGUFTensor
from multiway_text.gguf_blocks import _READERS, Q4_K, read


def tensor(kind: int, outputs: int, inputs: int) -> GGUFTensor:
    """Random bits; scales are made finite."""
    size, _ = _READERS[kind]
    per_block = 256 if kind >= Q4_K else 32
    raw = np.random.default_rng(kind).integers(0, 256, (outputs * inputs // per_block, size), dtype=np.uint8)
    raw[:, 1:4:2] &= 0xBB  # no exponent of all ones in the first two 16-bit floats
    return GGUFTensor(kind, (outputs, inputs), torch.from_numpy(raw.reshape(-1)))


@pytest.mark.parametrize("kind", sorted(_READERS))
def test_equals_what_the_gguf_package_unpacks(kind: int) -> None:
    gguf = pytest.importorskip("gguf")
    stored = tensor(kind, 5, 512)
    parts = read(stored)
    assert parts is not None
    module = BlockLinear(*parts)
    expected = gguf.dequantize(stored.data.numpy().reshape(5, -1), gguf.GGMLQuantizationType(kind))
    found = module.rows(torch.arange(5), torch.float32).numpy()
    largest = np.abs(parts[1].numpy()).max() * 32 + np.abs(parts[2].numpy()).max()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6 * largest)
    assert parts[0].shape[1] == (256 if kind in (2, 3, Q4_K) else 512)


def test_other_types_are_left_to_others() -> None:
    q6_k = GGUFTensor(14, (1, 256), torch.zeros(210, dtype=torch.uint8))
    assert read(q6_k) is None
    assert read(tensor(2, 4, 64)._replace(shape=(256,))) is None
