"""How well a student answers: known facts, and what a judge thinks of its words.

The judge is the teacher with its system message: an answer that it finds likely is fluent and to the point for it. Its
own greedy answers are the floor, and the student's answers to other prompts the control.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from multiway_blocks.text_decoder import CausalLM
from multiway_core.generation import GenerationConfig, generate
from tokenizers import Tokenizer

from multiway_text.bitdistill.examples import END, chat, padded
from multiway_text.bitdistill.prompts import Prompt


@torch.inference_mode()
def answers(
    model: CausalLM,
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    *,
    max_tokens: int = 48,
    batch_size: int = 64,
) -> list[str]:
    """Greedy answers."""
    tokenizer.encode_special_tokens = False
    end = tokenizer.token_to_id(END)
    assert end is not None
    found: list[str] = []
    config = GenerationConfig(max_new_tokens=max_tokens, eos_token_ids=(end,), pad_token_id=end)
    for start in range(0, len(prompts), batch_size):
        rows = [tokenizer.encode(chat(prompt)).ids for prompt in prompts[start : start + batch_size]]
        tokens_BT, valid_BT = padded(rows, end)
        cache = model.new_cache(len(rows), tokens_BT.shape[1] + max_tokens)
        first = model.prefill(tokens_BT, cache, valid_BT)
        for tokens in generate(model.decode, first, cache, config).tokens:
            found.append(tokenizer.decode(tokens.tolist(), skip_special_tokens=True).strip())
    return found


def known_accuracy(said: Sequence[str], prompts: Sequence[Prompt]) -> float:
    """Share of answers that are the known one, but for case, spaces and the last full stop."""
    same = [
        _plain(answer) == _plain(prompt.answer or "") for answer, prompt in zip(said, prompts, strict=True)
    ]
    return sum(same) / len(same)


def _plain(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip().rstrip(".").casefold()


@dataclass(frozen=True)
class Judgement:
    """Of a set of answers.

    Attributes:
        nll: the judge's mean negative log-likelihood of a token, in nats.
        unfinished: share of answers that do not end in a sentence's end.
        repeats: share of answers that say the same three words again.
    """

    nll: float
    unfinished: float
    repeats: float


@torch.inference_mode()
def judge(
    teacher: CausalLM, tokenizer: Tokenizer, prompts: Sequence[str], said: Sequence[str], system: str
) -> Judgement:
    """What the teacher thinks of answers to prompts."""
    tokenizer.encode_special_tokens = False
    total, count = 0.0, 0
    for prompt, answer in zip(prompts, said, strict=True):
        before = tokenizer.encode(f"<|im_start|>system\n{system}<|im_end|>\n{chat(prompt)}").ids
        own = tokenizer.encode(answer or ".").ids
        hidden = teacher.hidden(torch.tensor([[*before, *own]]))[0, len(before) - 1 : -1]
        total += float(
            torch.nn.functional.cross_entropy(
                teacher.logits(hidden).float(), torch.tensor(own), reduction="sum"
            )
        )
        count += len(own)
    return Judgement(
        nll=total / count,
        unfinished=sum(not answer.endswith((".", "!", "?", '"')) for answer in said) / len(said),
        repeats=sum(_repeats(answer) for answer in said) / len(said),
    )


def _repeats(answer: str, length: int = 3) -> bool:
    words = answer.casefold().split()
    parts = [tuple(words[i : i + length]) for i in range(len(words) - length + 1)]
    return len(parts) != len(set(parts))
