"""A smaller vocabulary for the student: some of the teacher's tokens, and what they are merged from.

A byte-level BPE tokenizer restricted to a set of tokens that is closed under its merges is a BPE tokenizer again: text
whose tokens were all kept is cut as before, so the teacher's states fit token for token, and any other text is cut into
more pieces.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable

import torch
from multiway_core.errors import InputError
from tokenizers import Tokenizer
from torch import Tensor


def reduced(
    tokenizer: Tokenizer, counts: Counter[int], size: int, *, often: int = 3
) -> tuple[Tokenizer, Tensor]:
    """(the smaller tokenizer, int64 (size,) the old id of every new one).

    Kept are the special tokens, the bytes, what ``counts`` has at least ``often`` times, and then the earliest merges,
    which are the most frequent ones of the teacher's own text. Raises ValueError if ``size`` cannot hold the first two.
    """
    state = json.loads(tokenizer.to_str())
    vocab: dict[str, int] = state["model"]["vocab"]
    merges = [tuple(m) if isinstance(m, list) else tuple(m.split(" ", 1)) for m in state["model"]["merges"]]
    made_of: dict[str, tuple[str, str]] = {}
    for first, second in merges:
        made_of.setdefault(first + second, (first, second))
    special = [token["content"] for token in state["added_tokens"]]
    kept = {token for token in vocab if token not in made_of or token in special}
    if len(kept) > size:
        raise ValueError(f"{size} tokens cannot hold the {len(kept)} bytes and special tokens")
    names = {number: token for token, number in vocab.items()}
    wanted = [names[number] for number, count in counts.most_common() if count >= often]
    for token in (*wanted, *made_of):
        parts = _parts(token, made_of, kept)
        if len(kept) + len(parts) <= size:
            kept |= parts
    old = sorted(vocab[token] for token in kept)
    state["model"]["vocab"] = {names[number]: index for index, number in enumerate(old)}
    state["model"]["merges"] = [
        [first, second] for first, second in merges if {first, second, first + second} <= kept
    ]
    for token in state["added_tokens"]:
        token["id"] = state["model"]["vocab"][token["content"]]
    return Tokenizer.from_str(json.dumps(state)), torch.tensor(old)


def _parts(token: str, made_of: dict[str, tuple[str, str]], kept: set[str]) -> set[str]:
    """The token and all that it is merged from, as far as it is not kept yet."""
    found: set[str] = set()
    todo = [token]
    while todo:
        part = todo.pop()
        if part not in kept and part not in found:
            found.add(part)
            todo += made_of.get(part, ())
    return found


def ids_in(tokenizer: Tokenizer, small: Tokenizer) -> Tensor:
    """The tokenizer's id of each token of a smaller one that was :func:`reduced` from it, int64 (V,).

    Raises InputError where it lacks one.
    """
    found = [tokenizer.token_to_id(small.id_to_token(index) or "") for index in range(small.get_vocab_size())]
    if None in found:
        raise InputError("the student's tokens are not of this teacher: give the one it was distilled from")
    return torch.tensor(found)


def count(tokenizer: Tokenizer, texts: Iterable[str]) -> Counter[int]:
    """How often each token is used."""
    found: Counter[int] = Counter()
    for encoding in tokenizer.encode_batch_fast(list(texts)):
        found.update(encoding.ids)
    return found
