"""The judge of drawn digits, pictures a second, and the page of `latent_lm_digits.py`."""

from __future__ import annotations

import statistics
import time
from typing import Any

import numpy as np
import torch
from multiway_text.decoders.latent_lm.config import LatentLMConfig
from multiway_text.decoders.latent_lm.generation import Generator, SamplingConfig
from multiway_text.decoders.latent_lm.model import LatentLM
from scipy.linalg import sqrtm
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from benchmarks.text.latent_lm_digits_models import CLASSES, DiT

ROUNDS = 5


class Judge:
    """A logistic regression of real digits (the training part)."""

    def __init__(self, train: Tensor, labels: Tensor, held: Tensor) -> None:
        self.train, self.held = train.flatten(1), held.flatten(1)
        self.classifier = LogisticRegression(C=0.05, max_iter=2000).fit(self.train, labels)

    def accuracy(self, pictures: Tensor, labels: Tensor) -> float:
        return float(self.classifier.score(pictures.detach().flatten(1), labels))

    def frechet(self, pictures: Tensor) -> float:
        """Between normal distributions fitted to the ten logits of pictures and of held-out digits."""
        a, b = (self.classifier.decision_function(x.flatten(1)) for x in (pictures, self.held))
        first, second = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
        root = np.trace(sqrtm(first @ second).real)
        return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(first) + np.trace(second) - 2 * root)

    def copying(self, pictures: Tensor) -> float:
        """Median distance to the nearest training digit, over that of held-out digits: far below 1 is copying."""
        near = torch.cdist(pictures.flatten(1), self.train).amin(dim=1).median()
        return float(near / torch.cdist(self.held, self.train).amin(dim=1).median())

    def __call__(self, pictures: Tensor, asked: Tensor) -> dict[str, float]:
        other = asked[torch.randperm(len(asked), generator=torch.Generator().manual_seed(1))]
        return {
            "accuracy": self.accuracy(pictures, asked),
            "accuracy_permuted": self.accuracy(pictures, other),
            "frechet": self.frechet(pictures),
            "nearest": self.copying(pictures),
        }

    def real(self, labels: Tensor) -> dict[str, float]:
        """The judge on held-out digits, and how far training digits are from them."""
        return {"accuracy": self.accuracy(self.held, labels), "frechet_train": self.frechet(self.train)}


def speed(small: LatentLM, small_dit: DiT) -> list[dict[str, Any]]:
    """Pictures a second at 20 steps with guidance: CPU time, medians of interleaved rounds; untrained weights do."""
    torch.manual_seed(0)
    mid = LatentLMConfig(
        vocab_size=5 + CLASSES, latent_size=4, hidden_size=192, num_layers=6, num_heads=6, head_layers=3
    )
    pairs = [
        ("digits", small.eval(), small_dit.eval(), (1, 16, 128)),
        ("mid", LatentLM(mid).eval(), DiT(4, 16, 192, 6, 6).eval(), (8,)),
    ]
    lines = []
    for name, model, dit, batches in pairs:
        sampler = Generator(model, SamplingConfig(max_tokens=16, span_length=16, guidance=2.0))
        for batch in batches:
            classes = torch.arange(batch) % CLASSES
            prompts = [torch.tensor([5 + c, 0]) for c in classes.tolist()]
            taken: dict[str, list[float]] = {"LatentLM": [], "DiT": []}
            for number in range(ROUNDS + 1):
                for which in taken:
                    start = time.process_time()
                    if which == "DiT":
                        dit.sample(classes, steps=20, guidance=2.0, seed=0)
                    else:
                        sampler.generate(prompts)
                    if number:  # the first round warms up
                        taken[which].append(time.process_time() - start)
            rates = {which: batch / statistics.median(times) for which, times in taken.items()}
            sizes = {"LatentLM": _count(model), "DiT": _count(dit)}
            lines.append({"size": name, "batch": batch, "parameters": sizes, "pictures_per_second": rates})
    return lines


def _count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def markdown(report: dict[str, Any]) -> str:
    """The page."""
    cells = {name: cell["result"] for name, cell in report["cells"].items()}
    cpu = sum(cell["cpu_seconds"] for cell in report["cells"].values())
    sizes, machine = report["sizes"], report["machine"]
    parts = [
        "# LatentLM on digits\n",
        f"scikit-learn's digits, {sizes['held_out']} held out. Tokenizers {sizes['tokenizer_steps']} steps, models "
        f"{sizes['steps']} steps of {sizes['batch']} pictures. One thread of {machine['cpu']} at a load of "
        f"{machine['load_average']:.0f}, {cpu:.0f} CPU seconds in all, {report['finished_at']}; "
        f"`{report['command']}`. 500 pictures a line, 20 steps unless said.\n",
    ]
    if real := cells.get("real digits"):
        parts.append(
            f"The judge is right on {_percent(real['accuracy'])} % of the held-out digits; the Frechet distance of the "
            f"training digits from them is {real['frechet_train']:.2f}.\n"
        )
    parts += ["## Models, means ± standard deviations over seeds\n", *_models(cells), ""]
    if steps := cells.get("steps"):
        parts += ["## Steps of the sampler (LatentLM, seed 0, guidance 2)\n"]
        parts += _table(
            ["sampler", "accuracy %", "Frechet", "nearest"], [[n, *_scores(s)] for n, s in steps.items()]
        )
    parts += ["", "## Variance of the tokenizer (seed 0)\n", *_tokenizers(cells), ""]
    if lines := cells.get("speed"):
        parts += ["## Pictures a second, 20 steps, guidance 2\n", *_speed(lines), ""]
    return "\n".join(parts)


def _models(cells: dict[str, Any]) -> list[str]:
    """A line for each model and guidance, means and standard deviations over its seeds."""
    of_model: dict[str, list[dict[str, Any]]] = {}
    for name, found in cells.items():
        if name.startswith(("LatentLM", "DiT", "VQ", "shuffled")):
            of_model.setdefault(name.split(", seed")[0], []).append(found)
    rows = []
    for name, seeds in of_model.items():
        for setting in (key for key in seeds[0] if key.startswith("guidance")):
            scores = [found[setting] for found in seeds]
            shown = [
                _over_seeds([100 * score["accuracy"] for score in scores], 1),
                _over_seeds([score["frechet"] for score in scores], 2),
                _over_seeds([score["nearest"] for score in scores], 2),
                _over_seeds([100 * score["accuracy_permuted"] for score in scores], 1),
            ]
            rows.append([name, str(len(seeds)), f"{seeds[0]['parameters']:,}", setting[9:], *shown])
    head = ["model", "seeds", "weights", "guidance", "accuracy %", "Frechet", "nearest"]
    return _table([*head, "accuracy, labels permuted %"], rows)


def _over_seeds(values: list[float], digits: int) -> str:
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{spread}"


def _tokenizers(cells: dict[str, Any]) -> list[str]:
    rows = []
    for name, found in cells.items():
        kind = {"LatentLM, seed 0": "sigma 0.5"}.get(name, name.removeprefix("tokenizer "))
        if kind == name and not name.startswith("tokenizer"):
            continue
        quality = found["tokenizer"]
        errors = [f"{quality[key]:.4f}" for key in ("mse", "mse_sampled", "mse_noisy")]
        scores = [found[f"guidance {g}"] for g in ("1", "2")]
        last = [f"{_percent(s['accuracy'])} / {s['frechet']:.2f}" for s in scores]
        rows.append([kind, *errors, f"{quality['mean_std']:.2f}", *last])
    head = ["tokenizer", "MSE of means", "MSE sampled", "MSE, means + noise of half their deviation"]
    return _table(
        [*head, "deviation of means", "LatentLM, guidance 1: accuracy % / Frechet", "guidance 2"], rows
    )


def _speed(lines: list[dict[str, Any]]) -> list[str]:
    rows = []
    for line in lines:
        rates, sizes = line["pictures_per_second"], line["parameters"]
        weights = f"{sizes['LatentLM']:,} / {sizes['DiT']:,}"
        shown = [f"{rates[which]:.3g}" for which in ("LatentLM", "DiT")]
        ratio = f"{rates['LatentLM'] / rates['DiT']:.2f}x"
        rows.append([line["size"], weights, str(line["batch"]), *shown, ratio])
    return _table(["size", "weights, LatentLM / DiT", "batch", "LatentLM", "DiT", "LatentLM faster by"], rows)


def _scores(scores: dict[str, float]) -> list[str]:
    return [_percent(scores["accuracy"]), f"{scores['frechet']:.2f}", f"{scores['nearest']:.2f}"]


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(line) + " |" for line in lines]
