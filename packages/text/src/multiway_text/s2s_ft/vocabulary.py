"""A WordPiece model with the pieces that its texts use: a smaller embedding and a cheaper softmax."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

import torch
from multiway_blocks.text_encoder import TextEncoder
from multiway_core.errors import InputError
from multiway_core.tokenization import TextTokenizer
from tokenizers import Tokenizer


def cut(
    encoder: TextEncoder, tokenizer: TextTokenizer, texts: Iterable[str], size: int
) -> tuple[TextEncoder, TextTokenizer]:
    """The encoder and tokenizer with ``size`` pieces: all special tokens and characters, then the most frequent.

    Of equally frequent pieces those with lower ids stay, which are the more frequent ones in BERT's own texts. Words
    whose piece is gone are written in shorter pieces. The encoder is changed in place. Raises InputError for a
    vocabulary that is not WordPiece, or a size that does not hold the characters.
    """
    if tokenizer.kind != "WordPiece":
        raise InputError(f"only WordPiece vocabularies can be cut, and this one is {tokenizer.kind}")
    content = json.loads(tokenizer.library.to_str())
    vocab: dict[str, int] = content["model"]["vocab"]
    counts: Counter[int] = Counter()
    for ids in tokenizer.encode_batch(list(texts)):
        counts.update(ids)
    special = set(tokenizer.special)
    needed = [i for piece, i in vocab.items() if piece in special or len(piece.removeprefix("##")) == 1]
    if len(needed) > size:
        raise InputError(
            f"a vocabulary of {size} pieces does not hold the {len(needed)} characters and special tokens"
        )
    rest = sorted(set(vocab.values()) - set(needed), key=lambda i: (-counts[i], i))
    kept = sorted(needed + rest[: size - len(needed)])
    new_id = {old: new for new, old in enumerate(kept)}
    content["model"]["vocab"] = {piece: new_id[i] for piece, i in vocab.items() if i in new_id}
    for token in content["added_tokens"]:
        token["id"] = new_id[token["id"]]
    content.update(post_processor=_frame(content["model"]["vocab"]), truncation=None, padding=None)
    rows = encoder.token_embedding.weight.data[torch.tensor(kept)].clone()
    encoder.token_embedding = torch.nn.Embedding.from_pretrained(rows, freeze=False)
    encoder.config = replace(encoder.config, vocab_size=len(kept), pad_id=new_id[encoder.config.pad_id])
    return encoder, TextTokenizer(Tokenizer.from_str(json.dumps(content)))


def _frame(vocab: dict[str, int]) -> dict[str, object]:
    return {"type": "BertProcessing", "sep": ["[SEP]", vocab["[SEP]"]], "cls": ["[CLS]", vocab["[CLS]"]]}
