"""npz, HDF5, AEDAT4, .es, .bin and text: other people's files, layouts and names."""

from __future__ import annotations

import struct

import event_stream
import h5py
import hdf5plugin
import lz4.frame
import numpy as np
import pytest
from multiway_core.errors import DataError, InputError
from multiway_event_vision.events import Events
from multiway_event_vision.formats import open_events, write_events
from multiway_event_vision.formats.event_stream import decode
from multiway_event_vision.formats.hdf5_file import describe

from .event_streams import SAMPLES, assert_same, made_events, needs_samples

TYPES = {"t": np.int64, "x": np.uint16, "y": np.uint16, "p": np.uint8}


@pytest.mark.parametrize("name", ["npz", "hdf5", "csv", "aedat4"])
@pytest.mark.parametrize("count", [0, 1, 5000])
def test_round_trip(tmp_path, name, count):
    events = made_events(count, start=1_600_000_000_000_000)  # since 1970, as iniVation counts
    write_events(tmp_path / "recording", events, format=name)
    recording = open_events(tmp_path / "recording")
    assert recording.format == {"csv": "text"}.get(name, name)
    assert_same(recording.read(), events)


def test_the_ending_chooses_the_format(tmp_path):
    events = made_events(10)
    names = {"a.dat": "dat", "a.RAW": "evt3", "a.npz": "npz", "a.h5": "hdf5", "a.csv": "text"}
    names |= {"a.aedat4": "aedat4"}
    for name, found in names.items():
        write_events(tmp_path / name, events)
        assert open_events(tmp_path / name).format == found
    with pytest.raises(InputError, match=r"format '.mp4'; expected dat, evt2"):
        write_events(tmp_path / "a.mp4", events)


def test_hdf5_as_dsec_has_it(tmp_path):
    events = made_events(3000, width=640, height=480, start=5_000_000)
    with h5py.File(tmp_path / "dsec.h5", "w") as file:
        for name in "xyp":
            file.create_dataset(
                f"events/{name}", data=getattr(events, name), **hdf5plugin.Blosc(cname="zstd")
            )
        file.create_dataset("events/t", data=(events.t - 5_000_000).astype(np.uint32), **hdf5plugin.Zstd())
        file["t_offset"] = np.int64(5_000_000)
    assert_same(open_events(tmp_path / "dsec.h5", size=(640, 480)).read(), events)
    with pytest.raises(DataError, match=r"names no sensor size; say .* 640x480 for DSEC"):
        open_events(tmp_path / "dsec.h5")


def test_hdf5_as_rvt_metavision_and_v2e_have_it(tmp_path):
    events = made_events(3000, width=304)
    with h5py.File(tmp_path / "rvt.h5", "w") as file:
        for name in "txy":
            file[f"events/{name}"] = getattr(events, name)
        file["events/p"] = events.p.astype(np.int8) * 2 - 1
        file["events/height"], file["events/width"] = 240, 304
    with h5py.File(tmp_path / "metavision.hdf5", "w") as file:
        records = np.zeros(3000, [("x", "<u2"), ("y", "<u2"), ("p", "<i2"), ("t", "<i8")])
        for name in "txyp":
            records[name] = getattr(events, name)
        file["CD/events"] = records
        file.attrs["geometry"] = "304x240"
    with h5py.File(tmp_path / "v2e.h5", "w") as file:
        file["events"] = np.stack([getattr(events, name).astype(np.uint32) for name in "txyp"], axis=1)
        file["events"].attrs["width"], file["events"].attrs["height"] = 304, 240
    for name in ("rvt.h5", "metavision.hdf5", "v2e.h5"):
        assert_same(open_events(tmp_path / name).read(), events)


def test_ours_has_the_index_of_dsec(tmp_path):
    events = made_events(5000, start=123_456)
    write_events(tmp_path / "a.h5", events)
    with h5py.File(tmp_path / "a.h5") as file:
        t, index = file["events/t"][:], file["ms_to_idx"][:]
        assert file["t_offset"][()] == events.t[0]
    assert len(index) == t[-1] // 1000 + 1
    for ms in (0, 1, 17, len(index) - 1):
        assert index[ms] == np.searchsorted(t, ms * 1000)


def test_a_missing_hdf5_filter_is_named(tmp_path, monkeypatch):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name, dtype in TYPES.items():
            file.create_dataset(f"events/{name}", data=np.zeros(9, dtype), **hdf5plugin.Blosc())
    monkeypatch.setattr(h5py.h5z, "filter_avail", lambda code: code < 1000)
    with pytest.raises(
        DataError, match=r"HDF5 filter 32001 \(Blosc\), which is missing here; install hdf5plugin"
    ):
        describe(tmp_path / "a.h5")


def test_the_ecf_filter_is_named(tmp_path):
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_chunk((4,))
    properties.set_filter(36559, h5py.h5z.FLAG_OPTIONAL)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        kind = h5py.h5t.py_create(np.dtype([("x", "<u2"), ("y", "<u2"), ("p", "<i2"), ("t", "<i8")]))
        h5py.h5d.create(file.create_group("CD").id, b"events", kind, h5py.h5s.create_simple((4,)), properties)
    with pytest.raises(DataError, match=r"filter 36559 \(ECF\).* install OpenEB's hdf5_ecf"):
        open_events(tmp_path / "a.h5", size=(9, 9))


def test_npz_under_other_names_and_types(tmp_path):
    events = made_events(500)
    np.savez(tmp_path / "a.npz", timestamp=events.t.astype(np.float64), x=events.x.astype(np.float32),
             y=events.y.astype(np.int16), polarity=events.p.astype(bool))  # fmt: skip
    assert_same(open_events(tmp_path / "a.npz", size=(320, 240)).read(), events)
    np.savez(tmp_path / "b.npz", t=events.t / 1e6, x=events.x, y=events.y, p=events.p, width=320, height=240)
    assert_same(open_events(tmp_path / "b.npz", time_unit="s").read(), events)
    np.savez(tmp_path / "c.npz", t=events.t * 1000, x=events.x, y=events.y, p=events.p, width=320, height=240)
    assert_same(open_events(tmp_path / "c.npz", time_unit="ns").read(), events)


def test_npz_never_unpickles(tmp_path):
    columns = {name: np.zeros(4, np.int64) for name in "txy"}
    np.savez(tmp_path / "a.npz", **columns, p=np.array([0, 1, None, 2], dtype=object))
    with pytest.raises(DataError, match="p holds object; expected numbers"):
        open_events(tmp_path / "a.npz", size=(9, 9))


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("0.000001 3 4 1\n0.000005 5 6 0\n", {}),
        ("1,3,4,1\n5,5,6,0\n", {}),
        ("1\t3\t4\t1\r\n5\t5\t6\t-1\r\n", {}),
        ("x,y,p,t\n3,4,1,1\n5,6,0,5\n", {}),
        ("polarity;timestamp;y;x\n1;1;4;3\n0;5;6;5\n", {}),
        ("3,4,1,1\n5,6,0,5\n", {"columns": "xypt"}),
        ("9 8\n1 3 4 1\n5 5 6 0\n", {"size": None}),
        ("# width=9, height=8\n# t x y p\n1 3 4 1\n\n# halfway\n5 5 6 0", {"size": None}),
        ("\ufeff1.0 3.0 4.0 1.0\n5.0 5.0 6.0 0.0\n", {}),
        ("1 3 4 1 99\n5 5 6 0 98\n", {"columns": "txyp-"}),
        ("1000 3 4 1\n5000 5 6 0\n", {"time_unit": "ns"}),
    ],
)
def test_text(tmp_path, text, options):
    (tmp_path / "a.txt").write_bytes(text.encode())
    found = open_events(tmp_path / "a.txt", **({"size": (9, 8)} | options)).read()
    assert_same(found, Events.from_arrays([1, 5], [3, 5], [4, 6], [1, 0], 9, 8))


def test_text_without_names_in_metavisions_order(tmp_path):
    events = made_events(400)
    lines = (f"{x},{y},{p},{t}\n" for t, x, y, p in zip(events.t, events.x, events.y, events.p, strict=True))
    (tmp_path / "a.csv").write_text("".join(lines))
    assert_same(open_events(tmp_path / "a.csv", size=(320, 240)).read(), events)


def test_saccades_count_overflows(tmp_path):
    records = [(3, 4, 1, 5), (9, 240, 0, 0), (5, 6, 0, 7), (0, 240, 0, 0), (0, 240, 0, 0), (7, 8, 1, 9)]
    data = b"".join(bytes((x, y)) + (p << 23 | t).to_bytes(3, "big") for x, y, p, t in records)
    (tmp_path / "a.bin").write_bytes(data)
    found = open_events(tmp_path / "a.bin", size=(34, 34)).read()
    assert_same(found, Events.from_arrays([5, 8199, 24585], [3, 5, 7], [4, 6, 8], [1, 0, 1], 34, 34))


def test_es_with_pauses_cut_anywhere():
    generator = np.random.default_rng(0)
    steps = generator.choice([0, 1, 90, 126, 127, 128, 1000, 40_000], 300)
    data, expected, now = b"", [], 0
    for step in steps:
        now += int(step)
        x, y, p = (int(generator.integers(0, high)) for high in (0xFFFF, 0xFFFF, 2))
        data += b"\xff" * (int(step) // 127) + b"\xfe" + struct.pack("<BHH", int(step) % 127 << 1 | p, x, y)
        expected.append((now, x, y, p))
    for cut in (0, 1, 2, 3, 4, 5, 100, 1001, len(data) - 1, len(data)):
        first, used, t = decode(data[:cut], 0)
        second, used_later, t = decode(data[used:], t)
        assert used + used_later == len(data)
        assert t == now
        both = [np.concatenate(pair).tolist() for pair in zip(first, second, strict=True)]
        assert list(zip(*both, strict=True)) == expected


def flat_table(identifier: bytes, elements: bytes, count: int) -> bytes:
    """A FlatBuffer with a size in front whose only field is a vector."""
    body = struct.pack("<I4sHHHxxiII", 16, identifier, 6, 8, 4, 8, 4, count) + elements
    return struct.pack("<I", len(body)) + body


def made_aedat4(events: Events, compression: int, packets: int = 3, table: int = -1) -> bytes:
    """The bytes of a recording, by hand."""
    described = (
        '<dv version="2.0"><node name="outInfo" path="/"><node name="0"><attr key="typeIdentifier">FRME</attr></node>'
        '<node name="1"><attr key="typeIdentifier">EVTS</attr><node name="info"><attr key="sizeX">'
        f'{events.width}</attr><attr key="sizeY">{events.height}</attr></node></node></node></dv>'
    ).encode()
    header = struct.pack("<I4sHHHHHxx", 20, b"IOHE", 10, 20, 4, 12, 8)
    header += struct.pack("<iiiqI", 12, compression, 12, table, len(described)) + described
    data = b"#!AER-DAT4.0\r\n" + struct.pack("<I", len(header)) + header
    records = np.zeros(len(events), [("t", "<i8"), ("x", "<i2"), ("y", "<i2"), ("p", "u1"), ("_", "V3")])
    for name in "txyp":
        records[name] = getattr(events, name)
    for part in np.array_split(records, packets):
        packet = flat_table(b"EVTS", part.tobytes(), len(part))
        packet = lz4.frame.compress(packet) if compression in (1, 2) else packet
        data += struct.pack("<ii", 0, 5) + b"frame" + struct.pack("<ii", 1, len(packet)) + packet
    return data


@pytest.mark.parametrize("compression", [0, 1])
def test_aedat4_by_hand(tmp_path, compression):
    events = made_events(1000)
    (tmp_path / "a.aedat4").write_bytes(made_aedat4(events, compression))
    assert_same(open_events(tmp_path / "a.aedat4").read(), events)
    (tmp_path / "b.aedat4").write_bytes(made_aedat4(events, compression)[:-7])
    with pytest.raises(DataError, match="cut within the packet"):
        open_events(tmp_path / "b.aedat4").read()
    assert 600 < len(open_events(tmp_path / "b.aedat4", repair=True).read()) < 700


def test_aedat4_packed_with_zstandard(tmp_path, monkeypatch):
    (tmp_path / "a.aedat4").write_bytes(made_aedat4(made_events(10), 3))
    monkeypatch.setitem(__import__("sys").modules, "zstandard", None)
    with pytest.raises(DataError, match="packed with Zstandard; install the package zstandard"):
        open_events(tmp_path / "a.aedat4")


@pytest.mark.shared_data
@needs_samples
def test_real_aedat4_as_aedat_reads_it():
    import aedat

    recording = open_events(SAMPLES / "sample.aedat4")
    events = recording.read()
    assert (recording.format, recording.width, recording.height, len(events)) == ("aedat4", 320, 240, 111_954)
    packets = [
        packet["events"] for packet in aedat.Decoder(str(SAMPLES / "sample.aedat4")) if "events" in packet
    ]
    peer = np.concatenate(packets)
    for name, theirs in {"t": "t", "x": "x", "y": "y", "p": "on"}.items():
        np.testing.assert_array_equal(peer[theirs], getattr(events, name))


@pytest.mark.shared_data
@needs_samples
def test_real_es_as_event_stream_reads_it():
    recording = open_events(SAMPLES / "dvs.es")
    events = recording.read()
    assert (recording.format, recording.width, recording.height, len(events)) == ("es", 320, 240, 473_225)
    with event_stream.Decoder(str(SAMPLES / "dvs.es")) as decoder:
        peer = np.concatenate(list(decoder))
    np.testing.assert_array_equal(peer["t"], events.t)
    np.testing.assert_array_equal(peer["x"], events.x)
    np.testing.assert_array_equal(239 - peer["y"], events.y)  # it leaves y counted from the bottom
    np.testing.assert_array_equal(peer["on"], events.p)


@pytest.mark.shared_data
@needs_samples
def test_real_text_and_saccades():
    slider = open_events(SAMPLES / "slider_depth" / "events.txt", size=(240, 180))
    events = slider.read()
    assert (slider.format, len(events), int(events.t[0]), int(events.t[-1])) == (
        "text",
        50_000,
        3811,
        174_156,
    )
    assert [int(column[0]) for column in (events.x, events.y, events.p)] == [96, 133, 0]
    digit = open_events(SAMPLES / "sample_nmnist.bin", size=(34, 34))
    events = digit.read()
    events.check()
    assert (digit.format, len(events)) == ("nmnist", 4325)
    assert 300_000 < events.duration < 316_000  # three moves of a hundred milliseconds


def test_the_package_aedat_reads_what_is_written(tmp_path):
    aedat = pytest.importorskip("aedat")
    events = made_events(40_000, start=1_600_000_000_000_000)
    write_events(tmp_path / "a.aedat4", events)
    decoder = aedat.Decoder(tmp_path / "a.aedat4")
    assert decoder.id_to_stream() == {0: {"type": "events", "width": 320, "height": 240}}
    found = np.concatenate([packet["events"] for packet in decoder])
    for ours, name in zip("txyp", ("t", "x", "y", "on"), strict=True):
        np.testing.assert_array_equal(found[name], getattr(events, ours))


def test_aedat3_of_other_packets_invalid_events_and_rounds_of_the_clock(tmp_path):
    events = made_events(3000, width=128, height=128, start=(1 << 31) - 500_000)
    words = np.zeros((3000, 2), "<u4")
    words[:, 0] = 1 | events.p.astype(np.uint32) << 1 | events.y.astype(np.uint32) << 2
    words[:, 0] |= events.x.astype(np.uint32) << 17
    words[:, 1] = events.t & 0x7FFFFFFF
    words[7::50, 0] &= ~np.uint32(1)
    kept = events[(words[:, 0] & 1) == 1]
    data = b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: DVS128\r\n#!END-HEADER\r\n"
    for low in range(0, 3000, 250):
        for rounds in (0, 1):
            part = words[low : low + 250][events.t[low : low + 250] >> 31 == rounds]
            room = len(part) + 3  # a packet may have more room than events
            data += struct.pack("<hhiiiiii", 1, 1, 8, 4, rounds, room, len(part), len(part))
            data += part.tobytes() + bytes(24)
        data += struct.pack("<hhiiiiii", 0, 1, 8, 4, 0, 1, 1, 1) + bytes(8)
    path = tmp_path / "a.aedat"
    path.write_bytes(data)
    assert open_events(path).header == {"source": "DVS128"}
    assert_same(open_events(path).read(), kept)
    path.write_bytes(data[:-3])
    with pytest.raises(DataError, match="cut within the packet at byte"):
        open_events(path).read()
    assert_same(open_events(path, repair=True).read(), kept)
    for place, value in ((28, -8), (36, -1), (40, 1 << 30), (44, -1)):
        start = data.index(b"HEADER\r\n") + 8
        damaged = bytearray(data)
        damaged[start + place - 24 : start + place - 20] = struct.pack("<i", value)
        path.write_bytes(damaged)
        with pytest.raises(DataError, match="is damaged"):
            open_events(path).read()
    path.write_bytes(data[:40])
    with pytest.raises(DataError, match="its header is cut"):
        open_events(path)
