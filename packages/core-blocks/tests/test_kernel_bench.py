"""The benchmark of the kernels runs, and its rows hold together."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from multiway_blocks.kernels import bench
from multiway_blocks.kernels.bench_cases import CASES
from multiway_core.errors import InputError


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_there_is_a_case_for_every_kernel() -> None:
    folder = Path(bench.__file__).parent
    assert set(CASES) == {path.parent.name for path in folder.glob("*/reference.py")}


@pytest.mark.parametrize("kernel", list(CASES))
def test_candidates_compute_the_same(kernel: str) -> None:
    if kernel in ("linear_cross_entropy", "gated_retention"):
        pytest.skip("gradients, and several results")
    for case in CASES[kernel](True):
        mine, theirs = (result[0] if isinstance(result, tuple) else result
                        for result in (case.kernel[0](), case.other[0]()))  # fmt: skip
        assert mine.shape[-1] == theirs.shape[-1]


def test_rows(capsys: pytest.CaptureFixture[str]) -> None:
    rows = bench.run(["rms_norm", "relation_distillation"], quick=True)
    assert [row.kernel for row in rows] == ["rms_norm", "relation_distillation"]
    for row in rows:
        assert row.threads == 1
        assert row.clock == "cpu"
        assert row.floor_share == pytest.approx(row.floor_us / row.kernel_us)
        assert row.speedup == pytest.approx(min(row.torch_us, row.peer_us or 1e12) / row.kernel_us)
    assert "relation_distillation" in bench.markdown(rows)
    console = pytest.importorskip("rich.console").Console(width=240)
    console.print(bench.table(rows))
    assert "PyTorch µs" in capsys.readouterr().out


def test_unknown_kernel() -> None:
    with pytest.raises(InputError, match="no kernel is called 'fft'; there are rms_norm, "):
        bench.run(["fft"])
