"""LatentLM on digits: does it draw the class it is asked for, and how does it compare with VQ tokens and a DiT?

    python -m benchmarks.text.latent_lm_digits [--work FOLDER] [--minutes 20] [--output DIR]

scikit-learn's 1,797 handwritten digits of 8 x 8 pixels, a quarter held out. Everything is trained here, on one thread.
A picture is 4 x 4 latents of 4 numbers. Three models of the same number of weights learn to draw a class: LatentLM, a
diffusion transformer (DiT) on the same latents, and a causal Transformer of VQ tokens with an encoder and decoder of
the same sizes. Further cells: LatentLM trained with shuffled labels, tokenizers of other variances, the number of
sampling steps, and pictures a second.

A logistic regression trained on real digits (the training part) judges 500 pictures, 50 a class: the share in which it
sees the class that was asked for, and the Frechet distance between its ten logits on them and on the held-out digits.
The work is cut in cells, the most important ones first; a cell that the folder --work holds is not computed again, and
after --minutes of CPU time no new cell is begun.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import harness

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import torch
from multiway_core.training import Loss, Trainer, load_ema_into
from multiway_text.decoders.latent_lm import recipe
from multiway_text.decoders.latent_lm.config import LatentLMConfig, TokenizerConfig
from multiway_text.decoders.latent_lm.generation import Generator, SamplingConfig
from multiway_text.decoders.latent_lm.model import LatentLM
from multiway_text.decoders.latent_lm.processor import LatentLMProcessor
from multiway_text.decoders.latent_lm.tokenizer import PictureTokenizer, Posterior
from sklearn.datasets import load_digits
from torch import Tensor, nn

from benchmarks.text.latent_lm_digits_models import CLASSES, DiT, VQModel, VQTokenizer
from benchmarks.text.latent_lm_digits_report import Judge, markdown, speed

HELD_OUT, PER_CLASS = 450, 50
TOKENIZER_STEPS, STEPS, BATCH = 600, 1200, 32
RATE, EMA = 2e-3, 0.99
GUIDANCES, GUIDANCE = (1.0, 2.0, 4.0), 2.0
NOISE = 0.5
MODEL = LatentLMConfig(
    vocab_size=5 + CLASSES, latent_size=4, hidden_size=64, num_layers=3, num_heads=4, head_layers=2
)
# name -> (variance, C_sigma, weight of the divergence)
TOKENIZERS = {
    "sigma 0.5": ("fixed", 0.5, 1e-2),
    "plain VAE": ("learned", 0.0, 1e-2),
    "sigma 0 (no noise)": ("fixed", 0.0, 1e-2),
    "sigma 0.25": ("fixed", 0.25, 1e-2),
    "sigma 1": ("fixed", 1.0, 1e-2),
}


class Study:
    """The data, the folder of finished cells, and the cells."""

    def __init__(self, work: Path, minutes: float) -> None:
        self.work, self.minutes = work, minutes
        self.cells: dict[str, Any] = {}
        digits = load_digits()
        pixels = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 8 - 1
        labels = torch.tensor(digits.target)
        order = torch.randperm(len(pixels), generator=torch.Generator().manual_seed(0))
        held, kept = order[:HELD_OUT], order[HELD_OUT:]
        self.train, self.train_labels = pixels[kept], labels[kept]
        self.held, self.held_labels = pixels[held], labels[held]
        self.judge = Judge(self.train, self.train_labels, self.held)
        self.asked = torch.arange(PER_CLASS * CLASSES) % CLASSES

    def cell(self, name: str, compute: Callable[[], Any]) -> None:
        path = self.work / f"{name.replace(' ', '-').replace('(', '').replace(')', '')}.json"
        if not path.is_file():
            if time.process_time() / 60 > self.minutes:
                print(f"{name}: left out, the time is over", flush=True)
                return
            start = time.process_time()
            found = compute()
            path.write_text(
                json.dumps({"cpu_seconds": round(time.process_time() - start, 1), "result": found})
            )
        self.cells[name] = json.loads(path.read_text())
        print(name, json.dumps(self.cells[name])[:600], flush=True)

    def tokenizer(self, name: str, seed: int) -> PictureTokenizer:
        variance, noise, weight = TOKENIZERS[name]
        torch.manual_seed(seed)
        model = new_tokenizer(variance, noise, weight)
        config = recipe.train_config(TOKENIZER_STEPS, RATE, seed)
        folder = self.work / f"tokenizer-{name.split(' (')[0].replace(' ', '-')}-{seed}"
        recipe.tokenizer_job(model, self.train, config).fit(folder)
        return model

    def latent_lm(self, name: str, seed: int, *, shuffled: bool = False) -> tuple[LatentLM, PictureTokenizer]:
        tokenizer = self.tokenizer(name, seed)
        torch.manual_seed(seed)
        model, labels = LatentLM(MODEL), self.train_labels
        if shuffled:
            labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))]
        folder = f"latent-lm-{name.split(' (')[0].replace(' ', '-')}-{seed}" + (
            "-shuffled" if shuffled else ""
        )
        config = recipe.train_config(STEPS, RATE, seed, EMA)
        job = recipe.class_conditional_job(model, tokenizer, self.train, labels, config, batch_size=BATCH)
        job.fit(self.work / folder)
        return model, tokenizer

    def draw(self, model: LatentLM, tokenizer: PictureTokenizer, **options: Any) -> Tensor:
        """Pictures of the classes asked for."""
        settings = {"max_tokens": 16, "span_length": 16, "guidance": GUIDANCE, "seed": 1000, **options}
        processor = LatentLMProcessor(model, tokenizer)
        prompts = [processor.write([c], open_span=True)[0] for c in self.asked.tolist()]
        return processor.pictures(Generator(model, SamplingConfig(**settings)).generate(prompts))

    def run_latent_lm(self, name: str, seed: int, *, shuffled: bool = False) -> dict[str, Any]:
        model, tokenizer = self.latent_lm(name, seed, shuffled=shuffled)
        found: dict[str, Any] = {"parameters": count(model), "tokenizer": self.tokenizer_quality(tokenizer)}
        guidances = GUIDANCES if name == "sigma 0.5" and not shuffled else (1.0, GUIDANCE)
        for guidance in guidances:
            found[f"guidance {guidance:g}"] = self.judge(
                self.draw(model, tokenizer, guidance=guidance), self.asked
            )
        return found

    def run_steps(self) -> dict[str, Any]:
        """How many evaluations of the head a latent needs."""
        model, tokenizer = self.latent_lm("sigma 0.5", 0)
        settings = [("dpm", steps) for steps in (5, 10, 20, 50)] + [
            ("ddpm", steps) for steps in (20, 50, 250)
        ]
        return {
            f"{sampler} {steps}": self.judge(
                self.draw(model, tokenizer, sampler=sampler, steps=steps), self.asked
            )
            for sampler, steps in settings
        }

    @torch.no_grad()
    def tokenizer_quality(self, tokenizer: PictureTokenizer) -> dict[str, float]:
        """On held-out digits: mean squared errors, pixels in [-1, 1]; through means, and with noise of 0.5 on them."""
        mean = tokenizer.encode(self.held).mean_BND
        generator = torch.Generator().manual_seed(0)
        noisy = mean + NOISE * mean.std() * torch.randn(mean.shape, generator=generator)
        sampled = tokenizer.sample(tokenizer.encode(self.held), generator)
        error = nn.functional.mse_loss
        return {
            "mse": float(error(tokenizer.decode(mean), self.held)),
            "mse_sampled": float(error(tokenizer.decode(sampled), self.held)),
            "mse_noisy": float(error(tokenizer.decode(noisy), self.held)),
            "mean_std": float(mean.std()),
            "reconstructed_accuracy": self.judge.accuracy(tokenizer.decode(sampled), self.held_labels),
        }

    def run_dit(self, seed: int) -> dict[str, Any]:
        tokenizer = self.tokenizer("sigma 0.5", seed)
        model = new_dit(seed)
        posterior = recipe.encode_all(tokenizer, self.train)
        first = tokenizer.sample(posterior, torch.Generator().manual_seed(seed))
        model.scale.copy_(1 / first.std())
        model.bias.copy_(-first.mean())

        def source(rows: Tensor, generator: torch.Generator) -> Tensor:
            latents = tokenizer.sample(Posterior(posterior.mean_BND[rows], None), generator)
            return (latents + model.bias) * model.scale

        self.fit(model, source, seed, f"dit-{seed}")
        found: dict[str, Any] = {"parameters": count(model)}
        for guidance in GUIDANCES:
            latents = model.sample(self.asked, steps=20, guidance=guidance, seed=1000)
            pictures = tokenizer.decode(latents).clamp(-1, 1).detach()
            found[f"guidance {guidance:g}"] = self.judge(pictures, self.asked)
        return found

    def run_vq(self, seed: int) -> dict[str, Any]:
        torch.manual_seed(seed)
        tokenizer = VQTokenizer(new_tokenizer("fixed", 0.0, 0.0), 128)
        draw = recipe.pick(len(self.train), BATCH, seed)

        def objective(module: nn.Module, pixels: Tensor) -> Loss:
            assert isinstance(module, VQTokenizer)
            loss, error = module.loss(pixels)
            return Loss(loss * len(pixels), len(pixels), {"squared_error": error.detach()})

        config = recipe.train_config(TOKENIZER_STEPS, RATE, seed)
        Trainer(
            tokenizer, objective, lambda s, d, n: self.train[draw(s, d)], config, self.work / f"vq-{seed}"
        ).fit()
        tokenizer.eval()
        with torch.no_grad():
            means = tokenizer.tokenizer.encode(self.held).mean_BND
            restored = tokenizer.tokenizer.decode(tokenizer.codes[tokenizer.nearest(means)])
            codes = tokenizer.nearest(recipe.encode_all(tokenizer.tokenizer, self.train).mean_BND)
        model = new_vq_model(seed)
        self.fit(model, lambda rows, generator: codes[rows], seed, f"vq-model-{seed}")
        found: dict[str, Any] = {
            "parameters": count(model),
            "tokenizer": {
                "mse": float(nn.functional.mse_loss(restored, self.held)),
                "codes_used": int(codes.unique().numel()),
                "reconstructed_accuracy": self.judge.accuracy(restored, self.held_labels),
            },
        }
        for guidance in GUIDANCES:
            chosen = model.sample(self.asked, 16, guidance=guidance, seed=1000)
            with torch.no_grad():
                pictures = tokenizer.tokenizer.decode(tokenizer.codes[chosen]).clamp(-1, 1)
            found[f"guidance {guidance:g}"] = self.judge(pictures, self.asked)
        return found

    def fit(self, model: nn.Module, source: Callable[..., Tensor], seed: int, name: str) -> None:
        """Train ``model.loss(data, classes)`` with the same steps, batches and class dropout as LatentLM."""
        draw = recipe.pick(len(self.train), BATCH, seed)

        def batches(step: int, shard: int, num_shards: int) -> tuple[Tensor, Tensor]:
            rows = draw(step, shard)
            generator = torch.Generator().manual_seed(seed * 1_000_003 + step * 97 + shard + 1)
            data = source(rows, generator)
            hidden = torch.rand(len(rows), generator=generator) < recipe.CLASS_DROPOUT
            return data, torch.where(hidden, CLASSES, self.train_labels[rows])

        def objective(module: nn.Module, item: tuple[Tensor, Tensor]) -> Loss:
            return Loss(module.loss(*item) * BATCH, BATCH, {}, BATCH)

        Trainer(
            model, objective, batches, recipe.train_config(STEPS, RATE, seed, EMA), self.work / name
        ).fit()
        load_ema_into(model, self.work / name)
        model.eval()


def new_tokenizer(variance: str, noise: float, weight: float) -> PictureTokenizer:
    config = TokenizerConfig(
        image_size=8, num_channels=1, patch_size=2, latent_size=4, hidden_size=48, num_layers=2, num_heads=4,
        inner_size=96, variance=variance, noise_std=noise, mean_weight=weight,
    )  # fmt: skip
    return PictureTokenizer(config)


def new_dit(seed: int) -> DiT:
    torch.manual_seed(seed)
    return DiT(4, 16, hidden_size=56, num_layers=4, num_heads=4)


def new_vq_model(seed: int) -> VQModel:
    torch.manual_seed(seed)
    return VQModel(128, hidden_size=64, num_layers=5, num_heads=4, inner_size=128)


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def main() -> None:
    parser = harness.parser(__doc__, "text")
    parser.add_argument("--work", type=Path, default=Path("runs/latent-lm-digits"))
    parser.add_argument("--minutes", type=float, default=20.0, help="of CPU time, after which no cell begins")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.work.mkdir(parents=True, exist_ok=True)
    study = Study(options.work, options.minutes)
    study.cell("real digits", lambda: study.judge.real(study.held_labels))
    study.cell("LatentLM, seed 0", lambda: study.run_latent_lm("sigma 0.5", 0))
    study.cell("DiT, seed 0", lambda: study.run_dit(0))
    study.cell("VQ tokens, seed 0", lambda: study.run_vq(0))
    study.cell("steps", study.run_steps)
    study.cell("speed", lambda: speed(LatentLM(MODEL), new_dit(0)))
    for name in list(TOKENIZERS)[1:]:
        study.cell(f"tokenizer {name}", lambda name=name: study.run_latent_lm(name, 0))
    study.cell("shuffled labels", lambda: study.run_latent_lm("sigma 0.5", 0, shuffled=True))
    for seed in (1, 2):
        study.cell(f"LatentLM, seed {seed}", lambda seed=seed: study.run_latent_lm("sigma 0.5", seed))
        study.cell(f"DiT, seed {seed}", lambda seed=seed: study.run_dit(seed))
        study.cell(f"VQ tokens, seed {seed}", lambda seed=seed: study.run_vq(seed))
    report = {
        **harness.provenance("latent-lm-digits"),
        "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "sizes": {"tokenizer_steps": TOKENIZER_STEPS, "steps": STEPS, "batch": BATCH, "held_out": HELD_OUT},
        "cells": study.cells,
    }
    harness.save(options.output, "latent-lm-digits", report, markdown(report))
    print(markdown(report))


if __name__ == "__main__":
    main()
