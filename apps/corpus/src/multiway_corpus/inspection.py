"""What every stage makes of one page."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from multiway_core.errors import InputError
from multiway_text.redstone.document_rules import RULES, Rule
from multiway_text.redstone.line_rules import violation
from multiway_text.redstone.pipeline import Pipeline, Recipe
from multiway_text.redstone.record import Record
from multiway_text.redstone.sentences import split_sentences
from multiway_text.redstone.shards import read_input
from multiway_text.redstone.storage import read_records

from multiway_corpus.building import REPORT


@dataclass(frozen=True)
class Value:
    """A document rule on a page."""

    rule: str
    value: float
    minimum: float
    maximum: float

    @property
    def keeps(self) -> bool:
        return self.minimum <= self.value <= self.maximum


@dataclass(frozen=True)
class Inspection:
    """A page behind its stages.

    Attributes:
        stages: (name, what it found) of each stage that the page reached.
        values: of the document rules, where the page reached them.
        sentences: (sentence, the line rule that it breaks, or empty) of the extracted text.
    """

    record: Record
    stages: tuple[tuple[str, str], ...]
    values: tuple[Value, ...]
    sentences: tuple[tuple[str, str], ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": "multiway.corpus.inspection/1",
            "id": self.record.id,
            "uri": self.record.uri,
            "drop_reason": self.record.drop_reason,
            "stages": [{"name": name, "found": found} for name, found in self.stages],
            "rules": [
                {
                    "name": v.rule,
                    "value": v.value,
                    "minimum": v.minimum,
                    "maximum": _finite(v.maximum),
                    "keeps": v.keeps,
                }
                for v in self.values
            ],
            "sentences": [{"text": text, "rule": rule} for text, rule in self.sentences],
            "meta": dict(self.record.meta),
        }

    def to_text(self) -> str:
        """As the command prints it."""
        verdict = f"DROPPED  {self.record.drop_reason}" if self.record.drop_reason else "KEPT"
        lines = [self.record.uri or self.record.id, verdict, ""]
        lines += [f"{name:<16} {found}" for name, found in self.stages]
        if self.values:
            lines += ["", f"{'rule':<32} {'value':>10}   kept when"]
        lines += [
            f"{v.rule:<32} {v.value:>10.4g}   {bounds(v)}{'' if v.keeps else '   <- drops'}"
            for v in self.values
        ]
        gone = [(rule, text) for text, rule in self.sentences if rule]
        if gone:
            lines += ["", "sentences that are left out:"]
        lines += [f"{rule:<12} {text[:100]}" for rule, text in gone]
        return printable("\n".join(lines) + "\n")


def bounds(value: Value) -> str:
    """The thresholds in words."""
    if value.maximum == float("inf"):
        return f"at least {value.minimum:g}"
    return f"at most {value.maximum:g}" if value.minimum == 0 else f"{value.minimum:g} to {value.maximum:g}"


def printable(text: str) -> str:
    """A text whose control characters are replaced, all but the ends of lines."""
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)


def inspect_page(source: Path, uri: str | None, recipe: Recipe) -> Inspection:
    """The page of an address or id (None: the first that can be read) in a page, an archive or a build.

    Raises InputError: no such page, or a stage's package is missing.
    """
    if (source / REPORT).is_file():
        record = _find(chain.from_iterable(map(read_records, _files(source))), uri, source)
        return of_record(record, recipe.rules)
    if not source.is_file():
        raise InputError(f"{source}: no such file, and no folder of a complete build")
    record = _find(read_input(source), uri, source)
    with Pipeline(recipe) as pipeline:
        return traced(record, pipeline)


def traced(record: Record, pipeline: Pipeline) -> Inspection:
    """What the pipeline's stages make of a page."""
    trace = pipeline.trace(record)
    texts = [step.text for name, step in trace if name == "extraction" and step.text]
    last = trace[-1][1] if trace else record
    stages = tuple((name, step.drop_reason or _told(name, step)) for name, step in trace)
    return _inspection(last, stages, pipeline.recipe.rules, texts[0] if texts else "")


def of_record(record: Record, rules: tuple[Rule, ...] = RULES) -> Inspection:
    """What a build has stored of a page."""
    return _inspection(record, (("stored", record.drop_reason or "kept"),), rules, record.text)


def _inspection(
    record: Record, stages: tuple[tuple[str, str], ...], rules: tuple[Rule, ...], text: str
) -> Inspection:
    found = record.meta.get("rules", {})
    values = tuple(
        Value(rule.name, found[rule.name], rule.minimum, rule.maximum) for rule in rules if rule.name in found
    )
    sentences = split_sentences(text, record.meta.get("language") or "en")
    told = [(sentence, violation(sentence) if values else "") for sentence in sentences]
    return Inspection(record, stages, values, tuple(told))


def _told(name: str, record: Record) -> str:
    meta = record.meta
    if name == "extraction":
        return f"{len(record.text):,} characters by {meta.get('extractor', 'nothing: it was text')}"
    if name == "language":
        return f"{meta['language']}, probability {meta['language_score']:.3f}"
    if name == "line rules":
        return f"sentences left out: {sum(meta['lines'].values())}, {meta['lost_words']:.1%} of the words"
    kept = {
        key: meta[key] for key in ("math_commands", "code_blocks", "question", "classifier") if key in meta
    }
    return json.dumps(kept)[1:-1] or "kept"


def _files(folder: Path) -> list[Path]:
    return [*sorted(folder.glob("dropped/*.records")), *sorted(folder.glob("part-*"))]


def _find(records: Iterator[Record], uri: str | None, source: Path) -> Record:
    for record in records:
        if uri in (record.uri, record.id) or (uri is None and not record.drop_reason.startswith("archive:")):
            return record
    raise InputError(f"{source}: no page {uri!r}" if uri else f"{source}: no page that can be read")


def _finite(value: float) -> float | None:
    return None if value == float("inf") else value
