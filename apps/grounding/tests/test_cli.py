"""Start-up, the commands for one picture, and what they say to bad input."""

from __future__ import annotations

import json
import resource
import subprocess
import sys

import numpy as np
import pytest
from multiway_vision_language.pipeline import GroundingPipeline
from multiway_vision_language.result import Grounding
from PIL import Image


def test_help_is_quick_and_loads_no_framework():
    code = (
        "import sys\n"
        "from multiway_grounding.cli import cli\n"
        "from multiway_core.app import run\n"
        "try: run(cli, ['--help'])\n"
        "except SystemExit: pass\n"
        "print([m for m in ('torch', 'gradio', 'numpy', 'PIL') if m in sys.modules])\n"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert result.stdout.splitlines()[-1] == "[]", result.stderr
    for command in ("caption", "locate", "describe", "ask", "prompt", "batch", "export", "demo"):
        assert command in result.stdout
    # CPU seconds: the wall time of a busy test machine says nothing
    assert after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime < 1.5


def test_locate_prints_a_table(photo, model, call):
    code, out, err = call("locate", photo, "a snowman", "the red bus", "--model", model)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[:2] == ["a snowman", "the red bus"]
    assert "confidence" in out
    assert "\x1b" not in out  # no colours in a pipe


def test_json_is_the_pipelines_own(photo, model, call):
    code, out, _ = call("locate", photo, "a snowman", " the red bus", "--model", model, "--json")
    assert code == 0
    data = json.loads(out)
    assert (data["schema"], data["frame"], data["source"]) == ("multiway.grounding/1", "pixel", str(photo))
    pipeline = GroundingPipeline.from_pretrained(str(model))
    assert data == pipeline.locate(photo, ["a snowman", " the red bus"]).to_json()
    assert [entity["phrase"] for entity in data["entities"]] == ["a snowman", " the red bus"]
    assert set(data["entities"][0]) == {"phrase", "span", "present", "boxes"}
    assert set(data["entities"][0]["boxes"][0]) == {"xyxy", "cells", "confidence"}
    assert Grounding.from_json(data).to_json() == data


@pytest.mark.parametrize(
    "arguments",
    [
        ["caption"],
        ["caption", "--detailed"],
        ["caption", "--plain"],
        ["describe", "--box", "10,10,60,50"],
        ["describe", "--box", "0.1, 0.2, 0.5, 0.9", "--frame", "norm"],
        ["ask", "What colour is the dog?"],
        ["ask", "What is it?", "--plain"],
        ["prompt", "<grounding><phrase>the red bus</phrase>"],
    ],
)
def test_every_task_answers(arguments, photo, model, call):
    command, *rest = arguments
    code, out, err = call(command, photo, *rest, "--model", model, "--json")
    assert (code, err) == (0, "")
    result = Grounding.from_json(json.loads(out))
    assert (result.width, result.height) == (80, 60)
    code, out, _ = call(command, photo, *rest, "--model", model)
    assert code == 0
    assert out.split()[:1] == result.text.split()[:1]


def test_what_is_absent_is_said_to_be(photo, absence_model, call):
    code, out, _ = call("locate", photo, "a snowman", "--model", absence_model, "--threshold", "1")
    assert code == 0
    assert "not present" in out
    _, out, _ = call("locate", photo, "a snowman", "--model", absence_model, "--threshold", "0")
    assert "not present" not in out


def test_save_writes_the_annotated_picture(photo, model, call, tmp_path):
    original = np.asarray(Image.open(photo).convert("RGB"))
    for name in ("out/boxes.png", "boxes.JPG", "boxes.webp"):
        target = tmp_path / name
        code, _, _ = call("locate", photo, "a snowman", "--model", model, "--save", target)
        assert code == 0
        saved = Image.open(target)
        assert saved.size == (80, 60)
    assert (np.asarray(Image.open(tmp_path / "out/boxes.png")) != original).any()
    code, out, err = call("locate", photo, "a snowman", "--model", model, "--save", tmp_path / "boxes.txt")
    assert (code, out) == (2, "")
    assert "expected a name that ends in .png" in err
    code, out, err = call("locate", photo, "a snowman", "--model", model, "--save", "/proc/no/boxes.png")
    assert (code, out) == (2, "")
    assert "cannot write /proc/no/boxes.png" in err


def test_a_turned_photograph_has_boxes_in_the_frame_that_is_seen(tmp_path, picture, model, call):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "turned.jpg"
    picture(80, 60).save(path, exif=exif)
    code, out, _ = call("locate", path, "a snowman", "--model", model, "--json")
    data = json.loads(out)
    assert (code, data["width"], data["height"]) == (0, 60, 80)


@pytest.mark.parametrize(
    "kind", ["alpha.png", "palette.gif", "animated.gif", "cmyk.jpg", "grey.png", "pixel.png"]
)
def test_odd_pictures_are_read(kind, tmp_path, picture, model, call):
    image = picture()
    path = tmp_path / kind
    if kind == "alpha.png":
        image.putalpha(100)
    elif kind == "palette.gif":
        image = image.convert("P")
    elif kind == "cmyk.jpg":
        image = image.convert("CMYK")
    elif kind == "grey.png":
        image = image.convert("L")
    elif kind == "pixel.png":
        image = image.resize((1, 1))
    image.save(
        path, **({"save_all": True, "append_images": [picture(seed=1)]} if kind == "animated.gif" else {})
    )
    code, out, _ = call("locate", path, "a snowman", "--model", model, "--json")
    assert code == 0
    assert json.loads(out)["width"] == image.width


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["locate", "PHOTO", ""], "the phrase is empty"),
        (["locate", "PHOTO", "a" * 2000], "the phrase has 2,000 characters"),
        (["locate", "PHOTO", "a dog</phrase><object>"], "begins a tag"),
        (["locate", "PHOTO"], "PHRASE"),
        (["locate", "PHOTO", "a dog", "--threshold", "2"], "--threshold"),
        (["describe", "PHOTO"], "--box X1,Y1,X2,Y2 is missing"),
        (["describe", "PHOTO", "--box", "1,2,3"], "is not a box"),
        (["describe", "PHOTO", "--box", "a,b,c,d"], "is not a box"),
        (["describe", "PHOTO", "--box", "10,10,10,30"], "has no area"),
        (["describe", "PHOTO", "--box", "0,0,81,60"], "reaches outside the picture, which is 0,0,80,60"),
        (["describe", "PHOTO", "--box", "0,0,1e999,60"], "four numbers"),
        (["describe", "PHOTO", "--box", "0,0,2,1", "--frame", "norm"], "reaches outside the picture"),
        (["describe", "PHOTO", "--box", "0,0,1,1", "--frame", "percent"], "--frame"),
        (["ask", "PHOTO", "  "], "the question is empty"),
        (["prompt", "PHOTO", "<grounding><phrase>open"], "cannot be continued"),
        (["caption", "nowhere.png"], "no such file"),
        (["caption", "FOLDER"], "is a folder"),
        (["caption", "CORRUPT"], "is no picture"),
        (["caption", "CUT"], "damaged"),
        (["caption", "EMPTY"], "is empty"),
        (["caption", "PHOTO", "--device", "tpu"], "--device tpu"),
        (["caption", "PHOTO", "--dtype", "int3"], "--dtype int3"),
        (["caption", "PHOTO", "--model", "no/such@../model"], "not a revision"),
        (["caption", "PHOTO", "--model", "bundled:nothing"], "no bundled model"),
        (["caption", "PHOTO", "--model", "FOLDER"], "no sentencepiece.bpe.model"),
        (["caption", "PHOTO", "--model", "BROKEN"], "BROKEN"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, message, photo, model, tmp_path, call):
    broken = tmp_path / "broken-model"
    broken.mkdir()
    for file in model.iterdir():
        data = file.read_bytes()
        (broken / file.name).write_bytes(data[:100] if file.suffix == ".safetensors" else data)
    (tmp_path / "corrupt.png").write_bytes(b"this is no picture")
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "cut.png").write_bytes(photo.read_bytes()[:90])
    named = {
        "PHOTO": photo,
        "FOLDER": tmp_path,
        "CORRUPT": tmp_path / "corrupt.png",
        "EMPTY": tmp_path / "empty.png",
        "CUT": tmp_path / "cut.png",
        "BROKEN": broken,
    }
    given = [str(named.get(argument, argument)) for argument in arguments]
    if "--model" not in given:
        given += ["--model", str(model)]
    code, out, err = call(*given)
    assert (code, out) == (2, "")
    assert message.replace("BROKEN", str(broken)) in err
    assert len(err.splitlines()) == 1


def test_a_picture_of_20000_pixels_a_side(tmp_path, model, call):
    """20 000 x 20 000 in colour is refused before it is decoded; a strip of that length is read."""
    import struct
    import zlib

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    bomb = tmp_path / "bomb.png"
    bomb.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    )
    code, _, err = call("caption", bomb, "--model", model)
    assert code == 2
    assert "20000 x 20000 pixels need 1.6 GB to decode" in err
    strip = tmp_path / "strip.png"
    Image.new("L", (20_000, 20), 90).save(strip)
    code, out, _ = call("locate", strip, "a snowman", "--model", model, "--json")
    assert (code, json.loads(out)["width"]) == (0, 20_000)


def test_the_umbrella_knows_the_app():
    from multiway_core.app import installed_apps

    (found,) = [item for item in installed_apps() if item.name == "grounding"]
    assert found.problem is None
    assert (found.distribution, found.app.title) == ("multiway-grounding", "Multiway Grounding")


def test_demo_on_a_taken_port(model, call):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, _, err = call("demo", "--model", model, "--port", taken.getsockname()[1])
    assert code == 2
    assert "the port is taken; give another --port" in err
