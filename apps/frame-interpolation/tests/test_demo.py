"""What the demo's page asks for, without a browser."""

from __future__ import annotations

import numpy as np
import pytest
from multiway_core.app import ModelOptions
from multiway_core.errors import DataError, InputError
from multiway_frame_interpolation.demo.session import (
    FUSION,
    METHODS,
    OURS,
    TRUTH,
    DemoSession,
    GapRequest,
    flow_picture,
)


@pytest.fixture
def session(model):
    return DemoSession(ModelOptions(str(model), "cpu"))


def test_a_frame_left_out_is_made_by_all(session, video, images):
    assert session.gaps(str(video), 3) == 2
    shown = session.show(GapRequest(str(video), skipped=3, number=1, position=0.5))
    assert set(shown.frames) == {OURS, TRUTH, *METHODS}
    assert set(shown.psnr) == {OURS, *METHODS}
    assert np.abs(shown.frames[TRUTH].astype(int) - images[6]).mean() < 6  # the video's compression
    assert shown.psnr["TimeReplayer"] == pytest.approx(shown.psnr["blend"], abs=0.1)  # never trained
    assert shown.psnr["optical flow"] > shown.psnr["blend"]
    assert shown.psnr[OURS] > shown.psnr["blend"] + 3
    assert "made of " in shown.summary
    assert "simulated" in shown.summary
    assert shown.events.shape == shown.sources.shape == images[0].shape


def test_a_fused_frame_is_shown_with_its_sources(fusion_model, video):
    shown = DemoSession(ModelOptions(str(fusion_model), "cpu")).show(
        GapRequest(str(video), skipped=3, number=0, position=0.5)
    )
    assert np.abs(shown.frames[FUSION].astype(int) - shown.frames["optical flow"]).max() <= 2  # never trained
    assert shown.sources[..., 0].min() > 250  # all of it is optical flow's
    assert shown.sources[..., 1:].max() < 5


def test_true_events_need_no_frames_left_out(session, video, events):
    shown = session.show(GapRequest(str(video), str(events), skipped=0, number=2, position=0.25))
    assert TRUTH not in shown.frames
    assert not shown.psnr
    assert shown.summary.startswith("10.0 of 40.0 ms")


def test_drawn_shapes_and_their_slow_motion(session):
    assert session.gaps(None, 7) == 3
    path = session.slow_motion(GapRequest(skipped=7, number=2), factor=2)
    assert path.stat().st_size > 500


def test_what_cannot_be_shown(session, video, tmp_path):
    with pytest.raises(InputError, match="cannot leave out 30"):
        session.gaps(str(video), 30)
    with pytest.raises(InputError, match="no events of its own"):
        session.show(GapRequest(str(video), skipped=0))
    with pytest.raises(InputError, match="gap 5 of 2"):
        session.show(GapRequest(str(video), skipped=3, number=4))
    with pytest.raises(DataError, match="no such file"):
        session.gaps(str(tmp_path / "none.mp4"), 3)


def test_flow_has_the_colour_of_its_direction():
    flow = np.zeros((4, 4, 2), np.float32)
    assert (flow_picture(flow) == 255).all()
    flow[..., 0] = 5
    right = flow_picture(flow)
    assert (right[0, 0] == (255, 0, 0)).all()
    assert (flow_picture(-flow)[0, 0] == (0, 255, 255)).all()


def test_the_page_is_built(model):
    from multiway_frame_interpolation.demo import build_demo

    blocks = build_demo(str(model), device="cpu")
    labels = {component.label for component in blocks.blocks.values() if getattr(component, "label", None)}
    assert {"Frames left out", "Time in the gap", "Left of the line"} <= labels
