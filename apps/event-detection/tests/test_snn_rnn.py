"""The command `snn-rnn`: data, results, table and plot in one folder; an interrupted run resumes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from multiway_core.errors import InputError
from multiway_event_detection.snn_rnn import PLOT, RESULTS, TABLE, run_comparison
from multiway_event_vision.recurrent.comparison import ComparisonConfig


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = ComparisonConfig(
        seeds=1, steps=3, digit_steps_us=(5_000,), hidden=4, channels=(), digits=20, gestures_each=2, passes=1
    )
    monkeypatch.setattr(ComparisonConfig, "quick", lambda self: tiny)


def test_the_folder_holds_everything_and_a_second_run_adds_nothing(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []

    def on_progress(done: int, total: int) -> None:
        seen.append((done, total))
        assert (tmp_path / TABLE).exists() == (done > 0)  # the table grows with the results

    table = run_comparison(tmp_path, quick=True, on_progress=on_progress)
    assert "| chance | | 10.0 | 9.1 | 10.0 | 9.1 |" in table
    assert seen[0] == (0, 16)
    assert seen[-1] == (15, 16)
    assert (tmp_path / TABLE).read_text() == table
    assert (tmp_path / PLOT).is_file()
    written = (tmp_path / RESULTS).read_bytes()
    assert len(json.loads(written)["results"]) == 16
    assert run_comparison(tmp_path, quick=True) == table
    assert (tmp_path / RESULTS).read_bytes() == written


def test_bad_seeds_and_other_settings_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--seeds 0: expected 1 or more"):
        run_comparison(tmp_path, seeds=0)
    run_comparison(tmp_path, quick=True)
    with pytest.raises(InputError, match="other settings; choose another folder"):
        run_comparison(tmp_path, quick=True, seeds=2)
