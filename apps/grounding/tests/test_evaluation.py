"""The evaluations, with pipelines whose answers are known, on small data sets made here; and through the command."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from multiway_core.errors import DataError, InputError
from multiway_grounding.evaluation import Files, evaluate_phrases, evaluate_task
from multiway_grounding.phrase_samples import ABSENT, PhraseSample, from_photographs, from_scenes
from multiway_grounding.text_evaluation import CIDER
from multiway_vision_language import metrics
from multiway_vision_language.datasets import read_yolo
from multiway_vision_language.locations import LocationGrid
from multiway_vision_language.pictures import open_picture
from multiway_vision_language.pipeline import GroundingPipeline
from multiway_vision_language.result import Box, Entity, Grounding
from multiway_vision_language.scenes.folder import save_scenes
from multiway_vision_language.scenes.scene import Scene, Thing
from PIL import Image


@dataclass
class Known:
    """A pipeline that knows the boxes of some phrases, and how sure it is of what."""

    boxes: dict[str, list[tuple[float, float, float, float]]] = field(default_factory=dict)
    present: dict[str, float] = field(default_factory=dict)
    text: str = "An image of a cat on a mat"
    answer: str = "yes"
    name: str = "known"
    grid: LocationGrid = field(default_factory=LocationGrid)
    asked: list[tuple[str, str]] = field(default_factory=list)

    def locate(self, picture: Any, phrases: list[str], *, threshold: float, before: str) -> Grounding:
        assert threshold == 0.0
        opened = open_picture(picture)
        self.asked.append((before, phrases[0]))
        found = tuple(Box(box, (0, 0), 0.5) for box in self.boxes.get(phrases[0], []))
        entity = Entity(phrases[0], (0, len(phrases[0])), found, self.present.get(phrases[0], 0.5))
        return Grounding("x", self.name, opened.width, opened.height, phrases[0], (entity,))

    def caption(self, picture: Any, *, grounded: bool) -> Grounding:
        assert not grounded
        open_picture(picture)
        return Grounding("x", self.name, 1, 1, self.text, ())

    def describe(self, picture: Any, box: tuple[float, float, float, float]) -> Grounding:
        opened = open_picture(picture)
        return Grounding("x", self.name, opened.width, opened.height, f"It is the thing at {box[0]:g}", ())

    def ask(self, picture: Any, question: str, *, grounded: bool) -> Grounding:
        assert not grounded
        return Grounding("x", self.name, 1, 1, self.answer, ())


def picture(path: Path, size: tuple[int, int] = (100, 100)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(path)
    return path


def as_json(path: Path, data: Any) -> Path:
    path.write_text(json.dumps(data))
    return path


def referring(folder: Path) -> Files:
    rows = [("large", [10, 10, 80, 80]), ("small", [2, 2, 4, 40]), ("lost", [0, 0, 50, 50])]
    images = [
        {"id": i, "file_name": "a.png", "width": 100, "height": 100, "caption": text}
        for i, (text, _) in enumerate(rows)
    ]
    annotations = [{"image_id": i, "bbox": box} for i, (_, box) in enumerate(rows)]
    picture(folder / "a.png")
    return Files(folder, as_json(folder / "a.json", {"images": images, "annotations": annotations}))


def test_refcoco_by_hand(tmp_path: Path) -> None:
    model = Known({"large": [(10, 10, 90, 50), (10, 10, 90, 90)], "small": [(2, 2, 6, 42)]})
    rows: list[Any] = []
    report = evaluate_task("refcoco", model, referring(tmp_path), on_sample=rows.append)  # type: ignore[arg-type]
    means = {key: metric.mean for key, metric in report.metrics.items()}
    assert report.n == len(rows) == 3
    assert means["acc@0.5"] == pytest.approx(2 / 3)  # the first box of "large" has exactly IoU 0.5
    assert means["iou"] == pytest.approx((0.5 + 1 + 0) / 3)
    # small's sides are 4 % and 40 %: 32 cells say it with IoU below one half or above, large ones well
    assert means["ceiling iou"] > 0.6
    assert means["random object"] == pytest.approx((1 / 3 + 1 / 3 + 1 / 3) / 3)
    assert means["largest object"] == pytest.approx(1 / 3)
    assert means["centre box"] == pytest.approx(1 / 3)
    assert report.groups["side 0.00 to 0.06 (below the grid)"]["acc@0.5"].mean == 1.0
    assert report.groups["side 0.50 to 1.00"]["acc@0.5"].n == 2
    assert "present AUC" not in means
    assert "present, absent" not in means
    report.save(tmp_path / "report")
    assert (tmp_path / "report" / "report.png").stat().st_size > 1000
    assert "| ceiling acc@0.5 |" in (tmp_path / "report" / "report.md").read_text()


def test_flickr30k_asks_with_the_sentence_so_far(tmp_path: Path) -> None:
    data = {
        "images": [
            {
                "id": 0,
                "file_name": "a.png",
                "width": 100,
                "height": 100,
                "caption": "Two dogs on grass",
                "original_img_id": 1,
                "sentence_id": 0,
                "tokens_positive_eval": [[[0, 8]], [[12, 17]]],
            }
        ],
        "annotations": [
            {"image_id": 0, "bbox": [0, 0, 20, 20], "tokens_positive": [[0, 8]]},
            {"image_id": 0, "bbox": [60, 0, 20, 20], "tokens_positive": [[0, 8]]},
            {"image_id": 0, "bbox": [0, 50, 100, 50], "tokens_positive": [[12, 17]]},
        ],
    }
    picture(tmp_path / "a.png")
    model = Known({"Two dogs": [(60, 0, 80, 20)], "grass": [(0, 0, 9, 9), (0, 50, 100, 100)]})
    files = Files(tmp_path, as_json(tmp_path / "a.json", data))
    report = evaluate_task("flickr30k", model, files)  # type: ignore[arg-type]
    assert model.asked == [("", "Two dogs"), ("Two dogs on ", "grass")]
    means = {key: metric.mean for key, metric in report.metrics.items()}
    assert (means["R@1"], means["R@5"], means["R@10"], means["R@1 merged"]) == (0.5, 1.0, 1.0, 0.0)


def photographs(folder: Path, count: int = 4) -> Files:
    (folder / "classes.txt").write_text("cat\ndog\nbus\n")
    for i in range(count):
        picture(folder / f"{i}.png")
        (folder / f"{i}.txt").write_text(f"{i % 2} 0.5 0.5 0.4 0.4\n")
    return Files(folder)


def test_photographs_ask_for_what_is_there_and_for_as_much_that_is_not(tmp_path: Path) -> None:
    files = photographs(tmp_path)
    cases = list(from_photographs(list(read_yolo(tmp_path)), 0))
    assert [case.phrase for case in cases] == ["the cat", "the dog", "the dog", "the cat"] * 2
    assert [bool(case.truths) for case in cases] == [True, False] * 4

    model = Known(
        {"the cat": [(30, 30, 70, 70)], "the dog": [(30, 30, 70, 70)]}, {"the cat": 0.9, "the dog": 0.1}
    )
    report = evaluate_task("photos", model, files)  # type: ignore[arg-type]
    means = {key: metric.mean for key, metric in report.metrics.items()}
    assert means["acc@0.5"] == 1.0
    assert report.metrics["acc@0.5"].n == 4
    assert means["present AUC"] == pytest.approx(0.5)  # the model always believes in cats
    # Every other picture has a cat and a threshold that dogs fail.
    assert (means["shown ones kept"], means["absent ones refused"]) == (0.0, 0.0)
    assert report.groups[ABSENT]["present, absent"].n == 4
    assert "acc@0.5" not in report.groups[ABSENT]


def test_presence_threshold_comes_from_other_pictures() -> None:
    image = Image.new("RGB", (10, 10))
    scores = {"a": 0.9, "b": 0.4, "c": 0.5, "d": 0.8}
    cases = [
        PhraseSample("p/0", image, 10, 10, "a", ((0, 0, 5, 5),)),
        PhraseSample("p/1", image, 10, 10, "b", ()),
        PhraseSample("q/0", image, 10, 10, "c", ((0, 0, 5, 5),)),
        PhraseSample("q/1", image, 10, 10, "d", ()),
    ]
    report = evaluate_phrases(Known(present=scores), cases, "x")  # type: ignore[arg-type]
    means = {key: metric.mean for key, metric in report.metrics.items()}
    assert means["threshold of the other half"] == pytest.approx(0.65)
    assert (means["shown ones kept"], means["absent ones refused"]) == (0.0, 0.0)
    assert means["present AUC"] == pytest.approx(3 / 4)
    assert means["AUC of the words alone"] == pytest.approx(0.5)  # no phrase occurs in both halves


def test_words_alone_are_a_baseline_of_presence() -> None:
    image = Image.new("RGB", (10, 10))
    here = ((0.0, 0.0, 5.0, 5.0),)
    cases = [
        case
        for place in range(4)
        for case in (
            PhraseSample(f"{place}/0", image, 10, 10, "the cat", here),
            PhraseSample(f"{place}/1", image, 10, 10, "a dog", ()),
        )
    ]
    report = evaluate_phrases(Known(), cases, "x")  # type: ignore[arg-type]
    assert report.metrics["present AUC"].mean == pytest.approx(0.5)
    assert report.metrics["AUC of the words alone"].mean == pytest.approx(1.0)


def test_scenes_have_kinds_and_absent_phrases() -> None:
    things = (
        Thing("cat", (0.1, 0.1, 0.3, 0.3), "red"),
        Thing("dog", (0.5, 0.1, 0.7, 0.3)),
        Thing("dog", (0.5, 0.6, 0.9, 0.9)),
    )
    scene = Scene(np.zeros((64, 64, 3), np.uint8), things)
    cases = list(from_scenes([scene, scene], ["cat", "dog", "bus", "tree", "key", "cup", "hat"], 0, "unseen"))
    kinds = {label for case in cases for label in case.labels}
    assert kinds == {"unseen, single", "unseen, several", "unseen, color", "unseen, relation", ABSENT}
    several = next(case for case in cases if case.labels == ("unseen, several",))
    assert len(several.truths) == 2
    assert several.truths[0] == pytest.approx((32, 6.4, 44.8, 19.2))
    assert all(len(case.objects) == 3 for case in cases if case.truths)
    assert not {"cat", "dog"} & {case.phrase.removeprefix("the ") for case in cases if not case.truths}
    report = evaluate_phrases(Known(), cases, "x", recall=True)  # type: ignore[arg-type]
    assert report.groups["unseen, single"]["R@1"].mean == 0.0


def test_scenes_of_a_folder_by_set(tmp_path: Path) -> None:
    scene = Scene(np.zeros((64, 64, 3), np.uint8), (Thing("cat", (0.25, 0.25, 0.75, 0.75)),))
    save_scenes(tmp_path / "s", {"seen": [scene] * 3, "unseen": [scene]}, ["cat", "bus", "key"])
    model = Known({phrase: [(16, 16, 48, 48)] for phrase in ("cat", "a cat", "the cat")})
    report = evaluate_task("bundled", model, Files(tmp_path / "s"), limit=2)  # type: ignore[arg-type]
    assert report.groups["seen, single"]["acc@0.5"].n == 2
    assert report.groups["unseen, single"]["acc@0.5"].mean == 1.0
    assert report.groups[ABSENT]["present, absent"].n == 3
    with pytest.raises(InputError, match=r"no scenes\.json"):
        evaluate_task("bundled", model, Files(tmp_path))  # type: ignore[arg-type]


def test_a_model_without_scenes_says_so(model: Path) -> None:
    with pytest.raises(InputError, match="brings no scenes to be measured on; give a folder"):
        evaluate_task("bundled", Known(name=str(model)), Files())  # type: ignore[arg-type]


def test_captions_lose_their_opening_and_are_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "has_meteor", lambda: False)  # Java takes long to start
    names = ["a.png", "b.png", "c.png"]
    captions = ["a cat on a mat", "two red cars on a road", "the boat at sea"]
    for name in names[:2]:
        picture(tmp_path / name)
    (tmp_path / "c.png").write_bytes(b"damaged")
    data = {
        "images": [{"id": i, "file_name": name} for i, name in enumerate(names)],
        "annotations": [{"image_id": i, "caption": text} for i, text in enumerate(captions)],
    }
    files = Files(tmp_path, as_json(tmp_path / "a.json", data))
    report = evaluate_task("caption", Known(), files)  # type: ignore[arg-type]
    assert (report.n, report.failed) == (3, 1)
    assert report.rows[0]["text"] == "a cat on a mat"
    assert report.rows[0]["metrics"]["CIDEr-D x 100"] == pytest.approx(1000)
    assert report.metrics["CIDEr-D x 100"].mean < 600
    assert report.metrics["another one's"].mean < 100
    assert 0 < report.metrics["BLEU-4"].mean < 1
    assert "error" in report.rows[2]


def test_descriptions_are_compared_with_all_expressions_of_the_box(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "has_meteor", lambda: False)
    files = referring(tmp_path)
    assert files.annotations is not None
    data = json.loads(files.annotations.read_text())
    data["images"].append({**data["images"][0], "id": 3, "caption": "a very large thing"})
    data["annotations"].append({**data["annotations"][0], "image_id": 3})
    as_json(files.annotations, data)
    model = Known()
    report = evaluate_task("describe", model, files, limit=2)  # type: ignore[arg-type]
    assert [row["name"] for row in report.rows] == ["a.png/0", "a.png/1"]
    assert [row["text"] for row in report.rows] == ["the thing at 10", "the thing at 2"]
    assert report.rows[0]["metrics"][CIDER] > 0  # "thing" is in the second expression of the first box
    assert report.rows[1]["metrics"][CIDER] == 0


def test_answers_by_type(tmp_path: Path) -> None:
    picture(tmp_path / "COCO_val2014_000000000001.jpg")
    asked = [{"image_id": 1, "question": "Is it?", "question_id": i} for i in range(2)]
    answers = [
        {"question_id": 0, "answer_type": "yes/no", "answers": [{"answer": "yes"}] * 10},
        {
            "question_id": 1,
            "answer_type": "other",
            "answers": [{"answer": "red"}] * 8 + [{"answer": "yes"}] * 2,
        },
    ]
    files = Files(
        tmp_path,
        as_json(tmp_path / "a.json", {"annotations": answers}),
        questions=as_json(tmp_path / "q.json", {"data_subtype": "val2014", "questions": asked}),
    )
    report = evaluate_task("vqa", Known(answer="Red."), files)  # type: ignore[arg-type]
    assert report.metrics["accuracy"].mean == pytest.approx(0.5)
    assert report.groups["yes/no"]["accuracy"].mean == 0.0
    assert report.groups["yes/no"]['always "yes"'].mean == 1.0


def test_without_pictures_photos_are_the_apps_own() -> None:
    known = Known({"the pizza": [(50.0, 33.0, 640.0, 426.0)]}, present={"the pizza": 0.9})
    report = evaluate_task("photos", known, Files())  # type: ignore[arg-type]
    shown = [row for row in report.rows if row["metrics"]["acc@0.5"] is not None]
    assert len(shown) >= 20
    assert [row["name"] for row in shown if row["metrics"]["acc@0.5"]] == ["pizza.jpg/0"]
    assert report.metrics["present AUC"].n == 2 * len(shown)


@pytest.mark.parametrize(
    ("task", "files", "options", "message"),
    [
        ("refcoco", {}, {}, "refcoco needs --annotations FILE"),
        ("vqa", {"annotations": "a.json"}, {}, "vqa needs --questions FILE"),
        ("refcoco", {"annotations": "none.json"}, {}, r"--annotations .*none\.json: no such file"),
        ("imagenet", {"images": None}, {}, "imagenet needs --images DIR"),
        ("photos", {"images": "none"}, {}, r"--images .*none: no such folder"),
        ("photos", {}, {"limit": 0}, "--limit 0: must be at least 1"),
    ],
)
def test_options_that_do_not_fit(
    tmp_path: Path, task: Any, files: dict[str, str | None], options: dict[str, int], message: str
) -> None:
    (tmp_path / "a.json").write_text("{}")
    paths = {"images": tmp_path, **{key: value and tmp_path / value for key, value in files.items()}}
    with pytest.raises(InputError, match=message):
        evaluate_task(task, Known(), Files(**paths), **options)  # type: ignore[arg-type]


def test_broken_sets_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no class names"):
        evaluate_task("photos", Known(), Files(tmp_path))  # type: ignore[arg-type]
    files = referring(tmp_path)
    (tmp_path / "a.png").unlink()
    with pytest.raises(DataError, match=r"no picture .*a\.png"):
        evaluate_task("refcoco", Known(), files)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="holds no sample"):
        evaluate_task("refcoco", Known(), Files(tmp_path, files.annotations, skip_missing=True))  # type: ignore[arg-type]


def test_a_real_pipeline_through_the_command(call, model: Path, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    photographs(tmp_path / "set", 2)
    code, out, err = call(
        "evaluate",
        "photos",
        "--images",
        tmp_path / "set",
        "--model",
        model,
        "--json",
        "--output",
        tmp_path / "r",
    )
    assert (code, err) == (0, "")
    report = json.loads(out)
    assert report["n"] == 4
    assert report["metrics"]["acc@0.5"]["n"] == 2
    assert {path.name for path in (tmp_path / "r").iterdir()} == {"report.json", "report.md", "report.png"}
    with_sentence = GroundingPipeline.from_pretrained(str(model)).locate(
        tmp_path / "set" / "0.png", ["grass"], threshold=0.0, before="A dog on "
    )
    assert with_sentence.entities[0].phrase == "grass"
    assert with_sentence.tagged.startswith("<grounding>A dog on <phrase>grass</phrase>")
    code, out, err = call("evaluate", "refcoco", "--images", tmp_path / "set", "--model", model)
    assert code == 2
    assert "refcoco needs --annotations FILE" in err


def test_random_boxes_score_like_chance() -> None:
    rng = random.Random(0)
    image = Image.new("RGB", (100, 100))
    boxes = [(float(x), 0.0, float(x + 20), 20.0) for x in (0, 40, 80)]
    cases = [
        PhraseSample(f"{i}", image, 100, 100, f"phrase {i}", (rng.choice(boxes),), tuple(boxes))
        for i in range(600)
    ]
    model = Known({f"phrase {i}": [rng.choice(boxes)] for i in range(600)})
    report = evaluate_phrases(model, cases, "x")  # type: ignore[arg-type]
    chance = report.metrics["random object"].mean
    assert chance == pytest.approx(1 / 3)
    low, high = report.metrics["acc@0.5"].low, report.metrics["acc@0.5"].high
    assert low is not None
    assert high is not None
    assert low - 0.02 < chance < high + 0.02
