"""DiDE: the teacher against `ViltModel`, the losses against float64 loops, the same patches, and that it learns."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from multiway_core.errors import CheckpointError, InputError
from multiway_vision_language.dide.checkpoint import load_teacher
from multiway_vision_language.dide.config import VILT
from multiway_vision_language.dide.model import DiDE
from multiway_vision_language.dide.objective import (
    Distillation,
    attention_loss,
    choose_patches,
    distillation_loss,
    soft_label_loss,
)
from multiway_vision_language.multiway.fusion import FusionClassifier
from torch import Tensor, nn

SMALL = dataclasses.replace(
    VILT, vocab_size=23, hidden_size=24, num_layers=2, num_heads=3, inner_size=40, image_size=12, patch_size=4,
    max_text=7, norm_eps=1e-3, text_eps=1e-3,
)  # fmt: skip
LABELS = 5
VALID = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])


def perturbed(module: nn.Module, seed: int = 0) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(noise * 0.3 + (parameter.ndim == 1) * 0.5)
    return module.eval()


def batch(pictures: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    pixels = torch.randn(2, pictures, 3, 12, 12, generator=generator)
    return pixels, torch.randint(3, 23, (2, 5), generator=generator)


@pytest.mark.peer
@pytest.mark.requires("transformers.models.vilt")
def test_the_teacher_equals_vilt(tmp_path: Path) -> None:
    from transformers import ViltConfig, ViltForQuestionAnswering

    sizes = ViltConfig(
        vocab_size=23, hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=40,
        image_size=12, patch_size=4, max_position_embeddings=7, layer_norm_eps=1e-3, num_labels=LABELS,
    )  # fmt: skip
    peer = perturbed(ViltForQuestionAnswering(sizes))
    peer.save_pretrained(tmp_path)
    own = load_teacher(tmp_path)
    assert own.config == SMALL
    pixels, tokens = batch()
    with torch.no_grad():
        expected = peer(
            input_ids=tokens,
            attention_mask=VALID.long(),
            token_type_ids=torch.zeros_like(tokens),
            pixel_values=pixels[:, 0],
            pixel_mask=torch.ones(2, 12, 12, dtype=torch.long),
        ).logits
        torch.testing.assert_close(own(pixels, tokens, VALID), expected, atol=1e-5, rtol=1e-4)
        own.backbone.type_embedding.weight[1] += 0.5 * torch.randn(24)
        assert (own(pixels, tokens, VALID) - expected).abs().max() > 1e-3
    larger = load_teacher(tmp_path, image_size=20)
    assert larger(torch.zeros(1, 1, 3, 20, 20), tokens[:1]).shape == (1, LABELS)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(CheckpointError, match="model_type is 'bert', expected 'vilt'"):
        load_teacher(tmp_path)


def test_vectors_that_were_kept_give_the_same_answers() -> None:
    student = perturbed(DiDE(SMALL, LABELS, pictures=2))
    pixels, tokens = batch(2)
    with torch.no_grad():
        images = torch.stack([student.encode_images(pixels[:, i], image_type=i) for i in (0, 1)], dim=1)
        kept = student.combine(student.encode_texts(tokens, VALID), images)
        torch.testing.assert_close(kept, student(pixels, tokens, VALID))


def explicit(
    query: Tensor, key: Tensor, taught_query: Tensor, taught_key: Tensor, queries: Tensor, keys: Tensor
) -> Tensor:
    """Mean over counted queries and heads of KL, in float64 and loop by loop; keys that are padding are left out."""
    total, count = torch.zeros((), dtype=torch.float64), 0
    scale = query.shape[-1] ** -0.5
    for b in range(len(query)):
        seen = keys[b].nonzero()[:, 0]
        for head in range(query.shape[1]):
            for t in range(query.shape[2]):
                if not queries[b, t]:
                    continue
                own = (key[b, head, seen].double() @ query[b, head, t].double() * scale).log_softmax(0)
                other = (
                    taught_key[b, head, seen].double() @ taught_query[b, head, t].double() * scale
                ).log_softmax(0)
                total = total + (other.exp() * (other - own)).sum()
                count += 1
    return total / count


@pytest.mark.parametrize("legacy", [False, True])
def test_attention_loss_equals_explicit_loops(legacy: bool) -> None:
    student, teacher = perturbed(DiDE(SMALL, LABELS)), perturbed(FusionClassifier(SMALL, LABELS), 1)
    pixels, tokens = batch()
    read = student.read(pixels, tokens, VALID)
    _, fused = teacher.read(pixels, tokens, VALID)
    found = attention_loss(student, read, teacher, fused, VALID, legacy_query_mean=legacy)
    assert torch.isfinite(found)  # kl_div gives 0 * -inf = NaN at padded keys
    found.backward()
    gradients = [p.grad for p in student.text_encoder.stack.layers[-1].attention.query.parameters()]
    assert all(torch.isfinite(g).all() and g.abs().max() > 0 for g in gradients)
    text = student.text_encoder.queries_and_keys(read.text)
    image = student.image_encoder.queries_and_keys(read.images[0])
    query, key = teacher.backbone.queries_and_keys(fused[0])
    whole = torch.ones(2, 10, dtype=torch.bool)
    counted = torch.ones_like(VALID) if legacy else VALID
    expected = explicit(text[0], image[1], query[:, :, :5], key[:, :, 5:], counted, whole)
    expected = expected + explicit(image[0], text[1], query[:, :, 5:], key[:, :, :5], whole, VALID)
    torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=1e-5)


def test_soft_labels_equal_their_formulas() -> None:
    generator = torch.Generator().manual_seed(2)
    student, teacher = torch.randn(2, 4, LABELS, generator=generator, dtype=torch.float64).unbind(0)
    p = teacher.sigmoid()
    expected = -(p * student.sigmoid().log() + (1 - p) * (1 - student.sigmoid()).log()).sum(1).mean()
    torch.testing.assert_close(soft_label_loss(student, teacher, "independent"), expected)
    p = teacher.softmax(1)
    expected = (p * (p.log() - student.log_softmax(1))).sum(1).mean()
    torch.testing.assert_close(soft_label_loss(student, teacher, "exclusive"), expected)


def test_both_read_the_same_patches() -> None:
    student, teacher = (
        perturbed(DiDE(SMALL, LABELS, pictures=2)),
        perturbed(FusionClassifier(SMALL, LABELS, pictures=2), 1),
    )
    pixels, tokens = batch(2)
    chosen = choose_patches(2, 2, 9, 4, torch.Generator().manual_seed(0))
    losses = distillation_loss(student, teacher, pixels, tokens, VALID, Distillation(), chosen)
    assert set(losses) == {"soft", "attention"}
    read = student.read(pixels, tokens, VALID, chosen)
    assert read.images[0].hidden_BSE.shape[1] == 5
    everything = torch.arange(9).expand(2, 2, 9)
    with torch.no_grad():
        torch.testing.assert_close(
            student.read(pixels, tokens, VALID, everything).scores_BL, student(pixels, tokens, VALID)
        )
    with pytest.raises(InputError, match="5 image tokens and the teacher 10; both must see the same patches"):
        attention_loss(student, read, teacher, teacher.read(pixels, tokens, VALID)[1], VALID)


def test_a_student_that_starts_as_its_teacher_learns_its_attention() -> None:
    torch.manual_seed(0)
    config = dataclasses.replace(SMALL, norm_eps=1e-6, text_eps=1e-6)
    teacher = perturbed(FusionClassifier(config, LABELS), 1)
    student = DiDE(config, LABELS)
    student.start_from(teacher)
    assert torch.equal(
        student.image_encoder.state_dict()["stack.norm.weight"],
        teacher.backbone.state_dict()["stack.norm.weight"],
    )
    pixels, tokens = batch()
    optimizer = torch.optim.AdamW(student.parameters(), lr=2e-3)
    history = []
    for _ in range(40):
        losses = distillation_loss(student, teacher, pixels, tokens, VALID, Distillation())
        history.append({name: float(loss.detach()) for name, loss in losses.items()})
        sum(losses.values()).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert history[-1]["attention"] < 0.5 * history[0]["attention"]
    assert history[-1]["soft"] < 0.5 * history[0]["soft"]
