"""From a trained folder to recommendations: a tiny portal, a network of a few steps, everything else real."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from multiway_core import training
from multiway_core.errors import CheckpointError, InputError, ModelNotFoundError
from multiway_core.training import TrainOptions
from multiway_recsys.data.mind import MindData
from multiway_recsys.data.tables import Ragged
from multiway_recsys.glocim.config import PRESETS
from multiway_recsys.glocim.scoring import score_behaviors
from multiway_recsys.glocim.statistics import ClickStatistics
from multiway_recsys.pipeline import NEW_READER, NewsRecommender
from multiway_recsys.recipe import Recipe
from multiway_recsys.serving.folder import About, Readers
from multiway_recsys.serving.reranking import DAY, RerankingOptions
from multiway_recsys.simulator import PortalConfig, generated_texts, simulate

TINY = replace(PRESETS["glocim-small"], num_heads=2, head_dim=8, attention_hidden_size=16, category_dim=8)


@pytest.fixture(scope="module")
def portal():
    return simulate(PortalConfig(num_users=200, communities=4, seed=3), generated_texts(900, seed=1))


@pytest.fixture(scope="module")
def folder(portal, tmp_path_factory):
    return training.run(
        Recipe(
            TINY,
            epochs=1,
            batch_size=64,
            evaluations=1,
            log=MindData(portal.news, portal.splits["train"]),
            latest=MindData(portal.news, portal.splits["test"]),
            about=About(simulated=True, source="tiny", max_age_days=6.0),
        ),
        TrainOptions(tmp_path_factory.mktemp("run")),
    ).folder


@pytest.fixture(scope="module")
def recommender(folder):
    return NewsRecommender.from_pretrained(str(folder))


@pytest.fixture
def reader(recommender):
    """A reader with a history, and that history."""
    row = int(np.argmax(recommender.readers.histories.lengths))
    name = recommender.readers.ids[row]
    return name, recommender.history_of(name)


def ids(found):
    return [item.article.id for item in found.recommendations]


def test_the_whole_way_to_an_explained_list(recommender, reader):
    name, history = reader
    found = recommender.recommend(history, user=name, top=7, detail="explanation")
    document = json.loads(json.dumps(found.to_json()))
    assert document["schema"] == "multiway.news-recommendation/1"
    assert document["simulated"] is True
    assert document["user"] == name
    assert document["history"] == history
    assert len(set(ids(found))) == 7
    assert not set(ids(found)) & set(history)
    published = recommender.published_N
    for item in document["recommendations"]:
        assert sum(item["parts"].values()) == pytest.approx(item["score"], abs=2e-3)
        assert item["explanation"]["click"] in history
        assert item["explanation"]["text"].startswith("You read “")
        row = recommender.news.ids.index(item["id"])
        assert recommender.until - 6 * DAY <= published[row] <= recommender.until
    assert any(item["explanation"]["chain"] for item in document["recommendations"])


def test_scores_are_those_of_ranking_the_same_news(recommender, portal, reader):
    _, history = reader
    found = recommender.recommend(history, top=5, rules=RerankingOptions(diversity=0))
    rows, _ = recommender.rows_of(ids(found))
    one = portal.splits["test"].take(np.array([0]))
    shown = replace(
        one,
        histories=Ragged.from_rows([recommender.rows_of(history)[0]]),
        candidates=Ragged.from_rows([rows]),
        labels=None,
        times=np.array([recommender.until]),
    )
    scores = recommender.rank(shown)
    np.testing.assert_allclose(scores, [item.score for item in found.recommendations], atol=1e-4)
    assert (np.diff(scores) <= 1e-6).all()


def test_the_same_request_gives_the_same_list_and_a_batch_is_its_members(recommender):
    readers = [recommender.history_of(name) for name in recommender.readers.ids[:8]]
    together = recommender.recommend_many(readers, top=5)
    again = recommender.recommend_many(readers, top=5)
    alone = [recommender.recommend(history, top=5) for history in readers]
    assert [ids(found) for found in together] == [ids(found) for found in again]
    for one, other in zip(together, alone, strict=True):
        assert ids(one) == ids(other)
        scores = [item.score for item in other.recommendations]
        np.testing.assert_allclose([item.score for item in one.recommendations], scores, atol=1e-4)


def test_without_chains_the_list_is_that_of_a_table_without_chains(recommender, reader):
    _, history = reader
    found = recommender.recommend(history, top=5, chains=False, detail="explanation")
    features = replace(recommender.features, chains=np.zeros_like(recommender.features.chains))
    bare = NewsRecommender("bare", replace(recommender.parts, features=features))
    assert ids(found) == ids(bare.recommend(history, top=5))
    assert all(item.explanation.chain == () for item in found.recommendations)
    assert all(item.parts["chains"] == pytest.approx(0, abs=1e-6) for item in found.recommendations)
    with_chains = recommender.recommend(history, top=5)
    assert [item.score for item in with_chains.recommendations] != [
        item.score for item in found.recommendations
    ]


@pytest.mark.parametrize("history", [[], ["N999999999", "nonsense"]])
def test_a_new_reader_gets_popular_fresh_news_of_more_than_one_category(recommender, history):
    found = recommender.recommend(history, top=9, detail="explanation")
    assert found.rule == NEW_READER
    assert found.unknown == tuple(history)
    assert found.history == ()
    categories = [item.article.category for item in found.recommendations]
    assert len(categories) == 9
    assert max(categories.count(category) for category in categories) <= 3
    assert "no history" in found.recommendations[0].explanation.text


def test_unknown_ids_of_a_history_are_left_out_and_named(recommender, reader):
    _, history = reader
    found = recommender.recommend([*history[:2], "N999999999", *history[2:]], top=5)
    assert found.unknown == ("N999999999",)
    assert ids(found) == ids(recommender.recommend(history, top=5))


def test_filters(recommender, reader):
    _, history = reader
    first = ids(recommender.recommend(history, top=3))
    blocked = recommender.recommend(history, top=3, rules=RerankingOptions(blocked=frozenset(first)))
    assert not set(ids(blocked)) & set(first)
    moment = recommender.until - 9 * DAY
    earlier = recommender.recommend(history, top=5, at=moment)
    rows, _ = recommender.rows_of(ids(earlier))
    assert (recommender.published_N[rows] <= moment).all()
    everything = RerankingOptions(exclude_seen=False, max_age_days=10_000, diversity=0)
    seen = recommender.recommend(history, top=900, rules=everything)
    assert set(history) <= set(ids(seen))
    with pytest.raises(InputError, match="no news may be shown"):
        recommender.recommend(history, at=1)


def test_an_unknown_reader_is_told_in_one_line(recommender):
    with pytest.raises(InputError, match="no reader 'U-nobody' among the 200 of"):
        recommender.history_of("U-nobody")


def test_news_after_training_are_recommended_by_their_content(recommender, reader):
    """A copy of an article under a new id: unknown to graph and chains, alike in content and category."""
    _, history = reader
    best = recommender.recommend(history, top=1, rules=RerankingOptions(diversity=0)).recommendations[0]
    news, row = recommender.news, best.article.row
    grown = replace(
        news,
        ids=(*news.ids, "N77777777", "N77777778"),
        titles=(*news.titles, news.titles[row], ""),
        abstracts=(*news.abstracts, news.abstracts[row], ""),
        categories=np.append(news.categories, [news.categories[row], 400]).astype(np.int32),
        subcategories=np.append(news.subcategories, [news.subcategories[row], 9999]).astype(np.int32),
        entities=Ragged(
            news.entities.values, np.append(news.entities.offsets, [news.entities.offsets[-1]] * 2)
        ),
        published=np.append(news.published, [recommender.until] * 2),
    )
    grown = replace(grown, category_names=(*news.category_names, *map(str, range(400))))
    larger = recommender.with_news(grown)
    found = larger.recommend(history, top=2, rules=RerankingOptions(diversity=0))
    assert "N77777777" in ids(found)
    assert found.recommendations[0].score == pytest.approx(best.score, abs=0.02)
    # As a click it is a click without neighbours and chain; the one without text and category is one too.
    clicked = larger.recommend(["N77777777", "N77777778"], top=3, detail="explanation")
    assert clicked.rule is None
    assert clicked.recommendations[0].explanation.chain == ()
    with pytest.raises(InputError, match="do not begin with those the model knows"):
        recommender.with_news(replace(news, ids=("", *news.ids[2:], "N1000")))


def test_ranking_is_the_network_and_unknown_candidates_come_last(recommender, portal):
    behaviors = portal.splits["test"].take(np.arange(40))
    scores = recommender.rank(behaviors)
    wanted = score_behaviors(recommender.model, recommender.features, behaviors)
    np.testing.assert_allclose(scores, wanted, atol=1e-5)
    values = behaviors.candidates.values.copy()
    values[[3, 50]] = 0
    damaged = replace(behaviors, candidates=Ragged(values, behaviors.candidates.offsets))
    scores = recommender.rank(damaged)
    assert (scores[[3, 50]] < np.delete(scores, [3, 50]).min()).all()


def test_a_model_without_a_vector_for_new_readers_ranks_them_by_the_rule(recommender, portal):
    model = type(recommender.model)(replace(recommender.model.config, cold_user=False)).eval()
    model.load_state_dict({k: v for k, v in recommender.model.state_dict().items() if k != "cold_user"})
    other = NewsRecommender("rule", replace(recommender.parts, model=model))
    behaviors = portal.splits["test"].take(np.arange(3))
    behaviors = replace(behaviors, histories=Ragged.from_rows([[], [0, 0], [5, 6]]))
    scores = Ragged(other.rank(behaviors), behaviors.candidates.offsets)
    age = behaviors.times[0] - recommender.published_N[behaviors.candidates[0]]
    assert np.argsort(-scores[0], kind="stable").tolist() == np.argsort(age, kind="stable").tolist()
    assert len(set(scores[2].tolist())) > 1


def test_popularity_is_part_of_what_the_index_searches(recommender, portal, reader):
    _, history = reader
    config = replace(recommender.model.config, popularity=True)
    model = type(recommender.model)(config).eval()
    model.load_state_dict(recommender.model.state_dict(), strict=False)
    model.popularity.output.weight.data.fill_(0.7)
    statistics = ClickStatistics.build(
        portal.splits["test"], len(portal.news), published=portal.news.published
    )
    parts = replace(
        recommender.parts, model=model, features=replace(recommender.features, statistics=statistics)
    )
    popular = NewsRecommender("popular", parts)
    found = popular.recommend(history, top=20, rules=RerankingOptions(diversity=0))
    for item in found.recommendations:
        assert "popularity" in item.parts
        assert sum(item.parts.values()) == pytest.approx(item.score, abs=1e-3)
    assert (np.diff([item.score for item in found.recommendations]) <= 1e-6).all()


def test_stored_vectors_are_used_until_the_model_changes(folder, recommender, reader, tmp_path, monkeypatch):
    import shutil

    from multiway_recsys.glocim.model import Glocim

    copy = tmp_path / "model"
    shutil.copytree(folder, copy)
    NewsRecommender.from_pretrained(str(copy)).store(copy)
    calls = []
    original = Glocim.encode_news
    monkeypatch.setattr(Glocim, "encode_news", lambda *a, **k: calls.append(1) or original(*a, **k))
    stored = NewsRecommender.from_pretrained(str(copy))
    assert calls == []
    _, history = reader
    assert ids(stored.recommend(history, top=5)) == ids(recommender.recommend(history, top=5))
    (copy / "config.json").write_text((copy / "config.json").read_text() + " ")
    NewsRecommender.from_pretrained(str(copy))
    assert calls == [1]


def test_a_log_after_training_gives_its_graph_but_not_one_that_grows(recommender, portal):
    dev = portal.splits["dev"]
    later = recommender.with_clicks_of(dev)
    assert later.parts.graph.until == int(dev.times.min())
    later.parts.graph.require_before(int(dev.times.min()))
    assert later.parts.graph.num_edges != recommender.parts.graph.num_edges
    user = dev.users[0]
    rows = np.flatnonzero(dev.users == user)
    grown = dev.take(np.array([rows[0], rows[0]]))
    grown = replace(grown, histories=Ragged.from_rows([[1, 2], [1, 2, 3]]))
    with pytest.raises(InputError, match="grow from impression to impression"):
        recommender.with_clicks_of(grown)


def test_another_catalogue(recommender):
    other = simulate(PortalConfig(num_users=120, communities=3, seed=8), generated_texts(600, seed=5))
    moved = recommender.over(other.news, other.splits["test"])
    assert moved.news.ids == other.news.ids
    scores = moved.rank(other.splits["test"].take(np.arange(20)))
    assert np.isfinite(scores).all()
    assert len(moved.readers.ids) == len(other.splits["test"].user_ids)


def test_readers_of_a_log(portal):
    test = portal.splits["test"]
    readers = Readers.of_behaviors(test)
    row = int(np.flatnonzero(test.users == test.users[0])[np.argmax(test.times[test.users == test.users[0]])])
    clicked = test.candidates[row][
        test.labels[test.candidates.offsets[row] : test.candidates.offsets[row + 1]] == 1
    ]
    assert readers.histories[test.users[0]].tolist() == [*test.histories[row], *clicked]
    assert readers.last_seen[test.users[0]] == test.times[row]
    assert readers.ids == test.user_ids


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "recommender.json").unlink(), "not the folder of a recommender"),
        (lambda f: (f / "recommender.json").write_text('{"schema": "other/9"}'), "schema 'other/9'"),
        (lambda f: (f / "catalogue.jsonl").write_text('["N1"]\n'), r"catalogue.jsonl:1: expected \[id"),
        (lambda f: (f / "catalogue.jsonl").write_text('["N1","a","b"]\n'), "the catalogue has 2"),
        (lambda f: (f / "readers.txt").write_text("U1\n"), "1 readers, 200 histories"),
        (lambda f: (f / "features.safetensors").write_bytes(b"no"), "features.safetensors"),
        (lambda f: (f / "names.json").write_text("{}"), "expected lists of names"),
        (lambda f: (f / "text" / "text.json").write_text('{"kind": "runes"}'), "unknown kind of text"),
        (lambda f: (f / "text" / "terms.json").write_text('{"terms": ["a"]}'), "1 terms, but weights"),
        (lambda f: (f / "graph" / "meta.json").unlink(), "no click graph"),
    ],
)
def test_a_damaged_folder_is_named_in_one_line(folder, tmp_path, damage, message):
    import shutil

    copy = tmp_path / "model"
    shutil.copytree(folder, copy)
    damage(copy)
    from multiway_core.errors import MultiwayError

    with pytest.raises(MultiwayError, match=message):
        NewsRecommender.from_pretrained(str(copy))


def test_no_model(tmp_path):
    with pytest.raises(ModelNotFoundError):
        NewsRecommender.from_pretrained("bundled:no-such-portal")
    with pytest.raises(CheckpointError):
        NewsRecommender.from_pretrained(str(tmp_path))
