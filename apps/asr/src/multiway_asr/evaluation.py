"""The ``evaluate`` command: a listener, or the transcripts of any other system, against references."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from multiway_core.errors import DataError, InputError
from multiway_core.evaluation import Report, Sample, evaluate
from multiway_core.files import write_text
from multiway_speech.result import Transcript

from multiway_asr.accounts import SECONDS_FILE, Account, read_accounts, read_seconds, read_terms
from multiway_asr.listener import BUNDLED_MODEL, SUFFIXES, Hearing, Listener
from multiway_asr.scores import Heard, Scoring, metrics, texts

__all__ = ["Scoring", "evaluate_sets", "quick_evaluation", "write_report"]

EXAMPLES = Path(__file__).resolve().parents[4] / "examples"
"""Of the repository; absent when the app is installed without it."""


@dataclass(frozen=True)
class Listened:
    """One recording's result, for the files of ``--output``."""

    set_name: str
    heard: Heard
    transcript: Transcript | None
    reference: str
    hypothesis: str


def evaluate_sets(
    data: Sequence[Path],
    system: Listener | Path,
    scoring: Scoring,
    *,
    hearing: Hearing | None = None,
    tell_terms: bool = True,
    limit: int | None = None,
    seed: int = 0,
    on_sample: Callable[[dict[str, Any]], None] | None = None,
) -> tuple[Report, dict[str, Listened]]:
    """Score a system on one or several sets.

    Args:
        data: see :func:`multiway_asr.accounts.read_accounts`; recordings lie in the same folder.
        system: who transcribes them, or the folder of finished transcripts (with a folder a set, where there are several).
        hearing: how to transcribe.
        tell_terms: tell each recording's terms (``contexts.json``) before, in place of ``hearing.context``.
        limit: at most so many recordings of each set.

    Returns the report, with a group a set where there are several, and each recording's result by its name in it.
    Raises InputError, DataError; a recording that fails is named in the report.
    """
    scored = metrics(scoring)
    names = [path.name if path.is_dir() else path.stem for path in (path.resolve() for path in data)]
    if len(set(names)) < len(names):
        raise InputError(f"two sets have the same name: {', '.join(names)}")
    many = len(names) > 1
    samples: list[Sample] = []
    for path, name in zip(data, names, strict=True):
        terms = read_terms(path if path.is_dir() else path.parent)
        accounts = [
            replace(account, terms=terms.get(account.name, ()))
            for account in list(read_accounts(path).values())[:limit]
        ]
        audio = _recordings(path) if isinstance(system, Listener) else {}
        hypotheses: dict[str, Account] = {}
        seconds: dict[str, float] = {}
        if isinstance(system, Path):
            folder = system / name if many else system
            hypotheses, seconds = read_accounts(folder), read_seconds(folder)
        for target in accounts:
            if isinstance(system, Listener):
                work: Any = (target, audio.get(target.name) or target.audio)
            else:
                found = hypotheses.get(target.name)
                work = None if found is None else Heard(found, seconds.get(target.name))
            sample_name = f"{name}/{target.name}" if many else target.name
            samples.append(Sample(sample_name, (name, sample_name, work), target))
    hearing = hearing or Hearing()

    def told(target: Account) -> Hearing:
        return replace(hearing, context=", ".join(target.terms)) if tell_terms and target.terms else hearing

    kept: dict[str, tuple[str, Heard, Transcript | None]] = {}

    def predict(given: tuple[str, str, Any]) -> Heard:
        set_name, sample_name, work = given
        if isinstance(system, Path):
            if work is None:
                raise InputError(f"{sample_name}: no transcript of it in {system}")
            heard, transcript = work, None
        else:
            target, path = work
            if path is None:
                raise DataError(f"{sample_name}: no recording of this name beside its reference")
            system.pipeline()  # loading is no part of any recording's time
            started = time.perf_counter()
            transcript = system.transcript(path, told(target))
            heard = Heard(Account.of(transcript, target.name), time.perf_counter() - started)
        kept[sample_name] = (set_name, heard, transcript)
        return heard

    report = evaluate(
        samples,
        predict,
        scored,
        name=f"{system.model if isinstance(system, Listener) else system} on {', '.join(names)}",
        seed=seed,
        group=(lambda sample: sample.input[0]) if many else None,
        on_sample=on_sample,
    )
    targets = {sample.name: sample.target for sample in samples}
    listened = {
        name: Listened(set_name, heard, transcript, *texts(heard, targets[name], scoring))
        for name, (set_name, heard, transcript) in kept.items()
    }
    return report, listened


def write_report(report: Report, listened: dict[str, Listened], folder: Path) -> None:
    """Write ``report.*``, ``recordings.jsonl`` (a row a recording), and what a listener wrote into ``hypotheses/``.

    ``--hypotheses DIR/hypotheses`` scores them again. Raises OutputError.
    """
    report.save(folder)
    lines = []
    for row in report.rows:
        found = listened.get(row["name"])
        more = {} if found is None else {"reference": found.reference, "hypothesis": found.hypothesis}
        lines.append(json.dumps({**row, **more}, ensure_ascii=False) + "\n")
    write_text(folder / "recordings.jsonl", "".join(lines))
    many = bool(report.groups)
    seconds: dict[Path, dict[str, float]] = {}
    for item in listened.values():
        if item.transcript is None or item.heard.seconds is None:
            continue
        target = folder / "hypotheses" / item.set_name if many else folder / "hypotheses"
        name = item.heard.account.name
        write_text(target / f"{name}.json", replace(item.transcript, source=name).dumps())
        seconds.setdefault(target, {})[name] = round(item.heard.seconds, 3)
    for target, values in seconds.items():
        write_text(target / SECONDS_FILE, json.dumps(values, indent=2) + "\n")


def quick_evaluation() -> Report:
    """The bundled model on the repository's example recordings. Raises InputError where they are not there."""
    if not any(EXAMPLES.glob("*.flac")):
        raise InputError("the example recordings are not installed; they lie in the repository")
    listener = Listener(BUNDLED_MODEL, "cpu")
    report, _ = evaluate_sets([EXAMPLES / "speech.stm"], listener, Scoring())
    return report


def _recordings(path: Path) -> dict[str, Path]:
    """Name -> recording in the folder of a set."""
    folder = path if path.is_dir() else path.parent
    found: dict[str, Path] = {}
    for file in sorted(folder.rglob("*")):
        if file.suffix.lower() in SUFFIXES:
            found.setdefault(file.stem, file)
    return found
