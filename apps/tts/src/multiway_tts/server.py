"""The operation behind HTTP and MCP: text in, speech out, in the OpenAI API's form, sent while it is made."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal

from multiway_core.app.serve.operation import Content, Operation, Service, Streamed
from multiway_core.errors import InputError
from pydantic import Field

from multiway_tts.model import DEFAULT_KEY
from multiway_tts.speech_files import SpeakRequest, pcm, prepared

MAX_CHARACTERS = 4096
PCM_RATE = 24_000
_UNKNOWN_LENGTH = 0xFFFFFFFF  # in a WAV header: the data goes on to the end of the stream
_WHOLE = {"flac": ("FLAC", "audio/flac"), "mp3": ("MP3", "audio/mpeg"), "opus": ("OGG", "audio/ogg")}


def speech(
    synthesizer: Any,
    input: Annotated[str, Field(min_length=1, max_length=MAX_CHARACTERS)],
    voice: str = "",
    model: str = "",
    response_format: Literal["wav", "pcm", "flac", "mp3", "opus"] = "mp3",
    speed: Annotated[float, Field(ge=0.5, le=2)] = 1.0,
    seed: int = 0,
) -> Iterator[Any]:
    """Speak a text or a script of several speakers (lines such as ``Speaker 1: words``), with an inaudible mark.

    ``voice``: of the first speaker; one of the model's, its first if empty. wav (at the model's rate) and pcm (24 kHz,
    which clients of the OpenAI API take for granted; both 16 bit, mono) are sent while they are made. ``speed``
    changes the tempo, not the pitch.
    """
    import numpy as np

    # Names only: in the command a voice may be a file, and files of this machine are nobody's on the network.
    if voice and voice not in synthesizer.voices():
        known = ", ".join(synthesizer.voices()) or "none"
        raise InputError(f"voice {voice!r}: the model's voices are: {known}")
    chosen = (f"1={voice}",) if voice else ()
    synthesis = prepared(
        input,
        synthesizer,
        SpeakRequest(None, True, (), voices=chosen, key=DEFAULT_KEY, seed=seed, speed=speed),
    )
    if response_format == "pcm":
        yield Streamed(f"audio/pcm; rate={PCM_RATE}")
        yield from _resampled(synthesis, synthesis.rate)
        return
    if response_format == "wav":
        for number, piece in enumerate(synthesis):
            if not number:
                yield Streamed("audio/wav")
                yield _wav_header(synthesis.rate)
            yield pcm(piece)
        return
    import soundfile

    pieces = []
    for piece in synthesis:
        pieces.append(piece)
        yield None  # a client that left ends the work here
    container, media_type = _WHOLE[response_format]
    sound = io.BytesIO()
    subtype = "OPUS" if response_format == "opus" else None
    samples = np.clip(np.concatenate(pieces), -1, 1)
    soundfile.write(sound, samples, synthesis.rate, format=container, subtype=subtype)
    yield Content(sound.getvalue(), media_type)


def _resampled(pieces: Iterable[Any], rate: int) -> Iterator[bytes]:
    """16-bit samples at :data:`PCM_RATE` of pieces of float samples at ``rate``."""
    import av
    import numpy as np

    resampler = av.AudioResampler(format="s16", layout="mono", rate=PCM_RATE)
    for piece in pieces:
        samples = np.clip(np.asarray(piece, np.float32), -1, 1)[None]
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="flt", layout="mono")
        frame.sample_rate = rate
        yield from (part.to_ndarray().tobytes() for part in resampler.resample(frame))
    yield from (part.to_ndarray().tobytes() for part in resampler.resample(None))


def _wav_header(rate: int) -> bytes:
    """Of mono 16-bit sound whose length nobody knows yet."""

    def number(value: int, size: int) -> bytes:
        return value.to_bytes(size, "little")

    form = number(1, 2) + number(1, 2) + number(rate, 4) + number(2 * rate, 4) + number(2, 2) + number(16, 2)
    end = number(_UNKNOWN_LENGTH, 4)
    return b"RIFF" + end + b"WAVEfmt " + number(16, 4) + form + b"data" + end


_MEDIA_TYPES = ("audio/wav", "audio/pcm", *(media_type for _, media_type in _WHOLE.values()))
SERVICE = Service(operations=(Operation("/v1/audio/speech", speech, media_types=_MEDIA_TYPES),))
