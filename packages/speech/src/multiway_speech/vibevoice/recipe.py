"""Recipe of the small text-to-speech model, on the latents of the small codec."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from multiway_core import hub
from multiway_core.errors import InputError
from multiway_core.tokenization import TextTokenizer
from multiway_core.training import HeldOut, TrainConfig, TrainJob, TrainOptions
from multiway_core.training.data import to_device
from torch import nn

from multiway_speech import corpus_file
from multiway_speech.smoke_data import smoke_speech
from multiway_speech.speech_tokenizer import folder as tokenizer_folder
from multiway_speech.speech_tokenizer.recipe import refuse_fsdp
from multiway_speech.vibevoice import corpus as corpora
from multiway_speech.vibevoice import folder
from multiway_speech.vibevoice.config import TINY, DiffusionHeadConfig, VibeVoiceConfig
from multiway_speech.vibevoice.model import VibeVoice
from multiway_speech.vibevoice.objective import TtsObjective
from multiway_speech.vibevoice.phone_tokenizer import new_tokenizer
from multiway_speech.vibevoice.sequences import SequenceConfig, Sequences, collate, make_row
from multiway_speech.vibevoice.voices import VOICE_FOLDER, Voice

VOICE_FRAMES = 50
"""Of a voice prompt, 2 seconds: as long as the longest in training."""
HELD_OUT_SENTENCES = 16
_TRAIN = TrainConfig(
    steps=6000,
    learning_rate=1e-3,
    warmup_steps=100,
    optimizer="muon",
    betas=(0.9, 0.98),
    weight_decay=0.05,
    precision="bf16",
    ema_decay=0.998,
    log_every=25,
)


@dataclass(frozen=True)
class Recipe:
    """A model and how it is trained.

    Attributes:
        config: of a new model; with ``init_from`` the model's own counts.
        sequences: what training sequences are made of.
        weights: how often a voice of the corpus is drawn; "*" stands for the others, 1 where nothing is said.
        voices: those that the model comes with: name -> voice of the corpus. The first speakers get the first ones.
        sampling_passes: of scheduled sampling, see :class:`TtsObjective`.
        dtype: of the exported weights; the bundled model's are bfloat16.
        train: the trainer's numbers.
        smoke: without data, speech of the toy teacher is made.
    """

    config: VibeVoiceConfig = TINY
    sequences: SequenceConfig = field(default_factory=SequenceConfig)
    weights: dict[str, float] = field(default_factory=dict)
    voices: dict[str, str] = field(default_factory=dict)
    sampling_passes: int = 2
    dtype: str = "float32"
    train: TrainConfig = _TRAIN
    smoke: bool = False

    def build(self, options: TrainOptions) -> TrainJob:
        """The job of a run on ``options.data``: ``GROUP=FOLDER`` of ``multiway-tts data synthesize``, or a corpus file.

        Raises InputError, ConfigError, CheckpointError.
        """
        refuse_fsdp(options)
        corpus, facts = self._corpus(options)
        if options.init_from is None:
            model = new_model(self.config, corpus)
        else:
            model = folder.load(hub.resolve(options.init_from))
        model.acoustic.requires_grad_(False)
        model.config = replace(model.config, voices=tuple(self.voices) or model.config.voices)
        tokenizer = TextTokenizer(new_tokenizer())
        rate = model.config.acoustic.frame_rate
        sequences = Sequences(
            corpus,
            tokenizer,
            model.config.tokens,
            dict(self.weights),
            self.sequences,
            frame_rate=rate,
            seed=options.seed,
        )

        def export(trained: Any, path: Path) -> None:
            folder.save(trained, path, dtype=getattr(torch, self.dtype))
            save_voices(corpus, self.voices, path)

        return TrainJob(
            model,
            TtsObjective(sampling_passes=self.sampling_passes),
            sequences,
            options.apply(self.train),
            export,
            HeldOut(lambda trained: score(trained, corpus, sequences)),
            facts=facts,
        )

    def _corpus(self, options: TrainOptions) -> tuple[corpora.SpeechCorpus, dict[str, Any]]:
        path = options.output / "data" / "corpus.npz"
        facts: dict[str, Any] = {}
        if len(options.data) == 1 and options.data[0].endswith(".npz"):
            path = Path(options.data[0])
        elif not path.is_file():
            data = options.data
            if not data and self.smoke:
                data = (f"toy={smoke_speech(options.output / 'data' / 'toy')}",)
            if not data:
                raise InputError(
                    "nothing to train on: give --data GROUP=FOLDER (see multiway-tts data synthesize)"
                )
            groups = corpus_file.pairs(data, "GROUP=FOLDER, or one .npz file")
            codec = tokenizer_folder.load(self.config.codec)
            made, skipped = corpora.collect([(group, Path(name)) for group, name in groups], codec)
            corpora.save(made, path)
            facts["sentences_without_alignment"] = skipped
        corpus = corpora.load(path)
        return corpus, {"sentences": len(corpus.utterances), **facts}


def new_model(config: VibeVoiceConfig, corpus: corpora.SpeechCorpus) -> VibeVoice:
    """Random weights around the codec's, which stay as they are, and the scale of the corpus's latents."""
    model = VibeVoice(config)
    for module in model.language_model.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
    model.acoustic = tokenizer_folder.load(config.codec)
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


@torch.no_grad()
def score(model: nn.Module, corpus: corpora.SpeechCorpus, sequences: Sequences) -> dict[str, float]:
    """Diffusion loss of held-out sentences, and the share of phones that end where the teacher's do."""
    items = [item for item in corpus.part(held_out=True) if item.voice in sequences.voices][
        :HELD_OUT_SENTENCES
    ]
    if not items:
        return {}
    prompts = (corpus.latents(sequences.voices[item.voice][0])[:VOICE_FRAMES] for item in items)
    rows = [
        make_row(sequences.prompts, corpus, [(0, item)], [prompt])
        for item, prompt in zip(items, prompts, strict=True)
    ]
    device = next(model.parameters()).device
    batch = to_device(collate(rows, sequences.tokens), device)
    objective = TtsObjective(history_noise=0.0, history_drop=0.0, sampling_passes=0)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(0)
        metrics = objective(model, batch).metrics
    return {name: float(metrics[name]) for name in ("frame", "right")}


RECIPES = {
    "tiny": Recipe(),
    # A minute on one core: shows that every part works.
    "smoke": Recipe(
        config=replace(
            TINY,
            text=replace(
                TINY.text, hidden_size=64, num_layers=2, num_heads=2, num_kv_heads=1, inner_size=128
            ),
            head=DiffusionHeadConfig(num_layers=1, inner_size=64),
        ),
        sequences=SequenceConfig(frames=200, limits=(4.0,)),
        voices={"low": "low", "high": "high"},
        train=replace(_TRAIN, steps=20, warmup_steps=2, precision="fp32"),
        smoke=True,
    ),
}
