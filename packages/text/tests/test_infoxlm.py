"""InfoXLM's losses, momentum and queue against independent statements in float64; two processes equal one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from multiway_blocks.text_encoder import TextEncoder, TextEncoderConfig
from multiway_core.errors import ConfigError, InputError
from multiway_text.data.corruption import BERT, Vocabulary
from multiway_text.data.masked_batch import MaskedBatch, collate, masked_lm_loss, masked_row
from multiway_text.encoder import checkpoint
from multiway_text.encoder.heads import MaskedLM
from multiway_text.infoxlm.batches import Batches, Mixture
from multiway_text.infoxlm.config import BASE, LARGE, Contrast
from multiway_text.infoxlm.model import InfoXLM
from multiway_text.infoxlm.objective import Batch, Sides, loss, mix, xlco
from torch import Tensor

WORDS = Vocabulary(0, 2, 60, np.arange(4, 60))
CONFIG = TextEncoderConfig("xlm-roberta", 61, 24, 3, 4, 48, 60, 1, 3e-3, 1, 2, pooler=False)
CONTRAST = Contrast(layer=2, queue_size=10, momentum=0.75)


def model(contrast: Contrast = CONTRAST, seed: int = 0) -> InfoXLM:
    torch.manual_seed(seed)
    lm = MaskedLM(TextEncoder(CONFIG))
    for parameter in lm.parameters():
        parameter.data.add_(torch.randn_like(parameter), alpha=0.2)
    made = InfoXLM(lm, contrast).double().train()
    made.projection.weight.data.mul_(3)
    if made.queue is not None:  # keys of other texts, or every loss would be zero: noise is too easy
        made.key_projection.weight.data.copy_(made.projection.weight.data)
        others = side(99, 10)
        made.queue.fill(made.key(others.ids_BT, others.valid_BT))
    return made


def side(seed: int, count: int = 4) -> MaskedBatch:
    generator = np.random.default_rng(seed)
    rows = [
        masked_row(
            [generator.integers(4, 60, n) for n in generator.integers(3, 9, 2)], WORDS, BERT, generator
        )
        for _ in range(count)
    ]
    return collate(rows, pad_id=1)


def sides(seed: int, count: int = 4) -> Sides:
    return Sides(side(2 * seed, count), side(2 * seed + 1, count))


def part(batch: MaskedBatch, rows: slice) -> MaskedBatch:
    return MaskedBatch(*(tensor[rows] for tensor in batch))


def contrast_batch(items: Sides) -> Batch:
    count = len(items.query.ids_BT)
    return Batch({}, {}, items, items=count, own=count)


def test_masked_rows_and_losses_equal_transformers(tmp_path: Path) -> None:
    """MMLM and TLM rows through XLMRobertaForMaskedLM of the published layout, loss and gradient."""
    transformers = pytest.importorskip("transformers")
    made = model().float().lm
    checkpoint.save(made, tmp_path)
    theirs = transformers.XLMRobertaForMaskedLM.from_pretrained(tmp_path, attn_implementation="eager").eval()
    assert theirs.config.layer_norm_eps == 3e-3
    generator = np.random.default_rng(5)
    for texts in (1, 2):
        rows = [
            masked_row([generator.integers(4, 60, 7 + i) for _ in range(texts)], WORDS, BERT, generator)
            for i in range(3)
        ]
        batch = collate(rows, 1)
        own = masked_lm_loss(made, batch)
        peer = theirs(batch.ids_BT, attention_mask=batch.valid_BT.long(), labels=batch.targets_BT)
        torch.testing.assert_close(own.total / own.weight, peer.loss, atol=1e-5, rtol=1e-5)
        logits = made(batch.ids_BT, batch.valid_BT)
        torch.testing.assert_close(logits[batch.valid_BT], peer.logits[batch.valid_BT], atol=1e-5, rtol=1e-5)
        made.zero_grad()
        theirs.zero_grad()
        (own.total / own.weight).backward()
        peer.loss.backward()
        torch.testing.assert_close(
            made.encoder.token_embedding.weight.grad,
            theirs.roberta.embeddings.word_embeddings.weight.grad,
            atol=1e-5,
            rtol=1e-4,
        )


def test_a_masked_row() -> None:
    texts = [np.arange(10, 30), np.arange(30, 37)]
    (row,) = masked_row(texts, WORDS, BERT, np.random.default_rng(0))
    true = [0, *texts[0], 2, *texts[1], 2]
    hidden = row.targets_T >= 0
    assert row.targets_T[hidden].tolist() == np.array(true)[hidden].tolist()
    assert row.ids_T[~hidden].tolist() == np.array(true)[~hidden].tolist()
    assert hidden[1:21].sum() == BERT.count(20) == 3  # each text by itself
    assert hidden[22:29].sum() == BERT.count(7) == 1
    assert not hidden[[0, 21, 29]].any()


def reference(made: InfoXLM, items: Sides, queue: Tensor) -> Tensor:
    """Equation 7 item by item; the encoders are called for one item at a time, without padding."""

    def vector(encoder: TextEncoder, projection: Tensor, batch: MaskedBatch, i: int) -> Tensor:
        ids = batch.ids_BT[i, batch.valid_BT[i]][None]
        states = encoder(ids, torch.ones_like(ids).bool(), hidden_states=True).hidden_states[2]
        return projection @ states[0, 0]

    total = torch.zeros((), dtype=torch.float64)
    for i in range(len(items.query.ids_BT)):
        query = vector(made.lm.encoder, made.projection.weight, items.query, i)
        key = vector(made.key_encoder, made.key_projection.weight, items.key, i).detach()
        scores = torch.stack([query @ other / 0.25 for other in (key, *queue)])
        total = total - (scores[0] - scores.logsumexp(0))
    return total / len(items.query.ids_BT)


def test_contrast_with_a_queue_that_wraps_around() -> None:
    """Three steps of four keys in a queue of ten: losses, gradients, keys and momentum, step by step."""
    made = model()
    rate, ring, place = 0.05, made.queue.keys_NE.clone(), 0
    fast = [p.detach().clone() for p in (*made.lower().parameters(), made.projection.weight)]
    slow = [p.clone() for p in fast]
    for step in range(3):
        for one, other in zip(slow, fast, strict=True):
            one.mul_(0.75).add_(other, alpha=0.25)
        items = sides(step)
        made.zero_grad()
        found = loss(made, contrast_batch(items))
        value = found.total / found.weight
        value.backward()
        gradients = {n: p.grad.clone() for n, p in made.named_parameters() if p.grad is not None}
        for kept, own in zip(slow, (*made.key_encoder.parameters(), made.key_projection.weight), strict=True):
            torch.testing.assert_close(own, kept)
        made.zero_grad()
        expected = reference(made, items, ring)
        expected.backward()
        torch.testing.assert_close(value, expected)
        for name, gradient in gradients.items():
            own = dict(made.named_parameters())[name]
            torch.testing.assert_close(gradient, torch.zeros_like(own) if own.grad is None else own.grad)
        assert "projection.weight" in gradients
        assert not any(name.startswith(("key_", "lm.head")) for name in gradients)
        keys = made.key(items.key.ids_BT, items.key.valid_BT)
        for key in keys:
            ring[place] = key
            place = (place + 1) % len(ring)
        torch.testing.assert_close(made.queue.keys_NE, ring)
        with torch.no_grad():
            for parameter in made.parameters():
                if parameter.grad is not None:
                    parameter -= rate * parameter.grad
        fast = [p.detach().clone() for p in (*made.lower().parameters(), made.projection.weight)]
    assert place == 2


def test_momentum_after_k_steps_is_its_closed_form() -> None:
    made = model()
    start = {n: p.clone() for n, p in made.key_encoder.named_parameters()}
    before = made.key_projection.weight.clone()
    with torch.no_grad():
        for parameter in (*made.lower().parameters(), made.projection.weight):
            parameter.add_(1.0)
    for _ in range(5):
        made.update_key_encoder()
    gained = 1 - 0.75**5
    for name, parameter in made.key_encoder.named_parameters():
        torch.testing.assert_close(parameter, start[name] + gained)
    torch.testing.assert_close(made.key_projection.weight, before + gained)


def test_planted_mistakes_are_seen() -> None:
    items = sides(0)
    made = model()
    expected = reference(made, items, made.queue.keys_NE.clone())
    torch.testing.assert_close(xlco(made, items).mean(), expected)
    assert float(expected) > 0.5
    expected = expected.detach()
    # The keys are in the queue already: each positive is among its own negatives.
    made = model()
    made.queue.push(made.key(items.key.ids_BT, items.key.valid_BT))
    assert abs(float(xlco(made, items).detach().mean() - expected)) > 0.01
    # The momentum update forgets the projection.
    made = model()
    made.projection.weight.data.add_(0.1)
    kept = made.key_projection.weight.clone()
    made.update_key_encoder()
    assert not torch.equal(made.key_projection.weight, kept)
    # The sides are swapped, or one side's two texts stand in the other order without the other's.
    swapped = Sides(items.key, items.query)
    assert abs(float(xlco(model(), swapped).detach().mean() - expected)) > 0.01
    # The last layer in place of the middle one; vectors brought to length 1.
    assert abs(float(xlco(model(replace(CONTRAST, layer=3)), items).detach().mean() - expected)) > 0.01


def test_eight_modes_of_mixup() -> None:
    a, b, x, y = (np.array([i]) for i in range(4))
    found = []
    for mode in range(8):
        query, key = mix([(a, x), (b, y)], mode)
        found.append(([int(t[0]) for t in query], [int(t[0]) for t in key]))
    assert {(tuple(q), tuple(k)) for q, k in found} == {
        (q, k) if not swap else (k, q)
        for q in ((0, 1), (1, 0))
        for k in ((2, 3), (3, 2))
        for swap in (False, True)
    }
    assert mix([(a, x)], 3) == ([a], [x])
    assert mix([(a, x)], 4) == ([x], [a])


def test_an_evaluation_changes_nothing() -> None:
    made = model().eval()
    state = {n: t.clone() for n, t in made.state_dict().items()}
    loss(made, contrast_batch(sides(0)))
    assert all(torch.equal(t, state[n]) for n, t in made.state_dict().items())
    assert not made.held_keys


def test_training_has_no_dropout_and_trains_no_key_encoder() -> None:
    made = model()
    assert made.training
    assert not made.lm.encoder.training
    assert not made.key_encoder.training
    trained = {name for name, parameter in made.named_parameters() if parameter.requires_grad}
    assert not any(name.startswith("key_") for name in trained)
    assert "projection.weight" in trained


def test_without_a_queue_the_batch_has_the_negatives() -> None:
    made = model(Contrast(layer=2, queue_size=0))
    items = sides(0)
    losses = xlco(made, items)
    query = made.query(items.query.ids_BT, items.query.valid_BT)
    key = made.query(items.key.ids_BT, items.key.valid_BT)
    scores = query @ key.T / 0.25
    torch.testing.assert_close(losses, scores.logsumexp(1) - scores.diagonal())


def test_published_sizes() -> None:
    assert (BASE.layer_of(12), BASE.queue_size, BASE.momentum, BASE.temperature) == (8, 131_072, 0.9999, 0.25)
    assert (LARGE.layer_of(24), LARGE.momentum) == (12, 0.999)
    # The layer follows the depth, not the preset: --preset base with a large encoder has the large one's.
    assert [BASE.layer_of(depth) for depth in (2, 6, 12, 18, 24)] == [1, 4, 8, 10, 12]
    with pytest.raises(ConfigError, match="momentum must be"):
        Contrast(momentum=1.0)
    with pytest.raises(InputError, match="layer 4 was asked for, there are 3"):
        model(Contrast(layer=4))


def batches(accumulation: int = 1) -> Batches:
    generator = np.random.default_rng(0)
    texts = {
        name: [generator.integers(4, 60, generator.integers(3, 9)) for _ in range(size)]
        for name, size in (("en", 50), ("de", 10))
    }
    pairs = {"en-de": list(zip(texts["en"], texts["de"] * 5, strict=True))}
    return Batches(
        Mixture(texts, 0.5),
        Mixture(pairs, 0.5),
        WORDS,
        tasks=("mmlm", "tlm", "xlco"),
        batch_size=4,
        pad_id=1,
        accumulation=accumulation,
    )


def test_languages_are_drawn_by_their_share() -> None:
    mixture = batches().texts
    np.testing.assert_allclose(mixture.shares, np.array([50**0.5, 10**0.5]) / (50**0.5 + 10**0.5))
    small = {id(text) for text in mixture.groups[1]}
    generator = np.random.default_rng(0)
    drawn = [id(mixture.draw(generator)[0]) in small for _ in range(2000)]
    assert np.mean(drawn) == pytest.approx(mixture.shares[1], abs=0.03)
    first, second = mixture.draw(generator, 2)
    assert first is not second


def test_hidden_tokens_of_a_step_are_known_in_every_shard() -> None:
    made = batches()
    for step in range(3):
        whole, halves = made(step, 0, 1), [made(step, shard, 2) for shard in range(2)]
        for task in ("mmlm", "tlm"):
            count = int((whole.masked[task].targets_BT >= 0).sum())
            assert whole.hidden[task] == count
            assert sum(int((half.masked[task].targets_BT >= 0).sum()) for half in halves) == count
            assert all(half.hidden[task] == count for half in halves)
        assert [len(half.sides.query.ids_BT) for half in halves] == [2, 2]
    with pytest.raises(InputError, match="3 shards do not divide"):
        made(0, 0, 3)


def test_the_tokens_of_a_step_are_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not once a shard: with 16 shards a step they would cost more than all that is trained on."""
    made, drawn = batches(), []
    draw = made._texts_of
    monkeypatch.setattr(made, "_texts_of", lambda task, item: drawn.append(item) or draw(task, item))
    for shard in range(4):
        made(1, shard, 4)
    assert len(drawn) == 2 * 2 * 4  # of two tasks every item, to count and to train


def three_steps(made: InfoXLM, shards: list[tuple[int, int]], accumulation: int) -> list[float]:
    """SGD on this process's shards; gradients of all processes are added up."""
    source, values = batches(accumulation), []
    for step in range(3):
        made.zero_grad()
        total = 0.0
        for shard, count in shards:
            found = loss(made, source(step, shard, count))
            found.total.backward()
            total += float(found.total.detach())
        for parameter in made.parameters():
            if parameter.requires_grad:
                if dist.is_initialized():
                    dist.all_reduce(parameter.grad)
                with torch.no_grad():
                    parameter -= 0.01 * parameter.grad / 4
        values.append(total)
    return values


def process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    made = model()
    values = three_steps(made, [(rank, 2)], 1)
    torch.save([values, made.state_dict()], f"{folder}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


def test_two_processes_equal_one_and_two_shards(tmp_path: Path) -> None:
    """One process with the gathered batch, one with two shards of it, and two processes end with the same tensors."""
    mp.spawn(process, (str(tmp_path),), nprocs=2)
    whole = model()
    values = three_steps(whole, [(0, 1)], 1)
    by_shards = model()
    three_steps(by_shards, [(0, 2), (1, 2)], 2)
    sums = np.zeros(3)
    for rank in range(2):
        theirs, state = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        sums += theirs
        for name, tensor in whole.state_dict().items():
            torch.testing.assert_close(state[name], tensor)
            torch.testing.assert_close(by_shards.state_dict()[name], tensor)
    np.testing.assert_allclose(sums, values)
    assert int(whole.queue.place) == 2
