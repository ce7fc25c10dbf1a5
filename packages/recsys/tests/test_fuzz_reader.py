"""Whatever bytes the files of a log hold: a reader takes them or says one line; no row is lost, none invented."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from multiway_core.errors import DataError
from multiway_recsys.data import mind
from multiway_recsys.data.bad_rows import Problem, RowLog
from multiway_recsys.data.mind_rows import RowParser
from multiway_recsys.data.tables import News, Ragged
from multiway_recsys.data.vectors import read_vectors

FUZZ = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
NEWS_ROWS = (
    'N1\tsports\tsoccer\tTitle\tAbstract\thttps://x\t[{"WikidataId": "Q5"}]\t[]\n'
    "N22\tnews\tworld\tZweiter Titel: Öl\t\t\t[]\t\nN333\tnews\tlocal\t\t\t\t\t\n"
).encode()
ROWS = (
    b"1\tU9\t11/9/2019 9:57:55 AM\tN1 N22 N1\tN333-1 N22-0\n2\tU8\t11/10/2019 12:00:01 AM\t\tN1-0\n"
    b"3\tU9\t11/14/2019 12:30:00 PM\tN333\tN22-0 N1-1 N333-0\n4\tU1\t11/14/2019 1:30:00 PM\tN1\tN22-1\n"
)
VECTORS = b"Q1\t0.5\t-1e-3\t2\t\nQ5\t1\t2\t3\t\n"
NEWS = News(
    ids=("", "N1", "N22", "N333"),
    titles=("",) * 4,
    abstracts=("",) * 4,
    categories=np.zeros(4, np.int32),
    subcategories=np.zeros(4, np.int32),
    entities=Ragged.from_rows([[]] * 4),
    category_names=("",),
    subcategory_names=("",),
    entity_ids=("",),
)
PIECES = [
    b"\t",
    b"\n",
    b"\r\n",
    b" ",
    b"-",
    b"-1",
    b"-0",
    b"-2",
    b"N",
    b"N1",
    b"N22",
    b"N333-1",
    b"N9",
    b"U1",
    b"\0",
]
PIECES += [
    b"\xff",
    b"\xc3\xa4",
    b"\xe2\x80\xa8",
    b"\x0c",
    b"\x7f",
    b"11/9/2019 9:57:55 AM",
    b"[",
    b"{",
    b"nan",
    b"1e999",
]


@st.composite
def damaged(draw: st.DrawFn, original: bytes) -> bytes:
    """`original` with a few cuts, repeats and insertions."""
    data = original
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        end = draw(st.integers(at, min(len(data), at + 12)))
        piece = draw(st.one_of(st.sampled_from(PIECES), st.binary(max_size=6), st.just(b"")))
        data = data[:at] + piece + data[end:]
    return data[: draw(st.integers(0, len(data)))] if draw(st.integers(0, 3)) == 0 else data


def one_line(error: DataError, path: Path, pattern: str = "") -> None:
    assert re.match(pattern, str(error))
    assert "\n" not in str(error)
    assert str(path) in str(error)
    assert len(str(error)) < 1000


@FUZZ
@given(st.one_of(damaged(ROWS), damaged(ROWS), st.binary(max_size=200)), st.booleans())
def test_behaviors(tmp_path: Path, data: bytes, allow_unknown: bool):
    path = tmp_path / "behaviors.tsv"
    path.write_bytes(data)
    # What the row parser says of each line by itself is the truth that the reader by blocks has to meet.
    log = RowLog(path, skip_bad_rows=True)
    parser = RowParser(NEWS, log, allow_unknown=allow_unknown, id_pattern=mind.NEWS_ID)
    lines = data.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    is_cut = lines[-1] != b""
    if not is_cut:
        lines.pop()
    seen: set[str] = set()
    labelled: bool | None = None
    kept, first_bad = [], None
    for number, line in enumerate(lines, 1):
        row = parser.parse(
            number, line.removesuffix(b"\r") if line.endswith(b"\r") else line,
            is_cut=is_cut and number == len(lines),
        )  # fmt: skip
        is_bad = isinstance(row, Problem)
        if not isinstance(row, Problem):
            is_bad = row.impression in seen or labelled not in (None, row.labels is not None)
        if isinstance(row, Problem) or is_bad:
            first_bad = first_bad or number
            continue
        seen.add(row.impression)
        labelled = row.labels is not None
        kept.append(row)
    try:
        behaviors, bad = mind.read_behaviors(path, NEWS, allow_unknown=allow_unknown)
    except DataError as error:
        one_line(error, path)
        place = re.match(re.escape(str(path)) + r":(\d+):(\d+): ", str(error))
        assert place is not None
        assert int(place[1]) == first_bad
        assert int(place[2]) >= 1
        return
    assert first_bad is None
    assert bad.rows == len(lines)
    assert bad.remarks == log.finish().remarks
    assert list(behaviors.impression_ids) == [row.impression for row in kept]
    assert [behaviors.user_ids[user] for user in behaviors.users] == [row.user for row in kept]
    assert behaviors.times.tolist() == [row.time for row in kept]
    for place, row in enumerate(kept):
        assert behaviors.histories[place].tolist() == row.history
        assert behaviors.candidates[place].tolist() == row.candidates
    if labelled:
        assert behaviors.labels is not None
        assert behaviors.labels.tolist() == [label for row in kept for label in row.labels or []]


@FUZZ
@given(damaged(b"77\tU1\t11/9/2019 9:57:55 AM\tN1 N22\tN22-1 N1-0"), st.integers(1, 120))
def test_good_rows_around_a_bad_one_are_all_kept(tmp_path: Path, damage: bytes, at: int):
    path = tmp_path / "behaviors.tsv"
    rows = [
        b"g%d\tU%d\t11/9/2019 9:57:55 AM\tN1\tN22-1 N333-0" % (number, number % 5) for number in range(120)
    ]
    # Not first, where it would say whether labels are to be expected.
    rows.insert(at, damage.replace(b"\n", b""))
    path.write_bytes(b"\n".join(rows) + b"\n")
    behaviors, bad = mind.read_behaviors(path, NEWS, skip_bad_rows=True)
    good = [name for name in behaviors.impression_ids if re.fullmatch(r"g\d+", name)]
    assert good == [f"g{number}" for number in range(120)]
    assert bad.rows == len(rows)
    assert len(behaviors) + len(bad) == len(rows)
    assert len(behaviors.candidates.values) == len(behaviors.labels)


@FUZZ
@given(st.one_of(damaged(NEWS_ROWS), st.binary(max_size=200)), st.booleans())
def test_news(tmp_path: Path, data: bytes, skip_bad_rows: bool):
    path = tmp_path / "news.tsv"
    path.write_bytes(data)
    try:
        news, bad = mind.read_news(path, skip_bad_rows=skip_bad_rows)
    except DataError as error:
        one_line(error, path, re.escape(str(path)) + r":\d+:\d+: |.*rows are bad")
        return
    assert len(news) <= bad.rows + 1
    assert len(news.titles) == len(news.categories) == len(news.entities) == len(news)
    assert news.categories.max() < len(news.category_names)


@FUZZ
@given(st.one_of(damaged(VECTORS), st.binary(max_size=100)))
def test_vectors(tmp_path: Path, data: bytes):
    path = tmp_path / "entity_embedding.vec"
    path.write_bytes(data)
    try:
        vectors, found = read_vectors(path, ["Q5", "Q9"])
    except DataError as error:
        one_line(error, path)
        return
    assert vectors.shape == (2, vectors.shape[1])
    assert np.isfinite(vectors).all()
    assert not vectors[~found].any()
