"""MinHash signatures and their bands: documents with a band in common are near-duplicates.

256 hashes at a threshold of 0.8 make 17 bands of 15 rows (the split with the least expected error, both kinds weighing
the same; Zhu's optimiser). Two documents of Jaccard similarity ``s`` share a band with probability 1 - (1 - s^15)^17:
one half at 0.81.
"""

from __future__ import annotations

import hashlib
import re
import string
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from multiway_core.errors import InputError

PRIME = np.uint64((1 << 61) - 1)
_LOW_32, _LOW_29 = np.uint64((1 << 32) - 1), np.uint64((1 << 29) - 1)
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_SHINGLES_AT_ONCE = 1 << 11  # so that a block of products stays in the cache


@dataclass(frozen=True)
class MinHash:
    """The hash family of a run; equal settings give equal signatures.

    Args:
        bands, rows: of a signature; ``bands * rows`` hashes are computed.
        ngram: characters of a shingle.
        min_characters: shorter documents (in normal form) have no signature and are nobody's duplicate.
    """

    bands: int = 17
    rows: int = 15
    ngram: int = 13
    min_characters: int = 200
    seed: int = 1

    @cached_property
    def _family(self) -> tuple[np.ndarray, np.ndarray]:
        generator = np.random.Generator(np.random.PCG64(self.seed))
        shape = (self.bands * self.rows, 1)
        a = generator.integers(1, int(PRIME), shape, dtype=np.uint64)
        return a, generator.integers(0, int(PRIME), shape, dtype=np.uint64)

    def signature(self, text: str) -> np.ndarray | None:
        """uint64 of shape (bands * rows,): the least (a h + b) mod (2^61 - 1) of the shingles; None when short."""
        normal = shingle_form(text)
        if len(normal) < self.min_characters:
            return None
        shingles = {normal[i : i + self.ngram] for i in range(len(normal) - self.ngram + 1)}
        hashes = np.fromiter(map(shingle_hash, shingles), np.uint64, len(shingles))
        return self.of_hashes(hashes)

    def of_hashes(self, hashes: np.ndarray) -> np.ndarray:
        """The signature of shingles given by their hashes (uint64 below 2^61)."""
        a, b = self._family
        found = np.full(len(a), PRIME, np.uint64)
        for start in range(0, len(hashes), _SHINGLES_AT_ONCE):
            values = multiply_add(a, hashes[None, start : start + _SHINGLES_AT_ONCE], b)
            np.minimum(found, values.min(axis=1), out=found)
        return found

    def band_keys(self, signature: np.ndarray) -> np.ndarray:
        """uint64 of shape (bands,): a hash of each band's rows and number; equal bands have equal keys."""
        parts = signature.astype("<u8").reshape(self.bands, self.rows)
        keys = [_first_eight(bytes([band & 255]) + part.tobytes()) for band, part in enumerate(parts)]
        return np.array(keys, np.uint64)


def shingle_form(text: str) -> str:
    """The text that shingles are cut from: repaired encoding, NFC, lower case, no ASCII punctuation, single blanks."""
    try:
        import ftfy
    except ModuleNotFoundError as error:
        raise InputError("deduplication needs ftfy: pip install 'multiway-text[redstone]'") from error
    text = ftfy.fix_text(text, normalization="NFC").lower().translate(_PUNCTUATION)
    return re.sub(r"\s+", " ", text.strip())


def shingle_hash(shingle: str) -> int:
    """The first eight bytes of SHA-1, of which 61 bits."""
    return hash64(shingle) & int(PRIME)


def multiply_add(a: np.ndarray, h: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(a h + b) mod (2^61 - 1) of uint64 below 2^61, exactly: the product has 122 bits and is summed in parts.

    With a = a1 2^32 + a0 and h likewise: 2^64 = 2^3 and 2^61 = 1 modulo the prime.
    """
    a1, a0, h1, h0 = a >> 32, a & _LOW_32, h >> 32, h & _LOW_32
    middle = a1 * h0 + a0 * h1
    low = a0 * h0
    total = (a1 * h1 << 3) + (middle >> 29) + ((middle & _LOW_29) << 32)
    total = (total & PRIME) + (total >> 61) + (low & PRIME) + (low >> 61) + b
    total = (total & PRIME) + (total >> 61)
    return np.where(total >= PRIME, total - PRIME, total)


def hash64(text: str) -> int:
    """The first eight bytes of SHA-1 of a text."""
    return _first_eight(text.encode("utf-8", "replace"))


def _first_eight(data: bytes) -> int:
    return int.from_bytes(hashlib.sha1(data, usedforsecurity=False).digest()[:8], "little")
