"""Videos, pictures and folders of pictures."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from multiway_event_vision.rendering import EventCount, PolarityFrame, TimeSurface, VoxelSlice


def picture(path):
    return cv2.imread(str(path))[..., ::-1]


@pytest.mark.parametrize(
    ("view", "options"),
    [
        (PolarityFrame(40, 30), ()),
        (EventCount(40, 30), ("--view", "count")),
        (TimeSurface(40, 30, decay=5000), ("--view", "surface", "--decay", "5ms")),
        (VoxelSlice(40, 30, bin=1), ("--view", "voxel", "--bin", "1")),
    ],
)
def test_a_picture_is_the_view_of_its_window(view, options, recording, events, tmp_path, call):
    out = tmp_path / "a.png"
    call_ = ("render", recording, "-o", out, "--window", "20ms", "--start", "0.05s", "--scale", "3")
    code, printed, err = call(*call_, *options)
    assert (code, printed) == (0, f"{out}\n")
    assert "1 picture of 20,000 us" in err
    view.begin(51_000, 20_000)
    view.add(events.between(51_000, 71_000))
    np.testing.assert_array_equal(picture(out), view.picture().repeat(3, 0).repeat(3, 1))


def test_a_video(recording, tmp_path, call):
    out = tmp_path / "a.mp4"
    code, _, err = call("render", recording, "-o", out, "--fps", "50", "--window", "10ms")
    assert code == 0
    assert "20 pictures of 10,000 us, at 0.5 of real speed" in err
    capture = cv2.VideoCapture(str(out))
    assert (capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)) == (50, 20)
    assert (capture.get(cv2.CAP_PROP_FRAME_WIDTH), capture.get(cv2.CAP_PROP_FRAME_HEIGHT)) == (40, 30)
    capture.release()
    assert (
        "7 pictures of 33,333 us, at 1 of real speed"
        in call("render", recording, "-o", out, "--overwrite")[2]
    )
    assert "exists; give another name, or --overwrite" in call("render", recording, "-o", out)[2]


def test_a_folder_that_the_simulator_reads(recording, tmp_path, call, fails):
    from multiway_event_vision.simulator import ImageFolder

    out = tmp_path / "pictures"
    code, _, _ = call("render", recording, "-o", out, "--window", "50ms", "--end", "120ms")
    assert code == 0
    assert [t for _, t in ImageFolder(out).frames()] == [1000, 51_000, 101_000]
    assert sorted(path.name for path in out.iterdir()) == [
        "000000.png",
        "000001.png",
        "000002.png",
        "images.txt",
    ]
    assert "it is not empty" in fails("render", recording, "-o", out)
    assert len(list(out.iterdir())) == 4
    assert call("render", recording, "-o", out, "--window", "100ms", "--overwrite")[0] == 0
    assert len(list(out.iterdir())) == 3


def test_render_says_what_is_wrong_and_leaves_nothing(recording, tmp_path, fails):
    cut = tmp_path / "cut.csv"
    cut.write_text("t,x,y,p\n1,7,2,1\n50000,3,4,0\n3,3")
    before = sorted(tmp_path.iterdir())
    for arguments, message in [
        ((tmp_path / "none.raw", "-o", tmp_path / "a.mp4"), "no such file"),
        ((cut, "-o", tmp_path / "a.mp4", "--size", "9x9"), "cut.csv"),
        ((cut, "-o", tmp_path / "a", "--size", "9x9"), "cut.csv"),
        ((recording, "-o", tmp_path / "a.avi"), "expected a name in .mp4 or .png, or a folder"),
        ((recording, "-o", tmp_path / "a.mp4", "--fps", "0"), "--fps 0: expected"),
        ((recording, "-o", tmp_path / "a.mp4", "--fps", "nan"), "--fps nan: expected"),
        ((recording, "-o", tmp_path / "a.mp4", "--fps", "9999", "--window", "1ms"), "9999 frames a second"),
        ((recording, "-o", tmp_path / "a.mp4", "--window", "0"), "a window of 0 us"),
        ((recording, "-o", tmp_path / "a.mp4", "--window", "5 parsec"), "expected a time such as 10ms"),
        ((recording, "-o", tmp_path / "a.mp4", "--window", "999999999999999min"), "too long"),
        ((recording, "-o", tmp_path / "a.mp4", "--start", "1s"), "no events at 1000000 us"),
        ((recording, "-o", tmp_path / "a.mp4", "--end", "0"), "expected 0 <= start < end"),
        ((recording, "-o", tmp_path / "a.mp4", "--scale", "17"), "--scale 17: expected 1 to 16"),
        ((recording, "-o", tmp_path / "a.png", "--decay", "1ms"), "--decay is of --view surface"),
        ((recording, "-o", tmp_path / "a.png", "--bin", "1"), "--bin is of --view voxel"),
        ((recording, "-o", tmp_path / "a.png", "--bin", "5", "--view", "voxel"), "expected 0 to 4"),
        ((recording, "-o", tmp_path / "a.png", "--view", "3d"), "'3d'"),
        ((recording, "-o", cut / "a.png"), "cannot write"),
    ]:
        assert message in fails("render", *arguments), arguments
        assert sorted(tmp_path.iterdir()) == before
