"""A small recording, where the real ones are, and a way to call the command inside this process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

SAMPLES = Path(__file__).parents[4] / "shared" / "data" / "events"


@pytest.fixture
def samples():
    """The folder of real recordings; skips without them."""
    if not SAMPLES.is_dir():
        pytest.skip("needs ../shared/data")
    return SAMPLES


@pytest.fixture
def events():
    """2,000 random events of a sensor of 40 x 30 pixels within 0.2 seconds."""
    from multiway_event_vision.events import Events

    generator = np.random.default_rng(0)
    t = np.sort(generator.integers(1000, 201_000, 2000))
    t[0], t[-1] = 1000, 200_999
    columns = (generator.integers(0, bound, 2000) for bound in (40, 30, 2))
    return Events.from_arrays(t, *columns, 40, 30)


@pytest.fixture
def recording(events, tmp_path):
    """`events` as a file."""
    from multiway_event_vision.formats import write_events

    path = tmp_path / "recording.raw"
    write_events(path, events)
    return path


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """The folder of a small model with random weights that sees objects everywhere."""
    import torch
    from multiway_event_vision.ssla_det import checkpoint
    from multiway_event_vision.ssla_det.config import SslaDetConfig
    from multiway_event_vision.ssla_det.model import build

    names = ("disc", "square", "triangle", "cross")
    network = build(SslaDetConfig((4, 6, 8), num_classes=4, class_names=names), seed=3)
    with torch.no_grad():
        network.head.objectness.bias.fill_(3.0)
        network.head.classes.bias.zero_()
    folder = tmp_path_factory.mktemp("models") / "eager"
    checkpoint.save(network, folder)
    return folder


@pytest.fixture
def call(call_app):
    """Run ``multiway-event-detection`` in this process: exit code, standard output, standard error."""
    from multiway_event_detection.cli import cli

    return call_app(cli, "multiway-event-detection")


@pytest.fixture
def fails(call):
    """Call a command that must fail with one line on standard error and code 2; the line."""

    def run_command(*arguments) -> str:
        code, out, err = call(*arguments)
        assert (code, out) == (2, "")
        assert len(err.splitlines()) == 1
        return err

    return run_command
