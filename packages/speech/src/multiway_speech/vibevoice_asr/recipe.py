"""Recipe of the small VibeVoice-ASR: pseudo-features of text first, then mixed conversations.

The decoder and its connectors are trained. Whisper, the speaker encoder and the codec's encoder stay as they are, and
are put around it when the model is exported.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from multiway_core import hub
from multiway_core.errors import InputError
from multiway_core.tokenization import TOKENIZER_FILE, TextTokenizer
from multiway_core.training import HeldOut, TrainConfig, TrainJob, TrainOptions
from multiway_core.training.data import to_device
from torch import nn

from multiway_speech.language_model import LanguageModelConfig
from multiway_speech.smoke_data import smoke_speech
from multiway_speech.speech_tokenizer.config import TINY_25HZ
from multiway_speech.speech_tokenizer.recipe import refuse_fsdp
from multiway_speech.vibevoice_asr import checkpoint, folder
from multiway_speech.vibevoice_asr import corpus as corpora
from multiway_speech.vibevoice_asr.batches import ConversationBatches, Source
from multiway_speech.vibevoice_asr.config import VibeVoiceAsrConfig
from multiway_speech.vibevoice_asr.features import FRAMES, FeatureExtractor, Features, write
from multiway_speech.vibevoice_asr.mixtures import Pool, make_mixture
from multiway_speech.vibevoice_asr.objective import AsrObjective, AsrTrainingModel
from multiway_speech.vibevoice_asr.pseudo_features import PseudoFeatures, Sentence, TextSpeakers, read_phones
from multiway_speech.vibevoice_asr.speaker_encoder import SpeakerEncoder, SpeakerEncoderConfig, load_encoder
from multiway_speech.vibevoice_asr.vocabulary import FIXED, TOKENS, save_tokenizer, train_tokenizer
from multiway_speech.vibevoice_asr.whisper import Whisper
from multiway_speech.vibevoice_asr.whisper_checkpoint import common_tokens, load_whisper
from multiway_speech.vibevoice_asr.whisper_encoder import WhisperConfig

PIECES = 1000
PART = 400
"""Conversations in a folder of features."""
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
_TRAIN = TrainConfig(
    steps=6000,
    learning_rate=2e-3,
    warmup_steps=100,
    schedule="constant",
    optimizer="muon",
    betas=(0.9, 0.98),
    weight_decay=0.05,
    precision="bf16",
    ema_decay=0.995,
    log_every=25,
)


@dataclass(frozen=True)
class Recipe:
    """A model and how it is trained.

    Attributes:
        config: of the model, but for the frozen parts.
        codec: whose encoder the model has.
        frozen: the model whose Whisper and speaker encoder the trained one gets, unless they are given as files:
        whisper: a folder of Whisper tiny.en in CTranslate2's format.
        speaker_encoder: ``pretrained.pt`` of Resemblyzer.
        conversations, held_out: mixed conversations to train on, and to score.
        text_steps: steps of the first stage, on pseudo-features alone; not with ``init_from``.
        pseudo: share of batches of the second stage that are pseudo-features.
        pseudo_conversations: conversations of these.
        positions: of the decoder in a batch.
        objective: the weights of its losses.
        train: the trainer's numbers of the second stage.
        smoke: without data, speech of the toy teacher is made.
    """

    config: VibeVoiceAsrConfig = TINY
    codec: str = "bundled:codec-tiny"
    frozen: str = "bundled:asr-tiny"
    whisper: str = ""
    speaker_encoder: str = ""
    conversations: int = 2400
    held_out: int = 40
    text_steps: int = 1500
    pseudo: float = 0.2
    pseudo_conversations: int = 12_000
    positions: int = 4000
    objective: AsrObjective = field(default_factory=AsrObjective)
    train: TrainConfig = _TRAIN
    smoke: bool = False

    def build(self, options: TrainOptions) -> Iterator[TrainJob]:
        """The stages of a run on ``options.data``: ``FOLDER``, ``asterisk=FOLDER``, ``digits=FOLDER``, ``phones=FILE``.

        The last holds phones of sentences for the pseudo-features (``multiway-asr data phones``); without it, those of
        the corpus are taken. Raises InputError, CheckpointError.
        """
        refuse_fsdp(options)
        corpus, sentences = self._data(options)
        tokenizer = self._tokenizer(options, sentences)
        real = self._features(options, corpus, "train", self.conversations)
        model = AsrTrainingModel(self.config)
        if options.init_from is not None:
            start = checkpoint.load(hub.resolve(options.init_from))
            for part in ("acoustic_connector", "semantic_connector", "language_model"):
                getattr(model, part).load_state_dict(getattr(start, part).state_dict())
        pseudo = None
        if self.pseudo > 0 or self.text_steps:
            speakers = TextSpeakers(sentences, corpus)
            pseudo = PseudoFeatures(speakers, real, self.pseudo_conversations, options.seed)
        batches = partial(
            ConversationBatches, tokenizer=tokenizer, tokens=TOKENS, size=self.positions, seed=options.seed
        )
        held_out = HeldOut(self._score(options, corpus, batches))
        job = partial(
            TrainJob,
            model,
            self.objective,
            export=lambda trained, path: self._export(trained, options, sentences, path),
            held_out=held_out,
            facts={"utterances": len(corpus.utterances), "conversations": len(real.entries)},
        )
        config = options.apply(self.train)
        text_steps = round(self.text_steps * config.steps / self.train.steps)
        if pseudo is not None and text_steps and options.init_from is None:
            yield job(batches([(pseudo, 1.0)]), replace(config, steps=text_steps), name="text")
        sources: list[tuple[Source, float]] = [(real, 1 - self.pseudo)]
        if pseudo is not None and self.pseudo > 0:
            sources.append((pseudo, self.pseudo))
        yield job(batches([source for source in sources if source[1] > 0]), config, name="speech")

    def _data(self, options: TrainOptions) -> tuple[corpora.Corpus, list[Sentence]]:
        """The corpus, collected once into the run's folder, and sentences with their phones."""
        path = options.output / "data" / "corpus.npz"
        phones = [item.removeprefix("phones=") for item in options.data if item.startswith("phones=")]
        data = [item for item in options.data if not item.startswith("phones=")]
        if len(data) == 1 and data[0].endswith(".npz"):
            path = Path(data[0])
        elif not path.is_file():
            if not data and self.smoke:
                data = [str(smoke_speech(options.output / "data" / "toy"))]
            if not data:
                raise InputError("nothing to train on: give --data FOLDER (see multiway-tts data synthesize)")
            corpora.save(corpora.collect(corpora.sources_of(data)), path)
        corpus = corpora.load(path)
        if phones:
            return corpus, read_phones(Path(phones[0]))
        return corpus, [(u.text, u.phones) for u in corpus.utterances if u.phones and not u.held_out]

    def _tokenizer(self, options: TrainOptions, sentences: list[Sentence]) -> TextTokenizer:
        """That of ``init_from``, that of an earlier start of this run, or a new one."""
        own = options.output / "data" / TOKENIZER_FILE
        if not own.is_file():
            if options.init_from is not None:
                start = hub.resolve(options.init_from) / TOKENIZER_FILE
                own.parent.mkdir(parents=True, exist_ok=True)
                own.write_bytes(start.read_bytes())
            else:
                pieces = self.config.text.vocab_size - len(FIXED)
                save_tokenizer(train_tokenizer(sorted(text for text, _ in sentences), pieces), own.parent)
        return TextTokenizer.from_folder(own.parent)

    def _features(self, options: TrainOptions, corpus: corpora.Corpus, part: str, count: int) -> Features:
        """Conversations of a part of the corpus, mixed and encoded once into the run's folder."""
        path = options.output / "data" / f"features-{part}"
        seed = options.seed + (1 if part == "train" else 1000)
        starts = range(0, count, PART)
        for number, start in enumerate(starts):
            if (path / str(number) / "index.jsonl").is_file():
                continue
            extractor, pool = FeatureExtractor(self.codec).eval(), Pool(corpus, part)
            mixtures = (
                make_mixture(pool, np.random.default_rng((seed, number, place)))
                for place in range(min(PART, count - start))
            )
            write(path / str(number), mixtures, extractor)
        return Features([path / str(number) for number in range(len(starts))])

    def _score(self, options: TrainOptions, corpus: corpora.Corpus, batches: Any) -> Any:
        if not Pool(corpus, "texts").voices:
            return lambda model: {}
        held_out = self._features(options, corpus, "texts", self.held_out)
        rows = [(entry, held_out.frames(i), held_out.labels(i)) for i, entry in enumerate(held_out.entries)]
        batch = batches([(held_out, 1.0)]).collate(rows, np.random.default_rng(0))

        @torch.no_grad()
        def score(model: nn.Module) -> dict[str, float]:
            metrics = self.objective(model, to_device(batch, next(model.parameters()).device)).metrics
            return {name: float(metrics[name]) for name in ("answer", "right")}

        return score

    def _frozen(self, sentences: list[Sentence]) -> tuple[Whisper, SpeakerEncoder]:
        """Whisper and the speaker encoder, from files where they are given, else from another model."""
        model = (
            checkpoint.load(hub.resolve(self.frozen)) if not (self.whisper and self.speaker_encoder) else None
        )
        whisper, speaker = (None, None) if model is None else (model.semantic, model.speaker)
        if self.whisper:
            path, size = Path(self.whisper), WhisperConfig().vocab_size - 3
            whisper = load_whisper(path, common_tokens(path, (text for text, _ in sentences), size))
        if self.speaker_encoder:
            speaker = load_encoder(Path(self.speaker_encoder))
        if not isinstance(whisper, Whisper) or speaker is None:
            raise InputError(f"{self.frozen}: no Whisper and speaker encoder in it")
        return whisper, speaker

    def _export(
        self, trained: AsrTrainingModel, options: TrainOptions, sentences: list[Sentence], path: Path
    ) -> None:
        model = folder.assemble(trained, self.codec, *self._frozen(sentences))
        folder.save(model, path, dtype=torch.bfloat16)
        (path / TOKENIZER_FILE).write_bytes((options.output / "data" / TOKENIZER_FILE).read_bytes())


RECIPES = {
    "tiny": Recipe(),
    # A minute or two on one core: shows that every part works.
    "smoke": Recipe(
        config=replace(
            TINY,
            text=replace(
                TINY.text, hidden_size=64, num_layers=2, num_heads=2, num_kv_heads=2, inner_size=128,
                vocab_size=400 + len(FIXED),
            ),
        ),
        conversations=40,
        held_out=6,
        text_steps=10,
        pseudo_conversations=40,
        positions=1500,
        train=replace(_TRAIN, steps=20, warmup_steps=2, precision="fp32"),
        smoke=True,
    ),
}  # fmt: skip
