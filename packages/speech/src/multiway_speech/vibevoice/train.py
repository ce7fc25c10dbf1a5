"""Training of the small model that speaks, on the latents of the small codec.

    python -m multiway_speech.vibevoice.train --corpus tts.npz --output runs/tts --steps 6000

A second call goes on where the first was stopped. ``runs/tts/model`` is the model folder, written anew with the
averaged weights at every checkpoint, with a sentence of each of ``--voices heart=af_heart joe=joe`` as its voices.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from multiway_core.errors import InputError
from multiway_core.tokenization import TextTokenizer
from multiway_core.training import TrainConfig, Trainer
from torch import nn

from multiway_speech.speech_tokenizer import folder as tokenizer_folder
from multiway_speech.vibevoice import corpus as corpora
from multiway_speech.vibevoice import folder
from multiway_speech.vibevoice.config import TINY, VibeVoiceConfig
from multiway_speech.vibevoice.model import VibeVoice
from multiway_speech.vibevoice.objective import TtsObjective
from multiway_speech.vibevoice.phone_tokenizer import new_tokenizer
from multiway_speech.vibevoice.sequences import SequenceConfig, Sequences
from multiway_speech.vibevoice.voices import VOICE_FOLDER, Voice

VOICE_FRAMES = 50
"""Of a voice prompt, 2 seconds: as long as the longest in training."""


def new_model(config: VibeVoiceConfig, corpus: corpora.SpeechCorpus, seed: int) -> VibeVoice:
    """Random weights around the codec's, which stay as they are, and the scale of the corpus's latents."""
    torch.manual_seed(seed)
    model = VibeVoice(config)
    for module in model.language_model.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
    model.acoustic = tokenizer_folder.load(config.codec)
    model.acoustic.requires_grad_(False)
    latents_ND = torch.from_numpy(corpus.latents_ND).float()
    model.latent_bias.copy_(-latents_ND.mean())
    model.latent_scale.copy_(1 / latents_ND.std())
    return model


def save_voices(corpus: corpora.SpeechCorpus, voices: Mapping[str, str], path: Path) -> None:
    """Write a voice for each ``name -> voice of the corpus``: its sentence of about :data:`VOICE_FRAMES`."""
    for name, voice in voices.items():
        own = [item for item in corpus.part(held_out=False) if item.voice == voice]
        if not own:
            raise InputError(f"the corpus has no voice {voice!r}")
        chosen = min(own, key=lambda item: abs(item.length - VOICE_FRAMES))
        Voice(name, corpus.latents(chosen)[:VOICE_FRAMES]).save(path / VOICE_FOLDER / f"{name}.safetensors")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", type=Path, required=True, help="what vibevoice.corpus wrote")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--codec", default="bundled:codec-tiny")
    parser.add_argument("--start", type=Path, help="model folder whose weights to begin with")
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--frames", type=int, default=1000, help="of speech in a step")
    parser.add_argument("--limits", type=float, nargs="+", default=[4, 6, 8, 16], help="seconds of a row")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--warmup", type=int, default=100)
    parser.add_argument("--schedule", choices=("constant", "linear", "cosine"), default="cosine")
    parser.add_argument(
        "--weight", nargs="*", default=[], metavar="VOICE=WEIGHT", help="how often it is drawn; * for others"
    )
    parser.add_argument(
        "--voices", nargs="*", default=[], metavar="NAME=VOICE", help="that the model comes with"
    )
    parser.add_argument("--minutes", type=float, help="stop after so long; call again to go on")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    corpus = corpora.load(options.corpus)
    model = (
        folder.load(options.start)
        if options.start
        else new_model(replace(TINY, codec=options.codec), corpus, options.seed)
    )
    model.acoustic.requires_grad_(False)
    voices = {name: voice for name, _, voice in (item.partition("=") for item in options.voices)}
    sequences = Sequences(
        corpus,
        TextTokenizer(new_tokenizer()),
        model.config.tokens,
        {voice: float(weight) for voice, _, weight in (item.partition("=") for item in options.weight)},
        SequenceConfig(frames=options.frames, limits=tuple(options.limits)),
        frame_rate=model.config.acoustic.frame_rate,
        seed=options.seed,
    )
    config = TrainConfig(
        steps=options.steps,
        learning_rate=options.learning_rate,
        warmup_steps=options.warmup,
        schedule=options.schedule,
        optimizer="muon",
        betas=(0.9, 0.98),
        weight_decay=0.05,
        precision="bf16",
        ema_decay=0.998,
        checkpoint_every_seconds=240,
        log_every=25,
        seed=options.seed,
    )

    def export(step: int, trained: nn.Module) -> None:
        with trainer.ema_weights():
            assert isinstance(trained, VibeVoice)
            folder.save(trained, options.output / "model")
        save_voices(corpus, voices, options.output / "model")

    trainer = Trainer(model, TtsObjective(), sequences, config, options.output, on_checkpoint=export)
    result = trainer.fit(None if options.minutes is None else options.minutes * 60)
    print(f"step {result.step} of {options.steps}, loss {result.loss:.4f}, {result.seconds / 60:.1f} min")


if __name__ == "__main__":
    main()
