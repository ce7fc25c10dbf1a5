"""Pretraining of multilingual encoders by MMLM, TLM and XlCo, on the user's texts and translations.

training.run(RECIPES["small"], TrainOptions(output, data=("en-de=corpus.en,corpus.de", "de=news.txt")))

Any of the tasks can be left out: ``tasks=("xlco",)`` is contrast of pairs alone.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from multiway_blocks import text_encoder
from multiway_blocks.text_encoder import TextEncoder
from multiway_core import checkpoint as tensor_files
from multiway_core import hub
from multiway_core.errors import ConfigError, InputError
from multiway_core.tokenization import TextTokenizer
from multiway_core.training import HeldOut, TrainConfig, TrainJob, TrainOptions
from multiway_core.training.checkpoints import checkpoints_in
from multiway_core.training.data import to_device

from multiway_text.data.corruption import Ids
from multiway_text.data.vocabulary import train_unigram
from multiway_text.encoder import checkpoint
from multiway_text.encoder.heads import MaskedLM
from multiway_text.encoder.sentence import SentenceModel, SentenceSettings, check_length, check_tokenizer
from multiway_text.encoder.tasks import padded
from multiway_text.infoxlm import objective
from multiway_text.infoxlm.batches import Batches, IdsPair, Mixture, Pairs
from multiway_text.infoxlm.config import BASE, LARGE, SMALL, Contrast
from multiway_text.infoxlm.corpus import Corpus, read_or_encode
from multiway_text.infoxlm.model import InfoXLM
from multiway_text.pretraining import (
    SHORTEST,
    Texts,
    kept_tokenizer,
    load_with_head,
    new_encoder,
    vocabulary,
)

TASKS = ("mmlm", "tlm", "xlco")
SENTENCES = "sentences"
"""The folder inside the exported model that holds the lower layers as an encoder of sentences."""
_SCORED_ROWS = 32

_TRAIN = TrainConfig(
    steps=200_000,
    learning_rate=2e-4,
    warmup_steps=10_000,
    schedule="linear",
    betas=(0.9, 0.98),
    weight_decay=0.01,
    precision="bf16",
)


@dataclass(frozen=True)
class Recipe:
    """An encoder and how it is pretrained.

    Attributes:
        tasks: of `TASKS`, those that are trained.
        contrast: the numbers of "xlco".
        size: a key of `multiway_text.pretraining.SIZES`; of no meaning with ``init_from``, as ``vocab_size`` and
            ``tokenizer``.
        vocab_size: of the Unigram vocabulary that is learnt first.
        tokenizer: a model folder, hub id or vocabulary file to take in its place.
        length: tokens of the longest row; texts are cut into several, each side of a pair to half of it.
        batch_size: items of a step in each task.
        language_alpha: languages are drawn with probability ~ (number of texts) ** alpha.
        max_tokens: that are used of a language, and of a pair of languages.
        field: where the text is in rows of JSONL and Parquet.
        pair_fields: where the two texts are in rows of JSONL; at the languages' codes by default.
        scored: held-out pairs and texts that are scored.
    """

    tasks: tuple[str, ...] = TASKS
    contrast: Contrast = BASE
    size: str = "base"
    vocab_size: int = 250_000
    tokenizer: str | None = None
    length: int = 256
    batch_size: int = 2048
    language_alpha: float = 0.7
    max_tokens: int | None = None
    field: str = "text"
    pair_fields: tuple[str, str] | None = None
    scored: int = 256
    train: TrainConfig = _TRAIN

    def build(self, options: TrainOptions) -> TrainJob:
        """The job of a run on ``options.data``, in the form of `multiway_text.data.parallel`.

        Without texts the sides of the pairs are those of "mmlm"; without any data the documentation that comes with
        Python is translated into a cipher. Every 20th text and pair is held out.
        Raises InputError, DataError, ConfigError, CheckpointError.
        """
        self._check(options)
        init_from = None if options.init_from is None else hub.resolve(options.init_from)
        corpus = Corpus.read(options.data, field=self.field, pair_fields=self.pair_fields)
        if not corpus.pair_groups and self.tasks != ("mmlm",):
            raise InputError("there are no translations; give some, such as en-de=corpus.en,corpus.de")
        folder = options.output / "data"
        tokenizer = kept_tokenizer(
            folder / "tokenizer",
            self.tokenizer if init_from is None else str(init_from),
            lambda: train_unigram(corpus.vocabulary_texts(), self.vocab_size),
        )
        settings = options.apply(self.train)
        batches = self._batches(corpus, folder, tokenizer, settings)
        torch.manual_seed(options.seed)
        lm = MaskedLM(self._new(tokenizer)) if init_from is None else load_with_head(init_from)
        check_length(self.length, lm.encoder)
        check_tokenizer(init_from or options.output, tokenizer, lm.encoder)
        model = InfoXLM(lm, self._contrast(batches))
        if os.environ.get("RANK", "0") == "0" and not checkpoints_in(options.output):
            self._tell_and_fill(model.to(options.device), batches, init_from)

        def export(module: Any, folder: Path) -> None:
            checkpoint.save(module.lm, folder)
            tokenizer.save(folder)
            sentence = SentenceSettings(max_length=self.length)
            SentenceModel(module.lower(), tokenizer, sentence).save(folder / SENTENCES)

        return TrainJob(
            model,
            objective.loss,  # type: ignore[arg-type]
            batches,
            settings,
            export,
            HeldOut(Score(self._batches(corpus, folder, tokenizer), self.scored)),  # type: ignore[arg-type]
            facts={
                "tasks": list(self.tasks),
                "layer": model.layer,
                "vocab_size": tokenizer.vocab_size,
                "pairs": sum(map(len, batches.pairs.groups)),
                "queue_size": model.contrast.queue_size,
            },
        )

    def _batches(
        self, corpus: Corpus, folder: Path, tokenizer: TextTokenizer, settings: TrainConfig | None = None
    ) -> Batches:
        """The batches of a training, or without its settings those that are scored."""
        words, held_out = vocabulary(tokenizer), settings is None
        divided = TextTokenizer(tokenizer.engine, end_ids=(words.sep_id,))
        part = "held-out" if held_out else "train"
        texts: dict[str, Texts] = {}
        pairs: dict[str, Pairs] = {}
        for name, group in corpus.texts(held_out).items() if "mmlm" in self.tasks else ():
            tokens = read_or_encode(folder / name / part, group, divided, self.max_tokens)
            texts[name] = Texts(tokens, words.sep_id, self.length - 2)
        for name, group in corpus.pairs(held_out).items():
            tokens = read_or_encode(folder / name / part, group, divided, self.max_tokens)
            pairs[name] = Pairs(tokens, words.sep_id, (self.length - 3) // 2)
        return Batches(
            Mixture(texts, self.language_alpha),
            Mixture(pairs, self.language_alpha),
            words,
            tasks=self.tasks,
            batch_size=_SCORED_ROWS if settings is None else self.batch_size,
            pad_id=tokenizer.pad_id,
            mixup=self.contrast.mixup,
            accumulation=1 if settings is None else settings.accumulation,
            seed=0 if settings is None else settings.seed,
        )

    def _contrast(self, batches: Batches) -> Contrast:
        """No more keys than there are pairs; none where there is no contrast."""
        pairs = sum(map(len, batches.pairs.groups)) if "xlco" in self.tasks else 0
        return replace(self.contrast, queue_size=min(self.contrast.queue_size, pairs))

    def _tell_and_fill(self, model: InfoXLM, batches: Batches, init_from: Path | None) -> None:
        """What the main process does before a training's first step."""
        size = model.contrast.queue_size
        if "xlco" in self.tasks and size < self.contrast.queue_size:
            _tell(f"the queue holds {size} keys, not {self.contrast.queue_size}: there are so many pairs")
        if init_from is not None:
            has_head = any("lm_head." in name for name in tensor_files.read(init_from))
            new = ([] if has_head else ["masked LM head"]) + ["projection", "queue"]
            _tell(f"{init_from.name} has no {', no '.join(new)}: drawn anew")
        if model.queue is not None:
            for sides in batches.before_training(size):
                sides = to_device(sides, model.projection.weight.device)
                model.queue.fill(model.key(sides.key.ids_BT, sides.key.valid_BT))

    def _new(self, tokenizer: TextTokenizer) -> TextEncoder:
        first = tokenizer.pad_id + 1
        layout = text_encoder.PRESETS["xlm-roberta-base"]
        layout = replace(layout, num_positions=max(512, self.length) + first, first_position=first)
        return new_encoder(layout, self.size, tokenizer)

    def _check(self, options: TrainOptions) -> None:
        unknown = [task for task in self.tasks if task not in TASKS]
        if unknown or not self.tasks:
            raise ConfigError(f"infoxlm has no task {(unknown or [''])[0]!r}; there are: {', '.join(TASKS)}")
        if options.parallel == "fsdp":
            raise ConfigError("infoxlm's momentum encoder is not sharded: train with parallel ddp")
        if self.pair_fields is not None and len(self.pair_fields) != 2:
            raise InputError(f"expected the names of two fields, A,B, got {','.join(self.pair_fields)}")
        if self.length < 2 * SHORTEST + 3:
            raise InputError(f"length must be at least {2 * SHORTEST + 3}, not {self.length}")


RECIPES: dict[str, Recipe] = {
    "base": Recipe(),
    "large": Recipe(size="large", contrast=LARGE, train=replace(_TRAIN, learning_rate=1e-4)),
    "small": Recipe(
        size="small",
        contrast=SMALL,
        vocab_size=16_384,
        length=128,
        batch_size=32,
        train=replace(_TRAIN, steps=20_000, learning_rate=1e-3, warmup_steps=1000),
    ),
    # Half a minute on one core, on a cipher of the documentation that comes with Python: shows that every part works.
    "smoke": Recipe(
        size="tiny",
        contrast=replace(SMALL, queue_size=256),
        vocab_size=1000,
        length=64,
        batch_size=16,
        max_tokens=150_000,
        scored=64,
        train=replace(_TRAIN, steps=60, learning_rate=1e-3, warmup_steps=6),
    ),
}


@dataclass(frozen=True)
class Score:
    """The losses on held-out rows, and how often a text's nearest vector is its translation's ("retrieval").

    Retrieval compares cosines of mean states in the middle layer, inside each pair of languages, in both directions.
    """

    batches: Batches
    count: int

    @torch.no_grad()
    def __call__(self, model: InfoXLM) -> dict[str, float]:
        device = model.projection.weight.device
        steps = range(max(1, self.count // self.batches.batch_size))
        found = [objective.loss(model, to_device(self.batches(step, 0, 1), device)) for step in steps]
        scores = {"loss": sum(float(one.total) / float(one.weight) for one in found) / len(found)}
        for task in self.batches.tasks:
            scores[task] = sum(float(one.metrics[task]) for one in found) / len(found)
        groups = [
            [group[index] for index in range(min(len(group), self.count))]
            for group in self.batches.pairs.groups
        ]
        if groups:
            right = sum(self._right(model, pairs, device) for pairs in groups)
            scores["retrieval"] = right / (2 * sum(map(len, groups)))
        return scores

    def _right(self, model: InfoXLM, pairs: list[IdsPair], device: torch.device) -> int:
        first_NE, second_NE = (
            torch.nn.functional.normalize(self._vectors(model, [pair[side] for pair in pairs], device), dim=1)
            for side in (0, 1)
        )
        scores_NN = first_NE @ second_NE.T
        own_N = torch.arange(len(pairs), device=device)
        return int((scores_NN.argmax(1) == own_N).sum() + (scores_NN.argmax(0) == own_N).sum())

    def _vectors(self, model: InfoXLM, texts: list[Ids], device: torch.device) -> torch.Tensor:
        words, parts = self.batches.words, []
        for start in range(0, len(texts), _SCORED_ROWS):
            rows = [
                [words.cls_id, *text_T.tolist(), words.sep_id]
                for text_T in texts[start : start + _SCORED_ROWS]
            ]
            batch = padded(rows, self.batches.pad_id)
            parts.append(model.sentence(batch.ids_BT.to(device), batch.valid_BT.to(device)))
        return torch.cat(parts)


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
