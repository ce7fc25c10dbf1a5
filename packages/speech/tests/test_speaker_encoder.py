"""The speaker encoder against the package it comes from, NumPy's spectrum, and a plain LSTM."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from multiway_core.errors import CheckpointError
from multiway_speech.vibevoice_asr.config import VibeVoiceAsrConfig
from multiway_speech.vibevoice_asr.model import VibeVoiceAsr
from multiway_speech.vibevoice_asr.speaker_encoder import (
    SpeakerEncoder,
    SpeakerEncoderConfig,
    VoiceColumns,
    load_encoder,
)

CONFIG = SpeakerEncoderConfig()


def noise(seconds: float, seed: int = 0, level: float = 0.1) -> torch.Tensor:
    """Noise that swells and ebbs."""
    time_T = torch.arange(int(seconds * 16_000)) / 16_000
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(len(time_T), generator=generator) * level * (1.2 + torch.sin(time_T * 9))


@pytest.fixture(scope="module")
def encoder() -> SpeakerEncoder:
    """Random weights, as large as those of a trained one."""
    torch.manual_seed(0)
    encoder = SpeakerEncoder(CONFIG).eval()
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.15)
    return encoder


def columns_of(wave_T: torch.Tensor, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    columns = VoiceColumns(CONFIG)
    for piece_T in wave_T.split(size):
        columns.feed(piece_T)
    return columns.finish()


def slaney_filters(count: int) -> np.ndarray:
    """Triangles of area 1 Hz between points that are evenly spaced on Slaney's scale: the peer's default."""

    def to_mel(hertz: np.ndarray) -> np.ndarray:
        return np.where(
            hertz < 1000, hertz * 3 / 200, 15 + 27 * np.log(np.maximum(hertz, 1) / 1000) / np.log(6.4)
        )

    grid = np.linspace(0, 8000, 800_001)
    points = np.interp(np.linspace(0, to_mel(np.array(8000.0)), count + 2), to_mel(grid), grid)
    bins = np.arange(201) * 40.0
    rows = []
    for low, middle, high in zip(points, points[1:], points[2:], strict=False):
        triangle = np.interp(bins, [low, middle, high], [0.0, 1.0, 0.0])
        rows.append(triangle * 2 / (high - low))
    return np.array(rows)


def test_columns_are_the_power_in_mel_bands() -> None:
    wave_T = noise(1.23)
    mels_NM, power_N = columns_of(wave_T, 100_000)
    padded = np.pad(wave_T.double().numpy(), 200)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    frames = np.stack([padded[at : at + 400] for at in range(0, len(padded) - 399, 160)])
    expected = np.abs(np.fft.rfft(frames * window)) ** 2 @ slaney_filters(40).T
    assert mels_NM.shape == expected.shape == (1 + len(wave_T) // 160, 40)
    np.testing.assert_allclose(mels_NM.numpy(), expected, rtol=2e-3, atol=1e-6)
    np.testing.assert_allclose(power_N.numpy(), (frames**2).mean(1), rtol=2e-3)


def test_pieces_give_the_columns_of_the_whole() -> None:
    wave_T = noise(2.0)
    whole = columns_of(wave_T, len(wave_T))
    for size in (77, 1601, 16_000):
        for ours, theirs in zip(columns_of(wave_T, size), whole, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=2e-3, atol=1e-6)


@torch.no_grad()
def test_the_network_is_an_lstm_and_a_linear_map(encoder) -> None:
    state = encoder.state_dict()
    peer = torch.nn.LSTM(40, 256, 3, batch_first=True)
    peer.load_state_dict({name[5:]: tensor for name, tensor in state.items() if name.startswith("lstm.")})
    mels_BNM = torch.rand(3, 50, 40)
    last_BE = peer(mels_BNM)[0][:, -1]
    raw_BE = (last_BE @ state["linear.weight"].T + state["linear.bias"]).clamp_min(0)
    torch.testing.assert_close(encoder(mels_BNM), raw_BE / raw_BE.norm(dim=1, keepdim=True))


@torch.no_grad()
def test_a_stretch_is_the_mean_of_its_windows(encoder) -> None:
    wave_T = noise(2.4)  # 241 columns: windows at 0, 80 and 81
    mels_NM, _ = columns_of(wave_T, 100_000)
    parts = torch.stack([encoder(mels_NM[None, start : start + 160])[0] for start in (0, 80, 81)])
    expected_E = torch.nn.functional.normalize(parts.mean(0), dim=0)
    torch.testing.assert_close(encoder.embed(wave_T), expected_E, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(encoder.embed(wave_T).norm(), torch.tensor(1.0))
    # A soft voice is raised, and any length is heard.
    soft = float(encoder.embed(wave_T * 1e-2) @ encoder.embed(wave_T * 1e-2 * 0.5))
    assert soft > 0.999
    for seconds in (0.02, 0.5, 1.59):
        assert torch.isfinite(encoder.embed(noise(seconds))).all()
    assert torch.isfinite(encoder.embed(torch.zeros(8000))).all()


def test_published_weights_are_read(encoder, tmp_path: Path) -> None:
    published = {
        **encoder.state_dict(),
        "similarity_weight": torch.ones(1),
        "similarity_bias": torch.zeros(1),
    }
    torch.save({"step": 1, "model_state": published}, tmp_path / "pretrained.pt")
    loaded = load_encoder(tmp_path / "pretrained.pt")
    wave_T = noise(1.7)
    torch.testing.assert_close(loaded.embed(wave_T), encoder.embed(wave_T))
    del published["linear.bias"]
    torch.save({"model_state": published}, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match=r"linear\.bias"):
        load_encoder(tmp_path / "other.pt")


def test_the_rates_must_agree() -> None:
    with pytest.raises(ValueError, match="must be equal"):
        VibeVoiceAsrConfig(speaker=CONFIG)


def test_the_bundled_weights_tell_two_sounds_apart() -> None:
    from multiway_core import hub
    from multiway_speech.vibevoice_asr import checkpoint

    model: VibeVoiceAsr = checkpoint.load(Path(hub.resolve("bundled:asr-tiny")))
    assert model.speaker is not None
    one_T, other_T = noise(3.0, 1), torch.sin(torch.arange(48_000) * 0.05).sign() * 0.1
    alike = float(model.speaker.embed(one_T) @ model.speaker.embed(noise(3.0, 2)))
    assert alike > 0.9 > 0.8 > float(model.speaker.embed(one_T) @ model.speaker.embed(other_T))


@torch.no_grad()
def test_parity_with_the_package() -> None:
    peer_module = pytest.importorskip("resemblyzer", exc_type=ImportError)
    peer = peer_module.VoiceEncoder("cpu", verbose=False)
    ours = load_encoder(Path(peer_module.__file__).parent / "pretrained.pt")
    for seconds in (1.6, 2.4, 5.0):
        wave_T = noise(seconds)
        mel_NM = torch.from_numpy(peer_module.audio.wav_to_mel_spectrogram(wave_T.numpy()))
        torch.testing.assert_close(columns_of(wave_T, 9999)[0], mel_NM, rtol=2e-3, atol=1e-6)
        torch.testing.assert_close(ours(mel_NM[None, :160]), peer(mel_NM[None, :160]))
        assert float(ours.embed(wave_T) @ torch.from_numpy(peer.embed_utterance(wave_T.numpy()))) > 0.99
