"""Every export format: read back by the tools that define it, and with hostile phrases and names."""

from __future__ import annotations

import csv
import json
import random
import string
import xml.etree.ElementTree as ET
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml
from multiway_core.errors import InputError, OutputError
from multiway_vision_language.export import FORMATS, write
from multiway_vision_language.export.annotations import category
from multiway_vision_language.export.coco import to_coco
from multiway_vision_language.result import Box, Entity, Grounding

HOSTILE = [
    'a "quoted" dog, with; commas',
    "<script>alert(1)</script> & ]]> 'x'",
    "=1+1",
    "  two  spaces\tand a tab ",
    "line\nbreak\r\nand return\rend",
    "null \x00 bell \x07 escape \x1b[31m delete \x7f next line \x85",
    "犬 кошка 🐕 \u202e right to left \u2028 \ufffe",
    "lone \ud800 surrogate",
    ": - {yaml: [&x, *y]} # no comment",
    "",
    "x" * 2000,
]


def result(*phrases: str, source: str = "cat.jpg", width: int = 640, height: int = 427) -> Grounding:
    """One box a phrase, of odd size and place, confidence falling."""
    entities = tuple(
        Entity(
            phrase,
            (0, 0),
            (Box((10.25 + i, 20.5, 110.75 + 3 * i, 220.125 + i), (i, 40 + i), 0.9 - 0.05 * i),),
            0.75,
        )
        for i, phrase in enumerate(phrases)
    )
    return Grounding(source, "tester", width, height, "", entities)


def test_articles_make_no_class_of_their_own() -> None:
    assert [category(phrase) for phrase in ("the dog", "A dog", "an  apple", "dog", "the", "another dog", "")] == [
        "dog", "dog", "apple", "dog", "the", "another dog", "",
    ]  # fmt: skip
    data = json.loads(to_coco([result("the dog", "a dog", "a cat")]))
    assert [found["category_id"] for found in data["annotations"]] == [1, 1, 2]


def written(results: list[Grounding], format: str, folder: Path) -> Path:
    path = folder / f"out{FORMATS[format].extension or ''}"
    write(results, format, path)
    return path


def boxes(results: list[Grounding]) -> list[tuple[str, tuple[float, ...]]]:
    return [(category(e.phrase), box.xyxy) for one in results for e in one.entities for box in e.boxes]


def test_coco_is_read_by_pycocotools(tmp_path: Path) -> None:
    coco_tools = pytest.importorskip("pycocotools.coco")
    results = [result("a dog", "a cat", "a dog"), result("a cat", source="b.png", width=200, height=300)]
    path = written(results, "coco", tmp_path)
    coco = coco_tools.COCO(str(path))
    assert [kind["name"] for kind in coco.loadCats(coco.getCatIds())] == ["dog", "cat"]
    assert [image["file_name"] for image in coco.loadImgs(coco.getImgIds())] == ["cat.jpg", "b.png"]
    read = []
    for annotation in coco.loadAnns(coco.getAnnIds()):
        left, top, width, height = annotation["bbox"]
        assert annotation["area"] == pytest.approx(width * height)
        name = coco.loadCats(annotation["category_id"])[0]["name"]
        read.append((name, (left, top, left + width, top + height)))
    assert [(name, pytest.approx(box)) for name, box in boxes(results)] == read
    detections = coco.loadRes(coco.dataset["annotations"])
    assert [a["score"] for a in detections.loadAnns(detections.getAnnIds())] == pytest.approx(
        [0.9, 0.85, 0.8, 0.9]
    )


def test_coco_evaluation_of_an_export_against_itself_is_perfect(tmp_path: Path) -> None:
    coco_tools = pytest.importorskip("pycocotools.coco")
    evaluation = pytest.importorskip("pycocotools.cocoeval")
    coco = coco_tools.COCO(str(written([result("a dog", "a cat")], "coco", tmp_path)))
    judge = evaluation.COCOeval(coco, coco.loadRes(coco.dataset["annotations"]), "bbox")
    judge.evaluate()
    judge.accumulate()
    judge.summarize()
    assert judge.stats[0] == pytest.approx(1.0)


def test_referring_file_has_one_record_an_expression(tmp_path: Path) -> None:
    two = Entity("dogs", (0, 4), (Box((1, 2, 3, 4), (0, 0), 0.5), Box((5, 6, 9, 9), (1, 1), 0.25)), 1.0)
    absent = Entity("a unicorn", (0, 0), (), 0.1)
    results = [Grounding("a.jpg", "tester", 10, 10, "dogs", (two, absent)), result("a cat", source="b.jpg")]
    data = json.loads(written(results, "referring", tmp_path).read_text(encoding="utf-8"))
    assert [image["caption"] for image in data["images"]] == ["dogs", "a cat"]
    assert [image["original_id"] for image in data["images"]] == [1, 2]
    assert [annotation["image_id"] for annotation in data["annotations"]] == [1, 1, 2]
    assert data["annotations"][0]["bbox"] == [1, 2, 2, 2]
    assert data["annotations"][0]["tokens_positive"] == [[0, 4]]


def test_yolo_rows_and_names_round_trip(tmp_path: Path) -> None:
    results = [
        result("a dog", "a cat", "a dog", source="photos/one/x.jpg"),
        result(source="photos/two/x.jpg"),
        result("a cat", source="photos/y.tar.gz"),
    ]
    folder = written(results, "yolo", tmp_path)
    names = yaml.safe_load((folder / "data.yaml").read_text(encoding="utf-8"))["names"]
    assert names == {0: "dog", 1: "cat"}
    assert (folder / "classes.txt").read_text(encoding="utf-8").split("\n") == ["dog", "cat", ""]
    assert (folder / "labels/two/x.txt").read_text() == ""
    assert (folder / "labels/y.tar.txt").is_file()
    rows = [row.split() for row in (folder / "labels/one/x.txt").read_text().splitlines()]
    for row, (phrase, box) in zip(rows, boxes(results[:1]), strict=True):
        assert names[int(row[0])] == phrase
        cx, cy, w, h = (float(value) for value in row[1:])
        read = ((cx - w / 2) * 640, (cy - h / 2) * 427, (cx + w / 2) * 640, (cy + h / 2) * 427)
        assert read == pytest.approx(box, abs=1e-3)


def test_voc_is_whole_pixels_from_one(tmp_path: Path) -> None:
    edge = Entity("edge", (0, 0), (Box((0, 0, 640, 427), (0, 0), 1.0),), 1.0)
    thin = Entity("thin", (0, 0), (Box((639.9, 3.1, 640, 3.2), (0, 0), 1.0),), 1.0)
    results = [Grounding("a/cat.jpg", "tester", 640, 427, "", (edge, thin, *result("dog").entities))]
    tree = ET.parse(written(results, "voc", tmp_path) / "cat.xml")
    assert tree.findtext("filename") == "cat.jpg"
    assert [tree.findtext(f"size/{side}") for side in ("width", "height", "depth")] == ["640", "427", "3"]
    read = [
        (item.findtext("name"), tuple(int(value.text or "") for value in item.find("bndbox") or ()))
        for item in tree.findall("object")
    ]
    assert read == [("edge", (1, 1, 640, 427)), ("thin", (640, 4, 640, 4)), ("dog", (11, 21, 111, 220))]


def test_label_studio_tasks_are_percent_and_point_at_the_pictures(tmp_path: Path) -> None:
    results = [
        result("a dog", source="/data/my cat & dog?.jpg", width=200, height=400),
        result("a dog", source="https://example.org/x.jpg"),
    ]
    folder = written(results, "label-studio", tmp_path)
    tasks = json.loads((folder / "tasks.json").read_text(encoding="utf-8"))
    assert unquote(tasks[0]["data"]["image"]) == "/data/local-files/?d=data/my cat & dog?.jpg"
    assert "&" not in tasks[0]["data"]["image"]
    assert tasks[1]["data"]["image"] == "https://example.org/x.jpg"
    region = tasks[0]["predictions"][0]["result"][0]
    value = region["value"]
    assert (value["x"], value["y"]) == pytest.approx((10.25 / 2, 20.5 / 4))
    assert (value["width"], value["height"]) == pytest.approx((100.5 / 2, 199.625 / 4))
    assert value["rectanglelabels"] == ["dog"]
    config = ET.parse(folder / "labeling_config.xml").getroot()
    names = {tag: next(config.iter(tag)).attrib for tag in ("Image", "RectangleLabels")}
    assert names["Image"]["value"] == "$image"
    assert names["RectangleLabels"]["toName"] == region["to_name"] == names["Image"]["name"]
    assert names["RectangleLabels"]["name"] == region["from_name"]
    assert [label.attrib["value"] for label in config.iter("Label")] == ["dog"]


def test_csv_rows(tmp_path: Path) -> None:
    absent = Entity("a unicorn", (3, 12), (), 0.125)
    results = [Grounding("a.jpg", "tester", 64, 64, "x" * 20, (*result("a dog").entities, absent))]
    with written(results, "csv", tmp_path).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert (rows[0]["phrase"], float(rows[0]["x1"]), float(rows[0]["confidence"])) == ("a dog", 64.0, 0.9)
    assert (rows[1]["start"], rows[1]["end"], rows[1]["present"], rows[1]["x0"]) == ("3", "12", "0.125", "")


@pytest.mark.parametrize("format", FORMATS)
def test_hostile_phrases_and_names_come_back(format: str, tmp_path: Path) -> None:
    source = "../../etc/<b>\n\"x\" & 'y'\x00\udcff;.jpg"
    results = [result(*HOSTILE, source=source), result("a cat", source="../../etc/other.jpg")]
    path = written(results, format, tmp_path)
    assert [item.name for item in tmp_path.iterdir()] == [path.name]  # nothing climbed out
    plain = [phrase.encode("utf-8", "replace").decode("utf-8") for phrase in HOSTILE]
    if format in ("coco", "referring"):
        data = json.loads(path.read_text(encoding="utf-8"))
        names = (
            [image["caption"] for image in data["images"]]
            if format == "referring"
            else [kind["name"] for kind in data["categories"]]
        )
        classes = plain if format == "referring" else list(map(category, plain))
        assert names == [*classes, "a cat" if format == "referring" else "cat"]
    elif format == "yolo":
        names = yaml.safe_load((path / "data.yaml").read_text(encoding="utf-8"))["names"]
        assert list(names.values()) == [*map(category, HOSTILE), "cat"]
        assert (path / "classes.txt").read_text(encoding="utf-8").count("\n") == len(HOSTILE) + 1
        assert len(list((path / "labels").rglob("*.txt"))) == 2
    elif format == "csv":
        with path.open(encoding="utf-8", newline="") as file:
            assert [row["phrase"] for row in csv.DictReader(file)] == [*plain, "a cat"]
    elif format == "voc":
        files = list(path.rglob("*.xml"))
        assert len(files) == 2
        names = {name.text or "" for file in files for name in ET.parse(file).iter("name")}
        assert names == {"".join(map(legal, phrase)) for phrase in [*map(category, HOSTILE), "cat"]}
    else:
        config = ET.parse(path / "labeling_config.xml").getroot()
        legals = ["".join(map(legal, category(phrase))) for phrase in HOSTILE]
        assert [label.attrib["value"] for label in config.iter("Label")] == [*legals, "cat"]


def legal(character: str) -> str:
    number = ord(character)
    allowed = character in "\t\n\r" or 0x20 <= number < 0xD800 or 0xE000 <= number < 0xFFFE or number > 0xFFFF
    return character if allowed else "\ufffd"


@pytest.mark.parametrize("format", FORMATS)
def test_nothing_at_all_is_still_a_valid_file(format: str, tmp_path: Path) -> None:
    assert written([], format, tmp_path).exists()


@pytest.mark.parametrize("format", FORMATS)
def test_boxes_are_cut_to_the_picture_and_empty_ones_dropped(format: str, tmp_path: Path) -> None:
    boxes = tuple(Box(xyxy, (0, 0), 0.5) for xyxy in ((-5, -5, 5, 5), (9, 9, 9, 20), (20, 20, 30, 30)))
    results = [Grounding("a.jpg", "tester", 10, 10, "", (Entity("x", (0, 0), boxes, 1.0),))]
    path = written(results, format, tmp_path)
    text = "".join(
        file.read_text(encoding="utf-8")
        for file in (path.rglob("*") if path.is_dir() else [path])
        if file.is_file()
    )
    expected = {
        "coco": '"area": 25.0',
        "referring": '"area": 25.0',
        "yolo": "0 0.250000 0.250000 0.500000 0.500000\n",
        "voc": "<xmin>1</xmin><ymin>1</ymin><xmax>5</xmax><ymax>5</ymax>",
        "label-studio": '"width": 50.0',
        "csv": "0.0,0.0,5,5,0.5",
    }[format]
    assert text.count(expected) == 1
    assert text.count({"voc": "<object>", "label-studio": '"rotation"'}.get(format, expected)) == 1


def test_results_of_one_picture_are_one_record(tmp_path: Path) -> None:
    data = json.loads(written([result("a"), result("b")], "coco", tmp_path).read_text())
    assert len(data["images"]) == 1
    assert [annotation["image_id"] for annotation in data["annotations"]] == [1, 1]
    with pytest.raises(InputError, match=r"cat\.jpg: one result says 640 x 427 .* 1 x 1"):
        write([result("a"), result("b", width=1, height=1)], "coco", tmp_path / "x.json")


def test_two_pictures_cannot_share_a_label_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"p/cat\.png and p/cat\.jpg would both get the label file cat\.xml"):
        write([result("a", source="p/cat.jpg"), result("a", source="p/cat.png")], "voc", tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown format 'tfrecord'; one of: coco"):
        write([], "tfrecord", tmp_path / "x")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/keep.txt").write_text("mine")
    with pytest.raises(OutputError, match="not empty"):
        write([result("a")], "yolo", tmp_path / "full")
    assert (tmp_path / "full/keep.txt").read_text() == "mine"
    write([result("a")], "yolo", tmp_path / "full", overwrite=True)
    assert not (tmp_path / "full/keep.txt").exists()
    with pytest.raises(OutputError, match="too long"):
        write([result("a", source="x" * 400)], "voc", tmp_path / "long")


def test_random_texts_round_trip_in_json_xml_and_csv(tmp_path: Path) -> None:
    generator = random.Random(0)
    alphabet = string.printable + "éßΩ中🐕\u0000\u000b\ufeff"
    phrases = ["".join(generator.choices(alphabet, k=generator.randrange(30))) for _ in range(300)]
    phrases = list({category(phrase): phrase for phrase in phrases}.values())
    classes = list(map(category, phrases))
    for format in FORMATS:
        write([result(*phrases, width=10000)], format, tmp_path / format)
    coco = json.loads((tmp_path / "coco").read_text(encoding="utf-8"))
    assert [kind["name"] for kind in coco["categories"]] == classes
    with (tmp_path / "csv").open(encoding="utf-8", newline="") as file:
        assert [row["phrase"] for row in csv.DictReader(file)] == phrases
    xml = [name.text or "" for name in ET.parse(tmp_path / "voc/cat.xml").iter("name")]
    assert xml == ["".join(map(legal, phrase)) for phrase in classes]
    names = yaml.safe_load((tmp_path / "yolo/data.yaml").read_text(encoding="utf-8"))["names"]
    assert list(names.values()) == classes
