"""The ``evaluate`` command: a transcriber, or the transcripts of any other system, against references."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from multiway_core.app import ModelOptions
from multiway_core.errors import DataError, InputError
from multiway_core.evaluation import Report, Sample, evaluate
from multiway_core.files import write_text
from multiway_speech.result import Transcript

from multiway_asr.metrics import Hypothesis, ScoringOptions, metrics, texts
from multiway_asr.references import SECONDS_FILE, Annotation, read_annotations, read_seconds, read_terms
from multiway_asr.transcriber import SUFFIXES, TranscribeOptions, Transcriber

__all__ = ["ScoringOptions", "evaluate_sets", "quick_evaluation", "write_report"]

EXAMPLES = Path(__file__).resolve().parents[4] / "examples"
"""Of the repository; absent when the app is installed without it."""


@dataclass(frozen=True)
class Case:
    """One recording of a set: its audio, or another system's hypothesis."""

    set_name: str
    name: str
    target: Annotation
    audio: Path | None = None
    heard: Hypothesis | None = None


@dataclass(frozen=True)
class ScoredRecording:
    """One recording's result, for the files of ``--output``."""

    case: Case
    heard: Hypothesis
    transcript: Transcript | None
    reference: str
    hypothesis: str


def evaluate_sets(
    data: Sequence[Path],
    system: Transcriber | Path,
    scoring: ScoringOptions,
    *,
    options: TranscribeOptions | None = None,
    use_terms: bool = True,
    limit: int | None = None,
    seed: int = 0,
    on_sample: Callable[[dict[str, Any]], None] | None = None,
) -> tuple[Report, dict[str, ScoredRecording]]:
    """Score a system on one or several sets.

    Args:
        data: see :func:`multiway_asr.references.read_annotations`; recordings lie in the same folder.
        system: who transcribes them, or the folder of finished transcripts (of several sets: a folder each).
        options: how to transcribe.
        use_terms: each recording's terms (``contexts.json``) are its context, in place of ``options.context``.
        limit: at most so many recordings of each set.

    Returns the report, with a group a set where there are several, and each recording's result by its name in it.
    Raises InputError, DataError; a recording that fails is named in the report.
    """
    metric_functions = metrics(scoring)
    names = [path.name if path.is_dir() else path.stem for path in (path.resolve() for path in data)]
    if len(set(names)) < len(names):
        raise InputError(f"two sets have the same name: {', '.join(names)}")
    many = len(names) > 1
    samples = [
        Sample(f"{name}/{case.name}" if many else case.name, case, case.target)
        for path, name in zip(data, names, strict=True)
        for case in _cases(path, name, system, many=many, limit=limit)
    ]
    kept: dict[Case, tuple[Hypothesis, Transcript | None]] = {}

    def predict(case: Case) -> Hypothesis:
        if isinstance(system, Path):
            if case.heard is None:
                raise InputError(f"{case.name}: no transcript of it in {system}")
            kept[case] = (case.heard, None)
        else:
            chosen = options or TranscribeOptions()
            if use_terms and case.target.terms:
                chosen = replace(chosen, context=", ".join(case.target.terms))
            kept[case] = _transcribe(case, system, chosen)
        return kept[case][0]

    report = evaluate(
        samples,
        predict,
        metric_functions,
        name=f"{system.model if isinstance(system, Transcriber) else system} on {', '.join(names)}",
        seed=seed,
        group=(lambda sample: sample.input.set_name) if many else None,
        on_sample=on_sample,
    )
    scored = {
        sample.name: ScoredRecording(
            sample.input, *kept[sample.input], *texts(kept[sample.input][0], sample.target, scoring)
        )
        for sample in samples
        if sample.input in kept
    }
    return report, scored


def _cases(
    path: Path, set_name: str, system: Transcriber | Path, *, many: bool, limit: int | None
) -> list[Case]:
    """The recordings of one set."""
    terms = read_terms(path if path.is_dir() else path.parent)
    targets = [
        replace(annotation, terms=terms.get(name, ()))
        for name, annotation in list(read_annotations(path).items())[:limit]
    ]
    if isinstance(system, Transcriber):
        audio = _recordings(path)
        return [Case(set_name, t.name, t, audio=audio.get(t.name) or t.audio) for t in targets]
    folder = system / set_name if many else system
    hypotheses, seconds = read_annotations(folder), read_seconds(folder)
    return [
        Case(
            set_name,
            t.name,
            t,
            heard=Hypothesis(hypotheses[t.name], seconds.get(t.name)) if t.name in hypotheses else None,
        )
        for t in targets
    ]


def _recordings(path: Path) -> dict[str, Path]:
    """Name -> recording in the folder of a set."""
    folder = path if path.is_dir() else path.parent
    found: dict[str, Path] = {}
    for file in sorted(folder.rglob("*")):
        if file.suffix.lower() in SUFFIXES:
            found.setdefault(file.stem, file)
    return found


def _transcribe(
    case: Case, transcriber: Transcriber, options: TranscribeOptions
) -> tuple[Hypothesis, Transcript]:
    """Transcribe one recording. Raises DataError if there is none, InputError if it cannot be."""
    if case.audio is None:
        raise DataError(f"{case.name}: no recording of this name beside its reference")
    transcriber.pipeline()  # loading is no part of any recording's time
    started = time.perf_counter()
    transcript = transcriber.transcript(case.audio, options)
    return Hypothesis(Annotation.of(transcript, case.name), time.perf_counter() - started), transcript


def write_report(report: Report, scored: dict[str, ScoredRecording], folder: Path) -> None:
    """Write ``report.*``, ``recordings.jsonl`` (a row a recording), and what a transcriber wrote into ``hypotheses/``.

    ``--hypotheses DIR/hypotheses`` scores them again. Raises OutputError.
    """
    report.save(folder)
    lines = []
    for row in report.rows:
        found = scored.get(row["name"])
        more = {} if found is None else {"reference": found.reference, "hypothesis": found.hypothesis}
        lines.append(json.dumps({**row, **more}, ensure_ascii=False) + "\n")
    write_text(folder / "recordings.jsonl", "".join(lines))
    many = bool(report.groups)
    seconds: dict[Path, dict[str, float]] = {}
    for item in scored.values():
        if item.transcript is None or item.heard.seconds is None:
            continue
        target = folder / "hypotheses" / item.case.set_name if many else folder / "hypotheses"
        write_text(target / f"{item.case.name}.json", item.transcript.dumps())
        seconds.setdefault(target, {})[item.case.name] = round(item.heard.seconds, 3)
    for target, values in seconds.items():
        write_text(target / SECONDS_FILE, json.dumps(values, indent=2) + "\n")


def quick_evaluation() -> Report:
    """The bundled model on the repository's example recordings. Raises InputError where they are not there."""
    if not any(EXAMPLES.glob("*.flac")):
        raise InputError("the example recordings are not installed; they lie in the repository")
    transcriber = Transcriber(ModelOptions(device="cpu"))
    report, _ = evaluate_sets([EXAMPLES / "speech.stm"], transcriber, ScoringOptions())
    return report
