"""Pre-training on pictures with texts: BEiT-3 and VL-BEiT by masked data modelling, VLMo in its three stages, DiDE by
a fusion teacher.

The last job's model folder is a retrieval model of the architecture, which `train --arch ... --init-from` fine-tunes
for any task. VLMo's and DiDE's learnt their vectors; the heads of the others are new.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, Literal

import numpy as np
import torch
from multiway_core.errors import ConfigError
from multiway_core.training import HeldOut, Loss, TrainConfig, TrainJob, TrainOptions
from torch import Tensor, nn

from multiway_vision_language.beit3.config import PRESETS as BEIT3
from multiway_vision_language.dide.config import PRESETS as DIDE
from multiway_vision_language.dide.model import DiDEForRetrieval
from multiway_vision_language.dide.pretraining import FusionPretraining, student_loss, teacher_loss
from multiway_vision_language.image_tokenizer.recipe import (
    FeatureTeacher,
    new_tokenizer,
    score_tokenizer,
    tokenizer_loss,
)
from multiway_vision_language.image_tokenizer.vq_kd import VQKD
from multiway_vision_language.multiway.masking import mask_blocks, mask_words
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
from multiway_vision_language.tasks import model_folder
from multiway_vision_language.tasks.examples import Example, read_examples
from multiway_vision_language.tasks.model_folder import HeadedModel
from multiway_vision_language.tasks.objective import score
from multiway_vision_language.tasks.processor import PairProcessor
from multiway_vision_language.tasks.recipe import TEACHER, new_processor, split, take_weights
from multiway_vision_language.tasks.shapes import make_examples
from multiway_vision_language.vl_beit.config import PRESETS as VL_BEIT
from multiway_vision_language.vlmo.config import PRESETS as VLMO
from multiway_vision_language.vlmo.model import Stage, VLMo, train_stage
from multiway_vision_language.vlmo.objective import PairBatch, pretraining_loss

System = Literal["beit3", "vl-beit", "vlmo", "dide"]
_SIZES: dict[System, dict[str, Any]] = {
    "beit3": dict(BEIT3), "vl-beit": dict(VL_BEIT), "vlmo": dict(VLMO), "dide": dict(DIDE),
}  # fmt: skip
MATCHING_LABELS = ("no", "yes")
"""Whether a text belongs to a picture, as DiDE's pre-trained teacher answers."""
_TRAIN = TrainConfig(
    steps=10_000,
    learning_rate=1e-3,
    warmup_steps=500,
    schedule="cosine",
    betas=(0.9, 0.98),
    weight_decay=0.05,
    clip_norm=3.0,
)


@dataclass(frozen=True)
class Pretraining:
    """The numbers of a run; ``options.data`` is a file of captions and the pictures' folder, or nothing.

    Jobs of `beit3` and `vl-beit`: the visual words (VQ-KD), then masked pictures, texts and pairs. Of `vlmo`: visual
    words, pictures, texts, pairs, with what each stage freezes. Of `dide`: a fusion teacher, then the student that it
    teaches; the model folder holds the teacher too, in ``teacher``. Steps are those of each job.

    Attributes:
        arch: which system.
        size: of the network.
        batch_size: pictures, texts and pairs of a step, each.
        num_codes: visual words.
        pictures, texts, pairs: which data masked data modelling sees (VL-BEiT's three tasks).
        scenes: how many are generated without data.
    """

    arch: System = "beit3"
    size: str = "small"
    batch_size: int = 32
    num_codes: int = 1024
    pictures: bool = True
    texts: bool = True
    pairs: bool = True
    scenes: int = 20_000
    train: TrainConfig = _TRAIN

    def build(self, options: TrainOptions) -> Iterator[TrainJob]:
        """The jobs. Raises InputError, ConfigError, DataError."""
        if self.size not in _SIZES[self.arch]:
            raise ConfigError(f"{self.arch} has the sizes {', '.join(_SIZES[self.arch])}, not {self.size!r}")
        if options.data:
            examples = read_examples("retrieval", options.data)
        else:
            examples = make_examples("retrieval", self.scenes, options.seed, size=96)
        taught, kept = split(examples)
        processor, sizes = new_processor(taught, _SIZES[self.arch][self.size], options)
        drawn = Draws(self, taught, processor, options.seed)
        config = options.apply(self.train)
        facts = {"arch": self.arch, "examples": len(taught), "held_out_examples": len(kept)}
        held_out = Draws(self, kept, processor, 0)
        if self.arch == "dide":
            yield from self._taught(sizes, drawn, held_out, config, facts)
            return
        teacher = FeatureTeacher(sizes.grid)
        words = new_tokenizer(sizes, self.size, teacher, self.num_codes)
        parts = [processor.pixels([e.pictures[0] for e in kept[i : i + 32]]) for i in range(0, len(kept), 32)]
        yield TrainJob(
            words,
            partial(tokenizer_loss, teacher),
            drawn.pictures,
            config,
            export=_no_export,
            held_out=HeldOut(partial(score_tokenizer, teacher, parts), best="cosine", larger_is_better=True),
            name="visual-words",
            facts=facts,
        )
        words.eval().requires_grad_(False)
        prepared = _Prepared(sizes, words, drawn, held_out, config, facts)
        yield from (self._stages if self.arch == "vlmo" else self._masked)(prepared)

    def _taught(
        self, sizes: Any, drawn: Draws, held_out: Draws, config: TrainConfig, facts: dict[str, Any]
    ) -> Iterator[TrainJob]:
        first = FusionPretraining(sizes)
        yield TrainJob(
            first,
            teacher_loss,
            drawn.pair,
            config,
            export=_no_export,
            held_out=HeldOut(partial(_mean_loss, teacher_loss, held_out.pair), best="loss"),
            name="teacher",
            facts=facts,
        )
        teacher = first.fusion.eval().requires_grad_(False)
        network = DiDEForRetrieval(sizes)
        network.student.start_from(teacher)

        def objective(trained: nn.Module, batch: PairBatch) -> Loss:
            teacher.to(batch.pixels_BCHW.device)
            return student_loss(trained, batch, teacher)

        def headed(trained: Any) -> HeadedModel:
            return HeadedModel("dide", "retrieval", trained, drawn.processor)

        def export(trained: Any, folder: Any) -> None:
            model_folder.save(headed(trained), folder)
            matching = HeadedModel("vilt", "vqa", teacher.cpu(), drawn.processor, MATCHING_LABELS)
            model_folder.save(matching, folder / TEACHER)

        yield TrainJob(
            network,
            objective,
            drawn.pair,
            config,
            export,
            held_out=HeldOut(
                lambda trained: score(headed(trained), held_out.examples),
                best="mean recall",
                larger_is_better=True,
            ),
            facts=facts,
        )

    def _masked(self, given: _Prepared) -> Iterator[TrainJob]:
        sizes, words, drawn, held_out = given.sizes, given.words, given.drawn, given.held_out
        model = MaskedDataModel(sizes, self.num_codes)
        fixed = [
            held_out.masked(step, 0, 1) for step in range(max(1, len(held_out.examples) // self.batch_size))
        ]

        @torch.no_grad()
        def losses(trained: Any) -> dict[str, float]:
            found = [trained.losses(_with_codes(data, words)) for data in fixed]
            means = {f"{name}_loss": float(sum(one[name] for one in found)) / len(found) for name in found[0]}
            return means | {"loss": sum(means.values())}

        def objective(network: nn.Module, data: MaskedData) -> Loss:
            return masked_data_loss(network, _with_codes(data, words))

        def export(trained: Any, folder: Any) -> None:
            network = model_folder.new_network("beit3", "retrieval", sizes, 0)
            take_weights(network, trained)
            model_folder.save(HeadedModel("beit3", "retrieval", network, drawn.processor), folder)

        yield TrainJob(
            model,
            objective,
            drawn.masked,
            given.config,
            export,
            held_out=HeldOut(losses, best="loss", larger_is_better=False),
            facts=given.facts,
        )

    def _stages(self, given: _Prepared) -> Iterator[TrainJob]:
        sizes, words, drawn, held_out = given.sizes, given.words, given.drawn, given.held_out
        model = VLMo(sizes)
        visual = nn.Linear(sizes.hidden_size, self.num_codes)
        both = nn.ModuleDict({"vlmo": model, "visual": visual})

        def image(network: Any, images: MaskedImages) -> Loss:
            hidden = _blank(images, sizes.patch_size)
            read = network["vlmo"].backbone(pixels_BCHW=hidden).hidden_BSE[:, 1:]
            chosen = images.hidden_BN
            loss = nn.functional.cross_entropy(
                network["visual"](read[chosen]).float(), words.codes(images.pixels_BCHW)[chosen]
            )
            return Loss(loss * len(hidden), weight=len(hidden), samples=len(hidden))

        def text(network: Any, texts: MaskedTexts) -> Loss:
            chosen = texts.masked.hidden_BT
            read = network["vlmo"].backbone(texts.masked.tokens_BT, valid_BT=texts.valid_BT).hidden_BSE
            logits = network["vlmo"].words(read[chosen]).float()
            loss = nn.functional.cross_entropy(logits, texts.tokens_BT[chosen])
            count = len(texts.tokens_BT)
            return Loss(loss * count, weight=count, samples=count)

        def pair(network: Any, batch: PairBatch) -> Loss:
            return pretraining_loss(network["vlmo"], batch)

        def headed(trained: Any) -> HeadedModel:
            network = model_folder.new_network("vlmo", "retrieval", sizes, 0)
            source: VLMo = trained["vlmo"]
            take_weights(network, source)
            network.get_submodule("heads").load_state_dict(source.contrast.state_dict())
            return HeadedModel("vlmo", "retrieval", network, drawn.processor)

        stages: list[tuple[Stage, Any, Any, Any]] = [
            ("image", image, drawn.images, held_out.images),
            ("text", text, drawn.texts, held_out.texts),
            ("pair", pair, drawn.pair, None),
        ]
        for stage, objective, batches, unseen in stages:
            train_stage(model, stage)
            if unseen is None:
                held = HeldOut(
                    lambda trained: score(headed(trained), held_out.examples),
                    best="mean recall",
                    larger_is_better=True,
                )
            else:
                held = HeldOut(partial(_mean_loss, objective, unseen), best="loss", larger_is_better=False)
            last = stage == "pair"
            yield TrainJob(
                both,
                objective,
                batches,
                given.config,
                export=(lambda trained, folder: model_folder.save(headed(trained), folder))
                if last
                else _no_export,
                held_out=held,
                name="" if last else stage,
                facts=given.facts,
            )


@dataclass(frozen=True)
class _Prepared:
    """What the stages behind the visual words share."""

    sizes: Any
    words: VQKD
    drawn: Draws
    held_out: Draws
    config: TrainConfig
    facts: dict[str, Any]


class Draws:
    """Batches of one set of examples, each a pure function of (step, shard)."""

    def __init__(
        self, numbers: Pretraining, examples: Sequence[Example], processor: PairProcessor, seed: int
    ):
        self.numbers, self.examples, self.processor, self.seed = numbers, examples, processor, seed

    def _chosen(self, step: int, shard: int, num_shards: int, what: int) -> tuple[list[Example], int]:
        """Examples of a batch of pictures (0), texts (1) or pairs (2), and the seed of its masks."""
        first = (step * num_shards + shard) * self.numbers.batch_size
        rng = np.random.default_rng([self.seed, first, what])
        places = rng.integers(len(self.examples), size=self.numbers.batch_size)
        return [self.examples[int(place)] for place in places], int(rng.integers(2**62))

    def pictures(self, step: int, shard: int, num_shards: int) -> Tensor:
        """Pixels alone."""
        chosen, _ = self._chosen(step, shard, num_shards, 0)
        return self.processor.pixels([example.pictures[0] for example in chosen])

    def images(self, step: int, shard: int, num_shards: int) -> MaskedImages:
        """Pictures with hidden patches; their codes are filled in by the objective."""
        return self._images(*self._chosen(step, shard, num_shards, 0))

    def texts(self, step: int, shard: int, num_shards: int) -> MaskedTexts:
        """Texts with hidden words."""
        return self._texts(*self._chosen(step, shard, num_shards, 1), TEXT_SHARE)

    def masked(self, step: int, shard: int, num_shards: int) -> MaskedData:
        """What masked data modelling sees in a step."""
        own, pairs = self.numbers, None
        if own.pairs:
            chosen, seed = self._chosen(step, shard, num_shards, 2)
            pairs = self._images(chosen, seed), self._texts(chosen, seed, PAIR_TEXT_SHARE)
        return MaskedData(
            self.images(step, shard, num_shards) if own.pictures else None,
            self.texts(step, shard, num_shards) if own.texts else None,
            pairs,
        )

    def pair(self, step: int, shard: int, num_shards: int) -> PairBatch:
        """What VLMo's last stage and DiDE see."""
        chosen, seed = self._chosen(step, shard, num_shards, 2)
        texts = self._texts(chosen, seed, TEXT_SHARE)
        pixels = self.processor.pixels([example.pictures[0] for example in chosen])
        return PairBatch(pixels, texts.tokens_BT, texts.valid_BT, texts.masked)

    def _images(self, chosen: Sequence[Example], seed: int) -> MaskedImages:
        pixels = self.processor.pixels([example.pictures[0] for example in chosen])
        sizes = _SIZES[self.numbers.arch][self.numbers.size]
        rng = random.Random(seed)
        hidden = torch.stack([mask_blocks(sizes.grid, IMAGE_SHARE, rng) for _ in chosen])
        return MaskedImages(pixels, hidden, torch.zeros_like(hidden, dtype=torch.int64))

    def _texts(self, chosen: Sequence[Example], seed: int, share: float) -> MaskedTexts:
        rng = random.Random(seed)
        tokens, valid = self.processor.texts([rng.choice(example.texts) for example in chosen])
        ids = self.processor.ids
        generator = torch.Generator().manual_seed(seed)
        size = self.processor.tokenizer.vocab_size
        return MaskedTexts(
            tokens, valid, mask_words(tokens, valid, share, ids.mask, size, ids.all, generator)
        )


def _with_codes(data: MaskedData, words: VQKD) -> MaskedData:
    def coded(images: MaskedImages) -> MaskedImages:
        return replace(images, codes_BN=words.codes(images.pixels_BCHW))

    images = None if data.images is None else coded(data.images)
    pairs = None if data.pairs is None else (coded(data.pairs[0]), data.pairs[1])
    return replace(data, images=images, pairs=pairs)


def _blank(images: MaskedImages, patch: int) -> Tensor:
    """Pictures whose hidden patches are grey: the released layout of VLMo has no token for them."""
    grid = images.pixels_BCHW.shape[-1] // patch
    hidden = images.hidden_BN.unflatten(1, (grid, grid))
    large = hidden.repeat_interleave(patch, 1).repeat_interleave(patch, 2)
    return images.pixels_BCHW.masked_fill(large[:, None], 0.0)


@torch.no_grad()
def _mean_loss(objective: Any, unseen: Any, trained: Any) -> dict[str, float]:
    losses = [objective(trained, unseen(step, 0, 1)) for step in range(8)]
    return {"loss": sum(float(one.total) / float(one.weight) for one in losses) / len(losses)}


def _no_export(trained: Any, folder: Any) -> None:
    """Only the last job leaves a model."""


_SMOKE = replace(_TRAIN, steps=8, warmup_steps=2)
RECIPES: Final = {
    "pretrain": Pretraining(),
    "pretrain-smoke": Pretraining(size="tiny", batch_size=8, num_codes=32, scenes=200, train=_SMOKE),
}
"""The presets of `train --preset pretrain --arch`."""
