"""How a recommender is trained from a log: texts, graph and chains, the network, and the folder that serves it.

Read it from :func:`train`. The command, the benchmarks and the tests all take this path.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from multiway_core.errors import ConfigError, InputError
from numpy.typing import NDArray

from multiway_recsys.data.mind import MindData
from multiway_recsys.data.tables import NO_NEWS, Behaviors, News, Ragged
from multiway_recsys.fitting import FitConfig, Fitted, fit, shortened
from multiway_recsys.glocim.config import PRESETS, GlocimConfig
from multiway_recsys.glocim.features import Features
from multiway_recsys.glocim.model import Glocim
from multiway_recsys.glocim.statistics import ClickStatistics
from multiway_recsys.graph import (
    INTENDED,
    RELEASED_CHAINS,
    ChainConfig,
    ClickGraph,
    CoReaders,
    entity_graph,
    select_chains,
    top_neighbours,
)
from multiway_recsys.periods import Period, Stretch, held_out, stretches
from multiway_recsys.serving import folder as model_folder
from multiway_recsys.serving.folder import About, Readers, TrainedRecommender
from multiway_recsys.serving.text_source import MINILM, EncoderSource, TextSource, TfidfSource, WordSource
from multiway_recsys.text.tfidf import TfidfEncoder, news_text
from multiway_recsys.text.tokens import Vocabulary

TEXT_WIDTH, TERMS = 64, 10_000  # of TF-IDF-SVD vectors

RECIPES: dict[str, FitConfig] = {
    name: FitConfig()
    if name.endswith("-small")
    else FitConfig(
        epochs=5, batch_size=64, learning_rate=2e-4, warmup=0.1, evaluations=20, patience=6, precision="bf16"
    )
    for name in PRESETS
}


@dataclass(frozen=True)
class ClickStructure:
    """What the clicks say of the news: the graph, and the long chains chosen in it."""

    graph: ClickGraph
    chains: NDArray[np.int32]  # (N, K, L)


def train(
    data: MindData,
    output: Path,
    *,
    preset: str = "glocim-small",
    config: GlocimConfig | None = None,
    recipe: FitConfig | None = None,
    seed: int = 0,
    epochs: float | None = None,
    minutes: float | None = None,
    device: str = "cpu",
    init_from: Path | None = None,
    text: Literal["tfidf", "minilm"] = "tfidf",
    latest: MindData | None = None,
    about: About | None = None,
    on_judged: Callable[[int, int, float], None] | None = None,
) -> Path:
    """Train on a log and write the model folder ``output/model``; returns it.

    The graph is made anew for each period of the log (see `periods`). The last third of the periods, or the latest
    tenth of a log that is one period, is held out to choose the weights; dev and test splits are not looked at. A run
    found in ``output`` is continued and ends with the weights of an uninterrupted one.

    preset: a name of `glocim.config.PRESETS`; ``config`` and ``recipe`` override what stands behind it.
    minutes: ends early, cleanly, with a checkpoint and a model of what was reached.
    init_from: a model folder to fine-tune: its network, its texts' features and its numbers of categories.
    text: where the preset takes given vectors: TF-IDF-SVD fitted on the log's news, or the frozen MiniLM encoder.
    latest: a later log over the same or more news (its ``news`` extend those of ``data``), whose histories the
        folder's graph, chains and readers are made of; the network does not see it.
    about: what the folder says of itself (source, simulated, max_age_days).

    Raises InputError (unknown preset, too little data), CheckpointError (another run in ``output``, or a
    ``init_from`` that does not fit), DataError, OutputError.
    """
    if preset not in PRESETS:
        raise InputError(f"unknown preset {preset!r}; there are: {', '.join(sorted(PRESETS))}")
    config, recipe = config or PRESETS[preset], recipe or RECIPES[preset]
    news, behaviors = data.news, data.behaviors
    source: TextSource | None = None
    first: TrainedRecommender | None = None
    if init_from is not None:
        first = model_folder.load(Path(init_from))
        config, source = first.model.config, first.text
        if config.user.startswith("lstur"):
            raise InputError(
                "a model of readers by number (lstur) cannot be fine-tuned for other readers; train anew"
            )
        news = renumbered(news, first.news)
    source = source or text_source(news, config, text, seed)
    features = with_texts(news, source, config)
    taught, judging = held_out(stretches(behaviors))
    readers = tuple(sorted(behaviors.user_ids))
    if (
        config.user.startswith("lstur")
        and latest is not None
        and set(latest.behaviors.user_ids) != set(readers)
    ):
        raise InputError(
            "a model of readers by number (lstur) needs the same table of readers in the later log"
        )
    if first is None:
        config = config.fitted(features, num_users=len(readers) + 1)
        if config.entities:
            config = replace(config, num_entities=len(news.entity_ids))

    def period(stretch: Stretch) -> Period:
        structure = click_structure(
            stretch.past, features, news, config, chains=chain_config(config, preset), until=stretch.until
        )
        known = with_clicks(features, structure, news, config, statistics_of=stretch.behaviors)
        return Period(known, _by_number(stretch.behaviors, readers))

    torch.manual_seed(seed)
    model = Glocim(config)
    if first is not None:
        model.load_state_dict(first.model.state_dict())
    elif model.entity_table is not None and data.entity_vectors is not None:
        _fill_entities(model, data.entity_vectors)
    fitted = fit(
        model, [period(stretch) for stretch in taught], [period(stretch) for stretch in judging], Path(output),
        shortened(recipe, epochs), seed=seed, device=device, minutes=minutes, on_judged=on_judged,
    )  # fmt: skip
    return export(
        model.to("cpu"), fitted, latest or data, source, Path(output) / "model", known=news, about=about
    )


def export(
    model: Glocim,
    fitted: Fitted,
    data: MindData,
    source: TextSource,
    folder: Path,
    *,
    known: News,
    about: About | None = None,
) -> Path:
    """Write what `NewsRecommender` loads: the network, and news, graph, chains and readers of ``data``."""
    news = renumbered(data.news, known)
    features = with_texts(news, source, model.config)
    last = stretches(data.behaviors)[-1] if len(data.behaviors) else None
    frozen = last is not None and len(last.past) == len(data.behaviors)
    structure = click_structure(
        data.behaviors,
        features,
        news,
        model.config,
        until=last.until if last is not None and frozen else None,
    )
    features = with_clicks(features, structure, news, model.config, statistics_of=data.behaviors)
    times = data.behaviors.times
    about = replace(
        about or About(), until=int(times.max()) + 1 if len(times) else None, num_words=features.num_words
    )
    readers = Readers.of_behaviors(data.behaviors)
    model_folder.save(
        TrainedRecommender(about, model, news, features, structure.graph, readers, source), folder
    )
    return folder


def text_source(news: News, config: GlocimConfig, text: str, seed: int) -> TextSource:
    """What turns the texts into features: words of the titles, TF-IDF-SVD fitted on them, or MiniLM."""
    if config.text == "words":
        abstracts = news.abstracts[1:] if config.abstract_length else ()
        return WordSource(Vocabulary.of_texts((*news.titles[1:], *abstracts)))
    if text == "minilm":
        return EncoderSource(MINILM)
    texts = [news_text(*row) for row in zip(news.titles[1:], news.abstracts[1:], strict=True)]
    return TfidfSource(TfidfEncoder.fit(texts, width=TEXT_WIDTH, max_terms=TERMS, seed=seed))


def with_texts(news: News, source: TextSource, config: GlocimConfig) -> Features:
    """Features of texts, categories and entities; no clicks yet."""
    arrays: dict[str, Any] = source.features(
        news.titles, news.abstracts, title_length=config.title_length, abstract_length=config.abstract_length
    )
    for array in arrays.values():
        array[NO_NEWS] = 0
    num_words = len(source.vocabulary) if isinstance(source, WordSource) else 0
    return Features.of_news(news, num_words=num_words, entities_per_news=config.entities_per_news, **arrays)


def chain_config(config: GlocimConfig, preset: str = "") -> ChainConfig:
    """How chains are chosen for a network: its number and length of them."""
    if preset.startswith("glocim-released"):
        return RELEASED_CHAINS
    if preset.startswith("glocim-intended") or config.chain == "released":
        return INTENDED
    return ChainConfig(length=config.chain_length, num_chains=config.chains_per_news)


def click_structure(
    behaviors: Behaviors,
    features: Features,
    news: News,
    config: GlocimConfig,
    *,
    chains: ChainConfig | None = None,
    until: int | None = None,
) -> ClickStructure:
    """Graph of all histories of a log, and chains along it.

    until: seconds since 1970 of the last click, if it is known; otherwise it is the time of the latest impression.
    Chains are chosen by the given text vectors where there are some.
    """
    chains = chains or chain_config(config)
    num_news = len(news)
    histories, users = behaviors.histories, behaviors.users
    if until is None and len(behaviors):
        until = int(behaviors.times.max())
    graph = ClickGraph.build(histories, users, num_news, direction=chains.direction, until=until)
    if config.chain == "none":
        return ClickStructure(graph, np.zeros((num_news, 1, 1), np.int32))
    co_readers = CoReaders.build(histories, users, num_news)
    vectors = features.text_vectors
    if vectors is None and chains.rule != "best":
        raise ConfigError(f"chains by the rule {chains.rule!r} need text vectors to choose by")
    return ClickStructure(
        graph, select_chains(graph, co_readers, vectors, config=chains, categories=news.categories)
    )


def with_clicks(
    features: Features,
    structure: ClickStructure,
    news: News,
    config: GlocimConfig,
    *,
    statistics_of: Behaviors | None = None,
) -> Features:
    """The features with graph and chains and, where the network wants them, neighbours of entities and popularity."""
    graph, num_entities = structure.graph, len(news.entity_ids)
    entities = None
    if config.entities:
        around = entity_graph(graph, news.entities, num_entities, per_news=config.entities_per_news)
        entities = top_neighbours(around, config.neighbours_per_entity)
    statistics = None
    if config.popularity and statistics_of is not None:
        statistics = ClickStatistics.build(statistics_of, len(news), published=news.published)
    return replace(
        features,
        graph_indptr=graph.indptr,
        graph_indices=graph.indices,
        graph_weights=graph.weights,
        chains=structure.chains,
        entity_neighbours=entities,
        statistics=statistics,
    )


def _by_number(behaviors: Behaviors, readers: tuple[str, ...]) -> Behaviors:
    """Readers numbered from 1 in the order of their ids, as the network's table has them; 0 is an unknown reader."""
    number_of = {name: number for number, name in enumerate(readers, 1)}
    numbers = np.array([number_of.get(name, 0) for name in behaviors.user_ids], np.int32)
    return replace(behaviors, users=numbers[behaviors.users])


def _fill_entities(model: Glocim, vectors: NDArray[np.float32]) -> None:
    table = model.entity_table
    assert table is not None
    if vectors.shape != tuple(table.weight.shape):
        raise InputError(
            f"entity vectors of shape {vectors.shape}, the network's table has {tuple(table.weight.shape)}; "
            "set entity_dim, or leave entity_embedding.vec away"
        )
    with torch.no_grad():
        table.weight.copy_(torch.from_numpy(vectors))


def renumbered(news: News, known: News) -> News:
    """The news with the categories and entities numbered as in ``known``; what that does not know is 0."""
    if news is known:
        return news

    def numbers(names: tuple[str, ...], known_names: tuple[str, ...]) -> NDArray[np.int32]:
        number_of = {name: number for number, name in enumerate(known_names)}
        return np.array([number_of.get(name, 0) for name in names], np.int32)

    entities = numbers(news.entity_ids, known.entity_ids)[news.entities.values]
    return replace(
        news,
        categories=numbers(news.category_names, known.category_names)[news.categories],
        subcategories=numbers(news.subcategory_names, known.subcategory_names)[news.subcategories],
        entities=Ragged(entities, news.entities.offsets),
        category_names=known.category_names,
        subcategory_names=known.subcategory_names,
        entity_ids=known.entity_ids,
    )
