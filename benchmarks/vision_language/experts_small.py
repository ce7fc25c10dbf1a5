"""Experts by modality in small: do experts, three masked tasks and one checkpoint for two uses pay?

    python -m benchmarks.vision_language.experts_small [--output DIR] [--work DIR] [--seeds N] [--minutes N]

Scenes of two coloured shapes, generated (experts_small_data.py); half of the words are synonyms that training hardly
shows with pictures. Networks of width 64 with 3 layers, on one thread, three seeds.

Masked data modelling (VL-BEiT): 700 steps on 4,000 pictures, made-up texts, and pairs of 1,000 of the pictures. Then
500 steps of questions about the same 1,000. Arms: experts by modality behind shared attention; everything shared, at
the same operations a token; each of the three tasks left out at equal steps; no pre-training. Visual words are k-means
centres of patches' pixels: VQ-KD with the bundled classifier as teacher, which sees little in such drawings, used 1.4
of 128 codes (perplexity) after 150 steps.

VLMo: 700 steps on 4,000 pairs with all four losses, against the same network with contrast alone (a dual encoder) and
with matching and masked words alone (a fusion encoder, whose wrong pairs are drawn uniformly, because nothing ranks
them). Judged without fine-tuning: recall of 500 pairs by vectors, and the choice between a caption and the same with
two colours exchanged.

Held-out scenes, 1,000, are from other seeds. A stage that --work holds is not trained again, a cell that is there is
not measured again, and after --minutes no new one begins.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import torch
from multiway_core.training import Loss
from multiway_vision_language.beit3.model import BEiT3ForVQA
from multiway_vision_language.image_tokenizer.vq_kd import codebook_usage
from multiway_vision_language.metrics.retrieval import retrieval_recall
from multiway_vision_language.multiway.config import MultiwayConfig
from multiway_vision_language.multiway.masking import MaskedWords, mask_blocks, mask_words
from multiway_vision_language.multiway.pretraining import (
    IMAGE_SHARE,
    PAIR_TEXT_SHARE,
    TEXT_SHARE,
    MaskedData,
    MaskedDataModel,
    MaskedImages,
    MaskedTexts,
    masked_data_loss,
)
from multiway_vision_language.multiway.text_first import TextFirstConfig
from multiway_vision_language.tasks.recipe import take_weights
from multiway_vision_language.vlmo.model import VLMo
from multiway_vision_language.vlmo.objective import MATCHING as MATCHING_WEIGHT
from multiway_vision_language.vlmo.objective import WORDS as WORDS_WEIGHT
from multiway_vision_language.vlmo.objective import PairBatch, matching_loss, pretraining_loss
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import harness
from benchmarks.vision_language.experts_small_data import (
    BEGIN,
    END,
    EVEN,
    LABELS,
    LONGEST,
    MASK,
    PAD,
    RARE,
    SIDE,
    WORDS,
    Scenes,
    caption,
    encode,
    swapped,
    text,
)
from benchmarks.vision_language.small_world import Stages

PICTURES, PAIRS, HELD_OUT, RECALL = 4000, 1000, 1000, 500
STEPS, TUNING, BATCH, RATE = 700, 500, 24, 4e-3
CODES = 64
WIDER = 3.0
"""Matrices begin so many times larger than in a network of 768 channels, from which the usual 0.02 comes."""
SIZES: dict[str, Any] = {
    "vocab_size": len(WORDS.words), "hidden_size": 64, "num_layers": 3, "num_heads": 4, "inner_size": 256,
    "image_size": SIDE, "patch_size": 12, "max_text": LONGEST, "sub_norm": False, "norm_eps": 1e-6,
}  # fmt: skip
EXPERTS = MultiwayConfig(**SIZES, partition="feedforward", pair_layers=1)
SHARED = MultiwayConfig(**SIZES, partition="none")
TWO_WAYS = TextFirstConfig(**SIZES, partition="feedforward", pair_layers=1)
MASKED: dict[str, tuple[MultiwayConfig, tuple[str, ...]]] = {
    "experts": (EXPERTS, ("pictures", "texts", "pairs")),
    "everything shared": (SHARED, ("pictures", "texts", "pairs")),
    "without pictures": (EXPERTS, ("texts", "pairs")),
    "without texts": (EXPERTS, ("pictures", "pairs")),
    "without pairs": (EXPERTS, ("pictures", "texts")),
    "no pre-training": (EXPERTS, ()),
}
VLMO = ("one checkpoint", "dual alone", "fusion alone")


def started(model: nn.Module) -> nn.Module:
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(WIDER)
    return model


def hide(tokens: Tensor, valid: Tensor, share: float, seed: int) -> MaskedWords:
    generator = torch.Generator().manual_seed(seed)
    return mask_words(tokens, valid, share, MASK, len(WORDS.words), (PAD, BEGIN, END, MASK), generator)


class Study:
    """The data of a seed, and batches as pure functions of the step."""

    def __init__(self, seed: int, work: Path) -> None:
        self.seed, self.work = seed, work
        self.scenes, self.unseen = Scenes(PICTURES, seed), Scenes(HELD_OUT, 100 + seed)
        self.stages = Stages(work / f"seed-{seed}", seed, 1.0)

    @cache  # noqa: B019 - a study lives as long as the program
    def codes(self, held_out: bool) -> Tensor:
        scenes, centres = self.unseen if held_out else self.scenes, visual_words()
        parts = [range(start, start + 100) for start in range(0, len(scenes.shapes), 100)]
        return torch.cat([torch.cdist(patches(scenes, part), centres).argmin(-1) for part in parts])

    def masked(self, tasks: tuple[str, ...], step: int, shard: int = 0, shards: int = 1) -> MaskedData:
        rng = random.Random(f"{self.seed}/{step}")
        images = self._images(rng, self.scenes, [rng.randrange(PICTURES) for _ in range(BATCH)])
        words, hide_seed = encode([text(rng) for _ in range(BATCH)]), rng.randrange(2**60)
        pairs = self.pairs(rng, self.scenes, [rng.randrange(PAIRS) for _ in range(BATCH)], RARE)
        return MaskedData(
            images if "pictures" in tasks else None,
            MaskedTexts(*words, hide(*words, TEXT_SHARE, hide_seed)) if "texts" in tasks else None,
            pairs if "pairs" in tasks else None,
        )

    def pairs(
        self, rng: random.Random, scenes: Scenes, places: list[int], share: float
    ) -> tuple[MaskedImages, MaskedTexts]:
        words = scenes.captions(places, rng, share)
        masked = hide(*words, PAIR_TEXT_SHARE, rng.randrange(2**60))
        return self._images(rng, scenes, places), MaskedTexts(*words, masked)

    def _images(self, rng: random.Random, scenes: Scenes, places: list[int]) -> MaskedImages:
        hidden = torch.stack([mask_blocks(EXPERTS.grid, IMAGE_SHARE, rng) for _ in places])
        return MaskedImages(scenes.take(places), hidden, self.codes(scenes is self.unseen)[places])

    def asked(self, step: int, shard: int = 0, shards: int = 1) -> tuple[Tensor, ...]:
        rng = random.Random(f"{self.seed}/questions/{step}")
        places = [rng.randrange(PAIRS) for _ in range(BATCH)]
        return self.scenes.take(places), *self.scenes.questions(places, rng, RARE)

    def paired(self, step: int, shard: int = 0, shards: int = 1) -> PairBatch:
        rng = random.Random(f"{self.seed}/pairs/{step}")
        places = [rng.randrange(PICTURES) for _ in range(BATCH)]
        words = self.scenes.captions(places, rng, RARE)
        return PairBatch(self.scenes.take(places), *words, hide(*words, TEXT_SHARE, rng.randrange(2**60)))


def patches(scenes: Scenes, places: range) -> Tensor:
    """The pixels of every patch, (pictures, patches, numbers)."""
    size = EXPERTS.patch_size
    return nn.functional.unfold(scenes.take(places), size, stride=size).transpose(1, 2).contiguous()


@cache
def visual_words() -> Tensor:
    """Centres of patches of other pictures by k-means, (CODES, numbers)."""
    generator = torch.Generator().manual_seed(0)
    seen = patches(Scenes(1000, 1000), range(1000)).flatten(0, 1)
    centres = seen[torch.randperm(len(seen), generator=generator)[:CODES]]
    for _ in range(15):
        nearest = torch.cdist(seen, centres).argmin(1)
        sums = torch.zeros_like(centres).index_add_(0, nearest, seen)
        count = torch.bincount(nearest, minlength=CODES)[:, None]
        centres = torch.where(count > 0, sums / count.clamp(min=1), centres)
    return centres


def answer_loss(model: nn.Module, batch: tuple[Tensor, ...]) -> Loss:
    pixels, tokens, valid, answers = batch
    loss = nn.functional.cross_entropy(model(pixels[:, None], tokens, valid).float(), answers)
    return Loss(loss * len(pixels), weight=len(pixels), samples=len(pixels))


@torch.no_grad()
def answered(model: nn.Module, scenes: Scenes, asked: int = 2) -> dict[str, float]:
    """Accuracy in % on ``asked`` questions a scene: all, of colours and kinds, of relations (no or yes)."""
    model.eval()
    right, relation = [], []
    for start in range(0, len(scenes.shapes), 100):
        places = [*range(start, start + 100)] * asked
        tokens, valid, answers = scenes.questions(places, random.Random(start), EVEN)
        right.append(model(scenes.take(places)[:, None], tokens, valid).argmax(1) == answers)
        relation.append(answers >= LABELS.index("no"))
    hits, about = torch.cat(right).float(), torch.cat(relation)
    groups = {"accuracy": hits, "attributes": hits[~about], "relations": hits[about]}
    return {name: 100 * float(part.mean()) for name, part in groups.items()}


def masked_cell(arm: str, study: Study) -> dict[str, Any]:
    config, tasks = MASKED[arm]
    name, found = arm.replace(" ", "-"), {}
    torch.manual_seed(study.seed)
    model = started(MaskedDataModel(config, CODES))
    if tasks:
        study.stages.train(name, model, masked_data_loss, partial(study.masked, tasks), STEPS, RATE)
        found = pair_scores(model, study)  # type: ignore[arg-type]
    torch.manual_seed(study.seed)
    tuned = started(BEiT3ForVQA(config, len(LABELS)))
    take_weights(tuned, model)
    study.stages.train(f"{name}-questions", tuned, answer_loss, study.asked, TUNING, RATE)
    return {"arm": arm, "seed": study.seed, **answered(tuned, study.unseen), **found}


@torch.no_grad()
def pair_scores(model: MaskedDataModel, study: Study) -> dict[str, float]:
    """Held-out pairs: loss a hidden word and a hidden patch."""
    model.eval()
    parts = [
        study.pairs(random.Random(start), study.unseen, [*range(start, start + 100)], EVEN)
        for start in range(0, HELD_OUT, 100)
    ]
    losses = [model.losses(MaskedData(pairs=pair)) for pair in parts]
    return {name: sum(float(one[name]) for one in losses) / len(losses) for name in losses[0]}


def fusion_loss(model: nn.Module, batch: PairBatch) -> Loss:
    """Matching and masked words alone, with their usual weights; wrong pairs are drawn uniformly."""
    assert isinstance(model, VLMo)
    assert batch.masked is not None
    count = len(batch.tokens_BT)
    matching = matching_loss(model, batch, torch.zeros(2, count, count))
    hidden = batch.masked.hidden_BT
    read = model.fuse(batch.pixels_BCHW, batch.masked.tokens_BT, batch.valid_BT)
    words = nn.functional.cross_entropy(
        model.words(read.hidden_BSE[:, : read.split][hidden]), batch.tokens_BT[hidden]
    )
    return Loss((MATCHING_WEIGHT * matching + WORDS_WEIGHT * words) * count, weight=count, samples=count)


def dual_loss(model: nn.Module, batch: PairBatch) -> Loss:
    """Contrast of the two encoders alone."""
    assert isinstance(model, VLMo)
    images = model.encode_images(batch.pixels_BCHW)
    texts = model.encode_texts(batch.tokens_BT, batch.valid_BT)
    scores, count = model.contrast.logit_scale.exp() * images @ texts.T, len(images)
    own = torch.arange(count)
    both = nn.functional.cross_entropy(scores, own) + nn.functional.cross_entropy(scores.T, own)
    return Loss(both / 2 * count, weight=count, samples=count)


def vlmo_cell(arm: str, study: Study) -> dict[str, Any]:
    losses: dict[str, Callable[..., Loss]] = dict(
        zip(VLMO, (pretraining_loss, dual_loss, fusion_loss), strict=True)
    )
    torch.manual_seed(study.seed)
    model = started(VLMo(TWO_WAYS))
    study.stages.train(arm.replace(" ", "-"), model, losses[arm], study.paired, STEPS, RATE)
    assert isinstance(model, VLMo)
    return {"arm": arm, "seed": study.seed, **two_uses(model.eval(), study.unseen)}


@torch.no_grad()
def two_uses(model: VLMo, scenes: Scenes) -> dict[str, float]:
    """In %: recall by vectors, and which of two captions (the wrong one has two colours exchanged) is preferred."""
    rng, places = random.Random(0), [*range(RECALL)]
    pixels, words = scenes.take(places), scenes.captions(places, rng, EVEN)
    images = model.encode_images(pixels)
    recall = retrieval_recall(images @ model.encode_texts(*words).T, places)
    true = encode([caption(scenes.shapes[place], random.Random(place), EVEN) for place in places])
    false = encode([caption(swapped(scenes.shapes[p], rng), random.Random(p), EVEN) for p in places])
    by_vectors = [(images * model.encode_texts(*texts)).sum(-1) for texts in (true, false)]
    fused = [model.match(pixels, *texts).diff(dim=1)[:, 0] for texts in (true, false)]
    found = {name: 100 * value for name, value in recall.items()}
    found["choice by vectors"] = 100 * float((by_vectors[0] > by_vectors[1]).float().mean())
    found["choice by fusion"] = 100 * float((fused[0] > fused[1]).float().mean())
    return found


def operations() -> dict[str, int]:
    """Of one pair through the networks, forward."""
    found = {}
    pixels, words = torch.zeros(1, 3, SIDE, SIDE), encode(["a red circle and a blue box"])
    for name, config in (("experts", EXPERTS), ("everything shared", SHARED)):
        model = BEiT3ForVQA(config, len(LABELS)).eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(pixels[:, None], *words)
        found[name] = counter.get_total_flops()
    return found


def page(report: dict[str, Any]) -> str:
    """The page of a report."""

    def column(arm: str, name: str, digits: int = 1) -> str:
        values = [cell[name] for cell in report["cells"] if cell["arm"] == arm and name in cell]
        return harness.spread(values, digits) if values else "-"

    def rows(arms: Any, names: dict[str, int]) -> list[list[str]]:
        measured = {cell["arm"] for cell in report["cells"]}
        return [[arm, *(column(arm, n, d) for n, d in names.items())] for arm in arms if arm in measured]

    seeds = len({cell["seed"] for cell in report["cells"]})
    answers = {"accuracy": 1, "attributes": 1, "relations": 1, "pair_text": 3, "pair_image": 3}
    uses = {"text R@1": 1, "image R@1": 1, "mean recall": 1, "choice by vectors": 1, "choice by fusion": 1}
    flops = report["operations"]
    return "\n".join(
        [
            "# Experts by modality in small",
            "",
            f"`{report['command']}`, {seeds} seeds, mean ± standard deviation, 1,000 held-out scenes, %.",
            f"A pair costs {flops['experts']:,} operations with experts and {flops['everything shared']:,} without."
            f" Of {CODES} visual words {100 * report['visual_words']['used']:.0f} % occur (perplexity"
            f" {report['visual_words']['perplexity']:.1f}).",
            "",
            harness.table(
                ["masked data modelling, then questions", "answers", "attributes", "relations",
                 "loss a hidden word", "loss a hidden patch"],
                rows(MASKED, answers),
            ),
            "",
            harness.table(
                ["VLMo", "text R@1", "image R@1", "mean recall", "colours bound, by vectors",
                 "colours bound, by fusion"],
                rows(VLMO, uses),
            ),
        ]
    )  # fmt: skip


def main() -> None:
    """The command line."""
    parser = harness.parser(__doc__, "vision_language")
    parser.add_argument("--work", type=Path, default=Path("runs/experts-small"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=120)
    given = parser.parse_args()
    torch.set_num_threads(1)
    cells = []
    for seed in range(given.seeds):
        study = cache(partial(Study, seed, given.work))
        for arms, cell in ((MASKED, masked_cell), (VLMO, vlmo_cell)):
            for arm in arms:
                path = given.work / "cells" / f"{arm.replace(' ', '-')}-{seed}.json"
                made = harness.kept(
                    path, lambda arm=arm, cell=cell, study=study: cell(arm, study()), given.minutes
                )
                cells += filter(None, [made])
    used, perplexity = codebook_usage(Study(0, given.work).codes(True), CODES)
    report = {
        **harness.provenance("experts-small"),
        "operations": operations(),
        "visual_words": {"codes": CODES, "used": used, "perplexity": perplexity},
        "cells": cells,
    }
    harness.save(given.output, "experts-small", report, page(report))


if __name__ == "__main__":
    main()
