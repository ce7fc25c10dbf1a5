"""The speech tokenizers against the classes of `transformers`, and as streams."""

from __future__ import annotations

import json
import resource

import pytest
import torch
from multiway_blocks.causal_conv import StreamState
from multiway_core import checkpoint as tensors
from multiway_core.checkpoint import RuleTable
from multiway_core.errors import CheckpointError, ConfigError
from multiway_speech.speech_tokenizer import checkpoint
from multiway_speech.speech_tokenizer.config import ACOUSTIC, SEMANTIC, SpeechTokenizerConfig
from multiway_speech.speech_tokenizer.model import (
    AcousticTokenizer,
    encode_stream,
    new_encoder,
    split_waveform,
)
from safetensors.torch import save_file

SIZES = {
    "short": {"hidden_size": 6, "num_filters": 4, "downsampling_ratios": [2, 5], "depths": [1, 2, 1]},
    "long": {
        "hidden_size": 5,
        "num_filters": 3,
        "downsampling_ratios": [2, 2, 3, 4],
        "depths": [1, 1, 2, 1, 2],
        "kernel_size": 5,
        "ffn_expansion": 3,
        "rms_norm_eps": 1e-4,
        "vae_std": 0.3,
    },
}


@pytest.fixture(scope="module", params=list(SIZES))
def published(request, perturb, tmp_path_factory):
    """The peer's acoustic tokenizer and its folder."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.VibeVoiceAcousticTokenizerConfig(**SIZES[request.param])
    model = perturb(transformers.VibeVoiceAcousticTokenizerModel(config))
    folder = tmp_path_factory.mktemp(request.param)
    model.save_pretrained(folder)
    return model, folder


def noise(rows: int, samples: int) -> torch.Tensor:
    return torch.randn(rows, 1, samples, generator=torch.Generator().manual_seed(samples))


@pytest.mark.peer
@torch.no_grad()
def test_encode_and_decode_equal_the_peer(published) -> None:
    theirs, folder = published
    ours = checkpoint.load(folder)
    wave = noise(2, ours.config.hop * 9)
    latents = theirs.encode(wave, sample=False).latents
    torch.testing.assert_close(ours.encode(wave), latents, atol=1e-5, rtol=1e-5)
    assert latents.std() > 0.1
    torch.testing.assert_close(ours.decode(latents), theirs.decode(latents).audio, atol=1e-5, rtol=1e-5)


@pytest.mark.peer
@torch.no_grad()
def test_streams_equal_the_peers_streams(published) -> None:
    theirs, folder = published
    ours = checkpoint.load(folder)
    hop = ours.config.hop
    frames = torch.randn(2, 6, ours.config.latent_size)
    wave, cache, state = noise(2, hop * 6), None, StreamState(2)
    encoder_cache, encoder_state = None, StreamState(2)
    for step in range(6):
        out = theirs.decode(frames[:, step : step + 1], padding_cache=cache, use_cache=True)
        cache = out.padding_cache
        audio = ours.decoder(frames[:, step : step + 1], state)
        torch.testing.assert_close(audio, out.audio, atol=1e-5, rtol=1e-5)
        piece = wave[..., step * hop : (step + 1) * hop]
        encoded = theirs.encoder(piece, padding_cache=encoder_cache, use_cache=True)
        encoder_cache = encoded.padding_cache
        torch.testing.assert_close(ours.encoder(piece, encoder_state), encoded.latents, atol=1e-5, rtol=1e-5)


@pytest.mark.peer
@torch.no_grad()
def test_original_layout(published, to_original, tmp_path) -> None:
    theirs, folder = published
    stages = len(theirs.config.depths)
    renamed = {f"t.{to_original(name)}": tensor for name, tensor in theirs.state_dict().items()}
    save_file({name: tensor.contiguous() for name, tensor in renamed.items()}, tmp_path / "model.safetensors")
    ours = AcousticTokenizer(checkpoint.load(folder).config)
    rules = RuleTable(
        [
            *checkpoint.encoder_rules("original", "t.encoder.", "encoder.", stages),
            *checkpoint.decoder_rules("original", "t.decoder.", "decoder.", stages),
        ]
    )
    tensors.load(ours, tmp_path, rules=rules)
    wave = noise(1, ours.config.hop * 4)
    torch.testing.assert_close(
        ours.encode(wave), theirs.encode(wave, sample=False).latents, atol=1e-5, rtol=1e-5
    )


@pytest.mark.peer
def test_full_size_names_and_shapes() -> None:
    transformers = pytest.importorskip("transformers")
    with torch.device("meta"):
        theirs = transformers.VibeVoiceAcousticTokenizerModel(transformers.VibeVoiceAcousticTokenizerConfig())
    with tensors.on_meta():
        ours, semantic = AcousticTokenizer(ACOUSTIC), new_encoder(SEMANTIC)
    rules = RuleTable(
        [
            *checkpoint.encoder_rules("hugging_face", "encoder.", "encoder.", 7),
            *checkpoint.decoder_rules("hugging_face", "decoder.", "decoder.", 7),
        ]
    )
    expected = {rules.to_ours(name): tensor.shape for name, tensor in theirs.state_dict().items()}
    assert {name: tensor.shape for name, tensor in ours.state_dict().items()} == expected
    assert sum(p.numel() for p in ours.parameters()) == pytest.approx(687.4e6, rel=1e-3)
    assert sum(p.numel() for p in semantic.parameters()) == pytest.approx(344.6e6, rel=1e-3)
    assert (ACOUSTIC.hop, ACOUSTIC.frame_rate) == (3200, 7.5)
    assert ACOUSTIC.num_frames(60 * 60 * 24_000) == 27_000


def test_both_dialects_of_the_sizes() -> None:
    original = {
        "model_type": "vibevoice_acoustic_tokenizer", "channels": 1, "causal": True, "vae_dim": 64, "fix_std": 0.5,
        "std_dist_type": "gaussian", "mixer_layer": "depthwise_conv", "conv_norm": "none", "pad_mode": "constant",
        "disable_last_norm": True, "layernorm": "RMSNorm", "layernorm_eps": 1e-5, "conv_bias": True,
        "layer_scale_init_value": 1e-6, "encoder_n_filters": 32, "encoder_ratios": [8, 5, 5, 4, 2, 2],
        "encoder_depths": "3-3-3-3-3-3-8", "decoder_n_filters": 32, "decoder_ratios": [8, 5, 5, 4, 2, 2],
        "decoder_depths": None,
    }  # fmt: skip
    assert checkpoint.config_from_published(original, where="x") == ACOUSTIC
    semantic = original | {"vae_dim": 128, "fix_std": 0, "std_dist_type": "none"}
    assert checkpoint.config_from_published(semantic, where="x") == SEMANTIC
    assert checkpoint.config_from_published({"hidden_size": 64}, where="x") == ACOUSTIC
    for wrong in (
        {"conv_norm": "weight_norm"},
        {"encoder_ratios": "eight"},
        {"decoder_depths": "1-1-1-1-1-1-1"},
    ):
        with pytest.raises(CheckpointError, match="where it is"):
            checkpoint.config_from_published(original | wrong, where="where it is")
    with pytest.raises(ConfigError, match="6 ratios need 7 depths"):
        checkpoint.config_from_published(original | {"encoder_depths": "3-3"}, where="x")


def test_a_foreign_folder_is_refused(tmp_path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen2"}))
    with pytest.raises(CheckpointError, match="qwen2"):
        checkpoint.load(tmp_path)


@torch.no_grad()
def test_streams_of_any_pieces() -> None:
    torch.manual_seed(0)
    config = SpeechTokenizerConfig(
        latent_size=4, num_filters=3, ratios=(2, 5), depths=(1, 1, 1), layer_scale=0.5
    )
    model = AcousticTokenizer(config).eval()
    wave = noise(2, 87)  # eight frames and seven samples
    frames = model.encode(wave)
    assert frames.shape == (2, 9, 4)
    for lengths in ([87], [3, 4, 80], [40, 0, 40, 7], [1] * 87):
        streamed = torch.cat(list(model.encode_stream(wave.split(lengths, dim=2))), dim=1)
        torch.testing.assert_close(streamed, frames, atol=1e-5, rtol=0)
    audio = torch.cat(list(model.decode_stream(frames.split([1, 5, 3], dim=1))), dim=2)
    torch.testing.assert_close(audio, model.decode(frames), atol=1e-5, rtol=0)
    assert list(model.encode_stream([])) == []
    assert [len(piece[0, 0]) for piece in split_waveform(noise(1, 500_001), config)] == [
        240_000,
        240_000,
        20_001,
    ]


@torch.no_grad()
def test_memory_does_not_grow_with_the_length() -> None:
    config = SpeechTokenizerConfig(latent_size=2, num_filters=2, ratios=(8, 10), depths=(1, 0, 0))
    encoder, frames, peaks = new_encoder(config).eval(), 0, []
    pieces = (torch.zeros(1, 1, 80_000) for _ in range(60))  # the whole's first layer would need 150 MB
    for piece in encode_stream(encoder, pieces):
        frames += piece.shape[1]
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)  # kilobytes
    assert frames == 60_000
    assert peaks[-1] - peaks[9] < 30_000
