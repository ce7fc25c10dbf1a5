"""Frames between and after frames, by the command."""

from __future__ import annotations

import av
import cv2
import numpy as np
import pytest
from multiway_event_vision.formats import write_events
from multiway_event_vision.rendering import write_folder, write_mp4


def read_folder(folder):
    """(pictures, seconds) that `write_folder` wrote."""
    rows = [line.split() for line in (folder / "images.txt").read_text().splitlines()]
    return [cv2.imread(str(folder / name))[..., ::-1] for _, name in rows], [float(t) for t, _ in rows]


def test_twice_the_frames_as_a_video(video, events, model, tmp_path, call):
    output = tmp_path / "out.mp4"
    code, out, err = call(
        "interpolate", video, "--events", events, "--factor", 2, "-o", output, "--model", model
    )
    assert (code, out) == (0, f"{output}\n")
    assert "17 frames of 9, from " in err
    with av.open(str(output)) as container:
        stream = container.streams.video[0]
        assert float(stream.average_rate) == pytest.approx(50)
        assert sum(1 for _ in container.decode(stream)) == 17


def test_pictures_of_a_folder_at_chosen_times(folder, events, model, images, tmp_path, call):
    output = tmp_path / "out"
    code, _, err = call(
        "interpolate",
        folder,
        "--events",
        events,
        "--times",
        "100ms,40ms,0.32s",
        "-o",
        output,
        "--model",
        model,
        "--method",
        "timereplayer",
    )
    assert code == 0, err
    pictures, seconds = read_folder(output)
    assert seconds == [0.04, 0.1, 0.32]
    np.testing.assert_array_equal(pictures[0], images[1])  # at a frame's own time it is that frame
    np.testing.assert_array_equal(pictures[2], images[8])
    blend = np.rint((images[2].astype(float) + images[3]) / 2)
    assert np.abs(pictures[1] - blend).max() <= 1  # the network was never trained


def test_without_an_event_camera(video, model, tmp_path, call):
    code, _, err = call(
        "interpolate",
        video,
        "--simulate",
        "--factor",
        3,
        "--fps",
        25,
        "-o",
        tmp_path / "o.mp4",
        "--model",
        model,
    )
    assert code == 0
    assert "simulated" in err
    assert "0.333 of real speed" in err


def test_methods_and_what_each_needs(folder, events, fusion_model, images, tmp_path, call, fails):
    command = ("interpolate", folder, "--times", "100ms", "--model", fusion_model)
    pictures = {}
    for method in ("auto", "dis", "integration"):
        code, _, err = call(*command, "--events", events, "--method", method, "-o", tmp_path / method)
        assert code == 0, err
        (pictures[method],), _ = read_folder(tmp_path / method)
    assert np.abs(pictures["auto"].astype(int) - pictures["dis"]).max() <= 2  # never trained
    assert (pictures["integration"] != pictures["dis"]).any()
    code, _, err = call(*command, "-o", tmp_path / "blind")
    assert code == 0, err
    assert "no --events: optical flow alone makes the frames (--method dis)" in err
    (blind,), _ = read_folder(tmp_path / "blind")
    np.testing.assert_array_equal(blind, pictures["dis"])
    assert "--method dis is optical flow alone" in fails(
        *command, "--method", "integration", "-o", tmp_path / "none"
    )


@pytest.mark.parametrize(("arguments", "kept"), [((), True), (("--fps", 25), False)])
def test_sound_goes_with_the_frames_at_real_speed(video, tmp_path, call, arguments, kept):
    source = tmp_path / "sound.mp4"
    with av.open(str(source), "w") as out, av.open(str(video)) as given:
        stream = out.add_stream_from_template(given.streams.video[0])
        sound = out.add_stream("aac", rate=16_000, layout="mono")
        for packet in given.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024 * 5), np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 16_000, 0
        out.mux([*sound.encode(frame), *sound.encode(None)])
    code, _, err = call("interpolate", source, "--factor", 2, "-o", tmp_path / "o.mp4", *arguments)
    assert code == 0, err
    assert ("the sound is left out" in err) is not kept
    with av.open(str(tmp_path / "o.mp4")) as container:
        assert bool(container.streams.audio) is kept


def test_what_does_not_move_is_held(images, model, tmp_path, call, found_events):
    still = tmp_path / "still"
    write_folder(still, [(images[0], t) for t in (0, 40_000, 80_000)])
    path = tmp_path / "few.raw"
    write_events(path, found_events[:1])  # one event in all
    output = tmp_path / "out"
    code, _, err = call("interpolate", still, "--events", path, "--factor", 4, "-o", output, "--model", model)
    assert code == 0, err
    pictures, _ = read_folder(output)
    assert len(pictures) == 9
    assert all((picture == images[0]).all() for picture in pictures)


def test_events_of_a_part_of_the_video_are_told(folder, found_events, model, tmp_path, call):
    path = tmp_path / "part.raw"
    write_events(path, found_events.between(100_000, 180_000))
    code, _, err = call(
        "interpolate", folder, "--events", path, "--factor", 2, "-o", tmp_path / "o.mp4", "--model", model
    )
    assert code == 0
    assert "events only from 0.1" in err


def test_coordinates_that_were_multiplied(folder, found_events, model, tmp_path, call, fails):
    path = tmp_path / "scaled.npz"
    columns = {"t": found_events.t, "x": found_events.x * 32, "y": found_events.y * 32, "p": found_events.p}
    np.savez(path, **columns)
    command = ("interpolate", folder, "--events", path, "--factor", 2, "--model", model)
    assert "multiplied by 32" in fails(*command, "-o", tmp_path / "a.mp4")
    code, _, err = call(*command, "--event-scale", 32, "-o", tmp_path / "b.mp4")
    assert code == 0, err
    assert f"from {len(found_events.between(0, 320_000)):,} events" in err


def test_the_clock_of_the_events_may_be_another(folder, found_events, model, tmp_path, call, fails):
    path = tmp_path / "late.npz"
    later = found_events.t + 5_000_000
    np.savez(path, t=later, x=found_events.x, y=found_events.y, p=found_events.p)
    command = (
        "interpolate",
        folder,
        "--events",
        path,
        "--factor",
        2,
        "--model",
        model,
        "-o",
        tmp_path / "o.mp4",
    )
    assert "no event while the frames last (0 s to 0.32 s): the events are of 5" in fails(*command)
    assert not (tmp_path / "o.mp4").exists()
    assert call(*command, "--event-offset=-5s")[0] == 0


def test_after_the_last_frame(folder, events, model, images, tmp_path, call):
    output = tmp_path / "out"
    code, _, err = call(
        "extrapolate", folder, "--events", events, "--from", "80ms", "--duration", "100ms", "--every", "20ms",
        "-o", output, "--model", model,
    )  # fmt: skip
    assert code == 0, err
    pictures, seconds = read_folder(output)
    assert seconds == [0.08, 0.1, 0.12, 0.14, 0.16, 0.18]
    assert all((picture == images[2]).all() for picture in pictures)  # never trained: it holds


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--duration", "100ms"), "no events in the 100000 us after the frame of 320000 us"),
        (("--duration", "100ms", "--from", "2s"), "the video ends at 0.32 s"),
        (("--duration", "1ms"), "expected a longer duration"),
        (("--duration", "soon"), "expected a time such as"),
    ],
)
def test_after_the_last_frame_bad_input(folder, events, model, tmp_path, fails, arguments, said):
    line = fails(
        "extrapolate", folder, "--events", events, *arguments, "-o", tmp_path / "o", "--model", model
    )
    assert said in line


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--factor", "2", "--method", "timereplayer"), "--method dis is optical flow alone"),
        (("--simulate",), "give --factor or --times"),
        (("--simulate", "--factor", "1"), "--factor 1: expected 2 to 1000"),
        (("--simulate", "--factor", "2", "--times", "1ms"), "give --factor or --times"),
        (("--simulate", "--times", "1s"), "a frame at 1 s: the video starts at 0 s and ends at 0.32 s"),
        (("--simulate", "--times", "never"), "--times never: expected a time"),
        (("--simulate", "--factor", "2", "--width", "4"), "frames 4 pixels wide"),
        (("--simulate", "--factor", "2", "--input-fps", "0"), "0 frames a second"),
        (("--simulate", "--factor", "2", "--model", "bundled:nothing"), "no bundled model 'nothing'"),
        (("--events", "nothing.raw", "--factor", "2"), "cannot read nothing.raw"),
    ],
)
def test_bad_input(folder, model, tmp_path, fails, arguments, said):
    if "--model" not in arguments:
        arguments = (*arguments, "--model", model)
    assert said in fails("interpolate", folder, *arguments, "-o", tmp_path / "o.mp4")
    assert not (tmp_path / "o.mp4").exists()


def test_frames_that_cannot_be(events, images, model, tmp_path, fails):
    rest = ("--events", events, "--factor", 2, "-o", tmp_path / "o.mp4", "--model", model)
    assert "no such file" in fails("interpolate", tmp_path / "none.mp4", *rest)
    empty = tmp_path / "empty.mp4"
    empty.write_bytes(b"")
    assert "cannot be read as a video" in fails("interpolate", empty, *rest)
    noise = tmp_path / "noise.mp4"
    noise.write_bytes(bytes(range(256)) * 20)
    assert "cannot be read as a video" in fails("interpolate", noise, *rest)
    one = tmp_path / "one.mp4"
    write_mp4(one, images[:1], frames_per_second=25)
    assert "1 frame in the video; expected 2 or more" in fails("interpolate", one, *rest)
    (tmp_path / "bare").mkdir()
    assert "no pictures in it" in fails("interpolate", tmp_path / "bare", *rest, "--input-fps", 25)
    odd = tmp_path / "odd"
    odd.mkdir()
    for name, picture in (("a.png", images[0]), ("b.png", images[1][:40])):
        cv2.imwrite(str(odd / name), picture)
    assert "64 x 40 pixels" in fails("interpolate", odd, *rest, "--input-fps", 25)


def test_a_sensor_that_saw_something_else(folder, found_events, model, tmp_path, fails):
    path = tmp_path / "other.raw"
    write_events(path, type(found_events).from_arrays([1, 2], [90, 3], [1, 2], [0, 1], 100, 60))
    line = fails(
        "interpolate", folder, "--events", path, "--factor", 2, "-o", tmp_path / "o.mp4", "--model", model
    )
    assert "events of a sensor of 100 x 60 pixels for frames of 64 x 48" in line


def test_no_output_that_would_destroy_something(video, events, model, tmp_path, fails):
    rest = ("--events", events, "--factor", 2, "--model", model)
    assert "would replace the input" in fails("interpolate", video, *rest, "-o", video)
    assert "expected a name in .mp4, or a folder" in fails(
        "interpolate", video, *rest, "-o", tmp_path / "o.avi"
    )
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    assert "not empty" in fails("interpolate", video, *rest, "-o", tmp_path / "full")


def test_what_is_there_is_replaced_only_if_told(video, events, model, tmp_path, call, fails):
    output = tmp_path / "kept.mp4"
    output.write_bytes(b"precious")
    command = ("interpolate", video, "--events", events, "--factor", 2, "--model", model, "-o", output)
    assert "exists; give another name, or --overwrite" in fails(*command)
    assert output.read_bytes() == b"precious"
    assert call(*command, "--overwrite")[0] == 0
    with av.open(str(output)) as container:
        assert container.streams.video[0].frames == 17
