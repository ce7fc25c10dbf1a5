"""BitDistill: prompts, the smaller vocabulary, examples, the student's beginning, and the losses."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from multiway_core.errors import InputError
from multiway_core.training import TrainConfig, TrainOptions, run
from multiway_text.bitdistill import (
    answers,
    evaluate,
    examples,
    prompts,
    recipe,
    student,
    vocabulary,
    word_lists,
)
from multiway_text.bitdistill.objective import BitDistillation, Distillation
from multiway_text.bitdistill.relations import watch
from multiway_text.decoders.bitnet import checkpoint as bitnet_checkpoint
from multiway_text.decoders.llama.config import LlamaConfig
from multiway_text.decoders.llama.model import Llama
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

TEXTS = [
    "What is a dog? A dog is an animal.",
    "What is a cat? A cat is a small animal that people keep.",
    "Hello!",
]
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=SPECIAL,
        show_progress=False,
    )
    made.train_from_iterator(TEXTS * 4, trainer)
    return made


def tiny_teacher(vocab_size: int) -> Llama:
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=32,
        num_layers=3,
        num_heads=4,
        num_kv_heads=2,
        head_dim=8,
        inner_size=64,
        vocab_size=vocab_size,
        max_positions=128,
        norm_eps=1e-5,
        rope_theta=10_000.0,
        tied_embeddings=True,
    )
    model = Llama(config).eval()
    for parameter in model.parameters():
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=0.15)
    return model


def test_prompts_hold_their_words_out() -> None:
    train, test = prompts.draw(seed=1)
    assert len(train) > 20_000
    assert len(test) > 800
    kept_out = {word for _, word in prompts.forms() if prompts.held_out(word)}
    assert not {prompt.text for prompt in train} & {prompt.text for prompt in test}
    asked = dict(prompts.forms())
    assert not any(asked[prompt.text] in kept_out for prompt in train)
    assert prompts.draw(seed=1)[0] == train
    known = {prompt.text: prompt.answer for prompt in prompts.known()}
    assert (
        known["What is the capital of the United States?"]
        == "The capital of the United States is Washington, D.C."
    )
    assert known["What is 7 times 8?"] == "7 times 8 is 56."
    assert known["Name the days of the week."].endswith("Saturday and Sunday.")
    # No prompt asks for two answers, and no fact has a held-out word.
    assert len({prompt.text for prompt in prompts.known()}) == len(list(prompts.known()))
    assert not any(word in text for text in word_lists.FACTS for word in kept_out)
    assert prompts.article("orange") == "an orange"
    assert prompts.article("the moon") == "the moon"


def test_words_of_a_vocabulary_are_not_held_out() -> None:
    spelt = [
        "Ġrailway",
        "Ġflutes",
        "Ġtables",
        "Ġtable",
        "Ġthe",
        "Ġ12345",
        "planes",
        "Ġplanes",
    ]  # "flute" is held out
    tokenizer = Tokenizer(models.BPE(vocab={token: index for index, token in enumerate(spelt)}, merges=[]))
    assert prompts.held_out("flute")
    asked = [prompt.text for prompt in prompts.of_vocabulary(tokenizer)]
    assert len(asked) == 3
    assert all(any(word in text for text in asked) for word in ("railway", "tables", "planes"))
    assert prompts.of_vocabulary(tokenizer) == prompts.of_vocabulary(tokenizer)


def test_smaller_vocabulary_cuts_its_words_as_before(tokenizer: Tokenizer) -> None:
    counts = vocabulary.count(tokenizer, ["A dog is an animal."] * 3)
    small, kept_V = vocabulary.reduced(tokenizer, counts, 290)
    assert small.get_vocab_size() == len(kept_V) == 290
    assert [small.token_to_id(token) for token in SPECIAL] == [0, 1, 2]
    assert torch.equal(vocabulary.ids_in(tokenizer, small), kept_V)
    with pytest.raises(InputError, match="not of this teacher"):
        vocabulary.ids_in(small, tokenizer)
    known = "A dog is an animal."
    assert kept_V[torch.tensor(small.encode(known).ids)].tolist() == tokenizer.encode(known).ids
    for text in (*TEXTS, "Zebra ß 今天 🎉"):
        assert small.decode(small.encode(text).ids) == text
    with pytest.raises(ValueError, match="cannot hold"):
        vocabulary.reduced(tokenizer, Counter(), 100)


def test_states_are_kept_where_the_tokens_are_the_same(tokenizer: Tokenizer) -> None:
    said = [*(tokenizer.id_to_token(token) for token in tokenizer.encode("A dog.").ids), "<|im_end|>"]
    states = torch.arange(float(len(said)))[:, None].repeat(1, 4).bfloat16()
    same = examples.example(tokenizer, "What?", "A dog.", said, states)
    pieces = [*said[:-3], "Ġd", "og", *said[-2:]]  # the teacher cut the noun otherwise
    assert said[-3] == "Ġdog"
    other = examples.example(tokenizer, "What?", "A dog.", pieces, states[: len(pieces)].repeat(2, 1))
    cut = examples.example(tokenizer, "What is it?", "A dog.", said[:-1], states[:-1])
    last = len(said) - 1
    assert same.taught == list(range(len(said)))
    assert other.taught == [*range(last - 2), last - 1, last]
    assert cut.taught == list(range(last))
    assert examples.example(tokenizer, "What?", "A dog.").taught == []
    batch = examples.batch([same, other, cut])
    assert batch.taught_N.sum() == len(batch.states_NE) == 3 * len(said) - 2
    targets = batch.targets_BT[batch.targets_BT != examples.NO_TARGET].view(3, -1)
    assert targets.tolist() == [same.answer] * 3
    row = batch.tokens_BT[2, : len(cut.prompt) + len(cut.answer) - 1].tolist()
    assert row == [*cut.prompt, *cut.answer[:-1]]


def test_batches_are_a_function_of_the_step() -> None:
    rows = [examples.Example([1] * (2 + i % 9), [2, 3], [], torch.zeros(0, 4)) for i in range(50)]
    source = examples.Batches(rows, 60, ramp=4, seed=3)
    first = [source(step, 0, 1) for step in range(8)]
    again = [examples.Batches(rows, 60, ramp=4, seed=3)(step, 0, 1) for step in (7, 2)]
    assert torch.equal(again[0].tokens_BT, first[7].tokens_BT)
    assert torch.equal(again[1].tokens_BT, first[2].tokens_BT)
    assert [batch.strength for batch in first[:5]] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert all(batch.tokens_BT.numel() <= 60 for batch in first)


def test_student_begins_close_to_the_teacher(tokenizer: Tokenizer) -> None:
    teacher = tiny_teacher(tokenizer.get_vocab_size())
    tokens = torch.randint(0, tokenizer.get_vocab_size(), (2, 30))
    kept_V = torch.arange(0, tokenizer.get_vocab_size(), 2)
    made = student.from_teacher(teacher, (0, 1, 2), kept_V, tokens).eval()
    student.set_strength(made, 0.0)
    own = torch.randint(0, len(kept_V), (1, 20))
    hidden, theirs = made.hidden(own), teacher.hidden(kept_V[own])
    similarity = torch.nn.functional.cosine_similarity(hidden, theirs, dim=-1).mean()
    assert similarity > 0.8
    fresh = student.from_teacher(teacher, (0, 1, 2), kept_V, tokens)
    for layer in fresh.decoder.layers:
        layer.attention.norm.weight.data.fill_(1.0)
        layer.feedforward.norm.weight.data.fill_(1.0)
    student.set_strength(fresh, 0.0)
    assert torch.nn.functional.cosine_similarity(fresh.hidden(own), theirs, dim=-1).mean() < similarity


def test_the_whole_objective_sees_the_relations_of_both(tokenizer: Tokenizer) -> None:
    teacher = tiny_teacher(64)
    torch.manual_seed(1)
    made = student.from_teacher(teacher, (0, 1, 2), torch.arange(64), torch.randint(0, 64, (2, 20)))
    rows = [examples.Example([1, 2, 3, 4, 5], [6, 7, 8], [], torch.zeros(0, 0))] * 2
    batch = replace(examples.batch(rows), strength=0.75)
    parts = {
        name: BitDistillation(teacher, splits=4, logits_weight=a, relation_weight=b)(made, batch)
        for name, a, b in (("plain", 0.0, 0.0), ("logits", 10.0, 0.0), ("all", 10.0, 3.0))
    }
    everything = parts["all"]
    assert set(parts["plain"].metrics) == {"nll"}
    assert float(everything.total.detach()) == pytest.approx(
        float(parts["plain"].total.detach())
        + 10 * 6 * float(everything.metrics["kl"])
        + 3 * 6 * float(everything.metrics["relations"])
    )
    assert {module.strength for module in made.modules() if hasattr(module, "strength")} == {batch.strength}
    with torch.no_grad():  # the teacher's distribution is the one that weighs
        places = batch.targets_BT != examples.NO_TARGET
        own, theirs = (
            (model.logits(model.hidden(batch.tokens_BT)[places]).float() / 5).log_softmax(-1)
            for model in (made, teacher)
        )
        divergence = (theirs.exp() * (theirs - own)).sum(-1).mean()
    assert float(everything.metrics["kl"]) == pytest.approx(25 * float(divergence), rel=1e-4)
    everything.total.backward()
    gradients = {name: p.grad for name, p in made.named_parameters()}
    assert all(g is not None and bool(g.isfinite().all()) for g in gradients.values())
    assert all(p.grad is None for p in teacher.parameters())
    with watch(teacher, -1) as states:
        teacher.hidden(batch.tokens_BT)
    query, key, value = states.all()
    assert (query.shape, key.shape, value.shape) == ((2, 4, 7, 8), (2, 2, 7, 8), (2, 2, 7, 8))
    attention = teacher.decoder.layers[-1].attention
    mixed = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, is_causal=True, enable_gqa=True
    )
    seen: list[torch.Tensor] = []
    hook = attention.output.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    teacher.hidden(batch.tokens_BT)
    hook.remove()
    torch.testing.assert_close(mixed.transpose(1, 2).flatten(2), seen[0], atol=1e-5, rtol=1e-4)


def test_teacher_answers_in_batches_as_alone(tokenizer: Tokenizer) -> None:
    teacher = answers.Teacher(tiny_teacher(tokenizer.get_vocab_size()), tokenizer, system="Be brief.")
    asked = ["What is a dog?", "Hello!", "What is a cat that people keep?"]
    together = teacher.answer(asked, max_tokens=12)
    for prompt, answer in zip(asked, together, strict=True):
        (alone,) = teacher.answer([prompt], max_tokens=12)
        assert (alone is None) == (answer is None)
        if alone is not None and answer is not None:
            assert torch.equal(alone.tokens, answer.tokens)
            torch.testing.assert_close(alone.hidden_TE, answer.hidden_TE, atol=0.05, rtol=0.05)


def test_a_teacher_without_turns_is_refused(tokenizer: Tokenizer) -> None:
    plain = Tokenizer(models.BPE(vocab={"a": 0}, merges=[]))
    with pytest.raises(InputError, match="ChatML"):
        answers.Teacher(tiny_teacher(8), plain)


def test_whole_path_learns_and_saves(tokenizer: Tokenizer, tmp_path: Path) -> None:
    """A few steps lower the loss; what is written is read back packed, and answers."""
    torch.manual_seed(0)
    teacher = tiny_teacher(tokenizer.get_vocab_size())
    asked = [prompts.Prompt("What is a dog?", "A dog is an animal."), prompts.Prompt("Hello!", "Hello!")]
    answered = [(p.text, torch.tensor(tokenizer.encode(p.answer or "").ids)) for p in asked]
    taught = [
        (text, tokens, torch.randn(len(tokens) + 1, 32, dtype=torch.bfloat16)) for text, tokens in answered
    ]
    plan = recipe.Recipe(
        layers=(0, 2),
        vocab_size=300,
        batch_tokens=200,
        logits_weight=0.1,
        train=TrainConfig(
            steps=60, learning_rate=3e-3, schedule="linear", checkpoint_every_seconds=0, ema_decay=0.9
        ),
    )
    made, small, kept_V = recipe.make_student(teacher, tokenizer, taught, asked, plan)
    rows = recipe.make_examples(tokenizer, small, taught)
    objective = Distillation(teacher.embedding.weight[kept_V], logits_weight=0.0)
    before = float(objective(made, examples.batch(rows)).metrics["nll"])
    recipe.job(made, teacher.embedding.weight[kept_V], rows, plan, plan.train, small=small).fit(
        tmp_path / "run"
    )
    after = float(objective(made, examples.batch(rows)).metrics["nll"])
    assert after < 0.5 * before
    recipe.save(made, small, tmp_path / "model")
    packed = bitnet_checkpoint.load(tmp_path / "model")
    said = evaluate.answers(packed, small, [p.text for p in asked], max_tokens=12)
    assert evaluate.known_accuracy(said, asked) == 1.0
    on, _, ids = recipe.read_student(tmp_path / "model", tokenizer)  # what was written learns on
    assert torch.equal(ids, kept_V)
    kept = float(objective(on, examples.batch(rows)).metrics["nll"])
    assert kept == pytest.approx(after, abs=0.1)
    start = {name: value.clone() for name, value in on.state_dict().items()}
    further = dataclasses.replace(
        plan, frozen_layers=1, ramp=0.0, train=dataclasses.replace(plan.train, steps=2)
    )
    continued = recipe.job(
        on, teacher.embedding.weight[kept_V], rows, further, further.train, small=small, held_out=rows[:1]
    )
    continued.fit(tmp_path / "further")
    assert list(json.loads((tmp_path / "further" / "held_out.json").read_text())["0"]) == ["nll"]
    same = {name for name, value in on.state_dict().items() if torch.equal(value, start[name])}
    assert {name for name in start if name.startswith(("embedding", "decoder.layers.0."))} <= same
    assert "decoder.layers.1.attention.qkv.weight" not in same
    with pytest.raises(InputError, match="no answers"):
        recipe.answers_in(tmp_path)


def test_what_a_distillation_needs_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="needs a teacher"):
        run(recipe.Recipe(), TrainOptions(tmp_path / "run"))
    with pytest.raises(InputError, match="--prompts, not --data"):
        run(recipe.Recipe(teacher="x.gguf"), TrainOptions(tmp_path / "run", ("a.txt",)))


def test_mixture_has_the_share() -> None:
    one = examples.Example([1], [2], [], torch.zeros(0, 4))
    other = dataclasses.replace(one, prompt=[3])
    mixed = recipe.mixed([one] * 90, [other] * 4, 0.1)
    assert len(mixed) == 100
    assert sum(e.prompt == [3] for e in mixed) == 10
    many = recipe.mixed([one] * 2, [other] * 30, 0.6)  # all of both, and those there are too few of again
    assert (len(many), sum(e.prompt == [3] for e in many)) == (50, 30)


def test_repeats_are_seen() -> None:
    assert evaluate._repeats("a dog is a dog is a dog")
    assert not evaluate._repeats("a dog is an animal")
