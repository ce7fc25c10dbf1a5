"""Hard input at the level of the package: what no part's own test has, and the way of each through the whole.

Files of every kind, damaged ones, silence and lengths of single parts are in ``test_audio``, ``test_audio_writer``,
``test_script`` and ``test_asr_output``; the models' refusals in the tests of their pipelines.
"""

from __future__ import annotations

import os
import resource
import struct
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from multiway_core.errors import InputError
from multiway_speech.audio import SoundArray, SoundFile, measure, read
from multiway_speech.audio_writer import SUFFIXES
from multiway_speech.speech_tokenizer.config import SpeechTokenizerConfig
from multiway_speech.speech_tokenizer.model import AcousticTokenizer
from multiway_speech.vibevoice.voices import MAX_SECONDS, encode_voice

RATE = 24_000


def chord(seconds: float, rate: int = RATE) -> np.ndarray:
    """Music, as far as a tokenizer can tell: four notes with overtones that fade."""
    time = np.arange(int(seconds * rate)) / rate
    notes = sum(np.sin(2 * np.pi * f * k * time) / k for f in (220, 277, 330, 440) for k in (1, 2, 3))
    return (0.1 * notes * np.exp(-(time % 0.5) * 3)).astype(np.float32)


@pytest.fixture(scope="module")
def tokenizer() -> AcousticTokenizer:
    torch.manual_seed(0)
    config = SpeechTokenizerConfig(
        latent_size=4, num_filters=2, ratios=(8, 10, 40), depths=(1, 0, 0, 0), layer_scale=0.3
    )
    return AcousticTokenizer(config).eval()


@pytest.mark.parametrize(
    ("rate", "channels", "subtype", "level"),
    [(8_000, 1, "PCM_16", 0.3), (44_100, 2, "FLOAT", 0.3), (48_000, 2, "DOUBLE", 0.001), (24_000, 1, "PCM_24", 40.0)],
    ids=["telephone", "stereo float", "almost silent", "clipped"],
)  # fmt: skip
def test_a_voice_from_any_recording(tokenizer, tmp_path, rate, channels, subtype, level) -> None:
    """Resampled, mixed, brought to one loudness: finite latents, one a frame."""
    wave = np.clip(chord(2.0, rate) * level / 0.3, -1, 1)
    soundfile.write(tmp_path / "v.wav", np.stack([wave] * channels, axis=1), rate, subtype=subtype)
    voice = encode_voice(tokenizer, SoundFile(tmp_path / "v.wav"), "v")
    assert abs(len(voice.latents_FD) - 2 * 7.5) <= 1
    assert torch.isfinite(voice.latents_FD).all()


def test_music_is_a_voice_like_any_other_sound(tokenizer) -> None:
    """Nothing here can tell music from speech, so it is taken; only what has no sound is refused."""
    voice = encode_voice(tokenizer, SoundArray(chord(3.0), RATE, "song.wav"), "song")
    assert torch.isfinite(voice.latents_FD).all()
    for seconds, level, problem in (
        (0.2, 1.0, r"voice song: song\.wav has 0\.2 s of sound; give 1 to 60 s of speech"),
        (2.0, 1e-5, r"voice song: song\.wav is silent"),
    ):
        with pytest.raises(InputError, match=problem):
            encode_voice(tokenizer, SoundArray(chord(seconds) * level, RATE, "song.wav"), "song")


@pytest.fixture(scope="module")
def three_hours(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("long") / "talk.wav"
    with soundfile.SoundFile(path, "w", 8_000, 1, subtype="PCM_U8") as file:
        minute = chord(60, 8_000)
        for _ in range(180):
            file.write(minute)
    return path


def test_three_hours_as_a_voice_are_refused_early(tokenizer, three_hours) -> None:
    taken = 0.0

    class Watched(SoundFile):
        def pieces(self, rate: int, seconds: float = 10.0):
            nonlocal taken
            for piece in super().pieces(rate, seconds):
                taken += len(piece) / rate
                yield piece

    with pytest.raises(InputError, match=r"talk\.wav: longer than 60 s"):
        encode_voice(tokenizer, Watched(three_hours), "talk")
    assert taken <= MAX_SECONDS + 10


def test_three_hours_are_measured_in_constant_memory(three_hours) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # kilobytes
    loudness = measure(SoundFile(three_hours), 8_000)
    assert loudness.num_samples == 180 * 60 * 8_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # the whole would be 345 MB


def wav(
    data: bytes, *, data_size: int | None = None, rate: int = 8_000, channels: int = 1, bits: int = 16
) -> bytes:
    """A WAV file whose header may lie."""
    block = channels * bits // 8 & 0xFFFF
    form = struct.pack("<HHIIHH", 1, channels, rate, rate * block & 0xFFFFFFFF, block, bits)
    size = len(data) if data_size is None else data_size
    head = b"WAVEfmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", size)
    return b"RIFF" + struct.pack("<I", (4 + len(head) + size) & 0xFFFFFFFF) + head + data


SAMPLES = (chord(0.5, 8_000) * 32_767).astype("<i2").tobytes()


@pytest.mark.parametrize("size", [0xFFFFFFFF, 10 * len(SAMPLES)], ids=["a stream's", "cut off"])
def test_a_header_that_promises_more_than_there_is(tmp_path, size) -> None:
    """Recorders that were killed leave such files; what there is can be heard."""
    (tmp_path / "a.wav").write_bytes(wav(SAMPLES, data_size=size))
    assert abs(len(read(SoundFile(tmp_path / "a.wav"), 8_000, max_seconds=9)) - 4_000) <= 1


@pytest.mark.parametrize(
    "content",
    [
        wav(SAMPLES, rate=0),
        wav(SAMPLES, rate=0xFFFFFFFF),
        wav(SAMPLES, channels=0),
        wav(SAMPLES, channels=0xFFFF),
        wav(SAMPLES, bits=0),
        wav(SAMPLES, bits=7),
        wav(b"", data_size=0),
        wav(SAMPLES)[:30],
        b"RIFF\xff\xff\xff\xffWAVE",
        b"\x00" * 100_000,
        b"\xff\xfb" * 1_000,
        b"ID3" + b"\xff" * 1_000,
        b"OggS" + b"\x00" * 1_000,
        b"fLaC" + b"\xff" * 1_000,
        b"\x1aE\xdf\xa3" + b"\xff" * 1_000,
        b"\x00\x00\x00\x18ftypmp42" + b"\x00" * 1_000,
    ],
    ids=["no rate", "huge rate", "no channels", "many channels", "no bits", "odd bits", "no data", "half a header",
         "riff", "zeros", "mp3", "id3", "ogg", "flac", "matroska", "mp4"],
)  # fmt: skip
def test_headers_of_nothing_are_heard_or_refused_in_a_line(tmp_path, content) -> None:
    (tmp_path / "x.bin").write_bytes(content)
    try:
        samples = read(SoundFile(tmp_path / "x.bin"), RATE, max_seconds=600)
    except InputError as error:
        assert str(error).isprintable()  # noqa: PT017 - either outcome is right
        assert "x.bin" in str(error)  # noqa: PT017
    else:
        assert np.isfinite(samples).all()


def test_what_is_no_file_is_refused_without_waiting(tmp_path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    with pytest.raises(InputError, match=r"pipe\.wav"):
        SoundFile(tmp_path / "pipe.wav")
    os.symlink("loop.wav", tmp_path / "loop.wav")  # noqa: PTH211
    with pytest.raises(InputError, match=r"loop\.wav"):
        SoundFile(tmp_path / "loop.wav")


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read everything")
def test_a_file_that_may_not_be_read(tmp_path) -> None:
    soundfile.write(tmp_path / "a.wav", chord(0.1), RATE)
    (tmp_path / "a.wav").chmod(0)
    with pytest.raises(InputError, match=r"a\.wav: .*Permission denied"):
        read(SoundFile(tmp_path / "a.wav"), RATE, max_seconds=1)


DISK_FULL = """
    import resource, sys
    import numpy as np
    from multiway_core.errors import OutputError
    from multiway_speech.audio_writer import AudioWriter
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))  # a file can grow no further: as on a full disk
    noise, written = np.random.default_rng(0), 0
    try:
        with AudioWriter({path!r}, 24_000) as writer:
            for _ in range(400):
                writer.write(0.3 * noise.standard_normal(2400).astype(np.float32))
                written += 1
    except OutputError as error:
        print(written, error)
        sys.exit(2)
"""


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_disk_that_fills_while_streaming(tmp_path, suffix) -> None:
    """One line says so and how much is there; that much can be heard, under a name that says it is not all."""
    path = tmp_path / f"talk{suffix}"
    program = textwrap.dedent(DISK_FULL.format(path=str(path)))
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=100
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr == ""
    written, message = done.stdout.strip().split(" ", 1)
    assert 5 < int(written) < 400
    assert "talk.partial" in message
    assert "\n" not in message
    assert [file.name for file in tmp_path.iterdir()] == [f"talk.partial{suffix}"]
    heard = len(read(SoundFile(tmp_path / f"talk.partial{suffix}"), RATE, max_seconds=60)) / RATE
    promised = float(message.split("the first ")[1].split(" s")[0])
    assert heard > 0.8 * promised - 0.3
    assert heard > 0.5
