"""A tiny model with random weights in a folder, recordings, and a way to call the command inside this process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
)
FIRST_SPECIAL = 151_643  # as in Qwen2.5, because the published layout does not tell all of them
VOCABULARY = 151_650
FIRST = '{"Start":0.0,"End":0.5,"Speaker":0,"Content":"Grüße, Anna."}'
SECOND = '{"Start":0.5,"End":1.5,"Speaker":1,"Content":"the audio"}'
SAID = f"assistant\n[{FIRST},{SECOND}]"


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory) -> Path:
    """A VibeVoice-ASR whose layers are tiny, with a byte-level tokenizer; it hears 1.9 minutes."""
    import torch
    from multiway_speech.language_model import LanguageModelConfig
    from multiway_speech.speech_tokenizer.config import SpeechTokenizerConfig
    from multiway_speech.vibevoice_asr import checkpoint
    from multiway_speech.vibevoice_asr.config import VibeVoiceAsrConfig
    from multiway_speech.vibevoice_asr.model import VibeVoiceAsr
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    vocabulary = {c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    vocabulary |= {token: FIRST_SPECIAL + i for i, token in enumerate(SPECIAL_TOKENS)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL_TOKENS])
    sizes = {"num_filters": 2, "ratios": (4, 10, 20), "depths": (1, 1, 1, 1), "layer_scale": 0.3}
    torch.manual_seed(0)
    model = VibeVoiceAsr(
        VibeVoiceAsrConfig(
            acoustic=SpeechTokenizerConfig(latent_size=6, **sizes),
            semantic=SpeechTokenizerConfig(latent_size=5, noise_std=0.0, **sizes),
            text=LanguageModelConfig(
                hidden_size=8, num_layers=1, num_heads=2, num_kv_heads=1, inner_size=16, vocab_size=VOCABULARY,
                max_positions=3700,
            ),
        )
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("models") / "tiny"
    checkpoint.save(model, folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture
def say(model_folder, monkeypatch):
    """``say(*texts)``: what the language model writes about one recording after the other; the last one stays."""
    import torch
    from multiway_speech.language_model import LanguageModel
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(model_folder / "tokenizer.json"))
    turn_end = FIRST_SPECIAL + SPECIAL_TOKENS.index("<|im_end|>")
    waiting: list[str] = []
    ids: list[int] = []
    read = LanguageModel.read

    def reading(self, x, valid, cache):
        ids[:] = [*tokenizer.encode(waiting.pop(0) if len(waiting) > 1 else waiting[0]).ids, turn_end]
        return read(self, x, valid, cache)

    def logits(self, hidden):
        scores = torch.zeros(*hidden.shape[:-1], VOCABULARY)
        scores[..., ids.pop(0)] = 50.0
        return scores

    def sayer(*texts: str) -> None:
        waiting[:] = texts or [SAID]
        monkeypatch.setattr(LanguageModel, "read", reading)
        monkeypatch.setattr(LanguageModel, "logits", logits)

    return sayer


def noise(seconds: float, rate: int = 16_000, level: float = 0.1) -> np.ndarray:
    return (np.random.default_rng(0).normal(size=int(seconds * rate)) * level).astype(np.float32)


@pytest.fixture(name="noise")
def noise_fixture():
    """``noise(seconds, rate=16000, level=0.1)`` -> float32 samples."""
    return noise


@pytest.fixture
def talk(tmp_path) -> Path:
    """A recording of two seconds."""
    path = tmp_path / "talk.wav"
    soundfile.write(path, noise(2.0), 16_000)
    return path


@pytest.fixture
def call(call_app, model_folder):
    """Run ``multiway-asr`` in this process; the tiny model is meant unless another one is named."""
    from multiway_asr.cli import cli

    run = call_app(cli, "multiway-asr")

    def caller(command, *arguments):
        model = (
            [] if command in ("train", "data") or "--hypotheses" in arguments else ["--model", model_folder]
        )
        return run(command, *(model if "--model" not in arguments else []), *arguments)

    return caller
