"""Boxes over time: every output holds what the pipeline found; bad input is one line and leaves nothing."""

from __future__ import annotations

import json
import threading

import cv2
import numpy as np
import pytest
from multiway_event_vision.events import Events
from multiway_event_vision.formats import open_events, write_events
from multiway_event_vision.labels import read_prophesee_boxes
from multiway_event_vision.pipeline import DetectionOptions, DetectionPipeline
from multiway_event_vision.ssla_det import checkpoint

THRESHOLD = "0.5"


@pytest.fixture(scope="module")
def pipeline(model):
    return DetectionPipeline.from_pretrained(str(model))


@pytest.fixture
def expected(pipeline, recording):
    options = DetectionOptions(period=50_000, score=float(THRESHOLD))
    return pipeline(open_events(recording), options, source=str(recording))


@pytest.fixture
def detect(call, recording, model):
    """`detect` on the recording, read every 50 ms."""

    def run_command(*options):
        base = ("detect", recording, "--model", model, "--period", "50ms", "--score", THRESHOLD)
        return call(*base, *options)

    return run_command


def without_times(document: dict) -> dict:
    counters = {k: v for k, v in document["counters"].items() if "second" not in k and k != "us_per_event"}
    return document | {"counters": counters, "model": ""}


def test_json_is_the_pipelines_result(detect, expected, tmp_path):
    code, out, err = detect("--json")
    assert (code, err) == (0, "")
    assert without_times(json.loads(out)) == without_times(expected.to_json())
    file = tmp_path / "new" / "a.json"
    assert detect("--json", "-o", file)[:2] == (0, f"{file}\n")
    assert without_times(json.loads(file.read_text())) == without_times(json.loads(out))


def test_json_lines_are_the_same(detect, expected):
    code, out, _ = detect("--jsonl")
    assert code == 0
    head, *predictions, counters = map(json.loads, out.splitlines())
    assert head["schema"] == "multiway.event-detection/2"
    assert without_times(head | {"predictions": predictions} | counters) == without_times(expected.to_json())


@pytest.mark.parametrize("engine", ["micro-batch", "window"])
def test_engines_agree(detect, engine):
    runs = [detect("--json", "--engine", name, "--policy", "sliding") for name in ("event", engine)]
    found = [json.loads(out) for _, out, _ in runs]
    assert found[1]["policy"] == "sliding"
    for one, other in zip(*(document["predictions"] for document in found), strict=True):
        assert [box["label"] for box in one["boxes"]] == [box["label"] for box in other["boxes"]]
        sides = [np.array([box["xyxy"] for box in read["boxes"]]) for read in (one, other)]
        np.testing.assert_allclose(*sides, atol=0.011)


def test_npy_is_a_label_file(detect, expected, tmp_path):
    file = tmp_path / "a_bbox.npy"
    assert detect("--npy", file)[0] == 0
    assert np.load(file).dtype.names == ("t", "x", "y", "w", "h", "class_id", "track_id", "class_confidence")
    boxes = read_prophesee_boxes(file)
    for name in ("t", "x", "width", "class_id", "confidence"):
        parts = [getattr(read.to_boxes(), name) for read in expected.predictions]
        np.testing.assert_array_equal(getattr(boxes, name), np.concatenate(parts))
    assert set(boxes.t) == {50_000, 100_000, 150_000, 200_000, 250_000} & set(boxes.t)
    assert (boxes.x + boxes.width).max() <= 40


def test_the_table_says_what_was_found(detect, expected):
    code, out, err = detect()
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].split()[:2] == ["0.050000", "s"]
    best = expected.predictions[0]
    assert f"{expected.names[best.class_M[0]]} {best.score_M[0]:.2f} (" in lines[0]
    total = sum(len(read) for read in expected.predictions)
    assert any(line.startswith(f"5 read-outs, {total:,} boxes: ") for line in lines)
    assert "2,000 events: " in out
    assert "MFLOP an event" in out


def test_a_long_table_is_thinned(detect):
    lines = detect("--period", "1ms")[1].splitlines()
    assert "(one read-out in 16 of 200; --json has all)" in lines
    assert len(lines) < 25


def test_a_video(detect, tmp_path):
    file = tmp_path / "a.mp4"
    code, out, err = detect("--mp4", file, "--scale", "4", "--fps", "20", "--view", "surface")
    assert code == 0
    assert "5 pictures, each with 50,000 us of events, at 1 of real speed" in err
    assert "5 read-outs" in out
    capture = cv2.VideoCapture(str(file))
    sizes = [capture.get(n) for n in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)]
    assert sizes == [160, 120]
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 5
    capture.release()


def test_all_outputs_of_one_run(detect, expected, tmp_path):
    files = [tmp_path / name for name in ("a.json", "a_bbox.npy", "a.mp4")]
    options = ("--json", "-o", files[0], "--npy", files[1], "--mp4", files[2])
    code, out, err = detect(*options)
    assert (code, out) == (0, f"{files[0]}\n")
    assert "5 pictures, each with 50,000 us of events" in err
    assert without_times(json.loads(files[0].read_text())) == without_times(expected.to_json())
    assert len(read_prophesee_boxes(files[1])) == sum(len(read) for read in expected.predictions)
    capture = cv2.VideoCapture(str(files[2]))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 5
    capture.release()
    kept = files[1].read_bytes()
    code, out, err = detect(*options)
    assert (code, out) == (2, "")
    assert "a.json exists; give another name, or --overwrite" in err
    assert detect(*options, "--overwrite", "--score", "1")[0] == 0
    assert files[1].read_bytes() != kept
    lines = detect("--jsonl", "--npy", tmp_path / "b.npy")[1].splitlines()
    assert len(lines) == len(expected.predictions) + 2


def test_a_video_that_cannot_be_leaves_no_other_output(detect, tmp_path):
    code, out, _ = detect("--json", "--npy", tmp_path / "a.npy", "--mp4", tmp_path / "a.mp4", "--fps", "nan")
    assert (code, out, [p.name for p in tmp_path.iterdir()]) == (2, "", ["recording.raw"])


def test_device_and_dtype(detect, expected):
    """float64 on the CPU gives the same boxes; what an engine cannot do is one line."""
    code, out, err = detect("--json", "--dtype", "float32", "--device", "cpu", "--engine", "micro-batch")
    assert (code, err) == (0, "")
    found = json.loads(out)["predictions"]
    assert [len(p["boxes"]) for p in found] == [len(p) for p in expected.predictions]
    for options, message in (
        (("--device", "cuda"), "the engine event runs on the CPU"),
        (("--device", "cuda", "--engine", "micro-batch"), "CUDA devices"),
        (("--device", "abacus", "--engine", "micro-batch"), "expected cpu, cuda"),
        (("--dtype", "bfloat16"), "detectors run in float32 or float64"),
        (("--dtype", "int8"), "expected float32"),
    ):
        code, out, err = detect(*options)
        assert (code, out) == (2, "")
        assert message in err or "CUDA" in message


def test_a_part_of_the_recording(detect):
    document = json.loads(detect("--json", "--start", "60ms", "--end", "0.1s")[1])
    assert [read["t_us"] for read in document["predictions"]] == [100_000, 150_000]
    assert 0 < document["counters"]["events"] < 600


def test_events_of_a_video_are_simulated(detect, call, model, tmp_path):
    video = tmp_path / "moving.mp4"
    frames = np.zeros((12, 48, 64, 3), np.uint8)
    for number, frame in enumerate(frames):
        frame[10:30, 3 * number : 3 * number + 15] = 255
    from multiway_event_vision.rendering import write_mp4

    write_mp4(video, frames, frames_per_second=30)
    base = ("detect", video, "--model", model, "--period", "100ms", "--score", "0.4", "--upsample", "2")
    code, out, err = call(*base, "--json")
    assert code == 0
    assert "events simulated, 64 x 48 pixels, 2 frames along optical flow for each of its own" in err
    document = json.loads(out)
    assert (document["width"], document["height"]) == (64, 48)
    assert document["counters"]["events"] > 1000
    assert json.loads(call(*base, "--json", "--width", "32")[1])["height"] == 24


@pytest.mark.parametrize("frames", [np.full((5, 48, 64, 3), 90, np.uint8)])
def test_a_video_without_changes(frames, call, model, tmp_path):
    from multiway_event_vision.rendering import write_mp4

    write_mp4(tmp_path / "still.mp4", frames, frames_per_second=30)
    code, out, err = call("detect", tmp_path / "still.mp4", "--model", model)
    assert (code, out) == (0, "")
    assert "no events in it, so nothing was detected" in err


def test_no_events_and_no_boxes(call, model, tmp_path, recording):
    empty = tmp_path / "empty.raw"
    write_events(empty, Events.empty(40, 30))
    code, out, _ = call("detect", empty, "--model", model, "--json")
    assert code == 0
    assert json.loads(out)["predictions"] == []
    assert call("detect", empty, "--model", model)[1] == ""
    assert "no pictures" in call("detect", empty, "--model", model, "--mp4", tmp_path / "a.mp4")[2]
    code, out, _ = call("detect", recording, "--model", model, "--score", "1")
    assert code == 0
    assert "read-outs, 0 boxes\n" in out


def test_the_authors_checkpoint_runs_with_a_note(pipeline, detect, tmp_path):
    checkpoint.save_published(pipeline.model, tmp_path / "base.ckpt")
    code, out, err = detect("--json", "--model", tmp_path / "base.ckpt")
    assert code == 0
    assert err.count("\n") == 1
    assert "an approximation" in err
    assert json.loads(out)["classes"] == ["class 0", "class 1", "class 2", "class 3"]


def test_memory_does_not_grow_with_the_recording(model, call, tmp_path):
    """Three hours with an event every second: read-outs stream into the file."""
    t = np.arange(0, 3 * 3600 * 1_000_000, 1_000_000, dtype=np.int64)
    events = Events.from_arrays(t, t // 1_000_000 % 40, t // 40_000_000 % 30, t // 1_000_000 % 2, 40, 30)
    write_events(tmp_path / "long.npz", events)
    base = ("detect", tmp_path / "long.npz", "--model", model, "--period", "10s", "--score", "0.4")
    assert call(*base, "--npy", tmp_path / "long_bbox.npy")[0] == 0
    assert read_prophesee_boxes(tmp_path / "long_bbox.npy").t[-1] == 3 * 3600 * 1_000_000
    assert threading.active_count() < 10


def test_bad_input_is_one_line_and_leaves_nothing(recording, model, tmp_path, fails):
    def saved(name: str, t, x=None, p=None, **sizes):
        count = len(t)
        columns = {
            "x": np.zeros(count, int) if x is None else x,
            "p": np.zeros(count, int) if p is None else p,
        }
        path = tmp_path / name
        np.savez(
            path, t=np.asarray(t), y=np.zeros(count, int), **columns, **(sizes or {"width": 9, "height": 9})
        )
        return path

    seconds = saved("seconds.npz", np.sort(np.random.default_rng(0).integers(0, 2, 5000)))
    cases = [
        ((tmp_path / "none.raw",), "no such file"),
        ((tmp_path / "none.mp4",), "no such file"),
        ((saved("a.npz", [1, 5, 4]),), "earlier than the 5 us before it"),
        ((saved("b.npz", [-3, 5]),), "times must not be negative"),
        ((saved("c.npz", [1, 2], x=np.array([3, 90])),), "the sensor has 9 x 9 pixels"),
        ((saved("d.npz", [1, 2], p=np.array([1, 3])),), "polarity"),
        ((seconds,), "look like seconds"),
        ((saved("e.npz", [0, 10**15]),), "are the times microseconds?"),
        ((recording, "--period", "0"), "--period 0: expected 1us or more"),
        ((recording, "--period", "soon"), "expected a time such as 10ms"),
        ((recording, "--score", "1.5"), "--score 1.5: expected 0 to 1"),
        ((recording, "--engine", "magic"), "'magic'"),
        ((recording, "--engine", "window"), "needs the policy window or sliding"),
        ((recording, "--policy", "never"), "'never'"),
        ((recording, "--end", "0"), "expected the start before the end"),
        ((recording, "--json", "--jsonl"), "give one of them"),
        ((recording, "-o", tmp_path / "a.json"), "--output is for --json and --jsonl"),
        ((recording, "--view", "surface"), "are for --mp4"),
        ((recording, "--width", "10"), "are for videos and pictures"),
        ((recording, "--json", "-o", recording), "would replace the input"),
        ((recording, "--json", "-o", recording / "a"), "cannot write"),
        ((recording, "--npy", recording / "a"), "cannot write"),
        ((recording, "--mp4", tmp_path / "a.mp4", "--fps", "nan"), "nan frames a second"),
        ((recording, "--mp4", tmp_path / "a.mp4", "--window", "0"), "a window of 0 us"),
    ]  # fmt: skip
    before = sorted(tmp_path.iterdir())
    for arguments, message in cases:
        assert message in fails("detect", *arguments, "--model", model), arguments
        assert sorted(tmp_path.iterdir()) == before
    for name in ("bundled:nothing", str(tmp_path / "none"), str(tmp_path)):
        fails("detect", recording, "--model", name)


def test_repairs_are_told(model, call, tmp_path):
    np.savez(tmp_path / "a.npz", t=[1, 5, 4, 9], x=[1, 2, 3, 90], y=[0] * 4, p=[0] * 4, width=9, height=9)
    code, _, err = call("detect", tmp_path / "a.npz", "--model", model, "--repair")
    assert code == 0
    assert "repaired: 1 events off the sensor left out, 1 put in order of time" in err


def test_a_recording_that_breaks_off_prints_no_half_document(model, tmp_path, fails):
    t = np.arange(0, 1_000_000, 1000)
    t[900] = 5
    np.savez(tmp_path / "a.npz", t=t, x=t * 0, y=t * 0, p=t * 0, width=9, height=9)
    assert "earlier than" in fails("detect", tmp_path / "a.npz", "--model", model, "--json")


def test_objects_keep_a_number_in_every_output(call, tmp_path):
    """The model is chosen by the input: shapes get the detector of shapes, and their objects few numbers."""
    shapes, files = tmp_path / "shapes.raw", [tmp_path / name for name in ("a.json", "a_bbox.npy", "a.mp4")]
    assert call("simulate", "--shapes", "-o", shapes)[0] == 0
    code, _, err = call(
        "detect", shapes, "--track", "--json", "-o", files[0], "--npy", files[1], "--mp4", files[2]
    )
    assert code == 0, err
    assert "bundled:ssla-shapes, trained on simulated moving shapes" in err
    document = json.loads(files[0].read_text())
    assert document["model"] == "bundled:ssla-shapes"
    tracks = [box["track"] for read in document["predictions"] for box in read["boxes"]]
    assert 1 <= len(set(tracks) - {None}) <= 8
    assert sum(track is not None for track in tracks) > 0.7 * len(tracks)
    assert read_prophesee_boxes(files[1]).track_id.max() == max(track or 0 for track in tracks)
    code, out, _ = call("detect", shapes, "--track")
    assert (code, "objects over time: " in out, "#0 " in out) == (0, True, True)


def test_an_input_that_no_detector_knows_is_refused_and_a_named_one_warns(call, fails, tmp_path):
    generator = np.random.default_rng(0)
    sparks = tmp_path / "sparks.npz"
    columns = (generator.integers(bound, size=60_000) for bound in (304, 200, 2))
    write_events(
        sparks, Events.from_arrays(np.sort(generator.integers(500_000, size=60_000)), *columns, 304, 200)
    )
    line = fails("detect", sparks)
    assert "no bundled detector was trained on its like" in line
    assert "people and vehicles" in line
    assert "--model bundled:ssla-street tries all the same" in line
    code, _, err = call("detect", sparks, "--model", "bundled:ssla-street", "--period", "250ms")
    assert code == 0
    assert "its boxes are not to be trusted" in err
