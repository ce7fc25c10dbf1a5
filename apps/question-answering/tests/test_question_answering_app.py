"""The commands on a tiny model that was taught to find where somebody lives."""

from __future__ import annotations

import json
from pathlib import Path

import pytest


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "a.md").write_text("\n\n\n\nc anna 17 lives in Paris it was\n")
    (folder / "b.jsonl").write_text('{"text": "a film"}\n{"text": "tom 3 lives in London it was"}\n')
    return folder


def test_answers_have_their_place(model: Path, notes: Path, command) -> None:
    code, out, err = command("answer", "lives in", "--in", notes, "--model", model, "--json", "--top", 9)
    assert code == 0, err
    found = json.loads(out)
    assert found["schema"] == "multiway.question-answering/1"
    assert found["answered"]
    by_text = {answer["text"]: answer for answer in found["answers"]}
    paris, london = by_text["Paris"], by_text["London"]
    assert (Path(paris["source"]).name, paris["place"]) == ("a.md", "line 5")
    assert (Path(london["source"]).name, london["place"]) == ("b.jsonl", "line 2")
    text = (notes / "a.md").read_text()
    assert text[paris["start"] : paris["end"]] == "Paris"
    assert paris["passage"][paris["passage_start"] : paris["passage_end"]] == "Paris"
    assert paris["probability"] > 0.5 > found["answers"][-1]["probability"] or len(found["answers"]) == 2
    code, out, _ = command("answer", "lives in", "-i", notes / "a.md", "--model", model, "--top", 1)
    assert out.splitlines()[0].endswith(f"Paris  [{notes / 'a.md'}, line 5]")
    assert "lives in **Paris** it was" in out


def test_no_answer_and_an_index_of_search(model: Path, tmp_path: Path, notes: Path, command) -> None:
    from multiway_text.search.pipeline import SearchPipeline

    search = SearchPipeline.from_pretrained("bundled:minilm-l6")
    (notes / "a.md").write_text("It was a very bad film.")
    (notes / "b.jsonl").unlink()
    with search.open(tmp_path / "index", create=True) as index:
        search.update(index, [notes])
    code, out, _ = command("answer", "lives in", "--in", tmp_path / "index", "--model", model)
    assert code == 0
    assert out.startswith("no answer in 1 passages (probability 0.")
    (notes / "a.md").write_text("b tom 12 lives in London it was")  # what was indexed is no longer there
    with search.open(tmp_path / "index") as index:
        search.add(index, {"one": "b tom 12 lives in London it was"})
    code, out, _ = command("answer", "lives in", "--in", tmp_path / "index", "--model", model)
    assert out.splitlines()[0].endswith("London  [one]")


def test_bad_input_is_one_line(model: Path, tmp_path: Path, notes: Path, command) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "scan.pdf").write_bytes(_scan())
    (tmp_path / "squad.json").write_text(
        '{"data": [{"paragraphs": [{"context": "a b", "qas": [{"id": 1}]}]}]}'
    )
    read = ("--in", notes, "--model", model)
    cases = [
        (("answer", "?!", *read), "the question has no word"),
        (("answer", "x" * 10_000, *read), "the question has 10,000 characters, at most 2,000"),
        (("answer", "a b " * 100, *read), "the question has 200 tokens, the model reads 64"),
        (
            ("answer", "who", "--in", tmp_path / "empty", "--model", model),
            "empty: the folder holds no file of",
        ),
        (("answer", "who", "--in", tmp_path / "no", "--model", model), "no such file or folder"),
        (
            ("answer", "who", "--in", tmp_path / "scan.pdf", "--model", model),
            "no text layer (a scan?); multiway-ocr",
        ),
        (("answer", "who", "--in", notes), "--model"),
        (
            ("train", "--data", tmp_path / "squad.json", "--output", tmp_path / "run"),
            "qas[0]: missing key 'question'",
        ),
    ]
    for arguments, message in cases:
        if message == "--model":
            arguments = (*arguments, "--model", "bundled:minilm-l6")
            message = "bundled:minilm-l6 extracts no answers"
        code, out, err = command(*arguments)
        assert (code, out) == (2, ""), arguments
        assert message in err, err
        assert len(err.strip().splitlines()) == 1, err


def _scan() -> bytes:
    """A PDF of one page with nothing on it."""
    import io

    from PIL import Image

    data = io.BytesIO()
    Image.new("RGB", (60, 40), "white").save(data, "PDF")
    return data.getvalue()


def test_probabilities_are_fitted_on_what_was_held_out(model: Path) -> None:
    from multiway_text.encoder.answerability import FILE, Answerability

    found = Answerability.read(model)
    assert json.loads((model / FILE).read_text())["questions"] == found.questions > 0
    assert found.probability(9.0) > found.probability(0.0) > found.probability(-9.0)
    assert Answerability.read(model.parent).questions == 0
    assert Answerability().probability(0.0) == 0.5
    assert Answerability().probability(float("-inf")) == 0.0


def test_the_fit_finds_the_numbers_that_made_the_data() -> None:
    import numpy as np
    from multiway_text.encoder.answerability import fit

    draw = np.random.default_rng(0)
    margins, contexts = draw.normal(0, 4, 20_000), draw.choice([1, 8], 20_000)
    logits = 0.6 * margins - 0.5 - 0.4 * np.log(contexts)
    right = draw.random(20_000) < 1 / (1 + np.exp(-logits))
    assert fit(margins, contexts, right) == pytest.approx((0.6, -0.5, -0.4), abs=0.06)
    scale, bias, _ = fit([1.0, 2.0], [1, 1], [True, True])  # nothing says otherwise: finite all the same
    assert 0 < scale < 20
    assert 0 < bias < 20
