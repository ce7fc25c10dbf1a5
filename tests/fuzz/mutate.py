"""Changed files out of whole ones: bytes, numbers, cuts, repeats and splices, as damage and malice make them."""

from __future__ import annotations

import random

_NUMBERS = (
    0,
    1,
    2,
    127,
    128,
    255,
    256,
    32767,
    65535,
    (1 << 31) - 1,
    1 << 31,
    (1 << 32) - 1,
    (1 << 63) - 1,
    1 << 63,
)
_TEXTS = (
    b"\0", b"\n", b"\r\n", b"\t", b'"', b"'", b"{", b"}", b"[", b"]", b"<", b">", b"%", b"-1", b"1e999", b"NaN",
    b"null", b"true", b"99999999999999999999", b"\xff\xfe", b"\xed\xa0\x80", "\u202e\U0001f600".encode(), b"../../x",
)  # fmt: skip


def mutated(seeds: list[bytes], generator: random.Random) -> bytes:
    """One of ``seeds`` with one to eight changes."""
    data = bytearray(generator.choice(seeds))
    for _ in range(generator.choice((1, 1, 1, 2, 3, 8))):
        _change(data, seeds, generator)
    return bytes(data)


def _change(data: bytearray, seeds: list[bytes], generator: random.Random) -> None:
    place = generator.randrange(len(data) + 1)
    kind = generator.randrange(8)
    if kind == 0 and data:
        data[min(place, len(data) - 1)] ^= 1 << generator.randrange(8)
    elif kind == 1 and data:
        data[min(place, len(data) - 1)] = generator.randrange(256)
    elif kind == 2:
        number = generator.choice(_NUMBERS)
        size = generator.choice((1, 2, 4, 8))
        data[place : place + size] = (number & (1 << 8 * size) - 1).to_bytes(
            size, generator.choice(("little", "big"))
        )
    elif kind == 3:
        del data[place:]
    elif kind == 4:
        del data[place : place + generator.randrange(1, 16)]
    elif kind == 5:
        data[place:place] = generator.choice(_TEXTS) * generator.choice((1, 1, 1, 3, 200))
    elif kind == 6:
        other = generator.choice(seeds)
        low = generator.randrange(len(other) + 1)
        data[place:] = other[low:]
    else:
        part = data[place : place + generator.randrange(1, 64)]
        data[place:place] = part * generator.choice((1, 2, 50))
