"""UniLM: the rows of its tasks, parity of the four with `transformers` under ready-made masks, leaks, files."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from multiway_blocks.masks import Role
from multiway_blocks.text_encoder import PRESETS, TextEncoder, TextEncoderConfig
from multiway_core.errors import ConfigError, InputError
from multiway_text.data.corruption import UNILM, Vocabulary
from multiway_text.data.masked_batch import collate, masked_lm_loss
from multiway_text.encoder import checkpoint
from multiway_text.encoder.heads import MaskedLM
from multiway_text.unilm.model import rescale_residuals, with_segments
from multiway_text.unilm.objective import SEGMENTS, SHARES, cloze

WORDS = Vocabulary(2, 3, 4, np.arange(5, 61))
CONFIG = TextEncoderConfig("bert", 61, 24, 3, 4, 56, 40, 6, 1e-5, 0, 0, pooler=False)
TASKS = list(SHARES)


def rows(seed=0, lengths=(11, 7, 14, 9), tasks=TASKS):
    generator = np.random.default_rng(seed)
    return [
        cloze(generator.integers(5, 61, length), task, WORDS, UNILM, generator)
        for task, length in zip(tasks, lengths, strict=True)
    ]


def model(config=CONFIG, seed=0):
    torch.manual_seed(seed)
    made = MaskedLM(TextEncoder(config)).eval()
    for parameter in made.parameters():
        parameter.data.add_(torch.randn_like(parameter), alpha=0.1)
    return made


def logits(made, batch, mask=None):
    with torch.no_grad():
        return made(
            batch.ids_BT,
            batch.valid_BT,
            mask=batch.visibility() if mask is None else mask,
            positions_BT=batch.positions_BT,
            types_BT=batch.types_BT,
        )


@pytest.mark.parametrize("task", [*TASKS, "mlm"])
def test_rows(task):
    text = np.arange(10, 40)
    for seed in range(20):
        parts = cloze(text, task, WORDS, UNILM, np.random.default_rng(seed))
        ids, targets, positions, types, steps = (
            np.concatenate([getattr(part, f"{name}_T") for part in parts])
            for name in ("ids", "targets", "positions", "types", "steps")
        )
        original = np.where(targets >= 0, targets, ids)
        pair = task in ("bidirectional", "seq2seq")
        assert original[0] == 2
        assert original[-1] == 3
        assert sorted(original[(original >= 5)]) == list(text)
        assert (original == 3).sum() == (2 if pair else 1)
        first = list(original).index(3) + 1
        assert set(types[:first]) == {SEGMENTS[task][0]}
        assert set(types[first:]) <= {SEGMENTS[task][1]}
        assert list(positions) == list(range(len(ids)))
        if task == "right_to_left":
            assert (steps == -positions).all()
        roles = [part.role for part in parts]
        one_way = task in ("left_to_right", "right_to_left")
        assert roles == (
            [Role.CONTEXT, Role.TRUE] if task == "seq2seq" else [Role.TRUE if one_way else Role.CONTEXT]
        )
        if task == "seq2seq":
            assert len(parts[0].ids_T) == first


def test_a_target_learns_where_to_stop_and_other_separators_stay():
    hidden = {task: set() for task in TASKS}
    for task in TASKS:
        for seed in range(300):
            parts = cloze(np.arange(10, 20), task, WORDS, UNILM, np.random.default_rng(seed))
            hidden[task] |= set(np.concatenate([part.targets_T for part in parts]).tolist())
    assert 3 in hidden.pop("seq2seq")
    assert not {2, 3} & set.union(*hidden.values())


def test_batch_shares_padding_and_loss():
    batch = collate(rows(), 0)
    assert batch.ids_BT.shape == batch.valid_BT.shape
    assert batch.valid_BT.sum() == 11 + 3 + 7 + 2 + 14 + 2 + 9 + 3
    made = model()
    loss = masked_lm_loss(made, batch)
    is_target = batch.targets_BT >= 0
    expected = torch.nn.functional.cross_entropy(
        logits(made, batch)[is_target], batch.targets_BT[is_target], reduction="sum"
    )
    torch.testing.assert_close(loss.total.detach(), expected)
    assert loss.weight == is_target.sum()


def dense(batch, shift=0):
    """The four masks as the paper draws them, one loop a task; ``shift`` plants a mask that is off by one."""
    count, length = batch.ids_BT.shape
    seen = torch.zeros(count, length, length, dtype=torch.bool)
    for b, task in enumerate(TASKS):
        real = int(batch.valid_BT[b].sum())
        places = batch.valid_BT[b].nonzero()[:, 0].tolist()
        source = int((batch.types_BT[b][batch.valid_BT[b]] == SEGMENTS[task][0]).sum())
        for q in range(real):
            for k in range(real):
                see = {
                    "bidirectional": True,
                    "left_to_right": k <= q + shift,
                    "right_to_left": k >= q - shift,
                    "seq2seq": k < source or (q >= source and k <= q + shift),
                }[task]
                seen[b, places[q], places[k]] = see
    return seen


@pytest.fixture(scope="module")
def peer(tmp_path_factory):
    """`BertForMaskedLM` of six segments and eps 1e-5, every tensor perturbed, and its folder."""
    from transformers import BertConfig, BertForMaskedLM

    torch.manual_seed(3)
    config = BertConfig(
        vocab_size=61, hidden_size=24, num_hidden_layers=3, num_attention_heads=4, intermediate_size=56,
        max_position_embeddings=40, type_vocab_size=6, layer_norm_eps=1e-2, attn_implementation="eager",
    )  # fmt: skip
    made = BertForMaskedLM(config).eval()
    for parameter in made.parameters():
        parameter.data.add_(torch.randn_like(parameter), alpha=0.2)
    folder = tmp_path_factory.mktemp("unilm")
    made.save_pretrained(folder)
    return made, folder


def peers_logits(made, batch, seen, types=None):
    additive = torch.where(seen | ~seen.any(-1, keepdim=True), 0.0, torch.finfo(torch.float32).min)[:, None]
    with torch.no_grad():
        return made(
            input_ids=batch.ids_BT,
            attention_mask=additive,
            token_type_ids=batch.types_BT if types is None else types,
            position_ids=batch.positions_BT,
        ).logits


def test_the_four_tasks_equal_the_peer_under_ready_made_masks(peer):
    made, folder = peer
    ours, _ = checkpoint.load(folder, MaskedLM)
    batch = collate(rows(), 0)
    expected = peers_logits(made, batch, dense(batch))
    found = logits(ours, batch)
    torch.testing.assert_close(found[batch.valid_BT], expected[batch.valid_BT], atol=1e-5, rtol=1e-5)
    targets = torch.where(batch.valid_BT, batch.targets_BT, -100)
    wanted = torch.nn.functional.cross_entropy(
        expected.flatten(0, 1), targets.flatten(), reduction="sum", ignore_index=-100
    )
    torch.testing.assert_close(masked_lm_loss(ours, batch).total.detach(), wanted)


@pytest.mark.parametrize("mistake", ["mask off by one", "segments swapped", "eps"])
def test_planted_mistakes_are_seen(peer, mistake):
    made, folder = peer
    ours, _ = checkpoint.load(folder, MaskedLM)
    batch = collate(rows(), 0)
    seen, types = dense(batch, shift=1 if mistake == "mask off by one" else 0), batch.types_BT
    if mistake == "segments swapped":
        types = torch.where(types == 4, 5, torch.where(types == 5, 4, types))
    if mistake == "eps":
        ours.encoder.embedding_norm.eps = 1e-12
    difference = (logits(ours, batch) - peers_logits(made, batch, seen, types))[batch.valid_BT].abs().max()
    assert difference > 1e-3


@pytest.mark.parametrize("task", ["left_to_right", "right_to_left", "seq2seq"])
def test_what_is_not_seen_changes_no_bit(task):
    made = model()
    parts = cloze(np.arange(10, 30), task, WORDS, UNILM, np.random.default_rng(0))
    batch = collate([parts], 0)
    before = logits(made, batch)[0]
    start = len(parts[0].ids_T) if task == "seq2seq" else 0
    for place in range(start + 1, batch.ids_BT.shape[1] - 1):
        ids = batch.ids_BT.clone()
        ids[0, place] = ids[0, place] % 50 + 5
        after = logits(made, batch._replace(ids_BT=ids))[0]
        unseen, seen = (slice(place), slice(place, None))
        if task == "right_to_left":
            unseen, seen = slice(place + 1, None), slice(place + 1)
        assert torch.equal(after[unseen], before[unseen])
        assert not torch.equal(after[seen], before[seen])


def test_version_1_file(tmp_path, peer):
    """As published: no architectures, ``layer_norm_epsilon``, old names of the norms; saved, it opens as BERT."""
    from transformers import BertForMaskedLM

    made, _ = peer
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): tensor
        for name, tensor in made.state_dict().items()
    } | {"cls.seq_relationship.weight": torch.zeros(2, 24), "cls.seq_relationship.bias": torch.zeros(2)}
    torch.save(old, tmp_path / "pytorch_model.bin")
    settings = {
        "vocab_size": 61, "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4,
        "intermediate_size": 56, "max_position_embeddings": 40, "type_vocab_size": 6, "hidden_act": "gelu",
        "layer_norm_epsilon": 1e-2,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(settings))
    ours, _ = checkpoint.load(tmp_path, MaskedLM)
    assert ours.encoder.config.norm_eps == 1e-2
    batch = collate(rows(), 0)
    expected = peers_logits(made, batch, dense(batch))
    torch.testing.assert_close(
        logits(ours, batch)[batch.valid_BT], expected[batch.valid_BT], atol=1e-5, rtol=1e-5
    )
    del settings["layer_norm_epsilon"]
    (tmp_path / "config.json").write_text(json.dumps(settings))
    assert checkpoint.load(tmp_path, MaskedLM)[0].encoder.config.norm_eps == 1e-5

    checkpoint.save(ours, tmp_path / "saved")
    again = BertForMaskedLM.from_pretrained(tmp_path / "saved", attn_implementation="eager").eval()
    torch.testing.assert_close(
        peers_logits(again, batch, dense(batch))[batch.valid_BT],
        expected[batch.valid_BT],
        atol=1e-5,
        rtol=1e-5,
    )


def test_published_sizes_have_the_published_parameters():
    with torch.device("meta"):
        base = TextEncoder(PRESETS["unilm1-base-cased"])
    assert sum(parameter.numel() for parameter in base.parameters()) == 108_313_344


def test_residual_branches_are_rescaled_by_depth():
    torch.manual_seed(0)
    before = TextEncoder(CONFIG)
    torch.manual_seed(0)
    after = TextEncoder(CONFIG)
    rescale_residuals(after)
    for index in range(CONFIG.num_layers):
        one, other = before.stack.layers[index], after.stack.layers[index]
        for branch in ("attention.output", "feedforward.down"):
            ratio = one.get_submodule(branch).weight / other.get_submodule(branch).weight
            torch.testing.assert_close(ratio, torch.full_like(ratio, (2 * (index + 1)) ** 0.5))
        assert torch.equal(one.feedforward.up.weight, other.feedforward.up.weight)


def test_bert_gets_segments():
    encoder = TextEncoder(replace(CONFIG, num_types=2))
    table = encoder.type_embedding.weight.detach().clone()
    assert with_segments(encoder).config.num_types == 6
    assert torch.equal(encoder.type_embedding.weight, table[[0, 1, 0, 1, 0, 1]])
    assert encoder.type_embedding.weight.requires_grad
    with pytest.raises(ConfigError, match="6 token types"):
        with_segments(TextEncoder(replace(CONFIG, num_types=0)))


def test_bad_rows():
    with pytest.raises(ConfigError, match="unknown task 'forward'"):
        cloze(np.arange(5, 9), "forward", WORDS, UNILM, np.random.default_rng(0))
    with pytest.raises(InputError, match="at least 2 tokens"):
        cloze(np.arange(5, 6), "seq2seq", WORDS, UNILM, np.random.default_rng(0))
