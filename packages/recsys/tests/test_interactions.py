"""Click logs of any portal: read from CSV and Parquet, made into impressions by the stated rule, split in time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from multiway_core.errors import ConfigError, DataError, InputError, MultiwayError, OutputError
from multiway_recsys.data import mind
from multiway_recsys.data.catalogue import Catalogue, mind_ids, reader_ids
from multiway_recsys.data.clicks import (
    ClickLog,
    ImpressionRules,
    make_impressions,
    sort_clicks,
    split_by_time,
    write_splits,
)  # fmt: skip
from multiway_recsys.data.interactions import read_clicks
from multiway_recsys.data.tables import UNKNOWN_TIME, Behaviors

LOG = """user,item,time,title,category
ann,100,1000,"Storm, again",weather
bob,100,2024-05-01T12:30:00,,
ann,7,1714566600500,Match report,sports
ann,7,5,,
"""


def write(folder: Path, content: str | bytes, name: str = "log.csv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def random_log(seed: int = 0, clicks: int = 2000, readers: int = 40, items: int = 60) -> ClickLog:
    random = np.random.default_rng(seed)
    catalogue = Catalogue()
    for item in range(items):
        catalogue.row(f"N{item + 1}", title=f"Title {item}", category=f"c{item % 3}")
    news, _ = catalogue.news()
    popular = np.minimum(random.geometric(0.06, clicks), items)
    return sort_clicks(
        news, random.integers(0, readers, clicks), tuple(f"U{n}" for n in range(readers)), popular,
        random.integers(0, 100 * 3600, clicks),
    )  # fmt: skip


def test_a_csv_log_is_read_and_sorted(tmp_path: Path):
    log, notes = read_clicks(write(tmp_path, LOG))
    assert log.times.tolist() == [5, 1000, 1714566600, 1714566600]
    assert [log.user_ids[user] for user in log.users] == ["ann", "ann", "bob", "ann"]
    assert [log.news.titles[item] for item in log.items] == [
        "Match report", "Storm, again", "Storm, again", "Match report",
    ]  # fmt: skip
    assert log.news.ids == ("", "N100", "N7")
    assert log.original_ids == ("", "100", "7")
    assert log.news.category_names == ("", "weather", "sports")
    assert log.news.published is None
    assert notes[0].rows == 4


def test_parquet_and_csv_of_other_names_read_the_same(tmp_path: Path):
    table = pl.DataFrame(
        {"visitor": [5, 6, 5], "page": ["x", "y", "y"], "at": [10, 20, 30]},
    ).with_columns(pl.from_epoch("at", time_unit="s"))
    table.write_parquet(tmp_path / "log.parquet")
    names = {"user": "visitor", "item": "page", "time": "at"}
    log, _ = read_clicks(tmp_path / "log.parquet", columns=names)
    other, _ = read_clicks(write(tmp_path, "visitor;page;at\n5;x;10\n6;y;20\n5;y;30\n"), columns=names)
    for each in (log, other):
        assert each.user_ids == ("5", "6")
        assert each.news.ids == ("", "N1", "N2")
        assert each.original_ids == ("", "x", "y")
        assert each.items.tolist() == [1, 2, 2]
        assert each.times.tolist() == [10, 20, 30]


def test_items_come_from_a_file_of_their_own(tmp_path: Path):
    items = write(tmp_path, "item\ttitle\tpublished\n7\tReport\t60\n8\tUnread\t\n", "items.tsv")
    log, notes = read_clicks(write(tmp_path, "user,item,time\na,7,70\na,9,80\n"), items)
    assert log.news.titles == ("", "Report", "Unread", "")
    assert log.news.published is not None
    assert log.news.published.tolist() == [UNKNOWN_TIME, 60, UNKNOWN_TIME, UNKNOWN_TIME]
    assert log.items.tolist() == [1, 3]
    assert [note.rows for note in notes] == [2, 2]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("user,item,when\na,1,5\n", r'log.csv has no column "time" \(time\); it has user, item, when'),
        ("user,item,time\na,1,5\n,1,6\n", r"log.csv:2:1: no user"),
        ("user,item,time\na,,5\n", r"log.csv:1:1: no item"),
        ("user,item,time\na,1,5\nb,1,soon\n", r'log.csv:2:1: time "soon"; expected seconds or milliseconds'),
        ("user,item,time\na,1,5,6\n", r"cannot read .*log.csv: .*expected CSV with a header, or Parquet"),
        ("", r"cannot read .*log.csv"),
    ],
)
def test_a_bad_log_is_refused(tmp_path: Path, content: str, message: str):
    with pytest.raises(DataError, match=message.replace("log.csv", r"log\.csv")):
        read_clicks(write(tmp_path, content))


def test_bad_rows_can_be_skipped(tmp_path: Path):
    rows = "".join(f"u{n % 9},{n % 50},{n}\n" for n in range(200))
    log, notes = read_clicks(write(tmp_path, "user,item,time\nx,1,never\n" + rows), skip_bad_rows=True)
    assert len(log) == 200
    assert notes[0].rejected == {"time": 1}
    with pytest.raises(InputError, match="no column is called 'reader' here"):
        read_clicks(tmp_path / "log.csv", columns={"reader": "x"})
    with pytest.raises(DataError, match=r"cannot read .*no such file"):
        read_clicks(tmp_path / "absent.csv")
    with pytest.raises(DataError, match=r"cannot read .*Parquet"):
        read_clicks(write(tmp_path, b"PAR1 no parquet PAR1", "log.parquet"))


def test_ids_are_mind_ids():
    assert mind_ids(["N5", "N007"]) == ("N5", "N007")
    assert mind_ids(["5", "007"]) == ("N5", "N007")
    assert mind_ids(["5", "x"]) == ("N1", "N2")
    assert reader_ids(["ann", "u 2"]) == ("U1", "U2")


def check_rule(log: ClickLog, behaviors: Behaviors, rules: ImpressionRules) -> None:
    """The rule at the head of `clicks`, impression by impression."""
    read: dict[int, list[tuple[int, int]]] = {}
    for user, item, time in zip(log.users.tolist(), log.items.tolist(), log.times.tolist(), strict=True):
        if item not in [known for known, _ in read.setdefault(user, [])]:
            read[user].append((item, time))
    labels = behaviors.labels
    assert labels is not None
    for row in range(len(behaviors)):
        mine = read[int(behaviors.users[row])]
        place = slice(*behaviors.candidates.offsets[row : row + 2])
        shown, clicked = behaviors.candidates.values[place].tolist(), labels[place].tolist()
        history = behaviors.histories[row].tolist()
        positives = {item for item, label in zip(shown, clicked, strict=True) if label}
        negatives = [item for item, label in zip(shown, clicked, strict=True) if not label]
        before = min(place for place, (item, _) in enumerate(mine) if item in positives)
        assert history == [item for item, _ in mine[:before]][-rules.max_history :]
        assert positives == {item for item, _ in mine[before : before + len(positives)]}
        assert behaviors.times[row] == mine[before][1]
        assert len(set(shown)) == len(shown)
        assert 1 <= len(negatives) <= rules.negatives
        assert not set(negatives) & {item for item, _ in mine}
        assert 0 not in shown


@pytest.mark.parametrize(
    "rules",
    [
        ImpressionRules(negatives=5),
        ImpressionRules(grouping="session", session_minutes=90, negatives=4, min_history=0, max_history=7),
        ImpressionRules(negatives=60, recent_hours=5.0),
    ],
)
def test_impressions_follow_the_rule(rules: ImpressionRules):
    log = random_log()
    behaviors = make_impressions(log, rules)
    check_rule(log, behaviors, rules)
    assert (np.diff(behaviors.times) >= 0).all()
    assert behaviors.impression_ids == tuple(str(n + 1) for n in range(len(behaviors)))
    again = make_impressions(log, rules)
    assert again.candidates.values.tolist() == behaviors.candidates.values.tolist()
    other = make_impressions(log, ImpressionRules(**{**vars(rules), "seed": 1}))
    assert other.candidates.values.tolist() != behaviors.candidates.values.tolist()


def test_other_candidates_are_as_popular_as_clicks_and_stand_anywhere():
    log = random_log(clicks=8000, readers=800)
    rules = ImpressionRules(negatives=1)
    behaviors = make_impressions(log, rules)
    labels = behaviors.labels
    assert labels is not None
    reads = np.bincount(log.items, minlength=len(log.news))
    clicked, others = (reads[behaviors.candidates.values[labels == label]].mean() for label in (1, 0))
    uniform = reads[1:].mean()
    assert others > 1.5 * uniform
    assert others == pytest.approx(clicked, rel=0.15)
    assert labels[behaviors.candidates.offsets[:-1]].mean() == pytest.approx(0.5, abs=0.03)


def test_recent_candidates_were_clicked_recently():
    log = random_log(clicks=6000, readers=500)
    # News are read in the order of their numbers, so that a number tells a time.
    moving = ClickLog(**{**vars(log), "items": (1 + log.times * 60 // (100 * 3600)).astype(np.int32)})
    behaviors = make_impressions(moving, ImpressionRules(negatives=3, recent_hours=10.0))
    rows = np.repeat(np.arange(len(behaviors)), behaviors.candidates.lengths)
    age = behaviors.times[rows] / 6000 + 1 - behaviors.candidates.values
    late = (behaviors.times[rows] > 20 * 3600) & (behaviors.labels == 0)
    assert late.sum() > 1000
    assert (age[late] >= 0).mean() > 0.99
    assert (age[late] <= 8).mean() > 0.99


def test_a_split_by_time_has_no_overlap():
    splits = split_by_time(make_impressions(random_log()), (0.7, 0.2, 0.1))
    assert len(splits["train"]) > len(splits["dev"]) > len(splits["test"]) > 0
    assert splits["train"].times.max() < splits["dev"].times.min()
    assert splits["dev"].times.max() < splits["test"].times.min()
    with pytest.raises(ConfigError, match="sum to 1"):
        split_by_time(splits["train"], (0.5, 0.5, 0.5))


def test_written_splits_are_mind_folders(tmp_path: Path):
    log, _ = read_clicks(write(tmp_path, "user,item,time,title\n" + "".join(
        f"u{n % 13},page-{n * n % 31},{n * 60},T{n * n % 31}\n" for n in range(300))))  # fmt: skip
    splits = split_by_time(make_impressions(log, ImpressionRules(negatives=4)))
    write_splits(tmp_path / "out", log, splits)
    for name, behaviors in splits.items():
        data = mind.read_folder(tmp_path / "out", name, users=log.user_ids)
        assert data.news.titles == log.news.titles
        assert data.behaviors.candidates.values.tolist() == behaviors.candidates.values.tolist()
        assert data.behaviors.histories.values.tolist() == behaviors.histories.values.tolist()
        assert data.behaviors.times.tolist() == behaviors.times.tolist()
    originals = (tmp_path / "out" / "original_ids.tsv").read_text().splitlines()
    assert originals[0] == "N1\tpage-0"
    with pytest.raises(OutputError, match="not empty"):
        write_splits(tmp_path / "out", log, splits)


def test_a_log_without_impressions_and_bad_rules_are_refused():
    log = random_log(clicks=3)
    log = ClickLog(**{**vars(log), "users": np.arange(3, dtype=np.int32)})
    with pytest.raises(InputError, match="give no impression; expected a reader with more than 1 clicks"):
        make_impressions(log)
    with pytest.raises(ConfigError, match="expected one of each, session"):
        ImpressionRules(grouping="all")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="must be 1 or more"):
        ImpressionRules(negatives=0)


@settings(
    max_examples=40, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
@given(st.integers(0, len(LOG)), st.binary(max_size=8), st.integers(0, 9), st.booleans())
def test_damaged_logs_never_escape(tmp_path: Path, at: int, piece: bytes, cut: int, is_parquet: bool):
    data = LOG.encode()
    name = "log.csv"
    if is_parquet:
        name = "log.parquet"
        pl.read_csv(data, infer_schema=False).write_parquet(tmp_path / name)
        data = (tmp_path / name).read_bytes()
        at = at * len(data) // len(LOG)
    try:
        log, _ = read_clicks(write(tmp_path, data[:at] + piece + data[at + cut :], name))
        make_impressions(log, ImpressionRules(min_history=0))
    except MultiwayError as error:
        assert "\n" not in str(error)  # noqa: PT017
