"""Extraction and language: the same text as by direct calls, and pages that are made to hang, to swell or to break."""

import time

import pytest
from multiway_core.errors import InputError
from multiway_text.redstone import extraction
from multiway_text.redstone.extraction import Extractor, decode
from multiway_text.redstone.language import LanguageFilter, identify
from multiway_text.redstone.record import Record

BODY = b"""<html><head><title>A mill</title></head><body><nav><a href='/'>Home</a> <a href='/x'>Sitemap</a></nav>
<article><h1>The mill by the river</h1><p>Rain fell on the hills all night, and by <b>morning</b> the small river
had left its bed. The miller opened both gates and waited for the water to fall.</p><p>His daughter carried sacks
of flour to the upper floor, where they would stay dry until the boat came from the town.</p><pre><code>def gates(n):
    return n &lt; 2
</code></pre><table><tr><td>gate</td><td>open</td></tr></table></article><footer>Copyright</footer></body></html>"""


@pytest.fixture(scope="module")
def extractors():
    found = {name: Extractor(name, max_seconds=4.0) for name in extraction.EXTRACTORS}
    yield found
    for extractor in found.values():
        extractor.close()


@pytest.mark.parametrize("name", ["trafilatura", "resiliparse"])
def test_text_is_that_of_a_direct_call(extractors, name):
    record = extractors[name](Record("1", "http://e.org/", html=BODY))
    assert record.text == extraction.EXTRACTORS[name](BODY.decode())
    assert record.html == b""
    assert record.meta["extractor"].startswith(f"{name} ")
    assert "by morning the small river had left its bed." in record.text
    assert "def gates(n):\n    return n < 2" in record.text
    assert "Sitemap" not in record.text


def test_a_record_with_text_is_left_as_it_is(extractors):
    record = Record("1", "http://e.org/", text="from a WET file")
    assert extractors["trafilatura"](record) is record


@pytest.mark.parametrize(
    ("data", "charset"),
    [
        ("Grüße — ж".encode(), "iso-8859-1"),  # it is UTF-8, whatever the server says
        ("Grüße — ж".encode("utf-16"), ""),
        ("Привет, мир. Как дела?".encode("koi8-r"), "KOI8-R"),
        ("<meta charset='windows-1251'>Привет".encode("cp1251"), ""),
        ("<meta charset='shift_jis'>日本語の文章".encode("shift_jis"), "iso-8859-1"),
        ("Grüße, naïve Mädchen".encode("latin-1"), "no-such-charset"),
    ],
)
def test_charsets(data, charset):
    text = decode(data, charset)
    assert any(word in text for word in ("Grüße", "Привет", "日本語の文章"))


def test_null_bytes_and_noise_are_decoded_somehow():
    assert decode(b"a\0b\0") == "ab"
    assert isinstance(decode(bytes(range(256)) * 3, "utf-8"), str)


def test_a_page_that_hangs_is_stopped(tmp_path, monkeypatch):
    """The child is real; what hangs in it is a slow extractor that a start-up module puts in its place."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys, time, types\n"
        "module = types.ModuleType('trafilatura')\n"
        "def bare_extraction(html, **settings):\n"
        "    if 'hang' in html: time.sleep(60)\n"
        "    if 'swell' in html: bytearray(8 << 30)\n"
        "    if 'crash' in html: raise RecursionError('deep')\n"
        "module.bare_extraction = bare_extraction\n"
        "sys.modules['trafilatura'] = module\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    extractor = Extractor(max_seconds=2.0)
    start = time.monotonic()
    reasons = [
        extractor(Record(page, "", html=page.encode())).drop_reason
        for page in ("hang", "swell", "crash", "fine")
    ]
    extractor.close()
    assert time.monotonic() - start < 20
    assert reasons[0] == "extraction: over 2 seconds, out of memory, or a crash"
    assert reasons[1:3] == [
        "extraction: MemoryError in trafilatura",
        "extraction: RecursionError in trafilatura",
    ]
    assert reasons[3] == "extraction: no text"


@pytest.mark.parametrize("name", sorted(extraction.EXTRACTORS))
def test_hostile_pages_cost_only_themselves(extractors, name):
    bomb = "<!DOCTYPE x [<!ENTITY a 'ha'>" + "".join(
        f"<!ENTITY {chr(98 + i)} '{f'&{chr(97 + i)};' * 9}'>" for i in range(9)
    )
    pages = {
        "deep": b"<div>" * 100_000 + b"text",
        "entities": f"{bomb}]><html><body><p>&j;</p></body></html>".encode(),
        "attributes": b"<p " + b"a='b' " * 100_000 + b">text",
        "nothing": b"",
        "nulls": b"\0" * 10_000,
        "comment": b"<!--" * 50_000,
        "binary": bytes(range(256)) * 400,
    }
    extractor, start = extractors[name], time.monotonic()
    for page in pages.values():
        found = extractor(Record("1", "", html=page or b" "))
        assert found.drop_reason.startswith("extraction: ") or len(found.text) < len(page) + 100
    assert "small river" in extractor(Record("1", "", html=BODY)).text
    assert time.monotonic() - start < 60


def test_unknown_extractors():
    with pytest.raises(InputError, match="no extractor 'x'; there are trafilatura, resiliparse, markup"):
        Extractor("x")


ENGLISH = "Rain fell on the hills all night, and by morning the small river had left its bed."
GERMAN = "In der Nacht regnete es auf den Hügeln, und am Morgen war der kleine Fluss über die Ufer getreten."


def test_languages():
    keep = LanguageFilter()
    assert keep(Record("1", "", text=ENGLISH)).meta["language"] == "en"
    assert keep(Record("1", "", text=GERMAN)).drop_reason == "language: de"
    assert LanguageFilter(("de", "en"))(Record("1", "", text=GERMAN)).drop_reason == ""
    assert LanguageFilter((), min_score=0.999999)(Record("1", "", text="12 ab zu")).drop_reason.startswith(
        "language: "
    )
    assert 0.9 < identify(ENGLISH + "\n" + ENGLISH)[1] <= 1


def test_language_models_that_are_none(tmp_path):
    (tmp_path / "model.bin").write_bytes(b"no model")
    with pytest.raises(InputError, match="no fastText model"):
        LanguageFilter(model=tmp_path / "model.bin")
    with pytest.raises(InputError, match="no such file"):
        LanguageFilter(model=tmp_path / "absent.bin")
