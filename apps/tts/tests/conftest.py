"""Tiny models with random weights as folders, recordings, and a way to call the command inside this process."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from multiway_speech.audio_writer import write_audio
from multiway_speech.language_model import LanguageModel, LanguageModelConfig
from multiway_speech.speech_tokenizer.config import TINY_25HZ, SpeechTokenizerConfig
from multiway_speech.vibevoice import checkpoint
from multiway_speech.vibevoice import folder as small
from multiway_speech.vibevoice.config import TINY, DiffusionHeadConfig, SpeechTokens, VibeVoiceConfig
from multiway_speech.vibevoice.model import VibeVoice
from multiway_speech.vibevoice.voices import Voice
from multiway_speech.vibevoice_realtime import checkpoint as realtime_checkpoint
from multiway_speech.vibevoice_realtime.config import VibeVoiceRealtimeConfig
from multiway_speech.vibevoice_realtime.model import VibeVoiceRealtime
from multiway_speech.vibevoice_realtime.voices import RealtimeVoice

RATE, HOP = 24_000, 960
FRAMES = 5
# The frame token has the lowest id: a model whose logits are all the same speaks on and on.
SPECIAL_TOKENS = {
    "frame": "<|vision_pad|>",
    "eos": "<|endoftext|>",
    "start": "<|vision_start|>",
    "end": "<|vision_end|>",
}
VOICES = ("emma", "heart", "joe", "michael")
ACOUSTIC = {
    "num_filters": 2,
    "ratios": (4, 12, 20),
    "depths": (1, 1, 1, 1),
    "layer_scale": 0.3,
    "sample_rate": RATE,
}
HEAD = DiffusionHeadConfig(num_layers=1, inner_size=24, frequency_size=16)


def save_tokenizer(folder) -> dict[str, int]:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=280, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(["Speaker 0: the voices of the speakers"], trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL_TOKENS.values()])
    tokenizer.save(str(folder / "tokenizer.json"))
    return {role: tokenizer.token_to_id(token) for role, token in SPECIAL_TOKENS.items()}


def save_tiny(folder, *, voices=VOICES):
    """A VibeVoice of random weights that never ends by itself, at 25 frames a second."""
    folder.mkdir()
    tokens = save_tokenizer(folder)
    torch.manual_seed(0)
    config = VibeVoiceConfig(
        acoustic=SpeechTokenizerConfig(latent_size=6, **ACOUSTIC),
        semantic=SpeechTokenizerConfig(latent_size=5, noise_std=0.0, **ACOUSTIC),
        text=LanguageModelConfig(
            hidden_size=16,
            num_layers=1,
            num_heads=2,
            num_kv_heads=1,
            inner_size=24,
            vocab_size=320,
            max_positions=2500,
            tied=False,
        ),
        head=HEAD,
        tokens=SpeechTokens(**tokens),
    )
    model = VibeVoice(config).eval()
    for parameter in model.head.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    for name, parameter in model.language_model.named_parameters():
        if parameter.shape == (320, 16) and "embedding" not in name:
            torch.nn.init.zeros_(parameter)
    checkpoint.save(model, folder)
    for index, name in enumerate(voices):
        (folder / "voices").mkdir(exist_ok=True)
        generator = torch.Generator().manual_seed(index)
        Voice(name, torch.randn(30, 6, generator=generator)).save(folder / "voices" / f"{name}.safetensors")
    return folder


def save_tiny_realtime(folder):
    """A VibeVoice-Realtime of random weights with the voice ``emma``; it ends when its positions are used up."""
    folder.mkdir()
    save_tokenizer(folder)
    torch.manual_seed(0)
    text = LanguageModelConfig(
        hidden_size=16,
        num_layers=3,
        num_heads=4,
        num_kv_heads=2,
        inner_size=24,
        vocab_size=320,
        max_positions=64,
    )
    config = VibeVoiceRealtimeConfig(
        acoustic=SpeechTokenizerConfig(latent_size=6, **ACOUSTIC), text=text, head=HEAD, num_upper_layers=2
    )
    model = VibeVoiceRealtime(config).eval()
    model.end.output.bias.data.fill_(-5)
    realtime_checkpoint.save(model, folder)

    def layers(count: int, positions: int) -> list:
        return [(torch.randn(2, positions, 4), torch.randn(2, positions, 4)) for _ in range(count)]

    (folder / "voices").mkdir()
    voice = RealtimeVoice("emma", layers(1, 4), layers(2, 7), layers(2, 1), torch.randn(1, 16))
    voice.save(folder / "voices" / "emma.safetensors")
    return folder


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A model folder with four voices."""
    return save_tiny(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def voiceless_folder(tmp_path_factory):
    """One without, as the published ones are."""
    return save_tiny(tmp_path_factory.mktemp("models") / "voiceless", voices=())


@pytest.fixture(scope="session")
def small_folder(tmp_path_factory):
    """Random weights of the bundled model's kind: it reads phones and tells where its turns begin."""
    folder = tmp_path_factory.mktemp("models") / "small"
    torch.manual_seed(0)
    text = LanguageModelConfig(
        hidden_size=32,
        num_layers=1,
        num_heads=2,
        num_kv_heads=1,
        inner_size=48,
        vocab_size=96,
        max_positions=2048,
    )
    acoustic = replace(TINY_25HZ, widths=(8, 8, 8), decoder_depths=None, depths=(0, 1, 1), latent_size=6)
    model = VibeVoice(
        replace(TINY, acoustic=acoustic, text=text, head=replace(HEAD, inner_size=48), codec="")
    ).eval()
    for parameter in model.head.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    small.save(model, folder)
    for name in VOICES:
        Voice(name, torch.randn(30, 6)).save(folder / "voices" / f"{name}.safetensors")
    return folder


@pytest.fixture(scope="session")
def realtime_folder(tmp_path_factory):
    """A model of the other kind."""
    return save_tiny_realtime(tmp_path_factory.mktemp("models") / "realtime")


@pytest.fixture(scope="module")
def brief():
    """Models speak five frames (0.2 s) in one go and then come to their end."""
    patch = pytest.MonkeyPatch()
    count = itertools.count()

    def logits_of(self, hidden, tokens_C):
        # As saved by save_tiny, the frame token has the lowest id and the end the next.
        chosen = tokens_C.sort().values[1 if next(count) % (FRAMES + 1) == FRAMES else 0]
        return (tokens_C == chosen).float().expand(len(hidden), -1)

    patch.setattr(LanguageModel, "logits_of", logits_of)
    yield FRAMES * HOP / RATE
    patch.undo()


def voice_sound(seconds: float, rate: int = RATE) -> np.ndarray:
    """What has a voice's pitch and rhythm: a tone of 120 Hz and its harmonics, four syllables a second."""
    time = np.arange(round(seconds * rate)) / rate
    tone = sum(np.sin(2 * np.pi * 120 * k * time) / k for k in range(1, 12))
    return (0.2 * tone * np.clip(np.sin(2 * np.pi * 4 * time), 0, None)).astype(np.float32)


@pytest.fixture
def recording(tmp_path):
    """``recording(samples, name, rate)``: a sound file; two seconds of a voice unless given."""

    def maker(samples=None, name="alice.wav", rate=RATE):
        return write_audio([voice_sound(2.0, rate) if samples is None else samples], tmp_path / name, rate)

    return maker


@pytest.fixture
def call(call_app):
    """Run ``multiway-tts`` with arguments in this process: exit code, standard output, standard error."""
    from multiway_tts.cli import cli

    return call_app(cli, "multiway-tts")
