"""The detection pipeline: read-outs over time are what the engines see, whatever the chunks and the engine."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from multiway_core.errors import InputError, ModelNotFoundError
from multiway_event_vision.events import Events
from multiway_event_vision.pipeline import DetectionOptions, DetectionPipeline, read_out
from multiway_event_vision.result import SCHEMA
from multiway_event_vision.ssla_det import checkpoint
from multiway_event_vision.ssla_det.config import SslaDetConfig
from multiway_event_vision.ssla_det.cost import cost_of
from multiway_event_vision.ssla_det.detections import DetectionConfig, detect
from multiway_event_vision.ssla_det.engines.event import EventEngine
from multiway_event_vision.ssla_det.model import build

from .event_streams import made_events

CONFIG = SslaDetConfig((4, 6, 8), num_classes=2, class_names=("car", "pedestrian"))


def eager_model(config: SslaDetConfig = CONFIG):
    """Random weights that see objects everywhere."""
    model = build(config, seed=3)
    with torch.no_grad():
        model.head.objectness.bias.fill_(3.0)
        model.head.classes.bias.zero_()
    return model


class Chunked:
    """Events as a stream of chunks of a given size."""

    def __init__(self, events: Events, size: int = 1 << 18) -> None:
        self.events, self.size = events, size
        self.width, self.height = events.width, events.height

    def chunks(self, chunk_events: int = 0):
        for low in range(0, len(self.events), self.size):
            yield self.events[low : low + self.size]


@pytest.fixture(scope="module")
def pipeline():
    return DetectionPipeline(eager_model(), "eager")


@pytest.fixture(scope="module")
def events():
    return made_events(1500, width=37, height=26, span=60_000, start=1_234_567, seed=4)


def same(one, other) -> None:
    assert [read.t for read in one] == [read.t for read in other]
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a.class_M, b.class_M)
        np.testing.assert_allclose(a.boxes_M4, b.boxes_M4, atol=1e-3)
        np.testing.assert_allclose(a.score_M, b.score_M, atol=1e-5)
        np.testing.assert_array_equal(a.age_M, b.age_M)


def test_read_outs_are_what_the_engine_sees(pipeline, events):
    predictions = list(pipeline.detect(Chunked(events), DetectionOptions(period=20_000, score=0.4)))
    assert [read.t for read in predictions] == [1_240_000, 1_260_000, 1_280_000, 1_300_000]
    engine = EventEngine(pipeline.model, 26, 37)
    start = 0
    for read in predictions:
        engine.push_events(events.between(start, read.t))
        found = detect(engine, DetectionConfig(0.4))
        start = read.t
        inside = found.boxes_M4.numpy().clip(0, [37, 26, 37, 26])
        kept = (inside[:, 2:] > inside[:, :2]).all(axis=1)
        np.testing.assert_allclose(read.boxes_M4, inside[kept], atol=1e-4)
        np.testing.assert_array_equal(read.age_M, read.t - found.time_M.numpy()[kept])
        assert len(read) > 3
        assert read.age_M.min() >= 0
    assert sum(len(read.events) for read in predictions) == len(events)


@pytest.mark.parametrize(
    ("engine", "policy"),
    [("micro-batch", "continuous"), ("micro-batch", "sliding"), ("window", "window"), ("window", "sliding")],
)
def test_engines_and_chunks_agree(pipeline, events, engine, policy):
    options = DetectionOptions(period=15_000, score=0.4, policy=policy, horizon=40_000)
    expected = list(pipeline.detect(Chunked(events), options))
    same(list(pipeline.detect(Chunked(events, 7), replace(options, engine=engine))), expected)


@pytest.mark.parametrize(
    ("policy", "remembered"),
    [("continuous", [10, 20, 30, 40]), ("window", [10, 20, 10, 20]), ("sliding", [10, 20, 20, 20])],
)
def test_policies_remember_what_they_say(pipeline, policy, remembered):
    """Read every 10 ms, windows of 20 ms: a read-out at a window's end still sees all of it."""
    events = made_events(1500, width=37, height=26, span=40_000, start=200_000, seed=4)
    options = DetectionOptions(period=10_000, score=0.4, policy=policy, horizon=20_000)
    run = pipeline.detect(events, options)
    predictions = list(run)
    for read, milliseconds in zip(predictions, remembered, strict=True):
        alone = events.between(read.t - 1000 * milliseconds, read.t)
        engine = EventEngine(pipeline.model, 26, 37)
        engine.push_events(alone)
        found = detect(engine, DetectionConfig(0.4))
        np.testing.assert_allclose(read.score_M, read_out(read.t, alone, found).score_M, atol=1e-5)
    engines = 2 if policy == "sliding" else 1
    assert run.policy.work.updated.sum() == engines * len(events)
    assert run.counters().cost.events == len(events)
    if policy == "sliding":
        assert run.counters().cost.mean > 1.5 * cost_of(CONFIG, run.policy.work).mean


def test_auto_remembers_as_the_config_says(pipeline, events):
    config = pipeline.model.config
    assert DetectionOptions().suited_to(config).policy == "continuous"
    sliding = DetectionOptions(policy="sliding", horizon=40_000)
    assert DetectionOptions().suited_to(replace(config, memory_us=40_000)) == sliding
    assert DetectionOptions(policy="window").suited_to(replace(config, memory_us=40_000)).policy == "window"
    assert pipeline.detect(events).head("a")["policy"] == "continuous"
    with pytest.raises(ValueError, match="memory_us"):
        replace(config, memory_us=-1)


def test_silence_is_forgotten_by_windows(pipeline):
    early = made_events(300, width=37, height=26, span=9_000, seed=1)
    late = Events.from_arrays([95_000], [3], [3], [1], 37, 26)
    both = Events(
        *(np.concatenate([getattr(early, c), getattr(late, c)]) for c in "txyp"), width=37, height=26
    )
    options = DetectionOptions(period=10_000, score=0.4, policy="window", horizon=20_000)
    counts = [len(read) for read in pipeline.detect(both, options)]
    assert counts[0] == counts[1] > 1
    assert counts[2:9] == [0] * 7
    assert counts[9] <= 1


def test_what_is_read_does_not_depend_on_how_often(pipeline, events):
    rare = list(pipeline.detect(Chunked(events), DetectionOptions(period=20_000, score=0.4)))
    often = list(pipeline.detect(Chunked(events), DetectionOptions(period=4_000, score=0.4)))
    times = {1_240_000, 1_260_000, 1_280_000}
    same([read for read in rare if read.t in times], [read for read in often if read.t in times])


def test_silence_is_read_too_and_ages(pipeline):
    events = made_events(300, width=37, height=26, span=900, seed=1)
    late = Events.from_arrays([95_000], [3], [3], [1], 37, 26)
    both = Events(
        *(np.concatenate([getattr(events, c), getattr(late, c)]) for c in "txyp"), width=37, height=26
    )
    predictions = list(pipeline.detect(Chunked(both), DetectionOptions(period=10_000, score=0.4)))
    assert [read.t for read in predictions] == [10_000 * n for n in range(1, 11)]
    np.testing.assert_array_equal(predictions[3].boxes_M4, predictions[0].boxes_M4)
    np.testing.assert_array_equal(predictions[3].age_M, predictions[0].age_M + 30_000)
    assert len(predictions[3].events) == 0


def test_counters(pipeline, events):
    run = pipeline.detect(Chunked(events), DetectionOptions(period=10_000, score=0.4))
    assert run.counters().to_json()["us_per_event"] is None
    seen, ages = 0, []
    for number, read in enumerate(run, 1):
        seen += len(read.events)
        ages += read.age_M.tolist()
        counters = run.counters()
        assert (counters.events, counters.predictions) == (seen, number)
        assert counters.newest_age_us == read.age_M.min()
    assert counters.boxes == len(ages)
    assert counters.mean_age_us == pytest.approx(np.mean(ages))
    assert counters.duration_us == read.t - events.t[0]
    assert counters.cost == cost_of(CONFIG, run.policy.work)
    assert counters.cost.events == len(events)
    json = counters.to_json()
    assert json["mflop_per_event"]["mean"] == pytest.approx(counters.cost.mean / 1e6, abs=1e-6)
    assert json["us_per_event"] > 0


def test_json_of_the_whole_result(pipeline, events):
    result = pipeline(Chunked(events), DetectionOptions(period=30_000, score=0.4), source="a.raw")
    json = result.to_json()
    assert json["schema"] == SCHEMA
    assert (json["source"], json["model"], json["width"], json["height"]) == ("a.raw", "eager", 37, 26)
    assert (json["period_us"], json["engine"], json["policy"]) == (30_000, "event", "continuous")
    assert [read["t_us"] for read in json["predictions"]] == [read.t for read in result.predictions]
    box = json["predictions"][0]["boxes"][0]
    assert set(box) == {"xyxy", "label", "class_id", "score", "age_us"}
    assert box["label"] == ("car", "pedestrian")[box["class_id"]]
    boxes = result.predictions[0].to_boxes()
    np.testing.assert_allclose(boxes.x + boxes.width, result.predictions[0].boxes_M4[:, 2], rtol=1e-6)
    np.testing.assert_array_equal(boxes.confidence, result.predictions[0].score_M)


def test_no_events_no_read_outs(pipeline):
    run = pipeline.detect(Chunked(Events.empty(37, 26)))
    assert list(run) == []
    assert run.counters().events == 0
    assert run.counters().to_json()["mflop_per_event"]["mean"] is None


def test_times_that_cannot_be_right(pipeline):
    events = Events.from_arrays([0, 10**15], [1, 2], [1, 2], [0, 1], 37, 26)
    with pytest.raises(InputError, match="1000000000000000 us would come after 50,000,000 read-outs"):
        list(pipeline.detect(Chunked(events)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "magic"}, "the engine 'magic'; expected one of event, micro-batch, window"),
        ({"period": 0}, "every 0 us"),
        ({"policy": "never"}, "the policy 'never'; expected one of auto, continuous, window, sliding"),
        ({"engine": "window"}, "needs the policy window or sliding"),
        ({"score": 1.5}, "a score of 1.5"),
        ({"score": float("nan")}, "a score of nan"),
        ({"max_detections": 0}, "at most 0 boxes"),
    ],
)
def test_options_that_cannot_be(options, message):
    with pytest.raises(InputError, match=message):
        DetectionOptions(**options)


def test_a_model_folder_and_a_released_checkpoint(pipeline, events, tmp_path):
    checkpoint.save(pipeline.model, tmp_path / "folder")
    options = DetectionOptions(period=30_000, score=0.4)
    expected = list(pipeline.detect(Chunked(events), options))
    loaded = DetectionPipeline.from_pretrained(str(tmp_path / "folder"))
    assert (loaded.names, loaded.note) == (("car", "pedestrian"), None)
    same(list(loaded.detect(Chunked(events), options)), expected)

    checkpoint.save_published(pipeline.model, tmp_path / "best.ckpt", sensor=(26, 37))
    released = DetectionPipeline.from_pretrained(str(tmp_path / "best.ckpt"))
    assert released.names == ("car", "pedestrian")
    assert "an approximation" in released.note
    same(list(released.detect(Chunked(events), options)), expected)


def test_no_such_model():
    with pytest.raises(ModelNotFoundError, match="no bundled model 'nothing'"):
        DetectionPipeline.from_pretrained("bundled:nothing")
