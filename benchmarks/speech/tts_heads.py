"""Next-token diffusion against its alternatives: the same language model, three heads that turn its states into frames.

    python -m benchmarks.speech.tts_heads --model bundled:tts-tiny --corpus tts.npz --out heads --steps 600 --texts 16

The model is frozen as it was trained; on its states before every frame are trained

* **mean**: a network that predicts the frame, by squared error (what a regression head does);
* **bins**: a network that predicts, for each of the 64 numbers of a frame by itself, one of 64 bins, by cross-entropy,
  and samples it (what a language model of discrete tokens does, without a tokenizer of its own);
* **diffusion**: a head like the model's, from the beginning, with as many steps: the model's own had far more.

Each has about as many weights as the model's head. Then held-out sentences are spoken with each, and with the model's
own head, into folders of WAV files beside ``texts.jsonl``: ``multiway-tts evaluate texts.jsonl --reference FOLDER``.

Shape suffixes: B batch, N frames, R rows of both contexts, D latent size, E hidden size, Q bins.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import soundfile
import torch
from multiway_blocks.diffusion import DiffusionHead
from multiway_blocks.guided_sampling import LatentSampler
from multiway_blocks.next_token_diffusion import next_token_diffusion_loss
from multiway_core.tokenization import TextTokenizer
from multiway_speech.vibevoice import corpus as corpora
from multiway_speech.vibevoice import generation
from multiway_speech.vibevoice.model import VibeVoice
from multiway_speech.vibevoice.objective import read_batch
from multiway_speech.vibevoice.phone_tokenizer import new_tokenizer
from multiway_speech.vibevoice.pipeline import SpeechOptions, TtsPipeline
from multiway_speech.vibevoice.sequences import SequenceConfig, Sequences
from torch import Tensor, nn

from benchmarks import harness

BINS, WIDEST = 64, 4.0
"""Bins of equal width over so many deviations on both sides."""


class Network(nn.Module):
    """Three hidden layers from a state to ``size`` numbers."""

    def __init__(self, hidden_size: int, inner_size: int, size: int) -> None:
        super().__init__()
        sizes = (hidden_size, inner_size, inner_size, inner_size)
        layers = [layer for i, o in pairwise(sizes) for layer in (nn.Linear(i, o), nn.SiLU())]
        self.layers = nn.Sequential(nn.LayerNorm(hidden_size), *layers, nn.Linear(inner_size, size))

    def forward(self, hidden_RE: Tensor) -> Tensor:
        return self.layers(hidden_RE)


def guided(values_RX: Tensor, count: int, guidance: float) -> Tensor:
    """What both contexts say, combined as the diffusion head's velocities are."""
    if len(values_RX) == count:
        return values_RX
    with_text, without = values_RX.split(count)
    return without + guidance * (with_text - without)


class Mean(Network):
    def loss(self, hidden_NE: Tensor, latents_ND: Tensor) -> Tensor:
        return nn.functional.mse_loss(self(hidden_NE), latents_ND)

    def sample(self, hidden_RE: Tensor, count: int, guidance: float, generator: torch.Generator) -> Tensor:
        return guided(self(hidden_RE), count, guidance)


class Bins(Network):
    def logits(self, hidden_RE: Tensor) -> Tensor:
        return self(hidden_RE).unflatten(-1, (-1, BINS))

    def loss(self, hidden_NE: Tensor, latents_ND: Tensor) -> Tensor:
        index_ND = ((latents_ND / WIDEST + 1) / 2 * BINS).long().clamp(0, BINS - 1)
        return nn.functional.cross_entropy(self.logits(hidden_NE).flatten(0, 1), index_ND.flatten())

    def sample(self, hidden_RE: Tensor, count: int, guidance: float, generator: torch.Generator) -> Tensor:
        chances = guided(self.logits(hidden_RE), count, guidance).softmax(dim=-1)
        index = torch.multinomial(chances.flatten(0, 1), 1, generator=generator).view(count, -1)
        return ((index + 0.5) / BINS * 2 - 1) * WIDEST


def train(
    name: str, loss_of: Callable[[Tensor, Tensor], Tensor], head: nn.Module, states: list[tuple[Tensor, Tensor]],
    steps: int,
) -> None:  # fmt: skip
    """``states``: hidden states and latents of batches, computed once and used in turn."""
    optimizer = torch.optim.AdamW(head.parameters(), 1e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps, pct_start=0.05)
    losses = []
    for step in range(steps):
        loss = loss_of(*states[step % len(states)])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(head.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(float(loss.detach()))
    print(f"{name}: loss {sum(losses[-50:]) / len(losses[-50:]):.4f}", flush=True)


def sampler(head: Mean | Bins) -> type[LatentSampler]:
    """A class that stands in for the diffusion sampler of the generation loop."""

    class Sampler(LatentSampler):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments)  # type: ignore[arg-type]
            self.generator = torch.Generator().manual_seed(0)

        def __call__(self, hidden_RH: Tensor, draw: Callable[[], Tensor]) -> Tensor:
            return head.sample(hidden_RH, len(draw()), self.guidance, self.generator)

    return Sampler


def speak(pipeline: TtsPipeline, texts: list[tuple[str, str]], folder: Path, options: SpeechOptions) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for index, (voice, text) in enumerate(texts):
        speech = pipeline(f"{voice}: {text}", options=options)
        soundfile.write(folder / f"{index:02d}.wav", speech.samples, speech.sample_rate)


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--model", default="bundled:tts-tiny")
    parser.add_argument("--corpus", type=Path, required=True, help="what vibevoice.corpus wrote")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--batches", type=int, default=120, help="of states, about 40 s of speech each")
    parser.add_argument("--texts", type=int, default=16)
    parser.add_argument("--guidance", type=float, default=1.0)
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    pipeline = TtsPipeline.from_pretrained(options.model)
    model, corpus = pipeline.model, corpora.load(options.corpus)
    sequences = Sequences(
        corpus, TextTokenizer(new_tokenizer()), model.config.tokens, {}, SequenceConfig(), frame_rate=25.0
    )
    states = [hidden_states(model, sequences, step) for step in range(options.batches)]
    hidden_size, latent_size = model.config.text.hidden_size, model.config.acoustic.latent_size
    mean = Mean(hidden_size, 1024, latent_size)
    bins = Bins(hidden_size, 640, latent_size * BINS)
    again = DiffusionHead(
        latent_size, hidden_size, model.config.head.num_layers, model.config.head.inner_size
    )
    for name, head in (("mean", mean), ("bins", bins), ("diffusion", again), ("own", model.head)):
        print(f"{name}: {sum(p.numel() for p in head.parameters()) / 1e6:.2f} M weights")

    def diffusion(hidden_NE: Tensor, latents_ND: Tensor) -> Tensor:
        first = torch.zeros(1, 1, hidden_size)
        hidden_BTE = torch.cat([hidden_NE[None], first], dim=1)
        is_latent_BT = torch.ones(hidden_BTE.shape[:2], dtype=torch.bool)
        is_latent_BT[:, 0] = False
        return next_token_diffusion_loss(
            again, model.schedule, hidden_BTE, is_latent_BT, latents_ND, draws=2
        ).mean()

    train("mean", mean.loss, mean, states, options.steps)
    train("bins", bins.loss, bins, states, options.steps)
    train("diffusion", diffusion, again, states, options.steps)
    voices = pipeline.voices()
    held_out = sorted({item.text for item in corpus.part(held_out=True) if len(item.text.split()) >= 6})
    texts = [(voices[index % len(voices)], text) for index, text in enumerate(held_out[: options.texts])]
    options.out.mkdir(parents=True, exist_ok=True)
    with (options.out / "texts.jsonl").open("w", encoding="utf-8") as lines:
        for index, (voice, text) in enumerate(texts):
            lines.write(json.dumps({"name": f"{index:02d}", "text": text, "voice": voice}) + "\n")
    how = SpeechOptions(guidance=options.guidance, diffusion_steps=5)
    speak(pipeline, texts, options.out / "own", how)
    own, model.head = model.head, again.eval()
    speak(pipeline, texts, options.out / "diffusion", how)
    model.head = own
    plain = generation.LatentSampler
    for name, other in (("mean", mean), ("bins", bins)):
        generation.LatentSampler = sampler(other.eval())  # type: ignore[misc]
        speak(pipeline, texts, options.out / name, how)
    generation.LatentSampler = plain  # type: ignore[misc]


@torch.no_grad()
def hidden_states(model: VibeVoice, sequences: Sequences, step: int) -> tuple[Tensor, Tensor]:
    """States (N, E) before the frames of a batch, and these frames (N, D), normalized."""
    torch.manual_seed(step)
    batch = sequences(step, 0, 1)
    hidden_BTE, latents_ND = read_batch(model, batch, history_noise=0.3, history_drop=0.0)
    return hidden_BTE[:, :-1][batch.spoken_BT[:, 1:]], latents_ND


if __name__ == "__main__":
    main()
