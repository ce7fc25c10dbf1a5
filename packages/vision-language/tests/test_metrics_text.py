"""Caption scores and VQA accuracy: by hand, and equal to the official code where that is installed."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from multiway_core.errors import InputError
from multiway_vision_language.metrics import (
    bleu,
    caption_tokens,
    cider_d,
    has_meteor,
    meteor,
    normalise,
    vqa_accuracy,
)
from multiway_vision_language.metrics import caption as caption_module

CAPTIONS = ["a cat sits on the mat", "two dogs run.", "A red bus", "", "the man's t-shirt (blue) isn't new"]
REFERENCES = [
    ["A cat sits on a mat.", "the cat is on the mat", "a kitten lies on a rug"],
    ["Two dogs run across a field", "dogs running"],
    ["A red double-decker bus drives by.", "a bus"],
    ["something is here"],
    ["a man in a blue T-shirt", "The man's new shirt"],
]
ANNOTATIONS = (
    Path(__file__).parents[3].parent / "shared/data/images/coco-mini/annotations/captions_val2017.json"
)


# Each row was checked against the Stanford tokenizer of the official evaluation.
@pytest.mark.parametrize(
    ("caption", "words"),
    [
        ("A man's t-shirt isn't red; he said \"hello\" (loudly).",
         "a man 's t-shirt is n't red he said hello -lrb- loudly -rrb-"),
        ("Mr. Smith's 3.5 dogs, 1,000 cats & $5.00.", "mr. smith 's 3.5 dogs 1,000 cats & $ 5.00"),
        ("They're can't won't I'd we've it'll dogs' toys", "they 're ca n't wo n't i 'd we 've it 'll dogs toys"),
        ("U.S. flag at 10:30 a.m. in the centre...", "u.s. flag at 10:30 a.m. in the centre"),
        ("A cat -- a dog - a bird: [x] {y} 'quoted' 1/2 50% #1 @home",
         "a cat a dog a bird -lsb- x -rsb- -lcb- y -rcb- quoted 1/2 50 % # 1 @home"),
        ("gonna cannot o'clock rock 'n' roll", "gon na can not o'clock rock 'n' roll"),
        ("A café “curly” ‘single’ — dash – en…", "a café curly single dash en"),
        ("...what?! yes!!", "what ?! yes !!"),
        ("man in 90's style '90s 12th 4x4 tall", "man in 90 's style '90s 12th 4x4 tall"),
        ("a lounge &amp; grill\nby John A. Noble", "a lounge & grill by john a. noble"),
        ("", ""),
    ],
)  # fmt: skip
def test_caption_tokens(caption: str, words: str) -> None:
    assert caption_tokens(caption) == words.split()


def test_bleu_by_hand() -> None:
    # "the the cat": "the" counts twice in no reference, so 2 of 3 words match, 1 of 2 pairs; closest length is 3.
    scores = bleu(["the the cat"], [["the cat sat", "a cat is on the mat"]])
    assert scores[0] == pytest.approx(2 / 3)
    assert scores[1] == pytest.approx(math.sqrt(2 / 3 * 1 / 2))
    assert bleu(["a cat on a mat"], [["a cat on a mat"]]) == pytest.approx([1, 1, 1, 1])
    short = bleu(["the cat sat on"], [["the cat sat on the mat"]])
    assert short == pytest.approx([math.exp(1 - 6 / 4)] * 4)


def test_cider_by_hand() -> None:
    # Two pictures, one word each: idf log 2; only word vectors are there, and no pairs, so no length penalty.
    assert cider_d(["cat", "dog"], [["cat"], ["dog"]]) == pytest.approx([2.5, 2.5])
    # The words of a caption that every picture's references hold weigh nothing.
    assert cider_d(["cat", "cat"], [["cat"], ["cat"]]) == pytest.approx([0, 0])
    # A perfect caption of four words scores 10; one of two references, 5.
    four = "red bus drives by"
    assert cider_d([four, "x"], [[four], ["y"]]) == pytest.approx([10, 0])
    assert cider_d([four, "x"], [[four, "z"], ["y"]])[0] == pytest.approx(5)


@pytest.mark.parametrize("score", [cider_d, bleu, meteor])
@pytest.mark.parametrize(("captions", "references"), [([], []), (["a"], []), (["a", "b"], [["a"], []])])
def test_captions_need_references(score, captions, references) -> None:
    with pytest.raises(ValueError, match="references for each"):
        score(captions, references)


@pytest.mark.peer
@pytest.mark.parametrize("real", [False, True])
def test_cider_and_bleu_equal_the_official_code(real: bool) -> None:
    official_cider = pytest.importorskip("pycocoevalcap.cider.cider").Cider()
    official_bleu = pytest.importorskip("pycocoevalcap.bleu.bleu").Bleu(4)
    captions, references = CAPTIONS, REFERENCES
    if real:
        captions, references = coco_captions()
    given = {i: [" ".join(caption_tokens(caption))] for i, caption in enumerate(captions)}
    truths = {i: [" ".join(caption_tokens(t)) for t in texts] for i, texts in enumerate(references)}
    total, scores = official_cider.compute_score(truths, given)
    ours = cider_d(captions, references)
    np.testing.assert_allclose(ours, scores, atol=1e-12)
    assert ours.mean() == pytest.approx(total)
    expected, _ = official_bleu.compute_score(truths, given, verbose=0)
    assert bleu(captions, references) == pytest.approx(expected, rel=1e-9)


@pytest.mark.peer
@pytest.mark.shared_data
def test_words_equal_the_official_tokenizer_on_real_captions() -> None:
    if not has_meteor():
        pytest.skip("needs pycocoevalcap and Java")
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    captions, references = coco_captions()
    texts = [*captions, *(text for group in references for text in group)]
    official = PTBTokenizer().tokenize({i: [{"caption": text}] for i, text in enumerate(texts)})
    wrong = [text for i, text in enumerate(texts) if official[i][0].split() != caption_tokens(text)]
    assert wrong == []


def test_meteor_runs_or_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    if has_meteor():
        perfect = "a small cat sits on a mat"
        total, scores = meteor([*CAPTIONS, "a ||| b", perfect], [*REFERENCES, ["a b"], [perfect]])
        assert len(scores) == 7
        assert scores[0] > scores[3] == 0
        assert scores[6] == pytest.approx(1.0, abs=1e-3)
        assert 0 < total < 1
    monkeypatch.setattr(caption_module.shutil, "which", lambda name: None)
    assert not has_meteor()
    with pytest.raises(InputError, match=r"METEOR needs a Java runtime and pip install"):
        meteor(["a"], [["a"]])


def coco_captions() -> tuple[list[str], list[list[str]]]:
    """One caption of five against the other four, for real pictures."""
    if not ANNOTATIONS.is_file():
        pytest.skip("needs ../shared/data")
    groups: dict[int, list[str]] = {}
    for row in json.loads(ANNOTATIONS.read_text())["annotations"]:
        groups.setdefault(row["image_id"], []).append(row["caption"])
    return [texts[0] for texts in groups.values()], [texts[1:] for texts in groups.values()]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("The Cat.", "cat"),
        ("two", "2"),
        ("none", "0"),
        ("dont know", "don't know"),
        ("it'dve", "it'd've"),
        ("red/blue", "red blue"),
        ("red / blue", "red blue"),
        ("red , blue", "red blue"),
        ("1,000", "1000"),
        ("t-shirt", "t shirt"),
        ("3.5", "3.5"),
        ("a.m.", "am"),
        ("yes!\n", "yes"),
        ("What? An apple", "what apple"),
        ("", ""),
    ],
)
def test_answers_are_normalised_as_officially(answer: str, expected: str) -> None:
    assert normalise(answer) == expected


def test_vqa_accuracy_by_hand() -> None:
    def people(*counts: tuple[str, int]) -> list[str]:
        return [answer for answer, count in counts for _ in range(count)]

    # Leaving one out: 10 agree -> 1; of 3, three leave 2 others and seven leave 3: (3 * 2/3 + 7) / 10
    assert vqa_accuracy("yes", people(("yes", 10))) == 1.0
    assert vqa_accuracy("red", people(("red", 3), ("blue", 7))) == pytest.approx(0.9)
    assert vqa_accuracy("red", people(("red", 2), ("blue", 8))) == pytest.approx((2 * 1 / 3 + 8 * 2 / 3) / 10)
    assert vqa_accuracy("red", people(("red", 1), ("blue", 9))) == pytest.approx(0.3)
    assert vqa_accuracy("green", people(("red", 1), ("blue", 9))) == 0.0
    assert vqa_accuracy("The Red.", people(("red", 4), ("a red", 2), ("blue", 4))) == 1.0
    # Where all people agree, the official evaluation compares the answers as they are.
    assert vqa_accuracy("Yes.", people(("yes", 10))) == 0.0
    with pytest.raises(ValueError, match="at least one"):
        vqa_accuracy("x", [])


@pytest.mark.skipif(shutil.which("java") is None, reason="needs Java")
def test_java_alone_is_not_meteor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caption_module.importlib.util, "find_spec", lambda name: None)
    assert not has_meteor()
