"""A labelled crawl that is made of real pages: the paragraphs and the code of Debian's documentation, on made sites.

A folder holds a folder for each documentation package, unpacked, such as python3.11-doc and libreoffice-help-de; a
name that ends with a language's code says the language. A page is a run of a real page's blocks (``<p>``, ``<pre>``,
``<li>``, ``<dd>``) between a made site's menu, cookie notice and footer. Kinds: ``article``; ``code``, with a real
``<pre>``; ``de`` and ``fr``; ``math`` and ``qa``, real blocks with made formulas or questions; ``boilerplate``, made;
and ``copy``, an article in which one word in a hundred is changed. ``group`` is one number for an article and its
copies.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

BLOCK = re.compile(rb"<(p|pre|li|dd)\b[^>]*>(?:(?!<(?:p|pre|li|dd)\b).)*?</\1>", re.DOTALL)
TEXT = re.compile(rb"(?<=>)[^<]{20,}(?=<)")
SHARES = {"copy": 0.15, "boilerplate": 0.08, "math": 0.04, "qa": 0.04}
SITES = [
    (f"{name} Daily", f"Copyright 2024 {name} Media") for name in ("Harbour", "Juniper", "Quarry", "Lantern")
]
SHELL = (
    "<html><head><title>{0}</title></head><body><nav><a href='/'>Home</a> <a href='/news'>Latest news</a> "
    "<a href='/login'>Sign in</a></nav><div class='cookie-banner'>We use cookies on {0} to improve our service.</div>"
    "<main><article>"
)
END = (
    "</article></main><aside><a href='/x'>You may also like this</a></aside>"
    "<footer>{1}. All rights reserved.</footer></body></html>"
)
FORMULAS = (
    r"\alpha + \beta \leq \gamma", r"\frac{\partial u}{\partial t} = \nabla u", r"\sum_{i=0}^{n} x_i \to \infty",
    r"\int_0^1 \sin(x) dx", r"\sqrt{\lambda} \geq \mu", r"\cos \theta \cdot \rho", r"\prod_k \sigma_k \times \phi",
)  # fmt: skip


@dataclass(frozen=True)
class Page:
    """A page with what is known about it."""

    uri: str
    kind: str
    group: int
    html: bytes


def pages(folder: Path, count: int, seed: int = 0) -> Iterator[Page]:
    """So many pages in random order; fewer, where the folder holds fewer blocks."""
    rng = random.Random(seed)
    shares = {kind: round(count * share) for kind, share in SHARES.items()}
    real = count - shares["copy"] - shares["boilerplate"]
    found: list[Page] = []
    for number, (language, blocks) in zip(range(real), runs(folder, rng), strict=False):
        kind = (
            language
            if language != "en"
            else "code"
            if any(b.startswith(b"<pre") for b in blocks)
            else "article"
        )
        found.append(Page(f"http://{kind}.example/{number}", kind, number, shell(b"".join(blocks), rng)))
    articles = [index for index, page in enumerate(found) if page.kind == "article"]
    rng.shuffle(articles)
    for kind in ("math", "qa"):
        for index in [articles.pop() for _ in range(shares[kind])]:
            page = found[index]
            html = page.html.replace(
                b"<article>", b"<article>" + (formulas if kind == "math" else questions)(rng)
            )
            found[index] = Page(page.uri.replace("article", kind), kind, page.group, html)
    for number in range(shares["copy"]):
        source = found[articles[number % len(articles)]]
        html = TEXT.sub(lambda match: changed(match[0], rng), source.html)
        found.append(Page(f"http://copy.example/{number}", "copy", source.group, html))
    for number in range(shares["boilerplate"]):
        found.append(
            Page(f"http://made.example/{number}", "boilerplate", -1 - number, boilerplate(number, rng))
        )
    rng.shuffle(found)
    yield from found


def runs(folder: Path, rng: random.Random) -> Iterator[tuple[str, list[bytes]]]:
    """(language, blocks of 8 to 20) of the folder's pages, which come in random order."""
    files = sorted(
        path
        for path in folder.rglob("*.html")
        if path.is_file() and not path.relative_to(folder).parts[0].startswith("apache2")
    )
    rng.shuffle(files)
    for path in files:
        package = path.relative_to(folder).parts[0]
        language = next((code for code in ("de", "fr") if package.endswith(f"-{code}")), "en")
        blocks = [match[0] for match in BLOCK.finditer(path.read_bytes()) if len(match[0]) > 100]
        while len(blocks) >= 8:
            size = rng.randint(8, 20)
            yield language, blocks[:size]
            blocks = blocks[size:]


def shell(content: bytes, rng: random.Random) -> bytes:
    """Content on one of the made sites."""
    site = rng.choice(SITES)
    return SHELL.format(*site).encode() + content + END.format(*site).encode()


def changed(text: bytes, rng: random.Random) -> bytes:
    """One word in a hundred is another one."""
    return b" ".join(b"changed" if rng.random() < 0.01 else word for word in text.split(b" "))


def formulas(rng: random.Random) -> bytes:
    found = rng.sample(FORMULAS, 5)
    return "".join(
        f'<p>It follows that <script type="math/tex">{tex}</script> holds.</p>' for tex in found
    ).encode()


def questions(rng: random.Random) -> bytes:
    names = rng.sample(["the file", "the option", "this table", "the server", "an index", "the cell"], 3)
    return "".join(
        f"<p>Question: what does {name} do here?</p><p>Answer: {name} is read once and kept.</p>"
        for name in names
    ).encode()


def boilerplate(number: int, rng: random.Random) -> bytes:
    """A page of which nothing should stay: one sentence again and again, teasers, a menu, or calls to sign in."""
    words = ["shoes", "the", "news", "and", "offer", "of", "cart", "login", "with", "home", "that", "price"]
    line = " ".join(rng.choices(words, k=9)).capitalize()
    blocks = [
        [f"{line}." for _ in range(30)],
        [" ".join(rng.choices(words, k=8)) + "..." for _ in range(30)],
        [rng.choice(words).capitalize() for _ in range(150)],
        ["Sign in to see the price of this offer and that of the others" for _ in range(9)]
        + [f"{line}."] * 9,
    ][number % 4]
    return shell("".join(f"<p>{block}</p>" for block in blocks).encode(), rng)


def write(folder: Path, found: list[Page], shards: int) -> list[Path]:
    """The pages as WARC files, and ``labels.json`` beside them."""
    from multiway_text.redstone.archive_writer import warc_record

    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"crawl-{number:03}.warc.gz" for number in range(shards)]
    for number, path in enumerate(paths):
        with path.open("wb") as file:
            for page in found[number::shards]:
                file.write(warc_record(page.uri, page.html))
    with (folder / "labels.json").open("w") as file:
        for page in found:
            file.write(
                json.dumps({key: value for key, value in asdict(page).items() if key != "html"}) + "\n"
            )
    return paths
