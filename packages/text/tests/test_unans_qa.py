"""Unanswerable twins: pairs, the network against torch and loops, search, training, rules, scores."""

from __future__ import annotations

import contextlib
import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from multiway_core.errors import ConfigError, DataError, InputError, MultiwayError
from multiway_core.training import TrainOptions, run
from multiway_text.data.squad import Answer, Question, read_squad, write_squad
from multiway_text.unans_qa import pairs as pairs_module
from multiway_text.unans_qa.augmentation import with_twins
from multiway_text.unans_qa.config import UnansQaConfig
from multiway_text.unans_qa.model import BiLSTM, QuestionGenerator, Source
from multiway_text.unans_qa.objective import twin_loss
from multiway_text.unans_qa.pairs import Answerable, Batch, collate, encode, read_pairs
from multiway_text.unans_qa.pipeline import UnansQaPipeline
from multiway_text.unans_qa.recipe import RECIPES, divided, made_up_pairs
from multiway_text.unans_qa.rules import RulePipeline
from multiway_text.unans_qa.scores import copy_rate, edit_precision, gleu
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

CONFIG = UnansQaConfig(vocab_size=23, embedding_size=7, hidden_size=5, dropout=0.0, begin_id=1, end_id=2)
SQUAD_CONTEXT = "Tesla was born in 1856 in Smiljan. He died in 1943 in New York."


def generator(arch: str = "pair2seq", seed: int = 0) -> QuestionGenerator:
    torch.manual_seed(seed)
    model = QuestionGenerator(replace(CONFIG, arch=arch)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return model


def batch(arch: str = "pair2seq", seed: int = 0, rows: int = 4) -> Batch:
    """Rows of unlike lengths, in which pieces come several times."""
    generator = torch.Generator().manual_seed(seed)

    def padded(longest: int, first: int = 3) -> torch.Tensor:
        lengths = torch.randint(1, longest + 1, (rows, 1), generator=generator)
        lengths[0] = longest
        ids = torch.randint(first, 9, (rows, longest), generator=generator)
        return torch.where(torch.arange(longest) < lengths, ids, 0)

    made = [padded(9), padded(5)][: 2 if arch == "pair2seq" else 1]
    sources = [Source(ids, torch.randint(0, 3, ids.shape, generator=generator)) for ids in made]
    target = padded(6)
    return Batch(tuple(sources), torch.cat([torch.ones(rows, 1, dtype=torch.long), target], 1))


def test_the_lstm_is_torchs_on_packed_rows() -> None:
    torch.manual_seed(0)
    ours, theirs = BiLSTM(6, 4), nn.LSTM(6, 4, batch_first=True, bidirectional=True)
    state = theirs.state_dict()
    for side, end in ((ours.forwards, ""), (ours.backwards, "_reverse")):
        side.load_state_dict({name: state[f"{name}{end}"] for name in side.state_dict()})
    x, lengths = torch.randn(4, 7, 6, requires_grad=True), torch.tensor([3, 7, 1, 5])
    valid = torch.arange(7) < lengths[:, None]
    packed, (last, _) = theirs(pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False))
    states, _ = pad_packed_sequence(packed, batch_first=True, total_length=7)
    found, ends = ours(x, valid)
    assert torch.allclose(found[valid], states[valid], atol=1e-6)
    assert torch.allclose(ends, last.transpose(0, 1).flatten(1), atol=1e-6)
    weights = torch.randn(4, 7, 8) * valid[..., None]
    grads = [torch.autograd.grad((s * weights).sum(), x, retain_graph=True)[0] for s in (found, states)]
    assert torch.allclose(*grads, atol=1e-6)


@pytest.mark.parametrize("arch", ["pair2seq", "seq2seq"])
def test_the_mixture_is_that_of_a_loop_and_sums_to_one(arch: str) -> None:
    model, rows = generator(arch).double(), batch(arch)
    memories, state = model.read(rows.sources)
    mixture, _ = model.decode(rows.target_BT[:, :-1], state, memories)
    found = mixture.log_probs(memories).exp()
    assert torch.allclose(found.sum(2), torch.ones(found.shape[:2]).double())
    for b in range(found.shape[0]):
        for t in range(found.shape[1]):
            expected = mixture.ways_BTK[b, t, 0] * mixture.logits_BTV[b, t].softmax(0)
            for way, memory in enumerate(memories, 1):
                for place, piece in enumerate(memory.ids_BS[b].tolist()):
                    expected[piece] += mixture.ways_BTK[b, t, way] * mixture.copied[way - 1][b, t, place]
                    assert piece or mixture.copied[way - 1][b, t, place] == 0  # padding is never copied
            assert torch.allclose(found[b, t], expected)
    labels = rows.target_BT[:, 1:]
    assert torch.allclose(
        mixture.log_probs_of(labels, memories), found.log().gather(2, labels[..., None])[..., 0]
    )


def test_the_bonus_is_for_places_behind_the_piece_written_last() -> None:
    model, rows = generator(), batch()
    memories, state = model.read(rows.sources)
    with torch.no_grad():
        model.follow.fill_(60.0)
        mixture, _ = model.decode(rows.target_BT[:, :-1], state, memories)
    for memory, copied_BTS in zip(memories, mixture.copied, strict=True):
        for b, places in enumerate(memory.ids_BS.tolist()):
            for t, last in enumerate(rows.target_BT[b, :-1].tolist()):
                behind = [i for i, piece in enumerate(places) if piece and ([1, *places][i] == last)]
                if behind and last:
                    assert copied_BTS[b, t, behind].sum() > 0.999


@pytest.mark.parametrize("arch", ["pair2seq", "seq2seq"])
def test_a_row_does_not_depend_on_its_batch_and_steps_equal_one_pass(arch: str) -> None:
    model, rows = generator(arch), batch(arch)
    memories, state = model.read(rows.sources)
    whole, _ = model.decode(rows.target_BT[:, :-1], state, memories)
    for row in range(len(rows.target_BT)):
        alone = [
            Source(*(part[row : row + 1, : int((s.ids_BS[row] > 0).sum())] for part in s))
            for s in rows.sources
        ]
        own, state = model.read(alone)
        for t in range(rows.target_BT.shape[1] - 1):
            mixture, state = model.decode(rows.target_BT[row : row + 1, t : t + 1], state, own)
            expected = whole.log_probs(memories)[row, t]
            assert torch.allclose(mixture.log_probs(own)[0, 0], expected, atol=1e-5)


@pytest.mark.parametrize("arch", ["pair2seq", "seq2seq"])
def test_the_loss_and_its_gradients_are_those_of_float64_differences(arch: str) -> None:
    model, rows = generator(arch).double(), batch(arch)
    loss = twin_loss(model, rows)
    memories, state = model.read(rows.sources)
    found = model.decode(rows.target_BT[:, :-1], state, memories)[0].log_probs(memories)
    expected = -sum(
        found[b, t, label]
        for b, labels in enumerate(rows.target_BT[:, 1:].tolist())
        for t, label in enumerate(labels)
        if label
    )
    assert torch.allclose(loss.total, expected)
    assert loss.weight == (rows.target_BT[:, 1:] > 0).sum()
    parameters = dict(model.named_parameters())
    grads = dict(zip(parameters, torch.autograd.grad(loss.total, list(parameters.values())), strict=True))
    draw = random.Random(0)
    for name, parameter in parameters.items():
        flat, place = parameter.data.view(-1), draw.randrange(parameter.numel())
        if name.startswith("token_embedding") and place < CONFIG.embedding_size:
            place += 3 * CONFIG.embedding_size  # torch lets no gradient into the row of padding
        value = float(flat[place])
        sides = []
        for step in (1e-5, -1e-5):
            flat[place] = value + step
            sides.append(float(twin_loss(model, rows).total.detach()))
        flat[place] = value
        slope = (sides[0] - sides[1]) / 2e-5
        assert abs(slope - float(grads[name].flatten()[place])) < 1e-5 * max(1, abs(slope)), name
    single = twin_loss(generator(arch), rows)
    assert torch.allclose(single.total.double(), loss.total, rtol=1e-5)


def squad_file(folder: Path, items: list[dict]) -> str:
    path = folder / "squad.json"
    content = {"data": [{"title": "T", "paragraphs": [{"context": SQUAD_CONTEXT, "qas": items}]}]}
    path.write_text(json.dumps(content))
    return str(path)


def item(question: str, answer: str, *, impossible: bool) -> dict:
    answers = [{"text": answer, "answer_start": SQUAD_CONTEXT.index(answer)}]
    sides = {"answers": [], "plausible_answers": answers} if impossible else {"answers": answers}
    return {"id": question, "question": question, "is_impossible": impossible, **sides}


def test_pairs_share_their_answer_and_each_question_serves_once(tmp_path: Path) -> None:
    path = squad_file(
        tmp_path,
        [
            item("When was Tesla born?", "1856", impossible=False),
            item("In which year was Tesla born?", "1856", impossible=False),
            item("When wasn't Tesla born?", "1856", impossible=True),
            item("In which year was Edison born?", "1856", impossible=True),
            item("When was Smiljan born?", "1856", impossible=True),  # no question is left for it
            item("When did Tesla die?", "1943", impossible=False),  # no twin
            item("Where was Tesla buried?", "New York", impossible=True),  # no answerable question
        ],
    )
    found = read_pairs([path])
    assert [(pair.answerable.question, pair.twin) for pair in found] == [
        ("When was Tesla born?", "When was Smiljan born?"),
        ("In which year was Tesla born?", "In which year was Edison born?"),
    ]
    assert {SQUAD_CONTEXT[p.answerable.start : p.answerable.end] for p in found} == {"1856"}


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 2), st.integers(0, 3)), max_size=12))
def test_aligned_pairs_keep_their_invariants(drawn: list[tuple[bool, int, int]]) -> None:
    spans = [Answer("1856", 18), Answer("Smiljan", 26), Answer("1943", 46)]
    told = ["When was he born", "When was she born there", "Where", "Why did he leave the town"]
    questions = [
        Question(
            str(i), f"{told[w]} {i}", SQUAD_CONTEXT, *((spans[s],), "") if able else ((), "", (spans[s],))
        )
        for i, (able, s, w) in enumerate(drawn)
    ]
    found = pairs_module.aligned(questions)
    by_text = {question.question: question for question in questions}
    for pair in found:
        able, unable = by_text[pair.answerable.question], by_text[pair.twin]
        assert able.answers
        assert not unable.answers
        assert (pair.answerable.start, pair.answerable.end) == (able.answers[0].start, able.answers[0].end)
        assert able.answers == unable.plausible
    assert len({p.twin for p in found}) == len({p.answerable.question for p in found}) == len(found)
    counts = [min(sum(a == x and s == n for a, s, _ in drawn) for x in (True, False)) for n in range(3)]
    assert len(found) == sum(counts)  # as many as there can be


def released(folder: Path, **changes: str) -> str:
    rows = {
        "context": "he was born in 1856 .\t0\t5",
        "answerable-questions": "a\twhen was he born ?\t4\t4",
        "unanswerable-questions": "b\twhen was he not born ?\t4\t4",
    }
    for name, row in {**rows, **changes}.items():
        (folder / f"dev-{name}.txt").write_text(row + "\n")
    return str(folder / "dev-context.txt")


def test_released_lists_are_read(tmp_path: Path) -> None:
    [pair] = read_pairs([released(tmp_path)])
    one = pair.answerable
    assert one.context[one.start : one.end] == "1856"
    assert (one.question, pair.twin) == ("when was he born ?", "when was he not born ?")


@pytest.mark.parametrize(
    ("name", "row", "said"),
    [
        ("context", "he was born in 1856 .", "expected 3 fields"),
        ("context", "he was born\t0\t5", "is not in 3 words"),
        ("answerable-questions", "a\twhen ?\tx\t4", "whole numbers"),
        ("unanswerable-questions", "b\twhen ?\t3\t4", "not the answer"),
        ("unanswerable-questions", "b\twhen ?\t4\t4\nb\twhy ?\t4\t4", "unequal length"),
    ],
)
def test_damaged_lists_are_refused(tmp_path: Path, name: str, row: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        read_pairs([released(tmp_path, **{name: row})])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text("a1\t\n ²½\u2028-", max_size=14), min_size=3, max_size=3))
def test_no_list_ends_in_another_error(tmp_path_factory: pytest.TempPathFactory, drawn: list[str]) -> None:
    folder = tmp_path_factory.mktemp("lists")
    names = ("context", "answerable-questions", "unanswerable-questions")
    path = released(folder, **dict(zip(names, drawn, strict=True)))
    with contextlib.suppress(MultiwayError):
        assert read_pairs([path])


def test_files_without_pairs_are_refused(tmp_path: Path) -> None:
    path = squad_file(tmp_path, [item("When was Tesla born?", "1856", impossible=False)])
    with pytest.raises(InputError, match="no pair"):
        read_pairs([path])
    assert read_squad([path])


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("unans-qa")
    report = run(RECIPES["unanswerable-smoke"], TrainOptions(output, seed=3))
    assert report.held_out["loss"] < 0.3 * report.held_out_before["loss"]
    return report.folder


def test_a_trained_generator_changes_the_verb_of_unseen_questions(trained: Path) -> None:
    pipeline = UnansQaPipeline.from_pretrained(str(trained))
    _, held_out = divided(made_up_pairs())
    questions = [pair.answerable for pair in held_out]
    found = pipeline.twins(questions)
    for one, twin in zip(questions, found, strict=True):
        assert twin != one.question
        assert twin.split()[:-1] == one.question.split()[:-1]
    pipeline.batch_size = 1
    assert pipeline.twins(questions) == found


def test_the_search_finds_what_a_search_over_whole_sequences_finds(trained: Path) -> None:
    """With as many beams as the vocabulary has pieces, two steps are searched exhaustively."""
    pipeline = UnansQaPipeline.from_pretrained(str(trained))
    model = pipeline.model
    model.config = replace(model.config, max_target=2)
    pipeline.num_beams = model.config.vocab_size
    rows = encode([made_up_pairs()[0].answerable], pipeline.tokenizer, model.config)
    [found] = pipeline._search(rows, [[]])
    batch = collate(rows, model.config)
    special = set(pipeline.tokenizer.special.values())
    plain = [i for i in range(model.config.vocab_size) if i not in special]
    with torch.no_grad():
        memories, state = model.read(batch.sources)
        begin = model.config.begin_id
        first = model.decode(torch.tensor([[begin]]), state, memories)[0].log_probs(memories)[0, 0]
        scores = {(): float(first[model.config.end_id])}
        for one in plain:
            mixture, _ = model.decode(torch.tensor([[begin, one]]), state, memories)
            second = mixture.log_probs(memories)[0, 1]
            ends = {(one,): model.config.end_id, **{(one, two): two for two in plain}}
            scores |= {ids: (float(first[one]) + float(second[end])) / 2 for ids, end in ends.items()}
    assert tuple(found) == max(scores, key=lambda ids: scores[ids])


def test_a_copy_is_passed_over_for_the_next_best(trained: Path) -> None:
    pipeline = UnansQaPipeline.from_pretrained(str(trained))
    one = made_up_pairs()[0].answerable
    rows = encode([one], pipeline.tokenizer, pipeline.model.config)
    [best] = pipeline._search(rows, [[]])
    [other] = pipeline._search(rows, [best])
    assert other != best
    pipeline.copies = True
    assert pipeline._search(rows, [best]) == [best]


def test_long_contexts_are_read_around_the_answer(trained: Path) -> None:
    pipeline = UnansQaPipeline.from_pretrained(str(trained))
    one = made_up_pairs()[0].answerable
    filler = "It rains. " * 400
    far = replace(one, context=filler + one.context + filler, start=one.start + 4000, end=one.end + 4000)
    [rows] = encode([far], pipeline.tokenizer, pipeline.model.config)
    ids, tags = rows.sources[0]
    answer = pipeline.tokenizer.decode([i for i, tag in zip(ids, tags, strict=True) if tag == 1])
    assert len(ids) == pipeline.model.config.max_context
    assert answer == one.context[one.start : one.end]
    assert pipeline.twins([far])[0]


def test_characters_that_the_vocabulary_lacks_stand_in_the_way_of_nothing(trained: Path) -> None:
    pipeline = UnansQaPipeline.from_pretrained(str(trained))
    one = made_up_pairs()[0].answerable
    known = pipeline.twins([one])
    assert pipeline.twins([replace(one, context=f"{one.context} \N{SNOWMAN} 橋")]) != [""]
    assert pipeline.twins([one]) == known


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"question": " "}, "0 pieces"),
        ({"question": "why " * 99}, "expected 1 to 64"),
        ({"start": 4, "end": 4}, "its answer has no text"),
    ],
)
def test_bad_questions_are_refused(trained: Path, change: dict, said: str) -> None:
    one = replace(made_up_pairs()[0].answerable, **change)
    pipeline = UnansQaPipeline.from_pretrained(str(trained))
    with pytest.raises(InputError, match=said):
        encode([one], pipeline.tokenizer, pipeline.model.config)
    if "question" in change:  # costs only itself
        [first, second] = pipeline.twins([one, made_up_pairs()[0].answerable])
        assert not first
        assert second


def test_bad_sizes_are_refused() -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        UnansQaConfig(hidden_size=0)
    with pytest.raises(ConfigError, match="below vocab_size"):
        UnansQaConfig(vocab_size=3)


def test_a_stopped_training_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    weights = []
    for name, stops in {"whole": [None], "stopped": [1e-9, None]}.items():
        for minutes in stops:
            run(RECIPES["unanswerable-smoke"], TrainOptions(tmp_path / name, steps=8, minutes=minutes))
        weights.append((tmp_path / name / "model" / "model.safetensors").read_bytes())
    assert weights[0] == weights[1]


def twin_of(question: str, answer: str = "1856", context: str = SQUAD_CONTEXT) -> str:
    start = context.index(answer)
    return RulePipeline().twins([Answerable(question, context, start, start + len(answer))])[0]


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("Who died in 1943?", "Who died in 1856?"),
        ("What happened after the first war?", "What happened before the first war?"),
        ("When was he born?", "When wasn't he born?"),
        ("Who invented radio?", "Who never invented radio?"),
        ("Name the man.", ""),
    ],
)
def test_rules(question: str, expected: str) -> None:
    answer = "Tesla" if "1943" in question else "1856"
    assert twin_of(question, answer) == expected


def test_twins_stand_beside_their_questions(tmp_path: Path) -> None:
    path = squad_file(
        tmp_path,
        [
            item("When was Tesla born?", "1856", impossible=False),
            item("When was Smiljan born?", "1856", impossible=True),  # what the rule would write
            item("When did Tesla die?", "1943", impossible=False),
            item("Name the town.", "Smiljan", impossible=False),  # no rule applies
        ],
    )
    found = with_twins(read_squad([path]), RulePipeline())
    assert found.to_json() == {
        "schema": "multiway.question-answering.twins/1",
        "answerable": 3,
        "unanswerable": 1,
        "added": 1,
        "copies": 1,
        "unwritten": 1,
    }
    assert [one.question for one in found.questions][2:4] == ["When did Tesla die?", "When did Smiljan die?"]
    twin = found.questions[3]
    assert (twin.id, twin.answers) == ("When did Tesla die?-unanswerable", ())
    write_squad(tmp_path / "out.json", found.questions)
    again = read_squad([str(tmp_path / "out.json")])
    assert [(one.question, one.answers, one.plausible) for one in again] == [
        (one.question, one.answers, one.plausible) for one in found.questions
    ]
    assert any(pair.twin == "When did Smiljan die?" for pair in read_pairs([tmp_path / "out.json"]))


def test_rules_swap_names_of_the_context() -> None:
    context = "In 1905 Marie Curie met Albert Einstein, and in Paris Niels Bohr."
    assert twin_of("When did Marie Curie meet him?", "1905", context) == "When did Albert Einstein meet him?"


def test_scores() -> None:
    source, human = "when was the first bridge built ?", "when was the last bridge built ?"
    assert gleu([source], [human], [human]) == pytest.approx(100)
    assert copy_rate([source], [source.upper()]) == 1
    assert edit_precision([source], [source], [human]) == 0
    assert edit_precision([source], [human], [human]) == 1
    assert edit_precision([source], ["when was the last bridge closed ?"], [human]) == 0.5
    # By hand: of 7, 6, 5, 4 n-grams of the copy 6, 4, 2, 1 are right and 1, 2, 3, 3 are in the source alone.
    assert gleu([source] * 2, [source, human], [human] * 2) == pytest.approx(
        100 * (((5 + 7) * (2 + 6) * (0 + 5) * (0 + 4)) / (14 * 12 * 10 * 8)) ** 0.25
    )


def test_no_context_is_both_taught_and_held_out() -> None:
    pairs = made_up_pairs()
    taught, held_out = divided([*pairs, *pairs])
    contexts = [{pair.answerable.context for pair in side} for side in (taught, held_out)]
    assert held_out
    assert not contexts[0] & contexts[1]
    assert len(taught) + len(held_out) == 2 * len(pairs)
