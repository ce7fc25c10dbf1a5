"""Every data set layout, read from small samples made here; what a broken file is told; and the shared real ones."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from multiway_core.errors import DataError
from multiway_vision_language.datasets import (
    DetectionSample,
    NamedObject,
    absent,
    read_captions,
    read_coco,
    read_flickr30k,
    read_refcoco,
    read_voc,
    read_vqa,
    read_yolo,
    unambiguous,
)
from multiway_vision_language.datasets.flickr30k import parse_sentence
from multiway_vision_language.export import write
from multiway_vision_language.result import Box, Entity, Grounding
from PIL import Image

SHARED = Path(__file__).parents[3].parent / "shared" / "data" / "images"
needs_shared_data = pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data")


def put(path: Path, content: Any) -> Path:
    """A file with the content: a picture for a size, JSON for data, else text or bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, tuple):
        Image.new("RGB", content).save(path)
    elif isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def change(data: Any, place: list[str | int], value: Any) -> Any:
    """A deep copy of JSON data with another value at the place; ``...`` takes the key away."""
    data = holder = json.loads(json.dumps(data))
    for key in place[:-1]:
        holder = holder[key]
    if value is ...:
        del holder[place[-1]]
    else:
        holder[place[-1]] = value
    return data


REFCOCO = {
    "images": [
        {"id": 7, "file_name": "COCO_train2014_000000000009.jpg", "width": 40, "height": 30, "caption": "left cup",
         "dataset_name": "refcoco", "original_id": 9},
        {"id": 8, "file_name": "COCO_train2014_000000000009.jpg", "width": 40, "height": 30, "caption": "the table",
         "dataset_name": "refcoco", "original_id": 9},
    ],
    "annotations": [
        {"id": 1, "image_id": 7, "bbox": [1, 2, 3.5, 4], "category_id": 1},
        {"id": 2, "image_id": 8, "bbox": [0, 0, 40, 30], "category_id": 1},
    ],
}  # fmt: skip


def test_refcoco(tmp_path: Path) -> None:
    file = put(tmp_path / "a.json", REFCOCO)
    put(tmp_path / "train2014" / "COCO_train2014_000000000009.jpg", (40, 30))
    first, second = read_refcoco(file, tmp_path)
    assert (first.name, first.caption, first.width, first.height) == ("7", "left cup", 40, 30)
    assert first.phrases[0].text == "left cup"
    assert first.phrases[0].span == (0, 8)
    assert first.phrases[0].boxes == ((1, 2, 4.5, 6),)
    assert first.objects == second.objects == ((1, 2, 4.5, 6), (0, 0, 40, 30))
    assert first.image_path.is_file()


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (["images"], ..., r"a\.json: missing key 'images'"),
        (["images", 1, "caption"], ..., r"a\.json\.images\[1\]: missing key 'caption'"),
        (["images", 0, "width"], 0, r"images\[0\]: expected width and height of at least 1, got 0 and 30"),
        (["images", 0, "width"], "40", r"images\[0\]\.width: expected a whole number, got '40'"),
        (["images", 0, "file_name"], "../x.jpg", r"images\[0\]: expected a name inside the picture folder"),
        (["images", 0, "file_name"], "/etc/x.jpg", r"expected a name inside the picture folder"),
        (["images", 0, "file_name"], "x" * 5000, r"cannot be a file name|no picture"),
        (["images", 0, "file_name"], "a\0b", r"cannot be a file name|no picture"),
        (["images", 0, "id"], 99, r"images\[0\]: no annotation has image_id 99"),
        (["images", 0, "id"], None, r"images\[0\]\.id: expected a whole number or a string"),
        (
            ["annotations", 1, "bbox"],
            [1, 2, 3],
            r"annotations\[1\]\.bbox: expected \[left, top, width, height\]",
        ),
        (["annotations", 1, "bbox"], [1, 2, -3, 4], r"annotations\[1\]\.bbox: expected a width and a height"),
        (["annotations", 1, "bbox"], [1, 2, None, 4], r"annotations\[1\]\.bbox: expected a number, got None"),
        (["annotations"], {}, r"annotations: expected a list"),
    ],
)
def test_refcoco_mistakes(tmp_path: Path, place: list[str | int], value: Any, message: str) -> None:
    file = put(tmp_path / "a.json", change(REFCOCO, place, value))
    put(tmp_path / "COCO_train2014_000000000009.jpg", (40, 30))
    with pytest.raises(DataError, match=message):
        list(read_refcoco(file, tmp_path))


def test_missing_pictures_are_an_error_or_left_out(tmp_path: Path) -> None:
    file = put(tmp_path / "a.json", REFCOCO)
    with pytest.raises(
        DataError, match=r"images\[0\]: no picture .*COCO_train2014_000000000009\.jpg; give the"
    ):
        list(read_refcoco(file, tmp_path))
    assert list(read_refcoco(file, tmp_path, skip_missing=True)) == []
    put(tmp_path / "b.json", '{"images": [\n}')
    with pytest.raises(DataError, match=r"b\.json:2: not JSON"):
        list(read_refcoco(tmp_path / "b.json", tmp_path))
    with pytest.raises(DataError, match=r"cannot read .*none\.json: No such file"):
        list(read_refcoco(tmp_path / "none.json", tmp_path))


def test_exported_referring_files_are_read_back(tmp_path: Path) -> None:
    boxes = (Box((1, 2, 30.5, 20), (0, 9), 0.5), Box((5, 6, 9, 9), (1, 1), 0.25))
    entity = Entity('two <odd> "cups"', (0, 0), boxes, 1.0)
    write([Grounding("cup.jpg", "m", 40, 30, "", (entity,))], "referring", tmp_path / "a.json")
    put(tmp_path / "cup.jpg", (40, 30))
    (sample,) = read_refcoco(tmp_path / "a.json", tmp_path)
    assert sample.phrases[0].text == entity.phrase
    assert sample.phrases[0].boxes == tuple(box.xyxy for box in boxes)


CAPTION = "A dog and a dog on grass ."
FLICKR = {
    "images": [
        {
            "id": 0, "file_name": "55.jpg", "width": 40, "height": 30, "caption": CAPTION, "original_img_id": 55,
            "sentence_id": 1, "tokens_positive_eval": [[[0, 5]], [[19, 24]], [[10, 15], [0, 1]]],
        },
        {
            "id": 1, "file_name": "55.jpg", "width": 40, "height": 30, "caption": "x", "original_img_id": 55,
            "sentence_id": 0, "tokens_positive_eval": [],
        },
    ],
    "annotations": [
        {"image_id": 0, "bbox": [0, 0, 10, 10], "tokens_positive": [[0, 5]]},
        {"image_id": 0, "bbox": [20, 0, 10, 10], "tokens_positive": [[10, 15]]},
        {"image_id": 0, "bbox": [0, 20, 40, 10], "tokens_positive": [[19, 24]]},
        {"image_id": 0, "bbox": [5, 20, 10, 10], "tokens_positive": [[19, 24]]},
    ],
}  # fmt: skip
SENTENCES = "x\n[/EN#1/animals A dog] and [/EN#2/animals a dog] on [/EN#3/scene/other grass] .\n"
BOXES = """<annotation><size><width>40</width></size>
<object><name>1</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>10</xmax><ymax>10</ymax></bndbox></object>
<object><name>2</name><name>3</name><bndbox><xmin>20</xmin><ymin>1</ymin><xmax>30</xmax><ymax>10</ymax></bndbox></object>
<object><name>3</name><bndbox><xmin>1</xmin><ymin>20</ymin><xmax>40</xmax><ymax>30</ymax></bndbox></object>
<object><name>4</name><scene>1</scene><nobndbox>1</nobndbox></object>
</annotation>"""


@pytest.fixture
def flickr(tmp_path: Path) -> Path:
    put(tmp_path / "flickr.json", FLICKR)
    put(tmp_path / "55.jpg", (40, 30))
    put(tmp_path / "entities" / "Sentences" / "55.txt", SENTENCES)
    put(tmp_path / "entities" / "Annotations" / "55.xml", BOXES)
    return tmp_path


def test_flickr30k_from_the_json_file_alone(flickr: Path) -> None:
    (sample,) = read_flickr30k(flickr / "flickr.json", flickr)
    assert [(phrase.text, phrase.span) for phrase in sample.phrases] == [
        ("A dog", (0, 5)),
        ("grass", (19, 24)),
        ("a dog", (10, 15)),
    ]
    assert sample.phrases[1].boxes == ((0, 20, 40, 30), (5, 20, 15, 30))
    assert sample.phrases[1].categories == ()
    assert len(sample.objects) == 4


def test_flickr30k_by_its_own_annotations(flickr: Path) -> None:
    (sample,) = read_flickr30k(flickr / "flickr.json", flickr, entities=flickr / "entities")
    assert sample.name == "55_1"
    assert [(phrase.text, phrase.categories) for phrase in sample.phrases] == [
        ("A dog", ("animals",)),
        ("grass", ("scene", "other")),
        ("a dog", ("animals",)),
    ]
    assert sample.phrases[1].boxes == ((20, 1, 30, 10), (1, 20, 40, 30))


def test_flickr30k_takes_the_first_of_equal_phrases(flickr: Path) -> None:
    twice = SENTENCES.replace("A dog", "a dog")
    put(flickr / "entities" / "Sentences" / "55.txt", twice)
    data = change(FLICKR, ["images", 0, "caption"], CAPTION.replace("A dog", "a dog"))
    (sample,) = read_flickr30k(put(flickr / "b.json", data), flickr, entities=flickr / "entities")
    assert sample.phrases[0].boxes == sample.phrases[2].boxes == ((1, 1, 10, 10),)


def test_flickr30k_sentences() -> None:
    sentence, phrases = parse_sentence("[/EN#12/people Two  men] in [/EN#0/notvisual it] .")
    assert sentence == "Two men in it ."
    assert [(phrase.text, phrase.entity) for phrase in phrases] == [("Two men", "12"), ("it", "0")]


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (
            ["images", 0, "tokens_positive_eval", 0],
            [[0, 99]],
            r"tokens_positive_eval\[0\]: expected \[\[start",
        ),
        (["images", 0, "tokens_positive_eval", 0], [[3, 3]], r"tokens_positive_eval\[0\]"),
        (
            ["images", 0, "tokens_positive_eval", 0],
            [5],
            r"tokens_positive_eval\[0\]: expected \[start, end\]",
        ),
        (["images", 0, "tokens_positive_eval", 0], [], r"tokens_positive_eval\[0\]"),
        (["images", 0, "sentence_id"], 5, r"55\.txt: no sentence 5, which .*images\[0\] names; it has 2"),
        (["images", 0, "original_img_id"], 56, r"cannot read .*56\.xml"),
        (["images", 0, "caption"], "B" + CAPTION[1:], r"55\.txt: no phrase 'B dog' with a box in sentence 1"),
        (["annotations", 0, "tokens_positive"], 3, r"annotations\[0\]\.tokens_positive: expected a list"),
    ],
)
def test_flickr30k_mistakes(flickr: Path, place: list[str | int], value: Any, message: str) -> None:
    file = put(flickr / "b.json", change(FLICKR, place, value))
    with pytest.raises(DataError, match=message):
        list(read_flickr30k(file, flickr, entities=flickr / "entities"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("<a>\n<b></a>", r"55\.xml:2: not XML"),
        ("", r"55\.xml:1: not XML"),
        (BOXES.replace("<xmin>20", "<xmin>x"), r"55\.xml: object 1\.xmin: expected a number, got 'x'"),
        (BOXES.replace("<xmin>20</xmin>", ""), r"55\.xml: object 1\.xmin: expected a number, got None"),
        (b'<?xml version="1.0" encoding="nonsense"?><a/>', r"55\.xml.*not XML"),
    ],
)
def test_flickr30k_broken_boxes(flickr: Path, content: Any, message: str) -> None:
    put(flickr / "entities" / "Annotations" / "55.xml", content)
    with pytest.raises(DataError, match=message):
        list(read_flickr30k(flickr / "flickr.json", flickr, entities=flickr / "entities"))


def test_captions_of_coco_and_of_karpathy(tmp_path: Path) -> None:
    coco = put(
        tmp_path / "coco.json",
        {
            "images": [{"id": 5, "file_name": "a.jpg"}, {"id": 6, "file_name": "b.jpg"}],
            "annotations": [
                {"image_id": 5, "caption": "one"},
                {"image_id": 6, "caption": "two"},
                {"image_id": 5, "caption": "three"},
            ],
        },
    )
    put(tmp_path / "a.jpg", (4, 4))
    (sample,) = read_captions(coco, tmp_path, skip_missing=True)
    assert (sample.name, sample.captions) == ("5", ("one", "three"))
    with pytest.raises(DataError, match=r"images\[1\]: no picture .*b\.jpg"):
        list(read_captions(coco, tmp_path))

    rows = [
        {"filename": "a.jpg", "split": "test", "sentences": [{"raw": "A cat."}]},
        {"filename": "b.jpg", "split": "train", "sentences": [{"raw": "A dog."}]},
    ]
    karpathy = put(tmp_path / "k.json", {"images": rows})
    (sample,) = read_captions(karpathy, tmp_path)
    assert (sample.name, sample.captions) == ("a.jpg", ("A cat.",))
    with pytest.raises(DataError, match=r"no picture of the split 'val'; it has test, train"):
        list(read_captions(karpathy, tmp_path, split="val"))
    rows[0]["sentences"] = [{"tokens": []}]
    with pytest.raises(DataError, match=r"images\[0\]\.sentences\[0\]: missing key 'raw'"):
        list(read_captions(put(karpathy, {"images": rows}), tmp_path))


def test_vqa(tmp_path: Path) -> None:
    questions = put(
        tmp_path / "q.json",
        {"data_subtype": "val2014", "questions": [{"image_id": 42, "question": "Why?", "question_id": 420}]},
    )
    annotation = {
        "question_id": 420,
        "answer_type": "other",
        "answers": [{"answer": "yes"}, {"answer": "no"}],
    }
    annotations = put(tmp_path / "a.json", {"annotations": [annotation]})
    put(tmp_path / "val2014" / "COCO_val2014_000000000042.jpg", (4, 4))
    (sample,) = read_vqa(questions, annotations, tmp_path)
    assert (sample.name, sample.question, sample.answers, sample.answer_type) == (
        "420",
        "Why?",
        ("yes", "no"),
        "other",
    )
    put(annotations, {"annotations": [{**annotation, "question_id": 1}]})
    with pytest.raises(DataError, match=r"a\.json: no answer to question 420, which .*questions\[0\] asks"):
        list(read_vqa(questions, annotations, tmp_path))


@pytest.mark.parametrize("names", ["classes.txt", "data.yaml", "list.yml"])
@pytest.mark.parametrize("apart", [False, True])
def test_yolo(tmp_path: Path, names: str, apart: bool) -> None:
    texts = {
        "classes.txt": "cat\ntraffic light\n",
        "data.yaml": "train: x\nnames:\n  0: cat\n  1: traffic light\n",
        "list.yml": "names: [cat, traffic light]\n",
    }
    put(tmp_path / names, texts[names])
    images, labels = (tmp_path / "images", tmp_path / "labels") if apart else (tmp_path, tmp_path)
    put(images / "b.png", (100, 50))
    put(images / "a.jpg", (100, 50))
    put(labels / "b.txt", "1 0.5 0.5 0.2 0.4\n\n0 0.1 0.1 0.2 0.2 0.9\n")
    nothing, sample = read_yolo(tmp_path)
    assert nothing.objects == ()
    assert (sample.name, sample.width, sample.height) == ("b.png", 100, 50)
    assert [item.name for item in sample.objects] == ["traffic light", "cat"]
    assert sample.objects[0].box == pytest.approx((40, 15, 60, 35))


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.jpg": (4, 4)}, r"no class names; expected classes\.txt, or a YAML"),
        ({"classes.txt": "x\n"}, r"no pictures"),
        ({"classes.txt": "x\n", "a.jpg": b"no picture"}, r"a\.jpg: the picture is damaged"),
        (
            {"classes.txt": "x\n", "a.jpg": (4, 4), "a.txt": "\n1 0 0 1 1"},
            r"a\.txt:2: expected a class from 0 to 0",
        ),
        (
            {"classes.txt": "x\n", "a.jpg": (4, 4), "a.txt": "0 0 0 1"},
            r"a\.txt:1: expected class cx cy width",
        ),
        ({"classes.txt": "x\n", "a.jpg": (4, 4), "a.txt": "0 0 0 1 nan"}, r"a\.txt:1: expected a number"),
        ({"classes.txt": "x\n", "a.jpg": (4, 4), "a.txt": "0 0 0 1 -1"}, r"a\.txt:1: expected a width"),
        ({"x.yaml": "names: {a: b}\n", "a.jpg": (4, 4)}, r"x\.yaml: names: expected a number and a name"),
        ({"x.yaml": "names: [\n", "a.jpg": (4, 4)}, r"x\.yaml: not YAML"),
    ],
)
def test_yolo_mistakes(tmp_path: Path, files: dict[str, Any], message: str) -> None:
    for name, content in files.items():
        put(tmp_path / name, content)
    with pytest.raises(DataError, match=message) as caught:
        list(read_yolo(tmp_path))
    assert "\n" not in str(caught.value)


def test_exported_yolo_and_voc_folders_are_read_back(tmp_path: Path) -> None:
    entity = Entity("a <b> & c", (0, 0), (Box((10, 5, 60, 25), (0, 9), 0.5),), 1.0)
    results = [Grounding("x.png", "m", 100, 50, "", (entity,))]
    write(results, "yolo", tmp_path / "yolo")
    write(results, "voc", tmp_path / "voc")
    put(tmp_path / "yolo" / "images" / "x.png", (100, 50))
    put(tmp_path / "voc" / "x.png", (100, 50))
    (yolo,), (voc,) = read_yolo(tmp_path / "yolo"), read_voc(tmp_path / "voc")
    assert yolo.objects[0].name == voc.objects[0].name == "<b> & c"
    assert yolo.objects[0].box == pytest.approx((10, 5, 60, 25), abs=1e-3)
    assert voc.objects[0].box == (10, 5, 60, 25)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "<annotation><object><name>x</name></object></annotation>",
            r"a\.xml: object 0\.xmin: expected a number",
        ),
        (
            "<annotation><object><name/><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox>"
            "</object></annotation>",
            r"a\.xml: object 0: expected a name",
        ),
        ("<annotation><filename>b.jpg</filename></annotation>", r"a\.xml: no picture .*b\.jpg"),
        ("<annotation", r"a\.xml:1: not XML"),
    ],
)
def test_voc_mistakes(tmp_path: Path, content: str, message: str) -> None:
    put(tmp_path / "a.jpg", (4, 4))
    put(tmp_path / "a.xml", content)
    with pytest.raises(DataError, match=message):
        list(read_voc(tmp_path))


COCO = {
    "images": [{"id": 1, "file_name": "a.jpg", "width": 40, "height": 30}],
    "categories": [{"id": 3, "name": "cat"}, {"id": 9, "name": "person"}],
    "annotations": [
        {"image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4], "iscrowd": 0},
        {"image_id": 1, "category_id": 9, "bbox": [0, 0, 9, 9], "iscrowd": 1},
    ],
}


def test_coco_instances(tmp_path: Path) -> None:
    put(tmp_path / "a.jpg", (40, 30))
    (sample,) = read_coco(put(tmp_path / "a.json", COCO), tmp_path)
    assert sample.objects == (
        NamedObject("cat", (1, 2, 4, 6)),
        NamedObject("person", (0, 0, 9, 9), crowd=True),
    )
    broken = put(tmp_path / "b.json", change(COCO, ["annotations", 0, "category_id"], 4))
    with pytest.raises(DataError, match=r"annotations\[0\]\.category_id: no category has the id 4"):
        list(read_coco(broken, tmp_path))


def test_phrases_of_objects() -> None:
    objects = (
        NamedObject("cat", (1, 2, 4, 6)),
        NamedObject("dog", (0, 0, 9, 9)),
        NamedObject("dog", (1, 1, 9, 9)),
        NamedObject("person", (0, 0, 9, 9), crowd=True),
    )
    sample = DetectionSample("a.jpg", Path("a.jpg"), 40, 30, objects)
    found = unambiguous(sample)
    assert found is not None
    assert [(phrase.text, phrase.boxes, phrase.categories) for phrase in found.phrases] == [
        ("the cat", ((1, 2, 4, 6),), ("cat",))
    ]
    assert len(found.objects) == 3
    assert unambiguous(DetectionSample("b", Path("b"), 1, 1, objects[1:])) is None
    names = ["cat", "dog", "person", "bus", "tie", "boat"]
    phrases = absent(sample, names, 2, seed=1)
    assert len(phrases) == 2
    assert set(phrases) < {"the bus", "the tie", "the boat"}
    assert absent(sample, names, 2, seed=1) == phrases
    assert len(absent(sample, names, 99)) == 3


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def places(data: Any) -> list[list[str | int]]:
    """The paths of all values inside JSON data."""
    items: list[tuple[str | int, Any]] = []
    if isinstance(data, dict):
        items = list(data.items())
    elif isinstance(data, list):
        items = list(enumerate(data))
    return [[key, *rest] for key, value in items for rest in ([], *places(value))]


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(data=st.data())
def test_nothing_but_a_data_error_escapes(flickr: Path, data: st.DataObject) -> None:
    kinds = (
        (REFCOCO, lambda file: read_refcoco(file, flickr)),
        (FLICKR, lambda file: read_flickr30k(file, flickr, entities=flickr / "entities")),
        (FLICKR, lambda file: read_flickr30k(file, flickr)),
        (COCO, lambda file: read_coco(file, flickr)),
        (FLICKR, lambda file: read_captions(file, flickr)),
    )
    example, reader = data.draw(st.sampled_from(kinds))
    place = data.draw(st.sampled_from(places(example)))
    file = put(flickr / "fuzz.json", change(example, place, data.draw(json_values)))
    try:
        list(reader(file))
    except DataError as error:
        assert not re.search(r"[\n\0]", str(error))  # noqa: PT017


@pytest.mark.shared_data
@needs_shared_data
def test_shared_photographs() -> None:
    yolo = list(read_yolo(SHARED / "coco128"))
    assert len(yolo) == 128
    phrases = [phrase for sample in yolo if (found := unambiguous(sample)) for phrase in found.phrases]
    assert len(phrases) == 216
    voc = list(read_voc(SHARED / "raccoon"))
    assert len(voc) == 16
    assert {item.name for sample in voc for item in sample.objects} == {"raccoon"}
    mini = SHARED / "coco-mini"
    coco = list(read_coco(mini / "annotations/instances_val2017.json", mini / "val2017", skip_missing=True))
    assert len(coco) == 23  # of 40 pictures, which the annotations do not all name
    captions = list(
        read_captions(mini / "annotations/captions_val2017.json", mini / "val2017", skip_missing=True)
    )
    assert all(len(sample.captions) >= 5 for sample in captions)
    inside = [
        -0.01 <= box[0] < box[2] <= sample.width + 0.5 and -0.01 <= box[1] < box[3] <= sample.height + 0.5
        for sample in [*yolo, *coco]
        for box in [item.box for item in sample.objects]
    ]
    assert all(inside)
