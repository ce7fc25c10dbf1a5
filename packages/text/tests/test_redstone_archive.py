"""WARC and WET: all good pages come out, whatever is broken between them, and every bad one is named."""

import gzip
import io
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multiway_core.errors import InputError
from multiway_text.redstone.archive import Limits, read_archive, read_archives
from multiway_text.redstone.archive_writer import warc_record

COUNT = 20


def html(number):
    words = " ".join(f"{number * 7919 + i * i:x}" for i in range(300))
    return f"<html><body>page {number} {words}</body></html>".encode()


@pytest.fixture(scope="module")
def members():
    return [warc_record(f"http://example.org/{i}", html(i), charset="utf-8") for i in range(COUNT)]


def read(tmp_path, data, **settings):
    path = tmp_path / "crawl.warc.gz"
    path.write_bytes(data)
    records = list(read_archive(path, **settings))
    good = [record for record in records if not record.drop_reason]
    return good, [record for record in records if record.drop_reason]


def numbers(records):
    return [int(record.uri.rsplit("/", 1)[1]) for record in records]


def test_pages_of_each_packing_are_the_same(tmp_path, members):
    by_record, bad = read(tmp_path, b"".join(members))
    assert (numbers(by_record), bad) == (list(range(COUNT)), [])
    assert [record.html for record in by_record] == [html(i) for i in range(COUNT)]
    plain = gzip.decompress(b"".join(members))
    for data in (plain, gzip.compress(plain)):
        again, bad = read(tmp_path, data)
        assert [(r.id, r.uri, r.html) for r in again] == [(r.id, r.uri, r.html) for r in by_record]
        assert not bad


def test_offsets_lead_to_the_record(tmp_path, members):
    data = b"".join(members)
    for record in read(tmp_path, data)[0]:
        assert record.uri.encode() + b"\r\n" in gzip.GzipFile(
            fileobj=io.BytesIO(data[record.meta["offset"] :])
        ).read(600)


@pytest.mark.parametrize("damage", [b"\xff" * 60, b"\0" * 60])
@pytest.mark.parametrize("where", [0, 200])
def test_a_damaged_member_costs_only_itself(tmp_path, members, damage, where):
    broken = bytearray(members[5])
    broken[where : where + 60] = damage
    good, bad = read(tmp_path, b"".join(members[:5]) + bytes(broken) + b"".join(members[6:]))
    assert numbers(good) == [i for i in range(COUNT) if i != 5]
    assert len(bad) == 1
    assert bad[0].drop_reason.startswith("archive: a damaged gzip member")
    assert bad[0].meta["offset"] == len(b"".join(members[:5]))


def test_junk_between_members_and_padding_at_the_end(tmp_path, members):
    good, bad = read(
        tmp_path, b"".join(members[:5]) + b"\x1f\x8b\x08junk" * 9 + b"".join(members[5:]) + b"\0" * 512
    )
    assert numbers(good) == list(range(COUNT))
    assert len(bad) == 1


def test_a_truncated_file_names_its_last_record(tmp_path, members):
    good, bad = read(tmp_path, b"".join(members[:7]) + members[7][:300])
    assert numbers(good) == list(range(7))
    assert [r.drop_reason for r in bad] == ["archive: the file ends inside a gzip member"]
    plain = gzip.decompress(b"".join(members))
    good, bad = read(tmp_path, plain[: plain.index(b"example.org/7") + 500])
    assert numbers(good) == list(range(7))
    assert [r.drop_reason for r in bad] == ["archive: the file ends inside a record"]


def test_a_wrong_length_in_a_plain_file_costs_only_its_record(tmp_path, members):
    parts = [gzip.decompress(member) for member in members]
    short = parts[4].replace(b"Content-Length: ", b"Content-Length: 1", 1)
    good, bad = read(tmp_path, b"".join([*parts[:4], short, *parts[5:]]))
    assert [n for n in numbers(good) if n != 4] == [i for i in range(COUNT) if i != 4]
    assert len(bad) == 1


def test_a_decompression_bomb_is_left_alone(tmp_path, members):
    bomb = gzip.compress(b"WARC/1.0\r\n" + b"\0" * 30_000_000)
    tracemalloc.start()
    good, bad = read(tmp_path, members[0] + bomb + members[1], limits=Limits(page=1 << 20, unpacked=1 << 20))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert numbers(good) == [0, 1]
    assert "more than 1,048,576 bytes when unpacked" in bad[0].drop_reason
    assert peak < 6 << 20


def response(headers, body, uri="http://example.org/1", status="200 OK"):
    record = gzip.decompress(warc_record(uri, b"@@"))
    head, _ = record.split(b"\r\n\r\n", 1)
    payload = f"HTTP/1.1 {status}\r\n{headers}\r\n\r\n".encode() + body
    lines = [line for line in head.split(b"\r\n") if not line.startswith(b"Content-Length")]
    return b"\r\n".join([*lines, b"Content-Length: %d" % len(payload), b"", payload, b"", b""])


def test_payloads_packed_by_the_server(tmp_path):
    page, kind = b"<html>" + b"hello " * 100, "Content-Type: text/html"
    packed = f"{kind}\r\nContent-Encoding: gzip"
    chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(page), page)
    data = [
        response(packed, gzip.compress(page)),
        response(packed, page),  # the crawler has unpacked it and kept the header
        response(f"{kind}\r\nTransfer-Encoding: chunked", chunked),
        response(f"{kind}\r\nTransfer-Encoding: chunked", page),
        response(f"{kind}\r\nContent-Encoding: br", page),
    ]
    good, bad = read(tmp_path, b"".join(data))
    assert [record.html for record in good] == [page] * 5
    assert not bad
    bomb = response(packed, gzip.compress(b"a" * 20_000_000))
    good, bad = read(tmp_path, bomb)
    assert (good, [r.drop_reason for r in bad]) == ([], ["response: a page of more than 10,000,000 bytes"])


def test_what_is_no_page_is_named(tmp_path):
    data = [
        response("Content-Type: image/png", b"\x89PNG"),
        response("Content-Type: text/html", b"gone", status="404 Not Found"),
    ]
    good, bad = read(tmp_path, b"".join(data))
    assert not good
    assert [r.drop_reason for r in bad] == ["response: content type 'image/png'", "response: status 404"]


def test_control_characters_of_addresses_are_escaped(tmp_path):
    good, _ = read(
        tmp_path, response("Content-Type: text/html", b"<p>x", uri="http://e.org/a\x01\x1b[31m\x7f../../x")
    )
    assert good[0].uri == "http://e.org/a%01%1B[31m%7F../../x"


def test_wet_texts(tmp_path):
    text = "Grüße\nzwei Zeilen".encode()
    head = (
        b"WARC/1.0\r\nWARC-Type: conversion\r\nWARC-Target-URI: http://e.org/\r\nContent-Type: text/plain\r\n"
    )
    good, bad = read(
        tmp_path, gzip.compress(head + b"Content-Length: %d\r\n\r\n%s\r\n\r\n" % (len(text), text))
    )
    assert (good[0].text, good[0].html, bad) == ("Grüße\nzwei Zeilen", b"", [])
    assert good[0].id.startswith("sha1:")


def test_ranks_divide_the_files(tmp_path, members):
    paths = []
    for i in range(5):
        paths.append(tmp_path / f"{i}.warc.gz")
        paths[-1].write_bytes(members[i])
    whole = [record.uri for record in read_archives(paths)]
    divided = [[r.uri for r in read_archives(paths, rank, 2)] for rank in range(2)]
    assert sorted(divided[0] + divided[1]) == whole
    assert len(divided[0]) == 3


@pytest.mark.parametrize(
    "data", [b"", b"hello" * 100, gzip.compress(b"hello", mtime=0), b"\x1f\x8b\x08", b"\x1f\x8b"]
)
def test_no_archive_is_an_input_error(tmp_path, data):
    with pytest.raises(InputError, match=r"no WARC file"):
        read(tmp_path, data)
    with pytest.raises(InputError, match="cannot read"):
        list(read_archive(tmp_path / "absent.warc.gz"))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_damage_is_survived(tmp_path_factory, members, data):
    whole = bytearray(b"".join(members[:4]))
    if data.draw(st.booleans()):
        whole = bytearray(gzip.decompress(bytes(whole)))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(whole) - 1))
        piece = data.draw(st.binary(max_size=8))
        whole[at : at + data.draw(st.integers(0, 8))] = piece
    folder = tmp_path_factory.getbasetemp()
    try:
        good, bad = read(folder, bytes(whole))
    except InputError:
        return
    assert all(record.drop_reason for record in bad)
    assert len(good) <= 5
