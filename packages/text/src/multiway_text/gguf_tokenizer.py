"""The tokenizer inside a GGUF file: byte-level BPE, as GPT-2, LLaMA 3 and SmolLM use it."""

from __future__ import annotations

from multiway_core.errors import CheckpointError
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

from multiway_text.gguf import GGUFFile

_CONTROL = 3  # GGUF's type of a token that text never turns into

_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)


def read(file: GGUFFile) -> Tokenizer:
    """Text <-> ids. Control tokens are known by name; what spells one in a text stays text.

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
    tokenizer.pre_tokenizer = _splitter(file.get("tokenizer.ggml.pre", str, "default"), file)
    tokenizer.decoder = decoders.ByteLevel()
    if types and len(types) != len(tokens):
        raise CheckpointError(f"{file.path}: {len(tokens)} tokens and {len(types)} token types")
    control = [token for token, kind in zip(tokens, types, strict=False) if kind == _CONTROL]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in control])
    tokenizer.encode_special_tokens = True
    return tokenizer


def _splitter(name: str, file: GGUFFile) -> pre_tokenizers.PreTokenizer:
    """How text is cut before BPE, by llama.cpp's name for it."""
    if name in ("default", "gpt-2", "gpt2"):
        return pre_tokenizers.ByteLevel(add_prefix_space=False)
    if name == "smollm":
        return pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
    if name in ("llama-bpe", "llama3", "llama-v3"):
        return pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(_LLAMA3), "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
    raise CheckpointError(f"{file.path}: its tokenizer cuts text in the unknown way {name!r}")
