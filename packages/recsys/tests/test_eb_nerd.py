"""EB-NeRD's Parquet files: articles, impressions with and without clicks, histories, and what is refused."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import polars as pl
import pytest
from multiway_core.errors import DataError
from multiway_recsys.data import eb_nerd, mind
from multiway_recsys.data.tables import UNKNOWN_TIME


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "validation").mkdir()
    pl.DataFrame(
        {
            "article_id": pl.Series([9774, 9775, 12], dtype=pl.Int32),
            "title": ["Håndbold:\tfinale", None, "Vejr"],
            "subtitle": ["Under", "", None],
            "category_str": ["sport", "nyheder", "sport"],
            "subcategory": [[133, 7], [], None],
            "published_time": [datetime(2023, 5, 1, 12), None, datetime(2023, 5, 2)],
            "ner_clusters": [["A", "B"], [], ["A"]],
        }
    ).write_parquet(tmp_path / "articles.parquet")
    behaviors().write_parquet(tmp_path / "validation" / "behaviors.parquet")
    pl.DataFrame(
        {"user_id": pl.Series([5], dtype=pl.UInt32), "article_id_fixed": [[12, 9774, 4040]]}
    ).write_parquet(tmp_path / "validation" / "history.parquet")
    return tmp_path


def behaviors() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "impression_id": pl.Series([70, 71], dtype=pl.UInt32),
            "user_id": pl.Series([5, 6], dtype=pl.UInt32),
            "impression_time": [datetime(2023, 5, 3), datetime(2023, 5, 3, 0, 0, 1)],
            "article_ids_inview": [[9774, 12, 9775], [12, 9774]],
            "article_ids_clicked": [[12, 9775], [9774]],
        }
    )


def test_a_split_is_read(folder: Path):
    data = eb_nerd.read_folder(folder, "dev")
    news, read = data.news, data.behaviors
    assert news.ids == ("", "N9774", "N9775", "N12")
    assert news.titles == ("", "Håndbold: finale", "", "Vejr")
    assert news.abstracts == ("", "Under", "", "")
    assert news.category_names == ("", "sport", "nyheder")
    assert [news.subcategory_names[row] for row in news.subcategories] == ["", "133", "", ""]
    assert [news.entities[row].tolist() for row in range(4)] == [[], [1, 2], [], [1]]
    assert news.published is not None
    assert news.published.tolist() == [UNKNOWN_TIME, 1682942400, UNKNOWN_TIME, 1682985600]
    assert read.impression_ids == ("70", "71")
    assert read.user_ids == ("U5", "U6")
    assert [read.histories[row].tolist() for row in range(2)] == [[3, 1, 0], []]
    assert [read.candidates[row].tolist() for row in range(2)] == [[1, 3, 2], [3, 1]]
    assert read.labels is not None
    assert read.labels.tolist() == [0, 1, 1, 0, 1]
    assert read.times.tolist() == [1683072000, 1683072001]
    assert eb_nerd.read_folder(folder / "validation", users=("U6",)).behaviors.users.tolist() == [1, 0]
    mind.write_folder(folder / "mind", news, read)
    assert mind.read_folder(folder / "mind").behaviors.labels is not None


def test_a_test_split_has_no_labels_and_may_lack_histories(folder: Path):
    behaviors().drop("article_ids_clicked").write_parquet(folder / "behaviors.parquet")
    data = eb_nerd.read_folder(folder)
    assert data.behaviors.labels is None
    assert data.behaviors.histories.lengths.tolist() == [0, 0]


def test_bad_files_are_refused(folder: Path):
    with pytest.raises(DataError, match=r"holds no train split of EB-NeRD; expected .*train"):
        eb_nerd.read_folder(folder, "train")
    place = folder / "validation" / "behaviors.parquet"
    for table, message in [
        (behaviors().drop("user_id"), 'no column "user_id"; it has impression_id'),
        (behaviors().with_columns(article_ids_inview=pl.Series([[9774], [1]])), "row 2: article 1 is not in"),
        (behaviors().with_columns(article_ids_inview=pl.Series([[9774], [None]])), "row 2: .*empty"),
        (behaviors().with_columns(article_ids_inview=pl.Series([1, 2])), "holds Int64; expected lists"),
        (behaviors().with_columns(user_id=pl.Series([5, None])), "row 2: user_id is missing"),
        (behaviors().with_columns(impression_time=pl.Series([1, 2])), "holds Int64; expected times"),
    ]:  # fmt: skip
        table.write_parquet(place)
        with pytest.raises(DataError, match=message):
            eb_nerd.read_folder(folder, "dev")
    behaviors().with_columns(article_ids_inview=pl.Series([[9774], [1]])).write_parquet(place)
    assert eb_nerd.read_folder(folder, "dev", allow_unknown=True).behaviors.candidates.values.tolist() == [
        1,
        0,
    ]
    data = place.read_bytes()
    for damaged in (b"", data[: len(data) // 2], data[:-30] + bytes(26) + data[-4:]):
        place.write_bytes(damaged)
        with pytest.raises(DataError, match=r"cannot read .*expected Parquet"):
            eb_nerd.read_folder(folder, "dev")
    (folder / "articles.parquet").unlink()
    with pytest.raises(DataError, match=r"holds no articles\.parquet"):
        eb_nerd.read_folder(folder, "dev")
