"""A super-network from a teacher, and what is kept of it: an encoder folder with its space, ready to be searched."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from multiway_blocks import text_encoder
from multiway_blocks.text_encoder import TextEncoder
from multiway_core import config as configs
from multiway_core import files, hub
from multiway_core.errors import ConfigError, InputError
from multiway_core.tokenization import TextTokenizer
from multiway_core.training import HeldOut, TrainConfig, TrainJob, TrainOptions, loss_on

from multiway_text.autodistil.elastic import extract
from multiway_text.autodistil.objective import LossKind, Sandwich, SandwichBatches, SandwichDistillation
from multiway_text.autodistil.search import Candidate, Cost, Search
from multiway_text.autodistil.space import SPACES, Space, shape
from multiway_text.encoder.sentence import SentenceModel, SentenceSettings, check_length
from multiway_text.minilm.recipe import read_or_encode, split_rows
from multiway_text.sequences import SequenceBatches, Sequences

SPACE_FILE = "search_space.json"
MAX_HELD_OUT = 64
_TRAIN = TrainConfig(
    steps=4000,
    learning_rate=4e-4,
    warmup_steps=400,
    schedule="linear",
    betas=(0.9, 0.999),
    weight_decay=0.01,
    precision="bf16",
)


@dataclass(frozen=True)
class Recipe:
    """The numbers of a super-network's training.

    Attributes:
        teacher: a text encoder with its tokenizer, which the super-network begins as a slice of: folder or hub id.
        space: a key of `SPACES`, or a space.
        loss: ``kl`` or ``mse``, see `SandwichDistillation`. relation_heads: divides the width of every member.
        between: members drawn in every step beside the largest and the smallest.
        length, batch_tokens, max_rows, field: of the texts, as in MiniLM's recipe.
    """

    teacher: str = ""
    space: str | Space = "mini"
    loss: LossKind = "kl"
    relation_heads: int = 16
    between: int = 2
    length: int = 128
    batch_tokens: int = 4096
    max_rows: int = 0
    field: str = "text"
    train: TrainConfig = _TRAIN

    def build(self, options: TrainOptions) -> TrainJob:
        """The job of a run on ``options.data``. Raises InputError, DataError, CheckpointError, ConfigError."""
        if not self.teacher:
            raise InputError("a super-network needs a teacher: a text encoder, folder or hub id")
        sentence = SentenceModel.load(hub.resolve(self.teacher))
        teacher, tokenizer = sentence.encoder, sentence.tokenizer
        check_length(self.length, teacher)
        space = named(self.space)
        space = replace(space, head_size=space.head_size or teacher.config.attention_head_size)
        objective = SandwichDistillation(teacher, space, loss=self.loss, relation_heads=self.relation_heads)
        supernet = extract(teacher, shape(space.largest, teacher.config, space.head_size)).train()
        rows = read_or_encode(options, tokenizer, self.length, self.max_rows, self.field)
        train, held_out = split_rows(rows)
        settings = options.apply(self.train)
        pad = teacher.config.pad_id
        scored = SequenceBatches(rows, self.batch_tokens, pad=pad, index=held_out[:MAX_HELD_OUT]).all()
        ends = [Sandwich(batch, (space.largest, space.smallest)) for batch in scored]

        def export(trained: TextEncoder, folder: Path) -> None:
            save(trained, space, tokenizer, folder)

        return TrainJob(
            supernet,
            objective,
            SandwichBatches(
                SequenceBatches(rows, self.batch_tokens, pad=pad, seed=settings.seed, index=train),
                space,
                self.between,
                settings.seed,
            ),
            settings,
            export,
            HeldOut(loss_on(objective, ends)),
            facts={"members": len(space.subnets()), "rows": len(rows), "loss": self.loss},
        )


RECIPES = {
    "autodistil-mini": Recipe(),
    "autodistil-tiny": Recipe(space="tiny"),
    "autodistil-small": Recipe(space="small"),
    "autodistil-base": Recipe(space="base"),
    # Half a minute with a teacher of six layers: shows that every part works.
    "autodistil-smoke": Recipe(
        space="nano",
        length=48,
        batch_tokens=512,
        max_rows=1000,
        train=replace(_TRAIN, steps=6, warmup_steps=1),
    ),
}


def named(space: str | Space) -> Space:
    """A space by its name. Raises ConfigError, naming all."""
    if isinstance(space, Space):
        return space
    if space not in SPACES:
        raise ConfigError(f"unknown search space {space!r}; there are: {', '.join(SPACES)}")
    return SPACES[space]


def save(supernet: TextEncoder, space: Space, tokenizer: TextTokenizer, folder: Path) -> None:
    """Write the super-network, its tokenizer and `SPACE_FILE`. Raises OutputError."""
    text_encoder.save(supernet, folder)
    tokenizer.save(folder)
    files.write_text(folder / SPACE_FILE, json.dumps(asdict(space), indent=2) + "\n")


def load(name: str) -> tuple[TextEncoder, Space, TextTokenizer]:
    """What :func:`save` wrote. Raises ConfigError: no super-network is there; CheckpointError."""
    folder = hub.resolve(name)
    if not (folder / SPACE_FILE).is_file():
        raise ConfigError(
            f"{folder}: no {SPACE_FILE}, so this is no super-network; distill --preset autodistil-mini makes one"
        )
    content: Mapping[str, Any] = configs.read_json(folder / SPACE_FILE)
    space = configs.from_dict(Space, content, where=str(folder / SPACE_FILE))
    return text_encoder.load(folder), space, TextTokenizer.from_folder(folder)


def search(
    supernet: str,
    teacher: str,
    texts: Iterable[str],
    output: Path,
    *,
    budget: float | None = None,
    cost: Cost = "parameters",
    loss: LossKind = "kl",
    relation_heads: int = 16,
    length: int = 128,
    batches: int = 8,
) -> list[Candidate]:
    """Search a super-network's folder on texts that it was not trained on, and write the best member to ``output``.

    ``batches`` of about 2,048 tokens are used at most. Raises as `Search` and :func:`load`.
    """
    source, space, tokenizer = load(supernet)
    objective = SandwichDistillation(
        SentenceModel.load(hub.resolve(teacher)).encoder, space, loss=loss, relation_heads=relation_heads
    )
    check_length(length, source)
    if objective.teacher.encoder.config.vocab_size != source.config.vocab_size:
        raise InputError(
            f"{teacher} has another vocabulary than the super-network; give the teacher that it was trained with"
        )
    rows = Sequences.encode(texts, tokenizer, length, max_rows=batches * 2048 // 16)
    source_batches = SequenceBatches(rows, max(2048, length), pad=source.config.pad_id)
    count = min(batches, len(source_batches.all()))
    found = Search(source, objective, [source_batches(step, 0, 1) for step in range(count)], length).run(
        budget=budget, cost=cost
    )
    best = extract(source, shape(found[0].subnet, source.config, objective.head_size))
    SentenceModel(best, tokenizer, SentenceSettings(max_length=length)).save(output)
    return found
