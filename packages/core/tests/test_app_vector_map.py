"""The map of texts around a search: labels stand apart, names are escaped, the search is joined to what it found."""

import numpy as np
import pytest
from multiway_core.app.vector_map import HEIGHT, WIDTH, label_places, vector_map


def test_labels_of_points_that_lie_together_stand_apart() -> None:
    labels = label_places([(50, 50), (200, 100), (203, 101), (396, 100)], ["search", "1", "2", "3"])
    assert [anchor for _, anchor in labels] == ["start", "start", "end", "end"]
    (right, _), (left, _) = labels[1][0], labels[2][0]
    assert left < 200 < 203 < right


def test_a_map_shows_names_and_what_was_found() -> None:
    vectors_NE = np.random.default_rng(0).standard_normal((4, 8))
    picture, share = vector_map(
        vectors_NE, ["a<b", "", "c"], ["one", "two & 2", "three"], [2], "texts 'here'"
    )
    assert picture.count("<line") == picture.count("class='near'") == 1
    assert picture.count("<circle") == 3
    for written in ("a&lt;b", "two &amp; 2", "texts &#x27;here&#x27;"):
        assert written in picture
    assert picture.count("<text") == 3  # an empty name is left out
    assert f"viewBox='0 0 {WIDTH} {HEIGHT}'" in picture
    assert 0 < share <= 1


@pytest.mark.parametrize("count", [1, 2])
def test_few_points_are_a_map_too(count) -> None:
    picture, share = vector_map(np.ones((count, 3)), ["x"] * (count - 1), ["x"] * (count - 1), [], "m")
    assert "nan" not in picture
    assert share == 0
