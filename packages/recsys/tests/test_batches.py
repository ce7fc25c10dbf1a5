"""Training batches: what a step sees depends on (seed, step, shard) alone."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from multiway_core.errors import DataError
from multiway_core.training import TrainConfig, Trainer
from multiway_recsys.data.tables import Ragged
from multiway_recsys.glocim.batches import TrainingBatches, random_bits
from multiway_recsys.glocim.model import Glocim
from multiway_recsys.glocim.objective import negative_sampling

from packages.recsys.tests.glocim_world import World, make_world, tiny


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(num_impressions=40)


def batches_of(
    world: World, preset: str = "glocim-small", *, size: int = 6, seed: int = 3, **changes: object
) -> TrainingBatches:
    frozen = bool(changes.pop("frozen_negatives", False))
    config = tiny(preset, world.features, **changes)
    return TrainingBatches(
        world.features, world.behaviors, config, seed=seed, batch_size=size, frozen_negatives=frozen
    )


def assert_same(one: object, other: object) -> None:
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)  # type: ignore[arg-type]
    elif is_dataclass(one):
        for field in fields(one):
            assert_same(getattr(one, field.name), getattr(other, field.name))
    else:
        assert one == other


def test_a_step_is_the_same_in_a_new_process_and_out_of_order(world: World) -> None:
    first, second = batches_of(world), batches_of(world)
    seen = [first(step, 0, 1) for step in range(12)]
    for step in (11, 3, 7, 0):
        assert_same(second(step, 0, 1), seen[step])
    assert_same(second(3, 1, 2), seen[7])  # shards share out the same batches
    assert not torch.equal(batches_of(world, seed=4)(0, 0, 1).candidates_BC, seen[0].candidates_BC)


def test_an_epoch_has_every_row_once_and_epochs_differ(world: World) -> None:
    batches = batches_of(world)
    epochs = [
        np.concatenate([batches.rows(epoch, index) for index in range(batches.batches_per_epoch)])
        for epoch in (0, 1)
    ]
    for rows in epochs:
        assert sorted(rows.tolist()) == list(range(len(batches)))
    assert epochs[0].tolist() != epochs[1].tolist()
    assert batches.steps(2) == 2 * batches.batches_per_epoch
    assert batches.steps(2, num_shards=2) == batches.batches_per_epoch


def test_negatives_are_others_of_the_impression_and_new_in_every_epoch(world: World) -> None:
    batches = batches_of(world)
    behaviors = world.behaviors
    assert behaviors.labels is not None
    labels = Ragged(behaviors.labels.astype(np.int32), behaviors.candidates.offsets)
    rows = np.arange(len(batches))
    drawn = batches.negatives(0, rows)
    for row, negatives in zip(rows, drawn, strict=True):
        impression = batches.impressions[row]
        shown, clicked = behaviors.candidates[impression], labels[impression] == 1
        others = set(shown[~clicked].tolist())
        assert batches.clicked[row] in shown[clicked]
        assert set(negatives.tolist()) <= others
        assert len(others) < 4 or len(set(negatives.tolist())) == 4
    assert not np.array_equal(drawn, batches.negatives(1, rows))
    np.testing.assert_array_equal(drawn[5:9], batches.negatives(0, rows[5:9]))  # whatever the batch
    frozen = batches_of(world, frozen_negatives=True)
    np.testing.assert_array_equal(frozen.negatives(0, rows), frozen.negatives(7, rows))


def test_negatives_are_drawn_evenly(world: World) -> None:
    batches = batches_of(world)
    counts = batches.others.lengths[batches.impressions]
    row = int(counts.argmax())
    others = batches.others[batches.impressions[row]]
    drawn = np.concatenate([batches.negatives(epoch, np.array([row]))[0] for epoch in range(700)])
    expected = len(drawn) / len(others)
    assert all(abs((drawn == news).sum() - expected) < 5 * expected**0.5 for news in others)


def test_impressions_that_teach_nothing_are_left_out(world: World) -> None:
    behaviors = world.behaviors
    assert behaviors.labels is not None
    usable = [
        row
        for row in range(len(behaviors))
        if len(behaviors.candidates[row]) > 1  # each has one click
    ]
    batches = batches_of(world)
    assert sorted(set(batches.impressions.tolist())) == usable
    assert batches.num_left_out == len(behaviors) - len(usable)
    with pytest.raises(DataError, match="labelled impressions"):
        batches_of(replace(world, behaviors=replace(behaviors, labels=None)))
    with pytest.raises(DataError, match="nothing to train on"):
        batches_of(replace(world, behaviors=replace(behaviors, labels=np.zeros_like(behaviors.labels))))


def test_histories_are_the_newest_clicks_right_aligned(world: World) -> None:
    batches = batches_of(world, "nrms-small", history_dropout=0.0)
    for index in range(batches.batches_per_epoch):
        batch = batches(index, 0, 1)
        rows = batches.rows(0, index)
        for row, mask in zip(rows, batch.clicks_mask_BH, strict=True):
            history = world.behaviors.histories[batches.impressions[row]]
            assert mask.sum() == min(8, len(history))
            assert mask.tolist() == sorted(mask.tolist())  # padding first
        assert batch.clicks_mask_BH.any(dim=0).all() or batch.clicks_mask_BH.shape[1] == 1


def test_histories_are_left_out_at_the_asked_rate(world: World) -> None:
    batches = batches_of(world, "nrms-small", history_dropout=0.5)
    empty = total = 0
    for step in range(20 * batches.batches_per_epoch):
        mask = batches(step, 0, 1).clicks_mask_BH
        empty += int((~mask.any(dim=1)).sum())
        total += len(mask)
    assert 0.4 < empty / total < 0.62  # a few have none anyway


def test_each_news_is_encoded_once(world: World) -> None:
    for preset in ("nrms", "glory", "glocim", "glory-small"):
        batch = batches_of(world, preset, size=20)(0, 0, 1)
        texts = batch.news.tokens_NT if batch.news.tokens_NT is not None else batch.news.vectors_ND
        assert texts is not None
        assert len(np.unique(texts.numpy(), axis=0)) >= len(texts) - 1  # two news may share a short title


def test_random_bits_are_even_and_differ_by_every_argument() -> None:
    counters = np.arange(4000)
    bits = random_bits(1, 2, counters, np.uint64(3))
    assert len(np.unique(bits)) == len(bits)
    uniform = bits / 2.0**64
    assert abs(uniform.mean() - 0.5) < 0.02
    for other in ((2, 2, 3), (1, 3, 3), (1, 2, 4)):
        assert not (random_bits(other[0], other[1], counters, np.uint64(other[2])) == bits).any()


def test_a_killed_training_resumes_exactly(world: World, tmp_path: Path) -> None:
    def train(folder: Path, *stops: float | None) -> dict[str, torch.Tensor]:
        for stop in stops:
            batches = batches_of(world)
            torch.manual_seed(0)
            model = Glocim(batches.config)
            config = TrainConfig(steps=6, learning_rate=1e-2, weight_decay=0.0, schedule="constant", seed=1)
            Trainer(model, negative_sampling, batches, config, folder).fit(stop_after_seconds=stop)
        return model.state_dict()

    whole = train(tmp_path / "whole", None)
    pieces = train(tmp_path / "pieces", 0.0, 0.0, None)  # stopped after each of the first two steps
    for name, tensor in whole.items():
        assert torch.equal(tensor, pieces[name]), name
