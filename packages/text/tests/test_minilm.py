"""MiniLM and MiniLMv2 against `transformers`: attention and hooks, a float64 reference; the recipe; bad input."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from multiway_blocks import text_encoder
from multiway_blocks.text_encoder import TextEncoder
from multiway_core.errors import CheckpointError, InputError
from multiway_core.tokenization import TextTokenizer
from multiway_core.training import TrainOptions, run
from multiway_text.encoder.heads import MaskedLM
from multiway_text.encoder.pipeline import EncoderPipeline
from multiway_text.encoder.sentence import SentenceModel, SentenceSettings
from multiway_text.minilm import sentences
from multiway_text.minilm.objective import Distillation, Student, hidden_places
from multiway_text.minilm.recipe import RECIPES, Recipe
from multiway_text.sequences import Rows, SequenceBatches, Sequences
from torch import Tensor

from packages.text.tests.tiny_encoder import CONFIG, sentence_model

TEXTS = [f"The {word} is number {i} of the things that are here." for i, word in enumerate("abcdefgh" * 12)]
VOCAB = 60


@pytest.fixture(scope="module")
def peers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, TextEncoder]]:
    """(a model of `transformers`, ours of its file), float64, every tensor perturbed."""
    from transformers import BertConfig, BertModel

    found = {}
    for seed, (name, layers, width) in enumerate((("teacher", 3, 24), ("student", 2, 16))):
        torch.manual_seed(seed)
        config = BertConfig(
            vocab_size=VOCAB,
            hidden_size=width,
            num_hidden_layers=layers,
            num_attention_heads=4,
            intermediate_size=2 * width,
            max_position_embeddings=20,
            layer_norm_eps=1e-3,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            attn_implementation="eager",
        )
        model = BertModel(config, add_pooling_layer=False)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.3)
        folder = tmp_path_factory.mktemp(name)
        model.save_pretrained(folder)
        found[name] = model.double(), text_encoder.load(folder, dtype=torch.float64)
    return found


def word_tokenizer(folder: Path) -> TextTokenizer:
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = sorted({word for text in TEXTS for word in text.lower().replace(".", " .").split()})
    (folder / "vocab.txt").write_text("\n".join([*special, *words]))
    return TextTokenizer.from_folder(folder)


def batch() -> Rows:
    torch.manual_seed(2)
    valid_BT = torch.arange(9) < torch.tensor([9, 4, 7])[:, None]
    return Rows(torch.randint(5, VOCAB, (3, 9)).masked_fill(~valid_BT, 0), valid_BT, torch.arange(3))


def vectors(model: Any, rows: Rows, layer: int) -> dict[str, Tensor]:
    """Attention and queries, keys and values of a layer of `transformers`' model, by hooks."""
    found: dict[str, Tensor] = {}
    own = model.encoder.layer[layer].attention.self
    handles = [
        getattr(own, part).register_forward_hook(
            lambda _module, _inputs, output, part=part: found.__setitem__(part, output)
        )
        for part in ("query", "key", "value")
    ]
    output = model(rows.ids_BT, attention_mask=rows.valid_BT.long(), output_attentions=True)
    for handle in handles:
        handle.remove()
    return {**found, "attention": output.attentions[layer]}


def relation(x_TE: Tensor, heads: int, *, root: bool = True) -> Tensor:
    parts = x_TE.unflatten(-1, (heads, -1)).transpose(0, 1)
    width = parts.shape[-1]
    return (parts @ parts.mT / (width**0.5 if root else width)).softmax(-1)


def reference(
    teacher: dict[str, Tensor],
    student: dict[str, Tensor],
    rows: Rows,
    method: str,
    heads: int,
    *,
    swapped: bool = False,
    padded: bool = False,
    root: bool = True,
) -> Tensor:
    """The paper's sums, row by row; the last three arguments are mistakes."""
    total, count = 0.0, 0
    for row, valid_T in enumerate(rows.valid_BT):
        size = len(valid_T) if padded else int(valid_T.sum())
        count += size
        pairs = []
        for name in ("value",) if method == "minilm" else ("query", "key", "value"):
            pairs.append(
                tuple(relation(side[name][row, :size], heads, root=root) for side in (teacher, student))
            )
        if method == "minilm":
            pairs.append(
                (teacher["attention"][row, :, :size, :size], student["attention"][row, :, :size, :size])
            )
        for p, q in pairs:
            if swapped:
                p, q = q, p
            total = total + (p * (p.clamp(min=1e-300).log() - q.clamp(min=1e-300).log())).sum() / len(p)
    return total / count


@pytest.mark.parametrize(
    ("method", "heads", "layer"), [("minilm", 4, 3), ("minilmv2", 8, 3), ("minilmv2", 2, 2)]
)
def test_loss_and_gradients_are_those_of_the_paper(peers: dict, method: Any, heads: int, layer: int) -> None:
    (their_teacher, teacher), (their_student, student) = peers["teacher"], peers["student"]
    rows = batch()
    objective = Distillation(teacher, student.config, method, relation_heads=heads, layer=layer)
    module = Student(student, method)
    module.zero_grad()
    loss = objective(module, rows)
    (loss.total / loss.weight).backward()
    with torch.no_grad():
        taught = vectors(their_teacher, rows, layer - 1)
    their_student.zero_grad()
    expected = reference(taught, vectors(their_student, rows, 1), rows, method, heads)
    expected.backward()
    assert loss.weight == rows.valid_BT.sum()
    torch.testing.assert_close(loss.total / loss.weight, expected, rtol=1e-9, atol=0)
    last = their_student.encoder.layer[1].attention.self
    own = student.stack.layers[1].attention
    for theirs, ours in (
        (last.query.weight, own.query.weight),
        (last.value.weight, own.value.weight),
        (their_student.embeddings.word_embeddings.weight, student.token_embedding.weight),
    ):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-7, atol=1e-12)
    assert own.output.weight.grad is None  # what stands behind the relations learns nothing
    assert all(parameter.grad is None for parameter in teacher.parameters())
    for mistake in ({"swapped": True}, {"padded": True}, {"root": False}):
        wrong = reference(taught, vectors(their_student, rows, 1), rows, method, heads, **mistake)
        assert abs(wrong - expected) > 1e-3 * expected, mistake


def test_hidden_states_and_logits(peers: dict) -> None:
    (their_teacher, teacher), (_, student) = peers["teacher"], peers["student"]
    rows = batch()
    module = Student(student, "hidden", 24).double()
    loss = Distillation(teacher, student.config, "hidden")(module, rows)
    states = their_teacher(rows.ids_BT, attention_mask=rows.valid_BT.long()).last_hidden_state
    own = student(rows.ids_BT, rows.valid_BT).hidden_BTE @ module.projection.weight.T + module.projection.bias
    expected = (own - states)[rows.valid_BT].square().mean()
    torch.testing.assert_close(loss.total / loss.weight, expected, rtol=1e-5, atol=0)

    torch.manual_seed(0)
    masked = MaskedLM(teacher).double()
    learner = Student(student, "logits").double()
    rows = rows._replace(index_B=torch.tensor([3, 1, 5]))
    hidden = hidden_places(rows)
    assert torch.equal(hidden, hidden_places(rows))
    assert not (hidden & ~rows.valid_BT).any()
    assert not hidden[:, 0].any()
    found = Distillation(masked, student.config, "logits", mask_id=4)(learner, rows)
    ids = rows.ids_BT.masked_fill(hidden, 4)
    logits = (
        masked(ids, rows.valid_BT)[hidden] / 2,
        learner.head(student(ids, rows.valid_BT).hidden_BTE[hidden], student.token_embedding.weight) / 2,
    )
    p, q = (x.log_softmax(-1) for x in logits)
    torch.testing.assert_close(found.total, 4 * (p.exp() * (p - q)).sum(), rtol=1e-6, atol=0)


def test_sentence_vectors_learn_the_teachers_on_its_principal_axes() -> None:
    torch.manual_seed(0)
    vectors_NF = torch.randn(50, 12) * torch.linspace(3, 0.1, 12)
    axes_FE = sentences.principal(vectors_NF, 5)
    torch.testing.assert_close(axes_FE.T @ axes_FE, torch.eye(5), rtol=0, atol=1e-5)
    singular = torch.linalg.svd(vectors_NF).S
    torch.testing.assert_close((vectors_NF @ axes_FE).norm(dim=0), singular[:5], rtol=1e-4, atol=0)


def test_sequences(tmp_path: Path) -> None:
    tokenizer = word_tokenizer(tmp_path)
    rows = Sequences.encode([*TEXTS, " ".join(TEXTS[:5])], tokenizer, 40)
    rows.save(tmp_path)
    rows = Sequences.load(tmp_path)
    assert int(rows.lengths.max()) == 40
    assert rows[0].tolist() == tokenizer.add_special_tokens(tokenizer.encode(TEXTS[0]))[0]
    batches = SequenceBatches(rows, 100, pad=0, seed=3)
    drawn = [batches(step, 0, 1) for step in range(60)]
    again = SequenceBatches(rows, 100, pad=0, seed=3)
    assert torch.equal(again(41, 0, 1).ids_BT, drawn[41].ids_BT)
    assert torch.equal(again(7, 1, 2).ids_BT, drawn[15].ids_BT)
    first = torch.cat([batch.index_B for batch in drawn])[: len(rows)]
    assert sorted(first.tolist()) == list(range(len(rows)))
    assert all(batch.ids_BT.numel() <= 100 for batch in drawn)
    assert sum(int(batch.valid_BT.sum()) for batch in batches.all()) == int(rows.starts[-1])
    with pytest.raises(InputError, match="no text"):
        Sequences.encode([], tokenizer, 40)
    with pytest.raises(InputError, match="leaves no room"):
        Sequences.encode(TEXTS, tokenizer, 2)
    with pytest.raises(InputError, match="does not hold"):
        SequenceBatches(rows, 30, pad=0)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a tiny sentence model."""
    folder = tmp_path_factory.mktemp("teacher")
    torch.manual_seed(0)
    tokenizer = word_tokenizer(folder)
    shape = replace(
        text_encoder.PRESETS["minilm-l6-h384-uncased"],
        vocab_size=tokenizer.vocab_size,
        num_layers=3,
        hidden_size=24,
        num_heads=4,
        inner_size=48,
        num_positions=48,
        pooler=False,
    )
    SentenceModel(TextEncoder(shape), tokenizer, SentenceSettings(normalize=True)).save(folder)
    return folder


@pytest.fixture
def corpus(tmp_path: Path) -> str:
    path = tmp_path / "texts.txt"
    path.write_text("\n".join(TEXTS))
    return str(path)


def small(folder: Path, **changes: Any) -> Recipe:
    smoke = RECIPES["minilm-smoke"]
    sizes = {
        "layers": 2,
        "hidden_size": 12,
        "heads": 3,
        "relation_heads": 6,
        "length": 40,
        "batch_tokens": 160,
    }
    return replace(smoke, **{"teacher": str(folder), **sizes, **changes})


def test_a_student_is_distilled_and_embeds(teacher: Path, corpus: str, tmp_path: Path) -> None:
    recipe = small(teacher, assistant=True, principal_embedding=True)
    report = run(recipe, TrainOptions(tmp_path / "run", data=(corpus,)))
    assert report.held_out["loss"] < report.held_out_before["loss"]
    assert {"assistant", "relations", "sentences"} <= {path.name for path in (tmp_path / "run").iterdir()}
    found = EncoderPipeline.from_pretrained(str(report.folder)).embed(TEXTS[:3])
    assert found.vectors.shape == (3, 12)
    torch.testing.assert_close(torch.from_numpy(found.vectors).norm(dim=1), torch.ones(3))


@pytest.mark.parametrize("method", ["minilm", "minilmv2", "hidden"])
def test_methods_lower_the_held_out_loss(teacher: Path, corpus: str, tmp_path: Path, method: Any) -> None:
    recipe = small(teacher, method=method, heads=4, sentences=None)
    report = run(recipe, TrainOptions(tmp_path / "run", data=(corpus,)))
    assert report.held_out["loss"] < report.held_out_before["loss"]


def refuse(recipe: Recipe, corpus: str, tmp_path: Path, **options: Any) -> Callable[[], object]:
    return lambda: run(recipe, TrainOptions(tmp_path / "run", data=(corpus,), **options))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"relation_heads": 0}, "0 relation heads do not divide"),
        ({"relation_heads": 5}, "5 relation heads do not divide the student's width 12"),
        ({"heads": 5}, "5 attention heads do not divide a width of 12"),
        ({"method": "minilm"}, "the student has 3 and the teacher 4"),
        ({"method": "other"}, "unknown method 'other'"),
        ({"teacher_layer": 4}, "layers 1 to 3, and no layer 4"),
        ({"teacher": ""}, "needs a teacher"),
    ],
)
def test_bad_recipes_are_refused(
    teacher: Path, corpus: str, tmp_path: Path, changes: dict, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        refuse(small(teacher, **changes), corpus, tmp_path)()


def test_bad_data_and_other_vocabularies_are_refused(teacher: Path, corpus: str, tmp_path: Path) -> None:
    other = tmp_path / "other"
    text_encoder.save(
        TextEncoder(replace(text_encoder.load(teacher).config, vocab_size=99, hidden_size=12)), other
    )
    with pytest.raises(InputError, match=r"vocabulary has 99 tokens and the teacher's"):
        refuse(small(teacher), corpus, tmp_path, init_from=str(other))()
    with pytest.raises(CheckpointError, match="head"):
        refuse(small(teacher, method="logits"), corpus, tmp_path)()
    (tmp_path / "empty.txt").write_text("  \n")
    with pytest.raises(InputError, match="no text"):
        refuse(small(teacher), str(tmp_path / "empty.txt"), tmp_path / "empty")()


def test_a_copy_of_some_layers_begins_as_the_teacher_and_keeps_its_prompts(tmp_path: Path) -> None:
    prompts = {"query": "number ", "passage": "things "}
    settings = SentenceSettings(normalize=True, prompts=prompts, default_prompt="query")
    teacher = sentence_model(tmp_path / "teacher", settings, num_layers=4)
    recipe = replace(
        RECIPES["minilm-copied"],
        teacher=str(tmp_path / "teacher"),
        layers=2,
        hidden_size=32,
        heads=4,
        length=40,
    )
    copied = recipe.new_student(teacher.encoder)
    assert copied.config.num_layers == len(copied.stack.layers) == 2
    for own, theirs in ((0, 1), (1, 3)):
        for name, tensor in copied.stack.layers[own].state_dict().items():
            assert torch.equal(tensor, teacher.encoder.stack.layers[theirs].state_dict()[name])
    data = tmp_path / "texts.jsonl"
    data.write_text("".join(f'{{"text": "anna lives in {place}"}}\n' for place in ["paris", "london"] * 20))
    steps = {"train": replace(recipe.train, steps=4), "sentences": replace(recipe.train, steps=4)}
    run(replace(recipe, **steps), TrainOptions(tmp_path / "run", (str(data),)))
    made = EncoderPipeline.from_pretrained(str(tmp_path / "run/model"))
    assert made.sentence.settings.prompts == prompts
    assert made.sentence.settings.default_prompt == "query"
    rows = Sequences.load(tmp_path / "run/data")
    begins = {tuple(rows[row].tolist()[:3]) for row in range(len(rows))}
    assert begins == {
        tuple(teacher.tokenizer.add_special_tokens(teacher.tokenizer.encode(p))[0][:3])
        for p in prompts.values()
    }
    with pytest.raises(InputError, match="width, heads and inner size are not the teacher's"):
        replace(recipe, hidden_size=16).new_student(teacher.encoder)
    with pytest.raises(InputError, match="the teacher has 4 layers, not 5"):
        replace(recipe, layers=5).new_student(teacher.encoder)


def test_contrast_prefers_the_own_text_among_the_batch() -> None:
    torch.manual_seed(0)
    encoder = TextEncoder(replace(CONFIG, vocab_size=VOCAB)).eval()
    rows = batch()
    own_BE = sentences.SETTINGS.pool(encoder(rows.ids_BT, rows.valid_BT).hidden_BTE, rows.valid_BT).detach()
    student = Student(encoder)
    right, wrong = sentences.Alignment(own_BE, 20.0), sentences.Alignment(own_BE.roll(1, 0), 20.0)
    expected = torch.nn.functional.cross_entropy(20 * own_BE @ own_BE.T, torch.arange(3), reduction="sum")
    assert right(student, rows).total.item() == pytest.approx(float(expected), rel=1e-4)
    assert wrong(student, rows).total > right(student, rows).total
