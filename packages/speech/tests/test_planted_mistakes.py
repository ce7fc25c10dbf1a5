"""Parts of the speech models against what they are defined as: mistakes planted there were not seen by other tests."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from multiway_speech.language_model import LanguageModelConfig
from multiway_speech.mel import mean_filters
from multiway_speech.speech_tokenizer.config import SpectrumConfig, SpeechTokenizerConfig
from multiway_speech.speech_tokenizer.objective import CodecObjective, magnitudes
from multiway_speech.speech_tokenizer.spectral import hann
from multiway_speech.vibevoice.model import VibeVoice
from multiway_speech.vibevoice_asr.config import VibeVoiceAsrConfig
from multiway_speech.vibevoice_asr.model import VibeVoiceAsr
from multiway_speech.vibevoice_asr.objective import IGNORED, AsrTrainingModel, _missed
from multiway_speech.vibevoice_realtime.model import VibeVoiceRealtime
from torch import Tensor
from torch.nn.functional import pad

from packages.speech.tests.test_small_asr import small_config
from packages.speech.tests.test_vibevoice_realtime import TINY as REALTIME
from packages.speech.tests.test_vibevoice_small import CONFIG as SPEAKING


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def windows(wave_BT: Tensor, size: int) -> Tensor:
    """(B, N, size): every window that lies in the sound, a quarter of its size apart."""
    count = (wave_BT.shape[1] - size) // (size // 4) + 1
    return torch.stack([wave_BT[:, n * size // 4 : n * size // 4 + size] for n in range(count)], dim=1)


def test_magnitudes_are_those_of_the_windows_inside() -> None:
    wave_BT = torch.randn(2, 300)
    expected_BNK = torch.fft.rfft(windows(wave_BT, 64) * hann(64, wave_BT.device)).abs()
    torch.testing.assert_close(magnitudes(wave_BT, 64), expected_BNK.transpose(1, 2), atol=2e-4, rtol=1e-4)


def test_each_distance_has_its_own_resolutions() -> None:
    objective = CodecObjective(fft_sizes=(64, 128), mel_sizes=(256,), num_mels=10)
    heard_BT, target_BT = torch.randn(2, 2, 600)
    found = objective.distances(heard_BT, target_BT)

    def apart(size: int, filters: Tensor | None = None) -> Tensor:
        floor = objective.floor * size / 1024
        both = [magnitudes(wave, size) for wave in (heard_BT, target_BT)]
        heard, target = both if filters is None else [filters @ one for one in both]
        return ((heard + floor) / (target + floor)).log().abs().mean()

    def relative(size: int) -> Tensor:
        heard, target = magnitudes(heard_BT, size), magnitudes(target_BT, size)
        return (heard - target).norm() / target.norm()

    filters_MK = mean_filters(256, 10, 16_000, heard_BT.device).t()
    torch.testing.assert_close(found["mel"], apart(256, filters_MK))
    torch.testing.assert_close(found["magnitude"], sum(apart(n) + relative(n) for n in (64, 128)) / 2)


def test_predicted_columns_are_compared_with_their_windows() -> None:
    spectrum = SpectrumConfig()
    target_BT = torch.randn(2, spectrum.fft_size + 3 * spectrum.hop)
    columns = [target_BT[:, n * spectrum.hop :][:, : spectrum.fft_size] for n in range(4)]
    exact_BNK = (
        torch.fft.rfft(torch.stack(columns, 1) * hann(spectrum.fft_size, target_BT.device)).abs().log()
    )
    objective = CodecObjective()
    assert float(objective.column_distance(exact_BNK, target_BT, spectrum)) < 1e-4
    floor, scale = objective.floor * spectrum.fft_size / 1024, torch.tensor(1.5)
    expected = ((1.5 * exact_BNK.exp() + floor) / (exact_BNK.exp() + floor)).log().mean()
    torch.testing.assert_close(
        objective.column_distance(exact_BNK + scale.log(), target_BT, spectrum),
        expected,
        atol=1e-4,
        rtol=1e-4,
    )


@pytest.mark.parametrize("build", [lambda: VibeVoice(SPEAKING), lambda: VibeVoiceRealtime(REALTIME)])
def test_latents_are_themselves_until_they_are_measured(build) -> None:
    model = build()
    latents = torch.randn(3, 4)
    assert torch.equal(model.denormalize(latents), latents)
    model.latent_scale.fill_(0.25)
    model.latent_bias.fill_(-0.5)
    torch.testing.assert_close(model.denormalize(latents), 4 * latents + 0.5)


@torch.no_grad()
def test_silence_fills_what_both_encoders_hear() -> None:
    audio = SpeechTokenizerConfig(latent_size=6, num_filters=4, ratios=(2, 5), depths=(1, 1, 1))
    config = VibeVoiceAsrConfig(audio, replace(audio, latent_size=9), small_config().text)
    model = VibeVoiceAsr(config).eval()
    for parameter in model.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    hop = config.hop
    wave_B1T = torch.randn(2, 1, 2 * hop + hop // 3)
    whole = model.hear([pad(wave_B1T, (0, hop - hop // 3))])
    assert whole.shape[1] == 3
    for piece in (2, 3, hop, 5 * hop):
        torch.testing.assert_close(model.hear(wave_B1T.split(piece, dim=2)), whole, atol=1e-5, rtol=1e-4)


def test_sound_starts_small_beside_words() -> None:
    config = small_config()
    wide = replace(config, text=replace(config.text, hidden_size=64))
    output = AsrTrainingModel(wide).acoustic_connector.output
    assert float(output.weight.std()) == pytest.approx(0.1 * 64**-0.5, rel=0.05)
    assert not output.bias.any()


def test_what_the_first_head_misses_is_its_mean_log_weight() -> None:
    text = LanguageModelConfig(
        hidden_size=16,
        num_layers=1,
        num_heads=2,
        num_kv_heads=1,
        inner_size=8,
        vocab_size=9,
        max_positions=32,
    )
    attention = (
        AsrTrainingModel(replace(small_config(), text=text)).language_model.decoder.layers[0].attention
    )
    for projection in (attention.query, attention.key):
        assert projection.bias is not None
        torch.nn.init.normal_(projection.bias)
    x_BTE, positions_BT = torch.randn(2, 5, 16), torch.arange(5).expand(2, 5)
    look_BT = torch.tensor([[0, IGNORED, 1, 3, IGNORED], [IGNORED, 0, 2, IGNORED, 4]])
    query, key = (
        linear(x_BTE).unflatten(-1, (-1, attention.head_dim)).transpose(1, 2)[:, :1]
        for linear in (attention.query, attention.key)
    )
    query, key = attention.rotary(query, positions_BT), attention.rotary.keys(key, positions_BT)
    weights_BTT = (query @ key.transpose(2, 3) * attention.head_dim**-0.5)[:, 0]
    weights_BTT = weights_BTT.masked_fill(torch.ones(5, 5).triu(1).bool(), -torch.inf).log_softmax(-1)
    seen = [-weights_BTT[b, t, look_BT[b, t]] for b, t in (look_BT != IGNORED).nonzero().tolist()]
    torch.testing.assert_close(_missed(attention, x_BTE, positions_BT, look_BT), torch.stack(seen).mean())
