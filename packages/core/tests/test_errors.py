from __future__ import annotations

import pickle

import pytest
from multiway_core import errors


@pytest.mark.parametrize(
    "kind",
    ["InputError", "ConfigError", "CheckpointError", "ModelNotFoundError", "DataError", "OutputError"],
)
def test_every_error_is_one_printable_line_and_exits_with_2(kind: str) -> None:
    error = getattr(errors, kind)("first\nsecond\x1b[31m \udcff end")
    assert isinstance(error, errors.MultiwayError)
    assert error.exit_code == 2
    assert str(error).isprintable()
    assert str(error).startswith("first second")
    str(error).encode()  # no lone surrogate is left that a UTF-8 terminal would choke on


def test_checkpoint_error_lists_names_short_in_the_line_and_long_in_the_notes() -> None:
    missing = [f"layer.{i}.weight" for i in range(50)]
    error = errors.CheckpointError(
        "x.safetensors does not fit Net", missing=missing, misshaped=["a: 1, not 2"]
    )
    assert error.missing == tuple(missing)
    assert "50 missing (layer.0.weight, layer.1.weight, and 48 more)" in str(error)
    assert "1 mis-shaped (a: 1, not 2)" in str(error)
    assert "unexpected" not in str(error)
    assert "layer.19.weight, and 30 more" in error.__notes__[0]
    assert len(error.__notes__) == 2


def test_errors_cross_process_borders() -> None:
    error = pickle.loads(pickle.dumps(errors.CheckpointError("bad", missing=["a"])))
    assert str(error) == "bad: 1 missing (a)"
    assert error.missing == ("a",)
