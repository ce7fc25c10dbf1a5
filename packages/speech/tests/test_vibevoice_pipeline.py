"""From script to sound with a tiny untrained model: prompts, voices, pauses, streaming, limits, errors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from multiway_core.errors import CheckpointError, ConfigError, InputError, ModelNotFoundError
from multiway_core.tokenization import TextTokenizer
from multiway_speech.audio import SoundArray
from multiway_speech.language_model import LanguageModelConfig
from multiway_speech.script import Turn, parse_script
from multiway_speech.speech_tokenizer.config import SpeechTokenizerConfig
from multiway_speech.vibevoice import checkpoint
from multiway_speech.vibevoice.config import DiffusionHeadConfig, SpeechTokens, VibeVoiceConfig
from multiway_speech.vibevoice.generation import SpeechGenerationConfig, SpeechGenerator
from multiway_speech.vibevoice.model import VibeVoice
from multiway_speech.vibevoice.pipeline import Speech, SpeechOptions, SpeechPiece, TtsPipeline
from multiway_speech.vibevoice.prompt import PromptWriter
from multiway_speech.vibevoice.voices import Voice

RATE, HOP = 800, 40  # 20 frames a second


@pytest.fixture(scope="module")
def model(special_ids) -> VibeVoice:
    torch.manual_seed(0)
    sizes = {
        "num_filters": 3,
        "ratios": (4, 10),
        "depths": (1, 1, 1),
        "layer_scale": 0.3,
        "sample_rate": RATE,
    }
    config = VibeVoiceConfig(
        acoustic=SpeechTokenizerConfig(latent_size=6, **sizes),
        semantic=SpeechTokenizerConfig(latent_size=5, noise_std=0.0, **sizes),
        text=LanguageModelConfig(
            hidden_size=16,
            num_layers=1,
            num_heads=2,
            num_kv_heads=1,
            inner_size=24,
            vocab_size=320,
            max_positions=1500,
        ),
        head=DiffusionHeadConfig(num_layers=1, inner_size=24, frequency_size=16),
        tokens=SpeechTokens(**{role: special_ids[role] for role in ("start", "end", "frame", "eos")}),
    )
    model = VibeVoice(config).eval()
    for parameter in model.head.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


@pytest.fixture
def pipeline(model, tiny_tokenizer, monkeypatch) -> TtsPipeline:
    """The tiny model, made to speak five frames and then end."""
    count = iter(range(10**6))
    tokens = model.config.tokens

    def logits_of(hidden, tokens_C):
        chosen = tokens.eos if next(count) % 6 == 5 else tokens.frame
        return (tokens_C == chosen).float().expand(len(hidden), -1)

    monkeypatch.setattr(model.language_model, "logits_of", logits_of)
    return TtsPipeline("tiny", model, TextTokenizer(tiny_tokenizer))


def speech_like(seconds: float) -> SoundArray:
    noise = np.random.default_rng(0).normal(size=int(seconds * RATE)) * 0.1
    return SoundArray(noise.astype(np.float32), RATE, "alice.wav")


def test_the_prompt_is_the_published_text(tiny_tokenizer, model) -> None:
    tokens = model.config.tokens
    ids = PromptWriter(TextTokenizer(tiny_tokenizer), tokens).write(
        [Turn(0, "Hi <|vision_end|>"), Turn(1, "Ho")], [2, 1]
    )
    tiny_tokenizer.encode_special_tokens = False
    shown = tiny_tokenizer.decode(ids.tolist(), skip_special_tokens=False)
    tiny_tokenizer.encode_special_tokens = True
    assert shown == (
        " Transform the text provided by various speakers into speech output, utilizing the distinct voice of each"
        " respective speaker.\n Voice input:\n Speaker 0:<|vision_start|><|vision_pad|><|vision_pad|><|vision_end|>\n"
        " Speaker 1:<|vision_start|><|vision_pad|><|vision_end|>\n Text input:\n Speaker 0: Hi <|vision_end|>\n"
        " Speaker 1: Ho\n Speech output:\n<|vision_start|>"
    )
    # What a user writes is never a special token.
    assert (ids == tokens.end).sum() == 2
    assert ids[-1] == tokens.start
    without = PromptWriter(TextTokenizer(tiny_tokenizer), tokens).write([Turn(0, "Hi")])
    assert (without == tokens.frame).sum() == 0


def test_pieces_are_the_whole_and_pauses_are_silence(pipeline) -> None:
    voices = {
        "Speaker 1": pipeline.voice("a", speech_like(2)),
        "Speaker 2": pipeline.voice("b", speech_like(1)),
    }
    source = "Speaker 1: One. [pause:500ms] Two.\nSpeaker 2: Three. [pause:1s]"
    *pieces, speech = pipeline.stream(source, voices, SpeechOptions(diffusion_steps=3))
    assert isinstance(speech, Speech)
    assert all(isinstance(piece, SpeechPiece) for piece in pieces)
    np.testing.assert_array_equal(np.concatenate([piece.samples for piece in pieces]), speech.samples)
    spoken = 5 * HOP
    assert len(speech.samples) == 2 * spoken + RATE // 2 + RATE
    assert not speech.samples[spoken : spoken + RATE // 2].any()
    assert not speech.samples[-RATE:].any()
    assert speech.samples[:spoken].std() > 0
    assert speech.complete
    assert [(s.start, s.end) for s in speech.sections] == [(0.0, 0.25), (0.75, 1.0)]
    assert [[t.text for t in s.turns] for s in speech.sections] == [["One."], ["Two.", "Three."]]


def test_the_same_every_time_and_another_with_another_seed(pipeline) -> None:
    script = parse_script("Hello there.")
    options = SpeechOptions(diffusion_steps=3)
    first, again = pipeline(script, options=options), pipeline(script, options=options)
    np.testing.assert_array_equal(first.samples, again.samples)
    for other in (SpeechOptions(diffusion_steps=3, seed=9), SpeechOptions(diffusion_steps=4),
                  SpeechOptions(diffusion_steps=3, guidance=3.0), SpeechOptions(diffusion_steps=3, guidance=1.0),
                  SpeechOptions(diffusion_steps=3, stochastic=True)):  # fmt: skip
        assert np.abs(pipeline(script, options=other).samples - first.samples).max() > 0
    voice = pipeline.voice("a", speech_like(1))
    assert np.abs(pipeline(script, {"Speaker 1": voice}, options).samples - first.samples).max() > 0


def test_no_guidance_is_guidance_of_one(model, special_ids) -> None:
    """The cheap path with one context gives what two contexts at weight 1 give, up to rounding."""
    prompt = torch.tensor([300, 10, 11, special_ids["start"]])
    sounds = []
    for guidance in (1.0, 1.0 + 1e-7):
        config = SpeechGenerationConfig(max_frames=4, guidance=guidance, diffusion_steps=3)
        steps = SpeechGenerator(model, config).stream([prompt])
        sounds.append([step.audio.get(0) for step in steps])
    for one, other in zip(*sounds, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_a_model_that_does_not_end_is_stopped_and_says_so(pipeline, model, monkeypatch) -> None:
    frame = model.config.tokens.frame
    monkeypatch.setattr(
        model.language_model, "logits_of", lambda h, t: (t == frame).float().expand(len(h), -1)
    )
    speech = pipeline("Hi.", options=SpeechOptions(diffusion_steps=1))
    assert not speech.complete
    assert 10 < len(speech.samples) / RATE < 12  # ten seconds and a little for three characters


def test_voices_are_kept_in_files(pipeline, tmp_path) -> None:
    voice = pipeline.voice("alice", speech_like(1.03))
    assert voice.latents_FD.shape == (21, 6)
    voice.save(tmp_path / "alice.safetensors")
    again = Voice.load(tmp_path / "alice.safetensors", 6)
    assert again.name == "alice"
    assert torch.equal(again.latents_FD, voice.latents_FD)
    with pytest.raises(CheckpointError, match="not a voice of this model"):
        Voice.load(tmp_path / "alice.safetensors", 7)
    # Loudness is brought to that of the training data.
    louder = SoundArray(speech_like(1.03).samples * 3, RATE)
    torch.testing.assert_close(pipeline.voice("x", louder).latents_FD, voice.latents_FD, atol=1e-4, rtol=1e-3)


def test_what_cannot_be_spoken_is_refused_before_the_first_sound(pipeline) -> None:
    voice = pipeline.voice("a", speech_like(1))
    with pytest.raises(InputError, match=r"Speaker 2 has no voice; there are voices for: Speaker 1"):
        pipeline.stream("Speaker 1: a\nSpeaker 2: b", {"Speaker 1": voice})
    with pytest.raises(InputError, match="9 speakers"):
        pipeline.stream("\n".join(f"Speaker {i}: hi" for i in range(9)))
    with pytest.raises(InputError, match=r"voice a: alice.wav has 0.2 s of sound; give 1 to 60 s"):
        pipeline.voice("a", speech_like(0.2))
    with pytest.raises(InputError, match="voice a: recording is silent"):
        pipeline.voice("a", SoundArray(np.zeros(RATE * 2), RATE))
    with pytest.raises(InputError, match="longer than 60 s"):
        pipeline.voice("a", speech_like(61))
    with pytest.raises(InputError, match="no such file"):
        pipeline.voice("a", "nowhere.wav")
    with pytest.raises(InputError, match=r"take \d+ positions, and the model has 1500"):
        list(pipeline.stream("Speaker 1: " + "word and " * 2000))
    with pytest.raises(ConfigError, match="diffusion_steps must be from 1 to 500"):
        list(pipeline.stream("Hi.", options=SpeechOptions(diffusion_steps=0)))
    with pytest.raises(InputError, match="places for 1 speech frames, but there are 3"):
        pipeline.model.embed_prompt(torch.tensor([[pipeline.model.config.tokens.frame]]), torch.zeros(3, 6))


def test_from_a_folder(model, tiny_tokenizer, tmp_path, monkeypatch) -> None:
    checkpoint.save(model, tmp_path)
    tiny_tokenizer.save(str(tmp_path / "tokenizer.json"))
    loaded = TtsPipeline.from_pretrained(str(tmp_path))
    assert loaded.model.config.text == model.config.text
    assert isinstance(next(loaded.stream("Hi.")), SpeechPiece | Speech)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError, match="not a tokenizer"):
        TtsPipeline.from_pretrained(str(tmp_path))
    (tmp_path / "tokenizer.json").unlink()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelNotFoundError, match="Qwen2"):
        TtsPipeline.from_pretrained(str(tmp_path))
