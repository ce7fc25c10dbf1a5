"""The demo over HTTP: detection for programs, a crowd of visitors, and visitors who want what is not theirs."""

from __future__ import annotations

import base64
import itertools
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from gradio_client import Client, handle_file
from multiway_core.app import ModelOptions, launch
from multiway_core.errors import DataError, InputError
from multiway_event_detection.demo import DemoDetector, build_demo, session
from multiway_event_detection.demo.dense_baseline import DenseBaseline
from multiway_event_vision.baselines.dense_cnn import DenseCnn, DenseCnnConfig
from multiway_event_vision.events import Events
from multiway_event_vision.formats import open_events, write_events
from multiway_event_vision.pipeline import DetectionOptions, DetectionPipeline


@pytest.fixture(scope="module")
def url(model):
    blocks = build_demo(str(model))
    yield launch(blocks, block=False)
    blocks.close(verbose=False)


@pytest.fixture(scope="module")
def client(url):
    return Client(url, verbose=False)


@pytest.fixture(scope="module")
def detector(model):
    return DemoDetector(ModelOptions(str(model)))


def detect(client: Client, path: Path, model: Path, period: int = 50_000):
    return client.predict(handle_file(str(path)), str(model), period, api_name="/detect")


def test_a_program_gets_the_pipelines_json(client, recording, model):
    found = detect(client, recording, model)
    pipeline = DetectionPipeline.from_pretrained(str(model))
    expected = pipeline(open_events(recording), DetectionOptions(period=50_000)).to_json()
    assert found["schema"] == "multiway.event-detection/2"
    assert found["source"] == "recording.raw"
    assert found["predictions"] == expected["predictions"]


def test_five_visitors_at_once_each_get_their_own(url, model, tmp_path):
    paths = []
    for number in range(5):
        t = np.arange(200) * 100
        x = t * 0 + number
        paths.append(tmp_path / f"{number}.raw")
        write_events(paths[-1], Events.from_arrays(t, x, x, x % 2, 20 + number, 20))

    def visit(path):
        return detect(Client(url, verbose=False), path, model)

    with ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(visit, paths))
    assert [answer["width"] for answer in answers] == [20, 21, 22, 23, 24]


def test_other_files_of_the_machine_are_refused(url, client, model):
    secret = Path(__file__).resolve()
    for path in (str(secret), "/etc/passwd"):
        with pytest.raises(Exception, match=r"(?i)not|invalid|error") as error:
            client.predict(
                {"path": path, "meta": {"_type": "gradio.FileData"}}, str(model), 50_000, api_name="/detect"
            )
        assert "root:" not in str(error.value)
        assert httpx.get(f"{url}gradio_api/file={path}", timeout=60).status_code in (400, 403, 404)


@pytest.mark.parametrize(("name", "content"), [("<b>bad.raw", b"not events"), ("bad.mp4", b"no video")])
def test_a_bad_file_is_a_message(client, model, tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(Exception, match="bad") as error:
        detect(client, path, model)
    for forbidden in ("<b>", "/tmp", "Traceback"):
        assert forbidden not in str(error.value)


def test_no_telemetry_and_no_foreign_address_in_the_page(url):
    assert httpx.get(f"{url}config", timeout=60).json()["analytics_enabled"] is False
    page = httpx.get(url, timeout=60).text
    for host in ("googleapis", "gstatic", "cdnjs", "jsdelivr"):
        assert host not in page


def unpacked(value) -> np.ndarray:
    data = b"".join(base64.b64decode(part["events"]) for part in value["parts"])
    return np.frombuffer(data, [("t", "<u4"), ("x_p", "<u2"), ("y", "<u2")])


def test_the_values_grow_to_all_events_and_all_read_outs(detector, recording, model, events, monkeypatch):
    monkeypatch.setattr(session, "_SECONDS_BETWEEN_UPDATES", 0.0)
    opening, *values = detector.detect(recording, str(model), 20_000)
    assert "Opening recording.raw" in opening["summary"]
    assert json.dumps(values[-1])
    assert [value["running"] for value in values] == [True] * (len(values) - 1) + [False]
    assert len({value["id"] for value in values}) == 1
    for before, after in itertools.pairwise(values):
        assert after["parts"][: len(before["parts"])] == before["parts"]
    last = values[-1]
    found = unpacked(last)
    np.testing.assert_array_equal(found["t"] + last["start"], events.t)
    np.testing.assert_array_equal(found["x_p"] & 0x7FFF, events.x)
    np.testing.assert_array_equal(found["x_p"] >> 15, events.p)
    np.testing.assert_array_equal(found["y"], events.y)
    predictions = [read for part in last["parts"] for read in part["predictions"]]
    pipeline = DetectionPipeline.from_pretrained(str(model))
    options = DetectionOptions(period=20_000, score=session.MIN_SCORE)
    expected = list(pipeline.detect(open_events(recording), options))
    assert [t + last["start"] for t, _ in predictions] == [read.t for read in expected]
    assert [len(boxes) for _, boxes in predictions] == [len(read) for read in expected]
    assert "2,000 events in 0.22 s · 40 × 30 pixels · 11 read-outs in" in last["summary"]


def test_a_long_recording_is_shown_from_its_beginning(detector, recording, model, monkeypatch):
    monkeypatch.setattr(session, "MAX_EVENTS", 700)
    last = list(detector.detect(recording, str(model), 20_000))[-1]
    assert len(unpacked(last)) == 700
    assert "the first 700 events" in last["summary"]
    monkeypatch.setattr(session, "MAX_EVENTS", 10**6)
    monkeypatch.setattr(session, "MAX_MICROSECONDS", 50_000)
    assert unpacked(list(detector.detect(recording, str(model), 20_000))[-1])["t"].max() <= 51_000


def test_no_events_are_a_line(detector, model, tmp_path):
    write_events(tmp_path / "empty.raw", Events.empty(40, 30))
    last = list(detector.detect(tmp_path / "empty.raw", str(model), 20_000))[-1]
    assert (last["id"], last["summary"]) == ("", "empty.raw: no events in it, so nothing was detected.")


def test_errors_name_no_folder(detector, model, tmp_path):
    (tmp_path / "a.raw").write_bytes(b"% evt 3.0\n% end\n")
    with pytest.raises(DataError) as error:
        list(detector.detect(tmp_path / "a.raw", str(model), 20_000))
    assert str(tmp_path) not in str(error.value)
    with pytest.raises(InputError, match="no model '/etc' here"):
        detector.choice("/etc")


def test_the_dense_network_beside_is_read_at_the_same_times(detector, recording, model, monkeypatch):
    dense = DenseCnn(DenseCnnConfig((4, 6, 8), num_classes=4)).eval()
    monkeypatch.setattr(detector, "_dense", lambda pipeline: dense)
    last = list(detector.detect(recording, str(model), 50_000))[-1]
    parts = last["parts"]
    assert [t for p in parts for t, _ in p["predictions"]] == [t for p in parts for t, _ in p["beside"]]
    assert last["titles"][1].startswith("Dense CNN, ")
    assert "MFLOP a read-out: " in last["titles"][1]
    assert DenseBaseline(dense, 40, 30, 0.5).title.endswith("a read-out")


def test_every_example_gets_the_detector_of_shapes():
    from multiway_event_detection.demo.examples import example_files
    from multiway_event_vision.pipeline import DetectorChoice
    from multiway_event_vision.sources import open_source

    choice = DetectorChoice.from_pretrained()
    for path, _ in example_files():
        assert choice.suited(open_source(path), path.name)[0].name == "bundled:ssla-shapes", path.name
