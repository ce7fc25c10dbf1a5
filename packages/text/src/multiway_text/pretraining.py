"""Pretraining of text encoders on any texts: BERT's masked LM, UniLM's four tasks, UniLMv2's pseudo-masked LM.

training.run(RECIPES["small"], TrainOptions(output, data=("texts.jsonl",)))
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from multiway_blocks import text_encoder
from multiway_blocks.text_encoder import TextEncoder, TextEncoderConfig
from multiway_core import hub
from multiway_core.checkpoint import read
from multiway_core.errors import ConfigError, InputError
from multiway_core.tokenization import TextTokenizer
from multiway_core.training import HeldOut, TrainConfig, TrainJob, TrainOptions, loss_on
from torch import nn

from multiway_text.data import corruption
from multiway_text.data.corruption import Ids, Vocabulary
from multiway_text.data.masked_batch import MaskedBatch, Part, collate, masked_lm_loss
from multiway_text.data.vocabulary import train_word_piece
from multiway_text.documents import Split, documents
from multiway_text.encoder import checkpoint
from multiway_text.encoder.heads import MaskedLM
from multiway_text.encoder.sentence import check_length, check_tokenizer
from multiway_text.packing import TokenFile
from multiway_text.unilm.model import rescale_residuals, with_segments
from multiway_text.unilm.objective import SHARES, cloze
from multiway_text.unilm_v2.model import with_relative_bias
from multiway_text.unilm_v2.objective import pseudo_masked

Objective = Literal["mlm", "unilm", "pmlm"]
TASKS: Mapping[str, Mapping[str, float]] = {
    "mlm": {"mlm": 1.0},
    "unilm": SHARES,
    "pmlm": {"autoencoding": 1.0, "autoregressive": 1.0},
}
"""What an objective consists of, and what each counts in the held-out loss (UniLM: also its share of the rows)."""
MASKINGS = {"mlm": corruption.BERT, "unilm": corruption.UNILM, "pmlm": corruption.UNILM_V2}
LAYOUTS = {"mlm": "bert-base-uncased", "unilm": "unilm1-base-cased", "pmlm": "unilm2-base-uncased"}
"""Published models (`text_encoder.PRESETS`) whose conventions a new encoder has."""
SIZES = {
    "tiny": (2, 128, 2),
    "mini": (3, 192, 3),
    "small": (4, 256, 4),
    "medium": (6, 384, 6),
    "base": (12, 768, 12),
    "large": (24, 1024, 16),
}
"""Layers, width and heads; the feed-forward network is four times as wide."""
SHORTEST = 8
"""Tokens of the shortest text that is trained on."""

_TRAIN = TrainConfig(
    steps=20_000,
    learning_rate=1e-3,
    warmup_steps=1000,
    schedule="linear",
    betas=(0.9, 0.98),
    weight_decay=0.01,
)


@dataclass(frozen=True)
class Recipe:
    """An encoder and how it is pretrained.

    Attributes:
        objective: "mlm", "unilm" or "pmlm".
        tasks: those of the objective that are trained, all by default: see `TASKS`.
        size: a key of `SIZES`; of no meaning with ``init_from``, as ``vocab_size`` and ``tokenizer``.
        vocab_size: of the WordPiece vocabulary that is learnt first.
        tokenizer: a model folder, hub id or vocabulary file to take in its place.
        length: tokens of the longest text, special ones included; longer texts are cut into several.
        batch_size: texts of a step.
        max_tokens: of the training texts that are used.
        field: where the text is in rows of JSONL and Parquet.
        held_out_rows: held-out texts that are scored.
    """

    objective: Objective = "mlm"
    tasks: tuple[str, ...] = ()
    size: str = "small"
    vocab_size: int = 8192
    tokenizer: str | None = None
    length: int = 128
    batch_size: int = 32
    max_tokens: int | None = None
    field: str = "text"
    held_out_rows: int = 128
    train: TrainConfig = _TRAIN

    def build(self, options: TrainOptions) -> TrainJob:
        """The job of a run on ``options.data`` (without any: the documentation that comes with Python).

        Every 20th document is held out. Raises InputError, DataError, ConfigError, CheckpointError.
        """
        tasks = self._tasks()
        if self.length < SHORTEST + 3:
            raise InputError(f"length must be at least {SHORTEST + 3}, not {self.length}")
        init_from = None if options.init_from is None else hub.resolve(options.init_from)
        tokenizer, train, held_out = self._data(options, init_from)
        settings = options.apply(self.train)
        torch.manual_seed(options.seed)
        with options.model_device():
            model = MaskedLM(self._new(tokenizer)) if init_from is None else self._load(init_from)
        check_length(self.length, model.encoder)
        check_tokenizer(init_from or options.output, tokenizer, model.encoder)
        words = vocabulary(tokenizer)
        make = row_maker(self.objective, tasks, words)

        def batch_of(task: str) -> MaskedBatch:
            maker = row_maker(self.objective, {task: 1.0}, words)
            rows = [
                maker(text_T, np.random.default_rng(index))
                for index, text_T in enumerate(held_out.first(self.held_out_rows))
            ]
            return collate(rows, tokenizer.pad_id)

        held_out_batches = {task: batch_of(task) for task in tasks}

        def score(module: nn.Module) -> dict[str, float]:
            found = {
                task: loss_on(masked_lm_loss, [batch])(module)["loss"]  # type: ignore[arg-type]
                for task, batch in held_out_batches.items()
            }
            loss = sum(weight * found[task] for task, weight in tasks.items())
            return {"loss": loss, **(found if len(found) > 1 else {})}

        def export(module: Any, folder: Path) -> None:
            checkpoint.save(module, folder)
            tokenizer.save(folder)

        return TrainJob(
            model,
            masked_lm_loss,  # type: ignore[arg-type]
            TextBatches(train, make, self.batch_size, tokenizer.pad_id, settings.seed),
            settings,
            export,
            HeldOut(score),
            facts={
                "objective": self.objective,
                "train_tokens": train.num_tokens,
                "vocab_size": tokenizer.vocab_size,
            },
        )

    def _tasks(self) -> Mapping[str, float]:
        """The tasks that are trained with what each counts; shares of UniLM's rows add up to 1."""
        if self.objective not in TASKS:
            raise ConfigError(f"unknown objective {self.objective!r}; there are: {', '.join(TASKS)}")
        known = TASKS[self.objective]
        unknown = [task for task in self.tasks if task not in known]
        if unknown:
            raise ConfigError(f"{self.objective} has no task {unknown[0]!r}; there are: {', '.join(known)}")
        chosen = {task: weight for task, weight in known.items() if not self.tasks or task in self.tasks}
        total = sum(chosen.values()) if self.objective == "unilm" else 1.0
        return {task: weight / total for task, weight in chosen.items()}

    def _new(self, tokenizer: TextTokenizer) -> TextEncoder:
        layout = text_encoder.PRESETS[LAYOUTS[self.objective]]
        layout = replace(layout, num_positions=max(layout.num_positions, self.length))
        encoder = new_encoder(layout, self.size, tokenizer)
        if self.objective == "unilm":
            rescale_residuals(encoder)
        return encoder

    def _load(self, folder: Path) -> MaskedLM:
        """The model of a folder with what the objective needs and the file lacks."""
        model = load_with_head(folder)
        encoder = model.encoder
        if self.objective == "unilm":
            with_segments(encoder)
        elif self.objective == "pmlm":
            model.encoder = with_relative_bias(encoder)
        elif encoder.config.num_types == 6:
            raise ConfigError(
                f"{folder} is a UniLM model (six token types), not a plain BERT: the objective mlm would train one of "
                "its four tasks and let it forget the others; take the objective unilm"
            )
        return model.train()

    def _data(self, options: TrainOptions, init_from: Path | None) -> tuple[TextTokenizer, Texts, Texts]:
        """The tokenizer, the texts to train on, and those held out; made once, in ``output/data``."""
        folder = options.output / "data"
        source = documents(options.data, field=self.field)
        given = self.tokenizer if init_from is None else str(init_from)
        texts = (document.text for document in Split(source, False))
        tokenizer = kept_tokenizer(
            folder / "tokenizer", given, lambda: train_word_piece(texts, self.vocab_size)
        )
        end = vocabulary(tokenizer).sep_id
        divided = TextTokenizer(tokenizer.engine, end_ids=(end,))
        found = []
        for part, held_out in (("train", False), ("held-out", True)):
            if not (folder / part / "tokens.json").is_file():
                try:
                    TokenFile.write(
                        folder / part, Split(source, held_out), divided, max_tokens=self.max_tokens
                    )
                except InputError as error:
                    raise InputError(
                        f"{error}; every 20th document is held out, so that 20 are needed"
                    ) from error
            found.append(Texts(TokenFile.open(folder / part), end, self.length - 3))
        return tokenizer, found[0], found[1]


RECIPES: dict[str, Recipe] = {
    "tiny": Recipe(size="tiny", length=64, train=replace(_TRAIN, steps=5000, warmup_steps=500)),
    "small": Recipe(),
    "base": Recipe(
        size="base",
        vocab_size=30_522,
        length=512,
        batch_size=256,
        train=replace(_TRAIN, steps=500_000, learning_rate=2e-4, warmup_steps=10_000, precision="bf16"),
    ),
    # Under two minutes on one core, on the documentation that comes with Python: shows that every part works.
    "smoke": Recipe(
        size="tiny",
        vocab_size=1000,
        length=48,
        batch_size=16,
        max_tokens=60_000,
        train=replace(_TRAIN, steps=60, warmup_steps=6),
    ),
}


def new_encoder(layout: TextEncoderConfig, size: str, tokenizer: TextTokenizer) -> TextEncoder:
    """An encoder of a size of `SIZES` with the conventions of ``layout``. Raises ConfigError: no such size."""
    if size not in SIZES:
        raise ConfigError(f"unknown size {size!r}; there are: {', '.join(SIZES)}")
    layers, width, heads = SIZES[size]
    return TextEncoder(
        replace(
            layout,
            vocab_size=tokenizer.vocab_size,
            num_layers=layers,
            hidden_size=width,
            num_heads=heads,
            inner_size=4 * width,
            pad_id=tokenizer.pad_id,
            pooler=False,
        )
    )


def kept_tokenizer(folder: Path, given: str | None, train: Callable[[], TextTokenizer]) -> TextTokenizer:
    """That of an earlier start of this run, which ``folder`` keeps, the one that was given, or a new one."""
    if (folder / "tokenizer_config.json").is_file():
        return TextTokenizer.from_folder(folder)
    tokenizer = train() if given is None else TextTokenizer.from_folder(hub.resolve(given))
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(folder)
    return tokenizer


RowMaker = Callable[[Ids, np.random.Generator], list[Part]]


def vocabulary(tokenizer: TextTokenizer) -> Vocabulary:
    """What a corruption needs of a tokenizer. Raises InputError for one that frames no text or has no mask token."""
    frame = tokenizer.engine.frame
    mask_id = next(
        (tokenizer.special[name] for name in ("[MASK]", "<mask>") if name in tokenizer.special), None
    )
    if len(frame.prefix) != 1 or len(frame.suffix) != 1 or mask_id is None:
        raise InputError(
            "a masked language model needs a tokenizer with tokens before and behind a text and a mask token, as "
            f"BERT's [CLS], [SEP] and [MASK]; this is {tokenizer.kind} with {', '.join(tokenizer.special) or 'none'}"
        )
    special = set(tokenizer.special.values())
    text_ids = np.array([index for index in range(tokenizer.vocab_size) if index not in special])
    return Vocabulary(frame.prefix[0], frame.suffix[0], mask_id, text_ids)


def row_maker(objective: Objective, tasks: Mapping[str, float], words: Vocabulary) -> RowMaker:
    """What makes a training row of a text: each draws one of UniLM's tasks; a pseudo-masked row holds both."""
    masking = MASKINGS[objective]
    if objective == "pmlm":
        kind: Any = "pmlm" if len(tasks) > 1 else next(iter(tasks))
        return lambda text_T, generator: pseudo_masked(text_T, words, masking, generator, kind)
    names, shares = list(tasks), list(tasks.values())

    def make(text_T: Ids, generator: np.random.Generator) -> list[Part]:
        task = names[int(generator.choice(len(names), p=shares))]
        return cloze(text_T, task, words, masking, generator)

    return make


def load_with_head(folder: Path) -> MaskedLM:
    """The masked language model in a folder, or the encoder there with a new head."""
    if any("predictions.transform" in name or "lm_head." in name for name in read(folder)):
        model, _ = checkpoint.load(folder, MaskedLM)
        assert isinstance(model, MaskedLM)
        return model
    return MaskedLM(text_encoder.load(folder))


class Texts:
    """Pieces of at most ``room`` tokens of the documents in a token file, which ``end_id`` divides."""

    def __init__(self, tokens: TokenFile, end_id: int, room: int) -> None:
        self.ids = tokens.ids
        ends_D = np.flatnonzero(tokens.ids == end_id)
        starts_D = np.concatenate([[0], ends_D[:-1] + 1])
        pieces_D = -((starts_D - ends_D) // room)
        number_P = np.arange(pieces_D.sum()) - np.repeat(pieces_D.cumsum() - pieces_D, pieces_D)
        first_P = np.repeat(starts_D, pieces_D) + number_P * room
        last_P = np.minimum(first_P + room, np.repeat(ends_D, pieces_D))
        kept_P = last_P - first_P >= SHORTEST
        if not kept_P.any():
            raise InputError(f"no text is longer than {SHORTEST - 1} tokens: give more text")
        self.first_P, self.last_P = first_P[kept_P], last_P[kept_P]
        self.num_tokens = int((self.last_P - self.first_P).sum())

    def __len__(self) -> int:
        return len(self.first_P)

    def __getitem__(self, index: int) -> Ids:
        """The ids of a piece, (T,) int64."""
        return self.ids[self.first_P[index] : self.last_P[index]].astype(np.int64)

    def first(self, count: int) -> list[Ids]:
        return [self[index] for index in range(min(count, len(self)))]


class TextBatches:
    """Training batches: a pure function of (seed, step, shard); every epoch takes the texts in a new order.

    A text's hidden places are drawn anew every time. A step has ``batch_size`` texts, shared out among its shards.
    """

    def __init__(self, texts: Texts, make: RowMaker, batch_size: int, pad_id: int, seed: int) -> None:
        self.texts, self.make, self.batch_size, self.pad_id, self.seed = texts, make, batch_size, pad_id, seed
        self._orders: dict[int, np.ndarray] = {}

    def __call__(self, step: int, shard: int, num_shards: int) -> MaskedBatch:
        if self.batch_size % num_shards:
            raise InputError(f"{num_shards} shards do not divide a batch of {self.batch_size}")
        count = self.batch_size // num_shards
        first = step * self.batch_size + shard * count
        return collate([self._row(index) for index in range(first, first + count)], self.pad_id)

    def _row(self, index: int) -> list[Part]:
        epoch, place = divmod(index, len(self.texts))
        if epoch not in self._orders:
            order = np.random.default_rng((self.seed, epoch)).permutation(len(self.texts))
            self._orders = {e: o for e, o in self._orders.items() if abs(e - epoch) <= 1} | {epoch: order}
        text_T = self.texts[int(self._orders[epoch][place])]
        return self.make(text_T, np.random.default_rng((self.seed, epoch, place)))
