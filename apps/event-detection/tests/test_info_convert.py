"""Looking into recordings and writing them anew."""

from __future__ import annotations

import json

import numpy as np
import pytest
from multiway_event_vision.events import Events
from multiway_event_vision.formats import open_events, write_events


def assert_same(found, expected):
    for name in "txyp":
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def test_info(recording, events, call):
    code, out, err = call("info", recording, "--json")
    assert (code, err) == (0, "")
    document = json.loads(out)
    assert document["schema"] == "multiway.event-detection.info/1"
    assert document["recordings"] == [
        {
            "path": str(recording),
            "format": "evt3",
            "width": 40,
            "height": 30,
            "size_from": "file",
            "events": 2000,
            "first_us": 1000,
            "last_us": 200_999,
            "duration_us": 199_999,
            "events_per_second": pytest.approx(2000e6 / 199_999),
            "brighter_share": pytest.approx(float(events.p.mean())),
            "repairs": None,
        }
    ]
    code, out, _ = call("info", recording)
    assert code == 0
    assert "40 x 30 pixels\n" in out
    assert "10,000 events/s" in out


def test_a_size_that_is_not_told_is_inferred_and_said_so(tmp_path, call):
    path = tmp_path / "a.csv"
    path.write_text("t,x,y,p\n1,7,2,1\n5,3,4,0\n")
    _, out, _ = call("info", path, "--json")
    described = json.loads(out)["recordings"][0]
    assert (described["width"], described["height"], described["size_from"]) == (8, 5, "events")
    assert "(inferred: the largest coordinates)" in call("info", path)[1]
    _, out, _ = call("info", path, "--json", "--size", "10x6", "--time-unit", "ms")
    described = json.loads(out)["recordings"][0]
    assert (described["width"], described["size_from"], described["duration_us"]) == (10, "option", 4000)


def test_an_empty_recording_has_no_rate(tmp_path, call):
    write_events(tmp_path / "a.dat", Events.empty(8, 6))
    code, out, _ = call("info", tmp_path / "a.dat", "--json")
    described = json.loads(out)["recordings"][0]
    assert (code, described["events"], described["first_us"]) == (0, 0, None)
    assert (described["events_per_second"], described["brighter_share"]) == (None, None)
    assert "rate" not in call("info", tmp_path / "a.dat")[1]


def test_one_bad_recording_among_good_ones(recording, tmp_path, call, fails):
    code, out, err = call("info", tmp_path / "none.raw", recording, "--json")
    assert (code, len(err.splitlines())) == (1, 1)
    assert "cannot read" in err
    assert [item["events"] for item in json.loads(out)["recordings"]] == [2000]
    assert "no such file" in fails("info", tmp_path / "none.raw", "--json")


@pytest.mark.parametrize("name", ["a.dat", "a.raw", "a.npz", "a.h5", "a.csv"])
def test_convert_keeps_every_event(name, recording, events, tmp_path, call):
    code, out, err = call("convert", recording, "-o", tmp_path / "new" / name)
    assert (code, out) == (0, f"{tmp_path / 'new' / name}\n")
    assert "2,000 events of 40 x 30 pixels, evt3 before" in err
    assert_same(open_events(tmp_path / "new" / name, size=(40, 30)).read(), events)


def test_convert_by_option_and_with_repair(events, tmp_path, call, fails):
    late = events[np.r_[1, 0, 2:2000]]
    lines = [f"{t},{x},{y},{p}" for t, x, y, p in zip(late.t, late.x, late.y, late.p, strict=True)]
    lines[5] = "1,99,0,1"
    (tmp_path / "a.txt").write_text("t,x,y,p\n" + "\n".join(lines) + "\n")
    arguments = ("convert", tmp_path / "a.txt", "-o", tmp_path / "b.bin", "-f", "evt2", "--size", "40x30")
    fails(*arguments)
    assert not (tmp_path / "b.bin").exists()
    code, _, err = call(*arguments, "--repair")
    assert code == 0
    assert "repaired: 1 events off the sensor left out, " in err
    assert open_events(tmp_path / "b.bin").format == "evt2"
    assert_same(open_events(tmp_path / "b.bin").read(), events[np.delete(np.arange(2000), 5)])


def test_convert_says_what_is_wrong_and_leaves_what_was_there(recording, tmp_path, fails):
    before = recording.read_bytes()
    kept = tmp_path / "kept.dat"
    kept.write_bytes(b"precious")
    (tmp_path / "cut.raw").write_bytes(before[:-1])
    (tmp_path / "empty.raw").write_bytes(b"")
    (tmp_path / "noise.xyz").write_bytes(bytes(range(256)) * 3)
    (tmp_path / "a.csv").write_text("t,x,y,p\n1,7,2,1\n5,3,4,0\n")
    (tmp_path / "file").write_text("")
    for arguments, message in [
        ((tmp_path / "none.raw", "-o", kept), "no such file"),
        ((tmp_path / "empty.raw", "-o", kept), "is empty"),
        ((tmp_path / "cut.raw", "-o", kept), "cut"),
        ((tmp_path / "noise.xyz", "-o", kept), "of no known format"),
        ((tmp_path, "-o", kept), "is a folder"),
        ((tmp_path / "a.csv", "-o", kept), "names no sensor size"),
        ((recording, "-o", kept, "--size", "20x30"), "the sensor has 20 x 30"),
        ((recording, "-o", kept, "--size", "wide"), "--size wide: expected width and height"),
        ((recording, "-o", kept, "--format", "mp3"), "'mp3'"),
        ((recording, "-o", tmp_path / "a.mp3"), "expected dat, evt2"),
        ((recording, "-o", recording), "would replace the input"),
        ((recording, "-o", tmp_path / "file" / "a.dat"), "cannot write"),
        ((recording, "-o", tmp_path, "-f", "dat"), "it is a folder"),
    ]:
        assert message in fails("convert", *arguments, "--overwrite")
    assert f"{kept} exists; give another name, or --overwrite" in fails("convert", recording, "-o", kept)
    assert kept.read_bytes() == b"precious"
    assert recording.read_bytes() == before
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".tmp")]


@pytest.mark.parametrize(("name", "start"), [("a.dat", 2**32), ("a.raw", 2**24), ("a.npz", 0), ("a.h5", 0)])
def test_a_start_time_that_the_format_drops_is_told(name, start, events, tmp_path, call):
    epoch = 1_700_000_000_000_000
    later = Events(events.t + epoch, events.x, events.y, events.p, 40, 30)
    write_events(tmp_path / "epoch.npz", later)
    code, _, err = call("convert", tmp_path / "epoch.npz", "-o", tmp_path / name)
    assert code == 0
    assert ("does not hold the absolute start time" in err) == bool(start)
    found = open_events(tmp_path / name).read()
    np.testing.assert_array_equal(np.diff(found.t), np.diff(later.t))
    expected = int(later.t[0]) % start if start else later.t[0]
    assert found.t[0] == expected
    if start:
        assert f"reads back as {expected / 1e6:.6f} s" in err


@pytest.mark.parametrize("name", ["a.npz", "a.h5"])
def test_what_convert_writes_names_its_time_unit(name, events, tmp_path, call):
    """All events within a microsecond: without a unit such times look like seconds and are refused."""
    burst = Events(events.t * 0 + 7, events.x, events.y, events.p, 40, 30)
    write_events(tmp_path / "burst.raw", burst)
    assert call("convert", tmp_path / "burst.raw", "-o", tmp_path / name)[0] == 0
    code, out, err = call("info", tmp_path / name, "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["recordings"][0]["first_us"] == 7
    described = json.loads(call("info", tmp_path / name, "--json", "--time-unit", "ms")[1])
    assert described["recordings"][0]["first_us"] == (
        7000 if name == "a.npz" else 7
    )  # HDF5 counts from t_offset


@pytest.mark.shared_data
def test_real_recordings(samples, call):
    names = ["evt2.raw", "sample.aedat4", "sample_ncars.dat", "sample_nmnist.bin", "dvs.es"]
    code, out, _ = call("info", *(samples / name for name in names), "--json")
    assert code == 0
    found = json.loads(out)["recordings"]
    assert [item["format"] for item in found] == ["evt2", "aedat4", "dat", "nmnist", "es"]
    assert [item["events"] for item in found] == [521_252, 111_954, 2009, 4325, 473_225]
