"""UniLMv2: every block against a pass that holds only the tokens it may see; the relative bias against its peer."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from multiway_blocks.masks import Role
from multiway_blocks.text_encoder import TextEncoder, TextEncoderConfig
from multiway_blocks.text_encoder import load as load_encoder
from multiway_blocks.text_encoder import save as save_encoder
from multiway_core.errors import ConfigError
from multiway_text.data.corruption import UNILM_V2, Masking, Vocabulary
from multiway_text.data.masked_batch import collate, masked_lm_loss
from multiway_text.encoder.heads import MaskedLM
from multiway_text.unilm_v2.model import with_relative_bias
from multiway_text.unilm_v2.objective import pseudo_masked
from torch.nn.functional import cross_entropy

WORDS = Vocabulary(2, 3, 4, np.arange(5, 61))
CONFIG = TextEncoderConfig(
    "unilm2",
    61,
    24,
    2,
    4,
    48,
    64,
    2,
    1e-5,
    0,
    0,
    key_bias=False,
    num_buckets=8,
    max_distance=20,
    pooler=False,
)
DENSE = replace(UNILM_V2, rate=0.4)


def model(config=CONFIG):
    torch.manual_seed(1)
    made = MaskedLM(TextEncoder(config)).eval()
    for parameter in made.parameters():
        parameter.data.add_(torch.randn_like(parameter), alpha=0.2)
    return made.double()


def rows(seed, lengths=(21, 13, 30), kind="pmlm", masking=DENSE):
    generator = np.random.default_rng(seed)
    return [
        pseudo_masked(generator.integers(5, 61, length), WORDS, masking, generator, kind)
        for length in lengths
    ]


def logits(made, batch):
    with torch.no_grad():
        return made(
            batch.ids_BT,
            batch.valid_BT,
            mask=batch.visibility(),
            positions_BT=batch.positions_BT,
            types_BT=batch.types_BT,
        )


def test_rows():
    for seed in range(20):
        text, true, pseudo = rows(seed, (40,))[0]
        assert [part.role for part in (text, true, pseudo)] == [Role.CONTEXT, Role.TRUE, Role.PSEUDO]
        places = true.positions_T
        assert len(places) == len(set(places.tolist())) == round(0.4 * 40)
        assert (text.targets_T[places] == true.ids_T).all()
        assert (text.targets_T >= 0).sum() == len(places)
        assert (pseudo.targets_T == true.ids_T).all()
        assert (pseudo.positions_T == places).all()
        assert set(pseudo.ids_T) == {4}
        assert (true.targets_T == -100).all()
        assert (pseudo.steps_T == true.steps_T).all()
        blocks = [places[true.steps_T == step].tolist() for step in range(1, true.steps_T.max() + 1)]
        assert all(block == list(range(block[0], block[0] + len(block))) for block in blocks)
        assert (true.steps_T == np.sort(true.steps_T)).all()


@pytest.mark.parametrize("seed", range(4))
def test_every_block_equals_a_pass_with_only_what_it_may_see(seed):
    made = model()
    drawn = rows(seed)
    batch = collate(drawn, 0)
    assert batch.visibility().order_BP is None
    found = logits(made, batch)
    for b, (text, true, pseudo) in enumerate(drawn):
        own = found[b][batch.valid_BT[b]]
        count, hidden = len(text.ids_T), len(true.ids_T)
        context = text.ids_T.tolist(), text.positions_T.tolist()
        torch.testing.assert_close(own[:count], chain(made, *context, count, []))
        for step in range(1, true.steps_T.max() + 1):
            earlier = true.steps_T < step
            block = np.flatnonzero(true.steps_T == step)
            seen = np.concatenate([true.positions_T[earlier], pseudo.positions_T[block]]).tolist()
            ids = context[0] + true.ids_T[earlier].tolist() + pseudo.ids_T[block].tolist()
            expected = chain(
                made, ids, context[1] + seen, count, true.steps_T[earlier].tolist() + [step] * len(block)
            )
            rows_of_block = count + hidden + block
            torch.testing.assert_close(own[rows_of_block], expected[-len(block) :])


def chain(made, ids, positions, count, steps):
    """Logits of a context, then blocks that see it and the blocks before: attention written out without a mask rule.

    Each layer is computed group by group, with nothing but the tokens of that group's view present.
    """
    encoder = made.encoder
    groups = [list(range(count))]
    for step in dict.fromkeys(steps):
        groups.append([count + index for index, other in enumerate(steps) if other == step])
    ids, positions = torch.tensor([ids]), torch.tensor([positions])
    with torch.no_grad():
        x = encoder.embed(ids, positions)[0]
        for layer in encoder.stack.layers:
            mixed = torch.empty_like(x)
            for number, group in enumerate(groups):
                view = [place for part in groups[: number + 1] for place in part]
                heads = encoder.config.num_heads
                width = x.shape[1] // heads
                query, key, value = (
                    project(x[places]).unflatten(1, (heads, width)).transpose(0, 1)
                    for project, places in (
                        (layer.attention.query, group), (layer.attention.key, view), (layer.attention.value, view),
                    )
                )  # fmt: skip
                distance = positions[0, view][None, :] - positions[0, group][:, None]
                bias = encoder.relative_bias.bias(encoder.relative_bias.buckets(distance)).permute(2, 0, 1)
                weights = (query @ key.transpose(1, 2) / width**0.5 + bias).softmax(-1)
                mixed[group] = layer.attention.output((weights @ value).transpose(0, 1).flatten(1))
            x = layer.attention_norm(x + mixed)
            x = layer.feedforward_norm(x + layer.feedforward(x))
        return made.logits(x)


def test_single_tokens_are_predicted_in_the_order_of_their_factorization():
    """Blocks of one token: as XLNet; the oracle is a pass for each token with nothing hidden in it but the rest."""
    made = model()
    masking = Masking(rate=0.3, span_share=0.0, masked=1.0, random=0.0)
    text, true, pseudo = rows(0, (12,), masking=masking)[0]
    found = logits(made, collate([[text, true, pseudo]], 0))[0]
    assert len(set(true.steps_T.tolist())) == len(true.steps_T)
    expected = chain(made, [*text.ids_T, 4], [*text.positions_T, pseudo.positions_T[0]], len(text.ids_T), [1])
    torch.testing.assert_close(found[-len(pseudo.ids_T)], expected[-1])


def test_one_block_is_predicted_independently():
    made = model()
    text, true, pseudo = rows(2, (20,))[0]
    one = np.ones_like(true.steps_T)
    found = logits(made, collate([[text, replace(true, steps_T=one), replace(pseudo, steps_T=one)]], 0))[0]
    count = len(true.ids_T)
    other = replace(true, steps_T=one, ids_T=true.ids_T[::-1].copy())
    again = logits(made, collate([[text, other, replace(pseudo, steps_T=one)]], 0))[0]
    assert torch.equal(found[-count:], again[-count:])


def test_later_blocks_change_no_bit_and_the_text_sees_no_copy():
    made = model()
    text, true, pseudo = rows(3, (24,))[0]
    before = logits(made, collate([[text, true, pseudo]], 0))[0]
    count, hidden = len(text.ids_T), len(true.ids_T)
    for step in range(1, true.steps_T.max() + 1):
        changed = np.where(true.steps_T == step, true.ids_T % 50 + 5, true.ids_T)
        after = logits(made, collate([[text, replace(true, ids_T=changed), pseudo]], 0))[0]
        assert torch.equal(after[:count], before[:count])
        up_to = np.flatnonzero(pseudo.steps_T <= step) + count + hidden
        later = np.flatnonzero(pseudo.steps_T > step) + count + hidden
        assert torch.equal(after[up_to], before[up_to])
        assert not len(later) or not torch.equal(after[later], before[later])


@pytest.mark.parametrize("mistake", ["own true token", "no bias", "positions"])
def test_planted_mistakes_are_seen(mistake):
    made = model()
    text, true, pseudo = rows(1, (20,))[0]
    expected = logits(made, collate([[text, true, pseudo]], 0))[0, -len(pseudo.ids_T) :]
    if mistake == "own true token":
        true = replace(true, steps_T=true.steps_T - 1)
    elif mistake == "no bias":
        made.encoder.relative_bias.bias.weight.data.zero_()
    else:
        pseudo = replace(pseudo, positions_T=pseudo.positions_T + 1)
    found = logits(made, collate([[text, true, pseudo]], 0))[0, -len(pseudo.ids_T) :]
    assert (found - expected).abs().max() > 1e-3


def test_loss_adds_both_predictions_over_the_hidden_tokens():
    made = model()
    batch = collate(rows(5), 0)
    loss = masked_lm_loss(made, batch)
    found = logits(made, batch)
    is_target = batch.targets_BT >= 0
    each = cross_entropy(found[is_target].float(), batch.targets_BT[is_target], reduction="none")
    pseudo = batch.roles_BT[is_target] == Role.PSEUDO
    hidden = int(pseudo.sum())
    assert loss.weight == hidden == int((~pseudo).sum())
    torch.testing.assert_close(loss.total.detach(), each.sum())
    torch.testing.assert_close(loss.metrics["autoencoding"], each[~pseudo].mean())
    torch.testing.assert_close(loss.metrics["autoregressive"], each[pseudo].mean())
    for kind, part in (("autoencoding", ~pseudo), ("autoregressive", pseudo)):
        alone_loss = masked_lm_loss(made, collate(rows(5, kind=kind), 0))
        assert alone_loss.weight == hidden
        torch.testing.assert_close(alone_loss.total.detach(), each[part].sum())


def test_relative_bias_and_joined_projections_equal_the_peer(tmp_path):
    from transformers import LayoutLMv2Config
    from transformers.models.layoutlmv2.modeling_layoutlmv2 import LayoutLMv2Encoder

    torch.manual_seed(0)
    config = replace(CONFIG, num_buckets=32, max_distance=128, num_positions=300, num_layers=2, norm_eps=1e-3)
    ours = TextEncoder(config).eval()
    for parameter in ours.parameters():
        parameter.data.add_(torch.randn_like(parameter), alpha=0.2)
    save_encoder(ours, tmp_path)
    from safetensors.torch import load_file

    tensors = load_file(tmp_path / "model.safetensors")
    peer = LayoutLMv2Encoder(
        LayoutLMv2Config(
            hidden_size=24, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48, layer_norm_eps=1e-3,
            has_relative_attention_bias=True, has_spatial_attention_bias=False, fast_qkv=True,
            rel_pos_bins=32, max_rel_pos=128, hidden_act="gelu",
        )
    ).eval()  # fmt: skip
    names = {name.removeprefix("encoder."): tensor for name, tensor in tensors.items()}
    missing, unexpected = peer.load_state_dict(names, strict=False)
    assert not missing
    assert all(name.startswith("embeddings.") for name in unexpected)
    ids = torch.randint(5, 61, (2, 200))
    positions = torch.stack([torch.arange(200), torch.arange(200).flip(0) + 50])
    valid = torch.ones_like(ids, dtype=torch.bool)
    valid[1, 150:] = False
    with torch.no_grad():
        embedded = ours.embed(ids, positions)
        expected = peer(embedded, (~valid)[:, None, None], position_ids=positions).last_hidden_state
        again = load_encoder(tmp_path)
        found = again(ids, valid, positions_BT=positions).hidden_BTE
    torch.testing.assert_close(found[valid], expected[valid], atol=1e-5, rtol=1e-5)
    again.relative_bias.bias.weight.data.roll(1, 0)
    shifted = again.relative_bias.bias.weight.data.roll(1, 0)
    again.relative_bias.bias.weight.data.copy_(shifted)
    with torch.no_grad():
        wrong = again(ids, valid, positions_BT=positions).hidden_BTE
    assert (wrong - expected)[valid].abs().max() > 1e-3


def test_the_relative_bias_is_trained():
    made = model().train()
    masked_lm_loss(made, collate(rows(0), 0)).total.backward()
    assert made.encoder.relative_bias.bias.weight.grad.abs().max() > 0


def test_bert_gets_a_relative_bias_that_changes_nothing():
    config = replace(CONFIG, family="bert", key_bias=True, num_buckets=0)
    torch.manual_seed(0)
    bert = TextEncoder(config).eval()
    for parameter in bert.parameters():
        parameter.data.add_(torch.randn_like(parameter), alpha=0.2)
    ids = torch.randint(5, 61, (2, 20))
    valid = torch.ones_like(ids, dtype=torch.bool)
    made = with_relative_bias(bert)
    assert made.config.family == "unilm2"
    with torch.no_grad():
        torch.testing.assert_close(
            made(ids, valid).hidden_BTE, bert(ids, valid).hidden_BTE, atol=1e-5, rtol=1e-5
        )
    assert with_relative_bias(made) is made
    with pytest.raises(ConfigError, match="roberta"):
        with_relative_bias(TextEncoder(replace(config, family="roberta", pad_id=1, first_position=2)))
