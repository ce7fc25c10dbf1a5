"""BEiT-3, VLMo and DiDE by the same verbs: train, ask, caption, classify, compare, evaluate, and what is refused."""

from __future__ import annotations

import importlib
import json

import pytest
import torch
from multiway_vision_language.tasks.shapes import make_examples
from PIL import Image

made = importlib.import_module("packages.vision-language.tests.test_documents")
kosmos1, metalm = made.kosmos1, made.metalm  # fixtures
released = importlib.import_module("packages.vision-language.tests.released_beit3")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Trains a tiny model of an architecture for a task once; its folder."""
    from multiway_core.app import run
    from multiway_grounding.cli import cli

    found = {}

    def train(arch: str, task: str) -> str:
        if (arch, task) not in found:
            output = tmp_path_factory.mktemp(f"{arch}-{task}")
            arguments = ["train", "--arch", arch, "--task", task, "--preset", "smoke", "--scenes", "80"]
            with pytest.raises(SystemExit) as ended:
                run(cli, [*arguments, "--steps", "2", "--device", "cpu", "-o", str(output)])
            assert ended.value.code in (0, None)
            found[arch, task] = str(output / "model")
        return found[arch, task]

    return train


def test_verbs_take_the_models_of_their_task(trained, photo, call):
    code, out, err = call("ask", photo, "what is red?", "--model", trained("beit3", "vqa"), "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["text"]
    assert json.loads(out)["entities"] == []
    code, out, _ = call("ask", photo, "what is red?", "--model", trained("dide", "vqa"))
    assert (code, len(out.split())) == (0, 1)
    code, out, _ = call("caption", photo, "--model", trained("beit3", "caption"), "--json")
    assert code == 0
    code, out, _ = call("classify", photo, "--model", trained("beit3", "imagenet"), "--top", "2", "--json")
    classes = json.loads(out)["classes"]
    assert len(classes) == 2
    assert classes[0]["probability"] >= classes[1]["probability"]
    code, out, _ = call("compare", photo, photo, "both show a circle", "--model", trained("vlmo", "nlvr2"))
    assert out.split()[0] in ("true", "false")


@pytest.mark.parametrize("arch", ["kosmos1", "metalm"])
def test_verbs_take_kosmos1_and_metalm(arch, request, photo, call):
    folder = str(request.getfixturevalue(arch))
    code, out, err = call("ask", photo, "what is red?", "--model", folder, "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["model"] == folder
    code, out, _ = call("caption", photo, "--model", folder)
    assert code == 0
    code, out, _ = call("classify", photo, "a dog", "a bus", "--model", folder)
    assert (code, len(out.splitlines())) == (0, 2)
    for arguments, message in (
        (["classify", photo], "no classes of its own; give their names"),
        (["locate", photo, "a dog"], "finds no places in pictures"),
        (["compare", photo, photo, "x"], "cannot compare"),
    ):
        code, out, err = call(*arguments, "--model", folder)
        assert (code, out, len(err.splitlines())) == (2, "", 1)
        assert message in err


def test_the_wrong_head_says_which_file_is_for_what(trained, photo, call, model):
    vqa = trained("beit3", "vqa")
    for arguments, message in (
        (
            ["caption", photo, "--model", vqa],
            "is a model for vqa, not for caption; released for caption: beit3_base",
        ),
        (
            ["compare", photo, photo, "x", "--model", vqa],
            "not for nlvr2; released for nlvr2: beit3_base_patch16_224",
        ),
        (
            ["locate", photo, "a dog", "--model", vqa],
            "finds no places in pictures; bundled:grounding-small does",
        ),
        (["compare", photo, photo, "x", "--model", model], "cannot compare; give --model a model that can"),
        (["ask", photo, " ", "--model", vqa], "no words"),
        (
            ["train", "--arch", "vlmo", "--task", "caption", "-o", photo.with_name("o")],
            "caption is for beit3",
        ),
        (["classify", photo, "yak", "--model", trained("beit3", "imagenet")], "'yak' is no class of"),
    ):
        code, out, err = call(*arguments)
        assert (code, out) == (2, ""), arguments
        assert message in err, err
        assert len(err.splitlines()) == 1


def test_evaluate_gives_exact_metrics(trained, tmp_path, call):
    folder = tmp_path / "pictures"
    folder.mkdir()
    rows = []
    for index, example in enumerate(make_examples("nlvr2", 4, 1)):
        for side, picture in enumerate(example.pictures):
            picture.save(folder / f"dev-{index}-0-img{side}.png")
        rows.append(
            {"identifier": f"dev-{index}-0-0", "sentence": example.texts[0], "label": example.answers[0]}
        )
    path = tmp_path / "dev.json"
    path.write_text("\n".join(map(json.dumps, rows)))
    arguments = ["--annotations", path, "--images", folder, "--json", "--model", trained("vlmo", "nlvr2")]
    code, out, err = call("evaluate", "nlvr2", *arguments)
    assert code == 0, err
    found = json.loads(out)["metrics"]
    assert found["accuracy"]["n"] == 4
    captions = {"images": [], "annotations": []}
    for index, example in enumerate(make_examples("retrieval", 5, 1)):
        example.pictures[0].save(folder / f"{index}.png")
        captions["images"].append({"id": index, "file_name": f"{index}.png"})
        captions["annotations"] += [{"image_id": index, "caption": example.texts[0]}] * 2
    path.write_text(json.dumps(captions))
    arguments = [
        "--annotations",
        path,
        "--images",
        folder,
        "--json",
        "--model",
        trained("beit3", "retrieval"),
    ]
    code, out, err = call("evaluate", "retrieval", *arguments)
    assert code == 0, err
    found = json.loads(out)["metrics"]
    assert (found["text R@1"]["n"], found["image R@5"]["n"]) == (5, 10)
    assert found["image R@5"]["mean"] == 1.0
    (folder / "0.png").write_bytes(b"")
    code, out, err = call("evaluate", "retrieval", *arguments)
    assert code == 2
    assert "0.png: is empty" in err


def test_pictures_of_every_kind_are_read(trained, tmp_path, call):
    model = trained("beit3", "vqa")
    frames = [Image.new("RGB", (30, 20), color) for color in ("red", "blue")]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    frames[0].convert("CMYK").save(tmp_path / "print.jpg")
    exif = Image.Exif()
    exif[0x0112] = 6
    frames[0].save(tmp_path / "turned.jpg", exif=exif)
    for name, size in (("moving.gif", (30, 20)), ("print.jpg", (30, 20)), ("turned.jpg", (20, 30))):
        code, out, err = call("ask", tmp_path / name, "what?", "--model", model, "--json")
        assert code == 0, err
        assert (json.loads(out)["width"], json.loads(out)["height"]) == size
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nxx")
    code, _, err = call("ask", tmp_path / "broken.png", "what?", "--model", model)
    assert code == 2
    assert len(err.splitlines()) == 1


@pytest.mark.peer
def test_a_released_file_is_asked(tmp_path, photo, call):
    import sentencepiece

    with released.torchscale() as classes:
        trunk = released.trunk(classes, final_norm=False)
        tensors = {f"beit3.{n}": t for n, t in trunk.state_dict().items()} | released.head(
            "vqa", 2
        ).state_dict()
    path = tmp_path / "beit3_base_patch16_480_vqa.pth"
    torch.save({"model": tensors}, path)
    code, _, err = call("ask", photo, "ab", "--model", path)
    assert code == 2
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["ab ba aab", "bb a b"]),
        model_prefix=str(tmp_path / "beit3"),
        vocab_size=8,
        model_type="unigram",
        minloglevel=2,
    )
    (tmp_path / "beit3.model").rename(tmp_path / "beit3.spm")
    code, _, err = call("ask", photo, "ab", "--model", path)
    assert "answer2label.txt: not there; a released VQA file needs the list of its 2 answers" in err
    rows = [{"answer": "yes", "label": 0}, {"answer": "no", "label": 1}]
    (tmp_path / "answer2label.txt").write_text("\n".join(map(json.dumps, rows)))
    code, out, err = call("ask", photo, "ab", "--model", path)
    assert (code, err) == (0, "")
    assert out.strip() in ("yes", "no")
