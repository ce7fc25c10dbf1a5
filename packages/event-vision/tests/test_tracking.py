"""Boxes numbered over time."""

from __future__ import annotations

import numpy as np
import pytest
from multiway_core.errors import ConfigError
from multiway_event_vision.events import Events
from multiway_event_vision.result import Prediction
from multiway_event_vision.tracking import Tracker, TrackerConfig


def seen(t: int, *boxes: tuple[float, float, int, float]) -> Prediction:
    """Boxes of 20 x 20 pixels: (x, y, class, score)."""
    corners = [(x, y, x + 20, y + 20) for x, y, _, _ in boxes]
    return Prediction(
        t,
        np.array(corners, np.float32).reshape(-1, 4),
        np.array([score for *_, score in boxes], np.float32),
        np.array([class_id for _, _, class_id, _ in boxes], np.int64),
        np.zeros(len(boxes), np.int64),
        Events.empty(200, 100),
    )


def tracks(predictions, config=None):
    return [found.track_M.tolist() for found in Tracker(config).follow(predictions)]


def test_an_object_has_one_number_once_it_was_seen_three_times():
    found = tracks(seen(10_000 * n, (3 * n, 10, 0, 0.9)) for n in range(6))
    assert found == [[-1], [-1], [0], [0], [0], [0]]


def test_two_that_pass_each_other_keep_their_numbers():
    # 8 pixels a read-out in opposite directions: at the meeting, overlap alone would exchange them.
    predictions = [seen(10_000 * n, (8 * n, 10, 0, 0.9), (150 - 8 * n, 14, 0, 0.8)) for n in range(19)]
    found = tracks(predictions)
    assert found[-1] == found[3] == [0, 1]


def test_an_object_that_is_missed_for_a_while_is_the_same_and_one_that_is_gone_is_not():
    early = [seen(10_000 * n, (3 * n, 10, 0, 0.9)) for n in range(5)]
    soon = seen(200_000, (60, 10, 0, 0.9))  # 150 ms without it, where its pace takes it
    assert tracks([*early, *[seen(t, *[]) for t in (60_000, 120_000)], soon])[-1] == [0]
    late = [seen(900_000 + 10_000 * n, (60, 10, 0, 0.9)) for n in range(3)]
    assert tracks([*early, *late])[-1] == [1]


def test_doubtful_boxes_keep_a_track_and_begin_none():
    sure = [seen(10_000 * n, (10, 10, 0, 0.9)) for n in range(3)]
    doubtful = [seen(30_000 + 10_000 * n, (10, 10, 0, 0.3), (100, 50, 1, 0.3)) for n in range(4)]
    assert tracks([*sure, *doubtful])[-1] == [0, -1]


def test_an_object_is_what_it_was_called_most_surely():
    classes = [1, 1, 0, 1, 1]
    found = list(Tracker().follow(seen(10_000 * n, (10, 10, c, 0.9)) for n, c in enumerate(classes)))
    assert [int(each.class_M[0]) for each in found] == [1] * 5
    assert [each.track_M[0] for each in found] == [-1, -1, 0, 0, 0]


def test_tracks_reach_captions_json_and_label_files():
    *_, found = Tracker().follow(seen(10_000 * n, (10, 10, 0, 0.9)) for n in range(3))
    assert found.captions(("disc",)) == ["#0 disc 0.90"]
    assert found.to_json(("disc",))["boxes"][0]["track"] == 0
    assert found.to_boxes().track_id.tolist() == [0]
    untracked = seen(0, (10, 10, 0, 0.9))
    assert "track" not in untracked.to_json(("disc",))["boxes"][0]
    assert untracked.captions(("disc",)) == ["disc 0.90"]


def test_bad_options():
    with pytest.raises(ConfigError, match="positive gap"):
        TrackerConfig(longest_gap=0)
