"""EVT 3.0 word by word, as its specification reads: what the decoder without loops must agree with."""

from __future__ import annotations


def decode(words: list[int]) -> list[tuple[int, int, int, int]]:
    """(t, x, y, p) of every event. Rounds of the time are counted as `Unwrapper` promises."""
    events = []
    high = last = y = None
    low = rounds = base = base_p = 0
    for word in words:
        kind, value = word >> 12, word & 0xFFF
        if kind == 0:
            y = value & 0x7FF
        elif kind == 3:
            base, base_p = value & 0x7FF, value >> 11
        elif kind == 6:
            low = value
        elif kind == 8:
            step = value - (value if last is None else last)
            if step < -256:
                rounds += 1
            elif step >= 4096 - 256 and rounds:
                rounds -= 1
            if high is not None and rounds * 4096 + value != high:
                low = 0
            high, last = rounds * 4096 + value, value
        pixels = []
        if kind == 2:
            pixels = [(value & 0x7FF, value >> 11)]
        elif kind in (4, 5):
            width = 12 if kind == 4 else 8
            pixels = [(base + bit, base_p) for bit in range(width) if value >> bit & 1]
            base += width
        if high is not None and y is not None:
            events += [(high * 4096 + low, x, y, p) for x, p in pixels]
    return events
