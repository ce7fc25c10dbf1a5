"""Speech on its way to a file: every format can be read back, also what was cut off, and says where it comes from."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap

import av
import numpy as np
import pytest
from multiway_core.errors import InputError, OutputError
from multiway_speech.audio import SoundFile, read
from multiway_speech.audio_writer import STATEMENT, SUFFIXES, AudioWriter, Provenance, write_audio

RATE = 24_000
ORIGIN = Provenance("tiny", "2026-11-26T03:00:00Z", watermarked=True)


def tone(seconds: float = 1.0) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * 440 * np.arange(round(RATE * seconds)) / RATE)).astype(np.float32)


def comment(path) -> str:
    with av.open(str(path)) as container:
        found = {**container.metadata, **container.streams.audio[0].metadata}
    return found.get("comment", "")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_pieces_become_a_file_that_says_where_it_comes_from(tmp_path, suffix) -> None:
    pieces = np.split(tone(), [1, 100, 3300, 3300, 20_000])
    path = write_audio(pieces, tmp_path / f"talk{suffix}", RATE, ORIGIN)
    assert [file.name for file in tmp_path.iterdir()] == [f"talk{suffix}"]
    heard = read(SoundFile(path), RATE, max_seconds=5)
    assert abs(len(heard) - RATE) < (10 if suffix in (".wav", ".flac") else 3000)
    spectrum = np.abs(np.fft.rfft(heard[: RATE // 2]))
    assert spectrum.argmax() == pytest.approx(220, abs=1)
    assert comment(path) == f"{STATEMENT} Model: tiny; created: 2026-11-26T03:00:00Z; watermarked"
    if suffix in (".wav", ".flac"):
        np.testing.assert_allclose(heard[:RATE], tone(), atol=2e-4)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_stops_early_is_kept_and_called_partial(tmp_path, suffix) -> None:
    def speech():
        yield from np.split(tone(2.0), 20)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_audio(speech(), tmp_path / f"talk{suffix}", RATE)
    assert [file.name for file in tmp_path.iterdir()] == [f"talk.partial{suffix}"]
    heard = read(SoundFile(tmp_path / f"talk.partial{suffix}"), RATE, max_seconds=5)
    assert abs(len(heard) - 2 * RATE) < 3000


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".mp3"])
def test_a_killed_process_leaves_a_file_that_can_be_heard(tmp_path, suffix) -> None:
    program = f"""
        import os, signal, numpy as np
        from multiway_speech.audio_writer import AudioWriter
        writer = AudioWriter({str(tmp_path / ("talk" + suffix))!r}, 24000)
        for _ in range(30):
            writer.write(0.1 * np.random.default_rng(0).standard_normal(2400).astype(np.float32))
        os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=False)
    assert done.returncode == -signal.SIGKILL
    heard = read(SoundFile(tmp_path / f"talk.partial{suffix}"), RATE, max_seconds=5)
    assert len(heard) >= 2 * RATE


def test_bad_samples_are_bounded(tmp_path) -> None:
    path = write_audio([np.array([np.nan, 2.0, -7.0, np.inf, 0.5])], tmp_path / "talk.wav", RATE)
    np.testing.assert_allclose(read(SoundFile(path), RATE, max_seconds=1), [0, 1, -1, 1, 0.5], atol=1e-4)


def test_nothing_spoken_is_still_a_wav_file(tmp_path) -> None:
    assert write_audio([], tmp_path / "talk.wav", RATE, ORIGIN).stat().st_size > 44


def test_where_it_cannot_write_it_says_so(tmp_path) -> None:
    with pytest.raises(InputError, match=r"cannot write \.aac; use \.wav, \.flac"):
        AudioWriter(tmp_path / "talk.aac", RATE)
    with pytest.raises(InputError, match="no sampling rate of 22050"):
        AudioWriter(tmp_path / "talk.opus", 22_050)
    for suffix in (".wav", ".mp3"):
        with pytest.raises(OutputError, match="No such file or directory"):
            AudioWriter(tmp_path / "absent" / f"talk{suffix}", RATE)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")  # noqa: PTH110
def test_a_full_disk_is_one_line(tmp_path) -> None:
    os.symlink("/dev/full", tmp_path / "talk.partial.wav")  # noqa: PTH211
    with pytest.raises(OutputError, match="No space left"):
        write_audio([tone()], tmp_path / "talk.wav", RATE)
