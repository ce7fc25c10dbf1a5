"""VibeVoice-Realtime against what its makers' code computed: model, voice and numbers kept in ``golden/realtime``.

Their code needs an old `transformers`, so it was run once (`golden/realtime/make.py`); only its files are read here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from multiway_speech.vibevoice.generation import SpeakingConfig
from multiway_speech.vibevoice_realtime import checkpoint
from multiway_speech.vibevoice_realtime.generation import RealtimeGenerator
from multiway_speech.vibevoice_realtime.model import VibeVoiceRealtime
from multiway_speech.vibevoice_realtime.voices import RealtimeVoice
from safetensors.torch import load_file
from torch import Tensor

FOLDER = Path(__file__).parent / "golden" / "realtime"
EXACT = {"atol": 1e-5, "rtol": 1e-5}


@pytest.fixture(scope="module")
def expected() -> dict[str, Tensor]:
    return load_file(FOLDER / "expected.safetensors")


@pytest.fixture(scope="module")
def model() -> VibeVoiceRealtime:
    return checkpoint.load(FOLDER)


@pytest.fixture(scope="module")
def voice(model) -> RealtimeVoice:
    return RealtimeVoice.load(FOLDER / "voice.pt", model.config)


class Watched(RealtimeGenerator):
    """Draws the noises that the makers' run drew, and keeps what goes through."""

    def __init__(self, model: VibeVoiceRealtime, config: SpeakingConfig, noise_FD: Tensor) -> None:
        super().__init__(model, config)
        self.noises = iter(noise_FD.split(1))
        self.seen: dict[str, list[Tensor]] = {name: [] for name in ("positive", "negative", "latents")}

    def draw_noise(self, generator):
        return next(self.noises)

    def _sample(self, positive_1E, negative_1E, times_SE, generator):
        latent_1D = super()._sample(positive_1E, negative_1E, times_SE, generator)
        for name, value in (("positive", positive_1E), ("negative", negative_1E), ("latents", latent_1D)):
            self.seen[name].append(value)
        return latent_1D


def speak(model, voice, expected: Mapping[str, Tensor]) -> tuple[Watched, list]:
    config = SpeakingConfig(max_frames=40, guidance=1.5, diffusion_steps=4)
    generator = Watched(model, config, expected["noise"])
    return generator, list(generator.stream(expected["words"].tolist(), voice))


def test_states_latents_sound_and_end_equal_the_makers(model, voice, expected) -> None:
    generator, steps = speak(model, voice, expected)
    assert [step.ended for step in steps] == [None] * 14 + ["eos"]
    audio = torch.cat([step.audio for step in steps])
    torch.testing.assert_close(audio, expected["audio"], **EXACT)
    assert audio.std() > 0.01
    for name, values in generator.seen.items():
        torch.testing.assert_close(torch.cat(values), expected[name][:15], **EXACT)


@torch.no_grad()
def test_decisions_to_go_on_equal_the_makers(model, expected) -> None:
    """The state behind a frame is the next one's condition; behind a window, words are read in between."""
    pairs = [frame for frame in range(1, 18) if frame % 6]
    logits = model.end(expected["positive"][pairs])
    torch.testing.assert_close(logits, expected["end"][[frame - 1 for frame in pairs]], **EXACT)
    assert (logits > 0).any()


@torch.no_grad()
def test_states_of_words_equal_the_makers(model, voice, expected) -> None:
    generator = RealtimeGenerator(model, SpeakingConfig(max_frames=1))
    lower, upper, negative_1E = generator._begin(voice)
    torch.testing.assert_close(negative_1E, expected["negative"][:1], **EXACT)
    words = expected["words"]
    first = model.read(words[None, :5], lower, upper)[:1]
    torch.testing.assert_close(first[0], expected["read"][:5], **EXACT)


def test_the_makers_files_are_read_whole(model, voice) -> None:
    assert (model.config.text.num_layers, model.config.num_upper_layers) == (5, 3)
    assert model.config.acoustic.ratios == (2, 5)
    assert float(model.latent_scale) == 0.2333984375
    assert float(model.latent_bias) == -0.0703125
    assert [len(layers) for layers in (voice.lower, voice.upper, voice.negative)] == [2, 3, 3]
    assert voice.upper[0][0].shape == (2, 7, 4)  # four words of text and three frames
    assert voice.upper[0][0].dtype == torch.bfloat16


def test_another_number_somewhere_is_noticed(model, voice, expected) -> None:
    """The comparison is not blind: a scale of the connector moved by one part in a thousand fails it."""
    weight = model.acoustic_connector.norm.weight
    saved = weight.detach().clone()
    try:
        with torch.no_grad():
            weight.mul_(1.001)
        _, steps = speak(model, voice, expected)
    finally:
        with torch.no_grad():
            weight.copy_(saved)
    audio = torch.cat([step.audio for step in steps])[:150]
    with pytest.raises(AssertionError):
        torch.testing.assert_close(audio, expected["audio"][: len(audio)], **EXACT)
