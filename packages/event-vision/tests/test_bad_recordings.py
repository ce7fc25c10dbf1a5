"""Bad recordings: one clear line each, and what `repair` makes of those that can be mended."""

from __future__ import annotations

import io
import re
import zipfile

import numpy as np
import pytest
from multiway_core.errors import DataError, InputError, MultiwayError
from multiway_event_vision.events import Events
from multiway_event_vision.formats import open_events, write_events
from multiway_event_vision.labels.labelled import load_recordings
from multiway_event_vision.recurrent.event_set import EventSet
from numpy.lib import format as npy

from .event_streams import assert_same, made_events


def save(path, t, x=None, y=None, p=None, **sizes):
    """An npz of columns that need not make sense."""
    count = len(t)
    columns = {"t": t, "x": x, "y": y, "p": p}
    columns = {name: np.zeros(count, np.int64) if c is None else np.asarray(c) for name, c in columns.items()}
    np.savez(path, **columns, **(sizes or {"width": 64, "height": 48}))
    return path


def refused(path, message, **options):
    """Opening and reading `path` says `message` and where, in one line."""
    with pytest.raises(MultiwayError) as caught:
        for _ in open_events(path, **options).chunks():
            pass
    line = str(caught.value)
    assert message in line
    assert "\n" not in line
    assert isinstance(caught.value, InputError) or str(path) in line


def test_unsorted(tmp_path):
    path = save(tmp_path / "a.npz", [1, 5, 4, 6])
    refused(path, "event 2 is of 4 us, earlier than the 5 us before it; sort the file")
    recording = open_events(path, repair=True)
    assert recording.read().t.tolist() == [1, 4, 5, 6]
    assert str(recording.repairs) == "0 events off the sensor left out, 1 put in order of time"


def test_unsorted_across_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr("multiway_event_vision.formats.npz.BLOCK_RECORDS", 10)
    t = np.arange(100)
    t[[39, 40]] = t[[40, 39]]
    path = save(tmp_path / "a.npz", t)
    refused(path, "event 40 is of 39 us, earlier than the 40 us before it")
    recording = open_events(path, repair=True)
    assert recording.read().t.tolist() == list(range(100))
    assert recording.repairs.unsorted == 1
    t[90] = 3  # too late for any bounded memory
    refused(save(tmp_path / "b.npz", t), "earlier than the", repair=True)


def test_negative_and_wrapped_times(tmp_path):
    refused(save(tmp_path / "a.npz", [-3, 5]), "event 0 has the time -3 us; times must not be negative")
    wrapped = np.array([2**32 - 1, 2], np.uint32).astype(np.int64)
    refused(save(tmp_path / "b.npz", wrapped), "event 1 is of 2 us, earlier than the 4294967295 us before it")
    refused(
        save(tmp_path / "c.npz", np.array([0, 2**63 + 5], np.uint64)),
        "event 1 has the time 9223372036854775813",
    )
    refused(
        save(tmp_path / "d.npz", [0.0, np.nan]),
        "event 1 has the time nan; expected a finite number",
        time_unit="s",
    )
    refused(save(tmp_path / "e.npz", [0, 2**61], None), "that is no time in s", time_unit="s")


def test_seconds_for_microseconds(tmp_path):
    count = 5000
    whole = np.sort(np.random.default_rng(0).integers(0, 2, count))
    refused(save(tmp_path / "a.npz", whole), "5000 events within 1 us cannot be; the times look like seconds")
    refused(
        save(tmp_path / "b.npz", [0.25, 0.5]),
        "times with fractions (0.25 ... 0.5); say their unit: us, ms, s, ns",
    )
    assert open_events(tmp_path / "b.npz", time_unit="s").read().t.tolist() == [250_000, 500_000]
    refused(tmp_path / "b.npz", "the time unit 'minutes'; expected one of us, ms, s, ns", time_unit="minutes")


def test_off_the_sensor(tmp_path):
    path = save(tmp_path / "a.npz", [0, 1, 2], x=[0, 64, 63], y=[0, 0, 48])
    refused(path, "event 1 has x = 64; the sensor has 64 x 48 pixels; is the size right?")
    recording = open_events(path, repair=True)
    assert recording.read().t.tolist() == [0]
    assert recording.repairs.outside == 2
    refused(save(tmp_path / "b.npz", [0], x=[-1]), "event 0 has x = -1")
    refused(save(tmp_path / "c.npz", [0], y=[0.5]), "event 0 has y = 0.5")
    refused(save(tmp_path / "d.npz", [0], y=[np.nan]), "event 0 has y = nan")
    refused(save(tmp_path / "e.npz", [0], x=[0], width=0, height=5), "a sensor of 0 x 5 pixels")


def test_coordinates_of_a_wrong_scale(tmp_path):
    generator = np.random.default_rng(0)
    x, y = generator.integers(0, 64, 500) * 32, generator.integers(0, 48, 500) * 32
    refused(save(tmp_path / "a.npz", np.arange(500), x=x, y=y), "all coordinates divided by 32 would fit")


def test_a_sensor_that_was_said_to_be_too_small_is_no_wrong_scale(tmp_path):
    generator = np.random.default_rng(0)
    x, y = generator.integers(0, 640, 500), generator.integers(0, 480, 500)
    refused(save(tmp_path / "a.npz", np.arange(500), x=x, y=y), "is the size right?")


def test_polarities(tmp_path):
    assert open_events(save(tmp_path / "a.npz", [0, 1, 2], p=[1, -1, 1])).read().p.tolist() == [1, 0, 1]
    refused(
        save(tmp_path / "b.npz", [0, 1, 2], p=[1, -1, 0]),
        "event 2 has the polarity 0; expected 0 and 1, or -1 and 1",
    )
    refused(save(tmp_path / "c.npz", [0, 1], p=[0, 255]), "event 1 has the polarity 255")
    refused(save(tmp_path / "d.npz", [0], p=[0.5]), "event 0 has the polarity 0.5")


def test_polarities_across_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr("multiway_event_vision.formats.npz.BLOCK_RECORDS", 2)
    path = save(tmp_path / "a.npz", [0, 1, 2, 3], p=np.array([0, 1, 1, -1], np.int8))
    refused(path, "event 3 has the polarity -1")


@pytest.mark.parametrize(("name", "extra"), [("dat", 7), ("evt2", 3), ("evt3", 1)])
def test_a_cut_last_record(tmp_path, name, extra):
    events = made_events(100, width=64, height=48)
    write_events(tmp_path / "a", events, format=name)
    whole = (tmp_path / "a").read_bytes()
    (tmp_path / "b").write_bytes(whole + bytes(extra))
    refused(tmp_path / "b", f"the last record is cut: {extra} of {extra + 1} bytes after")
    assert_same(open_events(tmp_path / "b", repair=True).read(), events)


def test_cut_saccades_es_and_text(tmp_path):
    (tmp_path / "a.bin").write_bytes(bytes(13))
    refused(tmp_path / "a.bin", "the last record is cut: 3 of 5 bytes after 2 whole", size=(34, 34))
    head = b"Event Stream\x02\x00\x00\x01" + bytes((64, 0, 48, 0))
    (tmp_path / "a.es").write_bytes(head + bytes((2, 0, 0, 0, 0)) + bytes((2, 0, 0)))
    refused(tmp_path / "a.es", "the last event is cut: 3 of 5 bytes")
    assert len(open_events(tmp_path / "a.es", repair=True).read()) == 1
    (tmp_path / "a.txt").write_text("1 2 3 0\n2 2 3 1\n3 2")
    refused(tmp_path / "a.txt", ".txt:3: '3 2'; expected 4 numbers", size=(9, 9))
    assert len(open_events(tmp_path / "a.txt", size=(9, 9), repair=True).read()) == 2


def test_cut_npz_and_hdf5(tmp_path):
    write_events(tmp_path / "a.npz", made_events(1000))
    write_events(tmp_path / "a.h5", made_events(1000))
    for name, message in (("a.npz", "not a whole npz file"), ("a.h5", "not a whole HDF5 file")):
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: len(whole) // 2])
        refused(tmp_path / name, message)


@pytest.mark.parametrize("name", ["dat", "evt2", "evt3"])
def test_a_header_without_a_size(tmp_path, name):
    events = made_events(300, width=64, height=48)
    write_events(tmp_path / "a", events, format=name)
    lines = (tmp_path / "a").read_bytes()
    for pattern in (rb"% (Height|Width) \d+\n", rb"% geometry \S+\n", rb"% format \S+\n"):
        lines = re.sub(pattern, b"", lines)
    (tmp_path / "a").write_bytes(lines)
    refused(tmp_path / "a", "names no sensor size; say how many pixels wide and high it is, such as ")
    assert_same(open_events(tmp_path / "a", size=(64, 48)).read(), events)
    inferred = open_events(tmp_path / "a", size="infer")
    assert (inferred.width, inferred.height) == (int(events.x.max()) + 1, int(events.y.max()) + 1)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.dat", b"", "is empty; expected a recording of events"),
        ("a.dat", b"% Version 2\n\x00", "ends after its header; expected two bytes"),
        ("a.dat", b"% Version 2\n\x0e\x10" + bytes(16), "records of type 14 with 16 bytes"),
        ("a.dat", b"% Version 7\n\x00\x08" + bytes(8), "DAT version '7'; expected 1 or 2"),
        ("a.raw", b"% date 2020\n" + bytes(8), "its header names no encoding"),
        ("a.raw", b"% evt 4.0\n" + bytes(8), "RAW of the encoding EVT 4.0; expected EVT 2.0, 2.1 or 3.0"),
        ("a.raw", b"% evt 2.1\n" + bytes(9), "the last record is cut"),
        ("a.xyz", bytes(range(256)), "of no known format; known are DAT, RAW (EVT2, EVT2.1, EVT3)"),
        ("a.aedat", b"#!AER-DAT2.0\r\n", "AEDAT 2.0; expected AEDAT 3.1 or 4"),
        ("a.aedat4", b"#!AER-DAT4.0\r\n", "its header is cut or damaged"),
        ("a.es", b"Event Stream\x01\x00\x00\x01@\x00@\x00", "Event Stream version 1.0.0; expected 2"),
        ("a.es", b"Event Stream\x02\x00\x00\x04@\x00@\x00", "holds colour events; expected brightness"),
        ("a.txt", b"1 2 3 7\n2 3 4 8\n", "not t, x, y, p in any usual order"),
        ("a.txt", b"1 2 3 0\n2 two 3 1\n", ".txt:2: '2 two 3 1'; expected 4 numbers"),
        ("a.txt", b"1 2 3 0\n2 3 1\n3 2 3 1 0\n", ".txt:2: '2 3 1'; expected 4 numbers"),
        ("a.txt", b"a,b,c,d\n1,2,3,0\n", "no column t, x, y, p; expected t, x, y and p, found a, b, c, d"),
        ("a.txt", b"1 2 3 4 5 6\n", "lines of 6 numbers; say what the columns are"),
        ("a.npz", b"PK\x03\x04" + bytes(60), "not a whole npz file"),
    ],
)
def test_what_is_no_recording(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    refused(tmp_path / name, message, size=(64, 64))


def test_files_that_cannot_be_read(tmp_path):
    refused(tmp_path / "none.dat", "cannot read")
    refused(tmp_path, "is a folder; expected a recording")
    np.savez(tmp_path / "a.npz", t=[1], x=[1], y=[1])
    refused(tmp_path / "a.npz", "no column p; expected t, x, y and p, found t, x, y")
    np.savez(tmp_path / "b.npz", t=[1, 2], x=[1], y=[1], p=[1])
    refused(tmp_path / "b.npz", "columns of unequal length")
    write_events(tmp_path / "c.npz", made_events(0))
    with pytest.raises(InputError, match="chunks of 0 events"):
        next(open_events(tmp_path / "c.npz").chunks(0))
    with pytest.raises(DataError, match="holds no events to tell the sensor's size"):
        open_events(tmp_path / "c.npz", size="infer")


def test_a_bad_stream_leaves_no_file(tmp_path):
    recording = open_events(save(tmp_path / "a.npz", np.r_[np.arange(5000), 3]))
    for name in ("dat", "evt2", "evt3", "npz", "hdf5", "csv"):
        with pytest.raises(DataError, match="earlier than"):
            write_events(tmp_path / "out", recording, format=name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.npz"]


def test_duplicates_and_empty_windows_are_no_fault(tmp_path):
    events = Events.from_arrays([5, 5, 5, 9_000_000], [1, 1, 1, 1], [2, 2, 2, 2], [1, 1, 0, 1], 64, 48)
    write_events(tmp_path / "a.dat", events)
    recording = open_events(tmp_path / "a.dat")
    assert_same(recording.read(), events)
    assert len(recording.read(100, 200)) == 0
    assert recording.read(100, 200).width == 64


def test_an_archive_that_unpacks_to_far_more_than_it_holds(tmp_path):
    count = 150_000_000  # events of one byte a column: 600 MB of 0.6 MB
    path = tmp_path / "bomb.npz"
    header = io.BytesIO()
    npy.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (count,)})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in "txyp":
            with archive.open(f"{name}.npy", "w") as member:
                member.write(header.getvalue())
                for _ in range(count // 10_000_000):
                    member.write(bytes(10_000_000))
    assert path.stat().st_size < 1_000_000
    refused(path, "would unpack to 600", size=(64, 48))
    with pytest.raises(InputError, match="would unpack to 600"):
        load_recordings(path)
    with pytest.raises(DataError, match="not a set of recordings"):
        EventSet.load(path)


def test_what_convert_wrote_is_read_again_with_its_unit(tmp_path):
    events = made_events(2000)
    write_events(tmp_path / "a.npz", events)
    assert_same(open_events(tmp_path / "a.npz").read(), events)
    assert open_events(tmp_path / "a.npz").source.time_unit == "us"
