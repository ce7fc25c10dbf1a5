"""Whisper in the place of the semantic tokenizer: beside its peers, in pieces, in VibeVoice-ASR."""

from __future__ import annotations

import json
import os
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from multiway_blocks.transformer import Context
from multiway_core.errors import CheckpointError
from multiway_core.tokenization import TextTokenizer
from multiway_speech.language_model import LanguageModelConfig
from multiway_speech.speech_tokenizer.config import SpectrumConfig, SpeechTokenizerConfig
from multiway_speech.vibevoice_asr.config import VibeVoiceAsrConfig
from multiway_speech.vibevoice_asr.model import VibeVoiceAsr
from multiway_speech.vibevoice_asr.vocabulary import train_tokenizer
from multiway_speech.vibevoice_asr.whisper import Whisper, WhisperCache, WhisperStream, Word, align
from multiway_speech.vibevoice_asr.whisper_checkpoint import (
    common_tokens,
    load_whisper,
    read_pieces,
    save_pieces,
)
from multiway_speech.vibevoice_asr.whisper_encoder import WhisperConfig, WhisperEncoder, log_mel
from multiway_speech.vibevoice_asr.word_tokens import WordTokens

SMALL = WhisperConfig(
    hidden_size=32,
    num_layers=2,
    num_heads=2,
    positions=100,
    margin=10,
    vocab_size=20,
    alignment_heads=((0, 1), (1, 0)),
)


def small_reader() -> Whisper:
    torch.manual_seed(0)
    reader = Whisper(SMALL).eval()
    for parameter in (reader.encoder.positions, reader.text_positions):
        torch.nn.init.normal_(parameter, std=0.3)
    reader.pieces = (b"", b"", b"", *(f" w{number}".encode() for number in range(17)))
    return reader


def small_encoder() -> WhisperEncoder:
    encoder = small_reader().encoder
    with torch.no_grad():
        for layer in encoder.layers:
            layer.attention.qkv.bias[32:64] = 0.0
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
            f"{layer}self_attn.out_proj": f"{layer}attention.output",
            f"{layer}final_layer_norm": f"{layer}feedforward_norm",
            f"{layer}fc1": f"{layer}feedforward.up",
            f"{layer}fc2": f"{layer}feedforward.down",
        }
    for their_name, our_name in names.items():
        theirs.get_submodule(their_name).load_state_dict(ours.get_submodule(our_name).state_dict())
    theirs.embed_positions.weight.copy_(ours.positions)
    for own, other in zip(ours.layers, theirs.layers, strict=True):
        projections = (other.self_attn.q_proj, other.self_attn.k_proj, other.self_attn.v_proj)
        for projection, weight, bias in zip(
            projections, own.attention.qkv.weight.chunk(3), own.attention.qkv.bias.chunk(3), strict=True
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
    kept = common_tokens(folder, ["Hello there."], 500)
    reader = load_whisper(folder, kept)
    with torch.no_grad():
        ours = reader.encoder.columns(mels_BMN)
    torch.testing.assert_close(ours, expected, atol=1e-3, rtol=0)
    assert {b" Hello", b"a"} <= set(reader.pieces)
    # With all tokens, greedy decoding writes what the peer writes.
    everything = load_whisper(folder, range(50_256))
    suppressed = json.loads((folder / "config.json").read_text())["suppress_ids"]
    with torch.no_grad():
        everything.embedding.weight[[3 + number for number in suppressed if number < 50_256]] = 0.0
        tokens, _ = everything._write(expected[0], 20, ())
    written = peer.generate(
        features, [[50_257, 50_362]], beam_size=1, max_length=22, suppress_blank=False, suppress_tokens=[-1]
    )[0].sequences_ids[0]
    assert [token - 3 for token in tokens] == written[: len(tokens)]


@torch.no_grad()
def test_steps_give_the_states_of_the_whole() -> None:
    reader = small_reader()
    columns_NC = reader.encoder(noise(1.0))[0]
    layer = reader.layers[0]
    x_TC = torch.randn(5, 32)
    at_once, by_steps = (Context(cache=WhisperCache(), memory_BME=columns_NC) for _ in range(2))
    whole = layer(x_TC, at_once)
    rest = []
    for part_TC in x_TC.split([2, 1, 1, 1]):
        rest.append(layer(part_TC, by_steps))
        assert torch.allclose(by_steps.cache.weights[0].sum(-1), torch.ones(2))
    torch.testing.assert_close(torch.cat(rest), whole, atol=1e-5, rtol=1e-4)
    last_HN, looked_HN = by_steps.cache.weights[0], at_once.cache.weights[0]
    torch.testing.assert_close(last_HN, looked_HN, atol=1e-5, rtol=1e-4)


def test_words_begin_where_the_decoder_looked() -> None:
    rng = np.random.default_rng(0)
    weights_TAN = rng.random((4, 2, 200)) * 0.02
    for token, column in enumerate((10, 60, 120, 180)):
        weights_TAN[token, :, column - 8 : column + 8] += 1.0
    begins = align(weights_TAN)
    assert begins[0] == 0.0
    for begin, before, peak in zip(begins[1:], (0.2, 1.2, 2.4), (1.2, 2.4, 3.6), strict=True):
        assert before < begin < peak


@torch.no_grad()
def test_pieces_give_the_words_of_the_whole() -> None:
    wave_T = noise(5.03)[0, 0]  # windows are 2 s
    told = []
    for size in (len(wave_T), 3_201, 16_000, 40_000):
        stream = WhisperStream(small_reader())
        for piece in wave_T.split(size):
            stream.feed(piece)
        told.append(stream.finish())
    assert all(words == told[0] for words in told)
    starts = [word.start for word in told[0]]
    assert max(starts) > 3.0
    assert max(word.end for word in told[0]) < 6.5


def test_a_context_stands_before_the_transcript(monkeypatch) -> None:
    """Start of the prompt, its tokens, start of the transcript, as in the original; and only in the first step."""
    reader = small_reader()
    reader.pieces = (b"", b"", b"", b" ", b"a", b"b", b" ab", b"c", *[b""] * 12)
    assert reader.prompt(" ab  a\nbc\u00e9 ") == [6, 3, 4, 3, 5, 7]  # what it has no piece for is left out
    assert reader.prompt("  ") == []
    assert len(reader.prompt("ab " * 999)) == 223
    torch.nn.init.normal_(reader.prompt_start)
    seen: list[torch.Tensor] = []
    layer = reader.layers[0]
    forward = layer.forward
    monkeypatch.setattr(layer, "forward", lambda x, *rest: seen.append(x) or forward(x, *rest))
    columns_NC = reader.encoder(noise(1.0))[0].detach()
    with torch.no_grad():
        reader._write(columns_NC, 3, [6, 4])
    first, *others = seen
    expected = torch.stack(
        [reader.prompt_start, *reader.embedding(torch.tensor([6, 4, reader.START, reader.NO_TIMES]))]
    )
    torch.testing.assert_close(first, expected + reader.text_positions[:5])
    assert [len(x) for x in others] == [1] * len(others)


def test_what_is_written_behind_the_end_was_not_said(monkeypatch) -> None:
    reader = small_reader()
    alignments = torch.zeros(4, 2, 100)
    for token, columns in enumerate((slice(0, 20), slice(20, 49), slice(49, 50), slice(49, 50))):  # of 50
        alignments[token, :, columns] = 1.0
    monkeypatch.setattr(reader, "_write", lambda *_: ([3, 4, 5], alignments, 0.0))
    wave_T = torch.nn.functional.pad(noise(1.0)[0, 0], (0, 16_000))
    words = [word.text for word in reader.window(wave_T, 16_000)]
    assert words == ["w0", "w1"]


def test_times_do_not_know_of_the_silence_before(monkeypatch) -> None:
    reader = small_reader()
    heard: list[int] = []

    def window(wave_T: torch.Tensor, samples: int, prompt: object) -> list[Word]:
        heard.append(samples)
        assert not wave_T[:4_000].any()
        assert len(wave_T) == 32_000  # a whole window of this model: the silence behind fills it
        return [Word("first", 0.1, 0.3), Word("second", 0.75, 1.0)]

    monkeypatch.setattr(reader, "window", window)
    stream = WhisperStream(reader)
    assert stream.finish() == []
    stream.feed(noise(1.0)[0, 0])
    assert stream.finish() == [Word("first", 0.0, pytest.approx(0.05)), Word("second", 0.5, 0.75)]
    assert heard == [20_000]


def test_words_stand_where_they_are_said() -> None:
    tokenizer = TextTokenizer(train_tokenizer(["We met at the station. No."] * 3, 290))
    heard = WordTokens(tokenizer, 50, none=0)
    heard.add_all([Word("We", 0.4, 0.6), Word("met.", 0.6, 1.0), Word("No", 1.0, 1.1), Word("no", 1.1, 1.2)])
    written = [int(piece) for piece in heard.ids_NK[:, 0] if piece]
    assert tokenizer.decode(written) == "We met.No no"
    assert heard.ids_NK[5, 0] == tokenizer.encode("We")[0]
    pieces = [place for place in range(50) if heard.ids_NK[place, 0]]
    for before, place in pairwise(pieces):
        assert heard.ids_NK[place, 1] == heard.ids_NK[before, 0]
    assert heard.add("station", 9.0, 9.5, first=False) == []


@torch.no_grad()
def test_the_model_hears_words_and_stacked_frames() -> None:
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
    model.semantic = small_reader()
    wave = noise(3.01)

    def place(words: list[Word], positions: int) -> torch.Tensor:
        ids = torch.zeros(positions, 3, dtype=torch.int64)
        for word in words:
            ids[min(int(word.start / 0.08), positions - 1), 0] = int(word.text[1:]) + 10
        return ids

    whole = model.hear([wave], place=place)
    assert whole.shape == (1, config.num_positions(wave.shape[-1]), 16)
    assert config.num_positions(wave.shape[-1]) == 38
    torch.testing.assert_close(
        model.hear(wave.split(7_001, dim=-1), place=place), whole, atol=1e-5, rtol=1e-4
    )


def test_the_rates_must_agree() -> None:
    with pytest.raises(ValueError, match="must be equal"):
        VibeVoiceAsrConfig(whisper=WhisperConfig())


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"\x06\x00\x00\x00\x03\x00ab\x00 and the rest")
    with pytest.raises(CheckpointError, match="expected 'WhisperSpec'"):
        load_whisper(tmp_path, [1])
    (tmp_path / "model.bin").write_bytes(b"\x06")
    with pytest.raises(CheckpointError, match="not a CTranslate2 model file"):
        load_whisper(tmp_path, [1])


def test_tokens_come_back_from_their_file(tmp_path: Path) -> None:
    pieces = (b"", b" the", b"\xc3", b'"')
    save_pieces(pieces, tmp_path / "pieces.json")
    assert read_pieces(tmp_path / "pieces.json", 4) == pieces
    with pytest.raises(CheckpointError, match="4 tokens, and the model has 5"):
        read_pieces(tmp_path / "pieces.json", 5)
