"""The mark is found, survives what happens to sound, changes little, and is not found where it is not."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from multiway_core.errors import InputError
from multiway_speech.audio import SoundArray, SoundFile, read
from multiway_speech.watermark import THRESHOLD, detect, embed

RATE = 24_000
LJSPEECH = Path(__file__).parents[3].parent / "shared/data/speech/ljspeech"


def speech_like(seconds: float, seed: int = 0, rate: int = RATE) -> np.ndarray:
    """Syllables of a wandering pitch with formants, breath and pauses."""
    random = np.random.default_rng(seed)
    parts = []
    while sum(map(len, parts)) < seconds * rate:
        length = int(rate * random.uniform(0.08, 0.3))
        time = np.arange(length) / rate
        pitch = random.uniform(90, 220) * (1 + 0.1 * np.sin(2 * np.pi * 3 * time))
        formants = random.uniform([300, 900, 2200, 3300], [800, 2000, 3000, 4500])
        sound = 0.02 * random.normal(size=length)
        phase = 2 * np.pi * np.cumsum(pitch) / rate
        for harmonic in range(1, 40):
            frequency = harmonic * pitch.mean()
            level = sum(1 / (1 + ((frequency - f) / 120) ** 2) for f in formants) / harmonic**0.3
            sound += level * np.sin(harmonic * phase)
        parts.append(sound * np.hanning(length) * random.uniform(0.05, 0.12))
        if random.random() < 0.25:
            parts.append(np.zeros(int(rate * random.uniform(0.05, 0.3))))
    return np.concatenate(parts)[: int(seconds * rate)].astype(np.float32)


def marked(sound: np.ndarray, piece: int = 3200, key: str = "key", rate: int = RATE) -> np.ndarray:
    pieces = (sound[start : start + piece] for start in range(0, len(sound), piece))
    return np.concatenate(list(embed(pieces, rate, key)))


@pytest.fixture(scope="module")
def sound() -> np.ndarray:
    return speech_like(40)


@pytest.fixture(scope="module")
def mark(sound) -> np.ndarray:
    return marked(sound)


def test_found_and_only_with_its_key(sound, mark) -> None:
    assert detect(mark, RATE, "key") > THRESHOLD + 3
    scores = [detect(version, RATE, f"other {i}") for version in (sound, mark) for i in range(4)]
    assert max(*scores, detect(sound, RATE, "key")) < THRESHOLD - 1


def test_small_and_of_the_same_length_in_any_pieces(sound, mark) -> None:
    assert mark.shape == sound.shape
    ratio = 10 * np.log10(np.square(mark - sound).sum() / np.square(sound).sum())
    assert ratio < -20
    for piece in (77, 50_000):
        np.testing.assert_allclose(marked(sound[:RATE], piece), marked(sound[:RATE]), atol=1e-6)
    for length in (0, 1, 479, 480, 481, 960):
        assert sum(len(p) for p in embed([sound[:length]], RATE, "key")) == length
    assert not marked(np.zeros(RATE, dtype=np.float32)).any()


def test_survives_what_happens_to_sound(sound, mark, tmp_path) -> None:
    soundfile.write(tmp_path / "a.mp3", mark, RATE, subtype="MPEG_LAYER_III")
    with av.open(str(tmp_path / "a.m4a"), "w") as container:
        stream = container.add_stream("aac", rate=RATE)
        stream.bit_rate = 48_000
        frame = av.AudioFrame.from_ndarray(mark[None], "fltp", "mono")
        frame.sample_rate = RATE
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    noise = np.random.default_rng(1).normal(size=len(mark)).astype(np.float32)
    changed = {
        "cut": mark[12_345:],
        "mp3": read(SoundFile(tmp_path / "a.mp3"), RATE, max_seconds=99),
        "aac": read(SoundFile(tmp_path / "a.m4a"), RATE, max_seconds=99),
        "16 kHz": read(
            SoundArray(read(SoundArray(mark, RATE), 16_000, max_seconds=99), 16_000), RATE, max_seconds=99
        ),
        "quieter": 0.1 * mark,
        "16 bits": np.round(mark * 32_767) / 32_767,
        "noise of 40 dB": mark + noise * np.sqrt(np.square(mark).mean()) * 10 ** (-40 / 20),
    }
    scores = {name: detect(version, RATE, "key") for name, version in changed.items()}
    assert all(score > THRESHOLD for score in scores.values()), scores


def test_other_rates_and_wrong_ones(sound) -> None:
    slow = speech_like(25, rate=16_000)
    assert detect(marked(slow, rate=16_000), 16_000, "key") > THRESHOLD
    with pytest.raises(InputError, match="8000 Hz"):
        detect(sound, 8_000, "key")
    with pytest.raises(InputError, match="8000 Hz"):
        list(embed([sound], 8_000, "key"))
    assert detect(sound[:100], RATE, "key") == 0


@pytest.mark.shared_data
@pytest.mark.skipif(not LJSPEECH.is_dir(), reason="needs ../shared/data")
def test_ten_seconds_of_real_speech() -> None:
    """Ten parts of LJSpeech: the mark is in every marked one and in no other; it is 34 dB below the speech."""
    clips = [read(SoundFile(path), RATE, max_seconds=60) for path in sorted(LJSPEECH.glob("*.flac"))[:16]]
    speech = np.concatenate(clips)
    mark = marked(speech)
    assert 10 * np.log10(np.square(mark - speech).sum() / np.square(speech).sum()) < -34
    for start in range(0, 100 * RATE, 10 * RATE):
        assert detect(mark[start : start + 10 * RATE], RATE, "key") > THRESHOLD
        assert detect(speech[start : start + 10 * RATE], RATE, "key") < THRESHOLD - 1
