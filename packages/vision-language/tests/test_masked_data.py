"""Masked data modelling: VL-BEiT's shared attention against tied torchscale layers, masks, losses, VQ-KD codes."""

from __future__ import annotations

import dataclasses
import importlib
import random
from pathlib import Path

import pytest
import torch
from multiway_core import checkpoint
from multiway_core.errors import InputError
from multiway_core.tensor_names import RuleTable
from multiway_vision_language.beit3.checkpoint import BACKBONE, read_config
from multiway_vision_language.dide.config import TINY
from multiway_vision_language.image_tokenizer.vq_kd import VQKD, VQKDConfig, codebook_usage, vq_kd_loss
from multiway_vision_language.multiway.masking import mask_blocks, mask_caption, mask_words
from multiway_vision_language.multiway.model import MultiwayTransformer
from multiway_vision_language.multiway.pretraining import (
    MaskedData,
    MaskedDataModel,
    MaskedImages,
    MaskedTexts,
    masked_data_loss,
)
from multiway_vision_language.vl_beit.config import SMALL

released = importlib.import_module("packages.vision-language.tests.released_beit3")


@pytest.mark.peer
def test_shared_attention_is_torchscales_with_both_copies_tied() -> None:
    """All but the feed-forward networks and their norms are equal in A and B of the peer, and shared in ours."""
    with released.torchscale() as classes:
        torch.manual_seed(0)
        peer = released.trunk(classes)
        owned = (".ffn.", ".final_layer_norm.", "embed_positions", "encoder.layer_norm")
        state = peer.state_dict()
        for name in state:
            if (".B." in name and not any(part in name for part in owned)) or "encoder.layer_norm.B" in name:
                state[name] = state[name.replace(".B.", ".A.")]
        peer.load_state_dict(state)
        tensors = {f"beit3.{name}": tensor for name, tensor in peer.state_dict().items()}
        config = read_config(tensors, Path("x.pth"), num_heads=released.HEADS)
        config = dataclasses.replace(config, partition="feedforward", norm_eps=released.EPS)
        own = MultiwayTransformer(config).eval()
        names = {**own.state_dict()}
        table = RuleTable(BACKBONE)
        ours = {}
        for name, tensor in tensors.items():
            target = table.to_ours(name).removeprefix("backbone.")
            shared = target.replace(".experts.image.", ".").replace(".experts.text.", ".")
            ours[target if target in names else shared] = tensor
        checkpoint.load(own, Path("x.pth"), tensors=ours)
        pixels, tokens = torch.randn(2, 3, 12, 12), torch.randint(0, released.WORDS, (2, 6))
        with torch.no_grad():
            for text, image in ((tokens, None), (None, pixels), (tokens, pixels)):
                expected = peer(text, image)["encoder_out"]
                torch.testing.assert_close(own(text, image).hidden_BSE, expected, atol=2e-5, rtol=1e-4)


@torch.no_grad()
def test_pairs_take_their_own_expert_in_the_last_layers() -> None:
    config = dataclasses.replace(
        SMALL, num_layers=3, hidden_size=48, num_heads=4, inner_size=64, image_size=24
    )
    model = MultiwayTransformer(config).eval()
    tokens, pixels = torch.randint(5, 90, (2, 4)), torch.randn(2, 3, 24, 24)
    before = [model(t, i).hidden_BSE for t, i in ((tokens, None), (None, pixels), (tokens, pixels))]
    assert not hasattr(model.stack.layers[0].feedforward.experts, "pair")
    for layer in model.stack.layers[1:]:
        layer.feedforward.experts["pair"].down.bias.add_(torch.randn(48))
    after = [model(t, i).hidden_BSE for t, i in ((tokens, None), (None, pixels), (tokens, pixels))]
    assert torch.equal(before[0], after[0])
    assert torch.equal(before[1], after[1])
    assert not torch.allclose(before[2], after[2])


@pytest.mark.parametrize(("grid", "share"), [(14, 0.4), (14, 75 / 196), (8, 0.4), (4, 0.5)])
def test_blocks_hide_exactly_their_share(grid: int, share: float) -> None:
    rng = random.Random(0)
    masks = [mask_blocks(grid, share, rng) for _ in range(30)]
    assert {int(mask.sum()) for mask in masks} == {round(share * grid * grid)}
    neighbours = sum(
        float((m.view(grid, grid)[:, 1:] == m.view(grid, grid)[:, :-1]).float().mean()) for m in masks
    )
    assert neighbours / 30 > 0.65  # single patches by chance: 0.52
    with pytest.raises(InputError, match="hides 0 of 16"):
        mask_blocks(4, 0.01, rng)


def test_words_are_hidden_by_the_published_shares() -> None:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(5, 1000, (400, 22), generator=generator)
    tokens[:, 0], tokens[:, -1] = 2, 3
    valid = torch.ones_like(tokens, dtype=torch.bool)
    masked = mask_words(tokens, valid, 0.15, 4, 1000, (0, 1, 2, 3, 4), generator)
    assert set(masked.hidden_BT.sum(1).tolist()) == {3}
    assert not masked.hidden_BT[:, [0, -1]].any()
    replaced = masked.tokens_BT[masked.hidden_BT]
    assert float((replaced == 4).float().mean()) == pytest.approx(0.8, abs=0.04)
    assert float((replaced == tokens[masked.hidden_BT]).float().mean()) == pytest.approx(0.1, abs=0.03)
    assert torch.equal(masked.tokens_BT[~masked.hidden_BT], tokens[~masked.hidden_BT])
    valid[:, 12:] = False
    masked = mask_caption(tokens, valid, 0.6, 4, 1000, (0, 1, 2, 3, 4), generator)
    assert set(masked.hidden_BT.sum(1).tolist()) == {7}  # floor(12 * 0.6 + 0.5)
    assert not masked.hidden_BT[:, 0].any()
    assert not masked.hidden_BT[:, 12:].any()


def masked_data(tasks: str, *, both: bool = False) -> MaskedData:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(5, 90, (6, 7), generator=generator)
    valid = torch.ones_like(tokens, dtype=torch.bool)
    texts = MaskedTexts(tokens, valid, mask_words(tokens, valid, 0.5, 4, 90, (0, 1, 2, 3, 4), generator))
    pixels = torch.randn(6, 3, 24, 24, generator=generator)
    hidden = torch.stack([mask_blocks(2, 0.5, random.Random(i)) for i in range(6)])
    images = MaskedImages(pixels, hidden, torch.randint(0, 11, (6, 4), generator=generator))
    return MaskedData(
        images if "i" in tasks else None,
        texts if "t" in tasks else None,
        (images, texts) if "p" in tasks else None,
        both_at_once=both,
    )


def test_one_stage_learns_all_three_tasks() -> None:
    torch.manual_seed(0)
    config = dataclasses.replace(
        SMALL, vocab_size=90, num_layers=2, hidden_size=48, num_heads=4, inner_size=64, image_size=24
    )
    model = MaskedDataModel(config, 11)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    history = []
    for _ in range(60):
        loss = masked_data_loss(model, masked_data("itp"))
        history.append({name: float(value) for name, value in loss.metrics.items()})
        loss.total.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert set(history[0]) == {"image", "text", "pair_text", "pair_image"}
    assert all(history[-1][name] < 0.5 * history[0][name] for name in history[0])
    assert set(masked_data_loss(model, masked_data("t")).metrics) == {"text"}
    assert set(masked_data_loss(model, masked_data("p", both=True)).metrics) == {"pair_text", "pair_image"}
    with pytest.raises(InputError, match="pictures, texts or pairs"):
        masked_data_loss(model, MaskedData())


def test_codes_rebuild_the_teacher_and_the_codebook_is_used() -> None:
    torch.manual_seed(0)
    encoder = dataclasses.replace(TINY, image_size=24, patch_size=12, num_layers=1)
    model = VQKD(VQKDConfig(encoder, teacher_width=8, num_codes=16, code_size=6, decoder_layers=1))
    generator = torch.Generator().manual_seed(1)
    kinds = torch.randint(0, 5, (48, 2, 2), generator=generator)  # five kinds of patches
    colors = torch.randn(5, 3, generator=generator)
    pixels = colors[kinds].permute(0, 3, 1, 2).repeat_interleave(12, 2).repeat_interleave(12, 3)
    features = torch.randn(5, 8, generator=generator)[kinds].flatten(1, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    first = None
    for _ in range(80):
        loss = vq_kd_loss(model, pixels, features)
        first = first or float(loss.metrics["cosine"])
        (loss.total / loss.weight).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert float(loss.metrics["cosine"]) > 0.8 > first
    model.eval()
    codes = model.codes(pixels)
    assert codes.shape == (48, 4)
    used, perplexity = codebook_usage(codes, 16)
    assert used >= 4 / 16
    assert perplexity > 3
    assert codebook_usage(torch.zeros(9, dtype=torch.long), 16) == (1 / 16, pytest.approx(1.0, abs=1e-4))
    again = model.codes(pixels)
    assert torch.equal(codes, again)  # evaluation does not move the codebook
