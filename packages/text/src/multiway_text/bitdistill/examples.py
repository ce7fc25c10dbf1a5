"""What the student learns from: prompts with answers as token ids, and the teacher's states where it gave the answer.

Shape suffixes: N all answer tokens, B rows, T tokens of a row, E hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from tokenizers import Tokenizer
from torch import Tensor

from multiway_text.length_groups import LengthGroups

NO_TARGET = -100
END = "<|im_end|>"


@dataclass(frozen=True)
class Example:
    """One prompt with its answer, in the student's ids.

    Attributes:
        prompt: ids of the chat so far, up to where the answer begins.
        answer: ids, with the end token.
        taught: which tokens of the answer have a state of the teacher, rising.
        states_TE: bfloat16, the teacher's state before each of those.
    """

    prompt: list[int]
    answer: list[int]
    taught: list[int]
    states_TE: Tensor


@dataclass(frozen=True)
class Batch:
    """Rows padded on the right.

    Attributes:
        tokens_BT: int64.
        targets_BT: int64, the token that follows each, or -100 where nothing is learnt.
        states_NE: the teacher's states of those targets that have one, in row order.
        taught_N: bool over the targets in row order, whether there is a state.
        strength: how far the weights are on their way to ternary (``student.set_strength``).
    """

    tokens_BT: Tensor
    targets_BT: Tensor
    states_NE: Tensor
    taught_N: Tensor
    strength: float = 1.0


def chat(prompt: str) -> str:
    """The user's message and the beginning of the answer, in the teacher's (ChatML) form."""
    return f"<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n"


def padded(rows: Sequence[Sequence[int]], pad: int) -> tuple[Tensor, Tensor]:
    """Prompts side by side, padded on the left: ids int64 (B, T), and bool (B, T), False at padding."""
    longest = max(map(len, rows))
    tokens_BT = torch.tensor([[pad] * (longest - len(row)) + list(row) for row in rows])
    valid_BT = torch.tensor([[False] * (longest - len(row)) + [True] * len(row) for row in rows])
    return tokens_BT, valid_BT


def example(
    tokenizer: Tokenizer, prompt: str, answer: str, said: Sequence[str] = (), states_TE: Tensor | None = None
) -> Example:
    """An example in the student's tokens.

    ``said`` are the teacher's tokens as they are spelt, with the end token if it ended, and ``states`` (T, E) the state
    before each. A state is kept where the student has the same token at the same place.
    """
    end = tokenizer.token_to_id(END)
    assert end is not None  # the teacher's chat has it, and no reduction drops it
    own = [*tokenizer.encode(answer).ids, end]
    spelt = [tokenizer.id_to_token(token) or "" for token in own]
    theirs = dict(zip(_starts(said), enumerate(said), strict=True))
    taught, rows = [], []
    for index, (start, token) in enumerate(zip(_starts(spelt), spelt, strict=True)):
        row, same = theirs.get(start, (0, ""))
        if token == same:
            taught.append(index)
            rows.append(row)
    states = torch.zeros(0, 0) if states_TE is None else states_TE[rows]
    return Example(tokenizer.encode(chat(prompt)).ids, own, taught, states)


def _starts(tokens: Sequence[str]) -> list[int]:
    """Where each token begins; a byte-level token has a character for every byte."""
    return [0, *accumulate(map(len, tokens))][: len(tokens)]


def batch(examples: Sequence[Example], strength: float = 1.0) -> Batch:
    """Examples side by side."""
    length = max(len(e.prompt) + len(e.answer) - 1 for e in examples)
    tokens_BT = torch.zeros(len(examples), length, dtype=torch.long)
    targets_BT = torch.full((len(examples), length), NO_TARGET)
    states, taught = [], []
    for row, e in enumerate(examples):
        ids = torch.tensor([*e.prompt, *e.answer])
        tokens_BT[row, : len(ids) - 1] = ids[:-1]
        targets_BT[row, len(e.prompt) - 1 : len(ids) - 1] = ids[len(e.prompt) :]
        has_state = torch.zeros(len(e.answer), dtype=torch.bool)
        has_state[e.taught] = True
        taught.append(has_state)
        if e.taught:
            states.append(e.states_TE)
    return Batch(
        tokens_BT, targets_BT, torch.cat(states) if states else torch.zeros(0, 0), torch.cat(taught), strength
    )


class Batches:
    """Batches of about equally long examples, ``tokens`` of them with padding, in an order that the seed decides.

    A pure function of the step, as the trainer asks for. Weights become ternary over the first ``ramp`` steps.
    """

    def __init__(self, examples: Sequence[Example], tokens: int, *, ramp: int = 0, seed: int = 0) -> None:
        self.examples, self.ramp = examples, ramp
        self.groups = LengthGroups([len(e.prompt) + len(e.answer) for e in examples], tokens, seed=seed)

    def __call__(self, step: int, shard: int, num_shards: int) -> Batch:
        """The batch of one shard of one step."""
        strength = min(1.0, (step + 1) / self.ramp) if self.ramp else 1.0
        return batch([self.examples[i] for i in self.groups(step, shard, num_shards)], strength)
