"""VibeVoice-Realtime against what its makers' code computed: model, voice and numbers kept in ``golden/realtime``.

Their code needs an old `transformers`, so it was run once (`golden/realtime/make.py`); only its files are read here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from multiway_blocks.diffusion_solver import DiffusionSolver
from multiway_blocks.guided_sampling import LatentSampler
from multiway_speech.vibevoice.generation import SpeechGenerationConfig
from multiway_speech.vibevoice_realtime import checkpoint
from multiway_speech.vibevoice_realtime.generation import RealtimeGenerator
from multiway_speech.vibevoice_realtime.model import VibeVoiceRealtime
from multiway_speech.vibevoice_realtime.voices import RealtimeVoice
from safetensors.torch import load_file
from torch import Tensor

FOLDER = Path(__file__).parent / "golden" / "realtime"
EXACT = {"atol": 1e-5, "rtol": 1e-5}
STEPS, GUIDANCE = 4, 1.5


@pytest.fixture(scope="module")
def expected() -> dict[str, Tensor]:
    return load_file(FOLDER / "expected.safetensors")


@pytest.fixture(scope="module")
def model() -> VibeVoiceRealtime:
    return checkpoint.load(FOLDER)


@pytest.fixture(scope="module")
def voice(model) -> RealtimeVoice:
    return RealtimeVoice.load(FOLDER / "voice.pt", model.config)


class Replayed(RealtimeGenerator):
    """Draws the noises that the makers' run drew."""

    def __init__(self, model: VibeVoiceRealtime, noise_FD: Tensor) -> None:
        super().__init__(
            model, SpeechGenerationConfig(max_frames=40, guidance=GUIDANCE, diffusion_steps=STEPS)
        )
        self.noises = iter(noise_FD.split(1))

    def draw_noise(self, generator):
        return next(self.noises)


def speak(model, voice, expected: Mapping[str, Tensor]) -> list:
    return list(Replayed(model, expected["noise"]).stream(expected["words"].tolist(), voice))


def test_speech_and_its_end_equal_the_makers(model, voice, expected) -> None:
    """Fifteen frames, each of which hears the one before: rounding grows on the way (2e-5 at the end)."""
    steps = speak(model, voice, expected)
    assert [step.ended for step in steps] == [None] * 14 + ["eos"]
    audio = torch.cat([step.audio for step in steps])
    torch.testing.assert_close(audio, expected["audio"], atol=1e-4, rtol=0)
    assert audio.std() > 0.01


@torch.no_grad()
def test_states_equal_the_makers(model, voice, expected) -> None:
    """Both contexts behind the makers' words and latents, within 1e-5 of the largest state (2.6 and 3.1).

    The largest difference, 1.6e-5, is their rounding: from ours in float64 ours in float32 is 1.4e-6 away.
    """
    generator = Replayed(model, expected["noise"])
    lower, upper, negative_1E = generator._begin(voice)
    words, frame = list(expected["words"].split(5)), 0
    while frame < 18:
        positive_1E = generator._read(words.pop(0)[None], lower, upper)
        for _ in range(6):
            for state_1E, name in ((positive_1E, "positive"), (negative_1E, "negative")):
                largest = float(expected[name].abs().max())
                torch.testing.assert_close(state_1E[0], expected[name][frame], atol=1e-5 * largest, rtol=0)
            latent_11D = expected["latents"][None, frame : frame + 1]
            positive_1E, negative_1E = model.hear(latent_11D.expand(2, -1, -1), upper)[:, -1].split(1)
            torch.testing.assert_close(model.end(positive_1E)[0], expected["end"][frame], **EXACT)
            frame += 1


@torch.no_grad()
def test_latents_equal_the_makers(model, expected) -> None:
    solver = DiffusionSolver(model.schedule, STEPS)
    hidden_RE = torch.cat([expected["positive"], expected["negative"]])
    found = LatentSampler(model.head, solver, GUIDANCE)(hidden_RE, lambda: expected["noise"])
    torch.testing.assert_close(found, expected["latents"], **EXACT)
    assert found.std() > 0.1


@torch.no_grad()
def test_sound_of_latents_equals_the_makers(model, expected) -> None:
    latents = model.denormalize(expected["latents"][None, :15])
    torch.testing.assert_close(model.acoustic.decode(latents)[0, 0], expected["audio"], **EXACT)
    streamed = torch.cat(list(model.acoustic.decode_stream(latents.split(1, dim=1))), dim=-1)
    torch.testing.assert_close(streamed[0, 0], expected["audio"], **EXACT)


@torch.no_grad()
def test_states_of_words_equal_the_makers(model, voice, expected) -> None:
    generator = RealtimeGenerator(model, SpeechGenerationConfig(max_frames=1))
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


def test_another_number_somewhere_is_noticed(model, voice, expected, monkeypatch) -> None:
    """The comparison is not blind: a scale of the connector moved by one part in a thousand fails it."""
    weight = model.acoustic_connector.norm.weight
    monkeypatch.setattr(weight, "data", weight.data * 1.001)
    audio = torch.cat([step.audio for step in speak(model, voice, expected)])[:150]
    assert (audio - expected["audio"][: len(audio)]).abs().max() > 1e-4
