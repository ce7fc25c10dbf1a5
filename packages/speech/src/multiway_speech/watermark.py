"""A keyed, inaudible watermark for generated speech, and its detector.

Spread spectrum in the short-time spectrum (Kirovski & Malvar 2003): between 1 and 6 kHz, cells of 80 ms by 100 Hz
become a little louder or softer, by a pattern that only the key gives. Who has the key can find the mark and also forge
it; who lacks it sees noise.

The transform is NumPy's in float64, and adds windows up as the sound comes: ``torch.istft`` and torchaudio take a whole
sound, and other roundings would change every file that is written.

Shape suffixes: F frames (20 ms apart), B frequency bins (25 Hz), R rows and C columns of cells, P rows of the pattern.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator
from itertools import chain

import numpy as np
from multiway_core.errors import InputError

STRENGTH_DB = 0.6
"""How much louder or softer a cell becomes."""
THRESHOLD = 5.5
"""Standard deviations above chance at which a mark is reported: by chance once in 200,000 recordings, since 256 places
are tried in each."""
MIN_RATE = 12_000

_FIRST_BIN, _CELL_BINS, _COLUMNS = 40, 4, 50  # 1 to 6 kHz
_CELL_FRAMES, _ROWS = 4, 32  # the pattern repeats every 2.56 seconds


def embed(pieces: Iterable[np.ndarray], rate: int, key: str) -> Iterator[np.ndarray]:
    """Mark a sound that comes in pieces, float32 (T,) each; together as many samples come back as went in.

    Digital silence stays silent. Raises :class:`InputError` for a rate under 12 kHz.
    """
    hop = _hop(rate)
    signs_PC, window = _pattern(key), _window(hop)
    # One hop of silence in front, so that the first samples lie under two windows like all others.
    waiting, tail = np.zeros(hop, dtype=np.float32), np.zeros(hop)
    first_frame, owed, warm = 0, 0, False
    for piece in chain(pieces, (None,)):
        owed += 0 if piece is None else len(piece)
        waiting = np.concatenate([waiting, np.zeros(2 * hop) if piece is None else piece])
        count = len(waiting) // hop - 1
        if count < 1:
            continue
        frames_FT = np.lib.stride_tricks.sliding_window_view(waiting, 2 * hop)[: count * hop : hop] * window
        spectra_FB = np.fft.rfft(frames_FT, axis=1)
        rows = (first_frame + np.arange(count)) // _CELL_FRAMES % _ROWS
        gains_FB = 10 ** (STRENGTH_DB / 20 * np.repeat(signs_PC[rows], _CELL_BINS, axis=1))
        spectra_FB[:, _FIRST_BIN : _FIRST_BIN + gains_FB.shape[1]] *= gains_FB
        marked_FT = np.fft.irfft(spectra_FB, n=2 * hop, axis=1) * window
        sound_FT = marked_FT[:, :hop].copy()
        sound_FT[0] += tail
        sound_FT[1:] += marked_FT[:-1, hop:]
        tail = marked_FT[-1, hop:]
        waiting, first_frame = waiting[count * hop :], first_frame + count
        sound = sound_FT[0 if warm else 1 :].ravel()[:owed].astype(np.float32)
        warm, owed = True, owed - len(sound)
        if len(sound):
            yield sound


def detect(samples: np.ndarray, rate: int, key: str) -> float:
    """How clearly float samples (T,) bear a mark of ``key``, in standard deviations above chance.

    From :data:`THRESHOLD` on there is one. Ten seconds of speech are enough, and often six.
    Raises :class:`InputError` for a rate under 12 kHz.
    """
    hop, pattern_PC = _hop(rate), _pattern(key)
    if len(samples) < 2 * hop:
        return 0.0
    samples = samples / (float(np.sqrt(np.square(samples, dtype=np.float64).mean())) or 1.0)
    best = 0.0
    for shift in (0, hop // 2):
        levels_FC = _levels(samples[shift:], hop)
        for phase in range(_CELL_FRAMES):
            cells_RC = _contrast(levels_FC[phase:])
            spread = math.sqrt(float(np.square(cells_RC).sum())) or 1.0
            for start in range(_ROWS if len(cells_RC) >= _ROWS // 2 else 0):
                rows = (start + np.arange(len(cells_RC))) % _ROWS
                best = max(best, float((cells_RC * pattern_PC[rows]).sum()) / spread)
    return best


def _hop(rate: int) -> int:
    if rate < MIN_RATE:
        raise InputError(f"watermark: a sampling rate of {rate} Hz; at least {MIN_RATE} are needed")
    return round(rate / 50)


def _window(hop: int) -> np.ndarray:
    return np.sin(np.pi * (np.arange(2 * hop) + 0.5) / (2 * hop))  # its square adds to one at half overlap


def _levels(samples: np.ndarray, hop: int) -> np.ndarray:
    """Decibels (F, C) of the columns' magnitudes, frame by frame; NaN at silence, 100 dB below the whole."""
    count = len(samples) // hop - 1
    levels = []
    for start in range(0, max(count, 0), 1000):  # twenty seconds a time
        part = samples[start * hop : (min(start + 1000, count) + 1) * hop]
        frames_FT = np.lib.stride_tricks.sliding_window_view(part, 2 * hop)[::hop] * _window(hop)
        magnitudes_FB = np.abs(np.fft.rfft(frames_FT, axis=1))[
            :, _FIRST_BIN : _FIRST_BIN + _CELL_BINS * _COLUMNS
        ]
        with np.errstate(divide="ignore"):
            decibels = 20 * np.log10(magnitudes_FB.reshape(len(frames_FT), _COLUMNS, _CELL_BINS) / hop)
        decibels[decibels < -100] = np.nan
        levels.append(decibels.mean(axis=2))
    return np.concatenate(levels) if levels else np.zeros((0, _COLUMNS))


def _contrast(levels_FC: np.ndarray) -> np.ndarray:
    """How far each cell (R, C) stands out from its neighbours; 0 at silence.

    Second differences in time and frequency remove onsets and harmonics; loud places count less, and nothing counts
    more than three deviations.
    """
    rows = len(levels_FC) // _CELL_FRAMES
    if rows < 3:
        return np.zeros((0, _COLUMNS))
    cells_RC = levels_FC[: rows * _CELL_FRAMES].reshape(rows, _CELL_FRAMES, _COLUMNS).mean(axis=1)
    padded = np.pad(cells_RC, 1, mode="edge")
    in_time = padded[1:-1] - (padded[:-2] + padded[2:]) / 2
    contrast_RC = np.nan_to_num(in_time[:, 1:-1] - (in_time[:, :-2] + in_time[:, 2:]) / 2)
    by_row = np.sqrt(np.square(contrast_RC).mean(axis=1, keepdims=True)) + 0.3  # decibels
    by_column = np.sqrt(np.square(contrast_RC / by_row).mean(axis=0, keepdims=True)) + 0.1
    weighted_RC = contrast_RC / (by_row**2 * by_column)
    limit = 3 * float(weighted_RC.std())
    return np.clip(weighted_RC, -limit, limit)


def _pattern(key: str) -> np.ndarray:
    """The signs (P, C) of a key's mark."""
    digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).digest()
    random = np.random.Generator(np.random.PCG64(int.from_bytes(digest, "big")))
    return random.choice([-1.0, 1.0], size=(_ROWS, _COLUMNS))
