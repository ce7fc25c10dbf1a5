"""A teacher's boxes, frame by frame -> tracks: short ones are dropped, gaps are interpolated.

Boxes of one class are linked from picture to picture by overlap with where the track should be by now; sure boxes
choose first, doubtful ones may only go on with a track (Zhang et al., "ByteTrack", 2022). A track that is short, or
never sure, is dropped. Corners are smoothed over time and linear in between.

Legend: K sightings of a track, N boxes, 4 corners x1 y1 x2 y2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from multiway_core.errors import ConfigError
from numpy.typing import NDArray

from multiway_event_vision.labels.boxes import Boxes

Corners = NDArray[np.float64]


@dataclass(frozen=True)
class TrackConfig:
    """What links, and what is kept. Times in microseconds."""

    sure: float = 0.45  # score from which a box may begin a track
    doubtful: float = 0.2  # boxes below are not looked at
    overlap: float = 0.3  # least intersection over union of a link
    longest_gap_us: int = 500_000
    min_duration_us: int = 400_000
    min_sightings: int = 4
    min_mean_score: float = 0.4
    smoothing_us: int = 80_000  # standard deviation of the average over time

    def __post_init__(self) -> None:
        if not 0 <= self.doubtful <= self.sure <= 1 or not 0 < self.overlap < 1:
            raise ConfigError(f"{self}; expected 0 <= doubtful <= sure <= 1 and an overlap between 0 and 1")


@dataclass
class Track:
    """One object: K sightings in order of time."""

    class_id: int
    times: list[int] = field(default_factory=list)
    corners: list[Corners] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)

    def see(self, t: int, corners: Corners, score: float) -> None:
        """Add a sighting later than all before."""
        self.times.append(t)
        self.corners.append(corners)
        self.scores.append(score)

    def expected(self, t: int) -> Corners:
        """(4,) where it should be at `t`: moved on from its last sighting at its pace of the last few."""
        last = self.corners[-1]
        first = max(len(self.times) - 4, 0)
        passed = self.times[-1] - self.times[first]
        if not passed:
            return last
        moved_2 = (_middle(last) - _middle(self.corners[first])) * (t - self.times[-1]) / passed
        return last + np.tile(moved_2, 2)


def link(detections: Boxes, config: TrackConfig | None = None) -> list[Track]:
    """Tracks of a teacher's boxes, whose `confidence` is the score, in order of their first sighting."""
    config = config or TrackConfig()
    detections = detections[detections.confidence >= config.doubtful]
    corners_N4 = np.stack(
        [detections.x, detections.y, detections.x + detections.width, detections.y + detections.height], 1
    ).astype(np.float64)
    tracks: list[Track] = []
    for t in np.unique(detections.t):
        here = np.flatnonzero(detections.t == t)
        for class_id in np.unique(detections.class_id[here]):
            own = here[detections.class_id[here] == class_id]
            scores = detections.confidence[own]
            free = [
                track
                for track in tracks
                if track.class_id == class_id and t - track.times[-1] <= config.longest_gap_us
            ]
            for chosen in (own[scores >= config.sure], own[scores < config.sure]):
                expected = [track.expected(int(t)) for track in free]
                pairs = _best_pairs(expected, corners_N4[chosen], config.overlap)
                for place, number in pairs:
                    at = chosen[number]
                    free[place].see(int(t), corners_N4[at], float(detections.confidence[at]))
                taken, seen = {place for place, _ in pairs}, {number for _, number in pairs}
                free = [track for place, track in enumerate(free) if place not in taken]
                for number, at in enumerate(chosen):
                    if number not in seen and detections.confidence[at] >= config.sure:
                        tracks.append(Track(int(class_id)))
                        tracks[-1].see(int(t), corners_N4[at], float(detections.confidence[at]))
    return [track for track in tracks if _is_kept(track, config)]


def boxes_of(tracks: Sequence[Track], times: NDArray[np.int64], config: TrackConfig | None = None) -> Boxes:
    """Boxes of `tracks` at `times` (microseconds), between first and last sightings; `track_id` counts them."""
    config = config or TrackConfig()
    rows = [np.zeros((0, 8))]
    for number, track in enumerate(tracks):
        own = times[(times >= track.times[0]) & (times <= track.times[-1])]
        smooth_K4 = _smoothed(np.array(track.times), np.array(track.corners), config.smoothing_us)
        x1, y1, x2, y2 = (np.interp(own, track.times, smooth_K4[:, side]) for side in range(4))
        one = np.ones(len(own))
        rows.append(np.stack([own, x1, y1, x2 - x1, y2 - y1, track.class_id * one, number * one, one], 1))
    return Boxes.from_arrays(*np.concatenate(rows).T)


def _is_kept(track: Track, config: TrackConfig) -> bool:
    return (
        len(track.times) >= config.min_sightings
        and track.times[-1] - track.times[0] >= config.min_duration_us
        and float(np.mean(track.scores)) >= config.min_mean_score
    )


def _smoothed(times_K: NDArray[np.int64], corners_K4: Corners, deviation: int) -> Corners:
    """Corners averaged over time with a Gaussian; straight lines at even pace stay, ends included."""
    if not deviation:
        return corners_K4
    apart_KK = (times_K[:, None] - times_K[None]).astype(np.float64)
    weight_KK = np.exp(-0.5 * (apart_KK / deviation) ** 2)
    # A line is fitted around every sighting, not a mean: a mean lags at the ends.
    total_K1 = weight_KK.sum(1, keepdims=True)
    mean_t_K1 = (weight_KK * -apart_KK).sum(1, keepdims=True) / total_K1
    mean_K4 = weight_KK @ corners_K4 / total_K1
    off_KK = -apart_KK - mean_t_K1
    variance_K1 = (weight_KK * off_KK**2).sum(1, keepdims=True)
    slope_K4 = (weight_KK * off_KK) @ corners_K4 / np.maximum(variance_K1, 1e-9)
    return np.where(variance_K1 > 1, mean_K4 - slope_K4 * mean_t_K1, mean_K4)


def _best_pairs(expected: Sequence[Corners], found_N4: Corners, least: float) -> list[tuple[int, int]]:
    """(track, box) pairs, the best overlap first, each used once."""
    if not expected or not len(found_N4):
        return []
    overlap_TN = overlaps(np.array(expected), found_N4)
    pairs: list[tuple[int, int]] = []
    for flat in np.argsort(-overlap_TN, axis=None, kind="stable"):
        place, number = divmod(int(flat), overlap_TN.shape[1])
        if overlap_TN[place, number] < least:
            break
        if all(place != p and number != n for p, n in pairs):
            pairs.append((place, number))
    return pairs


def overlaps(a_T4: Corners, b_N4: Corners) -> Corners:
    """(T, N) intersection over union."""
    size_TN2 = np.minimum(a_T4[:, None, 2:], b_N4[None, :, 2:]) - np.maximum(
        a_T4[:, None, :2], b_N4[None, :, :2]
    )
    shared_TN = np.clip(size_TN2, 0, None).prod(2)
    areas = [np.clip(c[:, 2:] - c[:, :2], 0, None).prod(1) for c in (a_T4, b_N4)]
    return shared_TN / np.maximum(areas[0][:, None] + areas[1][None] - shared_TN, 1e-9)


def _middle(corners_4: Corners) -> Corners:
    return (corners_4[:2] + corners_4[2:]) / 2
