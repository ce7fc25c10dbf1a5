"""A tokenizer as GGUF metadata: what :mod:`multiway_text.gguf_tokenizer` reads."""

from __future__ import annotations

import json
from typing import Any

from multiway_core.errors import InputError

from multiway_text.tokenizer import TextTokenizer

_NORMAL, _CONTROL = 1, 3


def metadata(words: TextTokenizer) -> dict[str, Any]:
    """Tokens, merges, types, ends and chat format of a byte-level BPE tokenizer. Raises InputError for another kind."""
    content = json.loads(words.tokenizer.to_str())
    if content["model"]["type"] != "BPE" or content["model"].get("byte_fallback"):
        raise InputError(f"GGUF is written with byte-level BPE only, not {content['model']['type']}")
    by_id = sorted(words.tokenizer.get_vocab(with_added_tokens=True).items(), key=lambda item: item[1])
    if [number for _, number in by_id] != list(range(len(by_id))):
        raise InputError("GGUF needs a tokenizer whose ids have no holes")
    merges = [m if isinstance(m, str) else " ".join(m) for m in content["model"]["merges"]]
    found: dict[str, Any] = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": _splitter(content["pre_tokenizer"]),
        "tokenizer.ggml.tokens": [token for token, _ in by_id],
        "tokenizer.ggml.token_type": [_CONTROL if token in words.control else _NORMAL for token, _ in by_id],
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.add_bos_token": words.begin_id is not None,
    }
    if words.begin_id is not None:
        found["tokenizer.ggml.bos_token_id"] = words.begin_id
    if words.end_ids:
        found["tokenizer.ggml.eos_token_id"] = words.end_ids[0]
    if words.template is not None:
        found["tokenizer.chat_template"] = words.template.source
    return found


def _splitter(content: Any) -> str:
    """llama.cpp's name for how text is cut. Raises InputError for a way it has no name for here."""
    parts = content["pretokenizers"] if content and content["type"] == "Sequence" else [content]
    kinds = [part["type"] for part in parts if part]
    if kinds == ["ByteLevel"] and parts[0].get("use_regex", True):
        return "gpt-2"
    if kinds == ["Digits", "ByteLevel"] and parts[0]["individual_digits"]:
        return "smollm"
    if kinds == ["Split", "ByteLevel"] and r"\p{N}{1,3}" in json.dumps(parts[0]["pattern"]).replace(
        "\\\\", "\\"
    ):
        return "llama-bpe"
    raise InputError(f"GGUF has no name here for how this tokenizer cuts text ({', '.join(kinds) or 'not'})")
