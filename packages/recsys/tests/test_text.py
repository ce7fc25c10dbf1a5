"""Titles as numbers: words, word vectors, TF-IDF vectors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multiway_core.errors import DataError
from multiway_recsys.text.tfidf import TfidfEncoder, news_text
from multiway_recsys.text.tokens import Vocabulary, split_words


@pytest.mark.parametrize(
    ("title", "words"),
    [
        ("The Brands Queen Elizabeth Swears By", "the brands queen elizabeth swears by"),
        ("I Don't know what it's about; they'll say", "i do n't know what it 's about ; they 'll say"),
        ("50 Worst Habits: $5.50 a day, 3rd time!", "50 worst habits : $ 5.50 a day , 3rd time !"),
        ("U.S. stay-at-home order (AT&T) at 9:30 a.m.", "u.s. stay-at-home order ( at&t ) at 9:30 a.m."),
        ("He can't... cannot 1,000 -5", "he ca n't ... can not 1,000 -5"),
        ("Überraschung in Zürich – naïve", "überraschung in zürich – naïve"),
        ("Gov. O'Brien’s 13-year-old vs. Rep. Lee", "gov. o'brien ’s 13-year-old vs. rep. lee"),
        ("He said no. No!", "he said no. no !"),
        ("", ""),
    ],
)
def test_words_are_cut_as_the_rule_says(title: str, words: str) -> None:
    assert split_words(title) == words.split()


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=40))
def test_no_letter_is_lost(text: str) -> None:
    assert "".join(split_words(text)) == "".join(text.lower().split())


@pytest.mark.peer
def test_words_are_those_of_nltk() -> None:
    tokenizer = pytest.importorskip("nltk.tokenize").NLTKWordTokenizer()
    for title in (
        "I don't know what it's about",
        "Stay-at-home order, again (and again)!",
        "It costs $5.50 today",
    ):
        assert split_words(title) == tokenizer.tokenize(title.lower())


def test_vocabulary_counts_the_training_texts(tmp_path: Path) -> None:
    vocabulary = Vocabulary.of_texts(["b a a", "a b c"])
    assert vocabulary.words == ("", "a", "b", "c")
    ids = vocabulary.encode(["C a unheard b", "", "a b c"], 3)
    assert ids.tolist() == [[3, 1, 0], [0, 0, 0], [1, 2, 3]]
    assert ids.dtype == np.int32
    assert Vocabulary.of_texts(["b a a", "a b c"], min_count=2).words == ("", "a", "b")
    assert Vocabulary.of_texts(["b a a", "a b c"], max_words=1).words == ("", "a")
    vocabulary.save(tmp_path / "words.json")
    assert Vocabulary.load(tmp_path / "words.json") == vocabulary


def test_a_published_dictionary_is_read_as_json(tmp_path: Path) -> None:
    path = tmp_path / "word_dict.json"
    path.write_text('{"the": 2, "queen": 1}', encoding="utf-8")
    assert Vocabulary.load(path).encode(["The queen"], 2).tolist() == [[2, 1]]
    path.write_text('{"the": -1}', encoding="utf-8")
    with pytest.raises(DataError, match="a number from 0 for each word"):
        Vocabulary.load(path)
    path.write_text('{"words": ["the"]}', encoding="utf-8")
    with pytest.raises(DataError, match='begins with ""'):
        Vocabulary.load(path)


def test_texts_on_one_matter_have_like_vectors() -> None:
    texts = [f"the {team} won the cup final" for team in ("red", "blue", "green")]
    texts += [f"a {dish} recipe for the oven" for dish in ("bread", "pie", "cake")]
    encoder = TfidfEncoder.fit(texts, width=4)
    vectors = encoder(texts)
    assert vectors.dtype == np.float32
    assert vectors.shape == (6, 4)
    alike = vectors @ vectors.T
    assert alike[:3, :3].min() > alike[:3, 3:].max() + 0.3
    np.testing.assert_allclose(np.diag(alike), 1, atol=1e-5)
    np.testing.assert_array_equal(encoder(texts), TfidfEncoder.fit(texts, width=4)(texts))
    assert np.abs(encoder(["zzz", ""])).max() == 0
    with pytest.raises(DataError, match="no words to make text vectors of in 2 texts"):
        TfidfEncoder.fit(["", " "])


def test_text_of_a_news() -> None:
    assert [news_text("A", "B"), news_text("", "B"), news_text("A", "")] == ["A. B", "B", "A"]
