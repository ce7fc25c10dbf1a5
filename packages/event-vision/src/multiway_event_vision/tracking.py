"""Boxes of one object get one number over time, as they come.

After Bewley et al., "SORT" (2016), and Zhang et al., "ByteTrack" (2022): tracks move on at their pace, sure boxes are
matched with them first, by overlap (Hungarian method), doubtful ones keep tracks alive. Times are microseconds, because
read-outs may be a millisecond or a second apart.

Legend: M boxes of a read-out, T tracks, 4 corners x1 y1 x2 y2.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from multiway_core.errors import ConfigError
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from multiway_event_vision.result import Prediction
from multiway_event_vision.street.tracks import overlaps

NO_TRACK: Final = -1


@dataclass(frozen=True)
class TrackerConfig:
    """What links boxes, and what is shown. Times in microseconds."""

    sure: float = 0.45  # score from which a box may begin a track
    overlap: float = 0.2  # least intersection over union with where a track should be
    other_class: float = 0.15  # what overlap is worth less where the class is another
    longest_gap: int = 300_000  # unseen, before a track ends
    confirmed_after: int = 3  # sightings
    pace_time: int = 100_000  # over which a track's pace is averaged

    def __post_init__(self) -> None:
        """Raises ConfigError."""
        if not (0 < self.overlap < 1 and 0 <= self.sure <= 1 and self.longest_gap > 0):
            raise ConfigError(
                f"{self}; expected an overlap between 0 and 1, a score of 0 to 1 and a positive gap"
            )


@dataclass
class _Track:
    number: int
    t: int
    corners_4: NDArray[np.float64]
    scores: dict[int, float]  # summed, of each class: an object is what it was called most surely
    pace_4: NDArray[np.float64] = field(default_factory=lambda: np.zeros(4))  # pixels a microsecond
    sightings: int = 1

    @property
    def class_id(self) -> int:
        return max(self.scores, key=self.scores.__getitem__)

    def expected(self, t: int) -> NDArray[np.float64]:
        return self.corners_4 + self.pace_4 * (t - self.t)

    def see(
        self, t: int, corners_4: NDArray[np.float64], class_id: int, score: float, pace_time: int
    ) -> None:
        passed = t - self.t
        if passed > 0:
            share = max(1 / self.sightings, 1 - np.exp(-passed / pace_time))  # the first few: their mean
            self.pace_4 += share * ((corners_4 - self.corners_4) / passed - self.pace_4)
        self.t, self.corners_4 = t, corners_4
        self.scores[class_id] = self.scores.get(class_id, 0.0) + score
        self.sightings += 1


class Tracker:
    """Numbers the boxes of read-outs that follow one another."""

    def __init__(self, config: TrackerConfig | None = None) -> None:
        self.config = config or TrackerConfig()
        self._tracks: list[_Track] = []
        self._begun = 0

    def follow(self, predictions: Iterable[Prediction]) -> Iterator[Prediction]:
        """Yield the read-outs with their tracks."""
        for prediction in predictions:
            yield self.update(prediction)

    def update(self, prediction: Prediction) -> Prediction:
        """The read-out with `track_M`, and the classes of the tracks; -1 where a box is of none (yet)."""
        config, t = self.config, prediction.t
        self._tracks = [track for track in self._tracks if t - track.t <= config.longest_gap]
        corners_M4 = prediction.boxes_M4.astype(np.float64)
        track_M = np.full(len(prediction), NO_TRACK, np.int64)
        class_M = prediction.class_M.copy()
        is_sure_M = prediction.score_M >= config.sure
        free = list(self._tracks)
        for chosen in (np.flatnonzero(is_sure_M), np.flatnonzero(~is_sure_M)):
            for place, number in self._pairs(free, prediction, corners_M4, chosen):
                track, at = free[place], int(chosen[number])
                track.see(
                    t,
                    corners_M4[at],
                    int(class_M[at]),
                    float(prediction.score_M[at]),
                    config.pace_time,
                )
                class_M[at] = track.class_id
                if track.sightings >= config.confirmed_after:
                    track_M[at] = track.number
            free = [track for track in free if track.t != t]
        seen = {tuple(track.corners_4) for track in self._tracks if track.t == t}
        for at in np.flatnonzero(is_sure_M).tolist():
            if tuple(corners_M4[at]) not in seen:
                score = {int(class_M[at]): float(prediction.score_M[at])}
                self._tracks.append(_Track(self._begun, t, corners_M4[at], score))
                self._begun += 1
        return replace(prediction, track_M=track_M, class_M=class_M)

    def _pairs(
        self,
        tracks: list[_Track],
        prediction: Prediction,
        corners_M4: NDArray[np.float64],
        chosen: NDArray[np.int64],
    ) -> list[tuple[int, int]]:
        """(track, place in `chosen`) of the matches with the greatest sum of overlaps."""
        if not tracks or not len(chosen):
            return []
        expected_T4 = np.stack([track.expected(prediction.t) for track in tracks])
        overlap_TN = overlaps(expected_T4, corners_M4[chosen])
        is_same_TN = (
            np.array([track.class_id for track in tracks])[:, None] == prediction.class_M[chosen][None]
        )
        worth_TN = overlap_TN - np.where(is_same_TN, 0, self.config.other_class)
        worth_TN[overlap_TN < self.config.overlap] = 0
        rows, columns = linear_sum_assignment(np.maximum(worth_TN, 0), maximize=True)
        return [
            (int(row), int(column))
            for row, column in zip(rows, columns, strict=True)
            if worth_TN[row, column] > 0
        ]
