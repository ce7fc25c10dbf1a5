"""Whatever bytes a file holds: a reader gives events that hold their promises, or says one line, and ends."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from multiway_core.errors import DataError, MultiwayError
from multiway_event_vision.formats import open_events, write_events
from multiway_event_vision.formats.evt3 import Evt3Decoder

from .event_streams import made_events
from .test_formats_others import made_aedat4

FUZZ = settings(
    max_examples=120,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
HEADS = {
    "bare.dat": b"",
    "a.dat": b"% Version 2\n% Width 64\n% Height 48\n\x00\x08",
    "old.dat": b"% Version 1\n\x00\x08",
    "evt2.raw": b"% evt 2.0\n% end\n",
    "evt3.raw": b"% evt 3.0\n% geometry 64x48\n% end\n",
    "a.es": b"Event Stream\x02\x00\x00\x01\x40\x00\x30\x00",
    "a.bin": b"",
    "evt21.raw": b"% evt 2.1\n% geometry 64x48\n% end\n",
    "a.aedat": b"#!AER-DAT3.1\r\n#Source 1: DVS128\r\n#!END-HEADER\r\n",
    "a.aedat4": b"#!AER-DAT4.0\r\n",
    "a.npz": b"PK\x03\x04",
    "a.txt": b"1 2 3 0\n",
    "a.percent": b"%",
}


def check_reading(path: Path) -> None:
    for options in ({}, {"size": (64, 48)}, {"size": (16384, 16384), "repair": True}, {"size": "infer"}):
        total, line = 0, ""
        try:
            for events in open_events(path, **options).chunks():
                events.check()
                total += len(events)
        except MultiwayError as error:
            line = str(error)
        assert "\n" not in line
        assert total <= 12 * path.stat().st_size


@pytest.mark.parametrize("name", HEADS)
@FUZZ
@given(body=st.binary(max_size=400))
def test_random_bytes_behind_a_head(tmp_path, name, body):
    path = tmp_path / name
    path.write_bytes(HEADS[name] + body)
    check_reading(path)


@st.composite
def damages(draw: st.DrawFn) -> list[tuple[str, float, bytes]]:
    """Cuts, repeats, insertions and overwritten bytes at places given as shares of the file."""
    kinds = st.sampled_from(["cut", "overwrite", "overwrite", "overwrite", "insert", "repeat"])
    return draw(
        st.lists(st.tuples(kinds, st.floats(0, 1), st.binary(min_size=1, max_size=8)), min_size=1, max_size=4)
    )


def damaged(data: bytes, changes: list[tuple[str, float, bytes]]) -> bytes:
    for kind, share, piece in changes:
        at = int(share * len(data))
        if kind == "cut":
            data = data[:at]
        elif kind == "overwrite":
            data = data[:at] + piece + data[at + len(piece) :]
        elif kind == "insert":
            data = data[:at] + piece + data[at:]
        else:
            data = data[:at] + data[max(0, at - 40) : at] + data[at:]
    return data


@pytest.fixture(scope="module")
def wholes(tmp_path_factory) -> dict[str, bytes]:
    """The bytes of one good recording in every format."""
    folder = tmp_path_factory.mktemp("whole")
    events = made_events(60, width=64, height=48, span=20_000_000)
    found = {}
    for name in ("dat", "evt2", "evt3", "npz", "csv"):
        write_events(folder / name, events, format=name)
        found[name] = (folder / name).read_bytes()
    found["aedat4"] = made_aedat4(events, 1)
    found["plain.aedat4"] = made_aedat4(events, 0)
    found["es"] = HEADS["a.es"] + b"".join(bytes((2 * i % 250, i, 0, i // 2, 0)) for i in range(60))
    found["bin"] = b"".join(
        bytes((i % 34, 240 if i % 9 == 0 else i % 30, i % 2 * 128, i // 256, i % 256)) for i in range(60)
    )
    return found


FORMATS = ("dat", "evt2", "evt3", "npz", "csv", "aedat4", "plain.aedat4", "es", "bin")


@pytest.mark.parametrize("name", FORMATS)
@FUZZ
@given(changes=damages())
@example(changes=[("cut", 0.0, b"x")])
@example(changes=[("cut", 0.5, b"x")])
def test_damaged_recordings(tmp_path, wholes, name, changes):
    path = tmp_path / f"a.{name}"
    path.write_bytes(damaged(wholes[name], changes))
    check_reading(path)


@FUZZ
@given(seed=st.integers(0, 2**32))
def test_long_random_evt3(seed):
    """A block of noise is decoded at once, every event where 11 bits and vectors can put it."""
    words = np.random.default_rng(seed).integers(0, 1 << 16, 5000).astype(np.uint16)
    columns = Evt3Decoder()(words)
    assert columns.y.max() < 2048
    assert columns.p.max() <= 1
    assert columns.t.min() >= 0
    assert len({len(column) for column in columns}) == 1


def test_damaged_hdf5(tmp_path):
    path = tmp_path / "a.h5"
    write_events(path, made_events(300))
    whole = path.read_bytes()
    generator = np.random.default_rng(0)
    for turn in range(60):
        data = bytearray(whole)
        for _ in range(int(generator.integers(1, 6))):
            data[int(generator.integers(len(data)))] = int(generator.integers(256))
        path.write_bytes(bytes(data[: int(generator.integers(8, len(data)))] if turn % 3 == 0 else data))
        with suppress(MultiwayError):
            for events in open_events(path).chunks():
                events.check()


def test_an_hdf5_file_that_crashes_the_library_is_refused(tmp_path):
    """The type of the attribute ``time_unit``, a string of variable length, says that it is neither string nor list."""
    path = tmp_path / "a.h5"
    write_events(path, made_events(300))
    assert len(open_events(path).read()) == 300
    data = bytearray(path.read_bytes())
    data[data.index(b"time_unit") + 17] = 0x75
    path.write_bytes(data)
    with pytest.raises(DataError, match="the library that reads it crashed") as caught:
        open_events(path)
    assert "\n" not in str(caught.value)
    write_events(path, made_events(300))
    assert len(open_events(path).read()) == 300
