"""Spark in local mode gives, byte for byte, the graph of one machine. Skips without pyspark or Java."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import polars
import pytest
from multiway_core.errors import InputError
from multiway_recsys.data.tables import Ragged
from multiway_recsys.graph import ClickGraph, CoReaders, CountingRules
from multiway_recsys.graph.storage import StoredGraph
from multiway_recsys.graph.streaming import GraphOptions

pyspark_sql = pytest.importorskip("pyspark.sql")
if not (shutil.which("java") or os.environ.get("JAVA_HOME")):
    pytest.skip("Spark needs a Java runtime", allow_module_level=True)

from multiway_recsys.graph import spark  # noqa: E402

NUM_NEWS = 60
pytestmark = pytest.mark.timeout(1200)  # starting Spark on a busy machine takes minutes


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    place = tmp_path_factory.mktemp("spark")
    made = (
        pyspark_sql.SparkSession.builder.master("local[1]")
        .config("spark.ui.enabled", "false")
        .config("spark.sql.shuffle.partitions", "3")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.sql.warehouse.dir", str(place))
        .config("spark.local.dir", str(place))
        .getOrCreate()
    )
    made.sparkContext.setLogLevel("ERROR")
    yield made
    made.stop()


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_histories_give_the_bytes_of_one_machine(session, tmp_path) -> None:
    generator = np.random.default_rng(0)
    rows = [generator.integers(0, NUM_NEWS, generator.integers(0, 30)).astype(np.int32) for _ in range(150)]
    users, times = generator.integers(0, 60, 150), generator.integers(0, 1000, 150)
    polars.DataFrame(
        {"user": users, "history": [row.tolist() for row in rows], "time": times},
        schema_overrides={"history": polars.List(polars.Int32)},
    ).write_parquet(tmp_path / "log.parquet")
    log = session.read.parquet(str(tmp_path / "log.parquet")).repartition(4)

    histories, arguments = Ragged.from_rows(rows), {"times": times, "until": 800}
    graph = ClickGraph.build(histories, users, NUM_NEWS, **arguments)
    StoredGraph(graph, CoReaders.build(histories, users, NUM_NEWS, cap=7, **arguments)).save(tmp_path / "one")
    spark.build_graph(log, NUM_NEWS, tmp_path / "spark", GraphOptions(until=800, cap=7), scratch=tmp_path)
    assert bytes_of(tmp_path / "spark") == bytes_of(tmp_path / "one")

    rules = CountingRules(history="every", repeats=True, loops=True)
    made = spark.build_graph(
        log, NUM_NEWS, tmp_path / "in", GraphOptions("in", window=None, rules=rules, min_weight=2)
    )
    expected = ClickGraph.build(histories, users, NUM_NEWS, direction="in", rules=rules, min_weight=2)
    assert made.graph.indices.tobytes() == expected.indices.tobytes()
    assert made.graph.weights.tobytes() == expected.weights.tobytes()

    with pytest.raises(InputError, match="rows have no order"):
        spark.one_history_per_user(log, rules=CountingRules(history="first"))
    with pytest.raises(InputError, match="a history holds news 59; with 10 news"):
        spark.build_graph(log, 10, tmp_path / "none")


def test_clicks_become_histories_by_time(session) -> None:
    clicks = session.createDataFrame(
        [(1, 5, 30), (2, 9, 10), (1, 4, 10), (1, 3, 20), (1, 7, 99), (1, 2, 20)], ["user", "news", "time"]
    )
    made = {row["user"]: list(row["history"]) for row in spark.histories_of(clicks, until=99).collect()}
    assert made == {1: [4, 2, 3, 5], 2: [9]}
