"""Another tempo at the same pitch."""

from __future__ import annotations

import numpy as np
import pytest
from multiway_speech.tempo import Tempo


@pytest.mark.parametrize("speed", [0.5, 0.8, 1.3, 2.0])
def test_length_changes_and_pitch_does_not(speed: float) -> None:
    rate = 16_000
    sound = np.sin(2 * np.pi * 220 * np.arange(2 * rate) / rate).astype(np.float32)
    tempo = Tempo(rate, speed)
    pieces = [tempo.feed(piece) for piece in np.array_split(sound, 17)]
    changed = np.concatenate([*pieces, tempo.finish()])
    assert len(changed) == pytest.approx(len(sound) / speed, rel=0.05)
    spectrum = np.abs(np.fft.rfft(changed[: rate // 2]))
    assert np.argmax(spectrum) * 2 == pytest.approx(220, abs=4)


def test_own_speed_changes_nothing_and_nothing_gives_nothing() -> None:
    sound = np.linspace(-1, 1, 100, dtype=np.float32)
    tempo = Tempo(16_000, 1.0)
    assert np.array_equal(tempo.feed(sound), sound)
    assert len(tempo.finish()) == 0
    assert len(Tempo(16_000, 1.5).finish()) == 0
