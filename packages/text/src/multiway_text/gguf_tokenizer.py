"""The tokenizer inside a GGUF file, read and written: byte-level BPE, as GPT-2, LLaMA 3 and SmolLM use it."""

from __future__ import annotations

import json
from typing import Any

from multiway_core.errors import CheckpointError, InputError
from multiway_core.tokenization import TextTokenizer, byte_bpe
from multiway_core.tokenization.folder import END_TOKENS
from tokenizers import AddedToken, Tokenizer, decoders, models

from multiway_text.gguf import GGUFFile

_NORMAL, _CONTROL = 1, 3  # GGUF's token types; text never turns into control tokens
_SPLITTERS = {
    **dict.fromkeys(("default", "gpt-2", "gpt2"), "gpt2"),
    "smollm": "smollm",
    **dict.fromkeys(("llama-bpe", "llama3", "llama-v3"), "cl100k"),
}
"""llama.cpp's names for how text is split before BPE, and ours."""
_SAMPLING = {
    "general.sampling.temp": "temperature",
    "general.sampling.top_k": "top_k",
    "general.sampling.top_p": "top_p",
    "general.sampling.penalty_repeat": "repetition_penalty",
}
"""llama.cpp's names for how the authors sample, and those of ``generation_config.json``."""
_AUTHORS_SAMPLE = {"smollm2": {"temperature": 0.2, "top_p": 0.9}}
"""The same from model cards, by ``general.basename``, for files that do not say it."""


def read(file: GGUFFile) -> TextTokenizer:
    """The tokenizer, with begin and end tokens and the chat format. Raises CheckpointError for another kind."""
    library = read_vocabulary(file)
    tokens = file.get("tokenizer.ggml.tokens", list)
    begin_id = file.get("tokenizer.ggml.bos_token_id", int, -1)
    end_id = file.get("tokenizer.ggml.eos_token_id", int, -1)
    begin, end = (tokens[index] if 0 <= index < len(tokens) else "" for index in (begin_id, end_id))
    ends = [end_id if end else None, *map(library.token_to_id, END_TOKENS)]
    template = file.metadata.get("tokenizer.chat_template")
    return TextTokenizer(
        library,
        begin_id=begin_id if begin and file.get("tokenizer.ggml.add_bos_token", bool, False) else None,
        end_ids=tuple(dict.fromkeys(index for index in ends if index is not None)),
        begin_token=begin,
        end_token=end,
        chat_template=template if isinstance(template, str) and template else None,
        generation=_generation(file),
    )


def _generation(file: GGUFFile) -> dict[str, Any]:
    """How the authors sample, as ``generation_config.json`` would say it."""
    told = {name: file.metadata[key] for key, name in _SAMPLING.items() if key in file.metadata}
    name = file.metadata.get("general.basename")
    return told or dict(_AUTHORS_SAMPLE.get(str(name).lower(), {}))


def read_vocabulary(file: GGUFFile) -> Tokenizer:
    """The library's object: tokens and merges; control tokens are known by name.

    Raises CheckpointError for another kind of tokenizer, or a damaged one.
    """
    kind = file.get("tokenizer.ggml.model", str)
    if kind != "gpt2":
        raise CheckpointError(f"{file.path}: its tokenizer is of the kind {kind!r}; only 'gpt2' is read")
    tokens = file.get("tokenizer.ggml.tokens", list)
    pairs = [str(merge).partition(" ") for merge in file.get("tokenizer.ggml.merges", list)]
    merges = [(first, second) for first, _, second in pairs]
    types = file.get("tokenizer.ggml.token_type", list, [])
    try:
        tokenizer = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=merges))
    except Exception as error:  # the library raises nothing narrower
        raise CheckpointError(f"{file.path}: its tokenizer is damaged: {error}") from error
    name = file.get("tokenizer.ggml.pre", str, "default")
    if name not in _SPLITTERS:
        raise CheckpointError(f"{file.path}: its tokenizer cuts text in the unknown way {name!r}")
    tokenizer.pre_tokenizer = byte_bpe.splitter(_SPLITTERS[name])
    tokenizer.decoder = decoders.ByteLevel()
    if types and len(types) != len(tokens):
        raise CheckpointError(f"{file.path}: {len(tokens)} tokens and {len(types)} token types")
    control = [token for token, kind in zip(tokens, types, strict=False) if kind == _CONTROL]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in control])
    tokenizer.encode_special_tokens = True
    return tokenizer


def metadata(tokenizer: TextTokenizer) -> dict[str, Any]:
    """Tokens, merges, types, ends and chat format of a byte-level BPE tokenizer. Raises InputError for another kind."""
    library = tokenizer.library
    content = json.loads(library.to_str())
    if content["model"]["type"] != "BPE" or content["model"].get("byte_fallback"):
        raise InputError(f"GGUF is written with byte-level BPE only, not {content['model']['type']}")
    by_id = sorted(library.get_vocab(with_added_tokens=True).items(), key=lambda item: item[1])
    if [number for _, number in by_id] != list(range(len(by_id))):
        raise InputError("GGUF needs a tokenizer whose ids have no holes")
    merges = [m if isinstance(m, str) else " ".join(m) for m in content["model"]["merges"]]
    found: dict[str, Any] = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": _splitter_name(content["pre_tokenizer"]),
        "tokenizer.ggml.tokens": [token for token, _ in by_id],
        "tokenizer.ggml.token_type": [
            _CONTROL if token in tokenizer.special else _NORMAL for token, _ in by_id
        ],
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.add_bos_token": tokenizer.begin_id is not None,
    }
    if tokenizer.begin_id is not None:
        found["tokenizer.ggml.bos_token_id"] = tokenizer.begin_id
    if tokenizer.end_ids:
        found["tokenizer.ggml.eos_token_id"] = tokenizer.end_ids[0]
    if tokenizer.chat_template is not None:
        found["tokenizer.chat_template"] = tokenizer.chat_template
    return found


def _splitter_name(content: Any) -> str:
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
