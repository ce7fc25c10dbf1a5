"""The same counts on Apache Spark, where a log outgrows one machine (extra `spark`; needs a Java runtime).

Spark does what is large: one history a user, pairs, sums over all users. What comes back, sorted (source, target,
count) files, is merged into rows by the code of `streaming`, so the graph is byte for byte that of a single machine.
Everything is Spark SQL: no Python runs on the workers, and they need nothing installed.

    session = SparkSession.builder.master("local[2]").getOrCreate()
    log = session.read.parquet("clicks/")                    # user, news, time
    build_graph(histories_of(log), num_news, Path("graph"), scratch=Path("/shared/scratch"))
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars
from multiway_core.errors import InputError

from multiway_recsys.data.tables import NO_NEWS
from multiway_recsys.graph.pair_counts import CountingRules, PairCounts
from multiway_recsys.graph.storage import StoredGraph
from multiway_recsys.graph.streaming import DEFAULTS, GraphOptions, merge_runs, write_run

if TYPE_CHECKING:
    from pyspark.sql import DataFrame
else:
    DataFrame = Any


def histories_of(clicks: DataFrame, *, until: int | None = None) -> DataFrame:
    """(user, history) of single clicks (user, news, time), each user's by time, equal times by news.

    Clicks at or after `until` (in the unit of `time`) are left out.
    """
    from pyspark.sql import functions as f

    if until is not None:
        clicks = clicks.where(f.col("time") < until)
    in_order = f.sort_array(f.collect_list(f.struct("time", "news")))
    return clicks.groupBy("user").agg(in_order["news"].alias("history"))


def one_history_per_user(
    log: DataFrame, *, until: int | None = None, rules: CountingRules | None = None
) -> DataFrame:
    """(user, history) with the row that stands for each user, of (user, history array) and, with `until`, time.

    Raises InputError for the rule "first": rows have no order on a cluster.
    """
    from pyspark.sql import functions as f

    rules = rules or CountingRules()
    if until is not None:
        log = log.where(f.col("time") <= until)
    if rules.history == "every":
        return log.select(f.monotonically_increasing_id().alias("user"), "history")
    if rules.history == "first":
        raise InputError(
            "the first row of a user is not defined on Spark, where rows have no order: take the longest"
        )
    best = f.max(f.struct(f.size("history").alias("length"), f.col("history")))
    return log.groupBy("user").agg(best.alias("best")).select("user", f.col("best.history").alias("history"))


def count_pairs(histories: DataFrame, *, window: int = 1, rules: CountingRules | None = None) -> DataFrame:
    """(source, target, count) of (user, history): see `pair_counts.count_pairs`."""
    from pyspark.sql import functions as f

    rules = rules or CountingRules()
    history, length = f.col("history"), f.size("history")
    pairs = (
        histories.where(length > 1)
        .select(
            "user",
            "history",
            f.explode(f.sequence(f.lit(1), f.least(length - 1, f.lit(window)))).alias("lag"),
        )
        .select(
            "user",
            f.arrays_zip(
                f.slice(history, f.lit(1), length - f.col("lag")).alias("source"),
                f.slice(history, f.col("lag") + 1, length - f.col("lag")).alias("target"),
            ).alias("steps"),
        )
        .select("user", f.inline("steps").alias("source", "target"))
        .where((f.col("source") != NO_NEWS) & (f.col("target") != NO_NEWS))
    )
    if not rules.loops:
        pairs = pairs.where(f.col("source") != f.col("target"))
    if not rules.repeats:
        pairs = pairs.distinct()
    return pairs.groupBy("source", "target").count()


def largest_of_rows(pairs: DataFrame, cap: int | None) -> DataFrame:
    """Only the `cap` largest counts of each source, smaller targets first among equals."""
    from pyspark.sql import Window
    from pyspark.sql import functions as f

    if cap is None:
        return pairs
    row = Window.partitionBy("source").orderBy(f.desc("count"), "target")
    return pairs.withColumn("rank", f.row_number().over(row)).where(f.col("rank") <= cap).drop("rank")


def count_reads(histories: DataFrame) -> DataFrame:
    """(news, count): users that read each news."""
    from pyspark.sql import functions as f

    return (
        histories.select(f.explode(f.array_distinct("history")).alias("news"))
        .where(f.col("news") != NO_NEWS)
        .groupBy("news")
        .count()
    )


def build_graph(
    log: DataFrame,
    num_news: int,
    folder: Path,
    options: GraphOptions = DEFAULTS,
    *,
    scratch: Path | None = None,
) -> StoredGraph:
    """Build graph and co-readers of (user, history) rows, and open them.

    `scratch` must be a folder that the workers and this process share. Raises InputError and OutputError.
    """
    from pyspark.sql import functions as f

    rules, window = options.rules, options.window
    low_high = log.select(f.explode("history").alias("news")).agg(f.min("news"), f.max("news")).first()
    if low_high is not None and low_high[0] is not None and not 0 <= low_high[0] <= low_high[1] < num_news:
        wrong = low_high[0] if low_high[0] < 0 else low_high[1]
        raise InputError(
            f"a history holds news {wrong}; with {num_news} news the ids are 0 to {num_news - 1}"
        )
    with tempfile.TemporaryDirectory(prefix="click-graph-", dir=scratch) as place:
        histories = one_history_per_user(log, until=options.until, rules=rules).cache()
        reads = np.zeros(num_news, np.int32)
        try:
            _collect(count_pairs(histories, rules=rules), Path(place), "steps", num_news)
            if window is not None:
                pairs = largest_of_rows(count_pairs(histories, window=window, rules=rules), options.cap)
                _collect(pairs, Path(place), "co_readers", num_news)
                for news, count in _columns(count_reads(histories), Path(place) / "reads"):
                    reads[news] = count
        finally:
            histories.unpersist()
        return merge_runs(Path(place), reads, num_news, folder, options)


def _collect(pairs: DataFrame, scratch: Path, name: str, num_news: int) -> None:
    """Spark's part files as sorted runs."""
    pairs = pairs.sortWithinPartitions("source", "target")
    for number, (source, target, count) in enumerate(_columns(pairs, scratch / f"{name}.parquet")):
        keys = source.astype(np.int64) * num_news + target
        write_run(scratch / name, str(number), [PairCounts(keys, count.astype(np.int64), num_news)])


def _columns(frame: DataFrame, path: Path) -> Iterator[tuple[np.ndarray, ...]]:
    frame.write.parquet(str(path))
    for part in sorted(path.glob("*.parquet")):
        table = polars.read_parquet(part)
        if len(table):
            yield tuple(column.to_numpy() for column in table.iter_columns())
