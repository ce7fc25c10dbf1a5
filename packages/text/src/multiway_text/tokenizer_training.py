"""Tokenizers made here: bytes as they are, and byte-level BPE trained on texts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from multiway_core.errors import InputError
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from multiway_text.chat_template import ChatTemplate
from multiway_text.tokenizer import TextTokenizer

END = "<|endoftext|>"
TURN_BEGINS, TURN_ENDS = "<|im_start|>", "<|im_end|>"
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] | trim }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""The plainest chat format in wide use."""

SMALLEST_BPE = 256 + 1


def byte_tokenizer() -> TextTokenizer:
    """The 256 bytes, id = byte, and 256 for the end of a document."""
    characters = pre_tokenizers.ByteLevel.alphabet()
    vocabulary = {_byte_characters()[value]: value for value in range(256)}
    assert sorted(vocabulary) == sorted(characters)
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(END, special=True, normalized=False)])
    return TextTokenizer(tokenizer, end_ids=(256,))


def train_bpe(texts: Iterable[str], vocab_size: int, *, chat: bool = False) -> TextTokenizer:
    """Byte-level BPE of ``vocab_size`` tokens, control tokens included; any text can be written in it.

    Digits stand alone, as in SmolLM's tokenizer. ``chat`` adds the two control tokens of turns and a chat format.
    Raises InputError for a vocabulary that does not hold the bytes, or no text.
    """
    control = [END, *([TURN_BEGINS, TURN_ENDS] if chat else [])]
    if vocab_size < 256 + len(control):
        raise InputError(
            f"a byte-level vocabulary has at least {256 + len(control)} tokens, not {vocab_size}"
        )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=control,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    counted = _Counted(texts)
    tokenizer.train_from_iterator(counted, trainer)
    if not counted.characters:
        raise InputError("there is no text to train a tokenizer on")
    ends: Sequence[str] = [TURN_ENDS, END] if chat else [END]
    return TextTokenizer(
        tokenizer,
        end_ids=tuple(number for name in ends if (number := tokenizer.token_to_id(name)) is not None),
        template=ChatTemplate(CHATML, end=ends[0]) if chat else None,
    )


class _Counted:
    """Passes texts on and counts their characters."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.texts, self.characters = texts, 0

    def __iter__(self):
        for text in self.texts:
            self.characters += len(text)
            yield text


def _byte_characters() -> list[str]:
    """GPT-2's printable character of every byte (its ``bytes_to_unicode``): others are shifted behind the 256th."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    shifted = {value: 256 + place for place, value in enumerate(b for b in range(256) if b not in plain)}
    return [chr(shifted.get(value, value)) for value in range(256)]
