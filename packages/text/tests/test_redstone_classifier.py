"""The trainable classifier: it learns, two runs give the same bits, its file is checked, and a recipe uses it."""

import random

import numpy as np
import pytest
from multiway_core.errors import CheckpointError, InputError
from multiway_text.redstone.classifier import TextClassifier, load_classifier, train_classifier
from multiway_text.redstone.pipeline import Pipeline, Recipe
from multiway_text.redstone.record import Record
from safetensors.numpy import save_file

WORDS = ("proof lemma integral matrix theorem", "boots price basket sale delivery")


def texts(count, seed):
    rng = random.Random(seed)
    common = ["the", "of", "and", "with", "that", "a", "is", "we", "it", "on"]
    return [" ".join(rng.choices(WORDS[i % 2].split() + 3 * common, k=25)) for i in range(count)]


@pytest.fixture(scope="module")
def classifier():
    return train_classifier(texts(200, 0), [i % 2 == 0 for i in range(200)], "math")


def test_it_tells_unseen_texts_apart(classifier):
    found = [classifier(text) >= 0.5 for text in texts(100, 1)]
    assert np.mean([said == (i % 2 == 0) for i, said in enumerate(found)]) > 0.9


def test_two_trainings_give_the_same_file(classifier, tmp_path):
    classifier.save(tmp_path / "a")
    train_classifier(texts(200, 0), [i % 2 == 0 for i in range(200)], "math").save(tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    loaded = load_classifier(tmp_path / "a")
    assert loaded.domain == "math"
    assert [loaded(text) for text in texts(5, 2)] == [classifier(text) for text in texts(5, 2)]


def test_a_recipe_filters_by_it(classifier, tmp_path):
    classifier.save(tmp_path / "math.safetensors")
    math, shop = texts(2, 3)
    with Pipeline(Recipe("texts", classifier=tmp_path / "math.safetensors")) as pipeline:
        kept, dropped = pipeline([Record("1", "", text=math), Record("2", "", text=shop)])
    assert (kept.drop_reason, dropped.drop_reason) == ("", "classifier: less than 0.5")
    assert kept.meta["classifier"] > 0.5 > dropped.meta["classifier"]
    few = r"we have \frac here, " + math
    with Pipeline(Recipe("math", languages=(), classifier=tmp_path / "math.safetensors")) as pipeline:
        (found,) = pipeline([Record("1", "", text=few)])
    assert (found.drop_reason, "classifier" in found.meta) == ("", True)


def test_what_is_no_classifier(tmp_path):
    with pytest.raises(InputError, match="needs texts of the domain and others"):
        train_classifier(["a", "b"], [True, True])
    with pytest.raises(InputError, match="cannot read"):
        load_classifier(tmp_path / "absent")
    bad = tmp_path / "bad"
    bad.write_bytes(b"no file of tensors")
    with pytest.raises(CheckpointError, match="no classifier of texts"):
        load_classifier(bad)
    save_file({"weight": np.zeros(8, np.float32)}, bad)
    with pytest.raises(CheckpointError, match="expected the format"):
        load_classifier(bad)
    TextClassifier(np.full(8, np.nan, np.float32), 0.0).save(bad)
    with pytest.raises(CheckpointError, match="not finite"):
        load_classifier(bad)
    TextClassifier(np.zeros((2, 4), np.float32), 0.0).save(bad)
    with pytest.raises(CheckpointError, match="other shapes"):
        load_classifier(bad)
