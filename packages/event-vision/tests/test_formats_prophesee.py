"""DAT, EVT2 and EVT3: round trips, other people's readers and writers, and the bytes of the specifications."""

from __future__ import annotations

import struct
import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multiway_core.errors import InputError
from multiway_event_vision.events import Events, concatenate
from multiway_event_vision.formats import open_events, write_events
from multiway_event_vision.formats.dat import _decode, decode_by_numpy, write_dat
from multiway_event_vision.formats.evt2 import Evt2Decoder, write_evt2
from multiway_event_vision.formats.evt3 import Evt3Decoder
from multiway_event_vision.formats.evt3_writer import write_evt3
from multiway_event_vision.formats.native_decoders import NativeEvt2Decoder, NativeEvt3Decoder, library
from multiway_event_vision.formats.unwrap import Unwrapper

from .event_streams import SAMPLES, assert_same, made_events, needs_samples
from .evt3_reference import decode as reference_decode

FORMATS = ("dat", "evt2", "evt3", "npz")


class Stream:
    """Events in chunks of uneven sizes."""

    def __init__(self, events: Events, sizes: tuple[int, ...] = (1, 7, 500, 3)) -> None:
        self.events, self.sizes = events, sizes
        self.width, self.height = events.width, events.height

    def chunks(self, chunk_events: int = 0):
        low, turn = 0, 0
        while low < len(self.events):
            yield self.events[low : low + self.sizes[turn % len(self.sizes)]]
            low += self.sizes[turn % len(self.sizes)]
            turn += 1


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("count", [0, 1, 5000])
def test_round_trip(tmp_path, name, count):
    events = made_events(count, seed=count)
    path = tmp_path / "recording"
    write_events(path, Stream(events), format=name)
    recording = open_events(path)
    assert recording.format == name
    assert_same(recording.read(), events)
    assert_same(recording.read(200_000, 400_000), events.between(200_000, 400_000))
    if count:
        chunks = list(recording.chunks(64))
        assert max(map(len, chunks)) <= 64
        assert_same(concatenate(chunks), events)
        assert_same(concatenate(recording.chunks(64)), events)  # and once more from the start


@pytest.mark.parametrize("name", FORMATS)
def test_a_recording_longer_than_one_block(tmp_path, name, monkeypatch):
    events = made_events(30_000, span=60_000_000)  # over three rounds of the 24 bits of EVT3
    write_events(tmp_path / "recording", events, format=name)
    for records in (17, 4096):
        monkeypatch.setattr("multiway_event_vision.formats.source.BLOCK_RECORDS", records)
        assert_same(open_events(tmp_path / "recording").read(), events)


@pytest.mark.parametrize("name", ["dat", "evt2", "evt3"])
def test_three_hours(tmp_path, name):
    """DAT's 32 bits end after 71 minutes, EVT3's 24 after 17 seconds; nothing happens for most of the time."""
    t = np.concatenate([np.arange(0, 3 * 3600, 600) * 1_000_000, [3 * 3600 * 1_000_000]])
    count = len(t)
    events = Events.from_arrays(t, np.arange(count), np.arange(count), np.arange(count) % 2, 320, 240)
    write_events(tmp_path / "recording", events, format=name)
    assert_same(open_events(tmp_path / "recording").read(), events)


def test_dat_as_expelliarmus_reads_and_writes_it(tmp_path):
    check_against_expelliarmus(tmp_path, "dat", ".dat")


def test_evt2_as_expelliarmus_reads_and_writes_it(tmp_path):
    check_against_expelliarmus(tmp_path, "evt2", ".raw")


def check_against_expelliarmus(tmp_path, name, suffix):
    import expelliarmus

    events = made_events(5000, start=3_000_000, width=640, height=480)
    ours, theirs = tmp_path / f"ours{suffix}", tmp_path / f"theirs{suffix}"
    write_events(ours, events, format=name)
    peer = expelliarmus.Wizard(encoding=name)
    found = peer.read(ours)
    for column in "txyp":
        np.testing.assert_array_equal(found[column], getattr(events, column))
    peer.save(theirs, found)
    assert_same(open_events(theirs, size=(640, 480)).read(), events)


@pytest.mark.parametrize("vectors", [False, True])
def test_evt3_as_evt3_reads_it(tmp_path, vectors):
    import evt3

    events = made_events(20_000, start=1_000_000, span=50_000_000, width=640, height=480)
    write_evt3(tmp_path / "ours.raw", Stream(events).chunks(), (640, 480), vectors=vectors)
    found = evt3.decode_file(str(tmp_path / "ours.raw"))
    for column in "txyp":
        np.testing.assert_array_equal(getattr(found, column), getattr(events, column))
    assert (found.sensor_width, found.sensor_height) == (640, 480)


def native_decoder(of: type = NativeEvt3Decoder):
    built = library()
    if built is None:
        pytest.skip("needs a C++ compiler")
    return of(built)


def native_evt2_decoder():
    return native_decoder(NativeEvt2Decoder)


EVT3_WORDS = st.one_of(
    st.integers(0, 0xFFFF),
    st.builds(
        lambda kind, value: kind << 12 | value, st.sampled_from([0, 2, 3, 4, 5, 6, 8]), st.integers(0, 0xFFF)
    ),
    st.builds(
        lambda value: 8 << 12 | value, st.sampled_from([0, 1, 2, 255, 256, 257, 3839, 3840, 4094, 4095])
    ),
)


@pytest.mark.parametrize("new_decoder", [Evt3Decoder, native_decoder], ids=["numpy", "native"])
@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(EVT3_WORDS, max_size=120), st.lists(st.integers(0, 120), max_size=5))
def test_evt3_word_by_word(new_decoder, words, cuts):
    """Any words, cut into blocks anywhere, give what a loop over the words gives."""
    decode = new_decoder()
    bounds = [0, *sorted(min(cut, len(words)) for cut in cuts), len(words)]
    found = []
    for low, high in pairwise(bounds):
        columns = decode(np.array(words[low:high], np.uint16))
        found += list(zip(*(column.tolist() for column in columns), strict=True))
    assert found == reference_decode(words)


EVT2_WORDS = st.one_of(
    st.integers(0, 0xFFFFFFFF),
    st.builds(
        lambda kind, value: kind << 28 | value, st.sampled_from([0, 1, 8]), st.integers(0, (1 << 28) - 1)
    ),
    # Around the tolerance, and around the end of a round.
    st.builds(
        lambda value: 8 << 28 | value % (1 << 28),
        st.sampled_from([0, 1, 16383, 16384, 16385, -1, -2, -16383, -16384, -16385]),
    ),
)


@pytest.mark.parametrize("new_decoder", [Evt2Decoder, native_evt2_decoder], ids=["numpy", "native"])
@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(EVT2_WORDS, max_size=60), st.integers(0, 60))
def test_evt2_word_by_word(new_decoder, words, cut):
    decode = new_decoder()
    found = []
    for part in (words[:cut], words[cut:]):
        columns = decode(np.array(part, np.uint32))
        found += list(zip(*(column.tolist() for column in columns), strict=True))
    unwrap, high, expected = Unwrapper(28, 1 << 14), None, []
    for word in words:
        kind = word >> 28
        if kind == 8:
            high = int(unwrap(np.array([word & 0x0FFFFFFF]))[0])
        elif kind < 2 and high is not None:
            expected.append((high << 6 | word >> 22 & 63, word >> 11 & 0x7FF, word & 0x7FF, kind))
    assert found == expected


@pytest.mark.parametrize("decode", [decode_by_numpy, _decode], ids=["numpy", "native"])
@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 0xFFFFFFFF), st.integers(0, 0xFFFFFFFF)), min_size=1, max_size=40))
def test_dat_record_by_record(decode, records):
    columns = decode(np.array(records, np.uint32), Unwrapper(32, 1 << 31))
    t, rounds, last = [], 0, records[0][0]
    for time, _ in records:
        if time - last < -(1 << 31):
            rounds += 1
        elif time - last >= 1 << 31 and rounds:
            rounds -= 1
        t.append(time + (rounds << 32))
        last = time
    assert columns.t.tolist() == t
    for name, shift, mask in (("x", 0, 0x3FFF), ("y", 14, 0x3FFF), ("p", 28, 1)):
        assert getattr(columns, name).tolist() == [address >> shift & mask for _, address in records]


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.integers(-200, 900), min_size=1, max_size=60), st.integers(0, 60))
def test_unwrapping_undoes_the_wrap(steps, cut):
    """Steps of less than a round, and back by at most the tolerance."""
    times = 2000 + np.cumsum(np.maximum(steps, -200))
    times -= min(0, int(times.min()) // 1024 * 1024)
    wrapped = (times % 1024).astype(np.uint32)
    # Going back to before the first value's own round cannot be told from going on.
    if (times // 1024 < times[0] // 1024).any():
        return
    unwrap = Unwrapper(10, 120)
    found = np.concatenate([unwrap(wrapped[:cut]), unwrap(wrapped[cut:])])
    if min(np.diff(times), default=0) >= -120 and max(np.diff(times), default=0) < 1024 - 120:
        np.testing.assert_array_equal(found, times - times[0] // 1024 * 1024)


def test_dat_of_version_1_and_without_a_header(tmp_path):
    address = 303 | 239 << 9 | 1 << 17
    (tmp_path / "old.dat").write_bytes(b"% Version 1\n" + bytes((0, 8)) + struct.pack("<II", 7, address))
    events = open_events(tmp_path / "old.dat", size=(304, 240)).read()
    assert [int(column[0]) for column in (events.t, events.x, events.y, events.p)] == [7, 303, 239, 1]
    (tmp_path / "bare.dat").write_bytes(struct.pack("<II", 7, 303 | 239 << 14 | 1 << 28))
    assert_same(open_events(tmp_path / "bare.dat", size=(304, 240)).read(), events)
    made = made_events(500, width=304)
    write_dat(tmp_path / "new.dat", [made], (304, 240), version=1)
    assert_same(open_events(tmp_path / "new.dat").read(), made)
    with pytest.raises(InputError, match="512 x 256 pixels, not 640 x 480"):
        write_dat(tmp_path / "wide.dat", [], (640, 480), version=1)
    with pytest.raises(InputError, match="DAT version 3"):
        write_dat(tmp_path / "wide.dat", [], (304, 240), version=3)


@pytest.mark.parametrize(
    ("line", "size"),
    [
        ("% format EVT3;height=720;width=1280", (1280, 720)),
        ("% evt 3.0\n% geometry 640x480", (640, 480)),
        ("% evt 3.0\n% Width 346\n% Height 260", (346, 260)),
        ("% evt 3.0\n% plugin_name hal_plugin_gen31_fx3", (640, 480)),
        ("% evt 3.0\n% sensor_name IMX636", (1280, 720)),
        ("% evt 3.0\n% generation 4.2", (1280, 720)),
    ],
)
def test_sizes_that_headers_tell(tmp_path, line, size):
    words = struct.pack("<5H", 0x8001, 0x6002, 0x0003, 0x2804, 0x2005)
    (tmp_path / "a.raw").write_bytes(line.encode() + b"\n% end\n" + words)
    recording = open_events(tmp_path / "a.raw")
    assert (recording.width, recording.height) == size
    events = recording.read()
    assert events.t.tolist() == [4098, 4098]
    assert (events.x.tolist(), events.y.tolist(), events.p.tolist()) == ([4, 5], [3, 3], [1, 0])


def test_sensors_that_evt_cannot_address(tmp_path):
    for write in (write_evt2, write_evt3):
        with pytest.raises(InputError, match="2048 pixels a side, not 2049 x 10"):
            write(tmp_path / "a.raw", [], (2049, 10))
    events = Events.from_arrays([0, 1 << 40], [0, 0], [0, 0], [0, 0], 8, 8)
    with pytest.raises(InputError, match="too long for EVT3"):
        write_evt3(tmp_path / "a.raw", [events], (8, 8))
    assert not (tmp_path / "a.raw").exists()


@pytest.mark.shared_data
@needs_samples
def test_real_recordings():
    """Counts as published with the files."""
    import expelliarmus

    fireworks = open_events(SAMPLES / "evt2.raw")
    assert (fireworks.format, fireworks.width, fireworks.height) == ("evt2", 640, 480)
    events = fireworks.read()
    events.check()
    assert (len(events), events.duration) == (521_252, 95_871)
    peer = expelliarmus.Wizard(encoding="evt2").read(SAMPLES / "evt2.raw")
    for column in "txyp":
        np.testing.assert_array_equal(peer[column], getattr(events, column))
    car = open_events(SAMPLES / "sample_ncars.dat", size="infer")
    assert (car.format, car.width, car.height, len(car.read())) == ("dat", 78, 42, 2009)


@pytest.mark.shared_data
@needs_samples
def test_a_real_recording_through_every_writer(tmp_path):
    events = open_events(SAMPLES / "evt2.raw").read()
    for name in FORMATS:
        write_events(tmp_path / name, events, format=name)
        found = open_events(tmp_path / name).read()
        # EVT3 keeps 24 bits of the first time.
        assert_same(found, events, time_offset=int(events.t[0]) >> 24 << 24 if name == "evt3" else 0)


@pytest.mark.parametrize("name", ["dat", "evt2", "evt3", "npz"])
def test_memory_does_not_grow_with_the_file(tmp_path, name):
    peaks = []
    for count in (400_000, 1_600_000):
        write_events(tmp_path / "recording", made_events(count, span=10 * count), format=name)
        tracemalloc.start()
        assert sum(map(len, open_events(tmp_path / "recording").chunks())) == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 16_000_000  # all events would be 21 MB
    assert peaks[1] < 1.3 * peaks[0]


def evt21_words(events: Events) -> np.ndarray:
    """As a sensor would: pixels of one row, time and polarity within 32 aligned columns share a word."""
    words: list[int] = []
    keys: tuple[int, ...] | None = None
    high = -1
    for t, x, y, p in zip(
        events.t.tolist(), events.x.tolist(), events.y.tolist(), events.p.tolist(), strict=True
    ):
        if t >> 6 != high:
            high, keys = t >> 6, None
            words.append(8 << 60 | (high & 0xFFFFFFF) << 32)
        first = x & ~31
        if keys != (t, first, y, p) or words[-1] & 0xFFFFFFFF >= 1 << (x - first):
            keys = (t, first, y, p)
            words.append(p << 60 | (t & 63) << 54 | first << 43 | y << 32)
        words[-1] |= 1 << (x - first)
    return np.array(words, "<u8")


@pytest.mark.parametrize("endianness", ["little", "legacy"])
def test_evt21(tmp_path, monkeypatch, endianness):
    monkeypatch.setattr("multiway_event_vision.formats.evt21.record_blocks", partial_blocks)
    events = made_events(4000, width=640, height=480)
    words = evt21_words(events)
    assert len(words) < 4000 + len(np.unique(events.t >> 6))  # some words hold several events
    if endianness == "legacy":
        words = words << np.uint64(32) | words >> np.uint64(32)
    head = f"% evt 2.1\n% format EVT21;endianness={endianness};height=480;width=640\n% end\n"
    before = np.array([1 << 60 | 7], "<u8").view("<u4")[:: 1 if endianness == "little" else -1].tobytes()
    path = tmp_path / "a.raw"
    path.write_bytes(head.encode() + before + words.tobytes())  # events before the first time have none
    recording = open_events(path)
    assert recording.format == "evt2.1"
    assert_same(recording.read(), events)


def partial_blocks(path, start, dtype, count):
    """Blocks of all sizes."""
    words = np.fromfile(path, dtype, count, offset=start)
    low, step = 0, 1
    while low < len(words):
        yield words[low : low + step]
        low, step = low + step, step % 97 + 1
