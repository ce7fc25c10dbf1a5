"""The ``evaluate`` command: texts are spoken and judged; or recordings of them are, by the same judges."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from multiway_core import hub
from multiway_core.errors import DataError, InputError
from multiway_core.evaluation import Ratio, Report, Sample, evaluate
from multiway_core.files import write_text

from multiway_tts import judges
from multiway_tts.casting import Cast, Part
from multiway_tts.items import Item, others, recording_of
from multiway_tts.model import BUNDLED_MODEL, DEFAULT_KEY, load_speaker, speech_options
from multiway_tts.performance import Performance

if TYPE_CHECKING:
    from multiway_tts.model import Speaker

QUICK = (
    "The weather was fine in the morning.",
    "She closed the door and went to the station.",
    "A good book is worth more than a new coat.",
    "They waited for an answer until late in the night.",
)
BUNDLED_JUDGE = "asr-tiny"


@dataclass(frozen=True)
class Study:
    """What to measure and how; the options of the command."""

    model: str = BUNDLED_MODEL
    judge: str | None = None
    language: str = "en"
    reference: Path | None = None
    recordings: Path | None = None
    similarity: bool = False
    mos: bool = False
    output: Path | None = None
    guidance: float | None = None
    steps: int | None = None
    seed: int = 0
    device: str = "auto"
    dtype: str = "auto"


@dataclass(frozen=True)
class Spoken:
    """One text's sound, and what the judges say of it.

    Attributes:
        samples: float32 (T,) at 16 kHz.
        seconds, cpu_seconds: it took to speak; None for a recording.
        complete: whether the model came to its end.
        heard: words, or None without that judge.
        embedding: of the speaker, or None.
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
        return len(self.samples) / judges.RATE


@dataclass(frozen=True)
class _Target:
    item: Item
    voice: str
    other: str | None


class Judges:
    """The judges that a study asks for. Raises InputError: a missing extra, no such model."""

    def __init__(self, study: Study) -> None:
        self.listen = None if study.judge is None else judges.load_listener(study.judge, study.language)
        self.embed = judges.load_embedder() if study.similarity else None
        self.naturalness = judges.load_naturalness() if study.mos else None

    def judge(
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
    items: Sequence[Item], study: Study, *, on_item: Callable[[], None] = lambda: None
) -> Report:
    """Speak or look up every text, judge it, and write what ``study.output`` asks for.

    Raises InputError, DataError (a voice that the model lacks), OutputError.
    """
    if study.reference is not None and not study.reference.is_dir():
        raise InputError(f"--reference {study.reference}: no such folder")
    found = Judges(study)
    speaker = None if study.reference is not None else load_speaker(study.model, study.device, study.dtype)
    voices = _voices(items, speaker)
    known = _known_voices(found, study, speaker, voices)
    samples = [
        Sample(item.name, _Target(item, voice, other), _Target(item, voice, other))
        for item, voice, other in zip(items, voices, others(items, study.seed), strict=True)
    ]
    last: list[Spoken] = []

    def predict(target: _Target) -> Spoken:
        last.clear()
        last.append(_heard(target, found, study, speaker))
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
        _metrics(found, known, spoken=speaker is not None),
        name=f"speech of {study.model if speaker is not None else study.reference}"
        + (f", transcribed by {study.judge}" if study.judge else ""),
        seed=study.seed,
        group=lambda sample: sample.input.voice or "the model's choice",
        on_sample=finished,
    )
    if study.output is not None:
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in report.rows)
        write_text(study.output / "rows.jsonl", lines)
        report.save(study.output)
    return report


def _voices(items: Sequence[Item], speaker: Speaker | None) -> list[str]:
    """Each item's voice: its own, or the model's in turn."""
    known = () if speaker is None else speaker.voices()
    found = []
    for index, item in enumerate(items):
        if item.voice is None:
            found.append(known[index % len(known)] if known else "")
        elif speaker is not None and item.voice not in known:
            raise DataError(
                f"{item.name}: no voice {item.voice!r}; the model has: {', '.join(known) or 'none'}"
            )
        else:
            found.append(item.voice)
    return found


def _heard(target: _Target, found: Judges, study: Study, speaker: Speaker | None) -> Spoken:
    if speaker is None:
        from multiway_speech.audio import SoundFile, read

        assert study.reference is not None
        path = recording_of(target.item, study.reference)
        samples = read(SoundFile(path), judges.RATE, max_seconds=3600)
        return found.judge(samples, seconds=None, cpu_seconds=None, complete=True)
    from multiway_speech.script import Script, Turn, parse_script

    parsed = parse_script(target.item.text)
    script = Script(("Speaker 1",), tuple(Turn(0, turn.text, turn.pause_ms, 1) for turn in parsed.turns))
    voice = speaker.voice(target.voice) if target.voice else None
    cast = Cast((Part("Speaker 1", target.voice, "model"),), {} if voice is None else {"Speaker 1": voice})
    options = speech_options(speaker, seed=study.seed, guidance=study.guidance, steps=study.steps)
    performance = Performance(speaker, script, cast, options, key=DEFAULT_KEY)
    started, cpu = time.perf_counter(), time.process_time()
    pieces = list(performance)
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu
    samples = np.concatenate(pieces) if pieces else np.zeros(0, dtype=np.float32)
    if study.output is not None:
        _keep(
            samples, performance, study.output / "audio" / f"{Path(target.item.name).name}.wav", study.model
        )
    assert performance.speech is not None
    return found.judge(
        judges.at_judges_rate(samples, performance.rate),
        seconds=seconds,
        cpu_seconds=cpu_seconds,
        complete=performance.speech.complete,
    )


def _keep(samples: np.ndarray, performance: Performance, path: Path, model: str) -> None:
    from multiway_speech.recorder import Provenance, record

    path.parent.mkdir(parents=True, exist_ok=True)
    record([samples], path, performance.rate, Provenance.now(model, watermarked=True))


def _known_voices(
    found: Judges, study: Study, speaker: Speaker | None, voices: Sequence[str]
) -> dict[str, np.ndarray]:
    """Embeddings of what the voices should sound like."""
    if found.embed is None:
        return {}
    names = sorted({voice for voice in voices if voice} | set(() if speaker is None else speaker.voices()))
    if study.recordings is not None:
        return judges.voice_embeddings(found.embed, judges.recordings_of(study.recordings, names))
    from multiway_speech.vibevoice.pipeline import TtsPipeline

    if not isinstance(speaker, TtsPipeline):
        raise InputError("--similarity needs --recordings DIR here: what the voices should sound like")
    import torch

    prompts = {}
    with torch.no_grad():
        for name in names:
            latents_1FD = speaker.voice(name).latents_FD[None].to(speaker.model.latent_scale)
            wave = speaker.model.acoustic.decode(latents_1FD)[0, 0].float().cpu().numpy()
            prompts[name] = [judges.at_judges_rate(wave, speaker.sample_rate)]
    return judges.voice_embeddings(found.embed, prompts)


def _metrics(found: Judges, known: dict[str, np.ndarray], *, spoken: bool) -> dict[str, Any]:
    """Name -> function of (Spoken, _Target)."""
    metrics: dict[str, Any] = {}
    if found.listen is not None:
        metrics["wer"] = lambda sound, target: Ratio(*judges.word_errors(sound.heard, target.item.text))
        metrics["cer"] = lambda sound, target: Ratio(*judges.character_errors(sound.heard, target.item.text))
        metrics["wer_of_another_text"] = lambda sound, target: (
            None if target.other is None else Ratio(*judges.word_errors(sound.heard, target.other))
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
    judge = hub.BUNDLED_PREFIX + BUNDLED_JUDGE if BUNDLED_JUDGE in hub.bundled() else None
    items = [Item(f"{index:04}", text) for index, text in enumerate(QUICK, 1)]
    return evaluate_texts(items, Study(judge=judge, device="cpu"))
