"""MSWeb and MovieLens-100K: both forms of each read, bad lines named; the real sets where they are."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from multiway_core.errors import DataError
from multiway_recsys.data import movielens, ms_web
from multiway_recsys.data.clicks import ImpressionRules
from multiway_recsys.metrics.ranking import evaluate_ranking

MSWEB = Path(__file__).parents[4] / "shared" / "data" / "news" / "msweb"
HEAD = 'I,4,"www.microsoft.com","created by getlog.pl"\nT,1,"VRoot",0,0,"VRoot"\nN,0,"0"\n'
AREAS = (
    'A,1277,1,"NetShow for ""PowerPoint""","/stream"\nA,1253,1,"MS Word Development","/worddev"\n'
    'A,5,1,"Third","/x"\n'
)
VISITS = 'C,"10164",10164\nV,1253,1\nV,1277,1\nC,"10165",10165\nC,"10166",10166\nV,5,1\n'


def write_msweb(folder: Path, data: str, test: str | None = None) -> Path:
    (folder / ms_web.DATA).write_text(data)
    if test is not None:
        (folder / ms_web.TEST).write_text(test)
    return folder


def test_msweb_visits(tmp_path: Path):
    log, first = ms_web.read_clicks(write_msweb(tmp_path, HEAD + AREAS + VISITS, HEAD + AREAS + VISITS))
    assert log.news.ids == ("", "N1277", "N1253", "N5")
    assert log.news.titles == ("", 'NetShow for "PowerPoint"', "MS Word Development", "Third")
    assert first == 3
    assert log.user_ids == ("U10164", "U10165", "U10166", "T10164", "T10165", "T10166")
    assert log.users.tolist() == [0, 0, 2, 3, 3, 5]
    assert log.items.tolist() == [2, 1, 3, 2, 1, 3]
    assert (np.diff(log.times) >= 0).all()
    news, splits = ms_web.read_splits(tmp_path, ImpressionRules(min_history=1, negatives=1))
    assert len(news) == 4
    assert [len(splits[name]) for name in ("train", "dev", "test")] == [1, 1, 0]
    assert splits["train"].histories[0].tolist() == [2]
    assert sorted(splits["train"].candidates[0].tolist()) == [1, 3]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("V,99,1", "anonymous-msweb.data:7:3: .*no such area"),
        ('A,5,1,"x"', "anonymous-msweb.data:7:1: .*expected A,1287"),
        ('C,"x",y', "anonymous-msweb.data:7:1: .*expected C,"),
        ("hello", "anonymous-msweb.data:7:1: .*expected a line of kind"),
        ("V", "anonymous-msweb.data:7:1: .*expected a line of kind"),
        ("V,5,1", "anonymous-msweb.data:7:1: .*belongs to no visitor"),
    ],
)
def test_bad_lines_of_msweb_are_named(tmp_path: Path, line: str, message: str):
    start = (
        HEAD + AREAS if "no visitor" in message else HEAD + AREAS.replace(AREAS.splitlines()[2], 'C,"1",1')
    )
    with pytest.raises(DataError, match=message):
        ms_web.read_clicks(write_msweb(tmp_path, start + line + "\n"))
    with pytest.raises(DataError, match=r"holds no anonymous-msweb\.data"):
        ms_web.read_clicks(tmp_path / "nothing")


def write_grouplens(folder: Path) -> Path:
    flags = ["0"] * 19
    flags[3] = flags[5] = "1"
    film = "|".join(["1", "Matrix, The (1999)", "01-Jan-1995", "", "http://x", *flags])
    other = "|".join(["2", "Les mis\u00e9rables (1995)", "", "", "", *["0"] * 19])
    (folder / "u.item").write_bytes((film + "\n" + other + "\n").encode("latin-1"))
    (folder / "u.data").write_text("7\t1\t5\t20\n8\t2\t3\t5\n8\t2\t4\t10\n")
    return folder


def test_movielens_of_grouplens(tmp_path: Path):
    log = movielens.read_clicks(write_grouplens(tmp_path))
    assert log.news.titles == ("", "The Matrix", "Les misérables")
    assert [log.news.category_names[row] for row in log.news.categories] == ["", "Animation", ""]
    assert log.news.subcategory_names == ("", "Comedy")
    assert [log.user_ids[user] for user in log.users] == ["U8", "U7"]
    assert log.items.tolist() == [2, 1]
    assert log.times.tolist() == [10, 20]


def test_movielens_of_recbole(tmp_path: Path):
    (tmp_path / "ml-100k.item").write_text(
        "item_id:token\tmovie_title:token_seq\tyear\tclass\n1\tToy Story\t1995\tAnimation Comedy\n"
    )
    (tmp_path / "ml-100k.inter").write_text(
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\n196\t1\t4\t881250949\n"
    )
    (tmp_path / "ml-100k.link").write_text("item_id:token\tentity_id:token\n1\tm.0dyb1\n")
    log = movielens.read_clicks(tmp_path)
    assert log.news.ids == ("", "N1")
    assert log.news.entity_ids == ("", "m.0dyb1")
    assert log.news.entities[1].tolist() == [1]
    assert log.user_ids == ("U196",)
    assert len(log) == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("7\t1\t5", "u.data:4:1: .*expected user, film, rating and seconds"),
        ("7\t1\tx\t5", "u.data:4: rating"),
        ("7\t9\t5\t5", 'u.data:4: film "9"'),
    ],
)
def test_bad_lines_of_movielens_are_named(tmp_path: Path, line: str, message: str):
    folder = write_grouplens(tmp_path)
    (folder / "u.data").write_text((folder / "u.data").read_text() + line + "\n")
    with pytest.raises(DataError, match=message):
        movielens.read_clicks(folder)
    with pytest.raises(DataError, match=r"holds neither u\.data"):
        movielens.read_clicks(folder / "nothing")


@pytest.mark.shared_data
@pytest.mark.skipif(not MSWEB.is_dir(), reason="needs ../shared/data")
def test_the_real_msweb():
    log, first = ms_web.read_clicks(MSWEB)
    assert first == 32_711
    assert len(log.user_ids) == 37_711
    assert len(log.news) == 294 + 1
    assert (log.users < first).sum() == 98_654
    splits = ms_web.split_visitors(log, first, ImpressionRules())
    train, test = splits["train"], splits["test"]
    assert train.labels is not None
    reads = np.bincount(train.candidates.values[train.labels == 1], minlength=len(log.news))
    popularity = evaluate_ranking(reads[test.candidates.values].astype(np.float32), test).means()
    assert 0.6 < popularity["auc"] < 0.75  # better than chance: what is read at all is read again


def test_the_real_movielens():
    recbole = importlib.util.find_spec("recbole")
    if recbole is None or recbole.origin is None:
        pytest.skip("needs the package recbole, which carries MovieLens-100K")
    log = movielens.read_clicks(Path(recbole.origin).parent / "dataset_example" / "ml-100k")
    assert len(log) == 55_375
    assert len(log.news) == 1_682 + 1
