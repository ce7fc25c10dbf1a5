"""Matrices: rules hold, candidates tell nothing, held-out values never occur in training."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import asdict

import numpy as np
import pytest
from multiway_vision_language.kosmos1 import raven
from multiway_vision_language.kosmos1.raven import Panel, Rule


def make(seed: int, size: int = 3, held_out: bool = False, num_rules: int = 1) -> raven.Matrix:
    return raven.make_matrix(random.Random(seed), size, held_out=held_out, num_rules=num_rules)


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("num_rules", [1, 2, 4])
def test_the_answer_follows_the_rules_and_is_there_once(size: int, num_rules: int) -> None:
    for seed in range(60):
        matrix = make(seed, size, num_rules=num_rules)
        panels = [*matrix.given, matrix.candidates[matrix.answer]]
        assert len(matrix.given) == size * size - 1
        assert len(set(matrix.candidates)) == raven.NUM_CANDIDATES
        assert sum(rule.kind != "same" for rule in matrix.rules) == num_rules
        for rule in matrix.rules:
            grid = np.array([getattr(panel, rule.attribute) for panel in panels]).reshape(size, size)
            assert grid.min() >= 0
            assert grid.max() < raven.VALUES[rule.attribute]
            if rule.kind == "same":
                assert (grid == grid[0, 0]).all()
            elif rule.kind == "row":
                assert (grid == grid[:, :1]).all()
                assert len(set(grid[:, 0])) == size
            elif rule.kind == "column":
                assert (grid == grid[:1]).all()
                assert len(set(grid[0])) == size
            else:
                steps = np.diff(grid, axis=1)
                if rule.attribute == "rotation":
                    steps = steps % raven.VALUES["rotation"]
                assert len(set(steps.flatten())) == 1
                assert steps[0, 0] != 0


def test_held_out_values_never_occur_in_training() -> None:
    def changing(matrix: raven.Matrix) -> set[Rule]:
        return {rule for rule in matrix.rules if rule.kind != "same"}

    train = set().union(*(changing(make(seed)) for seed in range(400)))
    test = set().union(*(changing(make(seed, held_out=True)) for seed in range(400)))
    assert all(rule.held_out for rule in test)
    assert not any(rule.held_out for rule in train)
    kinds = {(rule.attribute, rule.kind) for rule in test}
    assert len(kinds) == 3 * 3 + 2  # every property in every way it can go, in the test as well
    assert kinds == {(rule.attribute, rule.kind) for rule in train}


def test_candidates_alone_tell_nothing() -> None:
    places = Counter()
    by_consensus = 0.0
    for seed in range(600):
        matrix = make(seed, held_out=seed % 2 == 0)
        places[matrix.answer] += 1
        counts = [Counter(asdict(panel)[name] for panel in matrix.candidates) for name in raven.VALUES]
        scores = [
            sum(count[value] for count, value in zip(counts, asdict(panel).values(), strict=True))
            for panel in matrix.candidates
        ]
        best = [index for index, score in enumerate(scores) if score == max(scores)]
        by_consensus += (matrix.answer in best) / len(best)
    assert by_consensus == pytest.approx(100)
    assert all(60 < places[place] < 140 for place in range(raven.NUM_CANDIDATES))


def test_every_property_is_seen_in_the_picture() -> None:
    base = Panel(1, 0, 0, 0)
    pictures = {base.draw(48).tobytes()}
    for name, number in raven.VALUES.items():
        for value in range(number):
            panel = Panel(**{**asdict(base), name: value})
            if panel != base:
                pictures.add(panel.draw(48).tobytes())
    assert len(pictures) == 1 + sum(number - 1 for number in raven.VALUES.values())
    moved = base.draw(48, random.Random(1))
    assert moved.shape == (48, 48, 3)
    assert moved.dtype == np.uint8
    assert not np.array_equal(moved, base.draw(48))
    assert all((Panel(3, 1, 4, place).draw(48).min(axis=(0, 1)) < 230).all() for place in range(5))


def test_generation_is_a_function_of_the_seed() -> None:
    assert make(5) == make(5)
    assert make(5) != make(6)


def test_accuracy_counts_the_highest_score() -> None:
    matrices = [make(seed) for seed in range(4)]
    perfect = [[float(index == m.answer) for index in range(6)] for m in matrices]
    assert raven.accuracy(perfect, matrices) == 1
    assert raven.accuracy([[-score for score in row] for row in perfect[:1]], matrices[:1]) == 0
