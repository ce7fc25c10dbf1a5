"""Fine-tuning to answer questions about pages, as KOSMOS-2.5-CHAT was (arXiv 2309.11419, section 2.4).

Resampler and decoder learn, the vision encoder stays; the loss is on the answer alone. The data are a JSONL file:

    {"image": "receipts/1.png", "question": "What is the total?", "answer": "13.70"}

An image is a path beside the file or an absolute one, a picture or a PDF (``"page": 2`` for another than the first).

Shape suffixes: B batch, T suffix tokens, A last tokens of the suffix, E hidden size, V vocabulary.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from multiway_core import files, hub
from multiway_core.data_files import get, read_text, shown
from multiway_core.errors import DataError, InputError
from multiway_core.tokenization import TextTokenizer
from multiway_core.training import HeldOut, Loss, TrainConfig, TrainJob, TrainOptions, loss_on
from torch import nn

from multiway_document.kosmos2_5 import checkpoint
from multiway_document.kosmos2_5.model import Kosmos25, Patches
from multiway_document.kosmos2_5.objective import IGNORED, freeze_vision, token_loss
from multiway_document.kosmos2_5.processor import Picture, Processor
from multiway_document.kosmos2_5.tokenizer import load_tokenizer
from multiway_document.pages import open_pages

PAPER_WARMUP_STEPS = 100
PAPER_LEARNING_RATE = 2e-4
HELD_OUT, MAX_HELD_OUT = 20, 50
"""One turn in so many is held out, and so many of these are scored."""
_KEPT_PICTURES = 64  # several questions about a page mostly stand together
_CARRIED = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "preprocessor_config.json",
            "processor_config.json", "generation_config.json")  # fmt: skip


@dataclass(frozen=True)
class Turn:
    """One question about one page, and its answer. ``where`` is the place in the data file, for errors."""

    image: Path
    page: int
    question: str
    answer: str
    where: str


def read_turns(path: Path) -> list[Turn]:
    """The rows of a JSONL file. Raises :class:`DataError` naming file, line and what would be right."""
    turns = []
    for number, row in enumerate(read_text(path).split("\n"), start=1):
        if not row.strip():
            continue
        where = f"{path}:{number}"
        try:
            content = json.loads(row)
        except (json.JSONDecodeError, RecursionError) as error:
            problem = getattr(error, "msg", "nested too deeply")
            raise DataError(
                f'{where}: not JSON ({problem}); expected {{"image": ..., "question": ..., "answer": ...}}'
            ) from error
        image, question, answer = (get(content, key, str, where) for key in ("image", "question", "answer"))
        for key, text in (("question", question), ("answer", answer)):
            if not text.strip():
                raise DataError(f"{where}.{key}: empty")
        page = content.get("page", 1)
        if not isinstance(page, int) or isinstance(page, bool) or page < 1:
            raise DataError(f"{where}.page: expected a page number from 1, got {shown(page)}")
        file = path.parent / image
        if not file.is_file():
            raise DataError(f"{where}.image: no such file: {file}")
        turns.append(Turn(file, page, question.strip(), answer.strip(), where))
    if not turns:
        raise DataError(f"{path}: no rows; expected lines with image, question and answer")
    return turns


@dataclass(frozen=True)
class ChatBatch:
    """Pages with the prompts and answers about them."""

    patches: Patches
    suffix: torch.Tensor  # (B, T) int64, padded on the left
    targets: torch.Tensor  # (B, A) int64, of the last A tokens of the suffix, IGNORED before the answer


class ChatBatches:
    """Batches of turns, a pure function of (step, shard): every epoch is a permutation drawn from (seed, epoch)."""

    def __init__(
        self, turns: Sequence[Turn], processor: Processor, *, max_positions: int, num_queries: int, batch_size: int,
        seed: int,
    ) -> None:  # fmt: skip
        self.turns, self.processor, self.batch_size, self.seed = turns, processor, batch_size, seed
        eos = processor.tokens.eos
        encode = processor.tokenizer.encode
        self.prompts = [processor.chat_prompt(turn.question) for turn in turns]
        # Behind "ASSISTANT:" comes a space, which belongs to the first word of the answer.
        self.answers = [[*encode(" " + turn.answer), eos] for turn in turns]
        room = max_positions - (num_queries + 3)
        for turn, prompt, answer in zip(turns, self.prompts, self.answers, strict=True):
            if len(prompt) + len(answer) > room:
                raise DataError(
                    f"{turn.where}: question and answer have {len(prompt) + len(answer)} tokens; the model has room "
                    f"for {room} behind an image"
                )
        self._picture = functools.lru_cache(_KEPT_PICTURES)(self._read_picture)

    def __call__(self, step: int, shard: int, num_shards: int) -> ChatBatch:
        first = (step * num_shards + shard) * self.batch_size
        chosen = [self._turn(index) for index in range(first, first + self.batch_size)]
        pictures = [
            self._picture(self.turns[i].image, self.turns[i].page, self.turns[i].where) for i in chosen
        ]
        suffix = self.processor.left_padded([self.prompts[i] + self.answers[i] for i in chosen])
        answers = [self.answers[i] for i in chosen]
        longest = max(map(len, answers))
        targets = torch.tensor([[IGNORED] * (longest - len(answer)) + answer for answer in answers])
        return ChatBatch(self.processor.batch(pictures), suffix, targets)

    def _turn(self, index: int) -> int:
        epoch, place = divmod(index, len(self.turns))
        return int(self._order(epoch)[place])

    def _order(self, epoch: int) -> np.ndarray:
        return np.random.default_rng([self.seed, epoch]).permutation(len(self.turns))

    def _read_picture(self, path: Path, page: int, where: str) -> Picture:
        try:
            for source in open_pages(path, pages=str(page)):
                return self.processor.picture(source.image.convert("RGB"))
        except InputError as error:
            raise DataError(f"{where}.image: {error}") from error
        raise DataError(f"{where}.page: {path} has no page {page}")


def chat_objective(model: nn.Module, batch: ChatBatch) -> Loss:
    """Cross-entropy of the answers' tokens, given picture and question."""
    assert isinstance(model, Kosmos25)
    with torch.no_grad():
        features = model.encode(batch.patches)
    tokens_BT, places_BT, segments_BT = model.prompt(batch.suffix)
    hidden_BTE = model.text.hidden(
        tokens_BT,
        image_embeddings_BQE=model.resampler(features, batch.patches.multiplicity_BN),
        image_slots_BT=places_BT,
        segments_BT=segments_BT,
    )
    # Logits are made where an answer is predicted, and nowhere else: the vocabulary is large.
    logits_BAV = model.text.logits(hidden_BTE[:, -batch.targets.shape[1] - 1 : -1])
    total = token_loss(logits_BAV, batch.targets, model.config.tokens, neighbour_std=0.0)
    return Loss(total, weight=int((batch.targets != IGNORED).sum()), samples=len(batch.suffix))


@dataclass(frozen=True)
class Recipe:
    """Fine-tuning the model ``options.init_from`` (a folder or a hub id) on the rows of a JSONL file.

    AdamW and its numbers are the paper's (section 3.2), where the batch is 1,024 turns: raise the accumulation towards
    that, or lower the learning rate. One turn in 20 is held out where there are 20. The model is written in the hub's
    layout, which `transformers` loads as well.

    Attributes:
        epochs: times the data is seen; ``options.steps`` overrides it.
        learning_rate: the peak.
        batch_size: turns of a batch.
    """

    epochs: float = 3.0
    learning_rate: float = PAPER_LEARNING_RATE
    batch_size: int = 8

    def build(self, options: TrainOptions) -> TrainJob:
        """The job of a run.

        Raises :class:`DataError` for a bad row, :class:`InputError` for missing options, a model without a decoder, or
        data that changed since the run began.
        """
        if len(options.data) != 1:
            raise InputError("--preset chat needs --data FILE.jsonl")
        if options.init_from is None:
            raise InputError("--preset chat needs --init-from MODEL (a folder or a hub id)")
        if self.epochs <= 0:
            raise InputError(f"epochs must be above 0, got {self.epochs:g}")
        data = Path(options.data[0])
        turns = read_turns(data)
        folder = hub.resolve(options.init_from)
        if not checkpoint.has_decoder(folder):
            raise InputError(
                f"{options.init_from} has no decoder to fine-tune; start from KOSMOS-2.5 or a model like it"
            )
        model = checkpoint.load(folder, dtype=torch.float32)
        tokenizer = load_tokenizer(folder, model.config.tokens)
        _require_same_data(options.output / "data.sha256", data)

        def batches(of: Sequence[Turn], size: int) -> ChatBatches:
            return ChatBatches(
                of,
                Processor(model.config, tokenizer),
                max_positions=model.config.text.max_positions,
                num_queries=model.config.num_queries,
                batch_size=size,
                seed=options.seed,
            )

        kept = turns[HELD_OUT - 1 :: HELD_OUT]
        taught = [turn for index, turn in enumerate(turns) if index % HELD_OUT != HELD_OUT - 1]
        held_out = [batches(kept, 1)(step, 0, 1) for step in range(min(len(kept), MAX_HELD_OUT))]
        steps = max(1, round(self.epochs * len(taught) / (self.batch_size * options.num_shards())))
        config = TrainConfig(
            steps=steps,
            learning_rate=self.learning_rate,
            warmup_steps=min(PAPER_WARMUP_STEPS, steps // 10),
            schedule="linear",
            betas=(0.9, 0.98),
            weight_decay=0.01,
            precision="bf16" if torch.device(options.device).type == "cuda" else "fp32",
            log_every=max(1, min(20, steps // 10)),
        )
        freeze_vision(model)
        return TrainJob(
            model,
            chat_objective,
            batches(taught, self.batch_size),
            options.apply(config),
            functools.partial(_export, source=folder, tokenizer=tokenizer),
            HeldOut(loss_on(chat_objective, held_out)) if held_out else None,
            facts={"turns": len(taught), "held_out_turns": len(kept)},
        )


def _require_same_data(record: Path, data: Path) -> None:
    digest = hashlib.sha256(data.read_bytes()).hexdigest()
    if record.is_file() and record.read_text(encoding="utf-8").strip() != digest:
        raise InputError(f"{data} is not what the run in {record.parent} began with; give another --output")
    files.write_text(record, digest + "\n")


def _export(model: Kosmos25, folder: Path, *, source: Path, tokenizer: TextTokenizer) -> None:
    checkpoint.save(model, folder)
    for name in _CARRIED:
        if (source / name).is_file():
            files.write_bytes(folder / name, (source / name).read_bytes())
    if not (folder / "tokenizer.json").is_file():  # the original layout keeps its vocabulary elsewhere
        tokenizer.engine.save(folder)
