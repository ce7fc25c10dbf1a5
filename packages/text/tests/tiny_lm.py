"""A tiny language model with random weights and a tokenizer trained on a few sentences, saved as a folder."""

from __future__ import annotations

from pathlib import Path

import torch
from multiway_core.tokenization import TextTokenizer
from multiway_text.chat_template import train_bpe
from multiway_text.decoders.bitnet import checkpoint as bitnet_checkpoint
from multiway_text.decoders.bitnet.config import BitNetConfig
from multiway_text.decoders.bitnet.model import BitNet
from multiway_text.decoders.llama import checkpoint as llama_checkpoint
from multiway_text.decoders.llama.config import LlamaConfig
from multiway_text.decoders.llama.model import Llama

SENTENCES = [
    "The quick brown fox jumps over the lazy dog.",
    "A river runs through the town, and 12 boats lie at the bank.",
    "Naïve café: žluťoučký kůň, 日本語, and a 😀.",
] * 3


def tokenizer(vocab_size: int = 300, *, chat: bool = True) -> TextTokenizer:
    """Byte-level BPE, with a chat format."""
    return train_bpe(SENTENCES, vocab_size, chat=chat)


def save_llama(folder: Path, *, chat: bool = True, max_positions: int = 256, std: float = 0.3) -> Path:
    """A folder in the hub's layout."""
    tiny_tokenizer = tokenizer(chat=chat)
    torch.manual_seed(0)
    model = Llama(
        LlamaConfig(
            hidden_size=32,
            num_layers=2,
            num_heads=4,
            num_kv_heads=2,
            head_dim=8,
            inner_size=48,
            vocab_size=tiny_tokenizer.vocab_size,
            max_positions=max_positions,
        )
    )
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=std)
    llama_checkpoint.save(model, folder)
    tiny_tokenizer.save(folder)
    return folder


def bitnet(vocab_size: int, *, hidden_size: int = 128, packed: bool = False) -> BitNet:
    """Random master weights."""
    torch.manual_seed(0)
    config = BitNetConfig(
        hidden_size=hidden_size,
        num_layers=2,
        num_heads=4,
        num_kv_heads=2,
        inner_size=256,
        vocab_size=vocab_size,
        max_positions=128,
    )
    model = BitNet(config, packed=packed)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def save_bitnet(folder: Path) -> Path:
    """A folder of packed ternary weights, as the bundled model is one."""
    tiny_tokenizer = tokenizer()
    bitnet_checkpoint.save(bitnet(tiny_tokenizer.vocab_size), folder)
    tiny_tokenizer.save(folder)
    return folder
