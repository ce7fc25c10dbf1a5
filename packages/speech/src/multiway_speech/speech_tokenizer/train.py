"""Training of the small acoustic tokenizer.

    python -m multiway_speech.speech_tokenizer.train --corpus corpus.npz --output runs/codec --steps 6000

A second call goes on where the first was stopped (Ctrl-C's gentle form is SIGTERM). ``runs/codec/model`` is the model
folder, written anew with the averaged weights at every checkpoint. A run can be closed with a second one that starts
from its weights and lets the learning rate fall to 0: ``--start runs/codec/model --schedule linear``. The last run is
the decoder's alone, against discriminators: ``--start runs/codec/model --adversary``.
"""

from __future__ import annotations

import argparse
import os
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from multiway_core.training import TrainConfig, Trainer, TrainResult
from torch import Tensor, nn

from multiway_speech.speech_tokenizer import corpus as corpora
from multiway_speech.speech_tokenizer import folder
from multiway_speech.speech_tokenizer.adversarial import AdversarialObjective, TokenizerWithDiscriminators
from multiway_speech.speech_tokenizer.config import TINY_12HZ, TINY_25HZ, SpeechTokenizerConfig
from multiway_speech.speech_tokenizer.initialization import initialize
from multiway_speech.speech_tokenizer.model import AcousticTokenizer
from multiway_speech.speech_tokenizer.objective import CodecObjective
from multiway_speech.speech_tokenizer.spectral import SpectralDecoder, SpectralEncoder

CONFIGS = {"tiny-25hz": TINY_25HZ, "tiny-12hz": TINY_12HZ}
CROP_SECONDS = 0.96


def new_model(config: SpeechTokenizerConfig, seed: int) -> AcousticTokenizer:
    """A tokenizer with random weights that begins quiet: the first outputs are far below speech."""
    torch.manual_seed(seed)
    model = AcousticTokenizer(config)
    for module in model.modules():
        if isinstance(module, nn.Conv1d | nn.ConvTranspose1d | nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
    return model


def some_speech(
    corpus: corpora.Corpus, groups: tuple[str, ...], seed: int, clips: int = 300
) -> Iterator[Tensor]:
    """Waveforms (T,) of clips that are not held out, of these groups or of all, some seconds of each."""
    chosen = [clip for clip in corpus.part(held_out=False) if not groups or clip.group in groups]
    for clip in random.Random(seed).sample(chosen, min(clips, len(chosen))):
        yield torch.from_numpy(corpus.waveform(clip)[: 6 * corpora.RATE])


def train(
    model: AcousticTokenizer,
    crops: corpora.Crops,
    config: TrainConfig,
    output: Path,
    objective: CodecObjective | AdversarialObjective,
    *,
    minutes: float | None = None,
    compiled: bool = False,
) -> TrainResult:
    """Train in place, and keep ``output/model`` at the averaged weights, in float32.

    ``compiled`` fuses the small operations of both trunks: slower to start, then faster.
    """

    def export(step: int, trained: nn.Module) -> None:
        with trainer.ema_weights():
            folder.save(model, output / "model")

    if compiled:
        for end in (model.encoder, model.decoder):
            part = end.trunk if isinstance(end, SpectralEncoder | SpectralDecoder) else end
            part.compile()
    trained = TokenizerWithDiscriminators(model) if isinstance(objective, AdversarialObjective) else model
    trainer = Trainer(trained, objective, crops, config, output, on_checkpoint=export)
    return trainer.fit(None if minutes is None else minutes * 60)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", type=Path, required=True, help="what speech_tokenizer.corpus wrote")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--config", choices=sorted(CONFIGS), default="tiny-25hz")
    parser.add_argument("--start", type=Path, help="model folder whose weights to begin with")
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--batch-size", type=int, default=12)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--warmup", type=int, default=100)
    parser.add_argument("--schedule", choices=("constant", "linear", "cosine"), default="constant")
    parser.add_argument(
        "--weight", nargs="*", default=[], metavar="GROUP=WEIGHT", help="how often it is drawn"
    )
    parser.add_argument(
        "--begin-with", nargs="*", default=[], metavar="GROUP", help="speech for the first weights"
    )
    parser.add_argument("--plain", action="store_true", help="no noise on the latents (the control)")
    parser.add_argument(
        "--adversary", action="store_true", help="train the decoder of --start against discriminators"
    )
    parser.add_argument("--minutes", type=float, help="stop after so long; call again to go on")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    if options.adversary and not options.start:
        parser.error("--adversary needs --start: a decoder that already knows its work")
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    corpus = corpora.load(options.corpus)
    if options.start:
        model = folder.load(options.start)
    else:
        model = new_model(CONFIGS[options.config], options.seed)
        kept = initialize(model, some_speech(corpus, tuple(options.begin_with), options.seed))
        print(f"{kept:.1%} of the log-mel variance in {model.config.latent_size} numbers")
    config = TrainConfig(
        steps=options.steps,
        learning_rate=options.learning_rate,
        warmup_steps=options.warmup,
        schedule=options.schedule,
        betas=(0.8, 0.99) if options.adversary else (0.9, 0.99),
        weight_decay=0.01,
        precision="bf16",
        ema_decay=0.998,
        checkpoint_every_seconds=300,
        log_every=25,
        seed=options.seed,
    )
    crops = corpora.Crops(
        corpus,
        batch_size=options.batch_size,
        length=round(CROP_SECONDS * model.config.frame_rate) * model.config.hop,
        weights={
            group: float(weight) for group, _, weight in (item.partition("=") for item in options.weight)
        },
        seed=options.seed,
    )
    result = train(
        model,
        crops,
        config,
        options.output,
        AdversarialObjective() if options.adversary else CodecObjective(sampled=not options.plain),
        minutes=options.minutes,
        compiled=options.compile,
    )
    print(f"step {result.step} of {options.steps}, loss {result.loss:.4f}, {result.seconds / 60:.1f} min")


if __name__ == "__main__":
    main()
