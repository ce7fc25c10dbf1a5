"""The ``evaluate`` command: synthesize texts, or take recordings of them, and score both alike."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from multiway_core import hub
from multiway_core.app import ModelOptions, load_pipeline
from multiway_core.errors import DataError, InputError
from multiway_core.evaluation import Ratio, Report, Sample, evaluate
from multiway_core.files import write_text

from multiway_tts import scorers
from multiway_tts.app import APP
from multiway_tts.model import DEFAULT_KEY, speech_options
from multiway_tts.synthesis import Synthesis
from multiway_tts.texts import TextItem, recording_of, shuffled_texts
from multiway_tts.voice_assignment import SpeakerVoice, VoiceAssignment

if TYPE_CHECKING:
    from multiway_tts.model import Synthesizer

QUICK = (
    "The weather was fine in the morning.",
    "She closed the door and went to the station.",
    "A good book is worth more than a new coat.",
    "They waited for an answer until late in the night.",
)
BUNDLED_RECOGNIZER = "asr-tiny"


@dataclass(frozen=True)
class EvaluationOptions:
    """What to measure and how; the options of the command."""

    model: ModelOptions = field(default_factory=ModelOptions)
    recognizer: str | None = None
    language: str = "en"
    reference: Path | None = None
    recordings: Path | None = None
    similarity: bool = False
    mos: bool = False
    output: Path | None = None
    guidance: float | None = None
    steps: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class Spoken:
    """One text's sound, and what the scorers say of it.

    Attributes:
        samples: float32 (T,) at 16 kHz.
        seconds, cpu_seconds: of the synthesis; None for a recording.
        complete: whether the model finished.
        heard: the recognizer's transcript, or None without one.
        embedding: of the synthesizer, or None.
        mos: or None.
    """

    samples: np.ndarray
    seconds: float | None
    cpu_seconds: float | None
    complete: bool
    heard: str | None
    embedding: np.ndarray | None
    mos: float | None

    @property
    def duration(self) -> float:
        """Seconds of sound."""
        return len(self.samples) / scorers.RATE


@dataclass(frozen=True)
class _Target:
    item: TextItem
    voice: str
    other: str | None


class Scorers:
    """The scorers that the options ask for. Raises InputError: a missing extra, no such model."""

    def __init__(self, options: EvaluationOptions) -> None:
        self.listen = (
            None
            if options.recognizer is None
            else scorers.load_recognizer(options.recognizer, options.language)
        )
        self.embed = scorers.load_embedder() if options.similarity else None
        self.naturalness = scorers.load_naturalness() if options.mos else None

    def score(
        self, samples: np.ndarray, *, seconds: float | None, cpu_seconds: float | None, complete: bool
    ) -> Spoken:
        """All of them on one sound at 16 kHz."""
        if not len(samples):
            return Spoken(
                samples, seconds, cpu_seconds, complete, None if self.listen is None else "", None, None
            )
        return Spoken(
            samples,
            seconds,
            cpu_seconds,
            complete,
            None if self.listen is None else self.listen(samples),
            None if self.embed is None else self.embed(samples),
            None if self.naturalness is None else self.naturalness(samples),
        )


def evaluate_texts(
    items: Sequence[TextItem], options: EvaluationOptions, *, on_item: Callable[[], None] = lambda: None
) -> Report:
    """Synthesize every text, or read its recording, score it, and write what ``options.output`` asks for.

    Raises InputError, DataError (a voice that the model lacks), OutputError.
    """
    if options.reference is not None and not options.reference.is_dir():
        raise InputError(f"--reference {options.reference}: no such folder")
    found = Scorers(options)
    synthesizer = None if options.reference is not None else load_pipeline(APP, options.model)
    voices = _voices(items, synthesizer)
    known = _known_voices(found, options, synthesizer, voices)
    samples = [
        Sample(item.name, _Target(item, voice, other), _Target(item, voice, other))
        for item, voice, other in zip(items, voices, shuffled_texts(items, options.seed), strict=True)
    ]
    last: list[Spoken] = []

    def predict(target: _Target) -> Spoken:
        last.clear()
        last.append(_heard(target, found, options, synthesizer))
        return last[0]

    def finished(row: dict[str, Any]) -> None:
        spoken = last[0] if last and "error" not in row else None
        index = len(rows)
        rows.append(row)
        row |= {"text": items[index].text, "voice": voices[index]}
        if spoken is not None:
            row |= {"duration": round(spoken.duration, 3), "heard": spoken.heard}
        on_item()

    rows: list[dict[str, Any]] = []
    report = evaluate(
        samples,
        predict,
        _metrics(found, known, spoken=synthesizer is not None),
        name=f"speech of {synthesizer.name if synthesizer is not None else options.reference}"
        + (f", transcribed by {options.recognizer}" if options.recognizer else ""),
        seed=options.seed,
        group=lambda sample: sample.input.voice or "the model's choice",
        on_sample=finished,
    )
    if options.output is not None:
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in report.rows)
        write_text(options.output / "rows.jsonl", lines)
        report.save(options.output)
    return report


def _voices(items: Sequence[TextItem], synthesizer: Synthesizer | None) -> list[str]:
    """Each item's voice: its own, or the model's voices round-robin."""
    known = () if synthesizer is None else synthesizer.voices()
    found = []
    for index, item in enumerate(items):
        if item.voice is None:
            found.append(known[index % len(known)] if known else "")
        elif synthesizer is not None and item.voice not in known:
            raise DataError(
                f"{item.name}: no voice {item.voice!r}; the model has: {', '.join(known) or 'none'}"
            )
        else:
            found.append(item.voice)
    return found


def _heard(
    target: _Target, found: Scorers, options: EvaluationOptions, synthesizer: Synthesizer | None
) -> Spoken:
    if synthesizer is None:
        from multiway_speech.audio import SoundFile, read

        assert options.reference is not None
        path = recording_of(target.item, options.reference)
        samples = read(SoundFile(path), scorers.RATE, max_seconds=3600)
        return found.score(samples, seconds=None, cpu_seconds=None, complete=True)
    from multiway_speech.script import Script, Turn, parse_script

    parsed = parse_script(target.item.text)
    script = Script(("Speaker 1",), tuple(Turn(0, turn.text, turn.pause_ms, 1) for turn in parsed.turns))
    voice = synthesizer.voice(target.voice) if target.voice else None
    cast = VoiceAssignment(
        (SpeakerVoice("Speaker 1", target.voice, "model"),), {} if voice is None else {"Speaker 1": voice}
    )
    generation = speech_options(
        synthesizer, seed=options.seed, guidance=options.guidance, steps=options.steps
    )
    synthesis = Synthesis(synthesizer, script, cast, generation, key=DEFAULT_KEY)
    started, cpu = time.perf_counter(), time.process_time()
    pieces = list(synthesis)
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu
    samples = np.concatenate(pieces) if pieces else np.zeros(0, dtype=np.float32)
    if options.output is not None:
        _keep(
            samples,
            synthesis,
            options.output / "audio" / f"{Path(target.item.name).name}.wav",
            synthesizer.name,
        )
    assert synthesis.speech is not None
    return found.score(
        scorers.resampled(samples, synthesis.rate),
        seconds=seconds,
        cpu_seconds=cpu_seconds,
        complete=synthesis.speech.complete,
    )


def _keep(samples: np.ndarray, synthesis: Synthesis, path: Path, model: str) -> None:
    from multiway_speech.audio_writer import Provenance, write_audio

    path.parent.mkdir(parents=True, exist_ok=True)
    write_audio([samples], path, synthesis.rate, Provenance.now(model, watermarked=True))


def _known_voices(
    found: Scorers, options: EvaluationOptions, synthesizer: Synthesizer | None, voices: Sequence[str]
) -> dict[str, np.ndarray]:
    """Embeddings of what the voices should sound like."""
    if found.embed is None:
        return {}
    names = sorted(
        {voice for voice in voices if voice} | set(() if synthesizer is None else synthesizer.voices())
    )
    if options.recordings is not None:
        return scorers.voice_embeddings(found.embed, scorers.recordings_of(options.recordings, names))
    from multiway_speech.vibevoice.pipeline import TtsPipeline

    if not isinstance(synthesizer, TtsPipeline):
        raise InputError("--similarity needs --recordings DIR here: what the voices should sound like")
    import torch

    prompts = {}
    with torch.no_grad():
        for name in names:
            latents_1FD = synthesizer.voice(name).latents_FD[None].to(synthesizer.model.latent_scale)
            wave = synthesizer.model.acoustic.decode(latents_1FD)[0, 0].float().cpu().numpy()
            prompts[name] = [scorers.resampled(wave, synthesizer.sample_rate)]
    return scorers.voice_embeddings(found.embed, prompts)


def _metrics(found: Scorers, known: dict[str, np.ndarray], *, spoken: bool) -> dict[str, Any]:
    """Name -> function of (Spoken, _Target)."""
    metrics: dict[str, Any] = {}
    if found.listen is not None:
        metrics["wer"] = lambda sound, target: Ratio(*scorers.word_errors(sound.heard, target.item.text))
        metrics["cer"] = lambda sound, target: Ratio(*scorers.character_errors(sound.heard, target.item.text))
        metrics["wer_shuffled"] = lambda sound, target: (
            None if target.other is None else Ratio(*scorers.word_errors(sound.heard, target.other))
        )
    if known:
        metrics["speaker_cosine"] = lambda sound, target: _cosine(sound, target, known)
        metrics["speaker_identified"] = lambda sound, target: _identified(sound, target, known)
    if found.naturalness is not None:
        metrics["mos"] = lambda sound, target: sound.mos
    if spoken:
        metrics["unfinished"] = lambda sound, target: float(not sound.complete)
        metrics["rtf"] = lambda sound, target: Ratio(sound.seconds, sound.duration)
        metrics["cpu_rtf"] = lambda sound, target: Ratio(sound.cpu_seconds, sound.duration)
    metrics["duration"] = lambda sound, target: sound.duration
    return metrics


def _cosine(sound: Spoken, target: _Target, known: dict[str, np.ndarray]) -> float | None:
    if sound.embedding is None or target.voice not in known:
        return None
    return float(sound.embedding @ known[target.voice] / np.linalg.norm(sound.embedding))


def _identified(sound: Spoken, target: _Target, known: dict[str, np.ndarray]) -> float | None:
    if sound.embedding is None or target.voice not in known or len(known) < 2:
        return None
    embedding = sound.embedding
    return float(max(known, key=lambda name: float(embedding @ known[name])) == target.voice)


def quick_evaluation() -> Report:
    """Four sentences of the bundled model, transcribed by the bundled recognizer: nothing else has to be installed.

    Its word error rate counts the recognizer's errors too, so it is worse than a large recognizer's on the same speech.
    """
    recognizer = hub.BUNDLED_PREFIX + BUNDLED_RECOGNIZER if BUNDLED_RECOGNIZER in hub.bundled() else None
    items = [TextItem(f"{index:04}", text) for index, text in enumerate(QUICK, 1)]
    return evaluate_texts(items, EvaluationOptions(ModelOptions(device="cpu"), recognizer=recognizer))
