"""AutoDistil: members against static encoders and `transformers`, the sandwich, the search, the recipe, bad input."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from multiway_blocks import text_encoder
from multiway_blocks.distillation import minilm_v2
from multiway_blocks.text_encoder import TextEncoder, TextEncoderConfig
from multiway_core.errors import ConfigError, InputError
from multiway_core.training import TrainOptions, run
from multiway_text.autodistil import recipe, space
from multiway_text.autodistil.elastic import LastStates, extract, last_states, slices
from multiway_text.autodistil.objective import Sandwich, SandwichBatches, SandwichDistillation
from multiway_text.autodistil.search import Search
from multiway_text.autodistil.space import (
    SPACES,
    Space,
    Subnet,
    flops,
    parameters,
    published_parameters,
    shape,
)
from multiway_text.sequences import Rows, SequenceBatches, Sequences

CONFIG = TextEncoderConfig(
    "bert", 50, 32, 4, 4, 96, 20, 2, 1e-3, 0, 0, pooler=False, dropout=0.0, attention_dropout=0.0
)
SPACE = Space((2, 3), (2, 4), (16, 24), (2.0, 3.0), head_size=8)


def encoder(seed: int, config: TextEncoderConfig = CONFIG) -> TextEncoder:
    torch.manual_seed(seed)
    made = TextEncoder(config).double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return made.eval()


def rows() -> Rows:
    torch.manual_seed(1)
    valid_BT = torch.arange(7) < torch.tensor([7, 4, 6])[:, None]
    return Rows(torch.randint(1, 50, (3, 7)).masked_fill(~valid_BT, 0), valid_BT, torch.arange(3))


@pytest.mark.parametrize("subnet", random.Random(0).sample(SPACE.subnets(), 6), ids=str)
def test_a_member_is_the_static_encoder_of_its_slices(subnet: Subnet) -> None:
    source, batch = encoder(0), rows()
    config = shape(subnet, CONFIG, 8)
    static = TextEncoder(config).double().eval()
    # By hand: which layers, rows and columns a member takes.
    kept = [index * CONFIG.num_layers // subnet.layers for index in range(subnet.layers)]
    width, inner, heads = subnet.hidden_size, int(subnet.hidden_size * subnet.ratio), 8 * subnet.heads
    with torch.no_grad():
        for name in ("token_embedding", "position_embedding", "type_embedding"):
            getattr(static, name).weight.copy_(getattr(source, name).weight[:, :width])
        static.embedding_norm.weight.copy_(source.embedding_norm.weight[:width])
        static.embedding_norm.bias.copy_(source.embedding_norm.bias[:width])
        for layer, number in zip(static.stack.layers, kept, strict=True):
            other = source.stack.layers[number]
            for name, down, across in (
                *((f"attention.{part}", heads, width) for part in ("query", "key", "value")),
                ("attention.output", width, heads),
                ("feedforward.up", inner, width),
                ("feedforward.down", width, inner),
            ):
                own, theirs = layer.get_submodule(name), other.get_submodule(name)
                own.weight.copy_(theirs.weight[:down, :across])
                own.bias.copy_(theirs.bias[:down])
            for name in ("attention_norm", "feedforward_norm"):
                layer.get_submodule(name).weight.copy_(other.get_submodule(name).weight[:width])
                layer.get_submodule(name).bias.copy_(other.get_submodule(name).bias[:width])
    exported = extract(source, config).double()
    expected = static(batch.ids_BT, batch.valid_BT).hidden_BTE
    # The same products, in another place of memory: a library of matrices may add in another order.
    found = exported(batch.ids_BT, batch.valid_BT).hidden_BTE
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    inside = LastStates(static)(batch.ids_BT, batch.valid_BT)
    source.zero_grad()
    elastic = last_states(source, config, batch.ids_BT, batch.valid_BT)
    for own, theirs in zip(elastic, inside, strict=True):
        torch.testing.assert_close(own, theirs, rtol=0, atol=1e-12)
    # The gradient of the elastic one is the static one's, at the slices' places, and zero elsewhere.
    sum(part.square().sum() for part in elastic).backward()  # type: ignore[union-attr]
    sum(part.square().sum() for part in inside).backward()  # type: ignore[union-attr]
    weight = source.stack.layers[kept[0]].get_submodule("feedforward.up").weight
    static_grad = static.stack.layers[0].get_submodule("feedforward.up").weight.grad
    torch.testing.assert_close(weight.grad[:inner, :width], static_grad, rtol=1e-9, atol=1e-12)
    assert weight.grad[inner:].abs().sum() + weight.grad[:, width:].abs().sum() == 0
    for number in set(range(CONFIG.num_layers)) - set(kept):
        assert all(p.grad is None for p in source.stack.layers[number].parameters())


def test_a_member_with_as_much_attention_as_width_is_a_model_of_transformers(tmp_path: Path) -> None:
    from transformers import BertModel

    source, batch = encoder(0), rows()
    found = extract(source, shape(Subnet(3, 3, 24, 2.0), CONFIG, 8)).float()
    text_encoder.save(found, tmp_path)
    theirs = BertModel.from_pretrained(tmp_path, add_pooling_layer=False).eval()
    expected = theirs(batch.ids_BT, attention_mask=batch.valid_BT.long()).last_hidden_state[batch.valid_BT]
    torch.testing.assert_close(
        found(batch.ids_BT, batch.valid_BT).hidden_BTE[batch.valid_BT], expected, rtol=0, atol=1e-5
    )


def test_a_member_with_other_attention_is_saved_and_read(tmp_path: Path) -> None:
    member = extract(encoder(0), shape(Subnet(2, 4, 16, 3.0), CONFIG, 8)).float()
    text_encoder.save(member, tmp_path)
    again = text_encoder.load(tmp_path)
    assert again.config.head_size == 8
    batch = rows()
    assert torch.equal(
        again(batch.ids_BT, batch.valid_BT).hidden_BTE, member(batch.ids_BT, batch.valid_BT).hidden_BTE
    )


def test_what_is_no_slice_is_refused() -> None:
    with pytest.raises(InputError, match="num_layers 5 is no slice of one of 4"):
        slices(encoder(0), replace(CONFIG, num_layers=5))
    with pytest.raises(InputError, match="attention_head_size 4 is no slice"):
        slices(encoder(0), replace(CONFIG, num_heads=4, head_size=4))


def test_the_sandwich_sums_the_members_losses() -> None:
    source, teacher, batch = encoder(0), encoder(1), rows()
    objective = SandwichDistillation(teacher, SPACE, relation_heads=4)
    members = (SPACE.largest, SPACE.smallest, Subnet(2, 4, 24, 2.0))
    loss = objective(source, Sandwich(batch, members))
    theirs = LastStates(teacher)(batch.ids_BT, batch.valid_BT)
    expected = sum(
        minilm_v2(
            LastStates(extract(source, shape(one, CONFIG, 8)).double())(batch.ids_BT, batch.valid_BT),
            theirs,
            4,
            batch.valid_BT,
        )
        for one in members
    )
    torch.testing.assert_close(loss.total / loss.weight, expected, rtol=1e-10, atol=0)
    mse = SandwichDistillation(teacher, SPACE, loss="mse", relation_heads=4)
    assert abs(mse(source, Sandwich(batch, members)).total - loss.total) > 0.1
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_every_step_has_the_ends_and_the_same_members_in_all_shards() -> None:
    ids = torch.randint(1, 50, (60,), dtype=torch.int32)
    batches = SandwichBatches(
        SequenceBatches(Sequences(ids, torch.arange(0, 61, 6)), 12, pad=0), SPACE, 2, seed=4
    )
    drawn = [batches(step, 0, 2).subnets for step in range(20)]
    assert all({SPACE.largest, SPACE.smallest} <= set(members) for members in drawn)
    assert drawn[7] == batches(7, 1, 2).subnets
    assert len({member for members in drawn for member in members}) > 8


def test_published_spaces_have_the_published_sizes() -> None:
    for name, low, high in (("base", 38.5, 79.3), ("small", 12.3, 27.8), ("tiny", 4.35, 10.6)):
        found = SPACES[name]
        assert len(found.subnets()) == 256
        assert published_parameters(found.smallest) / 1e6 == pytest.approx(low, rel=0.03)
        assert published_parameters(found.largest) / 1e6 == pytest.approx(high, rel=0.03)


def test_costs_are_counted() -> None:
    config = shape(Subnet(2, 3, 16, 2.0), CONFIG, 8)
    assert parameters(config) == sum(p.numel() for p in TextEncoder(config).parameters())
    layer = 3 * 2 * 10 * 16 * 24 + 2 * 10 * 24 * 16 + 2 * (2 * 10 * 10 * 24) + 2 * (2 * 10 * 16 * 32)
    assert flops(config, 10) == 2 * layer


def test_search_finds_what_looking_at_everything_finds() -> None:
    source, teacher = encoder(0), encoder(1)
    objective = SandwichDistillation(teacher, SPACE, relation_heads=4)
    torch.manual_seed(3)
    batches = [rows()._replace(ids_BT=torch.randint(1, 50, (3, 7))) for _ in range(4)]
    search = Search(source, objective, batches, length=10)
    every = [search.score(subnet, 4) for subnet in SPACE.subnets()]
    found = search.run(budget=9000)
    assert (
        found[0].subnet
        == min((one for one in every if one.parameters <= 9000), key=lambda one: one.loss).subnet
    )
    assert found[0].batches == 4
    front = [one for one in search.run() if one.on_front]
    for one in front:
        assert not any(o.parameters <= one.parameters and o.loss < one.loss for o in search.run())
    assert len(front) >= 1
    with pytest.raises(InputError, match="no member has at most 10 parameters; the smallest has"):
        search.run(budget=10)
    with pytest.raises(InputError, match="unknown budget 'watts'"):
        search.run(budget=10, cost="watts")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="held-out text"):
        Search(source, objective, [])


def test_the_recipe_makes_what_the_search_reads(tmp_path: Path) -> None:
    from multiway_core.tokenization import TextTokenizer
    from multiway_text.encoder.sentence import SentenceModel, SentenceSettings

    words = [f"w{number}" for number in range(45)]
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]))
    tokenizer = TextTokenizer.from_folder(tmp_path / "vocab.txt")
    teacher = tmp_path / "teacher"
    SentenceModel(encoder(1).float(), tokenizer, SentenceSettings()).save(teacher)
    draw = random.Random(0)
    texts = tmp_path / "texts.jsonl"
    texts.write_text("".join(f'{{"text": "{" ".join(draw.choices(words, k=9))}"}}\n' for _ in range(60)))
    smoke = replace(
        recipe.RECIPES["autodistil-smoke"],
        teacher=str(teacher),
        space=replace(SPACE, head_size=0),
        relation_heads=4,
        length=16,
        batch_tokens=64,
    )
    report = run(smoke, TrainOptions(tmp_path / "run", data=(str(texts),)))
    assert report.held_out["loss"] < report.held_out_before["loss"]
    supernet, read, _ = recipe.load(str(report.folder))
    assert read == SPACE
    assert supernet.config.num_layers == 3
    with pytest.raises(ConfigError, match=r"no search_space\.json"):
        recipe.load(str(teacher))
    for changes, message in (
        ({"relation_heads": 5}, "5 relation heads do not divide"),
        ({"loss": "other"}, "unknown loss 'other'"),
        ({"space": "huge"}, "unknown search space 'huge'"),
        ({"space": "tiny"}, "is no slice of one of"),
        ({"teacher": ""}, "needs a teacher"),
    ):
        with pytest.raises((InputError, ConfigError), match=message):
            run(replace(smoke, **changes), TrainOptions(tmp_path / "other", data=(str(texts),)))
    with pytest.raises(InputError, match="layers must be sizes above 0"):
        Space((), (1,), (8,), (2.0,))
    assert space.shape(SPACE.smallest, CONFIG, 8).inner_size == 32
