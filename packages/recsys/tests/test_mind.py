"""MIND folders: what is read, what is refused and how it is said, and that a written folder reads back."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from multiway_core.errors import DataError, InputError
from multiway_recsys.data import lines, mind, mind_times
from multiway_recsys.data.bad_rows import RowLog
from multiway_recsys.data.ids import IdTable, padded
from multiway_recsys.data.mind_rows import Row, RowParser
from multiway_recsys.data.tables import UNKNOWN_TIME, Behaviors, News, Ragged

NEWS = (
    'N1\tsports\tsoccer\tA "quoted" title\'s end\tAbstract\thttps://x\t'
    '[{"Label": "A", "WikidataId": "Q5"}, {"WikidataId": "Q7"}]\t[]\n'
    "N22\tnews\tworld\tSecond\t\t\t[]\t\n"
    "N333\tsports\ttennis\tDritte Überschrift\t\t\t\t\n"
)
ROWS = (
    "1\tU9\t11/9/2019 9:57:55 AM\tN1 N22 N1\tN333-1 N22-0\n"
    "2\tU8\t11/10/2019 12:00:01 AM\t\tN1-0\n"
    "3\tU9\t11/14/2019 12:30:00 PM\tN333\tN22-0 N1-1 N333-0\n"
)


@pytest.fixture
def news(tmp_path: Path) -> News:
    return read_news(tmp_path, NEWS)[0]


def read_news(folder: Path, content: str | bytes, **options):
    path = folder / "news.tsv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return mind.read_news(path, **options)


def read_rows(folder: Path, news: News, content: str | bytes, **options):
    path = folder / "behaviors.tsv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return mind.read_behaviors(path, news, **options)


def lists(ragged: Ragged) -> list[list[int]]:
    return [ragged[row].tolist() for row in range(len(ragged))]


def assert_same(one: Behaviors, other: Behaviors) -> None:
    for item in fields(Behaviors):
        mine, theirs = getattr(one, item.name), getattr(other, item.name)
        if isinstance(mine, Ragged):
            assert lists(mine) == lists(theirs), item.name
        elif isinstance(mine, np.ndarray):
            assert mine.dtype == theirs.dtype, item.name
            assert mine.tolist() == theirs.tolist(), item.name
        else:
            assert mine == theirs, item.name


def test_news_are_read_without_quoting(news: News):
    assert news.ids == ("", "N1", "N22", "N333")
    assert news.titles == ("", 'A "quoted" title\'s end', "Second", "Dritte Überschrift")
    assert news.abstracts == ("", "Abstract", "", "")
    assert news.category_names == ("", "sports", "news")
    assert news.categories.tolist() == [0, 1, 2, 1]
    assert [news.subcategory_names[row] for row in news.subcategories] == ["", "soccer", "world", "tennis"]
    assert news.entity_ids == ("", "Q5", "Q7")
    assert lists(news.entities) == [[], [1, 2], [], []]


def test_behaviors_are_read(tmp_path: Path, news: News):
    behaviors, bad = read_rows(tmp_path, news, ROWS)
    assert behaviors.impression_ids == ("1", "2", "3")
    assert behaviors.user_ids == ("U9", "U8")
    assert behaviors.users.tolist() == [0, 1, 0]
    assert lists(behaviors.histories) == [[1, 2, 1], [], [3]]
    assert lists(behaviors.candidates) == [[3, 2], [1], [2, 1, 3]]
    assert behaviors.labels is not None
    assert behaviors.labels.tolist() == [1, 0, 0, 0, 1, 0]
    assert behaviors.times.tolist() == [1573293475, 1573344001, 1573734600]
    assert bad.rows == 3
    assert len(bad) == 0
    assert bad.table() == ""


@pytest.mark.parametrize(
    "content",
    [
        ROWS.replace("\n", "\r\n"),
        "\ufeff" + ROWS,
        ROWS.removesuffix("\n"),
        ROWS.replace("N1 N22 N1", " N1  N22 N1 ").replace("N1-0\n", " N1-0  \n"),
    ],
    ids=["crlf", "byte order mark", "no last line end", "surplus blanks"],
)
def test_harmless_forms_read_the_same(tmp_path: Path, news: News, content: str):
    assert_same(read_rows(tmp_path, news, content)[0], read_rows(tmp_path, news, ROWS)[0])


def test_a_test_file_has_no_labels(tmp_path: Path, news: News):
    behaviors, _ = read_rows(tmp_path, news, ROWS.replace("-1", "").replace("-0", ""))
    assert behaviors.labels is None
    assert lists(behaviors.candidates) == [[3, 2], [1], [2, 1, 3]]


def test_an_empty_file_has_no_rows(tmp_path: Path, news: News):
    behaviors, bad = read_rows(tmp_path, news, "")
    assert len(behaviors) == 0
    assert bad.rows == 0
    assert len(behaviors.candidates) == 0


def test_later_files_keep_the_numbers_of_earlier_ones(tmp_path: Path, news: News):
    later = "N9\tnews\tlocal\tNew\t\t\t\t\nN1\tsports\tsoccer\tother words\t\t\t\t\n"
    both, bad = read_news(tmp_path, later, known=news)
    assert both.ids == (*news.ids, "N9")
    assert both.titles[1] == news.titles[1]
    assert both.categories.tolist() == [0, 1, 2, 1, 2]
    assert both.subcategory_names == (*news.subcategory_names, "local")
    assert bad.remarks == {"other text": 1}
    behaviors, _ = read_rows(tmp_path, both, "5\tU1\t1/1/2020 1:01:01 PM\tN9\tN1-1\n", users=("U7", "U1"))
    assert behaviors.user_ids == ("U7", "U1")
    assert behaviors.users.tolist() == [1]
    assert lists(behaviors.histories) == [[4]]


GOOD = "9\tU1\t11/9/2019 9:57:55 AM\tN1\tN22-1"


@pytest.mark.parametrize(
    ("row", "column", "words"),
    [
        ("9\tU1\t11/9/2019 9:57:55 AM\tN1", 1, ["4 columns", "expected 5"]),
        (GOOD + "\tmore", 1, ["6 columns", "expected 5"]),
        ("", 1, ["1 column ", "expected 5"]),
        ("\tU1\t11/9/2019 9:57:55 AM\tN1\tN22-1", 1, ["impression id", "expected one word"]),
        ("9\tU 1\t11/9/2019 9:57:55 AM\tN1\tN22-1", 3, ["user id", '"U 1"']),
        ("9\tU1\t2019-11-09 09:57\tN1\tN22-1", 6, ["time", "2019-11-09 09:57", "month/day/year"]),
        ("9\tU1\t2/29/2019 9:57:55 AM\tN1\tN22-1", 6, ["time"]),
        ("9\tU1\t11/9/2019 13:57:55 PM\tN1\tN22-1", 6, ["time"]),
        ("9\tU1\t11/9/2019 9:57:55 AM\tN1 X5\tN22-1", 30, ["history", '"X5"', "expected N and digits"]),
        ("9\tU1\t11/9/2019 9:57:55 AM\tN1\tN22-1 N1-2", 36, ["label", '"N1-2"', 'expected "-0" or "-1"']),
        ("9\tU1\t11/9/2019 9:57:55 AM\tN1\tN22-1 N1", 36, ["without a label", "for all or for none"]),
        ("9\tU1\t11/9/2019 9:57:55 AM\tN1\tN22-1 N77-0", 36, ['"N77"', "not in the news"]),
        ("9\tU1\t11/9/2019 9:57:55 AM\tN1\t@-0", 30, ['"@-0"', "no news id"]),
        ("9\tU1\t11/9/2019 9:57:55 AM\tN1\t", 30, ["empty", "at least one news"]),
        ("3\tU1\t11/9/2019 9:57:55 AM\tN1\tN22-1", 1, ['"3"', "was there before"]),
        ("9\tU1\t11/9/2019 9:57:55 AM\tN1\tN22", 1, ["no labels, the rows before have"]),
    ],
)
@pytest.mark.parametrize("place", ["at the end", "in the middle"])
def test_a_bad_row_is_named(tmp_path: Path, news: News, row: str, column: int, words: list[str], place: str):
    behind = "" if place == "at the end" else "77\tU1\t11/9/2019 9:57:55 AM\tN1\tN22-1\n"
    with pytest.raises(DataError) as error:
        read_rows(tmp_path, news, ROWS + row + "\n" + behind)
    text = str(error.value)
    assert text.startswith(f"{tmp_path / 'behaviors.tsv'}:4:{column}: ")
    assert "\n" not in text
    for word in words:
        assert word in text
    assert len(text) < len(str(tmp_path)) + 350


def test_bytes_that_are_no_utf8_are_named(tmp_path: Path, news: News):
    with pytest.raises(DataError, match=r"behaviors.tsv:4:3: not UTF-8"):
        read_rows(tmp_path, news, ROWS.encode() + b"9\t\xff\t11/9/2019 9:57:55 AM\tN1\tN22-1\n")
    with pytest.raises(DataError, match=r"news.tsv:4:16: not UTF-8"):
        read_news(tmp_path, NEWS.encode() + b"N4\tnews\tworld\t\xc3\xa4\xe4\t\t\t\t\n")


def test_a_log_cut_in_the_middle_of_a_line_is_told(tmp_path: Path, news: News):
    with pytest.raises(DataError, match=r":4:1: 3 columns .*cut off\?"):
        read_rows(tmp_path, news, ROWS + "9\tU1\t11/9/20")
    with pytest.raises(DataError, match=r':4:36: .*"N1" without a label'):
        read_rows(tmp_path, news, ROWS + "9\tU1\t11/9/2019 9:57:55 AM\tN1\tN22-1 N1")


@pytest.mark.parametrize(
    ("row", "column", "words"),
    [
        ("N4\tnews\tworld\tTitle", 1, ["4 columns", "expected 8"]),
        ("4\tnews\tworld\tTitle\t\t\t\t", 1, ['"4" is no news id', "expected N and digits"]),
        ("N4\tnews\tworld\tTitle\t\t\t{\t", 23, ["title entities: bad JSON", "WikidataId"]),
        ("N4\tnews\tworld\tTitle\t\t\t\t[{}]", 24, ["abstract entities", 'without "WikidataId"']),
        ("N4\tnews\tworld\tTitle\t\t\t{}\t", 23, ["no list"]),
        ("N4\tnews\tworld\tTitle\t\t\t" + "[" * 100_000 + "\t", 23, ["too deep"]),
        ("N1\tsports\tsoccer\tAnother\tAbstract\t\t\t", 1, ['"N1" was there before']),
    ],
)
def test_a_bad_news_is_named(tmp_path: Path, row: str, column: int, words: list[str]):
    with pytest.raises(DataError) as error:
        read_news(tmp_path, NEWS + row + "\n")
    assert str(error.value).startswith(f"{tmp_path / 'news.tsv'}:4:{column}: ")
    for word in words:
        assert word in str(error.value)


def test_the_same_news_twice_and_a_news_without_title_are_taken(tmp_path: Path):
    news, bad = read_news(tmp_path, NEWS + NEWS.splitlines()[1] + "\nN5\tnews\tworld\t\t\t\t\t\n")
    assert news.ids == ("", "N1", "N22", "N333", "N5")
    assert bad.remarks == {"no title": 1}
    assert "news.tsv:5:15: title:" in bad.table()


def test_bad_rows_can_be_skipped_and_are_counted(tmp_path: Path, news: News):
    rows = [GOOD.replace("9\tU1", f"{number}\tU{number % 7}", 1) for number in range(1000)]
    rows[500:500] = [
        "x",
        "5000\tU1\tnever\t\tN1-0",
        "3\tU1\t11/9/2019 9:57:55 AM\t\tN1-0",
        "5001\tU1\tnow\t\tN1-0",
        "5002\tU1\t11/9/2019 9:57:55 AM\tN99 N1\tN1-0",
        "5003\tU1\t11/9/2019 9:57:55 AM\tN98\tN1",
    ]
    behaviors, bad = read_rows(tmp_path, news, "\n".join(rows) + "\n", skip_bad_rows=True)
    assert len(behaviors) == 1001
    assert behaviors.impression_ids[499:502] == ("499", "5002", "500")
    assert behaviors.histories[500].tolist() == [0, 1]
    assert bad.rejected == {"columns": 1, "time": 2, "repeated impression": 1, "mixed labels": 1}
    assert bad.remarks == {"unknown in history": 2}
    assert len(bad) == 5
    table = bad.table()
    assert "1,006 rows, 5 left out" in table
    assert f"{tmp_path / 'behaviors.tsv'}:502:11: time" not in table.splitlines()[0]
    assert "behaviors.tsv:502:9: time" in table


def test_more_than_one_percent_of_bad_rows_is_an_error(tmp_path: Path, news: News):
    rows = [GOOD.replace("9\tU1", f"{number}\tU1", 1) for number in range(99)]
    _, bad = read_rows(tmp_path, news, "\n".join([*rows, "x"]) + "\n", skip_bad_rows=True)
    assert len(bad) == 1
    with pytest.raises(DataError, match=r"2 of 101 rows are bad \(columns 2\), more than the 1%.*:100:1"):
        read_rows(tmp_path, news, "\n".join([*rows, "x", "y"]) + "\n", skip_bad_rows=True)


def test_unknown_candidates_are_taken_where_allowed(tmp_path: Path, news: News):
    behaviors, bad = read_rows(tmp_path, news, ROWS.replace("N333-1", "N4444-1"), allow_unknown=True)
    assert lists(behaviors.candidates)[0] == [0, 2]
    assert bad.remarks == {"unknown candidate": 1}


def test_other_portals_name_their_pattern(tmp_path: Path):
    news, _ = read_news(
        tmp_path, "a-1\tx\ty\tTitle\t\t\t\t\nlong-article-name-77\tx\ty\tT\t\t\t\t\n", id_pattern="[a-z0-9-]+"
    )
    behaviors, _ = read_rows(
        tmp_path, news, "1\tU1\t1/1/2020 1:00:00 AM\ta-1 long-article-name-77\tlong-article-name-77-1 a-1-0\n",
        id_pattern="[a-z0-9-]+",
    )  # fmt: skip
    assert lists(behaviors.histories) == [[1, 2]]
    assert lists(behaviors.candidates) == [[2, 1]]
    assert behaviors.labels is not None
    assert behaviors.labels.tolist() == [1, 0]


def random_folder(seed: int, rows: int = 300) -> tuple[News, Behaviors]:
    random = np.random.default_rng(seed)
    count = 50
    news = News(
        ids=("", *(f"N{7 ** (n % 12)}{n}" for n in range(count))),  # up to 13 characters
        titles=("", *(f"Title {n} äöü 新聞" for n in range(count))),
        abstracts=("",) * (count + 1),
        categories=np.array([0, *random.integers(0, 3, count)], np.int32),
        subcategories=np.array([0, *random.integers(0, 3, count)], np.int32),
        entities=Ragged.from_rows([[], *(random.integers(1, 4, n % 3).tolist() for n in range(count))]),
        category_names=("", "one", "two"),
        subcategory_names=("", "a b", "c"),
        entity_ids=("", "Q1", "Q22", "Q333"),
        published=np.array([UNKNOWN_TIME, *random.integers(-(10**9), 10**9, count - 1), UNKNOWN_TIME]),
    )  # fmt: skip
    shown = Ragged.from_rows(
        [random.integers(1, count + 1, random.integers(1, 9)).tolist() for _ in range(rows)]
    )
    behaviors = Behaviors(
        impression_ids=tuple(str(n) for n in range(rows)),
        users=random.integers(0, 9, rows).astype(np.int32),
        user_ids=tuple(f"U{n}" for n in range(9)),
        times=random.integers(0, 2 * 10**9, rows),
        histories=Ragged.from_rows([random.integers(1, count + 1, size) for size in random.integers(0, 9, rows)]),
        candidates=shown,
        labels=random.integers(0, 2, len(shown.values)).astype(np.int8),
    )  # fmt: skip
    return news, behaviors


@pytest.mark.parametrize("labelled", [True, False])
def test_a_written_folder_reads_back(tmp_path: Path, labelled: bool):
    news, behaviors = random_folder(1)
    vectors = np.random.default_rng(2).normal(size=(4, 5)).astype(np.float32)
    vectors[0] = 0
    if not labelled:
        behaviors = replace(behaviors, labels=None)
    mind.write_folder(tmp_path / "data", news, behaviors, entity_vectors=vectors)
    data = mind.read_folder(tmp_path / "data", users=behaviors.user_ids)
    assert_same(data.behaviors, behaviors)
    assert data.news.ids == news.ids
    assert data.news.titles == news.titles
    assert [data.news.category_names[row] for row in data.news.categories] == [
        news.category_names[row] for row in news.categories
    ]
    names = [[data.news.entity_ids[entity] for entity in row] for row in lists(data.news.entities)]
    assert names == [[news.entity_ids[entity] for entity in row] for row in lists(news.entities)]
    assert data.news.published is not None
    assert data.news.published.tolist() == news.published.tolist()
    assert data.entity_vectors is not None
    for row, name in enumerate(data.news.entity_ids):
        assert data.entity_vectors[row].tolist() == vectors[news.entity_ids.index(name)].tolist()


def test_line_breaks_in_texts_become_blanks_and_bad_ids_are_refused(tmp_path: Path):
    news, behaviors = random_folder(1, rows=3)
    titles = (*news.titles[:5], "one\ttwo\r\nthree", *news.titles[6:])
    mind.write_folder(tmp_path / "data", replace(news, titles=titles), behaviors)
    assert mind.read_folder(tmp_path / "data").news.titles[5] == "one two three"
    with pytest.raises(InputError, match='user id "a b"'):
        mind.write_folder(tmp_path, news, replace(behaviors, user_ids=("a b",) * 9))
    unknown = Ragged(np.zeros_like(behaviors.candidates.values), behaviors.candidates.offsets)
    with pytest.raises(InputError, match="impression 0 has an unknown candidate"):
        mind.write_folder(tmp_path, news, replace(behaviors, candidates=unknown))


def test_blocks_of_any_size_give_the_same(tmp_path: Path):
    news, behaviors = random_folder(3, rows=80)
    mind.write_folder(tmp_path, news, behaviors)
    for size in (64, 1000):
        parts = list(
            mind.stream_behaviors(
                tmp_path / "behaviors.tsv", news, users=behaviors.user_ids, block_bytes=size
            )
        )
        assert len(parts) > 5
        assert sum((part.impression_ids for part in parts), ()) == behaviors.impression_ids
        assert (
            np.concatenate([part.candidates.values for part in parts]).tolist()
            == behaviors.candidates.values.tolist()
        )
        assert (
            np.concatenate([part.histories.values for part in parts]).tolist()
            == behaviors.histories.values.tolist()
        )


def test_splits_are_found_by_their_names(tmp_path: Path):
    news, behaviors = random_folder(4, rows=5)
    mind.write_folder(tmp_path / "one" / "train", news, behaviors)
    mind.write_folder(tmp_path / "two" / "MINDsmall_dev", news, behaviors)
    assert mind.find_split(tmp_path / "one", "train").name == "train"
    assert mind.find_split(tmp_path / "one" / "train", "dev").name == "train"
    assert mind.find_split(tmp_path / "two", "dev").name == "MINDsmall_dev"
    with pytest.raises(DataError, match="holds no test split; expected"):
        mind.find_split(tmp_path / "two", "test")
    mind.write_folder(tmp_path / "two" / "MINDlarge_dev", news, behaviors)
    with pytest.raises(DataError, match=r"more than one dev split \(MINDlarge_dev, MINDsmall_dev\)"):
        mind.read_folder(tmp_path / "two", "dev")
    with pytest.raises(DataError, match="is no folder"):
        mind.read_folder(tmp_path / "nothing")


def test_times_are_read_as_the_row_parser_reads_them():
    texts = [
        "11/9/2019 9:57:55 AM", "1/1/1970 12:00:00 AM", "12/31/9999 11:59:59 PM", "2/29/2020 12:00:00 PM",
        "2/29/2100 1:00:00 PM", "11/9/2019 0:57:55 AM", "11/9/2019 9:57:60 AM", "11/9/2019 9:57:5 AM",
        "111/9/2019 9:57:55 AM", "11/9/19 9:57:55 AM", "11/9/2019 9:57:55 XM", "11/9/2019 9:57:55", "", "x",
        "//  :: AM", "1/1/2019 1:1:1 AM", "11-9-2019 9:57:55 AM", "11/9/2019  9:57:55 AM", "1/1/0000 1:00:00 AM",
        "11/9/2019 9:57:55 AMx", "11/09/2019 09:57:55 AM", "11/9/2019 9:57:55PM   ", "1/1/1/ 1:1:1:1 AM",
        "13/1/2019 1:00:00 AM",
    ]  # fmt: skip
    data = "\t".join(texts).encode()
    ends = np.cumsum([len(text) + 1 for text in texts]) - 1
    starts = ends - np.array([len(text) for text in texts])
    seconds, good = mind_times.parse_times(padded(data), starts, ends)
    for text, second, is_time in zip(texts, seconds, good, strict=True):
        expected = mind_times.parse_time(text)
        assert bool(is_time) == (expected is not None), text
        assert not is_time or second == expected, text
    for second in [0, 1573293475, 86399, 43200, 4 * 10**9, -1]:
        assert mind_times.parse_time(mind_times.format_time(second)) == second


def test_ids_are_found_by_all_their_bytes():
    random = np.random.default_rng(0)
    names = list({"".join(random.choice(list("ab"), random.integers(1, 20))) for _ in range(2000)})
    ours, others = ["", *names[:700], names[0]], names[700:]
    table = IdTable(ours)
    asked = [*ours[1:701], *others, "a\0", "ab"]
    data = "".join(asked).encode()
    lengths = np.array([len(name) for name in asked])
    rows = table.rows(padded(data), np.cumsum(lengths) - lengths, lengths)
    numbers = {name: row for row, name in reversed(list(enumerate(ours))) if name}
    assert rows.tolist() == [numbers.get(name, -1) for name in asked]
    assert IdTable([""]).rows(padded(b"ab"), np.array([0]), np.array([2])).tolist() == [-1]
    assert IdTable([]).rows(padded(b"ab"), np.array([0]), np.array([2])).tolist() == [-1]


def test_a_file_without_line_ends_is_refused(tmp_path: Path, news: News, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lines, "LONGEST_LINE", 1 << 20)
    with pytest.raises(DataError, match=r"behaviors.tsv:1:1: the line is longer than 1 MiB"):
        read_rows(tmp_path, news, b"\0" * (5 << 20))
    with pytest.raises(DataError, match=r"cannot read .*no such file"):
        mind.read_behaviors(tmp_path / "absent.tsv", news)


def test_the_row_parser_agrees_with_the_blocks(tmp_path: Path):
    news, behaviors = random_folder(5, rows=40)
    mind.write_folder(tmp_path, news, behaviors)
    parser = RowParser(
        news, RowLog(tmp_path, skip_bad_rows=False), allow_unknown=False, id_pattern=mind.NEWS_ID
    )
    for row, line in enumerate((tmp_path / "behaviors.tsv").read_bytes().splitlines()):
        parsed = parser.parse(row + 1, line, is_cut=False)
        assert isinstance(parsed, Row)
        assert parsed.impression == behaviors.impression_ids[row]
        assert parsed.time == behaviors.times[row]
        assert parsed.history == behaviors.histories[row].tolist()
        assert parsed.candidates == behaviors.candidates[row].tolist()
