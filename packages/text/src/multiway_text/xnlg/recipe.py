"""XNLG's three stages: the encoder (MLM, XMLM), the decoder (DAE, XAE, the encoder frozen), and fine-tuning.

training.run(RECIPES["xnlg-small"], TrainOptions(output, data=("texts.jsonl", "titles.jsonl")))
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from multiway_core.errors import ConfigError, InputError
from multiway_core.tokenization import TextTokenizer, byte_bpe
from multiway_core.training import HeldOut, Loss, TrainConfig, TrainJob, TrainOptions, loss_on
from torch import Tensor, nn

from multiway_text.data.corruption import Vocabulary
from multiway_text.xnlg import checkpoint
from multiway_text.xnlg.checkpoint import Loaded
from multiway_text.xnlg.config import EOS, MASK, PRESETS, SPECIAL, XnlgConfig
from multiway_text.xnlg.corpus import Corpus, Encoded, Source, divided, vocabularies
from multiway_text.xnlg.model import Xnlg
from multiway_text.xnlg.objective import (
    DAE_WEIGHT,
    Cloze,
    Noise,
    Pairs,
    Text,
    cloze,
    cloze_loss,
    pairs,
    pairs_loss,
)

_SCORED_ROWS = 16  # held-out rows side by side: the logits of 256 titles over 95,000 pieces would take 8 GB
LOSSES = {"mlm": 1.0, "xmlm": 1.0, "dae": DAE_WEIGHT, "xae": 1.0, "title": 1.0}
"""What each loss counts; a step of a stage takes a batch of each of its losses."""
STAGES = {"encoder": ("mlm", "xmlm"), "decoder": ("dae", "xae"), "finetune": ("title",)}
_TRAIN = TrainConfig(
    steps=4000, learning_rate=5e-6, schedule="linear", betas=(0.9, 0.999), weight_decay=0.0, clip_norm=1.0
)
_PRETRAIN = replace(
    _TRAIN, steps=100_000, learning_rate=1e-4, warmup_steps=4000, betas=(0.9, 0.98), precision="bf16"
)


@dataclass(frozen=True)
class Recipe:
    """A network and its stages.

    Attributes:
        config: of a new network; that of ``init_from`` goes before it.
        stages: names of `STAGES`, in order, with commas between.
        train_layers: what fine-tuning changes, see :meth:`Xnlg.freeze`; "layers" is all layers of the encoder, for
            targets in languages that have no labels ("decoder": for sources in such languages; "all": supervised).
        without: losses that are left out.
        batch_tokens: of a loss's batch, with padding.
        encoder, decoder, train: the numbers of the stages, the last of fine-tuning.
    """

    config: XnlgConfig = PRESETS["xnlg-10-6"]
    stages: str = "encoder,decoder,finetune"
    train_layers: str = "layers"
    without: tuple[str, ...] = ()
    batch_tokens: int = 4096
    encoder: TrainConfig = _PRETRAIN
    decoder: TrainConfig = _PRETRAIN
    train: TrainConfig = _TRAIN

    def build(self, options: TrainOptions) -> Iterator[TrainJob]:
        """The jobs of a run on ``options.data`` (see `multiway_text.xnlg.corpus`).

        Raises InputError, DataError, ConfigError, CheckpointError, ModelNotFoundError.
        """
        stages = [stage.strip() for stage in self.stages.split(",")]
        unknown = [stage for stage in stages if stage not in STAGES]
        if unknown:
            raise ConfigError(f"unknown stage {unknown[0]!r}; there are: {', '.join(STAGES)}")
        loaded = None if options.init_from is None else checkpoint.load(options.init_from)
        config = self.config if loaded is None else loaded.model.config
        corpus = Corpus.read(options.data, config.languages) if options.data else help_texts()
        if loaded is None:
            tokenizer = self._tokenizer(options.output / "data" / "tokenizer", corpus)
            torch.manual_seed(options.seed)
            with options.model_device():
                model = Xnlg(replace(config, vocab_size=tokenizer.vocab_size))
            loaded = Loaded(model, tokenizer, {})
        found = vocabularies(corpus, loaded.tokenizer) if corpus.texts else {}
        loaded = loaded._replace(vocabularies={**loaded.vocabularies, **found})
        encoded = Encoded.of(corpus, loaded.tokenizer, loaded.model.config)
        for stage in stages:
            losses = [name for name in STAGES[stage] if name not in self.without]
            examples = {name: _examples(name, encoded, loaded.model.config) for name in losses}
            lacking = [name for name, rows in examples.items() if not rows]
            if lacking or not losses:
                raise InputError(f"the stage {stage} has nothing to learn from: {_NEEDS[stage]}")
            yield self._job(stage, loaded, examples, options, "encoder" in stages)

    def _job(
        self,
        stage: str,
        loaded: Loaded,
        examples: Mapping[str, list[Any]],
        options: TrainOptions,
        after_encoder: bool,
    ) -> TrainJob:
        model = loaded.model.train()
        if stage == "decoder" and after_encoder:
            model.start_decoder()
        layers = f"1,{model.config.encoder_layers}" if self.train_layers == "layers" else self.train_layers
        model.freeze(stage if stage in ("encoder", "decoder") else layers)
        settings = options.apply({"encoder": self.encoder, "decoder": self.decoder}.get(stage, self.train))
        makers = _makers(loaded)
        taught = {name: divided(rows) for name, rows in examples.items()}
        sources = {
            name: Source(
                rows,
                [_length(row, model.config.max_source) for row in rows],
                makers[name],
                tokens=self.batch_tokens,
                seed=settings.seed,
            )
            for name, (rows, _) in taught.items()
        }
        held_out = {
            name: [
                makers[name](
                    rows[start : start + _SCORED_ROWS], np.random.default_rng((settings.seed, start))
                )
                for start in range(0, len(rows), _SCORED_ROWS)
            ]
            for name, (_, rows) in taught.items()
        }
        scores = {name: loss_on(_loss, batches) for name, batches in held_out.items()}

        def score(module: nn.Module) -> dict[str, float]:
            means = {name: mean_loss(module)["loss"] for name, mean_loss in scores.items()}
            return {"loss": sum(LOSSES[name] * mean for name, mean in means.items()), **means}

        def export(module: Any, folder: Path) -> None:
            if stage == "encoder":
                module.start_decoder()
            checkpoint.save(loaded._replace(model=module), folder)

        def batches(step: int, shard: int, num_shards: int) -> dict[str, Any]:
            return {name: source(step, shard, num_shards) for name, source in sources.items()}

        facts = {"stage": stage, **{name: len(rows) for name, (rows, _) in taught.items()}}
        return TrainJob(model, mixed_loss, batches, settings, export, HeldOut(score), name=stage, facts=facts)

    def _tokenizer(self, folder: Path, corpus: Corpus) -> TextTokenizer:
        """That of an earlier start of this run, or a new byte-level one that begins with XLM's special tokens."""
        if not (folder / "tokenizer.json").is_file():
            texts = (text for _, text in corpus.lines())
            made = TextTokenizer(byte_bpe.train(texts, self.config.vocab_size, special=SPECIAL))
            folder.mkdir(parents=True, exist_ok=True)
            made.save(folder)
        return TextTokenizer.from_folder(folder)


_NEEDS = {
    "encoder": "texts with an id that those in other languages share are needed",
    "decoder": "texts with an id that those in other languages share are needed",
    "finetune": 'rows with "src", "tgt" and "language" are needed; --stages encoder,decoder leaves it out',
}
_SMALL = replace(_PRETRAIN, steps=4000, learning_rate=1e-3, warmup_steps=300)
RECIPES: dict[str, Recipe] = {
    # The published numbers. A released model is named by --init-from and fine-tuned by --stages finetune.
    "xnlg": Recipe(),
    "xnlg-small": Recipe(
        PRESETS["xnlg-small"],
        batch_tokens=2048,
        encoder=_SMALL,
        decoder=_SMALL,
        train=replace(_TRAIN, steps=600, learning_rate=2e-4, warmup_steps=60, precision="bf16"),
    ),
    # Half a minute on one core and no data: shows that every part works.
    "xnlg-smoke": Recipe(
        PRESETS["smoke"],
        batch_tokens=512,
        encoder=replace(_PRETRAIN, steps=20, learning_rate=2e-3, warmup_steps=4, precision="fp32"),
        decoder=replace(_PRETRAIN, steps=20, learning_rate=2e-3, warmup_steps=4, precision="fp32"),
        train=replace(_TRAIN, steps=20, learning_rate=1e-3, warmup_steps=4),
    ),
}


def mixed_loss(model: nn.Module, batch: Mapping[str, Any]) -> Loss:
    """The weighted sum of the mean losses of a step's batches; ``metrics`` has each, in nats a token."""
    total, samples = torch.zeros(()), 0
    metrics: dict[str, float | Tensor] = {}
    for name, part in batch.items():
        loss = _loss(model, part)
        mean = loss.total / float(loss.weight)
        total = total.to(mean.device) + LOSSES[name] * mean
        metrics[name], samples = mean.detach(), samples + loss.samples
    return Loss(total, 1, metrics, samples=samples)


def _loss(model: nn.Module, batch: Cloze | Pairs) -> Loss:
    return cloze_loss(model, batch) if isinstance(batch, Cloze) else pairs_loss(model, batch)


def _examples(name: str, encoded: Encoded, config: XnlgConfig) -> list[Any]:
    """What a loss learns from. Pairs whose target would have to be cut are left out: it would end too early."""
    if name == "mlm":
        return [(text,) for text in encoded.texts]
    if name == "xmlm":
        return encoded.translations
    rows = {
        "dae": [(text, text) for text in encoded.texts],
        "xae": encoded.translations,
        "title": encoded.titles,
    }
    room = config.max_target - 2
    if name == "title":  # the source is cut, as the paper does it
        return [row for row in rows[name] if len(row[1].ids) <= room]
    return [row for row in rows[name] if len(row[1].ids) <= room and len(row[0].ids) <= config.max_source - 2]


def _makers(loaded: Loaded) -> dict[str, Any]:
    """By loss what makes a batch of examples and a generator."""
    config, special = loaded.model.config, len(SPECIAL)
    words = Vocabulary(EOS, EOS, MASK, np.arange(special, config.vocab_size))
    noise = Noise(loaded.tokenizer)
    hidden = partial(_cloze, room=config.max_source, words=words)

    def plain(rows: list[Any], generator: np.random.Generator) -> Pairs:
        return pairs(rows, config.max_source, config.max_target)

    def noisy(rows: list[Any], generator: np.random.Generator) -> Pairs:
        return plain([(text._replace(ids=noise(text.ids, generator)), text) for text, _ in rows], generator)

    return {"mlm": hidden, "xmlm": hidden, "dae": noisy, "xae": plain, "title": plain}


def _cloze(rows: list[Any], generator: np.random.Generator, *, room: int, words: Vocabulary) -> Cloze:
    return cloze(rows, room, words, generator)


def _length(row: tuple[Text, ...], room: int) -> int:
    return sum(min(len(text.ids) + 2, room) for text in row)


def help_texts() -> Corpus:
    """The topics of Python's own help as "en", and the same with every word turned around as "de": a language for the
    smoke test, which needs one that no network fetches."""
    from multiway_text.s2s_ft.recipe import help_topics

    corpus = Corpus()
    for pair in help_topics()[:600]:
        words = str(pair.source).split()[:8]
        corpus.translations += [(len(corpus.texts) + a, len(corpus.texts) + 1 - a) for a in (0, 1)]
        corpus.texts += [("en", " ".join(words)), ("de", " ".join(word[::-1] for word in words))]
        corpus.titles.append(("en", " ".join(words), str(pair.target)))
    return corpus
