"""Products of int8 matrices are exact, also on a processor whose own are not."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from multiway_blocks.kernels.integer_product import integer_product

PROGRAM = """
import torch
from multiway_blocks.kernels.integer_product import integer_product
torch.manual_seed(0)
x, weight = torch.randint(-128, 128, (50, 300)).to(torch.int8), torch.randint(-128, 128, (70, 300)).to(torch.int8)
x[0], weight[0] = 127, 127
x[1], weight[1] = -128, 127
assert torch.equal(integer_product(x, weight).double(), x.double() @ weight.double().t())
"""


@pytest.mark.parametrize("instructions", ["AVX2", "DEFAULT"])
def test_exact_with_every_instruction_set(instructions: str) -> None:
    environment = os.environ | {"ONEDNN_MAX_CPU_ISA": instructions, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", PROGRAM], check=True, env=environment, timeout=200)


@pytest.mark.parametrize("shape", [(0, 8, 3), (3, 8, 0), (3, 1, 4), (3, 0, 4), (1, 2, 1)])
def test_exact_for_odd_shapes(shape: tuple[int, int, int]) -> None:
    rows, inputs, outputs = shape
    x, weight = (
        torch.full((rows, inputs), -128, dtype=torch.int8),
        torch.full((outputs, inputs), 127, dtype=torch.int8),
    )
    y = integer_product(x, weight)
    assert y.dtype == torch.int32
    assert torch.equal(y, torch.full((rows, outputs), -128 * 127 * inputs, dtype=torch.int32))
