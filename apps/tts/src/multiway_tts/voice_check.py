"""Detects whether a recording holds a voice, so that noise, tones and most music are refused.

Speech is voiced (its waveform repeats 70 to 400 times a second) in good part of its loud moments, and its loudness
moves with the syllables, 2 to 8 times a second. Noise does not repeat, music mostly moves slower. A fast melody passes.
``torchaudio.functional.detect_pitch_frequency`` finds a pitch in everything, noise too, and not how clear it is.

Shape suffixes: T samples, F frames (32 ms, every 10 ms).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from multiway_core.errors import InputError
from multiway_speech.audio import SoundFile, read

RATE = 16_000
LONGEST = 60.0
VOICED = 0.6
"""Correlation with itself, a period later, from which a frame is voiced."""
MIN_VOICED = 0.15
"""Share of the loud frames. 53 recordings of speech had 0.30 (a meeting) to 0.84, white and pink noise up to 0.08."""
MIN_RHYTHM = 0.3
"""Power of the envelope at 2 to 8 Hz, where its mean is 1. The same recordings had 0.51 (with music behind the voice)
to 2.0; noise up to 0.13, a tone and organ chords 0, piano chords up to 0.26."""
CLIPPED = 0.01

_SIZE, _HOP = 512, 160


def check_recording(path: Path) -> str | None:
    """A remark on what may spoil the voice, or None. Raises InputError: no voice in it, unreadable, over a minute."""
    samples = read(SoundFile(path), RATE, max_seconds=LONGEST)
    if len(samples) < RATE // 2 or not samples.any():
        return None  # the pipeline says what is wrong
    voiced, rhythm = voice_measures(samples)
    if voiced < MIN_VOICED or rhythm < MIN_RHYTHM:
        what = "sounds like noise" if voiced < MIN_VOICED else "has no rhythm of syllables, like music"
        raise InputError(
            f"{path.name}: no voice is heard in it ({what}); give a recording of one person speaking"
        )
    clipped = float((np.abs(samples) >= 0.999).mean())
    if clipped > CLIPPED:
        return f"{path.name}: {clipped:.0%} of it is clipped; the voice may sound distorted"
    return None


def voice_measures(samples: np.ndarray) -> tuple[float, float]:
    """Share of voiced frames among the loud ones, and the power of the envelope at 2 to 8 Hz.

    ``samples``: float (T,) at 16 kHz.
    """
    window = np.hanning(_SIZE)
    frames_FT = np.lib.stride_tricks.sliding_window_view(samples - samples.mean(), _SIZE)[::_HOP] * window
    power_F = np.square(frames_FT).mean(axis=1)
    loud_F = power_F > np.quantile(power_F, 0.95) * 1e-3
    spectra = np.abs(np.fft.rfft(frames_FT[loud_F], 2 * _SIZE)) ** 2
    correlation_FT = np.fft.irfft(spectra, axis=1)[:, : RATE // 70]
    own = np.fft.irfft(np.abs(np.fft.rfft(window, 2 * _SIZE)) ** 2)[: RATE // 70]
    correlation_FT /= np.maximum(correlation_FT[:, :1], 1e-12) * np.maximum(own / own[0], 1e-3)
    voiced = float((correlation_FT[:, RATE // 400 :].max(axis=1) > VOICED).mean())
    envelope_F = np.sqrt(power_F) / max(float(np.sqrt(power_F).mean()), 1e-12)
    power = np.abs(np.fft.rfft(envelope_F - 1)) ** 2
    rates = np.fft.rfftfreq(len(envelope_F), _HOP / RATE)
    return voiced, float(4 * power[(rates >= 2) & (rates <= 8)].sum() / len(envelope_F) ** 2)
