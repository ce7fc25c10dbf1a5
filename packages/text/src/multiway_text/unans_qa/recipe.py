"""Training a generator of unanswerable questions on SQuAD 2 files or the released pairs.

training.run(RECIPES["pair2seq"], TrainOptions(output, data=("train-v2.0.json",)))

One context in 20 is held out. Its loss picks the weights that are kept.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from multiway_blocks import text_encoder
from multiway_core import hub
from multiway_core.errors import InputError
from multiway_core.tokenization import TextTokenizer
from multiway_core.training import HeldOut, TrainConfig, TrainJob, TrainOptions, loss_on
from torch import Tensor

from multiway_text.data.vocabulary import train_word_piece
from multiway_text.length_groups import LengthGroups
from multiway_text.s2s_ft.vocabulary import cut
from multiway_text.unans_qa.config import UnansQaConfig
from multiway_text.unans_qa.model import QuestionGenerator
from multiway_text.unans_qa.objective import twin_loss
from multiway_text.unans_qa.pairs import Answerable, Batch, Pair, Rows, collate, encode, read_pairs
from multiway_text.unans_qa.pipeline import UnansQaPipeline, save, sized

HELD_OUT, MAX_HELD_OUT = 20, 256
_PUBLISHED = UnansQaConfig()
_TRAIN = TrainConfig(
    steps=8000, learning_rate=1e-3, schedule="constant", betas=(0.9, 0.999), weight_decay=0.0, clip_norm=5.0
)


@dataclass(frozen=True)
class Recipe:
    """A generator and how it is trained.

    Attributes:
        config: of the network; vocabulary and special tokens come from the tokenizer.
        vectors: a model with a WordPiece vocabulary whose embeddings begin those of the pieces (where the paper takes
            GloVe's), cut to the most frequent pieces; "" learns a vocabulary and begins at random.
        max_vocabulary: pieces.
        batch_tokens: pieces of a batch's contexts and questions, with padding.
    """

    config: UnansQaConfig = _PUBLISHED
    vectors: str = "bundled:minilm-l6"
    max_vocabulary: int = 30_000
    batch_tokens: int = 32 * 200
    train: TrainConfig = _TRAIN

    def build(self, options: TrainOptions) -> TrainJob:
        """The job of a run on ``options.data`` (without any: made-up sentences, which show that every part works).

        Raises InputError, DataError, CheckpointError, ModelNotFoundError.
        """
        pairs = read_pairs(options.data) if options.data else made_up_pairs()
        taught, held_out = divided(pairs)
        if options.init_from is None:
            model, tokenizer = self._begin(taught)
        else:
            pipeline = UnansQaPipeline.from_pretrained(str(options.init_from))
            model, tokenizer = pipeline.model.train(), pipeline.tokenizer
        rows = [_encoded(of, tokenizer, model.config) for of in (taught, held_out)]
        if not rows[0]:
            raise InputError(
                f"no pair is left to learn from: questions have over {model.config.max_question} pieces"
            )
        config = options.apply(self.train)
        lengths = [sum(len(ids) for ids, _ in row.sources) for row in rows[0]]
        groups = LengthGroups(lengths, self.batch_tokens, seed=config.seed)

        def batches(step: int, shard: int, num_shards: int) -> Batch:
            return collate([rows[0][i] for i in groups(step, shard, num_shards)], model.config)

        def export(module: Any, folder: Path) -> None:
            save(module, tokenizer, folder)

        scored = [collate(rows[1][i : i + 32], model.config) for i in range(0, len(rows[1]), 32)]
        score = HeldOut(loss_on(twin_loss, scored), best="loss") if scored else None
        facts = {"arch": model.config.arch, "pairs": len(rows[0]), "held_out_pairs": len(rows[1])}
        return TrainJob(model, twin_loss, batches, config, export, score, facts=facts)

    def _begin(self, pairs: Sequence[Pair]) -> tuple[QuestionGenerator, TextTokenizer]:
        texts = [text for p in pairs for text in (p.answerable.context, p.answerable.question, p.twin)]
        vectors_VE: Tensor | None = None
        if self.vectors:
            folder = hub.resolve(self.vectors)
            encoder, tokenizer = cut(
                text_encoder.load(folder), TextTokenizer.from_folder(folder), texts, self.max_vocabulary
            )
            vectors_VE = encoder.token_embedding.weight.detach().float()
        else:
            tokenizer = train_word_piece(texts, self.max_vocabulary)
        model = QuestionGenerator(sized(self.config, tokenizer))
        if vectors_VE is not None:
            model.start_embedding(vectors_VE)
        return model, tokenizer


def divided(pairs: Sequence[Pair], every: int = HELD_OUT) -> tuple[list[Pair], list[Pair]]:
    """Pairs to learn from, and those of every 20th context, which are held out (at most `MAX_HELD_OUT`)."""
    contexts = list(dict.fromkeys(pair.answerable.context for pair in pairs))
    random.Random(0).shuffle(contexts)
    chosen = set(contexts[every - 1 :: every])
    held_out = [pair for pair in pairs if pair.answerable.context in chosen]
    return [pair for pair in pairs if pair.answerable.context not in chosen], held_out[:MAX_HELD_OUT]


def _encoded(pairs: Sequence[Pair], tokenizer: TextTokenizer, config: UnansQaConfig) -> list[Rows]:
    """Pairs as pieces, without those whose questions are too long."""
    fitting = [
        pair
        for pair in pairs
        if 0 < len(tokenizer.encode(pair.answerable.question)) <= config.max_question
        and len(tokenizer.encode(pair.twin)) < config.max_target
    ]
    return encode([p.answerable for p in fitting], tokenizer, config, [p.twin for p in fitting])


def made_up_pairs() -> list[Pair]:
    """Questions on sentences of a fixed form, and a twin with the opposite verb."""
    towns = ("Oslo", "Lima", "Turin", "Kyoto", "Delhi", "Quito", "Perth", "Accra", "Basel", "Porto")
    verbs = (("built", "destroyed"), ("opened", "closed"), ("sold", "bought"), ("raised", "lowered"))
    found = []
    for number, town in enumerate(towns * 8):
        verb, opposite = verbs[number % len(verbs)]
        year = str(1801 + 7 * number % 199)
        context = f"The bridge of {town} was {verb} in {year} by the people of the town."
        start = context.index(year)
        question = f"When was the bridge of {town} {verb}?"
        found.append(Pair(Answerable(question, context, start, start + 4), question.replace(verb, opposite)))
    return found


_SMALL = Recipe(
    UnansQaConfig(embedding_size=128, hidden_size=100, max_context=64),
    max_vocabulary=4096,
    batch_tokens=48 * 80,
    train=replace(_TRAIN, steps=240, learning_rate=2e-3, warmup_steps=30, schedule="cosine"),
)
RECIPES: dict[str, Any] = {
    # The published sizes; 20,000 pairs of SQuAD 2 and a GPU.
    "pair2seq": Recipe(),
    "seq2seq": Recipe(replace(_PUBLISHED, arch="seq2seq")),
    # For a few thousand pairs and one core.
    "pair2seq-small": _SMALL,
    "seq2seq-small": replace(_SMALL, config=replace(_SMALL.config, arch="seq2seq")),
    # Half a minute on one core and no data: shows that every part works.
    "unanswerable-smoke": Recipe(
        UnansQaConfig(embedding_size=32, hidden_size=24, max_context=40, dropout=0.0),
        vectors="",
        max_vocabulary=300,
        batch_tokens=16 * 40,
        train=replace(_SMALL.train, steps=160, learning_rate=1e-2, warmup_steps=4),
    ),
}
