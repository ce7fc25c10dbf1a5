"""Fine-tuning for every task: readers of published files, exact metrics, training that repeats, folders that reload."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from multiway_core.errors import ConfigError, DataError, InputError
from multiway_core.training import TrainOptions, run
from multiway_vision_language.metrics.retrieval import retrieval_recall
from multiway_vision_language.tasks import model_folder
from multiway_vision_language.tasks.examples import answer_scores, labels_of, read_examples
from multiway_vision_language.tasks.objective import answers, captions, score
from multiway_vision_language.tasks.pretraining import RECIPES as PRETRAINING
from multiway_vision_language.tasks.recipe import RECIPES
from multiway_vision_language.tasks.shapes import make_examples, scene
from PIL import Image

SMOKE = dataclasses.replace(
    RECIPES["pairs-smoke"], scenes=120, train=dataclasses.replace(RECIPES["pairs-smoke"].train, steps=3)
)


@pytest.mark.parametrize(
    ("arch", "task"),
    [
        ("beit3", "retrieval"),
        ("beit3", "vqa"),
        ("beit3", "nlvr2"),
        ("beit3", "caption"),
        ("beit3", "imagenet"),
        ("vlmo", "retrieval"),
        ("vlmo", "nlvr2"),
        ("dide", "vqa"),
    ],
)
def test_every_task_trains_and_its_folder_is_read_again(tmp_path: Path, arch: str, task: str) -> None:
    recipe = dataclasses.replace(SMOKE, arch=arch, task=task)
    report = run(recipe, TrainOptions(tmp_path))
    assert report.finished
    assert all(0 <= value <= 10 for value in report.held_out.values())
    model = model_folder.load(report.folder)
    assert (model.arch, model.task) == (arch, task)
    examples = make_examples(task, 3, 7)
    if task == "caption":
        assert all(isinstance(text, str) for text in captions(model, examples))
    elif task != "retrieval":
        assert set(answers(model, examples)) <= set(model.labels)
    assert score(model, examples)


@pytest.mark.parametrize("arch", ["beit3", "vl-beit", "vlmo", "dide"])
def test_pretraining_repeats_and_is_fine_tuned(tmp_path: Path, arch: str) -> None:
    smoke = PRETRAINING["pretrain-smoke"]
    recipe = dataclasses.replace(
        smoke, arch=arch, scenes=120, train=dataclasses.replace(smoke.train, steps=2, learning_rate=1e-3)
    )
    reports = [run(recipe, TrainOptions(tmp_path / name)) for name in ("first", "second")]
    first, second = ((report.folder / "model.safetensors").read_bytes() for report in reports)
    assert first == second
    assert torch.isfinite(torch.tensor(list(reports[0].held_out.values()))).all()
    family = "beit3" if arch == "vl-beit" else arch
    start = model_folder.load(reports[0].folder).network.state_dict()
    start = {name.removeprefix("student."): tensor for name, tensor in start.items()}
    train = dataclasses.replace(SMOKE.train, steps=1, learning_rate=1e-9)
    tuned = dataclasses.replace(SMOKE, arch=family, task="nlvr2", train=train)
    options = TrainOptions(tmp_path / "tuned", init_from=str(reports[0].folder))
    found = model_folder.load(run(tuned, options).folder).network.state_dict()
    shared = [name for name in found if name in start and found[name].shape == start[name].shape]
    assert len(shared) > 20
    for name in shared:
        torch.testing.assert_close(found[name], start[name], atol=1e-5, rtol=0)


def test_both_of_dide_begin_with_what_was_pretrained(tmp_path: Path) -> None:
    train = dataclasses.replace(PRETRAINING["pretrain-smoke"].train, steps=2)
    smoke = dataclasses.replace(PRETRAINING["pretrain-smoke"], arch="dide", scenes=120, train=train)
    stopped = run(smoke, TrainOptions(tmp_path / "first", minutes=1e-6))
    assert not stopped.finished
    folder = run(smoke, TrainOptions(tmp_path / "first")).folder
    whole = run(smoke, TrainOptions(tmp_path / "whole")).folder
    for name in ("model.safetensors", "teacher/model.safetensors"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes()
    teacher = model_folder.load(folder / "teacher")
    assert set(answers(teacher, make_examples("retrieval", 2, 7))) <= {"no", "yes"}
    tuned = dataclasses.replace(SMOKE, arch="dide", task="vqa")
    jobs = tuned.build(TrainOptions(tmp_path / "tuned", init_from=str(folder)))
    for job, source in zip(jobs, (teacher.network, model_folder.load(folder).network.student), strict=True):
        name = next(n for n in source.state_dict() if n.endswith("layers.0.attention.query.weight"))
        torch.testing.assert_close(job.model.state_dict()[name], source.state_dict()[name], atol=0, rtol=0)
    (folder / "teacher" / "model.safetensors").unlink()
    (folder / "teacher" / "config.json").unlink()
    retrieval = dataclasses.replace(SMOKE, arch="dide", train=dataclasses.replace(SMOKE.train, steps=1))
    assert run(retrieval, TrainOptions(tmp_path / "retrieval", init_from=str(folder))).finished
    with pytest.raises(InputError, match="expected dide"):
        run(retrieval, TrainOptions(tmp_path / "other", init_from=str(teacher_folder(tmp_path))))


def teacher_folder(tmp_path: Path) -> Path:
    """A fusion encoder's folder."""
    return tmp_path / "whole" / "model" / "teacher"


def test_vlmo_stages_leave_what_they_freeze(tmp_path: Path) -> None:
    smoke = dataclasses.replace(PRETRAINING["pretrain-smoke"], arch="vlmo", scenes=120)
    jobs = smoke.build(TrainOptions(tmp_path, steps=1))
    learning = {job.name: {n for n, p in job.model.named_parameters() if p.requires_grad} for job in jobs}
    assert list(learning) == ["visual-words", "image", "text", ""]
    assert not any(".experts.text." in name or "text_embedding" in name for name in learning["image"])
    assert not any(".attention." in name or ".experts.image." in name for name in learning["text"])
    assert any(".experts.pair." in name for name in learning[""])


def test_training_repeats_to_the_bit_and_learns(tmp_path: Path) -> None:
    train = dataclasses.replace(SMOKE.train, steps=6)
    recipe = dataclasses.replace(SMOKE, arch="vlmo", task="vqa", train=train)
    first, second = (run(recipe, TrainOptions(tmp_path / name)).folder for name in "ab")
    assert (first / "model.safetensors").read_bytes() == (second / "model.safetensors").read_bytes()


def test_an_architecture_without_the_head_says_who_has_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="vlmo has heads for retrieval, vqa, nlvr2; caption is for beit3"):
        run(dataclasses.replace(SMOKE, arch="vlmo", task="caption"), TrainOptions(tmp_path))
    with pytest.raises(ConfigError, match="beit3 has the sizes"):
        run(dataclasses.replace(SMOKE, size="huge"), TrainOptions(tmp_path))


def test_recall_is_exact() -> None:
    scores = torch.tensor([[0.9, 0.1, 0.8], [0.95, 0.3, 0.2]])
    found = retrieval_recall(scores, [0, 0, 1])  # texts 0 and 1 are the first picture's
    assert found["text R@1"] == 0.5  # 0: its text 0.9 is above 0.8; 1: its text 0.2 is behind both
    assert found["image R@1"] == 0.0  # text 0: 0.95 beats 0.9; text 1: 0.3 beats 0.1; text 2: 0.8 beats 0.2
    assert found["image R@5"] == 1.0
    assert found["mean recall"] == pytest.approx((0.5 + 1 + 1 + 0 + 1 + 1) / 6)
    tie = retrieval_recall(torch.zeros(2, 2), [0, 1])
    assert tie["text R@1"] == tie["image R@1"] == 0.0
    with pytest.raises(ValueError, match="every picture a text"):
        retrieval_recall(scores, [0, 0, 0])


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("dev-0-0-img0.png", "dev-0-0-img1.png", "7.jpg", "a.jpg"):
        Image.new("RGB", (8, 8)).save(folder / name)
    return folder


def test_published_files_are_read(tmp_path: Path, pictures: Path) -> None:
    path = tmp_path / "dev.json"
    path.write_text(json.dumps({"identifier": "dev-0-0-1", "sentence": "two dogs", "label": "True"}) + "\n")
    (example,) = read_examples("nlvr2", [path, pictures])
    assert [p.name for p in example.pictures] == ["dev-0-0-img0.png", "dev-0-0-img1.png"]
    assert (example.texts, example.answers) == (("two dogs",), ("true",))
    path.write_text(json.dumps({"identifier": "dev-0-9-1", "sentence": "x", "label": "True"}))
    with pytest.raises(DataError, match=r"dev\.json:1: no picture .*dev-0-9-img0\.png"):
        read_examples("nlvr2", [path, pictures])
    path.write_text(json.dumps({"identifier": "dev-0-0-1", "sentence": "x", "label": 3}))
    with pytest.raises(DataError, match=r"label: expected True or False"):
        read_examples("nlvr2", [path, pictures])
    path.write_text(
        "\n".join(
            json.dumps({"Flickr30K_ID": "7", "sentence2": "x", "gold_label": g}) for g in ("-", "neutral")
        )
    )
    found = read_examples("vqa", [path, pictures])
    assert [e.answers for e in found] == [("neutral",)]
    assert labels_of("vqa", found) == ["contradiction", "neutral", "entailment"]
    captions_file = tmp_path / "captions.json"
    data = {"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [{"image_id": 1, "caption": " "}]}
    captions_file.write_text(json.dumps(data))
    with pytest.raises(DataError, match="the picture 1 has no caption with words"):
        read_examples("retrieval", [captions_file, pictures])
    with pytest.raises(InputError, match="caption needs --data one file and then the folder"):
        read_examples("caption", [pictures])
    with pytest.raises(DataError, match="a folder for each of at least two classes, found 0"):
        read_examples("imagenet", [pictures])


def test_classes_are_folders(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (4, 4)).save(tmp_path / name / "1.png")
    found = read_examples("imagenet", [tmp_path])
    assert labels_of("imagenet", found) == ["cat", "dog"]
    assert [e.answers for e in found] == [("cat",), ("dog",)]


def test_soft_targets_are_those_of_vqa() -> None:
    assert answer_scores(["yes"] * 2 + ["no"] + ["The Dog"] * 7) == {"yes": 0.6, "no": 0.3, "dog": 1.0}


def test_scenes_repeat_and_hide_the_answer_from_the_question() -> None:
    first, second = (make_examples("vqa", 400, 3) for _ in range(2))
    assert [e.texts for e in first] == [e.texts for e in second]
    assert first[0].pictures[0].tobytes() == second[0].pictures[0].tobytes()
    yes_no = [e.answers[0] for e in first if e.answers[0] in ("yes", "no")]
    assert 0.35 < yes_no.count("yes") / len(yes_no) < 0.65
    assert len({shape.kind for shape in scene(__import__("random").Random(0))}) == 3
