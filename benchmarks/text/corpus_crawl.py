"""RedStone's stages on the labelled crawl of `corpus_pages`: what each filter takes, duplicates, order, kills.

    python -m benchmarks.text.corpus_crawl --html DIR quality --pages 100000
    python -m benchmarks.text.corpus_crawl --html DIR order kills --pages 1600

``quality``: precision and recall of each filter, pairs of duplicates, and the recipes for math, code and questions on a
part of the crawl. ``order``: the same rows from 1, 2 and 8 files. ``kills``: a build that is killed (SIGKILL) 50 times
at random times and resumed ends in the bytes of one that was not. Builds run by the command, with Resiliparse.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from benchmarks import harness
from benchmarks.text.corpus_pages import SHELL, pages, write

COMMAND = [sys.executable, "-m", "multiway_corpus", "build"]
OPTIONS = ["--extractor", "resiliparse"]
SHELL_LINES = ("We use cookies on", "All rights reserved.", "You may also like this", "Latest news")
NEAR = 0.8
assert SHELL_LINES[0] in SHELL


def build(source: Path, output: Path, *options: str) -> dict[str, Any]:
    """The report of a build by the command."""
    command = [*COMMAND, str(source), "-o", str(output), *OPTIONS, *options]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return json.loads((output / "report.json").read_text())


def records(output: Path) -> list[Any]:
    """All records of a build, dropped ones too."""
    from multiway_text.redstone.storage import read_records

    files = [*sorted(output.glob("part-*")), *sorted(output.glob("dropped/*"))]
    return [record for file in files for record in read_records(file)]


def rate(found: set[str], expected: set[str]) -> dict[str, float]:
    """Precision, recall and how many there are."""
    hits = len(found & expected)
    return {"precision": hits / (len(found) or 1), "recall": hits / (len(expected) or 1), "n": len(expected)}


def filters(found: Sequence[Any], kind: dict[str, str]) -> dict[str, dict[str, float]]:
    """What the filters of ``web`` take, by the pages' kinds."""
    reason = {record.uri: record.drop_reason for record in found}
    by_kind: dict[str, set[str]] = defaultdict(set)
    for uri in reason:
        by_kind[kind[uri]].add(uri)
    english = by_kind["article"] | by_kind["copy"] | by_kind["code"] | by_kind["math"] | by_kind["qa"]
    foreign = by_kind["de"] | by_kind["fr"]
    other = {uri for uri, why in reason.items() if why.startswith("language: ") and why[10:12] != "en"}
    unsure = {uri for uri, why in reason.items() if why.startswith("language: en")}
    ruled = {uri for uri, why in reason.items() if why.startswith(("document", "lines"))}
    seen = {uri for uri, why in reason.items() if not why.startswith(("language", "extraction"))}
    kept = [record for record in found if not record.drop_reason]
    clean = sum(not any(line in record.text for line in SHELL_LINES) for record in kept)
    values = {
        "language: another one": rate(other, foreign),
        "language, with what is English below 0.65": rate(other | unsure, foreign),
        "rules: made boilerplate, of what the language filter passes": rate(
            ruled, by_kind["boilerplate"] & seen
        ),
        "all filters: made boilerplate": {
            "recall": sum(bool(reason[uri]) for uri in by_kind["boilerplate"]) / len(by_kind["boilerplate"]),
            "n": len(by_kind["boilerplate"]),
        },
        "extraction: kept pages without the site's menu, notice and footer": {
            "recall": clean / (len(kept) or 1),
            "n": len(kept),
        },
    }
    for name, part in (("language filter", unsure | other), ("rules", ruled)):
        values[f"English pages that the {name} drops"] = {
            "recall": len(english & part) / (len(english) or 1),
            "n": len(english),
        }
    return values


def duplicates(found: Sequence[Any], group: dict[str, int]) -> dict[str, dict[str, float]]:
    """Pairs of pages that passed the filters: planted copies, and what shares 0.8 of its shingles."""
    from multiway_text.redstone.minhash import shingle_form

    alive = [r for r in found if not r.drop_reason or r.drop_reason.startswith("duplicate: of ")]
    stays = {r.id: r.drop_reason.removeprefix("duplicate: of ") or r.id for r in alive}
    uri = {r.id: r.uri for r in alive}
    planted = {frozenset(pair) for pair in _pairs({r.id: group[r.uri] for r in alive})}
    said = {frozenset(pair) for pair in _pairs(stays)}
    wanted = {name for pair in planted | said for name in pair}
    shingles = {
        r.id: {text[i : i + 13] for i in range(len(text) - 12)}
        for r in alive
        if r.id in wanted and (text := shingle_form(r.text))
    }

    def similar(pair: frozenset[str]) -> bool:
        one, two = (shingles[name] for name in pair)
        return len(one & two) >= NEAR * len(one | two)

    near = {pair for pair in planted | said if similar(pair)}
    whole = {
        "duplicates: pairs that were planted": rate(said & planted, planted),
        f"duplicates: pairs of similarity {NEAR} or more, of those planted or found": rate(said, near),
    }
    for item in whole.values():
        item["F1"] = 2 * item["precision"] * item["recall"] / (item["precision"] + item["recall"] or 1)
    real = sum(group[uri[a]] != group[uri[b]] for a, b in (tuple(pair) for pair in said & near))
    whole["duplicates: such pairs found between different real pages"] = {"n": real}
    return whole


def _pairs(values: dict[str, Any]) -> list[tuple[str, str]]:
    groups: dict[Any, list[str]] = defaultdict(list)
    for name, value in values.items():
        groups[value].append(name)
    return [pair for names in groups.values() for pair in combinations(sorted(names), 2)]


def domains(source: Path, kind: dict[str, str], work: Path) -> dict[str, dict[str, float]]:
    """The recipes for math, code and questions on one file of the crawl, with what they are to find."""
    values = {}
    for recipe in ("math", "code", "qa"):
        build(
            source,
            work / recipe,
            "--recipe",
            recipe,
            "--extractor",
            "markup" if recipe != "qa" else "resiliparse",
        )
        found = records(work / recipe)
        kept = {r.uri for r in found if not r.drop_reason or r.drop_reason.startswith("duplicate")}
        there = {r.uri for r in found if kind[r.uri] == recipe}
        values[f"recipe {recipe}"] = rate(kept, there)
        if recipe != "code":
            unsure = {r.uri for r in found if r.drop_reason.startswith("language")} & there
            values[f"recipe {recipe}"]["dropped by language"] = len(unsure)
    return values


def quality(options: Any, work: Path) -> tuple[dict[str, Any], str]:
    """The part ``quality``: its values and its page."""
    if options.crawl is None:
        found = list(pages(options.html, options.pages, options.seed))
        options.crawl = work / "crawl"
        write(options.crawl, found, max(1, options.pages // 1000))
    output = options.built or work / "built"
    if options.built is None:
        build(options.crawl, output, "--workers", "2")
    report = json.loads((output / "report.json").read_text())
    labels = json.loads("[" + ",".join((options.crawl / "labels.json").read_text().splitlines()) + "]")
    kind, group = ({row["uri"]: row[key] for row in labels} for key in ("kind", "group"))
    all_ = records(output)
    assert Counter(r.uri for r in all_) == Counter(kind.keys())
    values = filters(all_, kind) | duplicates(all_, group)
    values |= domains(options.crawl / "crawl-000.warc.gz", kind, work)
    rows = [
        [
            name,
            *(f"{item[key]:.3f}" if key in item else "" for key in ("precision", "recall", "F1")),
            f"{item['n']:,}",
        ]
        for name, item in values.items()
    ]
    head = (
        f"{report['pages']:,} pages ({dict(Counter(kind.values()).most_common())}), {report['kept']:,} kept."
    )
    table = harness.table(["", "precision", "recall or share", "F1", "n"], rows)
    return {"report": report, "values": values}, f"{head}\n\n{table}"


def order(options: Any, work: Path) -> tuple[dict[str, Any], str]:
    """The part ``order``."""
    found = list(pages(options.html, options.pages, options.seed))
    kept = []
    for shards in (1, 2, 8):
        random.Random(shards).shuffle(found)
        write(work / f"order-{shards}", found, shards)
        build(
            work / f"order-{shards}",
            work / f"out-{shards}",
            "--dedup-lines",
            "--workers",
            str(min(shards, 2)),
        )
        kept.append(sorted((r.id, r.text, r.drop_reason) for r in records(work / f"out-{shards}")))
    same = kept[0] == kept[1] == kept[2]
    return {
        "pages": len(found),
        "same": same,
    }, f"{len(found):,} pages, shuffled into 1, 2 and 8 files: the same rows: {same}."


def kills(options: Any, work: Path) -> tuple[dict[str, Any], str]:
    """The part ``kills``."""
    write(work / "kills", list(pages(options.html, options.pages, options.seed)), 64)
    build(work / "kills", work / "whole")
    rng, count, done = random.Random(options.seed), 0, Counter[int]()
    command = [*COMMAND, str(work / "kills"), "-o", str(work / "killed"), *OPTIONS]

    def there() -> int:
        return len(list((work / "killed").glob("work/*.records")))

    while count < options.kills:
        before = there()
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        while process.poll() is None and there() == before:  # not while Python only starts
            time.sleep(0.002)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(rng.uniform(0, 1))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            count += 1
            done[there()] += 1
        if (work / "killed/report.json").is_file():  # ended before its time: begin again
            build(work / "kills", work / "killed")
            build_again(work / "whole", work / "killed")
    build(work / "kills", work / "killed")
    same = build_again(work / "whole", work / "killed", remove=False)
    values = {"kills": count, "inputs done when killed": dict(sorted(done.items())), "same bytes": same}
    return values, f"{count} kills of a build of 64 files, then resumed: {values}."


def build_again(whole: Path, other: Path, *, remove: bool = True) -> bool:
    """Whether two builds hold the same bytes; an unequal one is an error. The other one is emptied."""
    files = [
        {p.relative_to(f): p.read_bytes() for p in f.rglob("*0*") if p.is_file()} for f in (whole, other)
    ]
    if files[0] != files[1]:
        raise SystemExit("a killed build differs from one that was not")
    for path in sorted(other.rglob("*"), reverse=True) if remove else ():
        path.rmdir() if path.is_dir() else path.unlink()
    return True


def main() -> None:
    parser = harness.parser(__doc__, "text")
    parser.add_argument("parts", nargs="+", choices=("quality", "order", "kills"))
    parser.add_argument("--html", type=Path, required=True, metavar="DIR")
    parser.add_argument("--pages", type=int, default=2000)
    parser.add_argument("--crawl", type=Path, help="Of an earlier run: archives and labels.json.")
    parser.add_argument("--built", type=Path, help="A build of that crawl.")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for part in options.parts:
        with tempfile.TemporaryDirectory() as name:
            values, page = {"quality": quality, "order": order, "kills": kills}[part](options, Path(name))
        title = f"corpus-{part}"
        harness.save(options.output, title, harness.provenance(title) | values, page)


if __name__ == "__main__":
    main()
