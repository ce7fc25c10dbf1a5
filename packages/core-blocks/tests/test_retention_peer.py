"""Gated retention against the plain PyTorch definition in flash-linear-attention (`pip install fla-core einops`)."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from multiway_blocks.retention import chunkwise

pytestmark = pytest.mark.peer


@pytest.mark.parametrize("chunk", [64, 256])
def test_equals_simple_gla(chunk: int) -> None:
    package = importlib.util.find_spec("fla")
    if package is None or not package.submodule_search_locations:
        pytest.skip("fla-core is not installed")
    pytest.importorskip("einops")
    # By its path: the package itself imports Triton kernels.
    path = Path(package.submodule_search_locations[0]) / "ops" / "simple_gla" / "naive.py"
    spec = importlib.util.spec_from_file_location("fla_naive", path)
    assert spec is not None
    assert spec.loader is not None
    naive = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(naive)
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 3, 300, 16) for _ in range(3))
    log_decay = torch.nn.functional.logsigmoid(torch.randn(2, 3, 300)) / 16
    before = torch.randn(2, 3, 16, 16)
    inputs = [x.transpose(1, 2) for x in (q, k, v, log_decay)]
    # They scale queries where YOCO scales keys: their state is of keys that are four times as large.
    for state, their_state in ((None, None), (before, 4 * before)):
        ours, after = chunkwise(q, k / 4, v, log_decay, state, chunk=chunk)
        theirs, their_after = naive.naive_chunk_simple_gla(
            *inputs, initial_state=their_state, output_final_state=True, chunk_size=64
        )
        torch.testing.assert_close(ours, theirs.transpose(1, 2), atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(after, their_after / 4, atol=1e-4, rtol=1e-4)
