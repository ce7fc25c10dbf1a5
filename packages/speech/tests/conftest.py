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
