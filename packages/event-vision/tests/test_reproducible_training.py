"""Two fresh processes train the same bits, for every recipe of this package.

They draw different random numbers before each training, as a program that has done other things does: what is built
from PyTorch's global generator and not from the recipe's seed shows as other bits.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from multiway_event_vision.rendering import write_folder

_SCRIPT = """
import hashlib, json, sys
from pathlib import Path
import numpy as np
import torch
from multiway_core.training import TrainOptions, run
from multiway_event_vision.baselines.dense_cnn import DenseCnnConfig, build as build_dense
from multiway_event_vision.frame_fusion import recipe as frame_fusion
from multiway_event_vision.recurrent import networks, recipe as recurrent
from multiway_event_vision.ssla_det import model as ssla_det
from multiway_event_vision.ssla_det.recipe import RECIPES, detector_job
from multiway_event_vision.ssla_det.shapes_set import shapes_set
from multiway_event_vision.time_replayer import recipe as interpolation

folder, drawn = Path(sys.argv[1]), int(sys.argv[2])

def tensors_of(folder):
    return {"file": np.fromfile(folder / "model.safetensors", np.uint8)}

def detector():
    return tensors_of(run(RECIPES["smoke"], TrainOptions(folder / "detector", seed=5)).folder)

class Taught:
    def build(self, options):
        smoke = RECIPES["smoke"]
        teacher = build_dense(DenseCnnConfig(num_classes=4), seed=1)
        model = ssla_det.build(smoke.model, seed=options.seed)
        config = options.apply(smoke.train)
        return detector_job(model, shapes_set("train", 2), smoke.streams, config, teacher=teacher)

def detector_with_a_teacher():
    return tensors_of(run(Taught(), TrainOptions(folder / "taught", seed=5)).folder)

def interpolator():
    options = TrainOptions(folder / "frames", data=(str(folder.parent / "clip"),), seed=5)
    return tensors_of(run(interpolation.RECIPES["smoke"], options).folder)

def fusion():
    options = TrainOptions(folder / "fusion", data=(str(folder.parent / "clip"),), seed=5)
    return tensors_of(run(frame_fusion.RECIPES["frame-fusion-smoke"], options).folder)

def recurrent_network():
    generator = np.random.default_rng(0)
    frames = generator.integers(0, 2, (24, 4, 2, 8, 8)).astype(np.uint8)
    network = networks.build(networks.NetworkConfig("lstm", size=(8, 8), hidden=8), seed=5)
    config = recurrent.TrainingConfig(passes=2, batch_size=8)
    recurrent.train(network, frames, generator.integers(0, 10, 24), "rate", config, seed=5)
    return network.state_dict()

found = {}
for train in (detector, detector_with_a_teacher, interpolator, fusion, recurrent_network):
    torch.rand(drawn)
    digest = hashlib.sha256()
    for name, tensor in sorted(train().items()):
        digest.update(name.encode() + np.ascontiguousarray(tensor).tobytes())
    found[train.__name__] = digest.hexdigest()
print(json.dumps(found))
"""


def test_two_fresh_processes_train_equal_bits(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 96, 3)).astype(np.uint8).repeat(2, 0).repeat(2, 1)
    write_folder(tmp_path / "clip", ((noise[:48, 2 * n : 48 + 2 * n], 40_000 * n) for n in range(12)))
    runs = []
    # Several threads add gradients up in whatever order they come: equal bits are promised for one thread.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for drawn in (0, 7):
        folder = tmp_path / f"after-{drawn}"
        call = [sys.executable, "-c", _SCRIPT, str(folder), str(drawn)]
        runs.append(
            json.loads(subprocess.run(call, check=True, stdout=subprocess.PIPE, env=environment).stdout)
        )
    assert runs[0] == runs[1]
    assert len(set(runs[0].values())) == 5
