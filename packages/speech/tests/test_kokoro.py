"""Kokoro: phones, parts, the network of random weights, weights by their published names, the pipeline around it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from multiway_core.errors import CheckpointError, InputError, ModelNotFoundError
from multiway_speech.kokoro import weights
from multiway_speech.kokoro.config import KokoroConfig
from multiway_speech.kokoro.layers import Snake, StyleNorm
from multiway_speech.kokoro.model import Kokoro
from multiway_speech.kokoro.phones import ids_of, symbols_of
from multiway_speech.kokoro.pipeline import MAX_SYMBOLS, VOICES, KokoroPipeline, parts_of, trimmed
from multiway_speech.kokoro.vocoder import Source
from multiway_speech.pronunciation import EnglishPronouncer
from multiway_speech.script import parse_script
from multiway_speech.vibevoice.pipeline import Speech, SpeechOptions

TINY = KokoroConfig(
    embedding_size=8, bert_size=16, bert_heads=2, bert_inner_size=24, bert_layers=2, hidden_size=16, style_size=128,
    layers=2, decoder_size=32, residual_size=4,
)  # fmt: skip


@pytest.fixture(scope="module")
def network() -> Kokoro:
    torch.manual_seed(0)
    model = Kokoro(TINY).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    model.predictor.duration_proj.bias.data.fill_(-3.0)
    return model


@pytest.fixture(scope="module")
def pipeline(network: Kokoro) -> KokoroPipeline:
    return KokoroPipeline("kokoro", network)


def symbols(text: str) -> str:
    return symbols_of(EnglishPronouncer().words(text))


def test_phones_are_those_of_kokoros_lexicon() -> None:
    assert symbols("Hello, world!") == "həlˈO, wˈɜɹld!"
    assert symbols("Better, a judge.") == "bˈɛTəɹ, ɐ ʤˈʌʤ."
    assert symbols("The boy -- now?") == "ðə bˈY— nˈW?"
    assert ids_of("ˈA ʤ.") == [156, 24, 16, 82, 4]
    text = "Quick measures of thought: which views do vague youths choose; sing, hoy, ouch, bird, azure."
    assert all(isinstance(number, int) for number in ids_of(symbols(text)))


def test_parts_end_with_sentences_and_are_never_too_long() -> None:
    say = EnglishPronouncer().words
    assert [part[-1].mark for part in parts_of(say("This is the first. And this is another one? Yes."))] == [
        ".", "?", ".",
    ]  # fmt: skip
    assert len(list(parts_of(say("No. Never! We go on from here to there.")))) < 3
    long = list(parts_of(say("one two three four five six seven eight nine ten " * 60)))
    assert max(len(symbols_of(part)) for part in long) <= MAX_SYMBOLS
    assert sum(map(len, long)) == 600


def test_style_norm_is_instance_norm_with_scale_and_shift() -> None:
    torch.manual_seed(1)
    norm = StyleNorm(5, 7)
    x, style = torch.randn(1, 5, 1, 40) * 3 + 2, torch.randn(1, 7)
    gamma, beta = norm.fc(style).chunk(2, dim=1)
    wanted = (1 + gamma)[..., None] * torch.nn.functional.instance_norm(x[:, :, 0]) + beta[..., None]
    torch.testing.assert_close(norm(x, style)[:, :, 0], wanted, rtol=1e-4, atol=1e-4)


def test_snake() -> None:
    snake = Snake(2)
    snake.alpha.data = torch.tensor([0.5, 2.0])
    x = torch.tensor([1.0, -3.0]).reshape(1, 2, 1, 1)
    wanted = [1 + math.sin(0.5) ** 2 / 0.5, -3 + math.sin(-6.0) ** 2 / 2]
    torch.testing.assert_close(snake(x).flatten(), torch.tensor(wanted))


def test_source_has_the_pitch_and_its_harmonics() -> None:
    source = Source(TINY, 300)
    source.l_linear.weight.data.fill_(0.0)
    source.l_linear.weight.data[0, 1] = 1.0  # the second harmonic alone
    source.l_linear.bias.data.fill_(0.0)
    samples = source(torch.full((80,), 200.0), torch.Generator().manual_seed(0)).detach()
    assert samples.shape == (24_000,)
    spectrum = torch.fft.rfft(samples).abs()
    assert int(spectrum.argmax()) == 400  # one second: a bin is a hertz
    unvoiced = source(torch.zeros(80), torch.Generator().manual_seed(0)).detach()
    assert float(torch.fft.rfft(unvoiced).abs().max()) < 0.2 * float(spectrum.max())


def test_network_gives_as_many_samples_as_durations_say(network: Kokoro) -> None:
    ids, style = torch.tensor([0, 50, 83, 54, 156, 31, 4, 0]), torch.randn(256)
    made = [network(ids, style, speed, torch.Generator().manual_seed(3)) for speed in (1.0, 1.0, 0.5)]
    for samples, frames in made:
        assert len(samples) == 600 * int(frames.sum())
        assert torch.isfinite(samples).all()
    assert torch.equal(made[0][0], made[1][0])
    assert int(made[2][1].sum()) > int(made[0][1].sum())
    other, _ = network(ids, style.flip(0), 1.0, torch.Generator().manual_seed(3))
    assert other.shape != made[0][0].shape or not torch.allclose(other, made[0][0])


def published(network: Kokoro) -> dict[str, dict[str, torch.Tensor]]:
    """The tensors as ``kokoro-v1_0.pth`` has them: five state dicts, weight normalization in parts."""
    backwards = (
        (
            "bert.block.feedforward_norm.",
            "bert.encoder.albert_layer_groups.0.albert_layers.0.full_layer_layer_norm.",
        ),
        (
            "bert.block.attention_norm.",
            "bert.encoder.albert_layer_groups.0.albert_layers.0.attention.LayerNorm.",
        ),
        (
            "bert.block.attention.output.",
            "bert.encoder.albert_layer_groups.0.albert_layers.0.attention.dense.",
        ),
        ("bert.block.attention.", "bert.encoder.albert_layer_groups.0.albert_layers.0.attention."),
        ("bert.block.feedforward.down.", "bert.encoder.albert_layer_groups.0.albert_layers.0.ffn_output."),
        ("bert.block.feedforward.up.", "bert.encoder.albert_layer_groups.0.albert_layers.0.ffn."),
        ("bert.symbols.", "bert.embeddings.word_embeddings."),
        ("bert.positions.", "bert.embeddings.position_embeddings."),
        ("bert.types.", "bert.embeddings.token_type_embeddings."),
        ("bert.norm.", "bert.embeddings.LayerNorm."),
        ("bert.widen.", "bert.encoder.embedding_hidden_mapping_in."),
        ("predictor.lstms.1.", "predictor.text_encoder.lstms.2."),
        ("predictor.lstms.0.", "predictor.text_encoder.lstms.0."),
        ("predictor.norms.0.", "predictor.text_encoder.lstms.1."),
        ("predictor.norms.1.", "predictor.text_encoder.lstms.3."),
        ("predictor.duration_proj.", "predictor.duration_proj.linear_layer."),
        ("decoder.asr_res.", "decoder.asr_res.0."),
    )
    parts: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in network.state_dict().items():
        for ours, theirs in backwards:
            name = name.replace(ours, theirs) if name.startswith(ours) else name
        if name.startswith("text_encoder."):
            name = name.replace("convs.0.", "cnn.0.0.").replace("convs.1.", "cnn.1.0.")
            for number in "01":
                name = name.replace(f"norms.{number}.weight", f"cnn.{number}.1.gamma")
                name = name.replace(f"norms.{number}.bias", f"cnn.{number}.1.beta")
        if ".snake" in name:
            before, _, after = name.partition(".snake")
            name, tensor = f"{before}.alpha{after.removesuffix('.alpha')}", tensor[None, :, None]
        part, _, rest = name.partition(".")
        named = parts.setdefault(part, {})
        if tensor.dim() == 4:
            tensor = tensor[:, :, 0]
        if tensor.dim() == 3 and rest.endswith(".weight") and "alpha" not in rest:
            named[f"module.{rest}_g"] = 3 * tensor.norm(dim=(1, 2), keepdim=True)
            named[f"module.{rest}_v"] = tensor * 0.5
        else:
            named[f"module.{rest}"] = tensor
    return parts


def test_published_weights_find_their_places(network: Kokoro, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(weights, "KokoroConfig", lambda: TINY)
    torch.save(published(network), tmp_path / weights.CHECKPOINT)
    loaded = weights.load_folder(tmp_path, torch.float32)
    for name, tensor in network.state_dict().items():
        normed = loaded.state_dict()[name]
        factor = 3.0 if name.endswith(".weight") and (tensor.dim() == 4 or ".convs." in name) else 1.0
        torch.testing.assert_close(normed, tensor * factor, rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.parametrize("damage", ["missing", "shape", "unknown", "text"])
def test_wrong_weights_are_one_line(network: Kokoro, tmp_path, monkeypatch, damage: str) -> None:
    monkeypatch.setattr(weights, "KokoroConfig", lambda: TINY)
    parts = published(network)
    if damage == "missing":
        parts["bert_encoder"].clear()
    elif damage == "shape":
        parts["bert_encoder"]["module.bias"] = torch.zeros(3)
    elif damage == "unknown":
        parts["decoder"]["module.more.weight"] = torch.zeros(2, 2)
    torch.save(parts, tmp_path / weights.CHECKPOINT)
    if damage == "text":
        (tmp_path / weights.CHECKPOINT).write_text("no weights")
    with pytest.raises(CheckpointError) as caught:
        weights.load_folder(tmp_path, torch.float32)
    assert "\n" not in str(caught.value)


def test_without_its_packages_it_says_what_to_install(monkeypatch) -> None:
    monkeypatch.setattr(weights, "PACKAGES", ("no_such_package_of_kokoro",))
    with pytest.raises(ModelNotFoundError, match=r"multiway-tts\[kokoro\]"):
        weights.load_installed(torch.float32)


def test_voices_that_lie_here(pipeline: KokoroPipeline, tmp_path) -> None:
    assert pipeline.voices() == VOICES
    styles = {name: pipeline.voice(name).styles_LS for name in VOICES}
    assert all(table.shape == (510, 256) and table.dtype == torch.float32 for table in styles.values())
    assert not torch.equal(styles["heart"], styles["emma"])
    torch.save(styles["heart"][:, None], tmp_path / "mine.pt")
    torch.testing.assert_close(pipeline.voice_file(tmp_path / "mine.pt").styles_LS, styles["heart"])
    torch.save(torch.zeros(3), tmp_path / "bad.pt")
    with pytest.raises(CheckpointError, match="510"):
        pipeline.voice_file(tmp_path / "bad.pt")
    with pytest.raises(InputError, match="no voice 'joe'"):
        pipeline.voice("joe")
    with pytest.raises(InputError, match="own voices only"):
        pipeline.voice("mine", tmp_path / "mine.wav")


def test_turns_and_pauses_are_exact(pipeline: KokoroPipeline) -> None:
    script = "Emma: Good morning. [pause:700ms] How are you?\nHeart: Fine."
    *pieces, speech = pipeline.stream(script, options=SpeechOptions(pause=0.25))
    assert isinstance(speech, Speech)
    assert speech.complete
    assert np.array_equal(np.concatenate([piece.samples for piece in pieces]), speech.samples)
    first, second, third = speech.sections
    assert second.start - first.end == pytest.approx(0.7, abs=1e-4)
    assert third.start - second.end == pytest.approx(0.25, abs=1e-4)
    assert third.end == pytest.approx(len(speech.samples) / 24_000)
    again = pipeline(script, options=SpeechOptions(pause=0.25))
    assert np.array_equal(again.samples, speech.samples)


def test_more_speed_is_less_sound(pipeline: KokoroPipeline) -> None:
    lengths = [
        len(pipeline("We speak of speed.", options=SpeechOptions(speed=s)).samples) for s in (0.5, 1, 2)
    ]
    assert lengths[0] > lengths[1] > lengths[2]


def test_remarks_on_what_is_not_english(pipeline: KokoroPipeline) -> None:
    assert pipeline.check(parse_script("The dog is in the garden and he waits.")) == []
    (german,) = pipeline.check(parse_script("Der Hund ist nicht im Garten und die Katze auch nicht."))
    assert "German" in german
    (letters,) = pipeline.check(parse_script("He said привет to them."))
    assert "прив" in letters
    with pytest.raises(InputError, match="line 2"):
        pipeline.check(parse_script("Speaker 1: Yes.\nSpeaker 1: привет"))


def test_silent_ends_are_trimmed() -> None:
    sound = np.concatenate([np.zeros(4800), np.ones(2400), np.zeros(4800)]).astype(np.float32)
    assert len(trimmed(sound, 24_000)) == 2400 + 2 * 720
    assert len(trimmed(np.zeros(100, dtype=np.float32), 24_000)) == 100
