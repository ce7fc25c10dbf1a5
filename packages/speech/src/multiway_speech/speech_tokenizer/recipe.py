"""Recipe of the small acoustic tokenizer: reconstruction, then its decoder against discriminators.

The bundled one is made of three runs: ``tiny-25hz``; the same with ``--schedule linear`` and ``--init-from`` the first,
so that the learning rate falls to 0; and ``adversarial`` with ``--init-from`` the second.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from multiway_core import hub
from multiway_core.errors import ConfigError, InputError
from multiway_core.training import HeldOut, TrainConfig, TrainJob, TrainOptions
from torch import Tensor, nn

from multiway_speech import corpus_file
from multiway_speech.smoke_data import smoke_speech
from multiway_speech.speech_tokenizer import corpus as corpora
from multiway_speech.speech_tokenizer import folder
from multiway_speech.speech_tokenizer.adversarial import AdversarialObjective, TokenizerWithDiscriminators
from multiway_speech.speech_tokenizer.config import TINY_12HZ, TINY_25HZ, SpeechTokenizerConfig
from multiway_speech.speech_tokenizer.initialization import initialize
from multiway_speech.speech_tokenizer.model import AcousticTokenizer
from multiway_speech.speech_tokenizer.objective import CodecObjective
from multiway_speech.speech_tokenizer.spectral import SpectralDecoder, SpectralEncoder

HELD_OUT_CLIPS, HELD_OUT_SECONDS = 16, 4
_TRAIN = TrainConfig(
    steps=6000,
    learning_rate=1e-3,
    warmup_steps=100,
    schedule="constant",
    betas=(0.9, 0.99),
    weight_decay=0.01,
    precision="bf16",
    ema_decay=0.998,
    log_every=25,
)


@dataclass(frozen=True)
class Recipe:
    """A tokenizer and how it is trained.

    Attributes:
        config: of a new model; with ``init_from`` the model's own counts.
        batch_size, crop_seconds: random crops in a step, and their length.
        weights: how often a group of the corpus is drawn, 1 where nothing is said.
        first_groups: groups whose speech the first weights are computed from; empty is all.
        sampled: whether the decoder is trained on latents with noise; without, it is the plain autoencoder (a control).
        adversarial: train the decoder alone, against discriminators.
        compiled: fuse the small operations of both trunks: slower to start, then faster.
        train: the trainer's numbers.
        smoke: without data, speech of the toy teacher is made.
    """

    config: SpeechTokenizerConfig = TINY_25HZ
    batch_size: int = 12
    crop_seconds: float = 0.96
    weights: dict[str, float] = field(default_factory=dict)
    first_groups: tuple[str, ...] = ()
    sampled: bool = True
    adversarial: bool = False
    compiled: bool = False
    train: TrainConfig = _TRAIN
    smoke: bool = False

    def build(self, options: TrainOptions) -> TrainJob:
        """The job of a run on ``options.data``: ``GROUP=FOLDER`` of sound files, or one corpus file.

        Raises InputError, ConfigError.
        """
        refuse_fsdp(options)
        if self.adversarial and options.init_from is None:
            raise ConfigError("adversarial training needs a trained tokenizer: give --init-from")
        corpus = self._corpus(options)
        if options.init_from is not None:
            tokenizer = folder.load(str(hub.resolve(options.init_from)))
        else:
            tokenizer = new_model(self.config)
            initialize(tokenizer, some_speech(corpus, self.first_groups, options.seed))
        config = tokenizer.config
        crops = corpora.Crops(
            corpus,
            batch_size=self.batch_size,
            length=round(self.crop_seconds * config.frame_rate) * config.hop,
            weights=dict(self.weights),
            seed=options.seed,
        )
        if self.compiled:
            for end in (tokenizer.encoder, tokenizer.decoder):
                (end.trunk if isinstance(end, SpectralEncoder | SpectralDecoder) else end).compile()
        distances = CodecObjective(sampled=self.sampled)
        return TrainJob(
            TokenizerWithDiscriminators(tokenizer) if self.adversarial else tokenizer,
            AdversarialObjective() if self.adversarial else distances,
            crops,
            options.apply(self.train),
            lambda model, path: folder.save(tokenizer_of(model), path),
            HeldOut(lambda model: score(tokenizer_of(model), corpus, distances)),
            facts={"clips": len(corpus.clips), "minutes": round(len(corpus.samples) / corpora.RATE / 60, 1)},
        )

    def _corpus(self, options: TrainOptions) -> corpora.Corpus:
        path = options.output / "data" / "corpus.npz"
        if len(options.data) == 1 and options.data[0].endswith(".npz"):
            return corpora.load(Path(options.data[0]))
        if not path.is_file():
            data = options.data
            if not data and self.smoke:
                data = (f"toy={smoke_speech(options.output / 'data' / 'toy')}",)
            if not data:
                raise InputError(
                    "nothing to train on: give --data GROUP=FOLDER (see multiway-tts data synthesize)"
                )
            groups = corpus_file.pairs(data, "GROUP=FOLDER, or one .npz file")
            corpora.save(corpora.collect([(group, Path(name)) for group, name in groups]), path)
        return corpora.load(path)


def tokenizer_of(model: nn.Module) -> AcousticTokenizer:
    """The tokenizer that is trained, with or without discriminators around it."""
    tokenizer = model.tokenizer if isinstance(model, TokenizerWithDiscriminators) else model
    assert isinstance(tokenizer, AcousticTokenizer)
    return tokenizer


def refuse_fsdp(options: TrainOptions) -> None:
    """Raises ConfigError.

    FSDP gathers a block's weights in its `forward`; here objectives use parts of blocks outside of it: the diffusion
    head computes the modulations of all blocks at once, and the transcriber's objective goes through attention itself.
    """
    if options.parallel == "fsdp":
        raise ConfigError(
            "--parallel fsdp: the objectives of speech use parts of blocks that FSDP gathers as a whole; use ddp "
            "(these models have a few million parameters)"
        )


def new_model(config: SpeechTokenizerConfig) -> AcousticTokenizer:
    """A tokenizer with random weights that begins quiet: the first outputs are far below speech."""
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


@torch.no_grad()
def score(
    tokenizer: AcousticTokenizer, corpus: corpora.Corpus, objective: CodecObjective
) -> dict[str, float]:
    """Spectral distances of held-out clips to what comes back of them without noise; empty where none is held out."""
    clips = [clip for clip in corpus.part(held_out=True) if clip.length >= corpora.RATE][:HELD_OUT_CLIPS]
    device, sums = next(tokenizer.parameters()).device, {"mel": 0.0, "magnitude": 0.0}
    for clip in clips:
        samples = corpus.waveform(clip)[: HELD_OUT_SECONDS * corpora.RATE]
        wave_11T = torch.from_numpy(samples).to(device)[None, None]
        again_1T = tokenizer.decode(tokenizer.encode(wave_11T))[:, 0, : len(samples)]
        for name, value in objective.distances(again_1T, wave_11T[:, 0]).items():
            sums[name] += float(value) / len(clips)
    return sums if clips else {}


RECIPES = {
    "tiny-25hz": Recipe(),
    "tiny-12hz": Recipe(config=TINY_12HZ),
    "adversarial": Recipe(adversarial=True, train=replace(_TRAIN, betas=(0.8, 0.99))),
    # A minute on one core: shows that every part works.
    "smoke": Recipe(
        config=replace(
            TINY_25HZ, latent_size=16, widths=(80, 160, 320), depths=(0, 1, 1), decoder_depths=(1, 0, 1)
        ),
        batch_size=4,
        train=replace(_TRAIN, steps=20, warmup_steps=2, precision="fp32"),
        smoke=True,
    ),
}
