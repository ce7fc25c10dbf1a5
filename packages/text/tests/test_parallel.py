"""Translations from two files, tables, JSONL and translation memories; what is wrong is told in one line."""

from __future__ import annotations

import contextlib
import gzip
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multiway_core.errors import DataError, InputError, MultiwayError
from multiway_text.data.languages import ISO_639_1, check_language
from multiway_text.data.parallel import Pair, ParallelFile, Sources

TWO = [Pair("a cat", "eine Katze"), Pair("a dog", "ein Hund")]


def pairs(data: str, **options: tuple[str, str]) -> list[Pair]:
    (file,) = Sources.parse([data], **options).pairs
    assert list(file) == list(file)  # again and again
    return list(file)


def test_two_files(tmp_path: Path) -> None:
    (tmp_path / "x.en").write_text("\ufeffa cat\r\n\na dog\nleft out\n")
    with gzip.open(tmp_path / "x.de.gz", "wt", encoding="utf-8") as file:
        file.write("eine Katze\nallein\nein Hund\n \n")
    assert pairs(f"en-de={tmp_path}/x.en,{tmp_path}/x.de.gz") == TWO


def test_a_table(tmp_path: Path) -> None:
    path = tmp_path / "x.tsv"
    path.write_text("en\tde\na cat\teine Katze\na dog\tein Hund\n")
    assert pairs(f"en-de={path}") == TWO
    path.write_text("a cat\teine Katze\na dog\tein Hund")
    assert pairs(f"en-de={path}") == TWO


def test_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(
        '{"en": "a cat", "de": "eine Katze"}\n\n{"id": 3, "translation": {"de": "ein Hund", "en": "a dog"}}\n'
    )
    assert pairs(f"en-de={path}") == TWO
    path.write_text('{"source": "a cat", "target": "eine Katze"}\n')
    assert pairs(f"en-de={path}", fields=("source", "target")) == TWO[:1]
    with pytest.raises(DataError, match=r'x.jsonl:1: expected two texts, \{"en": "...", "de": "..."\}'):
        pairs(f"en-de={path}")


def test_a_translation_memory(tmp_path: Path) -> None:
    path = tmp_path / "x.tmx"
    units = "".join(
        f'<tu><tuv xml:lang="{a}"><seg>{x}</seg></tuv><tuv xml:lang="de-AT"><seg>{y}</seg></tuv></tu>'
        for a, x, y in (
            ("EN", "a <bpt>c</bpt>at", "eine Katze"),
            ("fr", "un", "eins"),
            ("en-GB", "a dog", "ein Hund"),
        )
    )
    path.write_text(f'<tmx version="1.4"><header/><body>{units}</body></tmx>')
    assert pairs(f"en-de={path}") == TWO
    assert pairs(f"en_GB-de={path}") == TWO[1:]
    path.write_text("<tmx><body><tu>")
    with pytest.raises(DataError, match=r"x.tmx: not a translation memory"):
        pairs(f"en-de={path}")


def test_texts_and_several_files_of_a_pair(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt", "x.tsv", "y.tsv"):
        (tmp_path / name).write_text("a\tb\n")
    sources = Sources.parse(
        [f"de={tmp_path}/a.txt", f"de={tmp_path}/b.txt", f"en-de={tmp_path}/x.tsv", f"en-de={tmp_path}/y.tsv"]
    )
    assert [path.name for path in sources.texts["de"]] == ["a.txt", "b.txt"]
    assert [file.paths[0].name for file in sources.pairs] == ["x.tsv", "y.tsv"]


def test_wrong_data(tmp_path: Path) -> None:
    for name, text in {"x.en": "1\n2\n3\n", "x.de": "1\n2\n", "x.tsv": "a\tb\na\n", "x.bad": "\xff"}.items():
        (tmp_path / name).write_bytes(text.encode("latin-1"))
    at = str(tmp_path)
    for data, message in {
        f"en-de={at}/x.en,{at}/x.de": r"x.en has 3 lines and .*x.de has 2 lines",
        f"en-de={at}/x.en,{at}/x.de,{at}/x.en": "3 files; expected one with both languages",
        f"en-xx={at}/x.tsv": "'xx' is no language code; expected one such as de",
        f"English={at}/x.en": "'English' is no language code",
        f"en-en={at}/x.tsv": "expected two languages, such as en-de, got en-en",
        f"{at}/x.tsv": "expected LANGUAGE=FILE",
        "en=": "expected LANGUAGE=FILE",
        f"en-de={at}/none.tsv": "no such file",
    }.items():
        with pytest.raises(InputError, match=message):
            Sources.parse([data])
    with pytest.raises(DataError, match=r"x.tsv:2: 1 columns, expected 2"):
        pairs(f"en-de={at}/x.tsv")
    with pytest.raises(DataError, match=r"x.bad:1: not UTF-8"):
        pairs(f"en-de={at}/x.bad")


def test_language_codes() -> None:
    assert len(ISO_639_1) == 184
    for code in ("de", "deu", "pt_BR", "zh_Hant_TW"):
        assert check_language(code, "x") == code
    for code in ("", "DE", "xx", "d", "german", "de-AT", "pt_"):
        with pytest.raises(InputError, match="no language code"):
            check_language(code, "x")


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=200), st.sampled_from(["x.tsv", "x.jsonl", "x.tmx", "x.tsv.gz", "x.tmx.gz"]))
def test_nothing_but_our_errors_escape(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, name: str
) -> None:
    path = tmp_path_factory.mktemp("fuzz") / name
    path.write_bytes(content)
    with contextlib.suppress(MultiwayError):
        list(ParallelFile(("en", "de"), (path,)))
