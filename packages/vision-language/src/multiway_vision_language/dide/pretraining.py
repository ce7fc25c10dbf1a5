"""DiDE's first stage: a fusion teacher learns from pictures with captions, and a dual student from the teacher.

The paper distils at pre-training and at fine-tuning, but released the code of the second alone. Our choice: the
teacher learns ViLT's two tasks (arXiv 2102.03334, section 3.2), masked words and matching. The student is taught the
teacher's attention between text and picture and its scores of matching, and learns by contrast, whose similarities
pick the wrong texts.

Shape suffixes: B pairs of this process, T text tokens.
"""

from __future__ import annotations

import torch
from multiway_blocks.contrastive import gather, hard_negatives
from multiway_core.training import Loss
from torch import Tensor, nn

from multiway_vision_language.dide.model import DiDEForRetrieval
from multiway_vision_language.dide.objective import attention_loss, soft_label_loss
from multiway_vision_language.multiway.fusion import FusionClassifier
from multiway_vision_language.multiway.heads import WordHead
from multiway_vision_language.multiway.objective import image_text_contrast, masked_loss
from multiway_vision_language.multiway.text_first import TextFirstConfig
from multiway_vision_language.vlmo.objective import PairBatch


class FusionPretraining(nn.Module):
    """The teacher with its heads for matching ("no", "yes") and for masked words."""

    def __init__(self, config: TextFirstConfig) -> None:
        super().__init__()
        self.fusion = FusionClassifier(config, labels=2)
        self.words = WordHead(config.hidden_size, config.vocab_size)


def teacher_loss(model: nn.Module, batch: PairBatch) -> Loss:
    """Masked words and matching; the wrong text of a picture is drawn uniformly. Raises InputError: a single pair."""
    assert isinstance(model, FusionPretraining)
    assert batch.masked is not None
    count = len(batch.tokens_BT)
    tokens_BT, valid_BT, _ = wrong_texts(
        batch, batch.pixels_BCHW.new_zeros(count, len(gather(batch.tokens_BT)))
    )
    pixels = batch.pixels_BCHW[:, None]
    scores = model.fusion(
        torch.cat([pixels, pixels]),
        torch.cat([batch.tokens_BT, tokens_BT]),
        torch.cat([batch.valid_BT, valid_BT]),
    )
    belongs = torch.arange(2, device=scores.device).flip(0).repeat_interleave(count)
    matching = nn.functional.cross_entropy(scores.float(), belongs)
    hidden_BT = batch.masked.hidden_BT
    read = model.fusion.backbone(batch.masked.tokens_BT, batch.pixels_BCHW, valid_BT=batch.valid_BT)
    words = masked_loss(model.words(read.hidden_BSE[:, : read.split][hidden_BT]), batch.tokens_BT[hidden_BT])
    return _sum({"matching": matching, "words": words}, count)


def student_loss(model: nn.Module, batch: PairBatch, teacher: FusionClassifier) -> Loss:
    """Contrast, the teacher's attention, and its scores of matching for right and for wrong texts, unweighted.

    The teacher must be in evaluation mode. Raises InputError: a single pair has no wrong text.
    """
    assert isinstance(model, DiDEForRetrieval)
    student, pixels, count = model.student, batch.pixels_BCHW[:, None], len(batch.tokens_BT)
    read = student.read(pixels, batch.tokens_BT, batch.valid_BT)
    text = student.text_pooler(read.text.hidden_BSE[:, 0])
    image = student.image_pooler(read.images[0].hidden_BSE[:, 0])
    own_image, own_text = model.heads.of_images(image), model.heads.of_texts(text)
    contrast = image_text_contrast(own_image, own_text, model.heads.logit_scale).mean()
    similarity = model.heads.logit_scale.exp() * own_image @ gather(own_text).T
    tokens_BT, valid_BT, places_B = wrong_texts(batch, similarity)
    with torch.no_grad():
        right, fused = teacher.read(pixels, batch.tokens_BT, batch.valid_BT)
        taught = torch.cat([right, teacher(pixels, tokens_BT, valid_BT)])
    wrong = student.combine(gather(text)[places_B], image[:, None])
    matching = soft_label_loss(torch.cat([read.scores_BL, wrong]), taught, "exclusive")
    attention = attention_loss(student, read, teacher, fused, batch.valid_BT)
    return _sum({"contrast": contrast, "attention": attention, "matching": matching}, count)


def wrong_texts(batch: PairBatch, similarity_BA: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A text of another pair for every picture, drawn by similarity: ids, where they are real, its place (B,)."""
    places_B = hard_negatives(similarity_BA)
    tokens, valid = gather(batch.tokens_BT), gather(batch.valid_BT.long())
    return tokens[places_B], valid[places_B].bool(), places_B


def _sum(losses: dict[str, Tensor], count: int) -> Loss:
    metrics = {name: loss.detach() for name, loss in losses.items()}
    return Loss(
        torch.stack(list(losses.values())).sum() * count, weight=count, metrics=metrics, samples=count
    )
