"""GGML's block types as codes, scales and offsets, against what the ``gguf`` package unpacks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from multiway_blocks.kernels.block_linear import layout
from multiway_text.gguf import GGUFTensor
from multiway_text.gguf_blocks import _READERS, Q4_K, block_linear


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
    module = block_linear(stored)
    assert module is not None
    expected = gguf.dequantize(stored.data.numpy().reshape(5, -1), gguf.GGMLQuantizationType(kind))
    found = layout.dequantize(module.codes, module.scale, module.offset, torch.float32).numpy()
    largest = np.abs(module.scale.numpy()).max() * 32 + np.abs(module.offset.numpy()).max()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6 * largest)
    assert module.codes.shape[1] == (256 if kind in (2, 3, Q4_K) else 512)


def test_other_types_are_left_to_others() -> None:
    q6_k = GGUFTensor(14, (1, 256), torch.zeros(210, dtype=torch.uint8))
    assert block_linear(q6_k) is None
    assert block_linear(tensor(2, 4, 64)._replace(shape=(256,))) is None
