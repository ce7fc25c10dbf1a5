"""xTune: losses and their gradients against float64, alignment against loops, augmentations, files, and two stages."""

from __future__ import annotations

import gzip
import hashlib
import io
import itertools
import json
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from multiway_core import training
from multiway_core.errors import ConfigError, DataError, InputError
from multiway_core.tokenization import TextTokenizer
from multiway_core.training import TrainOptions
from multiway_text.data import xtreme
from multiway_text.data.squad import Answer, Question
from multiway_text.encoder import checkpoint
from multiway_text.encoder.examples import Labelled, TaggedText
from multiway_text.encoder.heads import TokenClassifier
from multiway_text.encoder.pipeline import EncoderPipeline
from multiway_text.encoder.sentence import SentenceModel
from multiway_text.xtune import objective
from multiway_text.xtune.augmentation import Augmentation, EmbeddingNoise
from multiway_text.xtune.batches import AugmentedRows, XTuneObjective
from multiway_text.xtune.dictionaries import read_dictionaries
from multiway_text.xtune.recipe import RECIPES, Recipe
from multiway_text.xtune.tasks import Classes, Spans, Tags
from torch import Tensor

from packages.text.tests.tiny_encoder import sentence_model

SWITCH = {"de": {"good": ["bad"], "lives": ["in"], "film": ["a"]}, "fr": {"good": ["tom"], "very": ["was"]}}


@pytest.fixture(scope="module")
def sentence(tmp_path_factory: pytest.TempPathFactory) -> SentenceModel:
    return sentence_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def unigram(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import sentencepiece

    model = io.BytesIO()
    texts = [
        "the dog and the cat",
        "a small dog ate the food",
        "cats and dogs and other animals",
        "he ate it all",
    ] * 5
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=model,
        vocab_size=40,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    path = tmp_path_factory.mktemp("unigram") / "small.model"
    path.write_bytes(model.getvalue())
    return path


# --- losses


def kl(target: Tensor, other: Tensor) -> Tensor:
    """Of probabilities in float64, summed over everything; the target is a constant."""
    target = target.detach()
    return (target * (target.log() - other.log())).sum()


def test_consistency_and_the_gradient_of_each_direction_equal_float64() -> None:
    generator = torch.Generator().manual_seed(0)
    plain, augmented = (torch.randn(5, 7, generator=generator, requires_grad=True) for _ in range(2))
    for reduction, count in (("element", 35), ("row", 5)):
        loss = objective.consistency(plain, augmented, reduction)  # type: ignore[arg-type]
        found = torch.autograd.grad(loss, (plain, augmented))
        one, other = (x.detach().double().requires_grad_() for x in (plain, augmented))
        p, q = one.softmax(1), other.softmax(1)
        right = (kl(p, q) + kl(q, p)) / count
        expected = torch.autograd.grad(right, (one, other))
        assert loss.item() == pytest.approx(right.item(), rel=1e-6)
        for ours, theirs in zip(found, expected, strict=True):
            assert (ours - theirs).abs().max() < 1e-7
        # Each direction moves one side only, by (p - q) / count in closed form.
        assert (found[1] - (q - p).detach() / count).abs().max() < 1e-7
    assert torch.autograd.grad(objective.divergence(plain, augmented), plain, allow_unused=True) == (None,)
    assert objective.divergence(plain[:0], augmented[:0]) == 0
    half = objective.consistency(plain.bfloat16(), augmented.bfloat16())
    assert half.dtype == torch.float32


def test_planted_mistakes_in_the_losses_are_seen() -> None:
    generator = torch.Generator().manual_seed(1)
    plain, augmented = (torch.randn(4, 3, generator=generator, requires_grad=True) for _ in range(2))
    right = torch.autograd.grad(objective.consistency(plain, augmented), plain)[0]

    def without_stop(a: Tensor, b: Tensor) -> Tensor:
        log_a, log_b = a.log_softmax(1), b.log_softmax(1)
        return (log_a.exp() * (log_a - log_b)).mean() + (log_b.exp() * (log_b - log_a)).mean()

    def one_way(a: Tensor, b: Tensor) -> Tensor:
        return objective.divergence(a, b)

    def by_batch(a: Tensor, b: Tensor) -> Tensor:
        return objective.consistency(a, b, "row")

    mistakes: list[Callable[[Tensor, Tensor], Tensor]] = [without_stop, one_way, by_batch]
    for mistake in mistakes:
        found = torch.autograd.grad(mistake(plain, augmented), plain, allow_unused=True)[0]
        assert found is None or (found - right).abs().max() > 1e-3


def test_spans_are_compared_over_aligned_places_and_the_rest_as_a_loop_does() -> None:
    generator = torch.Generator().manual_seed(2)
    logits = [torch.randn(3, width, generator=generator, requires_grad=True) for width in (9, 11)]
    valid = [
        torch.arange(9) < torch.tensor([[9], [7], [5]]),
        torch.arange(11) < torch.tensor([[11], [6], [5]]),
    ]
    pairs = [
        [(0, 0), (3, 4), (5, 8)],
        [(0, 0), (2, 1)],
        [(n, n) for n in range(5)],
    ]  # the last row has no rest
    aligned = [torch.zeros_like(mask) for mask in valid]
    for row, places in enumerate(pairs):
        for one, other in places:
            aligned[0][row, one] = aligned[1][row, other] = True
    loss = objective.span_consistency((logits[0], valid[0], aligned[0]), (logits[1], valid[1], aligned[1]))
    found = torch.autograd.grad(loss, logits)

    doubles = [x.detach().double().requires_grad_() for x in logits]
    total = torch.zeros((), dtype=torch.float64)
    for row, places in enumerate(pairs):
        sides = []
        for side in (0, 1):
            p = doubles[side][row][valid[side][row]].softmax(0)
            own = [pair[side] for pair in places]
            rest = [n for n in range(len(p)) if n not in own]
            sides.append(torch.cat([p[own], p[rest].sum()[None]] if rest else [p[own]]))
        total = total + (kl(sides[0], sides[1]) + kl(sides[1], sides[0])) / 2
    total = total / 3
    assert loss.item() == pytest.approx(total.item(), rel=1e-6)
    for ours, theirs in zip(found, torch.autograd.grad(total, doubles), strict=True):
        assert (ours - theirs).abs().max() < 1e-7

    target = torch.randn(3, 9, generator=generator, requires_grad=True)
    loss = objective.span_divergence(target, logits[0], valid[0])
    rows = [(target[n][valid[0][n]].double(), doubles[0][n][valid[0][n]]) for n in range(3)]
    right = sum(kl(t.softmax(0), i.softmax(0)) for t, i in rows) / 3
    assert loss.item() == pytest.approx(right.item(), rel=1e-6)  # type: ignore[arg-type]
    assert torch.autograd.grad(loss, target, allow_unused=True) == (None,)


# --- augmentations


@pytest.mark.requires("sentencepiece")
def test_sampled_words_are_distributed_as_sentencepieces(unigram: Path) -> None:
    import sentencepiece

    tokenizer = TextTokenizer.from_folder(unigram)
    library = sentencepiece.SentencePieceProcessor(model_file=str(unigram))
    sentencepiece.set_random_generator_seed(7)
    generator = torch.Generator().manual_seed(7)
    draws, alpha, word = 10_000, 0.3, "dogsandthecat"
    offset = tokenizer.encode(word)[0] - library.encode(word)[0]
    ours = Counter(tuple(tokenizer.sample(word, alpha, generator)) for _ in range(draws))
    theirs = Counter(
        tuple(piece + offset for piece in library.SampleEncodeAsIds(word, nbest_size=-1, alpha=alpha))
        for _ in range(draws)
    )
    segmentations = [key for key in {*ours, *theirs} if ours[key] + theirs[key] >= 10]
    assert len(segmentations) > 5
    chi_square = sum((ours[key] - theirs[key]) ** 2 / (ours[key] + theirs[key]) for key in segmentations)
    degrees = len(segmentations) - 1
    assert chi_square < degrees + 4 * math.sqrt(2 * degrees)
    # A planted mistake, alpha halved, is far outside.
    wrong = Counter(tuple(tokenizer.sample(word, alpha / 2, generator)) for _ in range(draws))
    shifted = sum((wrong[key] - theirs[key]) ** 2 / max(1, wrong[key] + theirs[key]) for key in segmentations)
    assert shifted > degrees + 8 * math.sqrt(2 * degrees)
    sampled = Augmentation("subword", ratio=1.0, alpha=1000.0).new_tokens(
        tokenizer, ["other", "dogs"], generator
    )
    assert sampled == {0: tokenizer.encode("other"), 1: tokenizer.encode("dogs")}


def test_words_are_switched_by_dictionaries_at_their_share(sentence: SentenceModel) -> None:
    tokenizer = sentence.tokenizer
    given = ["Good,", "anna", "lives"] * 2000
    switch = Augmentation("code-switch", ratio=0.3, dictionaries=SWITCH)
    found = switch.new_tokens(tokenizer, given, torch.Generator().manual_seed(0), keep=range(3000))
    assert found == switch.new_tokens(tokenizer, given, torch.Generator().manual_seed(0), keep=range(3000))
    assert min(found) >= 3000
    said = Counter((given[place], tokenizer.decode(ids)) for place, ids in found.items())
    assert set(said) == {("Good,", "bad,"), ("Good,", "tom,"), ("lives", "in")}  # marks around a word stay
    assert said["Good,", "bad,"] / 1000 == pytest.approx(0.15, abs=0.03)
    assert said["lives", "in"] / 1000 == pytest.approx(
        0.15, abs=0.03
    )  # half of the draws meet the other language
    with pytest.raises(InputError, match="needs a dictionary"):
        Augmentation("code-switch").check(tokenizer)
    with pytest.raises(InputError, match="needs a Unigram vocabulary"):
        Augmentation("subword").check(tokenizer)
    with pytest.raises(ConfigError, match="between 0 and 1"):
        Augmentation("noise", ratio=2.0).check(tokenizer)


def test_noise_reaches_chosen_rows_only() -> None:
    embedding = torch.nn.Embedding(10, 4000)
    noise = EmbeddingNoise(embedding, 0.1)
    ids = torch.arange(6).view(2, 3)
    plain = embedding(ids)
    noise.rows_M = torch.tensor([False, True])
    added = embedding(ids) - plain
    assert (added[0] == 0).all()
    assert added[1].std().item() == pytest.approx(0.1, rel=0.05)


def test_views_of_a_question_agree_where_tokens_are_unchanged(sentence: SentenceModel) -> None:
    context = "it was good anna lives in good paris film was very good a b good c d lives e f"
    question = Question(
        "1", "good anna lives", context, (Answer("good paris", context.index("good paris")),), "f:1"
    )
    spans = Spans(sentence, [], 22)
    switch = Augmentation("code-switch", ratio=0.9, dictionaries=SWITCH)
    generator = torch.Generator().manual_seed(3)
    decode = sentence.tokenizer.decode
    changed = 0
    for row in spans.rows(question):
        for corpus in (False, True):
            plain = spans.view(row, None, generator, corpus=False)
            other = spans.view(row, switch, generator, corpus=corpus)
            for unit in set(plain.units) & set(other.units):
                assert plain.ids[plain.units[unit]] == other.ids[other.units[unit]]
            missing = set(plain.units) - set(other.units)
            words = {decode([plain.ids[plain.units[unit]]]) for unit in missing}
            assert words <= {"good", "lives", "film", "very"} or len(other.ids) == 22
            changed += len(missing)
            assert len(other.ids) <= 22
            for view in (plain, other):
                start, end = view.target  # type: ignore[misc]
                if (start, end) != (0, 0):
                    assert decode(view.ids[start : end + 1]) == "good paris"
    assert changed > 5


def test_views_of_tags_agree_on_words_and_sum_pooling_is_a_loop(
    sentence: SentenceModel, tmp_path: Path
) -> None:
    row = TaggedText(("good", "zz", "lives", "abc", "film"), ("A", "B", "A", "B", "A"), "f:1")
    tags = Tags(sentence, ["A", "B"], 11, sum_words=True)
    generator = torch.Generator().manual_seed(0)
    views = [
        tags.view(row, change, generator, corpus=False)
        for change in (None, Augmentation("code-switch", 1.0, dictionaries={"de": {"good": ["xyz"]}}))
    ]
    rows = AugmentedRows(tags, [row], [0], [], Augmentation("code-switch", 1.0, dictionaries=SWITCH), None, 0)
    batch = rows.batch([0, 0], generator)
    assert batch.units_MT[:2].sum() == batch.units_MT[2:].sum()
    assert [view.units[2] for view in views] == [4, 6]  # behind [CLS] good z ##z, and two tokens more
    model = tags.model(sentence).eval()
    firsts_MT = torch.tensor([views[0].firsts])
    ids_MT = torch.tensor([views[0].ids])
    valid_MT = torch.ones_like(ids_MT, dtype=torch.bool)
    logits_TC = model(ids_MT, valid_MT, firsts_MT)[0]
    hidden_TE = model.encoder(ids_MT, valid_MT).hidden_BTE[0]
    starts = [*views[0].units.values(), len(views[0].ids) - 1]
    for first, stop in itertools.pairwise(starts):
        assert (logits_TC[first] - model.head(hidden_TE[first:stop].sum(0))).abs().max() < 1e-5
    checkpoint.save(model, tmp_path, labels=["A", "B"])
    sentence.tokenizer.save(tmp_path)
    again = EncoderPipeline.from_pretrained(str(tmp_path))
    assert isinstance(again.head, TokenClassifier)
    assert again.head.sum_words
    expected = [["A", "B"][int(logits_TC[place].argmax())] for place in views[0].units.values()]
    assert again.tag_words(row.words)[: len(expected)] == expected
    with pytest.raises(InputError, match="which tokens are one word"):
        model(ids_MT, valid_MT)


def test_the_objective_weighs_its_parts(sentence: SentenceModel) -> None:
    given = [Labelled("good film", "a", "f:1"), Labelled("bad anna lives", "b", "f:2")]
    task = Classes(sentence, ["a", "b"], 16)
    model, teacher = task.model(sentence).eval(), task.model(sentence_copy(sentence)).eval()
    switch = Augmentation("code-switch", 1.0, dictionaries=SWITCH)
    batch = AugmentedRows(task, given, [0, 1], [], switch, switch, 0).batch(
        [0, 1, 2, 3], torch.Generator().manual_seed(0)
    )
    assert batch.augmented_B.tolist() == [False, False, True, True]
    noise = EmbeddingNoise(model.encoder.token_embedding, 0.1)
    loss = XTuneObjective(task, noise, 5.0, 2.0, teacher=teacher)(model, batch)
    logits = task.logits(model, batch)
    p, log_q = task.logits(teacher, batch)[2:4].softmax(1), logits[2:4].log_softmax(1)
    r2 = (p * (p.log() - log_q)).mean()
    parts = torch.nn.functional.cross_entropy(logits[:4], batch.targets) + 2.0 * r2
    parts = parts + 5.0 * objective.consistency(logits[:4], logits[4:])
    assert float(loss.total) == pytest.approx(4 * float(parts), rel=1e-5)
    hard = XTuneObjective(task, noise, 0.0, 1.0, teacher=teacher, hard_labels=True)(model, batch)
    labels = task.logits(teacher, batch)[2:4].argmax(1)
    expected = torch.nn.functional.cross_entropy(logits[2:4], labels)
    assert float(hard.metrics["r2"]) == pytest.approx(float(expected), rel=1e-5)


def sentence_copy(sentence: SentenceModel) -> SentenceModel:
    import copy

    torch.manual_seed(5)
    return replace(sentence, encoder=copy.deepcopy(sentence.encoder))


# --- files


def freedict(folder: Path, entries: dict[str, str]) -> Path:
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

    def digits(value: int) -> str:
        return (digits(value // 64) if value >= 64 else "") + letters[value % 64]

    content, lines = b"", []
    for word, entry in entries.items():
        body = entry.encode()
        lines.append(f"{word}\t{digits(len(content))}\t{digits(len(body))}\n")
        content += body
    folder.mkdir(exist_ok=True)
    (folder / "freedict-eng-deu.dict.dz").write_bytes(gzip.compress(content))
    (folder / "freedict-eng-deu.index").write_text("".join(lines))
    return folder / "freedict-eng-deu.index"


def test_dictionaries_are_read_and_broken_lines_named(tmp_path: Path) -> None:
    (tmp_path / "muse").mkdir()
    (tmp_path / "muse" / "en-de.txt").write_text("Cat Katze\ncat Kater\ndog\tHund\n\n")
    (tmp_path / "muse" / "en-fr.txt").write_text("cat chat\n")
    found = read_dictionaries([str(tmp_path / "muse")])
    assert found == {"de": {"cat": ["Katze", "Kater"], "dog": ["Hund"]}, "fr": {"cat": ["chat"]}}
    assert list(read_dictionaries([str(tmp_path / "muse")], ["fr"])) == ["fr"]
    with pytest.raises(InputError, match="no dictionary into 'xx'; there are: de, fr"):
        read_dictionaries([str(tmp_path / "muse")], ["xx"])
    (tmp_path / "muse" / "en-fr.txt").write_text("cat chat\none two three\n")
    with pytest.raises(
        DataError, match=r"en-fr.txt:2: expected a word and its translation, got 'one two three'"
    ):
        read_dictionaries([str(tmp_path / "muse")])
    with pytest.raises(InputError, match="no such dictionary"):
        read_dictionaries([str(tmp_path / "none")])
    index = freedict(
        tmp_path / "free",
        {
            "00databaseinfo": "about\n",
            "File": "file /f/\n1. Akte <fem>, Akt <masc> [adm.]\n   Synonym: {x}\n2. lange Datei, Datei\n",
            "at all": "at all\nganz\n",
        },
    )
    assert read_dictionaries([str(index)]) == {"deu": {"file": ["Akte", "Akt", "Datei"]}}
    index.write_text(index.read_text() + "broken line\n")
    with pytest.raises(DataError, match="index:4: expected headword, offset and length"):
        read_dictionaries([str(index)])
    index.write_text("word\tA\tzzz\n")
    with pytest.raises(DataError, match="index:1: the entry of 'word' ends behind"):
        read_dictionaries([str(index)])


def test_files_of_xtreme_are_read_as_they_come(tmp_path: Path) -> None:
    (tmp_path / "xnli.dev.tsv").write_text(
        "language\tgold_label\tsentence1\tsentence2\nde\tneutral\tein Text\tnoch einer\nfr\tentailment\tun\tdeux\n"
    )
    found = xtreme.read_xnli([str(tmp_path / "xnli.dev.tsv")])
    assert {language: rows[0].label for language, rows in found.items()} == {
        "de": "neutral",
        "fr": "entailment",
    }
    (tmp_path / "multinli.train.en.tsv").write_text("premise\thypo\tlabel\na\tb\tcontradictory\n")
    rows = xtreme.read_xnli([str(tmp_path / "multinli.train.en.tsv")])["multinli.train.en.tsv"]
    assert (rows[0].text, rows[0].pair, rows[0].label) == ("a", "b", "contradiction")
    # MultiNLI as it is released: a row ends behind its last vote, and "-" is no label.
    names = "gold_label\tsentence1_parse\tsentence1\tsentence2\tgenre\tlabel1\tlabel2\tlabel3"
    (tmp_path / "multinli_1.0_train.txt").write_text(
        f"{names}\nneutral\t(A)\ta\tb\tgovernment\tneutral\n-\t(A)\ta\tb\tslate\tneutral\tentailment\n"
        "entailment\t(C)\tc\td\tfiction\tentailment\tentailment\tneutral\n"
    )
    (found,) = xtreme.read_xnli([str(tmp_path / "multinli_1.0_train.txt")]).values()
    assert [(row.text, row.pair, row.label) for row in found] == [
        ("a", "b", "neutral"),
        ("c", "d", "entailment"),
    ]
    (tmp_path / "multinli_1.0_cut.txt").write_text(f"{names}\nneutral\t(A)\ta\tb\n")
    with pytest.raises(DataError, match=r"cut.txt:2: 4 columns, expected 8"):
        xtreme.read_xnli([str(tmp_path / "multinli_1.0_cut.txt")])
    (tmp_path / "en").mkdir()
    (tmp_path / "en" / "train.tsv").write_text("id\tsentence1\tsentence2\tlabel\n1\ta\tb\t0\n2\tc\td\t1\n")
    assert [
        row.label for row in xtreme.read_paws_x([str(tmp_path / "en" / "train.tsv")])["en/train.tsv"]
    ] == ["0", "1"]
    (tmp_path / "en" / "dev").write_text("en:Anna\tB-PER\nen::\tO\n\nen:Paris\tB-LOC\n")
    assert [one.words for one in xtreme.read_panx([str(tmp_path / "en" / "dev")])["en/dev"]] == [
        ("Anna", ":"),
        ("Paris",),
    ]
    (tmp_path / "x.tsv").write_text("a\tb\tneutral\na\tb\n")
    with pytest.raises(DataError, match=r"x.tsv:2: 2 columns, expected 3"):
        xtreme.read_xnli([str(tmp_path / "x.tsv")])
    with pytest.raises(DataError, match=r"x.tsv:1: expected one of 0, 1, got 'neutral'"):
        xtreme.read_paws_x([str(tmp_path / "x.tsv")])
    with pytest.raises(InputError, match="no such file"):
        xtreme.read_xnli([str(tmp_path / "none.tsv")])


# --- training


def rows_of(path: Path, texts: tuple[str, str], count: int = 40) -> str:
    lines = [
        json.dumps(
            {"text": f"{texts[number % 2]} {'abcdefghij'[number % 10]} {number}", "label": "+-"[number % 2]}
        )
        for number in range(count)
    ]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def quick(folder: Path, **changes: Any) -> Recipe:
    (folder / "en-de.txt").write_text("good tom\nbad paris\n")
    recipe = replace(
        RECIPES["classify"], dictionaries=(str(folder / "en-de.txt"),), batch_size=8, max_length=16
    )
    return replace(recipe, train=replace(recipe.train, learning_rate=3e-3), ratio=0.5, **changes)


def run(recipe: Recipe, folder: Path, name: str, data: str, steps: int = 20) -> training.TrainReport:
    return training.run(
        recipe, TrainOptions(folder / name, data=(data,), init_from=str(folder / "base"), steps=steps)
    )


def weights(folder: Path) -> str:
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def test_two_stages_carry_labels_over_to_words_of_the_dictionary(tmp_path: Path) -> None:
    sentence_model(tmp_path / "base")
    data = rows_of(tmp_path / "train.jsonl", ("it was good", "it was bad"))
    other = rows_of(tmp_path / "other.jsonl", ("it was tom", "it was paris"))
    recipe = quick(tmp_path, held_out=(data, other))
    report = run(recipe, tmp_path, "two", data)
    assert report.held_out["accuracy"] == 1.0
    assert report.held_out[f"accuracy of {other}"] == 1.0
    assert report.facts["rows"] == 80
    pipeline = EncoderPipeline.from_pretrained(str(report.folder))
    assert [one.label for one in pipeline.classify(["it was tom z", "it was paris z"])] == ["+", "-"]
    # The same run again, in a first part and a second, gives the same bits.
    for minutes in (1e-9, None):
        options = TrainOptions(
            tmp_path / "again", data=(data,), init_from=str(tmp_path / "base"), steps=20, minutes=minutes
        )
        again = training.run(recipe, options)
    assert weights(again.folder) == weights(report.folder)
    # A first stage that is there already is taken.
    first = run(replace(recipe, stages=1), tmp_path, "first", data)
    assert not (tmp_path / "first" / "stage-2").exists()
    second = run(replace(recipe, stage1=str(first.folder)), tmp_path, "second", data)
    assert weights(second.folder) == weights(report.folder)


def test_tags_and_answers_are_learnt_too(tmp_path: Path) -> None:
    sentence_model(tmp_path / "base")
    lines = []
    for number in range(40):
        name, city = ("anna", "tom")[number % 2], ("paris", "london")[number % 3 % 2]
        lines.append(
            f"xx:{name}\tB-PER\nxx:lives\tO\nxx:in\tO\nxx:{city}\tB-LOC\nxx:{'abcdefghij'[number % 10]}\tO\n"
        )
    (tmp_path / "train").write_text("\n".join(lines))
    recipe = replace(
        quick(tmp_path), task="tag", layout="panx", hard_labels=True, sum_words=True, stages=2, lambda1=1.0
    )
    assert run(recipe, tmp_path, "tags", str(tmp_path / "train"), 25).held_out["f1"] > 0.9
    paragraphs = []
    for number in range(40):
        context = f"{'abcdefghij'[number % 10]} {number} anna lives in {('paris', 'london')[number % 2]} good"
        answer = {"text": context.split()[-2], "answer_start": context.rindex(context.split()[-2])}
        paragraphs.append(
            {"context": context, "qas": [{"id": str(number), "question": "in", "answers": [answer]}]}
        )
    (tmp_path / "qa.json").write_text(json.dumps({"data": [{"paragraphs": paragraphs}]}))
    recipe = replace(quick(tmp_path), task="extract", layout="squad", max_length=24)
    assert run(recipe, tmp_path, "answers", str(tmp_path / "qa.json"), 25).held_out["exact_match"] > 0.9


def test_translations_stand_row_by_row(tmp_path: Path) -> None:
    sentence_model(tmp_path / "base")
    data = rows_of(tmp_path / "train.jsonl", ("it was good", "it was bad"))
    other = rows_of(tmp_path / "tom.jsonl", ("it was tom", "it was paris"))
    recipe = quick(tmp_path, augmentation="translation", held_out=(data, other), translations=(other,))
    report = run(recipe, tmp_path, "translated", data)
    pipeline = EncoderPipeline.from_pretrained(str(report.folder))
    assert [one.label for one in pipeline.classify(["it was tom z", "it was paris z"])] == ["+", "-"]
    short = rows_of(tmp_path / "short.jsonl", ("it was tom", "it was paris"), 12)
    with pytest.raises(DataError, match=r"short.jsonl: 12 rows, but the data has 40"):
        run(replace(recipe, translations=(short,)), tmp_path, "a", data)
    turned = rows_of(tmp_path / "turned.jsonl", ("it was tom", "it was paris"), 41)
    lines = Path(turned).read_text().split("\n")[1:]
    Path(turned).write_text("\n".join(lines))
    with pytest.raises(DataError, match=r"turned.jsonl:1: the label '-', but .*train.jsonl:1 has '\+'"):
        run(replace(recipe, translations=(turned,)), tmp_path, "b", data)


def test_bad_recipes_and_data_are_told(tmp_path: Path) -> None:
    sentence_model(tmp_path / "base")
    data = rows_of(tmp_path / "train.jsonl", ("it was good", "it was bad"))
    (tmp_path / "unseen.jsonl").write_text('{"text": "a", "label": "0"}\n')
    for changes, said in [
        ({"dictionaries": ()}, "code-switching needs --dictionary"),
        ({"languages": ("xx",)}, "no dictionary into 'xx'"),
        ({"augmentation": "translation"}, "--translations names files"),
        ({"augmentation": "subword"}, "needs a Unigram vocabulary"),
        ({"task": "pairs"}, "classify, tag or extract"),
        ({"lambda1": -1.0}, "at least 0"),
        ({"held_out": (str(tmp_path / "unseen.jsonl"),)}, "unseen.jsonl:1: the label '0' does not occur"),
    ]:
        with pytest.raises((InputError, ConfigError, DataError), match=said):
            run(quick(tmp_path, **changes), tmp_path, "bad", data)
    with pytest.raises(ConfigError, match="only a classifier can learn it"):
        run(quick(tmp_path, augmentation="translation", task="tag", layout="panx"), tmp_path, "bad", data)
