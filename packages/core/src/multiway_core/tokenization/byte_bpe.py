"""Byte-level BPE: ways to split text before merging, vocabularies made of merge ranks, and new ones from texts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from multiway_core.errors import InputError
from multiway_core.tokenization.tokenizer import TextTokenizer

END = "<|endoftext|>"

# Contractions, words with one sign before them, up to three digits, signs, line ends, spaces: cl100k's rule, which
# LLaMA 3 took over. Without possessive repeats, which mean something else to the library's engine.
_CL100K = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def splitter(name: str) -> pre_tokenizers.PreTokenizer:
    """How text is split before merging: "gpt2", "smollm" (digits stand alone) or "cl100k" (also LLaMA 3).

    Raises KeyError for another name.
    """
    whole = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if name == "gpt2":
        return whole
    if name == "smollm":
        return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), whole])
    if name == "cl100k":
        bytes_only = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(_CL100K), "isolated"), bytes_only])
    raise KeyError(name)


def from_ranks(ranks: Mapping[bytes, int], *, first_id: int = 0) -> Tokenizer:
    """A vocabulary of tiktoken, split as cl100k is: the id of a token is its rank + ``first_id``.

    ``ranks``: byte strings in the order in which they were learnt. Two neighbours may merge whenever their
    concatenation has a rank, lowest rank first, so every split of a token into two tokens is a merge.
    """
    letters = byte_letters()
    spelled = {token: "".join(letters[byte] for byte in token) for token in ranks}
    merges: list[tuple[str, str]] = []
    for token in sorted(ranks, key=ranks.__getitem__):
        halves = ((token[:cut], token[cut:]) for cut in range(1, len(token)))
        splits = [(left, right) for left, right in halves if left in ranks and right in ranks]
        splits.sort(key=lambda split: (ranks[split[0]], ranks[split[1]]))
        merges.extend((spelled[left], spelled[right]) for left, right in splits)
    vocab = {spelled[token]: rank + first_id for token, rank in ranks.items()}
    tokenizer = Tokenizer(models.BPE(vocab, merges, ignore_merges=True))
    tokenizer.pre_tokenizer = splitter("cl100k")
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def bytes_only() -> TextTokenizer:
    """The 256 bytes, id = byte, and 256 for the end of a document."""
    vocab = {letter: value for value, letter in enumerate(byte_letters())}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = splitter("gpt2")
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(END, special=True, normalized=False)])
    return TextTokenizer(tokenizer, end_ids=(256,))


def train(texts: Iterable[str], vocab_size: int, *, special: Sequence[str] = (END,)) -> Tokenizer:
    """A new vocabulary of ``vocab_size`` tokens, ``special`` ones first; any text can be written in it.

    Digits stand alone, as in SmolLM's tokenizer. Raises InputError: the bytes do not fit, or there is no text.
    """
    if vocab_size < 256 + len(special):
        raise InputError(
            f"a byte-level vocabulary has at least {256 + len(special)} tokens, not {vocab_size}"
        )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = splitter("smollm")
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(special),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    characters = 0

    def counted() -> Iterable[str]:
        nonlocal characters
        for text in texts:
            characters += len(text)
            yield text

    tokenizer.train_from_iterator(counted(), trainer)
    if not characters:
        raise InputError("there is no text to train a tokenizer on")
    return tokenizer


def byte_letters() -> list[str]:
    """GPT-2's printable character of every byte: itself where it has one, else the next from U+0100 on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    rest = iter(range(0x100, 0x200))
    return [chr(byte if byte in printable else next(rest)) for byte in range(256)]
