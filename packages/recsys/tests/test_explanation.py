"""Explanations of a small world worked out by hand: which click, which chain, which words."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from multiway_recsys.data.tables import News, Ragged
from multiway_recsys.graph.click_graph import ClickGraph
from multiway_recsys.serving.explanation import Explainer
from multiway_recsys.serving.trace import Trace

# 1 strike -> 2 court -> 3 freight; 4 football -> 5 transfer; 6 is recommended
TITLES = (
    "",
    "Harbour strike begins",
    "Court rules on strike",
    "Freight by fishing boat",
    "Cup final",
    "Transfer",
    "Boats",
)
CONTENT = np.array(
    [[0, 0, 0], [1, 0, 0], [0.8, 0.6, 0], [0, 1, 0], [0, 0, 1], [0, 0.2, 1], [0.1, 1, 0]], np.float32
)


@pytest.fixture
def news():
    return News(
        ids=("", *(f"N{i}" for i in range(1, 7))),
        titles=TITLES,
        abstracts=("",) * 7,
        categories=np.array([0, 1, 1, 1, 2, 2, 1], np.int32),
        subcategories=np.zeros(7, np.int32),
        entities=Ragged(np.zeros(0, np.int32), np.zeros(8, np.int64)),
        category_names=("", "news", "sport"),
        subcategory_names=("",),
        entity_ids=("",),
    )


@pytest.fixture
def graph():
    histories = Ragged.from_rows([[1, 2, 3], [1, 2, 3], [1, 2], [4, 5], [1, 4]])
    return ClickGraph.build(histories, None, 7)


@pytest.fixture
def trace():
    """Two clicks, 4 and 1; the second has a chain 2, 3."""
    parts = {
        "text": np.array([[0.1, 0, 0], [0.2, 0.1, 0]], np.float32),
        "chains": np.array([[0, 0, 0], [0, 0.5, 0]], np.float32),
    }
    user = sum(part.sum(axis=0) for part in parts.values())
    return Trace(
        history_M=np.array([4, 1]),
        user_d=user,
        click_weights_M=np.array([0.4, 0.6], np.float32),
        collaborative_M=np.array([0.5, 0.5], np.float32),
        gate_M=np.array([1.0, 0.3], np.float32),
        chains_MKL=np.array([[[5, 0, 0]], [[2, 3, 0]]], np.int32),
        chain_weights_MKL=np.array([[[1, 0, 0]], [[0.5, 0.5, 0]]], np.float32),
        parts=parts,
        without_click_Md=np.array([user, user - 0.4], np.float32),
        without_chain_Md=np.array([user, user - [0, 0.5, 0]], np.float32),
        without_chains_d=(user - [0, 0.5, 0]).astype(np.float32),
    )


def test_the_chain_that_leads_there_is_named(news, graph, trace):
    candidate = np.array([0.0, 2.0, 0.0], np.float32)
    explanation = Explainer(news, graph, CONTENT).explain(trace, 6, candidate, 1.2)
    assert explanation.click.id == "N1"
    assert [hop.article.id for hop in explanation.chain] == ["N2", "N3"]
    assert explanation.continues == 1  # 3 is most like 6
    assert [hop.readers for hop in explanation.chain] == [3, 2]
    assert explanation.click_share == pytest.approx(0.6)
    assert explanation.text.startswith(
        "You read “Harbour strike begins”; its readers went on to “Court rules on strike” (3 readers), "
        "“Freight by fishing boat”; this article continues “Freight by fishing boat”."
    )
    assert "The score is 1.20; without that click it would fall by 0.80" in explanation.text
    assert "without its chain it would fall by 1.00" in explanation.text
    assert explanation.occlusion.without_chain == pytest.approx(-1.0)
    assert [hop.article.id for hop in explanation.neighbours] == ["N2", "N4"]
    document = json.loads(json.dumps(explanation.to_json()))
    assert document["chain"] == ["N2", "N3"]
    assert document["continues"] == "N3"
    assert set(document["occlusion"]) == {"without_click", "without_chain", "without_all_chains"}


def test_of_a_long_chain_the_words_tell_both_ends(news, graph, trace):
    chains = np.array([[[5, 0, 0, 0, 0, 0, 0]], [[2, 4, 5, 2, 4, 5, 3]]], np.int32)
    weights = np.array([[[1, 0, 0, 0, 0, 0, 0]], [[0.1] * 6 + [0.4]]], np.float32)
    long = replace(trace, chains_MKL=chains, chain_weights_MKL=weights)
    explanation = Explainer(news, graph, CONTENT).explain(long, 6, np.array([0.0, 2.0, 0.0], np.float32), 1.2)
    assert len(explanation.chain) == 7
    assert (
        "“Court rules on strike” (3 readers), “Cup final”, “Transfer”, “Court rules on strike”, 2 more, "
        "“Freight by fishing boat”; this article continues “Freight by fishing boat”."
    ) in explanation.text


def test_parts_of_the_score_sum_up(trace):
    candidate = np.array([1.0, 2.0, 3.0], np.float32)
    assert sum(trace.score_parts(candidate).values()) == pytest.approx(float(trace.user_d @ candidate))


def test_a_chain_that_did_not_matter_is_said_not_to(news, graph, trace):
    idle = replace(trace, without_chain_Md=np.stack([trace.user_d] * 2))
    explanation = Explainer(news, graph, CONTENT).explain(idle, 6, np.array([0, 2, 0], np.float32), 1.2)
    assert "without its chain it would stay the same" in explanation.text


def test_a_score_that_rises_without_the_click_is_told(news, graph, trace):
    against = replace(trace, without_click_Md=trace.user_d + np.full((2, 3), 0.3, np.float32))
    explanation = Explainer(news, graph, CONTENT).explain(against, 6, np.array([0, 2, 0], np.float32), 1.2)
    assert "without that click it would rise by 0.60" in explanation.text


def test_a_chain_that_speaks_against_the_news_does_not_explain_it(news, graph, trace):
    parts = trace.parts | {"chains": -trace.parts["chains"]}
    explanation = Explainer(news, graph, CONTENT).explain(
        replace(trace, parts=parts), 6, np.array([0, 2, 0], np.float32), 1.2
    )
    assert explanation.chain == ()
    assert explanation.click.id == "N1"  # without it the score would fall most


def test_without_a_chain_the_click_that_counts_most_explains(news, graph, trace):
    bare = replace(trace, chains_MKL=np.zeros((2, 1, 3), np.int32))
    explanation = Explainer(news, graph, CONTENT).explain(bare, 6, np.array([1, 0, 0], np.float32), 0.3)
    assert explanation.click.id == "N1"
    assert (explanation.chain, explanation.continues) == ((), None)
    assert "no long chain speaks for it" in explanation.text
    no_chains = replace(
        bare, chains_MKL=np.zeros((2, 0, 0), np.int32), chain_weights_MKL=np.zeros((2, 0, 0), np.float32)
    )
    off = Explainer(news, graph, CONTENT).explain(no_chains, 6, np.array([1, 0, 0], np.float32), 0.3)
    assert off.click.id == "N1"
    assert "no long chain" not in off.text


def test_small_counts_of_readers_can_be_kept_back(news, graph, trace):
    explanation = Explainer(news, graph, CONTENT, min_readers=3).explain(
        trace, 6, np.array([0, 2, 0], np.float32), 1.2
    )
    assert [hop.readers for hop in explanation.chain] == [3, None]
    assert "2 readers" not in explanation.text


def test_news_newer_than_the_graph_and_predecessor_graphs(news, trace):
    small = ClickGraph.build(Ragged.from_rows([[1, 2]]), None, 3)
    explanation = Explainer(news, small, CONTENT).explain(
        replace(trace, history_M=np.array([4, 5])), 6, np.array([0, 2, 0], np.float32), 1.2
    )
    assert explanation.neighbours == ()
    assert [hop.readers for hop in explanation.chain] == [None, None]
    backward = ClickGraph.build(Ragged.from_rows([[2, 1], [3, 2]]), None, 7, direction="in")
    text = Explainer(news, backward, CONTENT).explain(trace, 6, np.array([0, 2, 0], np.float32), 1.2).text
    assert "readers had come to it from “Court rules on strike” (1 reader)" in text
