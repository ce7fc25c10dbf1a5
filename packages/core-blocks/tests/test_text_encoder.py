"""The BERT family: parity with `transformers` on random weights, the published layouts, masks, packing, relations."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from multiway_blocks import distillation, text_encoder
from multiway_blocks.masks import pseudo_masked_roles, rule_layout, visible
from multiway_blocks.text_encoder import PRESETS, TextEncoder, TextEncoderConfig
from multiway_blocks.text_encoder import model as network
from multiway_core import checkpoint
from multiway_core.errors import CheckpointError, ConfigError, InputError
from torch import Tensor, nn

ODD = {
    "vocab_size": 53,
    "hidden_size": 30,
    "num_hidden_layers": 3,
    "num_attention_heads": 5,
    "intermediate_size": 47,
    "max_position_embeddings": 29,
    "layer_norm_eps": 3e-3,
}
TINY = TextEncoderConfig("bert", 53, 30, 3, 5, 47, 29, 2, 3e-3, 0, 0, dropout=0.0, attention_dropout=0.0)


def perturb(model: nn.Module, seed: int = 0) -> nn.Module:
    """Every tensor away from where it starts: norms begin at one and biases at zero, which hides mistakes."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return model.eval()


def batch(seed: int = 0, *, pad_id: int = 0, length: int = 17, vocab: int = 53) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(5, vocab, (3, length), generator=generator)
    valid = torch.arange(length) < torch.tensor([[length], [length - 5], [3]])
    return tokens.masked_fill(~valid, pad_id), valid


def tiny(config: TextEncoderConfig = TINY) -> TextEncoder:
    torch.manual_seed(0)
    model = perturb(TextEncoder(config))
    assert isinstance(model, TextEncoder)
    return model


def their_model(kind: str, **settings: Any) -> nn.Module:
    transformers = pytest.importorskip("transformers")
    extra = {"pad_token_id": 4, "type_vocab_size": 1} if kind != "Bert" else {"type_vocab_size": 3}
    config = getattr(transformers, f"{kind}Config")(**{**ODD, **extra, **settings})
    torch.manual_seed(0)
    return perturb(getattr(transformers, f"{kind}Model")(config))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", ["Bert", "Roberta", "XLMRoberta"])
def test_equal_to_transformers(
    kind: str, packed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "PACK_BELOW", 2.0 if packed else 0.0)
    theirs = their_model(kind)
    theirs.save_pretrained(tmp_path)
    ours = text_encoder.load(tmp_path)
    tokens, valid = batch(pad_id=ours.config.pad_id)
    types = (torch.arange(17) % 3).expand(3, -1) if kind == "Bert" else torch.zeros_like(tokens)
    with torch.no_grad():
        expected = theirs(
            tokens, attention_mask=valid.long(), token_type_ids=types, output_hidden_states=True
        )
        output = ours(tokens, valid, types_BT=types, hidden_states=True)
    torch.testing.assert_close(output.hidden_BTE[valid], expected.last_hidden_state[valid], rtol=0, atol=1e-5)
    torch.testing.assert_close(output.pooled_BE, expected.pooler_output, rtol=0, atol=1e-5)
    assert len(output.hidden_states) == 4
    for mine, other in zip(output.hidden_states, expected.hidden_states, strict=True):
        torch.testing.assert_close(mine[valid], other[valid], rtol=0, atol=1e-5)
    assert expected.last_hidden_state.abs().max() > 0.5


@pytest.mark.parametrize("kind", ["Bert", "Roberta", "XLMRoberta"])
def test_transformers_opens_what_we_save(kind: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    their_model(kind).save_pretrained(tmp_path / "theirs")
    ours = text_encoder.load(tmp_path / "theirs")
    text_encoder.save(ours, tmp_path / "ours")
    theirs, report = transformers.AutoModel.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert type(theirs).__name__ == f"{kind}Model"
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    tokens, valid = batch(pad_id=ours.config.pad_id)
    with torch.no_grad():
        expected = theirs.eval()(tokens, attention_mask=valid.long()).last_hidden_state
        torch.testing.assert_close(ours(tokens, valid).hidden_BTE[valid], expected[valid], rtol=0, atol=1e-5)


def test_with_heads_and_prefix(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(**ODD, type_vocab_size=2, hidden_act="gelu_new")
    theirs = perturb(transformers.BertForMaskedLM(config))
    theirs.save_pretrained(tmp_path)
    ours = text_encoder.load(tmp_path)
    assert ours.pooler is None
    tokens, valid = batch()
    with torch.no_grad():
        expected = theirs.bert(tokens, attention_mask=valid.long()).last_hidden_state
        torch.testing.assert_close(ours(tokens, valid).hidden_BTE[valid], expected[valid], rtol=0, atol=1e-5)


def test_gradients_equal_those_of_transformers(tmp_path: Path) -> None:
    theirs = their_model("Bert", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    theirs.save_pretrained(tmp_path)
    ours = text_encoder.load(tmp_path).train()
    tokens, valid = batch()
    for model, output in (
        (theirs, theirs(tokens, attention_mask=valid.long()).last_hidden_state),
        (ours, ours(tokens, valid).hidden_BTE),
    ):
        (output * valid[..., None]).square().mean().backward()
        assert isinstance(model, nn.Module)
    mine = {text_encoder.checkpoint.BERT.to_published(n): p.grad for n, p in ours.named_parameters()}
    for name, parameter in theirs.named_parameters():
        if parameter.grad is not None and "word_embeddings" not in name:
            torch.testing.assert_close(mine[name], parameter.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("config", [
    TINY,
    replace(TINY, family="xlm-roberta", pad_id=4, first_position=5, num_types=1, pooler=False),
    replace(TINY, num_types=6, activation="relu"),
    replace(TINY, family="unilm2", key_bias=False, num_buckets=8, max_distance=20, num_types=0),
])  # fmt: skip
def test_round_trip(config: TextEncoderConfig, tmp_path: Path) -> None:
    model = tiny(config)
    text_encoder.save(model, tmp_path)
    again = text_encoder.load(tmp_path)
    assert again.config == config
    for (name, one), (other_name, other) in zip(
        model.state_dict().items(), again.state_dict().items(), strict=True
    ):
        assert name == other_name
        assert torch.equal(one, other)


def test_published_layout_of_unilm2(tmp_path: Path) -> None:
    """Queries, keys and values joined in this order; biases (1, 1, E) and none for keys; heads x buckets."""
    config = replace(TINY, family="unilm2", key_bias=False, num_buckets=8, max_distance=20)
    model = tiny(config)
    text_encoder.save(model, tmp_path)
    names = dict(checkpoint.read(tmp_path))
    attention = model.stack.layers[1].attention
    joined = torch.cat([attention.query.weight, attention.key.weight, attention.value.weight])
    assert torch.equal(names["encoder.layer.1.attention.self.qkv_linear.weight"], joined)
    assert torch.equal(names["encoder.layer.1.attention.self.v_bias"], attention.value.bias[None, None])
    assert names["rel_pos_bias.weight"].shape == (5, 8)
    assert not any("key" in name for name in names)
    # As published: a prefix, the table inside the encoder, a head, and a training leftover.
    published = {
        f"bert.{name}".replace("bert.rel", "bert.encoder.rel"): t.clone() for name, t in names.items()
    }
    published |= {
        "cls.predictions.bias": torch.zeros(53),
        "crit_mask_lm_smoothed.one_hot": torch.zeros(1, 53),
    }
    checkpoint.save(published, tmp_path)
    tokens, valid = batch()
    torch.testing.assert_close(text_encoder.load(tmp_path)(tokens, valid), model(tokens, valid))


def rewrite(folder: Path, **changes: Any) -> None:
    settings = json.loads((folder / "config.json").read_text())
    settings |= changes
    settings = {key: value for key, value in settings.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(settings))


def test_what_a_config_leaves_out_is_the_family_s(tmp_path: Path) -> None:
    def eps(config: TextEncoderConfig, **changes: Any) -> float:
        text_encoder.save(tiny(config), tmp_path)
        rewrite(tmp_path, layer_norm_eps=None, **changes)
        return text_encoder.load(tmp_path).config.norm_eps

    assert eps(TINY) == 1e-12
    assert eps(replace(TINY, num_types=6), type_vocab_size=2) == 1e-5  # UniLM v1: six rows in the tensor
    assert eps(replace(TINY, num_types=6), layer_norm_epsilon=1e-3, model_type=None) == 1e-3
    roberta = replace(TINY, family="roberta", pad_id=1, first_position=2)
    assert eps(roberta, pad_token_id=None) == 1e-5
    assert text_encoder.load(tmp_path).config.first_position == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "electra"}, "model_type is 'electra', expected one of bert"),
        ({"hidden_act": "swish"}, "hidden_act 'swish' is not supported"),
        ({"position_embedding_type": "relative_key"}, "'relative_key' is not supported"),
        ({"is_decoder": True}, "a decoder"),
        ({"num_attention_heads": 7}, "hidden_size 30 is not divisible by num_heads 7"),
    ],
)
def test_other_models_are_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    text_encoder.save(tiny(), tmp_path)
    rewrite(tmp_path, **changes)
    with pytest.raises(ConfigError, match=message):
        text_encoder.load(tmp_path)


def test_missing_tensors_are_named(tmp_path: Path) -> None:
    text_encoder.save(tiny(), tmp_path)
    tensors = {
        n: t.clone() for n, t in checkpoint.read(tmp_path).items() if "layer.1.output.dense.bias" not in n
    }
    checkpoint.save(tensors, tmp_path)
    with pytest.raises(CheckpointError, match=r"stack\.layers\.1\.feedforward\.down\.bias"):
        text_encoder.load(tmp_path)


def test_key_biases_change_nothing() -> None:
    model = tiny()
    tokens, valid = batch()
    before = model(tokens, valid).hidden_BTE
    for layer in model.stack.layers:
        layer.attention.key.bias.data.add_(1.0)
    torch.testing.assert_close(model(tokens, valid).hidden_BTE[valid], before[valid], rtol=0, atol=1e-5)


@pytest.mark.parametrize("relative", [False, True])
def test_pseudo_masked_layout_equals_the_dense_mask(relative: bool) -> None:
    config = (
        replace(TINY, family="unilm2", key_bias=False, num_buckets=8, max_distance=20) if relative else TINY
    )
    model = tiny(config).double()
    roles, steps = pseudo_masked_roles(9, torch.tensor([[0, 1, 1, 2]]).expand(3, -1))
    tokens, valid = batch()
    valid = valid.clone()
    valid[:, 9:] = True
    positions = torch.cat([torch.arange(13), torch.arange(9, 13)]).expand(3, -1)
    layout, dense = rule_layout(roles, steps, valid), visible(roles, steps, valid)[:, None]
    by_rule = model(tokens, valid, mask=layout, positions_BT=positions).hidden_BTE
    expected = model(tokens, valid, mask=dense, positions_BT=positions).hidden_BTE
    torch.testing.assert_close(by_rule[valid], expected[valid])
    plain = model(tokens, valid, positions_BT=positions).hidden_BTE
    assert (plain - expected)[valid].abs().max() > 1e-3


def test_relative_bias_is_added_behind_the_scaling() -> None:
    """One layer of attention written out, with T5's buckets of the distances between position ids."""
    config = replace(TINY, family="unilm2", num_layers=1, key_bias=False, num_buckets=8, max_distance=20)
    model = tiny(config).double()
    tokens, _ = batch(length=7)
    positions = torch.tensor([[0, 1, 2, 3, 20, 2, 3]]).expand(3, -1)
    output = model(
        tokens, torch.ones_like(tokens, dtype=torch.bool), positions_BT=positions, hidden_states=True
    )
    x = output.hidden_states[0]
    q, k, v = model.q_k_v(0, x)
    table = model.relative_bias.bias.weight
    bias = torch.empty(3, 5, 7, 7, dtype=torch.float64)
    for i in range(7):
        for j in range(7):
            distance = int(positions[0, j] - positions[0, i])
            bucket = min(abs(distance), 2) if abs(distance) < 2 else 2 + int(abs(distance) >= 7)
            bias[:, :, i, j] = table[bucket + 4 * (distance > 0)]
    mixed = (q @ k.mT / 6**0.5 + bias).softmax(-1) @ v
    block = model.stack.layers[0]
    x = block.attention_norm(x + block.attention.output(mixed.transpose(1, 2).flatten(2)))
    torch.testing.assert_close(block.feedforward_norm(x + block.feedforward(x)), output.hidden_BTE)


def test_packing_changes_nothing_and_leaves_padding_out(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens, valid = batch()
    rows: list[int] = []
    outputs, gradients = [], []
    for share in (0.0, 2.0):
        model = tiny().double()
        model.stack.layers[1].feedforward.register_forward_hook(
            lambda _, x, y: rows.append(x[0][..., 0].numel())
        )
        monkeypatch.setattr(network, "PACK_BELOW", share)
        outputs.append(model(tokens, valid).hidden_BTE[valid])
        outputs[-1].square().mean().backward()
        gradients.append([p.grad for n, p in model.named_parameters() if "pooler" not in n])
    torch.testing.assert_close(*outputs)
    torch.testing.assert_close(*gradients)
    assert rows == [tokens.numel(), int(valid.sum())]


def test_a_row_of_padding_alone_is_harmless(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "PACK_BELOW", 0.0)
    model = tiny().train()
    tokens, valid = batch()
    valid[2] = False
    output = model(tokens, valid).hidden_BTE
    output[valid].square().mean().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_minilm_teaches_a_student_of_another_width() -> None:
    teacher, student = tiny(), tiny(replace(TINY, hidden_size=20, num_layers=2, inner_size=30))
    tokens, valid = batch()
    states = []
    for model in (teacher, student):
        hidden = model(tokens, valid, hidden_states=True).hidden_states
        states.append(model.q_k_v(-1, hidden[-2]))
    distillation.minilm(states[1], states[0], 5, valid).backward()
    assert student.stack.layers[1].attention.key.weight.grad.abs().max() > 0
    assert teacher.token_embedding.weight.grad is None


SIZES = {
    "minilm-l6-h384-uncased": 22_713_216,
    "minilm-l12-h384-uncased": 33_360_000,
    "unilm1-base-cased": 108_313_344,
    "bert-base-uncased": 109_482_240,
    "roberta-base": 124_645_632,
}


@pytest.mark.parametrize(("name", "expected"), SIZES.items())
def test_sizes_of_published_models(name: str, expected: int) -> None:
    with checkpoint.on_meta():
        assert sum(p.numel() for p in TextEncoder(PRESETS[name]).parameters()) == expected


def test_bad_arguments() -> None:
    model = tiny()
    tokens, valid = batch()
    with pytest.raises(InputError, match="30 tokens in a row, the model has 29 positions"):
        model(torch.ones(1, 30, dtype=torch.long), torch.ones(1, 30, dtype=torch.bool))
    with pytest.raises(InputError, match="expected"):
        model(tokens, valid.long())
    with pytest.raises(InputError, match="no token types"):
        tiny(replace(TINY, num_types=0))(tokens, valid, types_BT=tokens * 0)


def test_maps_and_embeddings_start_with_the_range_that_is_asked_for() -> None:
    torch.manual_seed(0)
    model = TextEncoder(
        replace(PRESETS["bert-base-uncased"], num_layers=1, vocab_size=2000, initializer_range=0.07)
    )
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2 and len(parameter) > 2:
            assert float(parameter.detach().std()) == pytest.approx(0.07, rel=0.05), name
