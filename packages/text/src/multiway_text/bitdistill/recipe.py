"""BitDistill from a chat model's GGUF file to a small ternary one: answers, student, training, files.

Every stage writes into the work folder and is skipped where its result lies there already, so a run that was stopped
goes on when it is started again.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from multiway_core import checkpoint as tensor_files
from multiway_core import files, hub
from multiway_core.errors import InputError
from multiway_core.training import HeldOut, TrainConfig, TrainJob, TrainOptions, loss_on
from tokenizers import Tokenizer
from torch import Tensor

from multiway_text import gguf, gguf_tokenizer
from multiway_text.bitdistill import prompts, vocabulary
from multiway_text.bitdistill.answers import Teacher
from multiway_text.bitdistill.examples import END, Batches, Example, batch, chat, example
from multiway_text.bitdistill.objective import Distillation
from multiway_text.bitdistill.prompts import Prompt
from multiway_text.bitdistill.student import from_teacher
from multiway_text.decoders.bitnet import checkpoint as bitnet_checkpoint
from multiway_text.decoders.bitnet.model import BitNet
from multiway_text.decoders.llama import checkpoint as llama_checkpoint
from multiway_text.decoders.llama.config import LlamaConfig
from multiway_text.decoders.llama.model import Llama
from multiway_text.documents import TextFiles

BUNDLED_MODEL = "bundled:lm-tiny"
GROUP = 512
"""Prompts whose answers make one file."""
BATCH = 64
"""Prompts answered side by side: on one thread of an AMD EPYC (Genoa) 64 take 0.15 s each, 128 take 0.29 s and
256 take 0.32 s (first batches); it may be that every number of rows left is a product that oneDNN has to compile."""
SHARD_BYTES = 15_500_000
"""Repositories take small files gladly."""
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""ChatML, as the teacher has it, without a system message of its own."""


HELD_OUT, MAX_HELD_OUT = 20, 64
"""One answer in so many is held out, and at most so many are scored."""
_TRAIN = TrainConfig(
    steps=1500,
    learning_rate=8e-4,
    warmup_steps=40,
    schedule="linear",
    final_learning_rate_ratio=0.02,
    weight_decay=0.0,
    clip_norm=1.0,
    precision="bf16",
    ema_decay=0.99,
    learning_rate_ratios={"embedding": 0.5},
)


@dataclass(frozen=True)
class Recipe:
    """The numbers of a distillation; ``bundled:lm-tiny`` has these, but fewer steps (its card).

    Attributes:
        teacher: a LLaMA-like chat model (ChatML): a GGUF file or a hub id.
        prompts: a file of texts that the teacher is asked; None: the simple English ones of
            :mod:`multiway_text.bitdistill.prompts`.
        field: where the text is in rows of JSONL and Parquet.
        layers: which of the teacher's layers the student begins with.
        vocab_size: of the student.
        max_answer: tokens; longer answers are cut behind a sentence.
        drawn: how many of the simple prompts are put to the teacher.
        words: how many prompts about words of its vocabulary are put to it besides.
        known_share: of the examples of an epoch, how many bring their answer (capitals, opposites, sums, talk).
        ramp: share of the steps over which the weights become ternary.
        frozen_layers: so many of the student's first layers, and the embedding, stay as they are.
    """

    teacher: str = ""
    prompts: Path | None = None
    field: str = "text"
    layers: tuple[int, ...] = (0, 1, 2, 20, 21, 22, 23, 24, 25, 28, 29)
    vocab_size: int = 8192
    max_answer: int = 40
    drawn: int = 16_384
    words: int = 0
    known_share: float = 0.15
    batch_tokens: int = 3072
    ramp: float = 0.2
    frozen_layers: int = 0
    logits_weight: float = 1.0
    train: TrainConfig = _TRAIN

    def build(self, options: TrainOptions) -> TrainJob:
        """The job of a distillation; every stage before it is kept in ``options.output`` and done once.

        ``options.init_from``: an earlier student of this teacher, which learns on; None makes a new one. One of the
        teacher's answers in 20 is held out. Raises InputError where there is nothing to learn from.
        """
        if options.data:
            raise InputError("a distillation takes --prompts, not --data")
        asked = None
        if self.prompts is not None:
            asked = [Prompt(document.text) for document in TextFiles([self.prompts], field=self.field)]
        model, tokenizer = self.load_teacher()
        if asked is None:
            asked = prompts.draw()[0][: self.drawn] + prompts.of_vocabulary(tokenizer)[: self.words]
            known = list(prompts.known())
        else:
            known = []
        folder = options.output / "answers"
        teach(Teacher(model, tokenizer), asked, folder, max_answer=self.max_answer)
        answered = answers_in(folder)
        torch.manual_seed(options.seed)
        if options.init_from is None:
            student, small, kept_V = make_student(model, tokenizer, answered, known, self)
        else:
            student, small, kept_V = read_student(hub.resolve(options.init_from), tokenizer)
        taught = make_examples(tokenizer, small, answered)
        held_out = taught[HELD_OUT - 1 :: HELD_OUT]
        taught = [one for number, one in enumerate(taught) if number % HELD_OUT != HELD_OUT - 1]
        given = [example(small, p.text, p.answer or "") for p in known for _ in range(p.times)]
        return job(
            student,
            model.get_parameter("embedding.weight")[kept_V].clone(),
            mixed(taught, given, self.known_share) if given else taught,
            self,
            options.apply(self.train),
            small=small,
            held_out=held_out[:MAX_HELD_OUT],
        )

    def load_teacher(self) -> tuple[Llama, Tokenizer]:
        """The teacher in bfloat16, and its tokenizer. Raises InputError: none is named; ModelNotFoundError."""
        if not self.teacher:
            raise InputError(
                "a distillation needs a teacher: a LLaMA-like chat model, a GGUF file or a hub id"
            )
        return load_teacher(hub.resolve(self.teacher))


@dataclass(frozen=True)
class Smoke(Recipe):
    """Half a minute that shows that every part works: without a teacher, a tiny one of random weights says nonsense."""

    def load_teacher(self) -> tuple[Llama, Tokenizer]:
        """As :meth:`Recipe.load_teacher`; the tiny one has the bundled model's tokenizer."""
        if self.teacher:
            return super().load_teacher()
        tokenizer = Tokenizer.from_file(str(hub.resolve(BUNDLED_MODEL) / "tokenizer.json"))
        config = LlamaConfig(
            hidden_size=64,
            num_layers=2,
            num_heads=4,
            num_kv_heads=2,
            head_dim=16,
            inner_size=128,
            vocab_size=tokenizer.get_vocab_size(),
            max_positions=256,
        )
        model = Llama(config).to(torch.bfloat16).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim == 2:
                    torch.nn.init.normal_(parameter, std=0.15)
            # So that it comes to an end within a sentence's length.
            model.get_parameter("embedding.weight")[tokenizer.token_to_id(END)] *= 4
        return model, tokenizer


RECIPES = {
    "bitdistill": Recipe(),
    # What a written student learns on with (`init_from`): some prompts again, new words, and the facts as often as they
    # need; the first layers stay, for the time it saves.
    "bitdistill-further": Recipe(
        drawn=2560,
        words=768,
        known_share=0.45,
        ramp=0.0,  # the weights are ternary already
        frozen_layers=5,
        train=replace(_TRAIN, steps=185, learning_rate=6e-4, warmup_steps=10, ema_decay=0.98),
    ),
    "bitdistill-smoke": Smoke(
        layers=(0, 1),
        vocab_size=2048,
        drawn=64,
        batch_tokens=512,
        train=replace(_TRAIN, steps=6, warmup_steps=1),
    ),
}


def load_teacher(path: Path) -> tuple[Llama, Tokenizer]:
    """A chat model in a GGUF file, in bfloat16, and its tokenizer."""
    return llama_checkpoint.load(path, dtype=torch.bfloat16), gguf_tokenizer.read_vocabulary(gguf.read(path))


def teach(
    teacher: Teacher,
    asked: Sequence[Prompt],
    folder: Path,
    *,
    max_answer: int,
    share: tuple[int, int] = (0, 1),
) -> None:
    """Write the teacher's answers to ``asked``, a file a group of prompts; ``share`` (i, n) does every n-th group."""
    folder.mkdir(parents=True, exist_ok=True)
    for start in range(0, len(asked), GROUP):
        path = folder / f"{start:06d}.safetensors"
        if path.exists() or (start // GROUP) % share[1] != share[0]:
            continue
        group = sorted(asked[start : start + GROUP], key=lambda prompt: len(prompt.text))
        answered = [
            (prompt.text, answer)
            for first in range(0, len(group), BATCH)
            for prompt, answer in zip(
                group[first : first + BATCH],
                teacher.answer([p.text for p in group[first : first + BATCH]], max_tokens=max_answer),
                strict=True,
            )
            if answer is not None
        ]
        tensors = {
            "tokens": torch.cat([answer.tokens for _, answer in answered]),
            "states": torch.cat([answer.hidden_TE for _, answer in answered]),
            "lengths": torch.tensor([[len(a.tokens), len(a.hidden_TE)] for _, a in answered]),
        }
        files.write_text(path.with_suffix(".json"), json.dumps([text for text, _ in answered]))
        tensor_files.save(tensors, folder, filename=path.name)


def answers_in(folder: Path) -> list[tuple[str, Tensor, Tensor]]:
    """(prompt, tokens, states) of every answer in a folder."""
    found = []
    for path in sorted(folder.glob("*.safetensors")):
        tensors = tensor_files.read(path)
        tokens, states = tensors["lengths"].t().tolist()
        texts = json.loads(path.with_suffix(".json").read_text())
        found += list(
            zip(texts, tensors["tokens"].split(tokens), tensors["states"].split(states), strict=True)
        )
    if not found:
        raise InputError(f"{folder}: no answers of a teacher are there")
    return found


def make_student(
    teacher: Llama,
    tokenizer: Tokenizer,
    answered: Sequence[tuple[str, Tensor, Tensor]],
    known: Sequence[Prompt],
    recipe: Recipe,
) -> tuple[BitNet, Tokenizer, Tensor]:
    """(student, its tokenizer, the teacher's id of each of its tokens)."""
    said = [tokenizer.decode(tokens.tolist()) for _, tokens, _ in answered]
    texts = [chat(text) + answer for (text, _, _), answer in zip(answered, said, strict=True)]
    texts += [chat(prompt.text) + (prompt.answer or "") for prompt in known]
    small, kept_V = vocabulary.reduced(tokenizer, vocabulary.count(tokenizer, texts), recipe.vocab_size)
    sample = torch.tensor(tokenizer.encode("\n".join(texts[:40])).ids[:1024])[None]
    return from_teacher(teacher, recipe.layers, kept_V, sample), small, kept_V


def read_student(folder: Path, tokenizer: Tokenizer) -> tuple[BitNet, Tokenizer, Tensor]:
    """As :func:`make_student`, of what :func:`save` wrote; its ternary weights get master weights again."""
    small = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return bitnet_checkpoint.load(folder, packed=False), small, vocabulary.ids_in(tokenizer, small)


def make_examples(
    tokenizer: Tokenizer, small: Tokenizer, answered: Iterable[tuple[str, Tensor, Tensor]]
) -> list[Example]:
    """The teacher's answers as examples in the student's tokens."""
    found = []
    for text, tokens, states_TE in answered:
        said = [tokenizer.id_to_token(token) or "" for token in tokens.tolist()]
        if len(states_TE) > len(said):
            said.append(END)
        found.append(example(small, text, tokenizer.decode(tokens.tolist()), said, states_TE))
    return found


def mixed(taught: Sequence[Example], known: Sequence[Example], share: float) -> list[Example]:
    """All taught and all known examples; those there are too few of repeated, so that ``share`` of all are known."""
    count = max(len(taught) / (1 - share), len(known) / share)
    return [*_filled(taught, round(count * (1 - share))), *_filled(known, round(count * share))]


def _filled(examples: Sequence[Example], count: int) -> list[Example]:
    repeats, rest = divmod(count, len(examples))
    return [*list(examples) * repeats, *random.Random(0).sample(list(examples), rest)]


def job(
    student: BitNet,
    embedding_VE: Tensor,
    examples: Sequence[Example],
    recipe: Recipe,
    config: TrainConfig,
    *,
    small: Tokenizer,
    held_out: Sequence[Example] = (),
) -> TrainJob:
    """The training of a student; what is frozen stays as it is. ``small`` is its tokenizer."""
    batches = Batches(examples, recipe.batch_tokens, ramp=round(recipe.ramp * config.steps), seed=config.seed)
    if recipe.frozen_layers:
        student.embedding.requires_grad_(False)
        student.decoder.layers[: recipe.frozen_layers].requires_grad_(False)
    objective = Distillation(embedding_VE, logits_weight=recipe.logits_weight)
    score = HeldOut(loss_on(objective, [batch(held_out)], "nll")) if held_out else None

    def export(trained: BitNet, folder: Path) -> None:
        save(trained, small, folder)

    return TrainJob(student, objective, batches, config, export, score)


def save(student: BitNet, tokenizer: Tokenizer, folder: Path) -> None:
    """Write the student with packed weights, an int8 embedding, its tokenizer and how it is talked to."""
    bitnet_checkpoint.save(
        student, folder, dtype=torch.bfloat16, int8_embedding=True, max_shard_bytes=SHARD_BYTES
    )
    files.write_text(folder / "tokenizer.json", tokenizer.to_str())
    ends = [tokenizer.token_to_id(token) for token in ("<|im_end|>", "<|endoftext|>")]
    # A small model falls into loops; a slight penalty leads it out of them.
    generation = {
        "eos_token_id": ends,
        "pad_token_id": ends[1],
        "do_sample": False,
        "repetition_penalty": 1.1,
    }
    files.write_text(folder / "generation_config.json", json.dumps(generation, indent=2) + "\n")
    chat_form = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "chat_template": CHAT_TEMPLATE,
    }
    files.write_text(folder / "tokenizer_config.json", json.dumps(chat_form, indent=2) + "\n")
