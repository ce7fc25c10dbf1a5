"""Recognition and diarization metrics of one recording; all are counts, pooled over recordings.

| score | what counts | by |
| --- | --- | --- |
| ``wer``, ``cer`` | all words (characters) in the order of their starts, whoever said them | jiwer |
| ``cpwer`` | each speaker's words, with the assignment of speakers that gives the fewest errors | meeteval |
| ``tcpwer`` | so too, and a word counts only within a collar of its time | meeteval |
| ``der`` | seconds missed, falsely found or given to another speaker, of all seconds spoken | pyannote.metrics |
| ``exact`` | recordings without any wrong word | |
| ``terms`` | recall of the context terms (``contexts.json``): those found where they are spoken | |
| ``false_terms`` | context terms found where they are not spoken | |

A word's time inside a segment is taken from its characters (meeteval's defaults). Overlapping speech counts in DER.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from multiway_core.evaluation import Ratio
from multiway_core.evaluation.run import MetricFunction
from multiway_speech.result import Segment

from multiway_asr.normalizers import Normalizer, load_normalizer, missing_extra, normalizer_of
from multiway_asr.references import Annotation


@dataclass(frozen=True)
class ScoringOptions:
    """How to score.

    Attributes:
        normalizer: what counts as the same word; None goes by each reference's language.
        collar: seconds that a word may be off in tcpWER.
        der_collar: seconds on each side of a reference turn's ends that do not count in DER.
    """

    normalizer: Normalizer | None = None
    collar: float = 5.0
    der_collar: float = 0.25


@dataclass(frozen=True)
class Hypothesis:
    """A system's annotation of one recording, and its processing time in seconds, where that is known."""

    annotation: Annotation
    seconds: float | None = None


def metrics(scoring: ScoringOptions) -> dict[str, MetricFunction]:
    """Name -> function of :class:`Hypothesis` and reference (:class:`Annotation`). InputError without the extra."""
    try:
        import jiwer
        from meeteval.wer.wer.cp import cp_word_error_rate
        from meeteval.wer.wer.time_constrained import time_constrained_minimum_permutation_word_error_rate
        from pyannote.metrics.diarization import DiarizationErrorRate
    except ImportError as error:
        raise missing_extra(error) from error
    loaded = lru_cache(load_normalizer)
    load_normalizer(scoring.normalizer or "english")
    # pyannote's collar is the width of the whole gap around a boundary.
    diarization = DiarizationErrorRate(collar=2 * scoring.der_collar)

    def normalized(heard: Hypothesis, target: Annotation) -> tuple[list[Segment], list[Segment]]:
        """Both sides' segments, by start, without those that hold no word."""
        normalize = loaded(scoring.normalizer or normalizer_of(target.language))
        return _words(target.words or (), normalize), _words(heard.annotation.words or (), normalize)

    def edits(process: Callable[[str, str], Any], count: Callable[[str], int]) -> MetricFunction:
        def score(heard: Hypothesis, target: Annotation) -> Ratio | None:
            if target.words is None or heard.annotation.words is None:
                return None
            reference, hypothesis = (_joined(side) for side in normalized(heard, target))
            if not reference:
                return Ratio(count(hypothesis), 0)
            found = process(reference, hypothesis)
            return Ratio(found.substitutions + found.deletions + found.insertions, count(reference))

        return score

    def by_speaker(count: Callable[[Any, Any], Any]) -> MetricFunction:
        def score(heard: Hypothesis, target: Annotation) -> Ratio | None:
            if not _has_both(target) or not _has_both(heard.annotation):
                return None
            reference, hypothesis = normalized(heard, target)
            if not reference or not hypothesis:
                length = len(_joined(reference).split())
                return Ratio(length + len(_joined(hypothesis).split()), length)
            found = count(_seglst(reference), _seglst(hypothesis))
            return Ratio(found.errors, found.length)

        return score

    def in_time(reference: Any, hypothesis: Any) -> Any:
        return time_constrained_minimum_permutation_word_error_rate(
            reference, hypothesis, collar=scoring.collar
        )

    def der(heard: Hypothesis, target: Annotation) -> Ratio | None:
        if target.turns is None or heard.annotation.turns is None:
            return None
        ends = [s.end for s in (*target.turns, *heard.annotation.turns)]
        duration = target.duration or heard.annotation.duration or max(ends, default=0.0)
        found = _diarization_errors(diarization, target.turns, heard.annotation.turns, duration)
        return Ratio(found["missed detection"] + found["false alarm"] + found["confusion"], found["total"])

    wer = edits(jiwer.process_words, lambda text: len(text.split()))

    def exact(heard: Hypothesis, target: Annotation) -> float | None:
        errors = wer(heard, target)
        return None if errors is None else float(errors.numerator == 0)  # type: ignore[union-attr]

    def terms(spoken: bool) -> MetricFunction:
        def score(heard: Hypothesis, target: Annotation) -> Ratio | None:
            if not target.terms or target.words is None or heard.annotation.words is None:
                return None
            normalize = loaded(scoring.normalizer or normalizer_of(target.language))
            reference, hypothesis = (f" {_joined(side)} " for side in normalized(heard, target))
            wanted = [
                f" {term} " for term in map(normalize, target.terms) if (f" {term} " in reference) == spoken
            ]
            return Ratio(sum(term in hypothesis for term in wanted), len(wanted))

        return score

    return {
        "wer": wer,
        "cer": edits(jiwer.process_characters, len),
        "cpwer": by_speaker(cp_word_error_rate),
        "tcpwer": by_speaker(in_time),
        "der": der,
        "exact": exact,
        "terms": terms(spoken=True),
        "false_terms": terms(spoken=False),
        "rtf": _real_time_factor,
    }


def texts(heard: Hypothesis, target: Annotation, scoring: ScoringOptions) -> tuple[str, str]:
    """Reference and hypothesis as WER compares them."""
    normalize = load_normalizer(scoring.normalizer or normalizer_of(target.language))
    sides = (_words(annotation.words or (), normalize) for annotation in (target, heard.annotation))
    reference, hypothesis = map(_joined, sides)
    return reference, hypothesis


def _real_time_factor(heard: Hypothesis, target: Annotation) -> Ratio | None:
    duration = heard.annotation.duration or target.duration
    return None if heard.seconds is None or not duration else Ratio(heard.seconds, duration)


def _words(segments: Iterable[Segment], normalize: Callable[[str], str]) -> list[Segment]:
    found = (Segment(s.start, s.end, s.speaker, normalize(s.text)) for s in segments)
    return sorted((s for s in found if s.text), key=lambda s: (s.start, s.end))


def _joined(segments: Iterable[Segment]) -> str:
    return " ".join(s.text for s in segments)


def _has_both(annotation: Annotation) -> bool:
    """Whether speakers and times of the words are known."""
    return annotation.words is not None and annotation.words is annotation.turns


def _seglst(segments: Iterable[Segment]) -> Any:
    """meeteval's segment list; words without a speaker count as those of one more speaker."""
    from meeteval.io import SegLST

    return SegLST(
        [
            {
                "session_id": "recording",
                "speaker": "nobody" if s.speaker is None else f"speaker{s.speaker}",
                "start_time": s.start,
                "end_time": s.end,
                "words": s.text,
            }
            for s in segments
        ]
    )


def _diarization_errors(
    metric: Any, reference: Iterable[Segment], hypothesis: Iterable[Segment], duration: float
) -> dict[str, float]:
    from pyannote.core import Annotation, Timeline
    from pyannote.core import Segment as Span

    def annotation(segments: Iterable[Segment]) -> Any:
        made = Annotation()
        for index, s in enumerate(segments):
            if s.speaker is not None and s.end > s.start:
                made[Span(s.start, s.end), index] = f"speaker{s.speaker}"
        return made

    whole = Timeline([Span(0.0, duration)])
    found = metric.compute_components(annotation(reference), annotation(hypothesis), uem=whole)
    return {name: float(found[name]) for name in ("missed detection", "false alarm", "confusion", "total")}
