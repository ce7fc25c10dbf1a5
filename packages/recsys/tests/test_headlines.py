"""Our own texts: readable sentences from which the topic can be told."""

from __future__ import annotations

import numpy as np
from multiway_recsys.simulator.headlines import lexicon, write_article
from multiway_recsys.simulator.texts import generated_texts, text_vectors


def test_lexicon_has_topics_of_many_categories_with_terms_of_their_own() -> None:
    topics = lexicon()
    assert len({topic.category for topic in topics}) >= 20
    assert len(topics) >= 200
    terms = [term for topic in topics for term in topic.terms]
    assert len(set(terms)) == len(terms)
    assert all(topics[row].category != topic.category for topic in topics for row in topic.related)
    assert len({topic.entity for topic in topics}) == len(topics)


def test_articles_say_things_of_their_topic_and_fill_every_slot() -> None:
    rng = np.random.default_rng(0)
    for row in range(0, len(lexicon()), 3):
        article = write_article(row, rng)
        text = f"{article.title} {article.abstract}".lower()
        assert sum(term.lower() in text for term in lexicon()[row].terms) >= 2
        assert "{" not in text
        assert article.title[0].isupper() or article.title[0].isdigit()
        assert "\t" not in text
        assert article.entities in ((), (lexicon()[row].entity,))


def test_topic_is_recoverable_from_text() -> None:
    bank = generated_texts(4000, seed=2)
    known, asked = np.arange(3000), np.arange(3000, 4000)
    sums = np.zeros((bank.num_topics, bank.vectors.shape[1]), np.float32)
    np.add.at(sums, bank.topics[known], bank.vectors[known])
    guessed = (bank.vectors[asked] @ (sums / np.linalg.norm(sums, axis=1, keepdims=True)).T).argmax(1)
    assert (guessed == bank.topics[asked]).mean() > 0.65


def test_texts_differ_and_depend_on_the_seed_alone() -> None:
    one, same, other = (
        generated_texts(300, seed=0),
        generated_texts(300, seed=0),
        generated_texts(300, seed=1),
    )
    assert one.titles == same.titles
    assert one.titles != other.titles
    assert len(set(one.titles)) > 290


def test_text_vectors_have_unit_length_and_no_more_dimensions_than_words() -> None:
    vectors = text_vectors(["red apples fall", "red apples roll", "green pears fall", "green pears roll"] * 3)
    assert vectors.shape[1] <= 6
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
