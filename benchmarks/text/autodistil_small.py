"""AutoDistil in small: does the loss with inherited weights tell which member is best, and do partitions help?

    python -m benchmarks.text.autodistil_small --teacher MODEL --descriptions FOLDER [--work FOLDER] [--seeds 1]

Teacher: the published all-MiniLM-L6-v2. Super-networks on package descriptions: the space `micro` (16 members), and a
joint space that holds the members of `micro` and `mini`, trained as many steps. The eight members of `micro` whose
feed-forward network is twice as wide as they are are also trained alone for as many steps, each from the teacher's
slices. So are the shape that one takes by hand, MiniLM's proportions (heads add up to the width, a feed-forward network
four times as wide), and the member of its size that the search finds. All are judged by the distillation loss on
packages of other sources. Networks that the folder --work holds are not trained again; after --minutes none is begun.
"""

from __future__ import annotations

import os
import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import harness

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import numpy as np
import torch
from multiway_core import hub
from multiway_core.training import TrainOptions, run
from multiway_text.autodistil import recipe
from multiway_text.autodistil.objective import SandwichDistillation
from multiway_text.autodistil.search import Search
from multiway_text.autodistil.space import SPACES, Space, Subnet, parameters, shape
from multiway_text.documents import documents
from multiway_text.encoder.sentence import SentenceModel
from multiway_text.sequences import Rows, SequenceBatches, Sequences

LENGTH, ROWS, BATCH_TOKENS, SCORED = 64, 6000, 2048, 8
MICRO = SPACES["micro"]
JOINT = Space((2, 3, 4), (3, 6, 9), (96, 144, 192), (2.0, 3.0))
MEMBERS = MICRO.subnets()
ALONE = MEMBERS[::2]
HAND_MADE = Subnet(2, 3, 96, 4.0)
TOLERANCE = 1.001  # of the hand-made student's parameters: biases and norms differ by some hundred


def alone(member: Subnet) -> Space:
    """A space of one member."""
    return Space((member.layers,), (member.heads,), (member.hidden_size,), (member.ratio,))


def spearman(first: list[float], second: list[float]) -> float:
    """Of values that are all different."""
    ranks = [np.array(values).argsort().argsort() for values in (first, second)]
    return float(np.corrcoef(*ranks)[0, 1])


class OutOfTimeError(Exception):
    """Another run goes on from here."""


class Study:
    """Networks of one seed, trained once, and their losses on held-out batches."""

    def __init__(
        self, teacher: str, descriptions: Path, work: Path, seed: int, steps: int, end: float
    ) -> None:
        self.name, self.data, self.work, self.seed, self.steps = teacher, descriptions, work, seed, steps
        self.end = end
        sentence = SentenceModel.load(hub.resolve(teacher))
        self.teacher = sentence.encoder
        texts = (one.text for one in documents((str(descriptions / "test.jsonl"),), field="body"))
        rows = Sequences.encode(texts, sentence.tokenizer, LENGTH, max_rows=2000)
        batches = SequenceBatches(rows, BATCH_TOKENS, pad=self.teacher.config.pad_id)
        self.batches: list[Rows] = [batches(step, 0, 1) for step in range(SCORED)]
        self.seconds: dict[str, float] = {}

    def train(self, name: str, space: Space) -> Path:
        """The folder of a super-network. Raises OutOfTimeError."""
        output = self.work / f"{name}-{self.seed}-{self.steps}"
        timed = output / "cpu_seconds"
        if not timed.is_file():
            if time.monotonic() > self.end:
                raise OutOfTimeError
            base = recipe.RECIPES["autodistil-mini"]
            numbers = replace(
                base,
                teacher=self.name,
                space=space,
                length=LENGTH,
                batch_tokens=BATCH_TOKENS,
                max_rows=ROWS,
                field="body",
                train=replace(base.train, steps=self.steps, warmup_steps=self.steps // 10),
            )
            started = time.process_time()
            data = (str(self.data / "train.jsonl"),)
            if not run(numbers, TrainOptions(output, data=data, seed=self.seed)).finished:
                raise OutOfTimeError
            timed.write_text(str(time.process_time() - started))
        self.seconds[name] = float(timed.read_text())
        return output / "model"

    def losses(self, folder: Path, members: list[Subnet]) -> list[float]:
        """Held-out losses of members with the weights of a network."""
        network, space, _ = recipe.load(str(folder))
        search = Search(network, SandwichDistillation(self.teacher, space), self.batches)
        return [search.score(member, SCORED).loss for member in members]

    def loss_alone(self, member: Subnet) -> float:
        """Held-out loss of a member that was trained by itself."""
        return self.losses(self.train(str(member), alone(member)), [member])[0]

    def parameters(self, member: Subnet) -> int:
        """Of a member."""
        config = self.teacher.config
        return parameters(shape(member, config, config.attention_head_size))

    def results(self) -> dict[str, Any]:
        """All losses of the seed, and what the two ways to choose cost in CPU seconds. Raises OutOfTimeError."""
        folder = self.train("micro", MICRO)
        started = time.process_time()
        inherited = dict(zip(MEMBERS, self.losses(folder, MEMBERS), strict=True))
        score_seconds = (time.process_time() - started) / len(MEMBERS)
        joint = dict(zip(MEMBERS, self.losses(self.train("joint", JOINT), MEMBERS), strict=True))
        retrained = {member: self.loss_alone(member) for member in ALONE}
        budget = TOLERANCE * self.parameters(HAND_MADE)
        searched = min((m for m in MEMBERS if self.parameters(m) <= budget), key=inherited.__getitem__)
        by_alone = list(retrained.values())
        return {
            "seed": self.seed,
            "inherited": {str(m): loss for m, loss in inherited.items()},
            "joint": {str(m): loss for m, loss in joint.items()},
            "retrained": {str(m): loss for m, loss in retrained.items()},
            "spearman": {
                "inherited": spearman([inherited[m] for m in ALONE], by_alone),
                "inherited, joint space": spearman([joint[m] for m in ALONE], by_alone),
                "fewer parameters": spearman([-self.parameters(m) for m in ALONE], by_alone),
            },
            "hand_made": {"member": str(HAND_MADE), "loss": self.loss_alone(HAND_MADE)},
            "searched": {
                "member": str(searched),
                "inherited": inherited[searched],
                "loss": self.loss_alone(searched),
            },
            "cpu_seconds": self.seconds,
            "score_cpu_seconds": score_seconds,
        }


def main() -> None:
    """Train what is missing, and write the page."""
    parser = harness.parser(__doc__, "text")
    parser.add_argument("--teacher", required=True)
    parser.add_argument("--descriptions", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("autodistil-small"))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--minutes", type=float, default=7.0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    end = time.monotonic() + 60 * options.minutes
    found = []
    for seed in range(options.seeds):
        study = Study(options.teacher, options.descriptions, options.work, seed, options.steps, end)
        try:
            found.append(study.results())
        except OutOfTimeError:
            print(f"seed {seed}: {len(study.seconds)} networks are there; run again", flush=True)
            return
    sizes = {str(m): study.parameters(m) for m in MEMBERS}
    page = _page(found, sizes, options.steps)
    report = {**harness.provenance("autodistil-small"), "parameters": sizes, "seeds": found}
    harness.save(options.output, "autodistil-small", report, page)


def _page(found: list[dict[str, Any]], sizes: dict[str, int], steps: int) -> str:
    def mean(kind: str, member: str) -> str:
        losses = [one[kind][member] for one in found if member in one[kind]]
        return f"{statistics.mean(losses):.4f}" if losses else ""

    kinds = ("inherited", "joint", "retrained")
    members = [
        [name, f"{size / 1e6:.2f} M", *(mean(kind, name) for kind in kinds)] for name, size in sizes.items()
    ]
    claims = []
    for one in found:
        better = [one["inherited"][name] < one["joint"][name] for name in sizes]
        claims.append(
            [one["seed"]]
            + [f"{value:.2f}" for value in one["spearman"].values()]
            + [f"{sum(better)} of {len(better)}"]
            + [f"{one[kind]['member']} {one[kind]['loss']:.4f}" for kind in ("searched", "hand_made")]
        )
    network = statistics.mean(one["cpu_seconds"]["micro"] for one in found)
    score = statistics.mean(one["score_cpu_seconds"] for one in found)
    single = statistics.mean(one["cpu_seconds"][str(member)] for one in found for member in ALONE)
    columns = ["member", "parameters", "inherited", "inherited, joint space", "trained alone"]
    heads = ["seed", *(f"Spearman, {name}" for name in found[0]["spearman"]), "partition below joint space"]
    heads += ["searched, alone", "made by hand, alone"]
    return (
        f"# AutoDistil in small\n\nHeld-out distillation loss (nats) on {SCORED} batches of {BATCH_TOKENS} tokens of "
        f"package descriptions of other sources; {steps} steps of training each, mean of {len(found)} seed(s). "
        f"{harness.machine()['cpu']}, one thread; `{harness.command()}`.\n\n{harness.table(columns, members)}\n\n"
        f"Spearman's correlations are with the loss when trained alone, over {len(ALONE)} members.\n\n"
        f"{harness.table(heads, claims)}\n\n"
        f"CPU seconds: the super-network {network:.0f} and {score:.1f} a member's score; a member alone {single:.0f}. "
        f"So {len(MEMBERS)} members cost {network + len(MEMBERS) * score:.0f} by search and would cost "
        f"{len(MEMBERS) * single:.0f} one by one ({len(ALONE)} measured, the rest by their mean).\n"
    )


if __name__ == "__main__":
    main()
