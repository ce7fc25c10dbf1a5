"""Whisper's encoder: beside Hugging Face's and CTranslate2's, in pieces, and inside VibeVoice-ASR."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from multiway_core.errors import CheckpointError
from multiway_speech.language_model import LanguageModelConfig
from multiway_speech.speech_tokenizer.config import SpectrumConfig, SpeechTokenizerConfig
from multiway_speech.vibevoice_asr.config import VibeVoiceAsrConfig
from multiway_speech.vibevoice_asr.model import VibeVoiceAsr
from multiway_speech.vibevoice_asr.whisper_encoder import (
    WhisperEncoder,
    WhisperEncoderConfig,
    WhisperStream,
    log_mel,
)
from multiway_speech.vibevoice_asr.whisper_weights import load_whisper_encoder

SMALL = WhisperEncoderConfig(hidden_size=32, num_layers=2, num_heads=2, positions=100, margin=10)


def small_encoder(config: WhisperEncoderConfig = SMALL) -> WhisperEncoder:
    torch.manual_seed(0)
    encoder = WhisperEncoder(config).eval()
    torch.nn.init.normal_(encoder.positions, std=0.3)
    with torch.no_grad():
        for layer in encoder.layers:
            layer.qkv.bias[32:64] = 0.0
    return encoder


def noise(seconds: float, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(1, 1, int(seconds * 16_000), generator=generator)


@torch.no_grad()
def test_columns_are_those_of_hugging_face() -> None:
    transformers = pytest.importorskip("transformers")
    theirs = transformers.WhisperModel(
        transformers.WhisperConfig(
            d_model=32,
            encoder_layers=2,
            encoder_attention_heads=2,
            encoder_ffn_dim=128,
            decoder_layers=1,
            decoder_attention_heads=2,
            max_source_positions=100,
            vocab_size=100,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
            decoder_start_token_id=1,
        )
    ).encoder.eval()
    ours = small_encoder()
    names = {"conv1": "conv1", "conv2": "conv2", "layer_norm": "norm"}
    for i in range(2):
        layer = f"layers.{i}."
        names |= {
            f"{layer}self_attn_layer_norm": f"{layer}attention_norm",
            f"{layer}self_attn.out_proj": f"{layer}output",
            f"{layer}final_layer_norm": f"{layer}feedforward_norm",
            f"{layer}fc1": f"{layer}up",
            f"{layer}fc2": f"{layer}down",
        }
    for their_name, our_name in names.items():
        theirs.get_submodule(their_name).load_state_dict(ours.get_submodule(our_name).state_dict())
    theirs.embed_positions.weight.copy_(ours.positions)
    for own, other in zip(ours.layers, theirs.layers, strict=True):
        projections = (other.self_attn.q_proj, other.self_attn.k_proj, other.self_attn.v_proj)
        for projection, weight, bias in zip(
            projections, own.qkv.weight.chunk(3), own.qkv.bias.chunk(3), strict=True
        ):
            projection.weight.copy_(weight)
            if projection.bias is not None:
                projection.bias.copy_(bias)
    mels_BMN = torch.randn(2, 80, 200)
    torch.testing.assert_close(ours.columns(mels_BMN), theirs(mels_BMN).last_hidden_state)


def test_log_mel_is_that_of_hugging_face() -> None:
    transformers = pytest.importorskip("transformers")
    extractor = transformers.WhisperFeatureExtractor(feature_size=80, chunk_length=2)
    wave = noise(2.0)
    expected = extractor(wave[0, 0].numpy(), sampling_rate=16_000, return_tensors="pt").input_features
    torch.testing.assert_close(log_mel(wave[:, 0], 80), expected, atol=2e-4, rtol=0)


def test_real_weights_give_what_ctranslate2_gives() -> None:
    """Needs the package and the model's folder in ``MULTIWAY_WHISPER_TINY_EN``."""
    ctranslate2 = pytest.importorskip("ctranslate2")
    folder = Path(os.environ.get("MULTIWAY_WHISPER_TINY_EN", "none"))
    if not (folder / "model.bin").is_file():
        pytest.skip("MULTIWAY_WHISPER_TINY_EN names no folder with Whisper's model.bin")
    mels_BMN = log_mel(torch.nn.functional.pad(noise(3.0), (0, 27 * 16_000))[:, 0], 80)
    peer = ctranslate2.models.Whisper(str(folder), device="cpu", compute_type="float32", intra_threads=1)
    features = ctranslate2.StorageView.from_array(np.ascontiguousarray(mels_BMN.numpy()))
    expected = torch.from_numpy(np.array(peer.encode(features, to_cpu=True)))
    with torch.no_grad():
        ours = load_whisper_encoder(folder / "model.bin").columns(mels_BMN)
    torch.testing.assert_close(ours, expected, atol=1e-3, rtol=0)


@torch.no_grad()
def test_pieces_give_the_frames_of_the_whole() -> None:
    encoder = small_encoder()
    wave = noise(5.03)  # windows are 2 s
    whole = encoder(wave)
    assert whole.shape == (1, 126, 64)
    for size in (1, 777, 16_000, 40_000):
        stream = WhisperStream(encoder)
        pieces = wave.split(size if size > 1 else 3_201, dim=-1)
        torch.testing.assert_close(
            torch.cat([*(stream.feed(piece) for piece in pieces), stream.finish()], dim=1), whole
        )


@torch.no_grad()
def test_a_cut_does_not_move_frames() -> None:
    """Far from its ends, a window gives what it would give by itself."""
    encoder = small_encoder()
    wave = noise(5.0)
    step = (SMALL.positions - 2 * SMALL.margin) * 320
    second = encoder.window(wave[..., step : step + SMALL.positions * 320])
    first_kept = (SMALL.positions - SMALL.margin) // 2
    length = (SMALL.positions - 2 * SMALL.margin) // 2
    torch.testing.assert_close(encoder(wave)[:, first_kept : first_kept + length], second[:, 5 : 5 + length])


@torch.no_grad()
def test_the_model_hears_alike_in_pieces_and_stacks_frames() -> None:
    config = VibeVoiceAsrConfig(
        acoustic=SpeechTokenizerConfig(
            latent_size=6,
            widths=(8, 8, 8),
            ratios=(2, 2),
            depths=(0, 1, 1),
            layer_scale=0.3,
            sample_rate=16_000,
            spectrum=SpectrumConfig(),
        ),
        text=LanguageModelConfig(
            hidden_size=16, num_layers=1, num_heads=2, num_kv_heads=1, inner_size=24, vocab_size=320
        ),
        whisper=SMALL,
        stacked=2,
    )
    torch.manual_seed(0)
    model = VibeVoiceAsr(config).eval()
    wave = noise(3.01)
    whole = model.hear([wave])
    assert whole.shape == (1, config.num_positions(wave.shape[-1]), 16)
    assert config.num_positions(wave.shape[-1]) == 38
    torch.testing.assert_close(model.hear(wave.split(7_001, dim=-1)), whole, atol=1e-5, rtol=1e-4)


def test_the_hops_must_agree() -> None:
    with pytest.raises(ValueError, match="must be equal"):
        VibeVoiceAsrConfig(whisper=WhisperEncoderConfig())


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"\x06\x00\x00\x00\x03\x00ab\x00 and the rest")
    with pytest.raises(CheckpointError, match="expected 'WhisperSpec'"):
        load_whisper_encoder(tmp_path / "model.bin")
    (tmp_path / "model.bin").write_bytes(b"\x06")
    with pytest.raises(CheckpointError, match="not a CTranslate2 model file"):
        load_whisper_encoder(tmp_path / "model.bin")
