"""DatasetItem recordings, training streams, the recipe: what a detector is trained on, and that it learns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from multiway_core.errors import InputError
from multiway_core.training import TrainOptions, run
from multiway_event_vision.events import Events
from multiway_event_vision.formats import write_events
from multiway_event_vision.labels import write_prophesee_boxes
from multiway_event_vision.labels.boxes import Boxes
from multiway_event_vision.labels.labelled import LabelledRecording, load_recordings, save_recordings
from multiway_event_vision.simulator.shapes import ShapesConfig
from multiway_event_vision.ssla_det import checkpoint
from multiway_event_vision.ssla_det.batches import (
    NOTHING,
    UNKNOWN,
    StreamBatches,
    StreamConfig,
    whole_recordings,
)
from multiway_event_vision.ssla_det.config import PRESETS
from multiway_event_vision.ssla_det.distillation import Distillation
from multiway_event_vision.ssla_det.event_classes import EventClasses, feature_hooks
from multiway_event_vision.ssla_det.inputs import batch_windows, window_of
from multiway_event_vision.ssla_det.layer import NORM_BIAS, SslaLayer
from multiway_event_vision.ssla_det.model import build
from multiway_event_vision.ssla_det.objective import objective
from multiway_event_vision.ssla_det.recipe import OBJECTIVE, RECIPES
from multiway_event_vision.ssla_det.scoring import score_recordings
from multiway_event_vision.ssla_det.shapes_set import shapes_set
from multiway_event_vision.street.recipe import RECIPES as STREET

SMALL = ShapesConfig(width=48, height=40, duration_us=120_000, max_shapes=1, radius=(8, 14))


@pytest.fixture(scope="module")
def recordings() -> list[LabelledRecording]:
    return shapes_set("train", 3, config=SMALL, label_every_us=20_000)


def test_recordings_come_back_from_their_file(recordings: list[LabelledRecording], tmp_path: Path) -> None:
    save_recordings(recordings, tmp_path / "set.npz")
    for given, found in zip(recordings, load_recordings(tmp_path / "set.npz"), strict=True):
        found.events.check()
        for name in "txyp":
            np.testing.assert_array_equal(getattr(found.events, name), getattr(given.events, name))
        np.testing.assert_array_equal(found.label_times, given.label_times)
        np.testing.assert_array_equal(found.boxes.x, given.boxes.x)
        np.testing.assert_array_equal(found.boxes.class_id, given.boxes.class_id)
    (tmp_path / "bad.npz").write_bytes((tmp_path / "set.npz").read_bytes()[:1000])
    with pytest.raises(InputError, match=r"bad\.npz: not a file of labelled recordings"):
        load_recordings(tmp_path / "bad.npz")


def test_a_set_is_the_same_from_its_file(tmp_path: Path) -> None:
    made = shapes_set("train", 2, config=SMALL, file=tmp_path / "set.npz")
    read = shapes_set("train", 2, config=SMALL, file=tmp_path / "set.npz")
    np.testing.assert_array_equal(made[1].events.t, read[1].events.t)
    other = shapes_set("test", 1, config=SMALL)
    assert len(other[0].events) != len(made[0].events)


def marked(height: int, width: int) -> LabelledRecording:
    """Every event lies in the one box of its time, which moves right by a pixel every millisecond."""
    t = np.arange(0, 60_000, 100)
    left = 4 + t // 1000
    generator = np.random.default_rng(0)
    x = left % (width - 9) + generator.integers(0, 9, len(t))
    y = 6 + generator.integers(0, 5, len(t))
    times = np.arange(10_000, 60_000, 5_000)
    boxes = Boxes.from_arrays(
        times,
        (4 + times // 1000) % (width - 9),
        np.full(len(times), 6),
        [9] * len(times),
        [5] * len(times),
        [0] * len(times),
    )
    return LabelledRecording(Events.from_arrays(t, x, y, t % 2, width, height), boxes, times)


@pytest.mark.parametrize("crop", [None, (56, 56)])
def test_boxes_move_with_their_events(crop: tuple[int, int] | None) -> None:
    config = StreamConfig(
        streams=8, read_outs=3, shortest_us=20_000, longest_us=50_000, burn_in_us=4_000,
        keep=(0.5, 1.0), speed=(0.5, 2.0), symmetry="square", crop=crop, min_visible=1.0,
    )  # fmt: skip
    source = StreamBatches([marked(80, 80)], config, seed=1)
    seen = 0
    for step in range(4):
        batch = source(step, 0, 1)
        assert len(batch.slices) == 3
        for number, target in enumerate(batch.targets):
            part, stream = batch.slices[number // 8], number % 8
            if not len(target.boxes_G4):
                assert crop is not None
                continue
            of_stream = part.stream_N == stream
            newest = part.t_N[of_stream].amax()
            # The newest events of a read-out lie in the box of its time.
            last = of_stream & (part.t_N >= newest - 200)
            x, y = part.pixel_N[last] % part.width, part.pixel_N[last] // part.width
            x1, y1, x2, y2 = target.boxes_G4[0]
            assert bool(((x >= x1 - 1) & (x <= x2) & (y >= y1 - 1) & (y <= y2)).all())
            assert {round(float(x2 - x1)), round(float(y2 - y1))} == {9, 5}
            seen += 1
    assert seen > 10


def test_batches_depend_on_seed_step_and_shard_alone(recordings: list[LabelledRecording]) -> None:
    config = StreamConfig(streams=2, read_outs=2, shortest_us=60_000, longest_us=100_000)
    first, again = (StreamBatches(recordings, config, seed=5)(7, 1, 2) for _ in range(2))
    assert torch.equal(first.slices[1].x_NC, again.slices[1].x_NC)
    other = StreamBatches(recordings, config, seed=5)(7, 0, 2)
    assert len(other.slices[0].t_N) != len(first.slices[0].t_N)


def test_streams_stay_below_the_number_of_events(recordings: list[LabelledRecording]) -> None:
    config = StreamConfig(streams=1, shortest_us=60_000, longest_us=100_000, burn_in_us=5_000, max_events=500)
    for step in range(5):
        batch = StreamBatches(recordings, config)(step, 0, 1)
        assert sum(len(part.t_N) for part in batch.slices) <= 500


def test_events_are_labelled_by_the_smallest_box_around_them() -> None:
    recording = marked(80, 80)
    outer = replace(
        recording.boxes,
        x=recording.boxes.x - 4,
        y=recording.boxes.y - 4,
        width=recording.boxes.width + 8,
        height=recording.boxes.height + 8,
        class_id=recording.boxes.class_id + 1,
    )
    columns = {
        name: np.concatenate([getattr(outer, name), getattr(recording.boxes, name)])
        for name in Boxes.__dataclass_fields__
    }
    both = replace(recording, boxes=Boxes.from_arrays(**columns))
    batch = whole_recordings([both])
    label_N, t_N = torch.cat(batch.labels), torch.cat([part.t_N for part in batch.slices])
    known = (t_N >= 5_000) & (t_N <= 55_000)
    # Labels come every 5 ms, in which the box moves by 5 pixels: some events lie between the two boxes.
    assert set(label_N[known].tolist()) <= {0, 1}
    assert (label_N[known] == 0).float().mean() > 0.7
    assert bool((label_N[t_N < 4_000] == UNKNOWN).all())
    nowhere = replace(both, boxes=both.boxes[:0])
    assert set(torch.cat(whole_recordings([nowhere]).labels)[known].tolist()) == {NOTHING}


def test_maps_of_event_classes_learn_from_known_events() -> None:
    torch.manual_seed(0)
    classes = EventClasses((4, 8), num_classes=2)
    hook, shown = feature_hooks(1)
    x_MD, label = torch.randn(30, 8), torch.tensor([0, 1, NOTHING, UNKNOWN] * 10)
    hook[0](0, torch.randn(40, 4), torch.arange(40))
    index_M = torch.arange(40)[torch.arange(40) % 4 != 3]  # all but the unknown ones
    hook[0](1, x_MD, index_M)
    wanted_M = torch.tensor([0, 1, 2] * 10)
    expected = torch.nn.functional.cross_entropy(classes.maps[0](x_MD), wanted_M)
    torch.testing.assert_close(classes.loss(shown, [label]), expected)
    assert classes.loss([[]], [label]) == 0


def test_distillation_is_zero_for_an_equal_and_grows_with_the_difference() -> None:
    model = build(replace(PRESETS["ssla-tiny"], num_classes=3)).eval()
    batch = whole_recordings([marked(80, 80)])
    with torch.no_grad():
        teacher = model.read_outs(batch.slices)
    sure = teacher.head.classes.sign() * 50  # classes that are certain have no entropy
    teacher = replace(teacher, head=replace(teacher.head, classes=sure))
    distillation = Distillation(64, 64)
    distillation.requires_grad_(False)
    distillation.map.weight.copy_(torch.eye(64)[:, :, None, None])
    distillation.map.bias.zero_()
    assert float(distillation.loss(teacher, teacher)) < 1e-6
    losses = [
        float(distillation.loss(replace(teacher, grid_BDHW=teacher.grid_BDHW + error), teacher))
        for error in (0.1, 0.2)
    ]
    assert losses[1] == pytest.approx(4 * losses[0], rel=1e-3)


def test_open_gates_remember_as_long_as_asked() -> None:
    model = build(PRESETS["ssla-tiny"], longest_memory=16.0)
    layer = model.levels[1][0]
    assert isinstance(layer, SslaLayer)
    before = [layer for level in model.levels for layer in level][:-1]
    assert all(bool((layer.norm.bias == NORM_BIAS).all()) for layer in before)
    x_NC = torch.nn.functional.layer_norm(torch.randn(500, 8), (8,)) + NORM_BIAS
    v_NKD, g_NKD, q_NKD = layer.weights().projection.scatter(x_NC)
    horizon_D = 16.0 ** torch.linspace(0, 1, 16)
    wanted_D = torch.special.logit((-1 / horizon_D).exp())
    torch.testing.assert_close(g_NKD.mean((0, 1)), wanted_D, rtol=0, atol=0.15)
    # Of the constant direction values and queries know nothing.
    constant_NC = torch.full((1, 8), NORM_BIAS)
    v_NKD, _, q_NKD = layer.weights().projection.scatter(constant_NC)
    assert float(v_NKD.detach().abs().max()) < 1e-5
    assert float(q_NKD.detach().abs().max()) < 1e-5


def test_a_recording_without_labels_is_refused(recordings: list[LabelledRecording]) -> None:
    without = replace(recordings[0], label_times=np.zeros(0, np.int64))
    with pytest.raises(InputError, match="recording 1 has no label later than 30 ms"):
        StreamBatches([recordings[0], without], StreamConfig())
    with pytest.raises(InputError, match="no recordings"):
        StreamBatches([], StreamConfig())


def test_read_outs_are_those_of_windows(recordings: list[LabelledRecording]) -> None:
    model = build(PRESETS["ssla-tiny"]).double().eval()
    batch = whole_recordings(recordings[:2])
    slices = [replace(part, x_NC=part.x_NC.double()) for part in batch.slices]
    with torch.no_grad():
        outputs = model.read_outs(slices)
        for read, time in enumerate(recordings[0].label_times):
            windows = [window_of(r.events.between(0, int(time) + 1)) for r in recordings[:2]]
            whole = model(batch_windows(windows, height=40, width=48, dtype=torch.float64))
            part = slice(2 * read, 2 * read + 2)
            # The features are float32 numbers in one of the two.
            torch.testing.assert_close(outputs.grid_BDHW[part], whole.grid_BDHW, rtol=0, atol=1e-5)
            assert torch.equal(outputs.active_BHW[part], whole.active_BHW)


def test_learns_a_recording_by_heart(recordings: list[LabelledRecording]) -> None:
    model = build(replace(PRESETS["ssla-tiny"], num_classes=4))
    sparse = replace(recordings[0], events=recordings[0].events[::3])
    before = score_recordings(model, [sparse]).ap50
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    batch = whole_recordings([sparse])
    for _ in range(40):
        loss = objective(model.read_outs(batch.slices), batch.targets, stride=8, config=OBJECTIVE).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert model.training
    after = score_recordings(model, [sparse]).ap50
    assert after > max(0.5, before)


def test_the_recipe_continues_and_writes_a_model(tmp_path: Path) -> None:
    options = TrainOptions(tmp_path / "run", seed=3)
    report = run(RECIPES["smoke"], options)
    folder = report.folder
    assert {path.name for path in folder.iterdir()} >= {"config.json", "model.safetensors"}
    assert set(report.held_out) == {"ap", "ap50"}
    first = (folder / "model.safetensors").read_bytes()
    again = run(RECIPES["smoke"], options)  # finished: only written anew
    assert (again.folder / "model.safetensors").read_bytes() == first
    with pytest.raises(InputError, match="makes its recordings itself"):
        run(RECIPES["smoke"], replace(options, data=("elsewhere",)))
    with pytest.raises(InputError, match="expected a model folder"):
        run(RECIPES["smoke"], replace(options, init_from=str(folder / "config.json")))
    assert RECIPES["shapes"].model.num_classes == 4


def test_the_street_recipe_trains_its_teacher_first(
    recordings: list[LabelledRecording], tmp_path: Path
) -> None:
    street = tmp_path / "recordings"
    street.mkdir()
    for number, recording in enumerate(recordings[:2]):
        write_events(street / f"{number}.npz", recording.events)
        labels = replace(recording.boxes, class_id=recording.boxes.class_id % 2)
        write_prophesee_boxes(street / f"{number}_bbox.npy", labels)
    recipe = STREET["street"]
    few = {"streams": 1, "read_outs": 1, "shortest_us": 60_000, "longest_us": 100_000}
    tiny = replace(
        recipe,
        model=replace(PRESETS["ssla-tiny"], num_classes=2, class_names=("person", "vehicle")),
        streams=replace(recipe.streams, **few),
        dense_streams=replace(recipe.dense_streams, **few),
        train=replace(recipe.train, steps=2),
        dense_train=replace(recipe.dense_train, steps=2),
        training=4,
    )
    options = TrainOptions(tmp_path / "run", data=(str(street),), seed=1)
    folder = run(tiny, options).folder
    assert (tmp_path / "run" / "dense" / "checkpoints").is_dir()
    assert checkpoint.load(folder).config.class_names == ("person", "vehicle")
    with pytest.raises(InputError, match="folder of recordings"):
        run(tiny, replace(options, data=()))
