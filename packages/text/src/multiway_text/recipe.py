"""Training a language model of any system here on texts: from random weights, or from a checkpoint on.

Shape suffixes: B rows, T tokens.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from multiway_blocks.kernels.linear_cross_entropy import linear_cross_entropy
from multiway_blocks.text_decoder import CausalLM
from multiway_core import hub
from multiway_core.errors import InputError
from multiway_core.tokenization import TextTokenizer, byte_bpe
from multiway_core.training import HeldOut, Loss, TrainConfig, TrainJob, TrainOptions
from torch import Tensor, nn

from multiway_text import scoring, systems
from multiway_text.bitdistill import recipe as bitdistill
from multiway_text.chat_template import train_bpe
from multiway_text.decoders.latent_lm import recipe as latent_lm
from multiway_text.decoders.mh_moe import recipe as mh_moe
from multiway_text.documents import Document, Split, documents
from multiway_text.packing import PackedBatches, TokenFile

_TRAIN = TrainConfig(steps=2000, learning_rate=2e-3, warmup_steps=200, final_learning_rate_ratio=0.1)


@dataclass(frozen=True)
class Recipe:
    """A language model and how it is trained.

    Attributes:
        arch: model type of the registry, such as "bitnet" or "llama"; that of ``init_from`` where one is given.
        size: a key of :data:`multiway_text.systems.SIZES`.
        vocab_size: of the BPE tokenizer that is trained first; 0 takes bytes.
        length: tokens of a sequence.
        batch_size: sequences of a shard.
        train: the trainer's numbers.
        max_tokens: of the training texts that are used.
        field: where the text is in rows of JSONL and Parquet.
    """

    arch: str = "llama"
    size: str = "tiny"
    vocab_size: int = 2048
    length: int = 128
    batch_size: int = 16
    max_tokens: int | None = None
    field: str = "text"
    train: TrainConfig = _TRAIN

    def build(self, options: TrainOptions) -> TrainJob:
        """The job of a run on ``options.data`` (without any: the documentation that comes with Python).

        Every 20th document is held out; with fewer documents the last tenth of the tokens is. Raises InputError,
        DataError, CheckpointError.
        """
        systems.named(self.arch)
        init_from = None if options.init_from is None else hub.resolve(options.init_from)
        tokenizer, tokens, held_out_ids = self._data(options, init_from)
        config = options.apply(self.train)
        torch.manual_seed(options.seed)
        if init_from is None:
            system = systems.named(self.arch)
            with options.model_device():
                model = system.new(self.size, tokenizer.vocab_size, self.length)
        else:
            system, path, _ = systems.find(init_from)
            model = system.load_to_train(path)
        own_loss = system.loss()

        def objective(module: nn.Module, tokens_BT: Tensor) -> Loss:
            if own_loss is None:
                return next_token_loss(module, tokens_BT)
            found = own_loss(module, tokens_BT)
            return Loss(found.total, found.num_tokens, samples=len(tokens_BT))

        def score(module: nn.Module) -> dict[str, float]:
            loss = held_out_loss(module, held_out_ids, self.length)
            return {"loss": loss, "perplexity": scoring.perplexity(-loss, 1)}

        def export(module: Any, folder: Path) -> None:
            system.save_trained(module, folder)
            tokenizer.save(folder)

        return TrainJob(
            model,
            objective,
            PackedBatches(tokens, self.length, self.batch_size, config.seed),
            config,
            export,
            HeldOut(score),
            facts={
                "system": system.model_type,
                "train_tokens": len(tokens.ids),
                "held_out_tokens": len(held_out_ids),
            },
        )

    def _data(self, options: TrainOptions, init_from: Path | None) -> tuple[TextTokenizer, TokenFile, Tensor]:
        """The tokenizer, the ids to train on, and those held out; made once, in ``output/data``."""
        folder = options.output / "data"
        source = documents(options.data, field=self.field)
        tokenizer = self._tokenizer(folder / "tokenizer", source, init_from)
        train, held_out = folder / "train", folder / "held-out"
        if not (train / "tokens.json").is_file():
            TokenFile.write(train, Split(source, False), tokenizer, max_tokens=self.max_tokens)
            try:
                TokenFile.write(held_out, Split(source, True), tokenizer, max_tokens=self.max_tokens)
            except InputError:  # fewer than 20 documents
                held_out.mkdir(exist_ok=True)
        tokens = TokenFile.open(train)
        if (held_out / "tokens.json").is_file():
            return tokenizer, tokens, torch.from_numpy(TokenFile.open(held_out).ids.astype("int64"))
        cut = len(tokens.ids) * 9 // 10
        rest = torch.from_numpy(tokens.ids[cut:].astype("int64"))
        first = TokenFile(tokens.ids[:cut], tokens.vocab_size, tokens.documents, tokens.num_bytes)
        return tokenizer, first, rest

    def _tokenizer(self, folder: Path, source: Iterable[Document], init_from: Path | None) -> TextTokenizer:
        """That of an earlier start of this run, that of the checkpoint, or a new one."""
        if (folder / "tokenizer.json").is_file():
            return TextTokenizer.from_folder(folder)
        if init_from is not None:
            tokenizer = systems.tokenizer_of(init_from)
        elif self.vocab_size == 0:
            tokenizer = byte_bpe.bytes_only()
        else:
            texts = (document.text for document in Split(source, False))
            tokenizer = train_bpe(texts, self.vocab_size, chat=True)
        folder.mkdir(parents=True, exist_ok=True)
        tokenizer.save(folder)
        return tokenizer


RECIPES: dict[str, Any] = {
    "tiny": Recipe(),
    "small": Recipe(size="small", vocab_size=8192, length=256),
    # Half a minute on one core, on the documentation that comes with Python: shows that every part works.
    "smoke": Recipe(
        vocab_size=512,
        length=64,
        batch_size=8,
        max_tokens=100_000,
        train=replace(_TRAIN, steps=40, warmup_steps=4),
    ),
    **bitdistill.RECIPES,
    **mh_moe.RECIPES,
    **latent_lm.RECIPES,
}


def next_token_loss(model: nn.Module, tokens_BT: Tensor) -> Loss:
    """Cross-entropy of every token but the first, in nats; the logits of all tokens are never held at once."""
    targets_BT = tokens_BT[:, 1:]
    if isinstance(model, CausalLM):
        hidden_BTE = model.hidden(tokens_BT[:, :-1])
        if torch.is_autocast_enabled(hidden_BTE.device.type):
            hidden_BTE = hidden_BTE.to(torch.get_autocast_dtype(hidden_BTE.device.type))
        counted_BT = torch.ones_like(targets_BT, dtype=torch.float32)
        total = linear_cross_entropy(hidden_BTE, model.output_matrix_VE, targets_BT, counted_BT)
    else:
        logits_NV = model(tokens_BT[:, :-1]).flatten(0, 1).float()
        total = nn.functional.cross_entropy(logits_NV, targets_BT.flatten(), reduction="sum")
    return Loss(total, targets_BT.numel(), samples=len(tokens_BT))


@torch.no_grad()
def held_out_loss(model: Any, ids: Tensor, length: int, max_sequences: int = 64) -> float:
    """Mean cross-entropy in nats of the first ``max_sequences`` sequences, each alone. InputError: too few ids."""
    count = min(max_sequences, (len(ids) - 1) // length)
    if count < 1:
        if len(ids) < 2:
            raise InputError("there is too little text to hold some of it out")
        count, length = 1, len(ids) - 1
    device = next(model.parameters()).device
    total = 0.0
    for index in range(count):
        rows = ids[index * length : (index + 1) * length + 1][None].to(device)
        total += float(next_token_loss(model, rows).total)
    return total / (count * length)
