"""s2s-ft against `transformers`' BERT under masks drawn by a loop; reading of pairs; training."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from multiway_core.errors import CheckpointError, ConfigError, DataError, InputError
from multiway_core.tokenization import TextTokenizer
from multiway_core.training import TrainOptions, run
from multiway_text.data.corruption import Masking, Vocabulary
from multiway_text.data.masked_batch import collate
from multiway_text.encoder import checkpoint
from multiway_text.encoder.heads import MaskedLM
from multiway_text.s2s_ft.config import Seq2SeqConfig
from multiway_text.s2s_ft.objective import Corruption, lay_out, smoothed_loss, stretch_positions
from multiway_text.s2s_ft.pairs import Pair, encode_sides, read_pairs
from multiway_text.s2s_ft.recipe import RECIPES, help_topics
from multiway_text.s2s_ft.vocabulary import cut
from multiway_text.seq2seq.decode import Decoding, Writer

VOCABULARY = Vocabulary(2, 3, 4, np.arange(5, 60))
PAIRS = [
    ([7, 9, 8], [10, 11, 12, 13]),
    ([11, 12, 6, 6, 13, 9, 14, 7], [20]),
    ([30, 31, 32, 33, 34], [40, 41, 42] * 3),
]


def row(source, target, config, corruption, seed=0):
    """A training row."""
    return lay_out(source, target, config, corruption, VOCABULARY, np.random.default_rng(seed))


@torch.no_grad()
def logits_of(model, batch) -> torch.Tensor:
    return model(
        batch.ids_BT,
        batch.valid_BT,
        mask=batch.visibility(),
        positions_BT=batch.positions_BT,
        types_BT=batch.types_BT,
    )


@pytest.fixture(scope="module")
def peer(tmp_path_factory):
    """(transformers' model, ours), with every tensor perturbed."""
    from transformers import BertConfig, BertForMaskedLM

    config = BertConfig(
        vocab_size=60, hidden_size=36, num_hidden_layers=3, num_attention_heads=3, intermediate_size=50,
        max_position_embeddings=40, type_vocab_size=2, layer_norm_eps=3e-4, attn_implementation="eager",
    )  # fmt: skip
    torch.manual_seed(1)
    theirs = BertForMaskedLM(config).eval()
    for parameter in theirs.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    folder = tmp_path_factory.mktemp("bert")
    theirs.save_pretrained(folder)
    ours, _ = checkpoint.load(folder, MaskedLM)
    return theirs, ours


def slow_logits(theirs, row, method: str) -> tuple[torch.Tensor, list[int]]:
    """Logits of a row alone, without padding, and what they should predict; the mask is drawn token by token."""
    context, true, *pseudo = row
    tokens = [int(t) for part in row for t in part.ids_T]
    count, written = len(context.ids_T), len(true.ids_T)
    places = list(range(count)) + [count + i for i in range(written)] * (1 + len(pseudo))
    seen = torch.full((len(tokens), len(tokens)), torch.finfo(torch.float32).min)
    for q in range(len(tokens)):
        for k in range(len(tokens)):
            q_true, q_pseudo = count <= q < count + written, q >= count + written
            k_true, k_pseudo = count <= k < count + written, k >= count + written
            if (
                k < count
                or (q_true and k_true and places[k] <= places[q])
                or (q_pseudo and k_true and places[k] < places[q])
                or (q_pseudo and k_pseudo and k == q)
            ):
                seen[q, k] = 0.0
    with torch.no_grad():
        logits = theirs(
            input_ids=torch.tensor([tokens]),
            attention_mask=seen[None, None],
            position_ids=torch.tensor([places]),
            token_type_ids=torch.tensor([[0] * count + [1] * (len(tokens) - count)]),
        ).logits[0]
    targets = [int(t) for part in row for t in part.targets_T]
    return logits, targets


@pytest.mark.parametrize("method", ["causal", "masked", "pseudo_masked"])
def test_training_logits_and_loss_equal_transformers(method, peer) -> None:
    theirs, ours = peer
    config = Seq2SeqConfig(method, 9, 8)
    generator = np.random.default_rng(5)
    rows = [lay_out(s, t, config, Corruption(0.5), VOCABULARY, generator) for s, t in PAIRS]
    batch = collate(rows, 0)
    with torch.no_grad():
        hidden = ours.encoder(
            batch.ids_BT, batch.valid_BT, mask=batch.visibility(),
            positions_BT=batch.positions_BT, types_BT=batch.types_BT,
        ).hidden_BTE  # fmt: skip
        logits, loss = ours.logits(hidden), smoothed_loss(ours, batch, 0.1)
    total, count = 0.0, 0
    for index, row in enumerate(rows):
        expected, targets = slow_logits(theirs, row, method)
        torch.testing.assert_close(logits[index][batch.valid_BT[index]], expected, atol=1e-5, rtol=0)
        for place, target in enumerate(targets):
            if target < 0:
                continue
            wanted = torch.full((60,), 0.1 / 58)
            wanted[0], wanted[target] = 0.0, 0.9
            total += float(
                torch.nn.functional.kl_div(expected[place].log_softmax(-1), wanted, reduction="sum")
            )
            count += 1
    assert float(loss.weight) == count
    assert float(loss.total) == pytest.approx(total, rel=1e-5)


def _swap_types(batch):
    return batch._replace(types_BT=1 - batch.types_BT)


def _shift_steps(batch):
    return batch._replace(steps_BT=batch.steps_BT + (batch.roles_BT == 2).long())


def _padded_positions(batch):
    start = int((batch.roles_BT == 0).sum(1)[0])
    return batch._replace(
        positions_BT=torch.where(batch.roles_BT > 0, batch.steps_BT + start, batch.positions_BT)
    )


@pytest.mark.parametrize("mistake", [_swap_types, _shift_steps, _padded_positions])
def test_planted_mistakes_are_seen(mistake, peer) -> None:
    theirs, ours = peer
    config = Seq2SeqConfig("pseudo_masked", 9, 8)
    rows = [lay_out(s, t, config, Corruption(0.5), VOCABULARY, np.random.default_rng(5)) for s, t in PAIRS]
    batch = mistake(collate(rows, 0))
    with torch.no_grad():
        logits = ours(
            batch.ids_BT,
            batch.valid_BT,
            mask=batch.visibility(),
            positions_BT=batch.positions_BT,
            types_BT=batch.types_BT,
        )
    wrong = [
        float((logits[i][batch.valid_BT[i]] - slow_logits(theirs, row, config.method)[0]).abs().max())
        for i, row in enumerate(rows)
    ]
    assert max(wrong) > 1e-2


def test_layouts() -> None:
    source, target = [7, 9, 8], [10, 11, 12, 13]
    never = Masking(masked=0.0, random=0.0)
    draws = {
        method: row(source, target, Seq2SeqConfig(method, 20, 20), Corruption(0.5, masking=never))
        for method in ("causal", "masked", "pseudo_masked")
    }
    context, true = draws["causal"]
    assert context.ids_T.tolist() == [2, 7, 9, 8]
    assert true.ids_T.tolist() == [3, 10, 11, 12, 13]
    assert true.targets_T.tolist() == [10, 11, 12, 13, 3]
    assert true.positions_T.tolist() == [4, 5, 6, 7, 8]
    context, true = draws["masked"]
    assert context.ids_T.tolist() == [2, 7, 9, 8, 3]
    assert true.ids_T.tolist() == [10, 11, 12, 13, 3]
    assert (true.targets_T >= 0).sum() == 2
    context, true, pseudo = draws["pseudo_masked"]
    assert pseudo.targets_T.tolist() == [10, 11, 12, 13, 3]
    assert pseudo.positions_T.tolist() == true.positions_T.tolist() == [5, 6, 7, 8, 9]
    # A target that is too long is cut at its end, and so keeps its [SEP].
    short = row(source, target, Seq2SeqConfig("pseudo_masked", 4, 3), Corruption())
    assert short[0].ids_T.tolist() == [2, 7, 9, 3]
    assert short[2].targets_T.tolist() == [10, 11, 3]


def test_draws() -> None:
    """Shares of what stands in pseudo and true slots; a dropped token is replaced by the very same draw."""
    config, target = Seq2SeqConfig("pseudo_masked", 10, 4001), [30] * 4000
    _, true, pseudo = row([7], target, config, Corruption(0.3), seed=3)
    labels = np.array([*target, 3])
    assert (pseudo.ids_T == 4).mean() == pytest.approx(0.8, abs=0.02)
    assert (pseudo.ids_T == labels).mean() == pytest.approx(0.1, abs=0.02)
    changed = true.ids_T != labels
    assert changed.mean() == pytest.approx(0.3 * 0.9, abs=0.03)
    assert (true.ids_T[changed] == pseudo.ids_T[changed]).all()
    _, true = row([7], target, dataclasses.replace(config, method="masked"), Corruption(0.7, max_masked=48))
    assert (true.targets_T >= 0).sum() == 48
    context, *_ = row([7] * 4000, [8], Seq2SeqConfig("masked", 4002, 5), Corruption(source_mask_prob=0.2))
    assert (context.ids_T[1:-1] != 7).mean() == pytest.approx(0.18, abs=0.02)
    assert (context.ids_T[[0, -1]] == [2, 3]).all()


def test_later_tokens_do_not_leak(peer) -> None:
    _, ours = peer
    config = Seq2SeqConfig("pseudo_masked", 9, 8)
    whole = Masking(masked=1.0, random=0.0)
    results = []
    for last in (15, 16):
        made = row([7, 9], [10, 11, last], config, Corruption(0.0, masking=whole))
        results.append(logits_of(ours, collate([made], 0)))
    same = (results[0] == results[1]).all(-1)[0]
    # Source, the first two true tokens, the first three pseudo masks.
    assert same.tolist() == [True] * 4 + [True, True, False, False] + [True, True, True, False]


def test_position_table_is_repeated(peer) -> None:
    import copy

    ours = copy.deepcopy(peer[1])
    before = ours.encoder.position_embedding.weight.clone()
    stretch_positions(ours, 90)
    after = ours.encoder.position_embedding.weight
    assert len(after) == 90 == ours.encoder.config.num_positions
    torch.testing.assert_close(after, before.repeat(3, 1)[:90])
    stretch_positions(ours, 50)
    assert ours.encoder.config.num_positions == 90


def test_reading_names_file_and_line(tmp_path) -> None:
    path = tmp_path / "pairs.jsonl"
    good = json.dumps({"src": "a text", "tgt": ["a", "##b"]})
    path.write_text("\n".join([good] * 16 + ['{"src": "broken'] + [good]))
    with pytest.raises(DataError, match=r'pairs.jsonl:17: not JSON: expected an object such as \{"src"'):
        read_pairs([path])
    for line, message in (
        ('{"src": "x"}', "1: missing key 'tgt'; there are src; expected"),
        ('{"src": "  ", "tgt": "y"}', "1.src: is empty"),
        ('{"src": 3, "tgt": "y"}', "1.src: expected a string or a list of token names, got 3"),
        ("[1]", "1: expected an object"),
    ):
        path.write_text(line)
        with pytest.raises(DataError, match=message.replace("[", r"\[")):
            read_pairs([path])
    path.write_text("\n")
    with pytest.raises(InputError, match="no pair to learn from"):
        read_pairs([path])
    path.write_text(good)
    assert read_pairs([path]) == [Pair("a text", ["a", "##b"])]


def _smoke(output: Path, **changes) -> Path:
    run(dataclasses.replace(RECIPES["smoke"], **changes), TrainOptions(output, steps=6))
    return output / "model"


@pytest.mark.parametrize("method", ["causal", "masked", "pseudo_masked"])
def test_smoke_recipe_trains_and_writes(method, tmp_path) -> None:
    folder = _smoke(tmp_path, method=method)
    model, _ = checkpoint.load(folder, MaskedLM)
    settings = Seq2SeqConfig.of_folder(folder)
    assert settings.method == method
    tokenizer = TextTokenizer.from_folder(folder)
    found = Writer(model, settings, tokenizer).write(
        [tokenizer.encode("with statements")], Decoding(num_beams=2)
    )
    assert len(found.tokens) == 1
    scores = json.loads((tmp_path / "held_out.json").read_text())
    assert scores["6"]["nll"] < scores["0"]["nll"]
    with pytest.raises(InputError, match="no token 'zzzzz'"):
        encode_sides([["zzzzz"]], tokenizer)


def test_vocabulary_is_cut(tmp_path) -> None:
    folder = _smoke(tmp_path)
    model, _ = checkpoint.load(folder, MaskedLM)
    tokenizer = TextTokenizer.from_folder(folder)
    text = help_topics()[0].source[:200].lower()
    before = dict(
        zip(tokenizer.encode(text), model.encoder.token_embedding.weight[tokenizer.encode(text)], strict=True)
    )
    encoder, small = cut(model.encoder, tokenizer, [text] * 3, 400)
    assert small.vocab_size == encoder.config.vocab_size == len(encoder.token_embedding.weight) == 400
    assert small.decode(small.encode(text)) == tokenizer.decode(tokenizer.encode(text))
    for old, new in zip(tokenizer.encode(text), small.encode(text), strict=True):
        torch.testing.assert_close(encoder.token_embedding.weight[new], before[old])
    assert small.special_id("[MASK]") == encoder.config.pad_id + 4
    with pytest.raises(InputError, match="does not hold"):
        cut(encoder, small, [text], 20)


def test_wrong_checkpoints_and_numbers(tmp_path) -> None:
    with pytest.raises(CheckpointError, match="was not fine-tuned to write; train one"):
        Seq2SeqConfig.of_folder(tmp_path)
    with pytest.raises(ConfigError, match="max_source must be at least 3"):
        Seq2SeqConfig(max_source=1)
    with pytest.raises(ConfigError, match="shares of 1"):
        Corruption(target_mask_prob=1.5)
