"""The folder of a recommender: what is saved is what is loaded, for every kind of text feature."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from multiway_core.errors import InputError, ModelNotFoundError
from multiway_recsys.data.tables import News, Ragged
from multiway_recsys.glocim.config import PRESETS
from multiway_recsys.glocim.features import Features
from multiway_recsys.glocim.model import Glocim
from multiway_recsys.graph.click_graph import ClickGraph
from multiway_recsys.pipeline import NewsRecommender
from multiway_recsys.serving import folder as folders
from multiway_recsys.serving.folder import About, Readers, TrainedRecommender
from multiway_recsys.serving.text_source import (
    EncoderSource,
    TfidfSource,
    WordSource,
    load_text_source,
)
from multiway_recsys.text.tfidf import TfidfEncoder, news_text
from multiway_recsys.text.tokens import Vocabulary

WORDS = (
    "ferry",
    "strike",
    "court",
    "harbour",
    "island",
    "boat",
    "cod",
    "quota",
    "talks",
    "mayor",
    "swim",
    "hall",
)
NEWS = 25


@pytest.fixture(scope="module")
def news():
    random = np.random.default_rng(0)
    titles = [" ".join(random.choice(WORDS, 5)) for _ in range(NEWS - 1)]
    return News(
        ids=("", *(f"N{i}" for i in range(1, NEWS))),
        titles=("", *titles),
        abstracts=("", *(title.upper() for title in titles)),
        categories=np.append(0, random.integers(1, 4, NEWS - 1)).astype(np.int32),
        subcategories=np.append(0, random.integers(1, 6, NEWS - 1)).astype(np.int32),
        entities=Ragged.from_rows([[], *random.integers(1, 7, (NEWS - 1, 2)).tolist()]),
        category_names=("", "a", "b", "c"),
        subcategory_names=("", *"defgh"),
        entity_ids=("", *(f"Q{i}" for i in range(1, 7))),
        published=np.append(0, np.arange(NEWS - 1) * 3600 + 1_700_000_000),
    )


def texts(news):
    return [news_text(*row) for row in zip(news.titles[1:], news.abstracts[1:], strict=True)]


def trained(news, source, config):
    random = np.random.default_rng(1)
    histories = Ragged.from_rows(random.integers(1, NEWS, (12, 6)))
    graph = ClickGraph.build(histories, None, NEWS)
    chains = random.integers(0, NEWS, (NEWS, 1, 8)).astype(np.int32)
    made = source.features(news.titles, news.abstracts, title_length=8, abstract_length=0)
    features = Features.of_news(
        news,
        num_words=len(source.vocabulary) if isinstance(source, WordSource) else 0,
        entity_neighbours=random.integers(0, 7, (7, 10)).astype(np.int32),
        graph=(graph.indptr, graph.indices, graph.weights),
        chains=chains,
        **made,
    )
    torch.manual_seed(0)
    model = Glocim(config.fitted(features)).eval()
    readers = Readers(tuple(f"U{i}" for i in range(12)), histories, np.full(12, 1_700_090_000))
    about = About(simulated=False, source="hand", until=1_700_090_000)
    return TrainedRecommender(about, model, news, features, graph, readers, source)


def sizes(preset, **changes):
    return replace(
        PRESETS[preset], num_heads=2, head_dim=8, attention_hidden_size=8, category_dim=6, **changes
    )


@pytest.mark.parametrize("kind", ["words", "tfidf"])
def test_what_is_saved_is_what_is_loaded(news, kind, tmp_path):
    if kind == "words":
        source = WordSource(Vocabulary.of_texts(news.titles))
        config = sizes("glocim", word_dim=12, title_length=8, entity_dim=8)
    else:
        source = TfidfSource(TfidfEncoder.fit(texts(news), width=12))
        config = sizes("glocim-small")
    parts = trained(news, source, config)
    folders.save(parts, tmp_path / "model", dtype=torch.float32)
    loaded = folders.load(tmp_path / "model")
    assert loaded.news.ids == news.ids
    assert loaded.news.titles == news.titles
    assert loaded.news.abstracts == news.abstracts
    assert loaded.news.category_names == news.category_names
    for name in ("categories", "subcategories", "published"):
        np.testing.assert_array_equal(getattr(loaded.news, name), getattr(news, name))
    np.testing.assert_array_equal(loaded.news.entities.values, news.entities.values)
    np.testing.assert_array_equal(loaded.readers.histories.values, parts.readers.histories.values)
    assert loaded.about == replace(parts.about, num_words=parts.features.num_words)
    np.testing.assert_array_equal(loaded.features.chains, parts.features.chains)
    np.testing.assert_array_equal(loaded.graph.weights, parts.graph.weights)
    one, other = NewsRecommender("one", parts), NewsRecommender("other", loaded)
    a, b = (r.recommend(["N3", "N7"], top=6, detail="explanation") for r in (one, other))
    assert [item.article for item in a.recommendations] == [item.article for item in b.recommendations]
    scores = [[item.score for item in found.recommendations] for found in (a, b)]
    np.testing.assert_allclose(
        scores[0], scores[1], atol=1e-2 if kind == "tfidf" else 1e-5
    )  # float16 vectors
    for item in b.recommendations:
        assert sum(item.parts.values()) == pytest.approx(item.score, abs=1e-4)
        assert ("entities" in item.parts) == (kind == "words")
    # The same texts under new ids get the same features.
    made = loaded.text.features(news.titles, news.abstracts, title_length=8, abstract_length=0)
    name = "tokens" if kind == "words" else "text_vectors"
    np.testing.assert_allclose(made[name][1:], getattr(parts.features, name)[1:], atol=2e-3)


def test_a_reduced_encoder_is_named_and_kept(tmp_path):
    source = EncoderSource(
        "some-folder-that-is-not-there", np.ones(6, np.float32), np.ones((6, 2), np.float32)
    )
    tmp_path.joinpath("text").mkdir()
    source.save(tmp_path / "text")
    loaded = load_text_source(tmp_path / "text")
    assert isinstance(loaded, EncoderSource)
    assert loaded.name == source.name
    np.testing.assert_array_equal(loaded.components, source.components)
    with pytest.raises(ModelNotFoundError):
        loaded.features(["a"], ["b"], title_length=3, abstract_length=0)


def test_without_a_text_source_further_news_are_refused(news):
    parts = trained(news, TfidfSource(TfidfEncoder.fit(texts(news), width=12)), sizes("nrms-small"))
    recommender = NewsRecommender("bare", replace(parts, text=None))
    grown = replace(
        news,
        ids=(*news.ids, "N99"),
        titles=(*news.titles, "x"),
        abstracts=(*news.abstracts, ""),
        categories=np.append(news.categories, 1).astype(np.int32),
        subcategories=np.append(news.subcategories, 1).astype(np.int32),
        entities=Ragged(news.entities.values, np.append(news.entities.offsets, news.entities.offsets[-1])),
        published=np.append(news.published, 0),
    )
    with pytest.raises(InputError, match="1 news are new to the model"):
        recommender.with_news(grown)
    with pytest.raises(InputError, match="keeps nothing to turn other texts"):
        recommender.over(news, None)
