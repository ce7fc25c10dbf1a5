"""The small tokenizer on a spectrum: exact as a stream, its transform, its losses, its batches, a step of training."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch
from multiway_core import config as configs
from multiway_core.errors import ConfigError, InputError
from multiway_core.training import TrainConfig, TrainJob, TrainOptions, TrainReport, run
from multiway_speech.mel import mean_filters
from multiway_speech.speech_tokenizer import corpus as corpora
from multiway_speech.speech_tokenizer.adversarial import (
    AdversarialObjective,
    TokenizerWithDiscriminators,
    adversarial_losses,
)
from multiway_speech.speech_tokenizer.config import (
    TINY_12HZ,
    TINY_25HZ,
    SpectrumConfig,
    SpeechTokenizerConfig,
)
from multiway_speech.speech_tokenizer.folder import load, save
from multiway_speech.speech_tokenizer.initialization import initialize
from multiway_speech.speech_tokenizer.model import AcousticTokenizer
from multiway_speech.speech_tokenizer.objective import CodecObjective
from multiway_speech.speech_tokenizer.recipe import RECIPES, Recipe, new_model, tokenizer_of
from multiway_speech.speech_tokenizer.spectral import hann

SMALL = replace(
    TINY_25HZ,
    latent_size=8,
    widths=(12, 16, 24),
    depths=(0, 1, 1),
    decoder_depths=(1, 0, 1),
    spectrum=SpectrumConfig(num_mels=20),
)


@pytest.fixture(scope="module")
def tokenizer() -> AcousticTokenizer:
    torch.manual_seed(0)
    tokenizer = AcousticTokenizer(SMALL).eval()
    with torch.no_grad():
        for parameter in tokenizer.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return tokenizer


@torch.no_grad()
@pytest.mark.parametrize("samples", [1, 639, 640, 5000])
@pytest.mark.parametrize("piece", [1, 77, 640, 3000])
def test_a_stream_gives_the_same_as_the_whole(tokenizer, samples, piece) -> None:
    if samples // piece > 600:
        return
    wave = 0.1 * torch.randn(2, 1, samples)
    whole = tokenizer.encode(wave)
    assert whole.shape == (2, -(-samples // 640), 8)
    streamed = torch.cat(list(tokenizer.encode_stream(wave.split(piece, dim=-1))), dim=1)
    torch.testing.assert_close(streamed, whole, atol=1e-5, rtol=1e-5)
    sound = tokenizer.decode(whole)
    assert sound.shape == (2, 1, whole.shape[1] * 640)
    one_by_one = torch.cat(list(tokenizer.decode_stream(whole.split(1, dim=1))), dim=-1)
    torch.testing.assert_close(one_by_one, sound, atol=1e-6, rtol=1e-5)


@torch.no_grad()
def test_later_sound_changes_nothing_earlier(tokenizer) -> None:
    wave = 0.1 * torch.randn(1, 1, 6400)
    other = wave.clone()
    other[..., 3200:] = 0
    same = (3200 - tokenizer.encoder.lookahead) // 640
    assert torch.equal(tokenizer.encode(wave)[:, :same], tokenizer.encode(other)[:, :same])
    latents = torch.randn(1, 6, 8)
    changed = latents.clone()
    changed[:, 3:] = 0
    assert torch.equal(tokenizer.decode(latents)[..., : 3 * 640], tokenizer.decode(changed)[..., : 3 * 640])


def test_the_transform_of_a_sound_gives_the_sound_back(tokenizer) -> None:
    spectrum = SMALL.spectrum
    wave = 0.1 * torch.randn(1, 8000)
    windows = torch.nn.functional.pad(wave, (0, spectrum.overlap)).unfold(-1, spectrum.fft_size, spectrum.hop)
    columns = torch.fft.rfft(windows * hann(spectrum.fft_size, wave.device))
    middle = columns * (1 - 2 * (torch.arange(columns.shape[-1]) % 2))  # phases count from the middle
    sound = tokenizer.decoder.sound(middle.abs().log(), middle.angle())[0]
    whole = slice(spectrum.overlap, None)
    torch.testing.assert_close(sound[:, whole], wave[:, whole], atol=1e-5, rtol=1e-4)
    objective = CodecObjective()
    assert objective.column_distance(columns.abs().log(), wave, spectrum) < 1e-4
    distances = objective.distances(wave, wave)
    assert max(distances.values()) == 0


def test_the_first_weights_are_already_close(corpus) -> None:
    config = replace(SMALL, latent_size=64, widths=(20, 40, 80), layer_scale=1e-6)
    model, objective = new_model(config), CodecObjective(sampled=False)
    crops = corpora.Crops(corpus, batch_size=4, length=640 * 10, weights={"made": 0.0})
    with torch.no_grad():
        before = objective(model, crops(0, 0, 1)).metrics
        waves = [torch.from_numpy(corpus.waveform(clip)) for clip in corpus.clips[40:]]
        kept = initialize(model, waves)
        after = objective(model, crops(0, 0, 1)).metrics
    assert 0.8 < kept <= 1
    assert after["column"] < 0.7 * before["column"]
    with torch.no_grad():
        spread = model.encode(torch.stack(waves)[:, None])[:, 2:-3].std().item()  # without the silent ends
    assert spread == pytest.approx(1, abs=0.25)
    with pytest.raises(ValueError, match="do not fit"):
        initialize(new_model(SMALL), [])


def test_filters_cover_the_spectrum() -> None:
    filters_KM = mean_filters(1024, 80, 16_000, torch.device("cpu"))
    torch.testing.assert_close(filters_KM.sum(0), torch.ones(80))
    centres = (filters_KM * torch.arange(513.0)[:, None]).sum(0)
    assert (centres.diff() >= 0).all()


def test_configs() -> None:
    assert [TINY_25HZ.frame_rate, TINY_12HZ.frame_rate] == [25, 12.5]
    assert configs.from_dict(SpeechTokenizerConfig, configs.to_dict(TINY_12HZ)) == TINY_12HZ
    for bad in ({"hop": 150}, {"hop": 320}, {"mel_fft_size": 512}):
        with pytest.raises(ValueError, match="fft_size"):
            SpectrumConfig(**bad)
    with pytest.raises(ValueError, match="widths must have 3"):
        replace(TINY_25HZ, widths=(1, 2))


@pytest.fixture
def corpus(tmp_path) -> corpora.Corpus:
    rng = np.random.default_rng(0)

    def write(path, seconds: float) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.05 * rng.standard_normal(round(16_000 * seconds)), 16_000)

    lines = []
    for number in range(40):
        write(tmp_path / "made" / f"{number}.flac", 0.3)
        lines.append(json.dumps({"file": f"{number}.flac", "text": f"Sentence {number}.", "voice": "x"}))
        write(tmp_path / "found" / "digits" / f"{number}.wav", 1.5)
    (tmp_path / "made" / "manifest.jsonl").write_text("\n".join(lines))
    (tmp_path / "found" / "silence.wav").write_bytes(b"")
    soundfile.write(tmp_path / "found" / "quiet.wav", np.zeros(1600), 16_000)
    corpora.save(
        corpora.collect([("made", tmp_path / "made"), ("found", tmp_path / "found")]), tmp_path / "corpus.npz"
    )
    return corpora.load(tmp_path / "corpus.npz")


def test_a_corpus_keeps_texts_apart(corpus) -> None:
    assert [clip.key for clip in corpus.clips[:40]] == [f"Sentence {number}." for number in range(40)]
    assert {clip.key for clip in corpus.clips[40:]} == {f"digits/{number}" for number in range(40)}
    held_out = corpus.part(held_out=True)
    assert 0 < len(held_out) < 20
    assert len(held_out) + len(corpus.part(held_out=False)) == 80
    wave = corpus.waveform(corpus.clips[0])
    assert 20 * np.log10(np.sqrt(np.square(wave).mean())) == pytest.approx(-25, abs=0.01)


def test_batches_depend_on_the_step_alone(corpus) -> None:
    crops = corpora.Crops(corpus, batch_size=16, length=8000, weights={"made": 3.0})
    batch = crops(5, 0, 1)
    assert batch.shape == (16, 1, 8000)
    assert torch.equal(batch, crops(5, 0, 1))
    assert not torch.equal(batch, crops(6, 0, 1))
    short = (batch[:, 0, 5000:].abs().sum(-1) == 0).sum()  # clips of 0.3 s are filled up with silence
    assert 6 <= short < 16
    with pytest.raises(InputError, match="weights for nobody; the corpus has found, made"):
        corpora.Crops(corpus, batch_size=1, length=10, weights={"nobody": 1.0})


def test_what_is_no_corpus(tmp_path) -> None:
    with pytest.raises(InputError, match="no such file"):
        corpora.load(tmp_path / "absent.npz")
    with pytest.raises(InputError, match="no sound files"):
        corpora.collect([("x", tmp_path)])


class Fixed:
    """A recipe of one job."""

    def __init__(self, job: TrainJob) -> None:
        self.job = job

    def build(self, options: TrainOptions) -> TrainJob:
        return self.job


def train(model, crops, config, output, objective) -> TrainReport:
    def export(trained, path) -> None:
        save(tokenizer_of(trained), path)

    return run(Fixed(TrainJob(model, objective, crops, config, export)), TrainOptions(output))


def test_training_lowers_the_loss_and_writes_a_model(corpus, tmp_path) -> None:
    model = new_model(SMALL)
    crops = corpora.Crops(corpus, batch_size=4, length=640 * 10, weights={})
    config = TrainConfig(steps=20, learning_rate=3e-3, ema_decay=0.9, precision="bf16", log_every=1)
    objective = CodecObjective()
    before = objective(model, crops(0, 0, 1)).total.item()
    result = train(model, crops, config, tmp_path / "run", objective)
    assert result.finished
    assert objective(model, crops(0, 0, 1)).total.item() < 0.95 * before
    again = load(tmp_path / "run" / "model")
    assert again.config == SMALL
    assert torch.isfinite(again.decode(again.encode(crops(0, 0, 1)))).all()
    save(again, tmp_path / "small", dtype=torch.bfloat16)
    assert load(tmp_path / "small").decoder.head.weight.dtype == torch.float32


@torch.no_grad()
def test_the_bundled_codec_keeps_a_voice_like_sound() -> None:
    """Harmonics of a gliding pitch under three formants: envelope and loudness come back."""
    tokenizer = load("bundled:codec-tiny")
    assert tokenizer.config == TINY_25HZ
    time = torch.arange(16_000) / 16_000
    phase = 2 * np.pi * torch.cumsum(120 + 30 * torch.sin(2 * np.pi * 2 * time), 0) / 16_000
    wave = torch.zeros(16_000)
    for harmonic in range(1, 40):
        frequency = 130.0 * harmonic
        level = sum(1 / (1 + ((frequency - f) / 120) ** 2) for f in (550, 1400, 2500)) + 0.01
        wave += level * torch.sin(harmonic * phase)
    wave = (wave * 10 ** (-25 / 20) / wave.square().mean().sqrt())[None, None]
    again = tokenizer.decode(tokenizer.encode(wave))
    distances = CodecObjective().distances(again[:, 0, 1600:14_400], wave[:, 0, 1600:14_400])
    assert distances["mel"] < 0.7
    loudness = 20 * torch.log10(again[..., 1600:14_400].std() / wave[..., 1600:14_400].std())
    assert loudness.abs() < 3  # decibels


def test_each_side_of_the_contest_is_trained_by_its_own_losses() -> None:
    torch.manual_seed(0)
    discriminators = TokenizerWithDiscriminators(AcousticTokenizer(SMALL), fft_sizes=(64, 128)).discriminators
    # The last bias alone has no gradient: it moves both verdicts alike, and inside the hinges one side's push cancels
    # the other's. What is left of it is rounding, which may be exactly zero.
    biases = {id(discriminator.output.bias) for discriminator in discriminators}
    weights = [weight for weight in discriminators.parameters() if id(weight) not in biases]
    target = 0.1 * torch.randn(2, 1600)
    heard = (0.1 * torch.randn(2, 1600)).requires_grad_()
    parts = adversarial_losses(discriminators, heard, target)
    for name, ours, theirs in (("discriminator", weights, [heard]), ("generator", [heard], weights)):
        assert all(
            g is None for g in torch.autograd.grad(parts[name], theirs, retain_graph=True, allow_unused=True)
        )
        found = torch.autograd.grad(parts[name], ours, retain_graph=True, allow_unused=True)
        assert all(g is not None and g.abs().sum() > 0 for g in found)
    assert torch.autograd.grad(parts["feature_matching"], [heard], retain_graph=True)[0].abs().sum() > 0
    assert float(adversarial_losses(discriminators, target.clone(), target)["feature_matching"]) == 0.0


def test_against_an_adversary_only_the_decoder_changes(corpus, tmp_path) -> None:
    model = new_model(SMALL)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    config = TrainConfig(steps=2, learning_rate=1e-3, log_every=1, seed=0)
    crops = corpora.Crops(corpus, batch_size=2, length=3840, weights={})
    result = train(TokenizerWithDiscriminators(model), crops, config, tmp_path, AdversarialObjective())
    assert result.finished
    changed = {
        name.split(".")[0] for name, tensor in model.state_dict().items() if not tensor.equal(before[name])
    }
    assert changed == {"decoder"}
    assert set(load(tmp_path / "model").state_dict()) == set(before)
    row = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])
    assert {"discriminator", "generator", "feature_matching", "mel"} <= set(row["metrics"])


def test_the_smoke_recipe_runs_offline_resumes_and_is_scored(tmp_path) -> None:
    recipe = replace(RECIPES["smoke"], crop_seconds=0.4)
    part = run(recipe, TrainOptions(tmp_path / "run", steps=2, seed=1))
    assert part.finished
    model = load(part.folder)
    assert model.config == recipe.config
    assert 0 < part.held_out["mel"] < 10
    assert part.facts["clips"] > 20
    with pytest.raises(ConfigError, match="needs a trained tokenizer"):
        run(RECIPES["adversarial"], TrainOptions(tmp_path / "other", data=(str(tmp_path / "x.npz"),)))
    data = (str(tmp_path / "run" / "data" / "corpus.npz"),)
    further = replace(recipe, adversarial=True, batch_size=2)
    last = run(further, TrainOptions(tmp_path / "last", data=data, init_from=str(part.folder), steps=1))
    again = load(last.folder)
    encoder, before = again.encoder.state_dict(), model.encoder.state_dict()
    assert all(tensor.equal(before[name]) for name, tensor in encoder.items())
    assert not again.decoder.head.weight.equal(model.decoder.head.weight)


def test_data_that_cannot_be_meant_is_told(tmp_path) -> None:
    for data, message in (((), "nothing to train on"), (("made",), "expected GROUP=FOLDER")):
        with pytest.raises(InputError, match=message):
            run(Recipe(), TrainOptions(tmp_path / "run", data=data))
    with pytest.raises(ConfigError, match="use ddp"):
        Recipe().build(TrainOptions(tmp_path / "run", parallel="fsdp"))
    (tmp_path / "bad.npz").write_bytes(b"PK nothing")
    with pytest.raises(InputError, match="not a corpus"):
        corpora.load(tmp_path / "bad.npz")
