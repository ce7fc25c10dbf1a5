"""Training of the small VibeVoice-ASR: first on text as if it had been heard, then on mixed conversations.

    python -m multiway_speech.vibevoice_asr.train --output runs/read --corpus corpus.npz --phones phones.jsonl \
        --features features/train --pseudo 1 --steps 1500
    python -m multiway_speech.vibevoice_asr.train --output runs/listen --corpus corpus.npz --phones phones.jsonl \
        --features features/train --pseudo 0.2 --start runs/read --steps 6000

A second call goes on where the first was stopped (SIGTERM is its gentle form). ``--features`` is a folder of parts, of
which those are read that are whole when the run starts.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from multiway_core.tokenization import TextTokenizer
from multiway_core.training import TrainConfig, Trainer, checkpoints
from safetensors.torch import load_file

from multiway_speech.language_model import LanguageModelConfig
from multiway_speech.speech_tokenizer.config import TINY_25HZ
from multiway_speech.vibevoice_asr import corpus as corpora
from multiway_speech.vibevoice_asr.batches import ConversationBatches, Source
from multiway_speech.vibevoice_asr.config import VibeVoiceAsrConfig
from multiway_speech.vibevoice_asr.features import FRAMES, Features
from multiway_speech.vibevoice_asr.objective import AsrObjective, AsrTrainingModel
from multiway_speech.vibevoice_asr.pseudo_features import PseudoFeatures, TextSpeakers
from multiway_speech.vibevoice_asr.speaker_encoder import SpeakerEncoderConfig
from multiway_speech.vibevoice_asr.vocabulary import FIXED, TOKENS, save_tokenizer, train_tokenizer
from multiway_speech.vibevoice_asr.whisper_encoder import WhisperConfig

PIECES = 1000
TINY = VibeVoiceAsrConfig(
    acoustic=TINY_25HZ,
    text=LanguageModelConfig(
        hidden_size=256,
        num_layers=6,
        num_heads=4,
        num_kv_heads=4,
        inner_size=768,
        vocab_size=PIECES + len(FIXED),
        max_positions=1024,
        rope_theta=10_000.0,
    ),
    tokens=TOKENS,
    whisper=WhisperConfig(),
    stacked=FRAMES,
    speaker=SpeakerEncoderConfig(),
)
"""``bundled:asr-tiny``: half a minute of speech in one pass."""


def tokenizer_of(output: Path, phones: Path) -> TextTokenizer:
    """The tokenizer beside a run, trained on the texts of ``phones`` if there is none yet."""
    if not (output / "tokenizer.json").is_file():
        texts = [json.loads(line)["text"] for line in phones.read_text("utf-8").splitlines()]
        save_tokenizer(train_tokenizer(sorted(texts), PIECES), output)
    return TextTokenizer.from_folder(output)


def load_start(model: AsrTrainingModel, run: Path) -> None:
    """Copy what fits of a run's averaged weights."""
    folder = checkpoints.checkpoints_in(run)[-1]
    found = load_file(folder / "ema" / "model.safetensors")
    own = model.state_dict()
    model.load_state_dict(own | {k: v for k, v in found.items() if k in own and own[k].shape == v.shape})


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--phones", type=Path, required=True, help="what vibevoice_asr.pseudo wrote")
    parser.add_argument("--features", type=Path, required=True, help="folder of vibevoice_asr.features")
    parser.add_argument("--pseudo", type=float, default=0.2, help="share of batches that nobody spoke")
    parser.add_argument("--pseudo-count", type=int, default=12_000, help="conversations of these")
    parser.add_argument("--start", type=Path, help="run whose averaged weights to begin with")
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--size", type=int, default=4000, help="positions in a batch")
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--warmup", type=int, default=100)
    parser.add_argument("--schedule", choices=("constant", "linear", "cosine"), default="constant")
    parser.add_argument("--speaker-weight", type=float, default=0.3)
    parser.add_argument("--minutes", type=float, help="stop after so long; call again to go on")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    options.output.mkdir(parents=True, exist_ok=True)
    if options.start and not (options.output / "tokenizer.json").is_file():
        (options.output / "tokenizer.json").write_bytes((options.start / "tokenizer.json").read_bytes())
    tokenizer = tokenizer_of(options.output, options.phones)
    parts = sorted(index.parent for index in options.features.glob("*/index.jsonl"))
    real = Features(parts)
    sources: list[tuple[Source, float]] = []
    if options.pseudo < 1:
        sources.append((real, 1 - options.pseudo))
    if options.pseudo > 0:
        speakers = TextSpeakers(options.phones, corpora.load(options.corpus))
        made_up = PseudoFeatures(speakers, real, options.pseudo_count, options.seed)
        sources.append((made_up, options.pseudo))
    torch.manual_seed(options.seed)
    model = AsrTrainingModel(TINY)
    if options.start:
        load_start(model, options.start)
    config = TrainConfig(
        steps=options.steps,
        learning_rate=options.learning_rate,
        warmup_steps=options.warmup,
        schedule=options.schedule,
        optimizer="muon",
        betas=(0.9, 0.98),
        weight_decay=0.05,
        precision="bf16",
        ema_decay=0.995,
        checkpoint_every_seconds=240,
        log_every=25,
        seed=options.seed,
    )
    batches = ConversationBatches(sources, tokenizer, TINY.tokens, size=options.size, seed=options.seed)
    trainer = Trainer(
        model, AsrObjective(speaker_weight=options.speaker_weight), batches, config, options.output
    )
    result = trainer.fit(None if options.minutes is None else options.minutes * 60)
    print(f"step {result.step} of {options.steps}, loss {result.loss:.4f}, {result.seconds / 60:.1f} min")


if __name__ == "__main__":
    main()
