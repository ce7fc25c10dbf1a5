"""MIND's times, `11/9/2019 9:57:55 AM`, to seconds since 1970 and back; one by one, or a whole column at once."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

EXPECTED = 'month/day/year hour:minute:second AM or PM, such as "11/9/2019 9:57:55 AM"'
LONGEST = len("11/19/2019 10:57:55 AM")
_TIME = re.compile(r"([0-9]{1,2})/([0-9]{1,2})/([0-9]{4}) ([0-9]{1,2}):([0-9]{1,2}):([0-9]{1,2}) ([AP])M")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SEPARATORS = np.frombuffer(b"// :: ", np.uint8)  # what ends number 0 (month) to 5 (second)


def parse_time(text: str) -> int | None:
    """Seconds since 1970 (the clock's reading taken as UTC, as MIND names no zone); None when it is no time."""
    match = _TIME.fullmatch(text)
    if match is None:
        return None
    month, day, year, hour, minute, second = (int(number) for number in match.groups()[:6])
    if not 1 <= hour <= 12:
        return None
    try:
        moment = datetime(year, month, day, hour % 12 + 12 * (match[7] == "P"), minute, second, tzinfo=UTC)
    except ValueError:
        return None
    return (moment - _EPOCH) // timedelta(seconds=1)


def format_time(seconds: int) -> str:
    """MIND's text of a moment; `parse_time` gives the seconds back for the years 1 to 9999."""
    moment = _EPOCH + timedelta(seconds=int(seconds))
    half = "AM" if moment.hour < 12 else "PM"
    return (
        f"{moment.month}/{moment.day}/{moment.year:04d} "
        f"{(moment.hour + 11) % 12 + 1}:{moment.minute:02d}:{moment.second:02d} {half}"
    )


def format_times(seconds: Sequence[int] | NDArray[np.int64]) -> list[str]:
    """`format_time` of each."""
    return [format_time(moment) for moment in seconds]


def parse_times(
    buffer: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The times at `buffer[starts:ends]` as `parse_time` reads them, and which of them are times."""
    lengths = ends - starts
    good = (lengths >= len("1/1/2019 1:1:1 AM")) & (lengths <= LONGEST)
    # Characters of each time, position by position; places behind the end read the last character again.
    last = np.maximum(ends - 1, 0)
    number = np.zeros((7, len(starts)), np.int64)  # month, day, year, hour, minute, second, surplus
    digits = np.zeros((7, len(starts)), np.int64)
    part = np.zeros(len(starts), np.int64)
    rows = np.arange(len(starts))
    for place in range(LONGEST - 2):
        inside = place < lengths - 2  # the last two are AM or PM
        character = buffer[np.minimum(starts + place, last)]
        digit = character - np.uint8(48)  # unsigned: what is below "0" wraps round to a large number
        is_digit = (digit < 10) & inside
        number[part, rows] = np.where(is_digit, number[part, rows] * 10 + digit, number[part, rows])
        digits[part, rows] += is_digit
        is_end = inside & ~is_digit
        good &= ~is_end | ((part < 6) & (character == _SEPARATORS[np.minimum(part, 5)]))
        part = np.minimum(part + is_end, 6)
    month, day, year, hour, minute, second, _ = number
    half = buffer[np.maximum(ends - 2, 0)]
    good &= (part == 6) & (digits[6] == 0) & (buffer[last] == ord("M"))
    good &= (half == ord("A")) | (half == ord("P"))
    good &= (digits[2] == 4) & (year >= 1)
    for i in (0, 1, 3, 4, 5):
        good &= (digits[i] >= 1) & (digits[i] <= 2)
    good &= (
        (month >= 1) & (month <= 12) & (day >= 1) & (hour >= 1) & (hour <= 12) & (minute < 60) & (second < 60)
    )
    months = np.where(good, (year - 1970) * 12 + month - 1, 0)
    first_day = months.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    next_first_day = (months + 1).astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    good &= day <= next_first_day - first_day
    hours = hour % 12 + np.where(half == ord("P"), 12, 0)
    seconds = ((first_day + day - 1) * 24 + hours) * 3600 + minute * 60 + second
    return np.where(good, seconds, 0), good
