"""The table of a detection for people: some of the read-outs, evenly spaced, and what all of them hold and cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from multiway_event_vision.result import Counters, Prediction

MAX_ROWS = 20
_MAX_BOXES = 4  # of a row


class Table:
    """Sums up predictions. Holds at most twice `MAX_ROWS` rows, however many there are."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names
        self.count = 0
        self.boxes: Counter[str] = Counter()
        self.objects: dict[int, str] = {}  # by track; the last class that it had
        self._every = 1
        self._rows: list[tuple[int, str]] = []

    def add(self, prediction: Prediction) -> None:
        """Count it, and keep a row if it is among those that are shown."""
        for class_id in prediction.class_M:
            self.boxes[self.names[class_id]] += 1
        if prediction.track_M is not None:
            for track, class_id in zip(prediction.track_M.tolist(), prediction.class_M, strict=True):
                if track >= 0:
                    self.objects[track] = self.names[class_id]
        if self.count % self._every == 0:
            self._rows.append((prediction.t, self._boxes(prediction)))
        if len(self._rows) > MAX_ROWS:
            self._rows = self._rows[::2]
            self._every *= 2
        self.count += 1

    def text(self, counters: Counters) -> str:
        """The table, one line after another."""
        lines = [f"{t / 1e6:>12.6f} s  {boxes}" for t, boxes in self._rows]
        if self._every > 1:
            lines.append(f"(one read-out in {self._every} of {self.count:,}; --json has all)")
        total = sum(self.boxes.values())
        kinds = ", ".join(f"{count:,} {name}" for name, count in self.boxes.most_common())
        lines.append(
            f"{_number(self.count, 'read-out')}, {_number(total, 'box')}{': ' + kinds if kinds else ''}"
        )
        if self.objects:
            kinds = ", ".join(
                f"{count:,} {name}" for name, count in Counter(self.objects.values()).most_common()
            )
            lines.append(f"{_number(len(self.objects), 'object')} over time: {kinds}")
        lines += _cost(counters)
        return "\n".join(lines) + "\n"

    def _boxes(self, read: Prediction) -> str:
        if not len(read):
            return "-"
        parts = []
        for box_4, caption in list(zip(read.boxes_M4, read.captions(self.names), strict=True))[:_MAX_BOXES]:
            sides = " ".join(f"{side:.0f}" for side in box_4)
            parts.append(f"{caption} ({sides})")
        more = len(read) - _MAX_BOXES
        return "  ".join(parts) + (f"  and {more} more" if more > 0 else "")


def _number(count: int, noun: str) -> str:
    ending = "" if count == 1 else "es" if noun.endswith("x") else "s"
    return f"{count:,} {noun}{ending}"


def _cost(counters: Counters) -> Iterator[str]:
    if not counters.events:
        return
    assert counters.us_per_event is not None
    assert counters.cost is not None
    cost = counters.cost
    yield (
        f"{_number(counters.events, 'event')}: {counters.us_per_event:.2f} us each to take in, "
        f"{1e3 * counters.predict_seconds / counters.predictions:.2f} ms a read-out, of one core"
    )
    yield (
        f"MFLOP an event: {cost.mean / 1e6:.3f} mean, {cost.p99 / 1e6:.3f} p99; "
        f"peeks {cost.peeks / 1e6:.3f} and head {cost.head / 1e6:.3f} beside it"
    )
    if counters.mean_age_us is not None:
        yield f"a box is of events {counters.mean_age_us / 1e3:.1f} ms old on average"
