"""The pipeline of VibeVoice-Realtime: text in any parts, voices by name, sound frame by frame."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from multiway_core.errors import CheckpointError, InputError
from multiway_core.tokenization import TextTokenizer
from multiway_speech.language_model import LanguageModelConfig
from multiway_speech.speech_tokenizer.config import SpeechTokenizerConfig
from multiway_speech.vibevoice.config import DiffusionHeadConfig
from multiway_speech.vibevoice_realtime import checkpoint
from multiway_speech.vibevoice_realtime.config import VibeVoiceRealtimeConfig
from multiway_speech.vibevoice_realtime.model import VibeVoiceRealtime
from multiway_speech.vibevoice_realtime.pipeline import (
    RealtimeOptions,
    RealtimePipeline,
    RealtimeSpeech,
    tokens_of,
)
from multiway_speech.vibevoice_realtime.voices import RealtimeVoice

TINY = VibeVoiceRealtimeConfig(
    acoustic=SpeechTokenizerConfig(
        latent_size=6, num_filters=3, ratios=(2, 5), depths=(1, 1, 1), layer_scale=0.3
    ),
    text=LanguageModelConfig(
        hidden_size=16,
        num_layers=3,
        num_heads=4,
        num_kv_heads=2,
        inner_size=24,
        vocab_size=320,
        max_positions=64,
    ),
    head=DiffusionHeadConfig(num_layers=1, inner_size=24, frequency_size=256),
    num_upper_layers=2,
)
ONE_STEP = RealtimeOptions(diffusion_steps=1)


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory, tiny_tokenizer) -> RealtimePipeline:
    folder = tmp_path_factory.mktemp("realtime")
    torch.manual_seed(0)
    model = VibeVoiceRealtime(TINY).eval()
    model.end.output.bias.data.fill_(-5)
    checkpoint.save(model, folder)
    tiny_tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "voices").mkdir()

    def layers(count: int, positions: int) -> list:
        return [(torch.randn(2, positions, 4), torch.randn(2, positions, 4)) for _ in range(count)]

    RealtimeVoice("emma", layers(1, 4), layers(2, 7), layers(2, 1), torch.randn(1, 16)).save(
        folder / "voices" / "emma.safetensors"
    )
    return RealtimePipeline.from_pretrained(str(folder))


def test_frames_come_one_by_one_and_then_the_whole(pipeline) -> None:
    *pieces, speech = pipeline.stream("The voices of the speakers.", pipeline.voice("emma"), ONE_STEP)
    assert isinstance(speech, RealtimeSpeech)
    assert {len(piece.samples) for piece in pieces} == {10}
    assert np.array_equal(np.concatenate([piece.samples for piece in pieces]), speech.samples)
    assert "64 positions are used up" in speech.problem


def test_the_model_ends_the_speech(pipeline, monkeypatch) -> None:
    monkeypatch.setattr(pipeline.model.end.output.bias, "data", torch.tensor([50.0]))
    speech = pipeline("Hello.", pipeline.voice("emma"), ONE_STEP)
    assert speech.problem is None
    assert len(speech.samples) == 10


def test_how_the_text_is_cut_makes_no_difference(pipeline, tiny_tokenizer) -> None:
    tokenizer = TextTokenizer(tiny_tokenizer)
    text = "  The voices,  of\nthe 42 speakers: don't transcribe  the audio! "
    whole = tokenizer.encode("The voices, of the 42 speakers: don't transcribe the audio!\n")
    assert list(tokens_of([text], tokenizer)) == whole
    assert list(tokens_of(list(text), tokenizer)) == whole
    assert list(tokens_of([text[:9], "", text[9:30], text[30:]], tokenizer)) == whole
    assert list(tokens_of(["a"], tokenizer)) == tokenizer.encode("a\n")
    assert list(tokens_of([" ", "\n"], tokenizer)) == []


def test_sound_begins_before_the_text_is_complete(pipeline) -> None:
    taken = []

    def writer():
        for word in [
            "The",
            "voices",
            "of",
            "the",
            "speakers",
            "transcribe",
            "the",
            "audio",
            "of",
            "all",
            "voices",
            "",
        ]:
            taken.append(word)
            yield word + " "

    next(pipeline.stream(writer(), pipeline.voice("emma"), ONE_STEP))
    assert 1 < len(taken) < 6


def test_voices_by_name_and_file(pipeline, tmp_path) -> None:
    assert pipeline.voices() == ("emma",)
    assert pipeline.voice(pipeline.folder / "voices" / "emma.safetensors").name == "emma"
    with pytest.raises(InputError, match="no voice karl; there are: emma"):
        pipeline.voice("karl")
    (tmp_path / "bad.safetensors").write_bytes(b"x" * 20)
    with pytest.raises(CheckpointError):
        pipeline.voice(tmp_path / "bad.safetensors")


def test_nothing_to_speak(pipeline) -> None:
    with pytest.raises(InputError, match="no text to speak"):
        pipeline(" \n", pipeline.voice("emma"))
