"""RedStone's stages on a crawl that is made of real pages: languages, boilerplate, near-duplicates, code, order, speed.

``--html DIR`` holds a folder for each documentation package, unpacked, such as python3.11-doc and libreoffice-help-de;
a folder's name that ends with a language's code says its language. Pages are drawn by ``--seed``. Boilerplate pages are
made, near-duplicates are pages with one word in a hundred changed, and the blocks of code are those of the pages.
datatrove's reader and Trafilatura are timed in turns with ours where datatrove is installed.
"""

from __future__ import annotations

import random
import re
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import harness

LANGUAGES = ("de", "fr")
TEXT = re.compile(rb"(?<=>)[^<]{40,}(?=<)")


def crawl(folder: Path, count: int, seed: int) -> list[tuple[str, str, bytes]]:
    """(address, label, HTML): label is a language, ``boilerplate`` or ``copy of ADDRESS``; the order is random."""
    rng = random.Random(seed)
    pages = []
    for path in rng.sample(sorted(folder.rglob("*.html")), count):
        package = path.relative_to(folder).parts[0]
        language = next((code for code in LANGUAGES if package.endswith(f"-{code}")), "en")
        if package.startswith("apache2"):
            continue  # its pages are in many languages
        pages.append((f"http://{package}/{path.relative_to(folder)}", language, path.read_bytes()))
    english = [page for page in pages if page[1] == "en"]
    copies = [
        (f"http://mirror/{i}", f"copy of {address}", TEXT.sub(lambda found: _changed(found[0], rng), html))
        for i, (address, _, html) in enumerate(rng.sample(english, len(english) // 5))
    ]
    boilerplate = [(f"http://made/{i}", "boilerplate", _boilerplate(i, rng)) for i in range(count // 10)]
    found = [*pages, *copies, *boilerplate]
    rng.shuffle(found)
    return found


def _changed(text: bytes, rng: random.Random) -> bytes:
    return b" ".join(b"changed" if rng.random() < 0.01 else word for word in text.split(b" "))


def _boilerplate(number: int, rng: random.Random) -> bytes:
    words = ["shoes", "the", "news", "and", "offer", "of", "cart", "login", "with", "home", "that", "price"]
    line = " ".join(rng.choices(words, k=9)).capitalize()
    blocks = [
        [f"{line}." for _ in range(30)],  # one sentence again and again
        [" ".join(rng.choices(words, k=8)) + "..." for _ in range(30)],  # teasers
        [rng.choice(words).capitalize() for _ in range(150)],  # a menu
        ["Sign in to see the price of this offer and that of the others" for _ in range(9)]
        + [f"{line}."] * 9,
    ][number % 4]
    return f"<html><body><article>{''.join(f'<p>{block}</p>' for block in blocks)}</article></body></html>".encode()


def write(folder: Path, pages: list[tuple[str, str, bytes]], shards: int) -> list[Path]:
    """The crawl as WARC files."""
    from multiway_text.redstone.archive_writer import warc_record

    paths = []
    for number in range(shards):
        paths.append(folder / f"crawl-{number:02}.warc.gz")
        paths[-1].write_bytes(
            b"".join(warc_record(address, html) for address, _, html in pages[number::shards])
        )
    return paths


def build(paths: list[Path], output: Path, recipe: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """address -> record, kept or dropped, and the address of each id."""
    from multiway_text.redstone import shards
    from multiway_text.redstone.minhash import MinHash
    from multiway_text.redstone.pipeline import Pipeline

    works = [output / shards.WORK.format(number) for number in range(len(paths))]
    with Pipeline(recipe) as pipeline:
        for path, work in zip(paths, works, strict=True):
            shards.work_on(path, work, pipeline, MinHash())
    repeats = shards.find_duplicates(works)
    for number, work in enumerate(works):
        shards.finish(work, number, output, repeats[number], "parquet")
    files = [*output.glob("part-*"), *output.glob("dropped/*")]
    records = [record for file in files for record in shards.read_records(file)]
    return {record.uri: record for record in records}, {record.id: record.uri for record in records}


def rate(found: set[str], expected: set[str]) -> dict[str, float]:
    """Precision, recall and how many there are."""
    hits = len(found & expected)
    return {"precision": hits / (len(found) or 1), "recall": hits / (len(expected) or 1), "n": len(expected)}


def scores(
    pages: list[tuple[str, str, bytes]], records: dict[str, Any], ids: dict[str, str]
) -> dict[str, Any]:
    """Precision and recall of the language filter, of the rules on made boilerplate, and of the duplicates."""
    label = {address: kind for address, kind, _ in pages}
    reached = {
        a for a, record in records.items() if not record.drop_reason.startswith(("extraction", "response"))
    }
    foreign = {a for a in reached if records[a].drop_reason.startswith("language")}
    rules = {a for a in reached if records[a].drop_reason.startswith(("document", "lines"))}
    result = {
        "another language is dropped": rate(foreign, {a for a in reached if label[a] in LANGUAGES}),
        "boilerplate is dropped": rate(foreign | rules, {a for a in reached if label[a] == "boilerplate"}),
    }
    result["boilerplate is dropped"].pop("precision")  # real pages break the rules too: that is no mistake
    # Pairs of which both pages passed all rules, as only those are compared.
    alive = {
        a for a in reached if not records[a].drop_reason or records[a].drop_reason.startswith("duplicate")
    }
    group = {a: label[a].removeprefix("copy of ") if label[a].startswith("copy") else a for a in alive}
    truth = {f"{a} {group[a]}" for a in alive if group[a] != a and group[a] in alive}
    first = {
        a: ids[records[a].drop_reason.removeprefix("duplicate: of ")] if records[a].drop_reason else a
        for a in alive
    }
    found = {
        f"{a} {group[a]}"
        for a in alive
        if group[a] != a and group[a] in alive and first[a] == first[group[a]]
    }
    result["near-duplicates are found"] = {"recall": len(found) / (len(truth) or 1), "n": len(truth)}
    others = [a for a in alive if first[a] != a and group[a] == a and label.get(first[a]) != f"copy of {a}"]
    result["real pages that duplicate other real pages"] = {"n": len(others)}
    return result


def code(pages: list[tuple[str, str, bytes]]) -> dict[str, float]:
    """Of the ``<pre>`` blocks of three lines or more in the pages: how many stand in the text line by line."""
    from lxml import html as lxml_html
    from multiway_text.redstone.markup import _CODE_SIGNS, markup_text

    total = whole = 0
    for _, _, page in pages:
        if b"<pre" not in page:
            continue
        text = markup_text(page.decode("utf-8", "replace"))
        for pre in lxml_html.document_fromstring(page).iter("pre"):
            lines = [line.rstrip() for line in pre.text_content().strip("\n").split("\n")]
            if len(lines) >= 3 and _CODE_SIGNS.search("\n".join(lines)):
                total += 1
                whole += "\n".join(lines) in "\n".join(line.rstrip() for line in text.split("\n"))
    return {"recall": whole / (total or 1), "n": total}


def contenders(path: Path) -> dict[str, Callable[[], int]]:
    """Ways to read a WARC file and extract by Trafilatura; each returns how many texts came out."""
    from multiway_text.redstone.archive import read_archive
    from multiway_text.redstone.extraction import Extractor

    def ours(name: str) -> Callable[[], int]:
        extractor = Extractor(name)
        return lambda: sum(not extractor(r).drop_reason for r in read_archive(path) if not r.drop_reason)

    found = {"ours, trafilatura": ours("trafilatura"), "ours, resiliparse": ours("resiliparse")}
    try:
        from datatrove.pipeline.extractors import Trafilatura
        from datatrove.pipeline.readers import WarcReader

        reader = WarcReader(str(path.parent), glob_pattern=path.name)
        steps = Trafilatura(
            favour_precision=True, include_comments=False, include_tables=True, include_formatting=True
        )
    except ImportError:  # of datatrove, or of what it asks for when a step is made
        return found
    return {"datatrove, trafilatura": lambda: sum(1 for _ in steps.run(reader.run()))} | found


def main() -> None:
    parser = harness.parser(__doc__, "text")
    parser.add_argument("--html", type=Path, required=True, metavar="DIR")
    parser.add_argument("--pages", type=int, default=2000)
    parser.add_argument("--speed-pages", type=int, default=150)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    from multiway_text.redstone.pipeline import Recipe

    pages = crawl(options.html, options.pages, options.seed)
    recipe = Recipe("web", extractor="resiliparse")
    values: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        kept = []
        for shards in (1, 2, 8):
            folder = Path(name, str(shards))
            folder.mkdir()
            records, ids = build(write(folder, pages, shards), folder / "out", recipe)
            kept.append(sorted((r.id, r.text) for r in records.values() if not r.drop_reason))
        values["quality"] = scores(pages, records, ids)
        values["quality"]["code blocks stand line by line"] = code(pages)
        values["shards"] = {"kept": len(kept[0]), "the same for 1, 2 and 8": kept[0] == kept[1] == kept[2]}
        real = [page for page in pages if page[1] == "en"][: options.speed_pages]
        (path,) = write(Path(name), real, 1)
        ways = contenders(path)
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        texts = {}
        for _ in range(options.rounds):
            for way, work in ways.items():
                start = time.perf_counter()
                texts[way] = work()
                seconds[way].append(time.perf_counter() - start)
        values["speed"] = {
            way: {"pages a second, best round": len(real) / min(taken), "texts": texts[way]}
            for way, taken in seconds.items()
        }
    rows = [
        [key, *(f"{item[part]:.3f}" if part in item else "" for part in ("precision", "recall")), item["n"]]
        for key, item in values["quality"].items()
    ]
    speed = [
        [way, f"{item['pages a second, best round']:.1f}", item["texts"]]
        for way, item in values["speed"].items()
    ]
    page = "\n".join(
        [
            f"{len(pages)} pages, resiliparse. Rows are the same for 1, 2 and 8 files: {values['shards']}.",
            "",
            harness.table(["", "precision", "recall", "n"], rows),
            "",
            f"{len(real)} English pages of the crawl, read and extracted, ways in turns, {options.rounds} rounds:",
            "",
            harness.table(["", "pages a second", "texts"], speed),
        ]
    )
    harness.save(options.output, "corpus-crawl", harness.provenance("corpus-crawl") | values, page)


if __name__ == "__main__":
    main()
