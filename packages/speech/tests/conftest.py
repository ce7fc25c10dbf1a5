"""Fixtures of the speech tests."""

from __future__ import annotations

import re

import pytest
import torch


@pytest.fixture(scope="session")
def perturb():
    """``perturb(model)``: every tensor of a peer's model moved, so that none can hide at one or at zero."""

    def perturber(model, scale: float = 0.1, branch_scale: float = 0.5):
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for name, tensor in model.named_parameters():
                noise = torch.randn(tensor.shape, generator=generator)
                if name.endswith("gamma"):  # at its start of 1e-6 a block would be invisible
                    tensor.copy_(branch_scale + 0.1 * noise)
                else:
                    tensor.add_(noise * scale)
        return model.eval()

    return perturber


@pytest.fixture(scope="session")
def to_original():
    """``to_original(name)``: the name in Microsoft's files of a tensor of the peer's tokenizer or model."""

    def tokenizer(name: str) -> str:
        part, rest = name.split(".", 1) if name.startswith(("encoder.", "decoder.")) else ("encoder", name)
        layers = "downsample_layers" if part == "encoder" else "upsample_layers"
        rest = rest.replace("mixer.conv.", "mixer.conv.conv.conv.")
        rest = re.sub(r"^stem\.stage\.", "stages.0.", rest)
        rest = re.sub(r"^stem\.conv\.conv\.", f"{layers}.0.0.conv.conv.", rest)
        rest = re.sub(r"^head\.conv\.", "head.conv.conv.", rest)
        rest = re.sub(r"^conv_layers\.(\d+)\.stage\.", lambda m: f"stages.{int(m[1]) + 1}.", rest)
        rest = re.sub(
            r"^conv_layers\.(\d+)\.conv\.conv\.", lambda m: f"{layers}.{int(m[1]) + 1}.0.conv.conv.", rest
        )
        rest = re.sub(
            r"^conv_layers\.(\d+)\.convtr\.convtr\.",
            lambda m: f"{layers}.{int(m[1]) + 1}.0.convtr.convtr.",
            rest,
        )
        return f"{part}.{rest}"

    return tokenizer


SPECIAL_TOKENS = {
    "eos": "<|endoftext|>",
    "turn_start": "<|im_start|>",
    "turn_end": "<|im_end|>",
    "start": "<|vision_start|>",
    "end": "<|vision_end|>",
    "frame": "<|vision_pad|>",
}


@pytest.fixture(scope="session")
def tiny_tokenizer():
    """A byte-level BPE with the special tokens that the models need, trained on two sentences."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(
        ["Speaker 0: the voices of the speakers", "Speaker 1: transcribe the audio"], trainer
    )
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL_TOKENS.values()])
    return tokenizer


@pytest.fixture(scope="session")
def special_ids(tiny_tokenizer):
    """Ids of the special tokens, by their roles."""
    return {role: tiny_tokenizer.token_to_id(token) for role, token in SPECIAL_TOKENS.items()}
