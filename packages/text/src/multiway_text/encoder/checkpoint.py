"""Encoders with heads in the layouts that `transformers` publishes: ``bert.*`` or ``roberta.*`` and the head's tensors.

model, labels = checkpoint.load("some/folder")         # the head that the folder holds
checkpoint.save(model, folder, labels=labels)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from multiway_blocks import text_encoder
from multiway_blocks.text_encoder import TextEncoder
from multiway_blocks.text_encoder.checkpoint import published, write
from multiway_core import checkpoint, config, hub
from multiway_core.checkpoint import Rule, RuleTable
from multiway_core.errors import CheckpointError, ConfigError
from torch import nn

from multiway_text.encoder.heads import MaskedLM, SequenceClassifier, SpanExtractor, TokenClassifier
from multiway_text.encoder.quantized import write_quantized

Model = MaskedLM | SequenceClassifier | TokenClassifier | SpanExtractor
_BERT_LM = RuleTable(
    [
        Rule("cls.predictions.transform.dense.{x}", "dense.{x}"),
        Rule("cls.predictions.transform.LayerNorm.{x}", "norm.{x}"),
        Rule("cls.predictions.bias", "bias"),
    ],
    dropped=["cls.predictions.decoder.{x}", "cls.seq_relationship.{x}"],
)
_ROBERTA_LM = RuleTable(
    [
        Rule("lm_head.dense.{x}", "dense.{x}"),
        Rule("lm_head.layer_norm.{x}", "norm.{x}"),
        Rule("lm_head.bias", "bias"),
    ],
    dropped=["lm_head.decoder.{x}"],
)
_ROBERTA_CLASSES = RuleTable(
    [Rule("classifier.dense.{x}", "dense.{x}"), Rule("classifier.out_proj.{x}", "output.{x}")]
)
_CLASSES = RuleTable([Rule("classifier.{x}", "output.{x}")])
_SPANS = RuleTable([Rule("qa_outputs.{x}", "output.{x}")])
_TASKS: dict[str, type[Model]] = {
    "ForMaskedLM": MaskedLM,
    "ForPreTraining": MaskedLM,
    "ForSequenceClassification": SequenceClassifier,
    "ForTokenClassification": TokenClassifier,
    "ForQuestionAnswering": SpanExtractor,
}
_CLASS_PREFIX = {"bert": "Bert", "roberta": "Roberta", "xlm-roberta": "XLMRoberta", "unilm2": "UniLMv2"}
_SUM_WORDS = "sum_words"
_TIED = ("cls.predictions.decoder.weight", "lm_head.decoder.weight")


def load(
    name: str | Path,
    kind: type[Model] | None = None,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> tuple[Model, list[str]]:
    """The model with its head in a folder or under a hub id, in evaluation mode, and its labels in their order.

    ``kind``: the head that is asked for; None takes the one that the folder says it has.
    Raises ModelNotFoundError, ConfigError, CheckpointError (another head, or none).
    """
    folder = hub.resolve(str(name))
    settings = config.read_json(folder / "config.json")
    tensors = checkpoint.read(folder)
    found = task_of(settings)
    if not settings.get("architectures") and any(name.startswith("cls.predictions.") for name in tensors):
        found = MaskedLM  # UniLM's files say what they hold by their tensors alone
    if found is None or (kind is not None and found is not kind):
        asked = "a head" if kind is None else f"the head of a {kind.__name__}"
        verb = "pretrain" if kind is MaskedLM else "finetune"
        raise CheckpointError(
            f"{folder}: {asked} is not there: the file holds {_names(settings)}; train one with {verb}"
        )
    encoder = text_encoder.load(folder, dtype=dtype)
    labels = _labels(settings, folder)
    model = found(encoder) if found in (MaskedLM, SpanExtractor) else found(encoder, len(labels))  # type: ignore[call-arg]
    if isinstance(model, TokenClassifier):
        model.sum_words = settings.get(_SUM_WORDS) is True
    rules = _rules(model)
    heads = {
        _modern(name): name for name in tensors if name.startswith(("cls.", "lm_head.", "classifier.", "qa_"))
    }
    for tied in _TIED:
        if tied in heads and not torch.equal(tensors[tied].to(dtype), encoder.token_embedding.weight):
            raise CheckpointError(
                f"{folder}: {tied} is not the word embedding: untied output is not supported"
            )
    checkpoint.load(
        model.head,
        folder,
        rules=rules,
        dtype=dtype,
        device=device,
        tensors={name: tensors[theirs] for name, theirs in heads.items()},
    )
    return model.to(device).eval(), labels


def save(
    model: Model | TextEncoder,
    folder: Path,
    *,
    labels: Sequence[str] = (),
    dtype: torch.dtype | None = None,
    int8: bool = False,
) -> None:
    """Write what :func:`load` reads and, not in 8 bits, `transformers` opens. Raises OutputError.

    ``labels``: of the classes. ``int8``: of the encoder under a head; the head is not rounded.
    """
    if isinstance(model, TextEncoder):
        text_encoder.save(model, folder, dtype=dtype)
        return
    encoder = model.encoder
    tensors, settings = published(encoder)
    family = encoder.config.family
    prefix = "roberta." if family in ("roberta", "xlm-roberta") else "bert."
    tensors = {prefix + name: tensor for name, tensor in tensors.items()}
    rules = _rules(model)
    head = {rules.to_published(name): tensor for name, tensor in model.head.state_dict().items()}
    task = next(task for task, kind in _TASKS.items() if isinstance(model, kind))
    settings["architectures"] = [_CLASS_PREFIX[family] + task]
    if labels:
        settings["id2label"] = {str(index): label for index, label in enumerate(labels)}
        settings["label2id"] = {label: index for index, label in enumerate(labels)}
    if isinstance(model, TokenClassifier) and model.sum_words:
        settings[_SUM_WORDS] = True
    if isinstance(model, SequenceClassifier):
        settings["problem_type"] = "regression" if len(labels) == 1 else "single_label_classification"
    if int8:
        write_quantized(tensors, settings, folder, head=head)
    else:
        write(tensors | head, settings, folder, dtype=dtype)


def task_of(settings: Mapping[str, Any]) -> type[Model] | None:
    """The model with the head that a ``config.json`` names; None for a bare encoder."""
    names = settings.get("architectures") or [""]
    return next((kind for task, kind in _TASKS.items() if str(names[0]).endswith(task)), None)


def _names(settings: Mapping[str, Any]) -> str:
    return ", ".join(map(str, settings.get("architectures") or ["no architecture"]))


def _rules(model: nn.Module) -> RuleTable:
    assert isinstance(model, MaskedLM | SequenceClassifier | TokenClassifier | SpanExtractor)
    roberta = model.encoder.config.family in ("roberta", "xlm-roberta")
    if isinstance(model, MaskedLM):
        return _ROBERTA_LM if roberta else _BERT_LM
    if isinstance(model, SpanExtractor):
        return _SPANS
    return _ROBERTA_CLASSES if roberta and isinstance(model, SequenceClassifier) else _CLASSES


def _modern(name: str) -> str:
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")


def _labels(settings: Mapping[str, Any], folder: Path) -> list[str]:
    """In the order of the classes; ``LABEL_0`` and on where the file gives a number only, as `transformers`."""
    named = settings.get("id2label")
    if not isinstance(named, Mapping):
        return [f"LABEL_{index}" for index in range(int(settings.get("num_labels", 2)))]
    try:
        by_number = {int(index): str(label) for index, label in named.items()}
        return [by_number[index] for index in range(len(by_number))]
    except (ValueError, KeyError) as error:
        raise ConfigError(f"{folder / 'config.json'}: id2label: expected labels for 0, 1, 2 ...") from error
