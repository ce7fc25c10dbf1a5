"""Texts from files as a stream, and packed sequences: whole, in order, resumable, and what is refused."""

from __future__ import annotations

import gzip
import importlib
import itertools
import json

import numpy as np
import pytest
import torch
from multiway_core.errors import DataError, InputError
from multiway_core.tokenization import byte_bpe
from multiway_text import documents, packing
from multiway_text.documents import Position, TextFiles
from multiway_text.packing import Packed, PackedBatches, TokenFile

tiny = importlib.import_module("packages.text.tests.tiny_lm")
WORDS = byte_bpe.bytes_only()


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    """Seven kinds of files; the text file comes in pieces."""
    pq = pytest.importorskip("pyarrow.parquet")
    pa = importlib.import_module("pyarrow")
    monkeypatch.setattr(documents, "PIECE", 50)
    folder = tmp_path / "corpus"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.txt").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(f"line {i} é" for i in range(20)).encode())
    rows = [json.dumps({"text": f"row {i}", "deep": {"er": f"deep {i}"}}) for i in range(5)]
    (folder / "b.jsonl").write_text("\n".join([*rows[:2], "", *rows[2:]]))
    with gzip.open(folder / "sub" / "c.jsonl.gz", "wt") as file:
        file.write("\n".join(rows))
    table = pa.table({"text": [f"parquet {i}" if i != 3 else None for i in range(10)], "n": list(range(10))})
    pq.write_table(table, folder / "sub" / "d.parquet", row_group_size=4)
    (folder / "ignored.bin").write_bytes(b"\x00")
    (folder / ".hidden.txt").write_text("hidden")
    return folder


def test_all_kinds_in_order(corpus) -> None:
    found = list(TextFiles([corpus]))
    pieces = [document.text for document in found if "a.txt" in document.name]
    assert len(pieces) > 2
    assert "".join(pieces) == "\n".join(f"line {i} é" for i in range(20))
    rest = [document.text for document in found if "a.txt" not in document.name]
    assert rest == [
        *(f"row {i}" for i in range(5)),
        *(f"row {i}" for i in range(5)),
        *(f"parquet {i}" for i in range(10) if i != 3),
    ]
    assert found[len(pieces)].name.endswith("b.jsonl:1")
    deep = TextFiles([str(corpus / "*.jsonl")], field="deep.er")
    assert [document.text for document in deep] == [f"deep {i}" for i in range(5)]


def test_any_position_resumes(corpus) -> None:
    whole = list(TextFiles([corpus]))
    for number, document in enumerate(whole):
        rest = TextFiles([corpus], position=document.next)
        assert [d.text for d in rest] == [d.text for d in whole[number + 1 :]]


@pytest.mark.parametrize(
    ("name", "content", "field", "message"),
    [
        ("x.jsonl", b'{"text": "a"}\n{"text', "text", r"x.jsonl:2: not JSON"),
        (
            "x.jsonl",
            b'{"other": "a"}',
            "text",
            r"x.jsonl:1: no field 'text' \(it has other\); expected",
        ),
        ("x.jsonl", b'{"text": 3}', "text", r"the field 'text': expected text, got 3"),
        ("x.jsonl", b"[" * 100_000, "text", r"not JSON"),
        ("x.txt", b"ok\n\xff\xfe", "text", r"x.txt:2: not UTF-8"),
        ("x.txt.gz", b"not gzip", "text", r"cannot read .*x.txt.gz"),
        ("x.parquet", b"PAR1 not really", "text", r"not a Parquet file"),
    ],
)
def test_damaged_files_are_one_line(tmp_path, name, content, field, message) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        list(TextFiles([tmp_path / name], field=field))
    assert "\n" not in str(error.value)


def test_paths_that_lead_nowhere(tmp_path, corpus) -> None:
    for paths, message in [
        ([], "no file was given"),
        ([tmp_path / "nothing.txt"], "no such file"),
        (["a\0b"], "no such file"),
        (["a" * 5000], "is no path"),
        ([str(tmp_path / "*.csv")], "nothing matches"),
    ]:
        with pytest.raises(InputError, match=message):
            TextFiles(paths)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no file of"):
        TextFiles([tmp_path / "empty"])
    with pytest.raises(InputError, match="outside of"):
        TextFiles([corpus], position=Position(99))
    with pytest.raises(DataError, match="no column 'words'; there are text, n"):
        list(TextFiles([corpus / "sub" / "d.parquet"], field="words"))


def test_packed_resumes(corpus) -> None:
    whole = list(Packed(TextFiles([corpus]), WORDS, 16))
    ids = [token for d in TextFiles([corpus]) for token in packing.document_ids(WORDS, d.text)]
    assert torch.cat(whole).tolist() == ids[: len(whole) * 16]
    assert len(ids) - len(whole) * 16 < 16
    packed = Packed(TextFiles([corpus]), WORDS, 16)
    first = list(itertools.islice(packed, 5))
    state = json.loads(json.dumps(packed.state()))
    again = Packed(TextFiles([corpus], position=Position(**state["position"])), WORDS, 16, state)
    torch.testing.assert_close(torch.stack([*first, *again]), torch.stack(whole))


def test_batches_are_a_function_of_the_step(corpus, tmp_path) -> None:
    tokens = TokenFile.write(tmp_path / "ids", TextFiles([corpus]), WORDS)
    expected = [t for d in TextFiles([corpus]) for t in packing.document_ids(WORDS, d.text)]
    assert tokens.ids.tolist() == expected
    assert tokens.ids.dtype == np.uint16
    batches = PackedBatches(tokens, 8, 4, seed=1)
    one = batches(3, 0, 1)
    assert one.shape == (4, 9)
    torch.testing.assert_close(torch.cat([batches(3, 0, 2), batches(3, 1, 2)]), one)
    torch.testing.assert_close(PackedBatches(TokenFile.open(tmp_path / "ids"), 8, 4, seed=1)(3, 0, 1), one)
    # An epoch takes every sequence once, in another order than the next.
    counting = PackedBatches(TokenFile(np.arange(403, dtype=np.uint16), 403, 1, 1), 8, 7, seed=1)
    assert counting.per_epoch == 49
    epochs = [torch.cat([counting(7 * e + step, 0, 1) for step in range(7)]) for e in range(2)]
    for rows in epochs:
        assert (rows == rows[:, :1] + torch.arange(9)).all()
        starts = sorted(rows[:, 0].tolist())
        assert starts == list(range(starts[0], starts[0] + 49 * 8, 8))
    assert not torch.equal(*epochs)
    with pytest.raises(InputError, match="give more text"):
        PackedBatches(tokens, 10_000, 1)
    with pytest.raises(InputError, match="3 shards do not divide"):
        batches(0, 0, 3)
    with pytest.raises(InputError, match="no text"):
        TokenFile.write(tmp_path / "none", [], WORDS)
    (tmp_path / "ids" / "tokens.bin").write_bytes(b"\0" * 6)
    with pytest.raises(DataError, match="damaged"):
        TokenFile.open(tmp_path / "ids")
