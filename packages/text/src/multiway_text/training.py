"""Training a language model of any system here on texts: from nothing, or from a checkpoint on.

Shape suffixes: B rows, T tokens.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from multiway_core import files
from multiway_core.errors import InputError
from multiway_core.training import Loss, TrainConfig, Trainer
from torch import Tensor, nn

from multiway_text import scoring, systems
from multiway_text.documents import TextFiles
from multiway_text.packing import PackedBatches, TokenFile
from multiway_text.tokenizer import TextTokenizer
from multiway_text.tokenizer_training import byte_tokenizer, train_bpe

HELD_OUT = 20
"""Every so manieth document is not trained on but measured."""


@dataclass(frozen=True)
class Run:
    """What a run is.

    Attributes:
        system: model type of the registry, such as "bitnet" or "llama"; ignored where ``init_from`` says it.
        size: "tiny" or "small" (:data:`multiway_text.systems.SIZES`).
        vocab_size: of the BPE tokenizer that is trained first; 0 takes bytes.
        length: tokens of a sequence.
        batch_size: sequences of a step.
        train: the trainer's numbers.
        init_from: a checkpoint to continue from, with its tokenizer.
        max_tokens: of the training texts that are used.
    """

    train: TrainConfig
    system: str = "llama"
    size: str = "tiny"
    vocab_size: int = 2048
    length: int = 128
    batch_size: int = 16
    init_from: Path | None = None
    max_tokens: int | None = None


def next_token_loss(model: nn.Module, tokens_BT: Tensor) -> Loss:
    """Cross-entropy of every token but the first, in nats."""
    logits_BTV = model(tokens_BT[:, :-1])
    targets_BT = tokens_BT[:, 1:]
    total = nn.functional.cross_entropy(
        logits_BTV.flatten(0, 1).float(), targets_BT.flatten(), reduction="sum"
    )
    return Loss(total, targets_BT.numel(), samples=len(tokens_BT))


class _Split:
    """The documents that are trained on, or those that are not."""

    def __init__(self, source: TextFiles, held_out: bool) -> None:
        self.source, self.held_out = source, held_out

    def __iter__(self):
        for number, document in enumerate(self.source):
            if (number % HELD_OUT == HELD_OUT - 1) == self.held_out:
                yield document


def train(
    output: Path,
    paths: Sequence[str | Path],
    run: Run,
    *,
    field: str = "text",
    device: str = "cpu",
    minutes: float | None = None,
) -> dict[str, Any]:
    """Train, write a model folder ``output/model``, and measure it on held-out documents.

    Called again with the same folder it goes on where it stopped. Every 20th document is held out; with fewer documents
    the last tenth of the ids is. Returns numbers: held-out loss and perplexity before and after, tokens, steps.
    Raises InputError, DataError, CheckpointError.
    """
    data = output / "data"
    source = TextFiles(paths, field=field)
    words = _tokenizer(data, source, run)
    if not (data / "train" / "tokens.json").is_file():
        TokenFile.write(data / "train", _Split(source, False), words, most=run.max_tokens)
        try:
            TokenFile.write(data / "held-out", _Split(source, True), words, most=run.max_tokens)
        except InputError:  # fewer than 20 documents
            (data / "held-out").mkdir(exist_ok=True)
    tokens = TokenFile.open(data / "train")
    held_out = data / "held-out"
    if (held_out / "tokens.json").is_file():
        kept = torch.from_numpy(TokenFile.open(held_out).ids.astype("int64"))
    else:
        cut = len(tokens.ids) * 9 // 10
        kept = torch.from_numpy(tokens.ids[cut:].astype("int64"))
        tokens = TokenFile(tokens.ids[:cut], tokens.vocab_size, tokens.documents, tokens.num_bytes)
    batches = PackedBatches(tokens, run.length, run.batch_size, run.train.seed)
    torch.manual_seed(run.train.seed)
    system, model = _model(run, words)
    before = held_out_loss(model, kept, run.length)
    own_loss = system.loss()

    def objective(module: nn.Module, tokens_BT: Tensor) -> Loss:
        if own_loss is None:
            return next_token_loss(module, tokens_BT)
        found = own_loss(module, tokens_BT)
        return Loss(found.total, found.num_tokens, samples=len(tokens_BT))

    trainer = Trainer(model, objective, batches, run.train, output, device=device)
    result = trainer.fit(None if minutes is None else 60 * minutes)
    with trainer.ema_weights():
        model.eval()
        after = held_out_loss(model, kept, run.length)
        folder = output / "model"
        folder.mkdir(parents=True, exist_ok=True)
        system.save_trained(model.cpu(), folder)
        words.save(folder)
    numbers = {
        "system": system.model_type,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "train_tokens": len(tokens.ids),
        "steps": result.step,
        "finished": result.finished,
        "seconds": round(result.seconds, 1),
        "held_out_tokens": len(kept),
        "held_out_loss_before": before,
        "held_out_loss": after,
        "held_out_perplexity": scoring.perplexity(-after, 1),
    }
    files.write_text(output / "numbers.json", json.dumps(numbers, indent=2) + "\n")
    return numbers


@torch.no_grad()
def held_out_loss(model: Any, ids: Tensor, length: int, most: int = 64) -> float:
    """Mean cross-entropy in nats of the first ``most`` sequences of ids, each alone. Raises InputError for too few."""
    count = min(most, (len(ids) - 1) // length)
    if count < 1:
        if len(ids) < 2:
            raise InputError("there is too little text to hold some of it out")
        count, length = 1, len(ids) - 1
    model.eval()
    device = next(model.parameters()).device
    total = 0.0
    for index in range(count):
        rows = ids[index * length : (index + 1) * length + 1][None].to(device)
        total += float(next_token_loss(model, rows).total)
    return total / (count * length)


def _tokenizer(data: Path, source: TextFiles, run: Run) -> TextTokenizer:
    """That of the checkpoint, that of an earlier start of this run, or a new one."""
    if (data / "tokenizer" / "tokenizer.json").is_file():
        return TextTokenizer.from_file(data / "tokenizer")
    if run.init_from is not None:
        words = systems.tokenizer_of(run.init_from)
    elif run.vocab_size == 0:
        words = byte_tokenizer()
    else:
        texts = (document.text for document in _Split(source, False))
        words = train_bpe(texts, run.vocab_size, chat=True)
    (data / "tokenizer").mkdir(parents=True, exist_ok=True)
    words.save(data / "tokenizer")
    return words


def _model(run: Run, words: TextTokenizer) -> tuple[systems.System, Any]:
    if run.init_from is None:
        system = systems.named(run.system)
        return system, system.new(run.size, words.vocab_size, run.length)
    system, path, _ = systems.find(run.init_from)
    return system, system.load_to_train(path)
