"""The demo's functions, and the demo over HTTP."""

from __future__ import annotations

import json
import threading
import zipfile
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from gradio_client import Client, handle_file
from multiway_core.app import ModelLoader, ModelOptions, launch
from multiway_core.errors import InputError
from multiway_grounding.app import APP
from multiway_grounding.demo import DemoGrounder, build_demo
from multiway_grounding.demo.downloads import Archive, write_downloads
from multiway_grounding.demo.events import request_of
from multiway_grounding.demo.examples import examples
from multiway_grounding.demo.session import MAX_PHRASES, while_running
from multiway_grounding.demo.view import card, result_value, segments
from multiway_grounding.request import Request
from multiway_vision_language.result import Box, Entity, Grounding
from PIL import Image


@pytest.fixture(scope="module")
def session(model):
    return DemoGrounder(ModelLoader(APP, ModelOptions(str(model), "cpu")))


@pytest.fixture(scope="module")
def url(model):
    blocks = build_demo(str(model), device="cpu")
    yield launch(blocks, block=False)
    blocks.close(verbose=False)


@pytest.fixture(scope="module")
def client(url):
    return Client(url, verbose=False)


def ask(client: Client, path, task="locate", phrases="a snowman", box="", text="") -> dict:
    return client.predict(handle_file(str(path)), task, phrases, 0.5, box, text, True, api_name="/ground")


def test_what_the_page_asks():
    assert request_of("locate", "a dog\n\n the cat ", 0.3, "", "", True) == Request(
        "locate", phrases=("a dog", " the cat "), threshold=0.3
    )
    assert request_of("caption", "", 0.5, "", "", False) == Request("caption", grounded=False)
    assert request_of("detailed", "", 0.5, "", "", True) == Request("caption", detailed=True)
    assert request_of("describe", "", 0.5, "1, 2, 3, 4", "", True).box == (1, 2, 3, 4)
    assert request_of("ask", "", 0.5, "", "Why?", True) == Request("ask", text="Why?")
    assert request_of("prompt", "", 0.5, "", "<grounding>", True) == Request("prompt", text="<grounding>")
    for task in ("locate", "describe", "ask", "prompt"):
        with pytest.raises(InputError, match=r"type|draw"):
            request_of(task, " \n", 0.5, " ", " ", True)


def test_words_stream_and_end_with_a_whole_result(session, photo, tmp_path):
    values = list(session.stream(photo, Request("describe", box=(0, 0, 40, 30))))
    assert [result is None for _, _, result in values] == [True] * (len(values) - 1) + [False]
    first, (value, picture, result) = values[0][0], values[-1]
    assert first["image"].startswith("data:image/jpeg;base64,")
    assert first["entities"] == []
    assert json.dumps(value)
    assert "".join(segment["text"] for segment in value["segments"]) == result.text
    assert value["entities"][0]["phrase"] == "It"
    assert (value["width"], value["height"], value["grid"]) == (80, 60, 4)
    assert "1 place" in value["summary"]
    assert "/" not in value["summary"]  # no path of the server
    assert result.source == "photo.png"
    files = write_downloads(tmp_path / "files", picture, result)
    assert [Path(file).name for file in files] == ["photo.json", "photo.annotated.png", "photo.coco.json"]
    assert Grounding.from_json(json.loads(Path(files[0]).read_text())) == result
    assert Image.open(files[1]).size == (80, 60)
    assert json.loads(Path(files[2]).read_text())["images"][0]["width"] == 80


def test_the_browser_gets_text_in_pieces_not_in_numbers():
    """It counts characters in UTF-16, Python in code points."""
    text = "🐕 a dog and a cat"
    box = Box((0.0, 0.0, 5.0, 5.0), (0, 0), 0.5)
    entities = (Entity("a cat", (12, 17), (box,), 1.0), Entity("a dog", (2, 7), (), 0.1))
    result = Grounding("x.png", "m", 10, 10, text, entities)
    assert segments(result) == [
        {"text": "🐕 ", "entity": None},
        {"text": "a dog", "entity": 1},
        {"text": " and ", "entity": None},
        {"text": "a cat", "entity": 0},
    ]
    value = result_value({}, result, task="locate", summary="")
    assert value["entities"][0]["colour"] != value["entities"][1]["colour"]
    assert value["entities"][1]["boxes"] == []


def test_results_arrive_while_the_work_goes_on_and_leaving_ends_it():
    blank = Grounding("x", "m", 1, 1, "", ())
    ended = threading.Event()

    def work(report):
        try:
            for number in range(1000):
                report(replace(blank, text=str(number)))
            return replace(blank, text="whole")
        finally:
            ended.set()

    results = list(while_running(work))
    assert [result.text for result, _ in results[:2]] == ["0", "1"]
    assert (results[-1][0].text, results[-1][1]) == ("whole", True)

    ended.clear()
    gate = threading.Event()

    def waiting(report):
        try:
            report(blank)
            gate.wait(30)
            report(blank)
            raise AssertionError("nobody listens any more")
        finally:
            ended.set()

    steps = while_running(waiting)
    next(steps)
    threading.Timer(0.1, gate.set).start()
    steps.close()
    assert ended.is_set()

    def failing(report):
        raise InputError("no such phrase")

    with pytest.raises(InputError, match="no such phrase"):
        list(while_running(failing))


def test_cards_and_the_archive_of_many_pictures(session, photo):
    archive, results = Archive(), []
    for _ in range(2):
        picture, result = session.ground(photo, Request("locate", phrases=("a snowman",)))
        archive.add(picture, result)
        results.append(result)
    shown = card(picture, result)
    assert shown["segments"][0] == {"text": "a snowman", "colour": "#2563eb"}
    assert "mean confidence" in shown["detail"]
    path = photo.parent / "all.zip"
    path.write_bytes(archive.close(results))
    with zipfile.ZipFile(path) as file:
        assert file.namelist() == ["photo.png", "photo-2.png", "results.jsonl", "coco.json"]
        assert len(file.read("results.jsonl").splitlines()) == 2


def test_bad_uploads_are_named_without_their_folder(session, tmp_path):
    path = tmp_path / "bad.png"
    path.write_bytes(b"no picture")
    with pytest.raises(InputError) as error:
        session.preview(path)
    assert str(error.value).startswith("bad.png: is no picture")
    with pytest.raises(InputError, match=f"at most {MAX_PHRASES}"):
        session.ground(path, Request("locate", phrases=("x",) * (MAX_PHRASES + 1)))


def test_examples_are_pictures():
    for example in examples():
        assert example.caption
        assert request_of("locate", example.phrases, 0.5, "", "", True).phrases
        assert min(Image.open(example.path).size) >= 200


def test_a_program_asks(client, photo):
    data = ask(client, photo)
    assert Grounding.from_json(data).entities[0].phrase == "a snowman"
    assert ask(client, photo, "describe", box="0, 0, 40, 30")["text"].startswith("It is")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"phrases": ""}, "type what to look for"),
        ({"phrases": "x" * 2000}, "2,000 characters"),
        ({"task": "describe", "box": "0,0,99,9"}, "reaches outside"),
        ({"task": "ask", "text": "<object>"}, "begins a tag"),
    ],
)
def test_bad_requests_are_messages(client, photo, asked, message):
    with pytest.raises(Exception, match=message) as error:
        ask(client, photo, **asked)
    assert "Traceback" not in str(error.value)


def test_bad_files_and_files_of_the_machine(url, client, tmp_path):
    path = tmp_path / "<b>bad.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n....")
    with pytest.raises(Exception) as error:
        ask(client, path)
    assert "bad" in str(error.value)
    assert "<b>" not in str(error.value)
    assert "/tmp" not in str(error.value)
    with pytest.raises(Exception, match="choose a picture first"):
        client.predict(None, "caption", "", 0.5, "", "", True, api_name="/ground")
    secret = Path(__file__).resolve()
    for address in (f"{url}gradio_api/file={secret}", f"{url}file={secret}"):
        assert httpx.get(address, timeout=60).status_code in (400, 403, 404)


def test_no_telemetry_and_no_foreign_address_in_the_page(url):
    assert httpx.get(f"{url}config", timeout=60).json()["analytics_enabled"] is False
    page = httpx.get(url, timeout=60).text
    for host in ("googleapis", "gstatic", "cdnjs", "jsdelivr"):
        assert host not in page
