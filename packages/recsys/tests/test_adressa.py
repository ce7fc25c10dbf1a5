"""Adressa's events: clicks, what they tell of articles, and bad lines named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from multiway_core.errors import DataError
from multiway_recsys.data.adressa import read_clicks
from multiway_recsys.data.clicks import ImpressionRules, make_impressions

EVENTS = [
    {"eventId": 1, "userId": "cx:1", "time": 1483225202, "id": "a" * 40, "title": "Snø i Trøndelag",
     "category1": "nyheter|trondheim", "publishtime": "2016-12-31T20:00:00.000Z", "activeTime": 12},
    {"eventId": 2, "userId": "cx:2", "time": 1483225201, "url": "http://adressa.no"},
    {"eventId": 3, "userId": "cx:2", "time": 1483225200, "id": "b" * 40, "title": "Fotball", "category1": "100sport"},
    {"eventId": 4, "userId": "cx:1", "time": 1483225300, "documentId": "b" * 40},
]  # fmt: skip
LINES = "".join(json.dumps(event, ensure_ascii=False) + "\n" for event in EVENTS)


def test_events_with_an_article_are_clicks(tmp_path: Path):
    (tmp_path / "20170102").write_text(LINES.splitlines()[3] + "\n")
    (tmp_path / "20170101").write_text("".join(line + "\n" for line in LINES.splitlines()[:3]))
    (tmp_path / ".hidden").write_text("no event")
    log, notes = read_clicks(tmp_path)
    assert [log.user_ids[user] for user in log.users] == ["cx:2", "cx:1", "cx:1"]
    assert [log.news.titles[item] for item in log.items] == ["Fotball", "Snø i Trøndelag", "Fotball"]
    assert log.news.ids == ("", "N1", "N2")
    assert log.original_ids == ("", "a" * 40, "b" * 40)
    assert log.news.category_names == ("", "nyheter", "100sport")
    assert log.news.subcategory_names == ("", "trondheim")
    assert log.news.published is not None
    assert log.news.published[1] == 1483214400
    assert [note.remarks for note in notes] == [{"no article": 1}, {}]
    behaviors = make_impressions(log, ImpressionRules(min_history=0))
    assert behaviors.labels is not None
    assert behaviors.labels.tolist().count(1) == len(behaviors) == 1  # the other reader knows both articles


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"id": "x"', r"events:5:11: .* is no JSON.*cut off\?"),
        ("[1]\n", r"events:5:1: .*expected one event"),
        ('{"id": "x", "time": 5}\n', 'events:5:1: no "userId"'),
        ('{"id": "x", "userId": "u", "time": "5"}\n', 'events:5:1: "time" .*expected seconds'),
        ('{"id": "x", "userId": "u", "time": NaN}\n', 'events:5:1: "time" '),
        ("[" * 100_000 + "\n", "events:5:1: .* is no JSON"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, message: str):
    (tmp_path / "events").write_text(LINES + line)
    with pytest.raises(DataError, match=message):
        read_clicks(tmp_path / "events")


def test_bytes_that_are_no_utf8_and_empty_folders_are_named(tmp_path: Path):
    with pytest.raises(DataError, match="holds no file"):
        read_clicks(tmp_path)
    (tmp_path / "events").write_bytes(LINES.encode() + b'{"id": "\xff"}\n')
    with pytest.raises(DataError, match="events:5:9: not UTF-8"):
        read_clicks(tmp_path)


@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    st.integers(0, len(LINES)),
    st.one_of(st.binary(max_size=6), st.sampled_from([b"}", b'"', b"1e999", b"\n"])),
)
def test_damaged_events_never_escape(tmp_path: Path, at: int, piece: bytes):
    data = LINES.encode()
    (tmp_path / "events").write_bytes(data[:at] + piece + data[at + len(piece) :])
    try:
        log, _ = read_clicks(tmp_path / "events")
    except DataError as error:
        assert str(tmp_path / "events") in str(error)  # noqa: PT017
        return
    assert len(log) <= 5
