"""The folder of a trained recommender: the network, and all that it needs to know of news, graph and readers.

    config.json model.safetensors    the network (`multiway_recsys.glocim.checkpoint`)
    recommender.json                 what it is: from a simulated portal or a real log, until when
    catalogue.jsonl names.json       ids and texts of the news; names of categories and entities
    features.safetensors             what the network looks at, one row a news; histories of the readers
    readers.txt                      their ids
    graph/                           the click graph (`multiway_recsys.graph.storage`)
    text/                            what turns the texts of further news into features (`text_source`)

Nothing in it is executable or pickled.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from multiway_core import config as configs
from multiway_core import tensor_files
from multiway_core.errors import CheckpointError, DataError
from multiway_core.files import atomic_write, write_text
from numpy.typing import NDArray
from safetensors.numpy import save as safetensors_bytes

from multiway_recsys.data.tables import NO_NEWS, Behaviors, News, Ragged
from multiway_recsys.glocim import checkpoint
from multiway_recsys.glocim.features import Features
from multiway_recsys.glocim.model import Glocim
from multiway_recsys.glocim.statistics import ClickStatistics
from multiway_recsys.graph.click_graph import ClickGraph
from multiway_recsys.graph.storage import StoredGraph
from multiway_recsys.serving.text_source import TextSource, load_text_source

SCHEMA = "multiway.news-recommender/1"
ABOUT, CATALOGUE, NAMES, FEATURES = (
    "recommender.json",
    "catalogue.jsonl",
    "names.json",
    "features.safetensors",
)
READERS, GRAPH, TEXT = "readers.txt", "graph", "text"
_ARRAYS = ("tokens", "abstract_tokens", "text_vectors", "entity_neighbours", "chains")
_STATISTICS = tuple(item.name for item in fields(ClickStatistics))


@dataclass(frozen=True)
class About:
    """What a recommender is. Times in seconds since 1970; ``max_age_days`` is how long its news are worth showing."""

    schema: str = SCHEMA
    simulated: bool = False
    source: str = ""
    until: int | None = None
    """Nothing later than this is known to it: the moment that it recommends for unless told another."""
    max_age_days: float | None = None
    num_words: int = 0


@dataclass(frozen=True)
class Readers:
    """The last known history of each reader, oldest click first."""

    ids: tuple[str, ...]
    histories: Ragged
    last_seen: NDArray[np.int64]  # seconds since 1970

    @classmethod
    def of_behaviors(cls, behaviors: Behaviors, *, with_clicks: bool = True) -> Readers:
        """From a log: each user's history in the last impression, and (``with_clicks``) what was clicked there.

        In the order of ``behaviors.user_ids``; a user without impressions has no history.
        """
        last = np.full(len(behaviors.user_ids), -1, np.int64)
        order = np.argsort(behaviors.times, kind="stable")
        last[behaviors.users[order]] = order  # the latest is written last
        labels = behaviors.labels if with_clicks else None
        histories = []
        for row in last.tolist():
            history = behaviors.histories[row] if row >= 0 else np.zeros(0, np.int32)
            if row >= 0 and labels is not None:
                first, end = behaviors.candidates.offsets[row : row + 2]
                clicked = behaviors.candidates.values[first:end][labels[first:end] == 1]
                history = np.concatenate([history, clicked])
            histories.append(history[history != NO_NEWS])
        seen = np.where(last >= 0, behaviors.times[np.maximum(last, 0)] if len(behaviors) else 0, 0)
        return cls(behaviors.user_ids, Ragged.from_rows(histories), seen.astype(np.int64))


@dataclass(frozen=True)
class TrainedRecommender:
    """What a folder holds. ``features`` has the graph's arrays as its own."""

    about: About
    model: Glocim
    news: News
    features: Features
    graph: ClickGraph
    readers: Readers
    text: TextSource | None = None


def save(parts: TrainedRecommender, folder: Path, *, dtype: torch.dtype | None = torch.bfloat16) -> None:
    """Write the folder; its files are replaced one by one. ``dtype`` of the network's weights. Raises OutputError."""
    folder = Path(folder)
    checkpoint.save(parts.model, folder, dtype=dtype)
    news, features = parts.news, parts.features
    rows = zip(news.ids, news.titles, news.abstracts, strict=True)
    lines = [json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n" for row in rows]
    write_text(folder / CATALOGUE, "".join(lines[1:]))
    names = {
        "categories": list(news.category_names),
        "subcategories": list(news.subcategory_names),
        "entities": list(news.entity_ids),
    }
    write_text(folder / NAMES, json.dumps(names, ensure_ascii=False) + "\n")
    arrays: dict[str, NDArray[Any]] = {
        "categories": news.categories,
        "subcategories": news.subcategories,
        "news_entities.values": news.entities.values,
        "news_entities.offsets": news.entities.offsets,
        "readers.values": parts.readers.histories.values,
        "readers.offsets": parts.readers.histories.offsets,
        "readers.last_seen": parts.readers.last_seen,
    }
    if news.published is not None:
        arrays["published"] = news.published
    for name in _ARRAYS:
        array = getattr(features, name)
        if array is not None:
            arrays[name] = array.astype(np.float16) if name == "text_vectors" else array
    if features.statistics is not None:
        arrays |= {f"statistics.{name}": getattr(features.statistics, name) for name in _STATISTICS}
    with atomic_write(folder / FEATURES) as file:
        file.write(safetensors_bytes({name: np.ascontiguousarray(array) for name, array in arrays.items()}))
    write_text(folder / READERS, "".join(f"{name}\n" for name in parts.readers.ids))
    StoredGraph(parts.graph).save(folder / GRAPH, overwrite=True)
    if parts.text is not None:
        parts.text.save(folder / TEXT)
    about = configs.to_dict(parts.about) | {"num_words": features.num_words}
    write_text(folder / ABOUT, json.dumps(about, indent=2, ensure_ascii=False) + "\n")


def load(
    folder: Path, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> TrainedRecommender:
    """What `save` wrote. Raises ConfigError, CheckpointError or DataError; the file is named."""
    folder = Path(folder)
    if not (folder / ABOUT).is_file():
        raise CheckpointError(f"{folder}: not the folder of a recommender: it has no {ABOUT}")
    about = configs.load(About, folder / ABOUT)
    if about.schema != SCHEMA:
        raise CheckpointError(f"{folder / ABOUT}: schema {about.schema!r}, this version reads {SCHEMA!r}")
    model = checkpoint.load(folder, device=device, dtype=dtype)
    arrays = {name: tensor.numpy() for name, tensor in tensor_files.read(folder / FEATURES).items()}
    try:
        news = _news(folder, arrays)
        mapped = StoredGraph.load(folder / GRAPH).graph
        # In memory: PyTorch takes no arrays that cannot be written.
        graph = replace(
            mapped,
            indptr=np.array(mapped.indptr),
            indices=np.array(mapped.indices),
            weights=np.array(mapped.weights),
        )
        readers = Readers(
            tuple(_lines(folder / READERS)),
            _ragged(arrays, "readers", len(news), folder),
            arrays["readers.last_seen"],
        )
        features = _features(arrays, news, graph, about)
    except KeyError as error:
        raise CheckpointError(f"{folder / FEATURES}: it has no {error.args[0]!r}") from error
    if len(readers.ids) != len(readers.histories) or len(readers.ids) != len(readers.last_seen):
        raise CheckpointError(
            f"{folder / READERS}: {len(readers.ids)} readers, {len(readers.histories)} histories"
        )
    text = load_text_source(folder / TEXT) if (folder / TEXT).is_dir() else None
    return TrainedRecommender(about, model, news, features, graph, readers, text)


def _news(folder: Path, arrays: dict[str, NDArray[Any]]) -> News:
    rows: list[list[str]] = [["", "", ""]]
    for number, line in enumerate(_lines(folder / CATALOGUE), 1):
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not (isinstance(row, list) and len(row) == 3 and all(isinstance(text, str) for text in row)):
            raise DataError(f"{folder / CATALOGUE}:{number}: expected [id, title, abstract]")
        rows.append(row)
    names = configs.read_json(folder / NAMES)
    listed = [names.get(key) for key in ("categories", "subcategories", "entities")]
    if not all(isinstance(one, list) and all(isinstance(name, str) for name in one) for one in listed):
        raise DataError(f"{folder / NAMES}: expected lists of names: categories, subcategories, entities")
    for key in ("categories", "subcategories"):
        if arrays[key].shape != (len(rows),):
            raise CheckpointError(
                f"{folder / FEATURES}: {key} of {len(arrays[key])} news, the catalogue has {len(rows)}"
            )
    categories, subcategories, entities = (tuple(one) for one in listed if one is not None)
    return News(
        ids=tuple(row[0] for row in rows),
        titles=tuple(row[1] for row in rows),
        abstracts=tuple(row[2] for row in rows),
        categories=arrays["categories"],
        subcategories=arrays["subcategories"],
        entities=_ragged(arrays, "news_entities", max(1, len(entities)), folder),
        category_names=categories,
        subcategory_names=subcategories,
        entity_ids=entities,
        published=arrays.get("published"),
    )


def _features(arrays: dict[str, NDArray[Any]], news: News, graph: ClickGraph, about: About) -> Features:
    statistics = None
    if "statistics.published" in arrays:
        statistics = ClickStatistics(**{name: arrays[f"statistics.{name}"] for name in _STATISTICS})
    vectors = arrays.get("text_vectors")
    return Features.of_news(
        news,
        tokens=arrays.get("tokens"),
        abstract_tokens=arrays.get("abstract_tokens"),
        num_words=about.num_words,
        text_vectors=None if vectors is None else vectors.astype(np.float32),
        entity_neighbours=arrays.get("entity_neighbours"),
        graph=(graph.indptr, graph.indices, graph.weights),
        chains=arrays.get("chains"),
        statistics=statistics,
    )


def _ragged(arrays: dict[str, NDArray[Any]], name: str, end: int, folder: Path) -> Ragged:
    """Rows of numbers below ``end``. Raises CheckpointError."""
    values, offsets = arrays[f"{name}.values"], arrays[f"{name}.offsets"]
    is_whole = (
        len(offsets) > 0 and offsets[0] == 0 and offsets[-1] == len(values) and (np.diff(offsets) >= 0).all()
    )
    if not is_whole or (len(values) and not (values.min() >= 0 and values.max() < end)):
        raise CheckpointError(f"{folder / FEATURES}: the rows of {name!r} are damaged")
    return Ragged(values, offsets)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").split("\n")[:-1]
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path}: cannot be read as UTF-8 text") from error
