"""Package descriptions of a Debian-like distribution: a title line, a body and a section label, in many languages.

    apt-get -o Acquire::Languages=en,fr,de update          # once, as root: the index files with their translations
    multiway-encoder descriptions --output descriptions

writes ``train.jsonl``, ``dev.jsonl`` and ``test.jsonl``, one record a line. The index files are stanzas of RFC 822
fields: ``Packages`` (package, source, section, title) and ``Translation-xx`` (title and body, found by the MD5 sum of
the English description, which aligns the languages).

Packages built from one source share sentences, so that a split by line would show the test's texts in training. The
split is by source package without its version numbers (``gcc-12`` and ``gcc-13`` are one), a body that stands in
several sources is kept once, and what begins with the same paragraph as a text of an earlier split is left out.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import json
import lzma
import re
import shutil
import subprocess
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from pathlib import Path

from multiway_core import files
from multiway_core.errors import DataError, InputError

SPLITS = {"train": 0.8, "dev": 0.1, "test": 0.1}
_APT_HELPER = "/usr/lib/apt/apt-helper"
_UNPACK = {".gz": gzip.decompress, ".xz": lzma.decompress, ".bz2": bz2.decompress}
_BY_APT = (".lz4", ".zst")


@dataclass(frozen=True)
class PackageDescription:
    """A description in one language.

    Attributes:
        id: MD5 sum of the English description: records of one id are translations of each other.
        package, source, section: names of the package and its source package, and the label, such as "games".
        title, body: plain text; paragraphs of the body are divided by empty lines, list items by line ends.
        language: as the index names it, such as "en" or "pt_BR".
    """

    id: str
    package: str
    source: str
    section: str
    title: str
    body: str
    language: str

    @property
    def family(self) -> str:
        """The source package without version numbers: what decides the split."""
        return re.sub(r"[-.\d]*\d[-.\d]*", "-", self.source).strip("-") or self.source


def read(paths: Sequence[str | Path]) -> list[PackageDescription]:
    """The descriptions in index files, by language and then in the files' order; each body once a language.

    Descriptions without a body, and translations of packages that no ``Packages`` file lists, are left out. Files may
    be compressed: .gz, .xz and .bz2, and where apt is installed .lz4 and .zst. Raises InputError, DataError.
    """
    if not paths:
        raise InputError("no index file was given")
    known: dict[str, dict[str, str]] = {}  # by id; the first package of an id
    translated: list[tuple[str, str, str]] = []  # id, language, text
    for path in map(Path, paths):
        for fields in _stanzas(path):
            digest = fields.get("Description-md5", "")
            if "Section" in fields:
                known.setdefault(digest or _digest(fields.get("Description", "")), fields)
            translated += [
                (digest, name.removeprefix("Description-"), text)
                for name, text in fields.items()
                if name.startswith("Description-") and name != "Description-md5"
            ]
    # Indexes of some archives hold the whole description.
    whole = [
        (digest, "en", fields["Description"]) for digest, fields in known.items() if "Description" in fields
    ]
    records: dict[tuple[str, str], PackageDescription] = {}
    for digest, language, text in sorted(whole + translated, key=lambda item: item[1]):
        title, _, rest = text.partition("\n")
        body = _body(rest)
        if digest in known and title.strip() and body:
            record = _record(digest, known[digest], title.strip(), body, language)
            records.setdefault((language, _normal(body)), record)
    if not records:
        raise DataError(
            f"{', '.join(map(str, paths))}: no description; both a Packages file and a Translation file are needed"
        )
    return list(records.values())


def split(
    records: Iterable[PackageDescription], *, shares: Mapping[str, float] = SPLITS, seed: int = 0
) -> dict[str, list[PackageDescription]]:
    """Records by split; all of one source package, in every language, fall into one.

    A record whose first paragraph stands in an earlier split (in the order of ``shares``) is left out. InputError:
    shares do not add up to 1.
    """
    if abs(sum(shares.values()) - 1) > 1e-6 or min(shares.values()) < 0:
        raise InputError(f"shares of the splits are {dict(shares)}; they must add up to 1")
    found: dict[str, list[PackageDescription]] = {name: [] for name in shares}
    ends = dict(zip(shares, accumulate(shares.values()), strict=True))
    *_, last = shares
    for record in records:
        place = int.from_bytes(hashlib.sha256(f"{seed}:{record.family}".encode()).digest()[:8]) / 2**64
        reached = (name for name, end in ends.items() if place < end)
        found[next(reached, last)].append(record)
    opening = {record: _normal(record.body.split("\n\n")[0]) for part in found.values() for record in part}
    earlier: set[tuple[str, str]] = set()
    for name, part in found.items():
        found[name] = [record for record in part if (record.language, opening[record]) not in earlier]
        earlier.update((record.language, opening[record]) for record in part)
    return found


def write(records: Mapping[str, Sequence[PackageDescription]], folder: Path) -> None:
    """One JSON lines file a split, made whole or not at all. Raises OutputError."""
    for name, part in records.items():
        lines = (json.dumps(asdict(record), ensure_ascii=False) + "\n" for record in part)
        files.write_text(folder / f"{name}.jsonl", "".join(lines))


def load(path: Path) -> list[PackageDescription]:
    """A file that `write` made. Raises DataError with the line."""
    records = []
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                records.append(PackageDescription(**json.loads(line)))
            except (ValueError, TypeError) as error:
                raise DataError(f"{path}:{number}: not a package description: {error}") from error
    return records


def apt_indexes(languages: Sequence[str] = ("en",)) -> list[Path]:
    """The index files that apt keeps on this machine, with the translations into ``languages``.

    InputError: without apt, or none was fetched.
    """
    if shutil.which("apt-get") is None:
        raise InputError("apt is not installed; give the Packages and Translation files")
    # Where the machine's settings name no language, apt lists no translations, even those that were fetched.
    option = f"Acquire::Languages={','.join(languages)}"
    listed = [
        line
        for kind in ("Packages", "Translations")
        for line in subprocess.run(
            ["apt-get", "-o", option, "indextargets", "--format", "$(FILENAME)", f"Created-By: {kind}"],
            capture_output=True,
            text=True,
        ).stdout.splitlines()
    ]
    found = [Path(line) for line in dict.fromkeys(listed) if Path(line).is_file()]
    if not any("Translation-" in path.name for path in found):
        raise InputError(f"apt keeps no translations here; run: apt-get -o {option} update")
    return found


def _record(
    digest: str, fields: Mapping[str, str], title: str, body: str, language: str
) -> PackageDescription:
    package = fields["Package"]
    source = fields.get("Source", package).split(" ")[0]  # "name (version)"
    section = fields["Section"].rpartition("/")[2]
    return PackageDescription(digest, package, source, section, title, body, language)


def _digest(description: str) -> str:
    return hashlib.md5(f"{description}\n".encode(), usedforsecurity=False).hexdigest()


def _normal(body: str) -> str:
    """What two bodies that differ in spacing, case and numbers have in common."""
    return re.sub(r"[\W\d_]+", " ", body.lower()).strip()


def _body(text: str) -> str:
    """Continuation lines to paragraphs: " ." divides them; a line with more than one space in front stands alone."""
    paragraphs: list[str] = []
    joins = False
    for line in text.split("\n"):
        content = " ".join(line.split())
        if content in ("", "."):
            if paragraphs and not paragraphs[-1].endswith("\n\n"):
                paragraphs.append("\n\n")
            joins = False
        else:
            alone = line.startswith("  ")
            paragraphs.append((" " if joins and not alone else "\n" if paragraphs else "") + content)
            joins = True
    return "".join(paragraphs).replace("\n\n\n", "\n\n").strip()


def _stanzas(path: Path) -> Iterator[dict[str, str]]:
    """The fields of each stanza; lines of a value keep the space that they begin with, but for the first."""
    fields: dict[str, str] = {}
    name = ""
    for number, line in enumerate(_text(path).split("\n"), 1):
        if not line.strip(" \t"):  # a no-break space is text
            if fields:
                yield fields
            fields, name = {}, ""
        elif line[0] in " \t":
            if not name:
                raise DataError(f"{path}:{number}: a continuation of no field")
            fields[name] += "\n" + line
        else:
            name, colon, value = line.partition(":")
            if not colon or " " in name:
                raise DataError(f"{path}:{number}: expected 'Field: value', got {line[:60]!r}")
            fields[name] = value.strip()
    if fields:
        yield fields


def _text(path: Path) -> str:
    try:
        if path.suffix in _BY_APT:
            if not Path(_APT_HELPER).exists():
                raise InputError(f"{path}: only apt reads {path.suffix} files; unpack it first")
            run = subprocess.run([_APT_HELPER, "cat-file", str(path)], capture_output=True)
            if run.returncode:
                raise DataError(f"cannot read {path}: {run.stderr.decode(errors='replace').strip()}")
            data = run.stdout
        else:
            data = path.read_bytes()
            if path.suffix in _UNPACK:
                data = _UNPACK[path.suffix](data)
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text") from error
    except (OSError, EOFError, ValueError, lzma.LZMAError, zlib.error) as error:
        raise DataError(f"cannot read {path}: {error}") from error
