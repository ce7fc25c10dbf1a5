"""Bags of ROS 1, written by the package `rosbags`."""

from __future__ import annotations

import pytest
from multiway_core.errors import DataError
from multiway_event_vision.formats import open_events, rosbag

from .event_streams import assert_same, made_events


def bag(path, topics, compression=None, messages=4):
    """A bag with the events of `made_events` on each topic, serialized by `rosbags`, and another message."""
    pytest.importorskip("rosbags")
    from rosbags.rosbag1 import Writer
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    store = get_typestore(Stores.ROS1_NOETIC)
    event = "uint16 x\nuint16 y\ntime ts\nbool polarity"
    array = "std_msgs/Header header\nuint32 height\nuint32 width\ndvs_msgs/Event[] events"
    store.register(get_types_from_msg(event, "dvs_msgs/msg/Event"))
    store.register(get_types_from_msg(array, "dvs_msgs/msg/EventArray"))
    time, header, event, array, string = (
        store.types[name]
        for name in (
            "builtin_interfaces/msg/Time", "std_msgs/msg/Header", "dvs_msgs/msg/Event", "dvs_msgs/msg/EventArray",
            "std_msgs/msg/String",
        )
    )  # fmt: skip
    events = made_events(500, width=240, height=180, start=1_600_000_000_000_000)
    records = [
        event(x, y, time(*divmod(t * 1000, 10**9)), bool(p))
        for t, x, y, p in zip(
            events.t.tolist(), events.x.tolist(), events.y.tolist(), events.p.tolist(), strict=True
        )
    ]
    path.unlink(missing_ok=True)
    writer = Writer(path)
    if compression:
        writer.set_compression(Writer.CompressionFormat[compression])
    with writer:
        words = writer.add_connection("/words", string.__msgtype__, typestore=store)
        writer.write(words, 1, store.serialize_ros1(string("ab"), string.__msgtype__))
        for topic in topics:
            connection = writer.add_connection(topic, array.__msgtype__, typestore=store)
            for number in range(messages):
                part = records[number * 125 : (number + 1) * 125]
                message = array(header(number, time(7, 0), "cam"), 180, 240, part)
                writer.write(connection, 10 + number, store.serialize_ros1(message, array.__msgtype__))
    return events


@pytest.mark.parametrize("compression", [None, "BZ2", "LZ4"])
def test_bags_of_ros(tmp_path, compression):
    path = tmp_path / "a.bag"
    events = bag(path, ["/dvs/events"], compression)
    recording = open_events(path)
    assert (recording.format, recording.width, recording.height) == ("rosbag", 240, 180)
    assert recording.header == {"topic": "/dvs/events"}
    assert_same(recording.read(), events)


def test_bags_without_one_camera_or_cut_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "a.bag"
    bag(path, ["/left/events", "/right/events"])
    with pytest.raises(
        DataError, match="events of 2 cameras: /left/events, /right/events; expected one topic"
    ):
        open_events(path)
    bag(path, [])
    with pytest.raises(DataError, match="no messages EventArray in it; found std_msgs/msg/String"):
        open_events(path)
    bag(path, ["/events"], "BZ2")
    whole = path.read_bytes()
    for length in (20, 3000, len(whole) // 2, len(whole) - 5):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match="not a whole bag of ROS"):
            open_events(path).read()
    path.write_bytes(whole)
    monkeypatch.setattr(rosbag, "_MAX_CHUNK", 1000)
    with pytest.raises(DataError, match="a chunk is cut, or of more than"):
        open_events(path)
