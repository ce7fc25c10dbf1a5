"""The teacher answers prompts: greedily, in one batch after another, its last hidden states kept for the student.

The hidden state behind the last norm times any rows of the embedding gives the teacher's logits, so one vector a token
is all that logit distillation needs, over whatever vocabulary the student has.

Shape suffixes: B prompts, T tokens, E hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from multiway_blocks.text_decoder import CausalLM
from multiway_core.errors import InputError
from multiway_core.generation import StaticKVCache
from tokenizers import Tokenizer
from torch import Tensor

from multiway_text.bitdistill.examples import END, chat, padded

SYSTEM = "You are a helpful assistant. Answer in one short, simple sentence."
"""What the teacher is told and the student is not: brevity is distilled into it."""


@dataclass(frozen=True)
class Answer:
    """What the teacher said.

    Attributes:
        tokens: int64 (T,), without the end token.
        hidden_TE: bfloat16; row t is the state that ``tokens[t]`` was chosen from, and the row behind them, if the
            teacher ended here, the state that the end was chosen from.
    """

    tokens: Tensor
    hidden_TE: Tensor


class Teacher:
    """A chat model with its tokenizer; the system message is read once."""

    def __init__(self, model: CausalLM, tokenizer: Tokenizer, *, system: str = SYSTEM) -> None:
        end = tokenizer.token_to_id(END)
        if end is None or tokenizer.token_to_id("<|im_start|>") is None:
            raise InputError(
                f"the teacher's tokenizer has no {END}: it must be a chat model with ChatML's turns"
            )
        self.model = model
        self.tokenizer = tokenizer
        self.end = end
        self.prefix = self._encode(f"<|im_start|>system\n{system}<|im_end|>\n")

    def _encode(self, text: str) -> list[int]:
        self.tokenizer.encode_special_tokens = False
        return self.tokenizer.encode(text).ids

    @torch.inference_mode()
    def answer(self, prompts: Sequence[str], *, max_tokens: int = 40) -> list[Answer | None]:
        """Greedy answers; one that does not end within ``max_tokens`` is cut behind its last whole sentence.

        None where there is no whole sentence either.
        """
        rows = [self._encode(chat(prompt)) for prompt in prompts]
        tokens_BT, valid_BT = padded(rows, self.end)
        cache = self._cache(len(rows), tokens_BT.shape[1] + max_tokens)
        hidden_BE = self.model.hidden(tokens_BT, valid_BT, cache)[:, -1]
        said: list[list[Tensor]] = [[] for _ in rows]
        states: list[list[Tensor]] = [[] for _ in rows]
        at = torch.arange(len(rows))  # which prompts are still being answered
        for _ in range(max_tokens):
            chosen_B = self.model.logits(hidden_BE).argmax(-1)
            for row, token, state in zip(at.tolist(), chosen_B, hidden_BE, strict=True):
                said[row].append(token)
                states[row].append(state)
            going = chosen_B.ne(self.end).nonzero()[:, 0]
            if not len(going):
                break
            if len(going) < len(at):
                cache.select(going)
                at, chosen_B = at[going], chosen_B[going]
            hidden_BE = self.model.hidden(chosen_B[:, None], None, cache)[:, -1]
        return [
            self._whole(torch.stack(tokens), torch.stack(hidden))
            for tokens, hidden in zip(said, states, strict=True)
        ]

    def _whole(self, tokens_T: Tensor, hidden_TE: Tensor) -> Answer | None:
        """What was said, up to its end or that of the last sentence."""
        hidden_TE = hidden_TE.to(torch.bfloat16)
        if tokens_T[-1] == self.end:
            return Answer(tokens_T[:-1], hidden_TE) if len(tokens_T) > 1 else None
        words = [self.tokenizer.decode([token]).strip() for token in tokens_T.tolist()]
        ends = [at for at, word in enumerate(words) if word in {".", "!", "?"}]
        return Answer(tokens_T[: ends[-1] + 1], hidden_TE[: ends[-1] + 1]) if ends else None

    def _cache(self, batch_size: int, length: int) -> StaticKVCache:
        """A cache with room for ``length`` tokens behind the system message."""
        one = self.model.new_cache(1, len(self.prefix))
        self.model.hidden(torch.tensor([self.prefix]), None, one)
        cache = self.model.new_cache(batch_size, len(self.prefix) + length)
        cache.copy_from(one, torch.zeros(batch_size, dtype=torch.long))
        return cache
