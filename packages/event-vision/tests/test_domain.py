"""Which detector an input gets, or none."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from multiway_core import hub
from multiway_core.errors import ConfigError, InputError
from multiway_event_vision import domain
from multiway_event_vision.events import Events
from multiway_event_vision.pipeline import BUNDLED_MODELS, DetectionPipeline, DetectorChoice
from multiway_event_vision.ssla_det.shapes_set import shapes_set


def noise(rate: float, width: int = 96, height: int = 80, seconds: float = 1.0, seed: int = 0) -> Events:
    """Events anywhere, `rate` a pixel and second."""
    generator = np.random.default_rng(seed)
    count = round(rate * width * height * seconds)
    return Events.from_arrays(
        np.sort(generator.integers(0, round(seconds * 1e6), count)),
        generator.integers(width, size=count),
        generator.integers(height, size=count),
        generator.integers(2, size=count),
        width,
        height,
    )


def values(events: Events) -> dict[str, float]:
    found = domain.beginning(events)
    assert found is not None
    return dict(zip(domain.FEATURES, found.tolist(), strict=True))


def test_statistics_of_noise_are_those_of_noise():
    found = values(noise(4.0))
    assert np.exp(found["rate"]) == pytest.approx(4, rel=0.05)
    assert found["on"] == pytest.approx(0.5, abs=0.02)
    assert found["active"] > np.log(0.95)
    assert found["steady"] > 0.9
    assert found["coherent"] < 0.3
    assert found["ego"] == pytest.approx(found["steady"] * (1 - found["coherent"]))
    sparse = values(noise(0.05))
    assert np.exp(sparse["isolated"]) > 0.9
    assert sparse["steady"] == 0
    assert all(np.isfinite(list(sparse.values())))


def test_one_thing_that_moves_is_coherent_and_in_one_place():
    # A bar of events of one polarity that goes right by a pixel every 5 ms.
    t = np.repeat(np.arange(200) * 5_000, 30)
    events = Events.from_arrays(
        t, 20 + t // 5_000 % 60, np.tile(np.arange(20, 50), 200), np.ones(len(t), int), 96, 80
    )
    found = values(events)
    assert found["on"] == 1
    assert found["polarity"] == 1
    assert found["coherent"] > 0.8
    assert found["spread"] < 0.5


def test_a_short_stream_is_not_judged_and_the_first_lively_second_is():
    assert domain.beginning(noise(4.0, seconds=0.15)) is None
    quiet, lively = noise(0.01, seconds=2.0), noise(4.0, seed=1)
    both = Events.from_arrays(
        *(
            np.concatenate((getattr(quiet, c), getattr(lively, c) + (2_000_000 if c == "t" else 0)))
            for c in "txyp"
        ),
        96,
        80,
    )
    assert np.exp(values(both)["rate"]) > 3


def test_a_domain_holds_its_own_and_nothing_else_and_survives_a_file(tmp_path):
    known = domain.fit((scene.events for scene in shapes_set("train", 24)), "moving shapes")
    known.save(tmp_path)
    assert domain.load(tmp_path) == known
    assert domain.load(tmp_path / "none") is None
    own = [domain.beginning(scene.events) for scene in shapes_set("train", 24)]
    assert sum(known.outside(found, 80, 80) is None for found in own) >= 23
    found = domain.beginning(noise(8.0, 80, 80))
    assert known.distance(found) > 1
    assert "trained on" in known.outside(found, 80, 80)
    assert "a sensor of 640 x 480 pixels" in known.outside(own[0], 640, 480)
    text = json.loads((tmp_path / domain.DOMAIN_FILE).read_text())
    (tmp_path / domain.DOMAIN_FILE).write_text(json.dumps(text | {"limit": "far"}))
    with pytest.raises(ConfigError, match="limit"):
        domain.load(tmp_path)
    with pytest.raises(InputError, match="seconds of recordings"):
        domain.fit([noise(0.001)], "nothing")


def test_shapes_get_their_detector_and_noise_gets_none():
    choice = DetectorChoice.from_pretrained()
    assert [pipeline.name for pipeline in choice.candidates] == list(BUNDLED_MODELS)
    pipeline, about = choice.suited(shapes_set("test", 1)[0].events)
    assert pipeline.name == about.split(",")[0] == "bundled:ssla-shapes"
    with pytest.raises(
        InputError, match=r"no bundled detector was trained on its like: not .*; not .*--model"
    ):
        choice.suited(noise(20.0, 304, 200), "sparks.raw")
    with pytest.raises(InputError, match="too short to tell"):
        choice.suited(noise(4.0, seconds=0.1))
    assert choice.suited(Events.empty(96, 80))[1] is None  # nothing to be wrong about


def test_a_detector_that_is_asked_for_is_used_with_a_warning():
    choice = DetectorChoice.from_pretrained(BUNDLED_MODELS[1])
    pipeline, about = choice.suited(noise(20.0, 304, 200), "sparks.raw")
    assert pipeline.name == BUNDLED_MODELS[1]
    assert "sparks.raw is unlike" in about
    assert "not to be trusted" in about


def test_a_detector_without_a_domain_is_never_judged():
    alone = DetectionPipeline.from_pretrained(BUNDLED_MODELS[0])
    alone.domain = None
    assert DetectorChoice([alone], is_given=True).suited(noise(20.0)) == (alone, None)


def test_bundled_domains_tell_what_they_are_of():
    for name in BUNDLED_MODELS:
        known = domain.load(hub.resolve(name))
        assert known is not None
        assert len(known.mean) == len(known.lowest) == len(known.precision) == len(domain.FEATURES)
        assert replace(known, limit=2 * known.limit).distance(np.array(known.lowest)) == pytest.approx(
            known.distance(np.array(known.lowest)) / 2
        )
