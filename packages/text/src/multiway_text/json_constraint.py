"""Answers that are JSON of a schema: at every step only tokens that such a text can go on with.

The grammar and the masks are those of the library llguidance, which compiles a schema in some milliseconds.

Shape legend: B rows, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from multiway_core.errors import ConfigError, InputError
from multiway_core.generation import StatefulConstraint
from multiway_core.tokenization import TextTokenizer
from torch import Tensor

LONGEST_SCHEMA = 100_000  # characters
# One blank at most, where JSON allows any number: a model that does not know what to write would write blanks for ever.
_OPTIONS: Any = {"whitespace_pattern": "[ ]?"}


class JsonConstraint(StatefulConstraint):
    """Only JSON that fits a schema, and the end behind it.

    An answer that is cut by its length is the beginning of such a text.

    Args:
        tokenizer: of the `tokenizers` library, with a token that ends an answer.
        schema: a JSON schema as JSON text; ``{"type": "object"}`` for any object.

    Raises InputError (a schema that is none or is not supported, a tokenizer of another kind), ConfigError (llguidance
    is not installed).
    """

    name = "json"

    def __init__(self, tokenizer: TextTokenizer, schema: str) -> None:
        try:
            from llguidance import LLMatcher
        except ModuleNotFoundError as error:
            raise ConfigError(
                "JSON answers need llguidance: python3 -m pip install 'multiway-text[guided]'"
            ) from error
        if len(schema) > LONGEST_SCHEMA:
            raise InputError(f"the JSON schema has {len(schema)} characters; {LONGEST_SCHEMA} are the most")
        if not tokenizer.end_ids:
            raise InputError("JSON answers need a tokenizer with a token that ends an answer")
        library = _library(tokenizer)
        try:
            grammar = LLMatcher.grammar_from_json_schema(schema, overrides=_OPTIONS)
            faulty = LLMatcher.validate_grammar(grammar, library)
        except ValueError as error:
            faulty = str(error)
        if faulty:
            raise InputError(f"the JSON schema cannot be used: {faulty.splitlines()[0]}")
        self._first = LLMatcher(library, grammar)
        self._end_ids = frozenset(tokenizer.end_ids)
        self._matchers: list[Any] = []

    def start(self, batch_size: int, device: torch.device) -> None:
        self._matchers = [self._first.deep_copy() for _ in range(batch_size)]

    def __call__(self, tokens_BT: Tensor, logits_BV: Tensor) -> Tensor:
        masks = [np.frombuffer(matcher.compute_bitmask(), dtype=np.uint8) for matcher in self._matchers]
        allowed_BV = np.unpackbits(np.stack(masks), axis=1, bitorder="little")
        allowed = torch.from_numpy(allowed_BV[:, : logits_BV.shape[1]]).bool().to(logits_BV.device)
        if allowed.shape[1] < logits_BV.shape[1]:  # rows that pad the output matrix
            allowed = torch.nn.functional.pad(allowed, (0, logits_BV.shape[1] - allowed.shape[1]))
        return logits_BV.masked_fill(~allowed, float("-inf"))

    def observe(self, tokens_B: Tensor) -> Iterable[int]:
        for matcher, token in zip(self._matchers, tokens_B.tolist(), strict=True):
            if token >= 0 and token not in self._end_ids:
                matcher.consume_token(token)
        return ()

    def select(self, rows: Tensor) -> None:
        self._matchers = [self._matchers[row] for row in rows.tolist()]  # rows are dropped, never repeated


@lru_cache(maxsize=4)
def _library(tokenizer: TextTokenizer) -> Any:
    from llguidance import LLTokenizer

    return LLTokenizer(
        tokenizer.library.to_str(), n_vocab=tokenizer.vocab_size, eos_token=list(tokenizer.end_ids)
    )
