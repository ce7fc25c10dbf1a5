"""Heads: parity with `transformers` on perturbed random weights, both ways, and planted mistakes that must show."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from multiway_blocks.text_encoder import TextEncoder, TextEncoderConfig
from multiway_core import checkpoint as files
from multiway_core.errors import CheckpointError, ConfigError
from multiway_text.encoder import checkpoint
from multiway_text.encoder.heads import MaskedLM, SequenceClassifier, SpanExtractor, TokenClassifier
from torch import Tensor, nn

SIZES = {
    "vocab_size": 53,
    "hidden_size": 30,
    "num_hidden_layers": 2,
    "num_attention_heads": 5,
    "intermediate_size": 47,
    "max_position_embeddings": 29,
    "layer_norm_eps": 3e-3,
}
LABELS = {0: "no", 1: "maybe", 2: "yes"}
TASKS = ["MaskedLM", "SequenceClassification", "TokenClassification", "QuestionAnswering"]
KINDS = ["Bert", "Roberta", "XLMRoberta"]


def perturb(model: nn.Module) -> Any:
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return model.eval()


def theirs(kind: str, task: str) -> Any:
    transformers = pytest.importorskip("transformers")
    extra: dict[str, Any] = (
        {"type_vocab_size": 2} if kind == "Bert" else {"pad_token_id": 4, "type_vocab_size": 1}
    )
    if kind == "Bert" and task == "MaskedLM":
        extra["hidden_act"] = "gelu_new"  # RoBERTa's head takes gelu whatever the config says
    config = getattr(transformers, f"{kind}Config")(
        **SIZES, **extra, **({} if task == "QuestionAnswering" else {"id2label": LABELS})
    )
    torch.manual_seed(0)
    return perturb(getattr(transformers, f"{kind}For{task}")(config))


def inputs() -> tuple[Tensor, Tensor]:
    tokens = torch.randint(5, 53, (3, 17), generator=torch.Generator().manual_seed(1))
    valid = torch.arange(17) < torch.tensor([[17], [11], [3]])
    return tokens.masked_fill(~valid, 4), valid


def logits_of(model: Any, task: str) -> Tensor:
    tokens, valid = inputs()
    with torch.no_grad():
        output = model(tokens, attention_mask=valid.long())
    if task == "QuestionAnswering":
        return torch.stack([output.start_logits, output.end_logits], -1)[valid]
    return output.logits if task == "SequenceClassification" else output.logits[valid]


def ours_of(model: nn.Module, task: str) -> Tensor:
    tokens, valid = inputs()
    with torch.no_grad():
        output = model(tokens, valid)
    return output if task == "SequenceClassification" else output[valid]


@pytest.mark.peer
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("kind", KINDS)
def test_equal_to_transformers_and_back(kind: str, task: str, tmp_path: Path) -> None:
    import transformers

    their = theirs(kind, task)
    their.save_pretrained(tmp_path / "theirs")
    model, labels = checkpoint.load(tmp_path / "theirs")
    expected = logits_of(their, task)
    assert expected.std() > 0.3
    torch.testing.assert_close(ours_of(model, task), expected, rtol=0, atol=1e-5)
    if task.endswith("Classification"):
        assert labels == list(LABELS.values())

    checkpoint.save(model, tmp_path / "ours", labels=labels)
    auto = getattr(transformers, f"AutoModelFor{task}")
    again, report = auto.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    torch.testing.assert_close(logits_of(again.eval(), task), expected, rtol=0, atol=1e-5)


@pytest.mark.peer
@pytest.mark.parametrize("task", ["MaskedLM", "SequenceClassification"])
def test_planted_mistakes_show(task: str, tmp_path: Path) -> None:
    their = theirs("Bert", task)
    their.save_pretrained(tmp_path)
    expected = logits_of(their, task)
    model, _ = checkpoint.load(tmp_path)
    if isinstance(model, MaskedLM):
        model.head.activation = "gelu"
        wrong_activation = ours_of(model, task)
        model.head.activation = "gelu_tanh"
        model.head.norm.eps = 1e-12
        for wrong in (wrong_activation, ours_of(model, task)):
            assert (wrong - expected).abs().max() > 1e-4
    else:
        model.encoder.pooler.weight.data = model.encoder.pooler.weight.data.t().contiguous()
        assert (ours_of(model, task) - expected).abs().max() > 1e-2


def tiny(**changes: Any) -> TextEncoder:
    config = TextEncoderConfig("bert", 53, 30, 2, 5, 47, 29, 2, 3e-3, 0, 0)
    torch.manual_seed(0)
    return perturb(TextEncoder(dataclasses.replace(config, **changes)))


@pytest.mark.parametrize("family", ["bert", "roberta", "unilm2"])
def test_round_trip_of_every_head(family: str, tmp_path: Path) -> None:
    more: dict[str, Any] = {"family": family}
    if family == "unilm2":
        more |= {"key_bias": False, "num_buckets": 8, "num_types": 0}
    if family == "roberta":
        more |= {"pad_id": 4, "first_position": 5, "num_types": 1, "pooler": False}
    for make in (
        MaskedLM,
        SpanExtractor,
        lambda encoder: SequenceClassifier(encoder, 3),
        lambda encoder: TokenClassifier(encoder, 3),
    ):
        model = perturb(make(tiny(**more)))
        labels = [] if isinstance(model, MaskedLM | SpanExtractor) else list(LABELS.values())
        checkpoint.save(model, tmp_path, labels=labels)
        again, found = checkpoint.load(tmp_path)
        assert type(again) is type(model)
        assert not labels or found == labels
        tokens, valid = inputs()
        with torch.no_grad():
            assert torch.equal(model(tokens, valid), again(tokens, valid))


def test_a_folder_with_another_head_or_none_says_so(tmp_path: Path) -> None:
    checkpoint.save(tiny(), tmp_path)
    with pytest.raises(CheckpointError, match="holds BertModel; train one with finetune"):
        checkpoint.load(tmp_path)
    with pytest.raises(CheckpointError, match="train one with pretrain"):
        checkpoint.load(tmp_path, MaskedLM)
    checkpoint.save(TokenClassifier(tiny(), 3), tmp_path, labels=["a", "b", "c"])
    with pytest.raises(CheckpointError, match=r"SequenceClassifier is not there.*BertForTokenClassification"):
        checkpoint.load(tmp_path, SequenceClassifier)
    settings = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**settings, "id2label": {"0": "a", "7": "b"}}))
    with pytest.raises(ConfigError, match="expected labels for 0, 1, 2"):
        checkpoint.load(tmp_path)


def test_an_untied_output_embedding_is_refused(tmp_path: Path) -> None:
    checkpoint.save(MaskedLM(tiny()), tmp_path)
    tensors = {name: tensor.clone() for name, tensor in files.read(tmp_path).items()}
    tensors["cls.predictions.decoder.weight"] = tensors["bert.embeddings.word_embeddings.weight"] + 1
    files.save(tensors, tmp_path)
    with pytest.raises(CheckpointError, match="untied output"):
        checkpoint.load(tmp_path)
