"""The released `.pth` files of BEiT-3 <-> the models here; sizes and task are read from the tensors.

`A` of the files is the image's copy and `B` the text's. Files are read with `torch.load(weights_only=True)`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from multiway_core import checkpoint
from multiway_core.checkpoint import Rule, RuleTable
from multiway_core.errors import CheckpointError
from torch import Tensor, nn

from multiway_vision_language.beit3.config import BASE
from multiway_vision_language.beit3.model import (
    BEiT3ForCaptioning,
    BEiT3ForImageNet,
    BEiT3ForNLVR2,
    BEiT3ForRetrieval,
    BEiT3ForVQA,
)
from multiway_vision_language.multiway.config import MultiwayConfig
from multiway_vision_language.multiway.embeddings import OFFSET, resize_grid
from multiway_vision_language.multiway.tasks import Task

_THEIRS, _OURS = "beit3.encoder.layers.{i}.", "backbone.stack.layers.{i}."
_PROJECTIONS = {"q_proj": "query", "k_proj": "key", "v_proj": "value", "out_proj": "output"}


def _expert_rules(letter: str, expert: str) -> list[Rule]:
    """Rules of one modality's copies."""
    own = f"experts.{expert}."
    norms = {"self_attn_layer_norm": "attention_norm", "final_layer_norm": "feedforward_norm"}
    parts = {"fc1": "up", "fc2": "down", "ffn_layernorm": "norm"}
    positions = "image_positions" if letter == "A" else "text_positions"
    return [
        Rule(f"beit3.encoder.embed_positions.{letter}.weight", f"backbone.{positions}.weight"),
        *(
            Rule(f"{_THEIRS}self_attn.{theirs}.{letter}.{{x}}", f"{_OURS}attention.{ours}.{own}{{x}}")
            for theirs, ours in {**_PROJECTIONS, "inner_attn_ln": "norm"}.items()
        ),
        *(
            Rule(f"{_THEIRS}{theirs}.{letter}.{{x}}", f"{_OURS}{ours}.{own}{{x}}")
            for theirs, ours in norms.items()
        ),
        *(
            Rule(f"{_THEIRS}ffn.{letter}.{theirs}.{{x}}", f"{_OURS}feedforward.{own}{ours}.{{x}}")
            for theirs, ours in parts.items()
        ),
        Rule(f"beit3.encoder.layer_norm.{letter}.{{x}}", f"backbone.stack.norm.{own}{{x}}"),
    ]


BACKBONE = [
    Rule("beit3.text_embed.weight", "backbone.text_embedding.weight"),
    Rule("beit3.vision_embed.cls_token", "backbone.image_embedding.class_token"),
    Rule("beit3.vision_embed.mask_token", "backbone.image_embedding.mask_token"),
    Rule("beit3.vision_embed.proj.{x}", "backbone.image_embedding.projection.{x}"),
    *_expert_rules("A", "image"),
    *_expert_rules("B", "text"),
]
"""Names of the trunk."""
HEADS: dict[Task, list[Rule]] = {
    "retrieval": [
        Rule("vision_head.weight", "heads.image.weight"),
        Rule("language_head.weight", "heads.text.weight"),
        Rule("logit_scale", "heads.logit_scale"),
    ],
    "vqa": [
        Rule("pooler.{x*}", "pooler.{x*}"),
        Rule("head.0.{x}", "head.dense1.{x}"),
        Rule("head.1.{x}", "head.norm2.{x}"),
        Rule("head.3.{x}", "head.dense2.{x}"),
    ],
    "nlvr2": [Rule("head.{part}.{x}", "head.{part}.{x}")],
    "imagenet": [Rule("fc_norm.{x}", "norm.{x}"), Rule("head.{x}", "head.{x}")],
    "caption": [Rule("mlm_head.{x}", "mlm_head.{x}")],
}
"""Names of the heads, by task."""
_SIGNS: dict[Task, str] = {
    "retrieval": "language_head.weight",
    "vqa": "head.3.weight",
    "nlvr2": "head.dense2.weight",
    "imagenet": "fc_norm.weight",
    "caption": "mlm_head.weight",
}


@dataclass(frozen=True)
class Published:
    """What a released file is for, and the score its authors report for it."""

    task: str
    image_size: int
    score: str


PUBLISHED = {
    "beit3_base_patch16_224": Published("pre-trained, to be fine-tuned", 224, ""),
    "beit3_large_patch16_224": Published("pre-trained, to be fine-tuned", 224, ""),
    "beit3_base_itc_patch16_224": Published("retrieval, not fine-tuned", 224, ""),
    "beit3_large_itc_patch16_224": Published("retrieval, not fine-tuned", 224, ""),
    "beit3_base_patch16_224_in1k": Published("imagenet", 224, "85.4 % of ImageNet-1k"),
    "beit3_large_patch16_224_in1k": Published("imagenet", 224, "87.6 % of ImageNet-1k"),
    "beit3_base_patch16_480_vqa": Published("vqa", 480, "77.65 on VQAv2 test-dev"),
    "beit3_base_indomain_patch16_480_vqa": Published("vqa", 480, "78.46 on VQAv2 test-dev"),
    "beit3_large_patch16_480_vqa": Published("vqa", 480, "81.85 on VQAv2 test-dev"),
    "beit3_large_indomain_patch16_480_vqa": Published("vqa", 480, "82.53 on VQAv2 test-dev"),
    "beit3_large_indomain_patch16_768_vgqaaug_vqa": Published("vqa", 768, "82.97 on VQAv2 test-dev"),
    "beit3_base_patch16_224_nlvr2": Published("nlvr2", 224, "84.4 on NLVR2 test-P"),
    "beit3_base_indomain_patch16_224_nlvr2": Published("nlvr2", 224, "85.3 on NLVR2 test-P"),
    "beit3_large_patch16_224_nlvr2": Published("nlvr2", 224, "89.4 on NLVR2 test-P"),
    "beit3_large_indomain_patch16_224_nlvr2": Published("nlvr2", 224, "90.0 on NLVR2 test-P"),
    "beit3_base_patch16_480_coco_captioning": Published("caption", 480, "CIDEr 133.6 on COCO"),
    "beit3_large_patch16_480_coco_captioning": Published("caption", 480, "CIDEr 143.2 on COCO"),
    "beit3_base_patch16_480_nocaps": Published("caption", 480, "CIDEr 104.4 on NoCaps"),
    "beit3_large_patch16_480_nocaps": Published("caption", 480, "CIDEr 120.2 on NoCaps"),
    "beit3_base_patch16_384_coco_retrieval": Published("retrieval", 384, "COCO text R@1 79.1, image 61.4"),
    "beit3_large_patch16_384_coco_retrieval": Published("retrieval", 384, "COCO text R@1 82.1, image 63.4"),
    "beit3_base_patch16_384_f30k_retrieval": Published("retrieval", 384, "Flickr30k R@1 96.3, image 86.2"),
    "beit3_large_patch16_384_f30k_retrieval": Published("retrieval", 384, "Flickr30k R@1 97.2, image 88.1"),
}
"""The released files. The paper's table is of the giant model, which no file holds."""


def find_task(tensors: Mapping[str, Tensor]) -> Task | None:
    """The task of a file by its head; None for one that is only pre-trained."""
    return next((task for task, name in _SIGNS.items() if name in tensors), None)


def read_config(tensors: Mapping[str, Tensor], path: Path, *, num_heads: int | None = None) -> MultiwayConfig:
    """The sizes of a released file. Heads of attention have 64 channels unless ``num_heads`` says otherwise.

    Raises CheckpointError: it is no BEiT-3.
    """
    try:
        projection = tensors["beit3.vision_embed.proj.weight"]
        vocabulary, width = tensors["beit3.text_embed.weight"].shape
        rows = len(tensors["beit3.encoder.embed_positions.A.weight"])
        inner = len(tensors["beit3.encoder.layers.0.ffn.A.fc1.weight"])
        text_rows = len(tensors["beit3.encoder.embed_positions.B.weight"])
    except KeyError as error:
        raise CheckpointError(f"{path}: no BEiT-3, it lacks {error}") from error
    layers = {name.split(".")[3] for name in tensors if name.startswith("beit3.encoder.layers.")}
    grid = round((rows - OFFSET - 1) ** 0.5)
    return replace(
        BASE,
        vocab_size=vocabulary,
        hidden_size=width,
        num_layers=len(layers),
        num_heads=num_heads or max(1, width // 64),
        inner_size=inner,
        image_size=grid * projection.shape[2],
        patch_size=projection.shape[2],
        num_channels=projection.shape[1],
        max_text=text_rows - OFFSET,
        final_norm="beit3.encoder.layer_norm.A.weight" in tensors,
    )


def new_model(config: MultiwayConfig, task: Task, labels: int = 0) -> nn.Module:
    """The network for a task."""
    if task == "vqa":
        return BEiT3ForVQA(config, labels)
    if task == "nlvr2":
        return BEiT3ForNLVR2(config, labels or 2)
    if task == "imagenet":
        return BEiT3ForImageNet(config, labels)
    return BEiT3ForRetrieval(config) if task == "retrieval" else BEiT3ForCaptioning(config)


def task_of(model: nn.Module) -> Task:
    """The task of a network of :func:`new_model`."""
    kinds: dict[type[nn.Module], Task] = {
        BEiT3ForRetrieval: "retrieval",
        BEiT3ForVQA: "vqa",
        BEiT3ForNLVR2: "nlvr2",
        BEiT3ForImageNet: "imagenet",
        BEiT3ForCaptioning: "caption",
    }
    return kinds[type(model)]


def load_published(
    path: Path,
    task: Task | None = None,
    *,
    image_size: int | None = None,
    labels: int = 0,
    num_heads: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> nn.Module:
    """A released file as the network of its task, or of ``task`` with a new head, in evaluation mode.

    Args:
        image_size: of the pictures that it shall take; positions are interpolated.
        labels: of a new head.

    Raises CheckpointError: unreadable, unsafe, no BEiT-3, or (``task`` is None) a file without a head; it says what the
    published file is for.
    """
    tensors = dict(checkpoint.read(path))
    found = find_task(tensors)
    task = task or found
    if task is None:
        raise CheckpointError(f"{path} has no head for any task; fine-tune it first{_advice(path)}")
    if found != task:  # another head, or none: only the trunk is taken
        tensors = {name: tensor for name, tensor in tensors.items() if name.startswith("beit3.")}
    else:
        labels = len(tensors["head.weight" if task == "imagenet" else _SIGNS[task]])
    config = read_config(tensors, path, num_heads=num_heads)
    if image_size is not None and image_size != config.image_size:
        config = replace(config, image_size=image_size)
        name = "beit3.encoder.embed_positions.A.weight"
        tensors[name] = resize_grid(tensors[name], OFFSET + 1, config.grid)
    if task != found:
        config = replace(config, final_norm=True)
    model = new_model(config, task, labels)
    optional = (
        () if task == found else ("heads.{x*}", "head.{x*}", "pooler.{x*}", "norm.{x*}", "mlm_head.{x*}")
    )
    norms = ("backbone.stack.norm.{x*}",) if task != found else ()
    rules = RuleTable(BACKBONE + HEADS[task], dropped=_dropped(model))
    checkpoint.load(model, path, rules=rules, dtype=dtype, optional=(*optional, *norms), tensors=tensors)
    return model.eval()


def _dropped(model: nn.Module) -> list[str]:
    """The last norm of a file, where the network has none."""
    config = model.config
    assert isinstance(config, MultiwayConfig)
    return [] if config.final_norm else ["beit3.encoder.layer_norm.{x*}"]


def _advice(path: Path) -> str:
    own = PUBLISHED.get(Path(path).stem)
    tuned = ", ".join(
        f"{name}.pth ({of.task})" for name, of in PUBLISHED.items() if of.score and "base" in name
    )
    what = f" ({Path(path).stem} is {own.task})" if own else ""
    return f"{what}. Released for a task: {tuned}"


def wrong_task(path: Path | str, task: str, wanted: str) -> str:
    """One line for a model whose head is for something else."""
    fitting = [f"{name}.pth ({of.score})" for name, of in PUBLISHED.items() if of.task == wanted]
    released = f"; released for {wanted}: {', '.join(fitting)}" if fitting else ""
    return f"{path} is a model for {task}, not for {wanted}{released}"
