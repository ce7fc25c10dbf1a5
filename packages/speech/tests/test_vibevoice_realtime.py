"""VibeVoice-Realtime: the loop against one written with the peer's Qwen2 parts, its checkpoint, its voices.

No installable package has this model (for its makers' own numbers see ``test_realtime_golden.py``); the oracle follows
the published description step by step, without our caches, batching or decoder.
"""

from __future__ import annotations

import pytest
import torch
from multiway_core import checkpoint as tensors
from multiway_core.errors import CheckpointError, InputError
from multiway_speech.language_model import LanguageModelConfig
from multiway_speech.speech_tokenizer.config import SpeechTokenizerConfig
from multiway_speech.vibevoice.config import DiffusionHeadConfig
from multiway_speech.vibevoice.generation import SpeechGenerationConfig
from multiway_speech.vibevoice_realtime import checkpoint
from multiway_speech.vibevoice_realtime.config import VIBEVOICE_REALTIME_0_5B, VibeVoiceRealtimeConfig
from multiway_speech.vibevoice_realtime.generation import RealtimeGenerator
from multiway_speech.vibevoice_realtime.model import VibeVoiceRealtime
from multiway_speech.vibevoice_realtime.voices import RealtimeVoice

TINY = VibeVoiceRealtimeConfig(
    acoustic=SpeechTokenizerConfig(
        latent_size=6, num_filters=3, ratios=(2, 5), depths=(1, 1, 1), layer_scale=0.3
    ),
    text=LanguageModelConfig(
        hidden_size=16,
        num_layers=5,
        num_heads=4,
        num_kv_heads=2,
        inner_size=24,
        vocab_size=50,
        max_positions=64,
    ),
    head=DiffusionHeadConfig(num_layers=1, inner_size=24, frequency_size=256),
    num_upper_layers=3,
)


PROMPT, PAD = [7, 8, 9, 10], 49
FRAMES = torch.randn(1, 3, 6, generator=torch.Generator().manual_seed(9))


@pytest.fixture(scope="module")
def model() -> VibeVoiceRealtime:
    torch.manual_seed(0)
    model = VibeVoiceRealtime(TINY).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
        model.latent_scale.fill_(0.25)
        model.latent_bias.fill_(-0.07)
        model.end.output.bias.fill_(-5)
    return model


@pytest.fixture(scope="module")
def voice(model) -> RealtimeVoice:
    """What both contexts remember of a prompt: four words and three frames, and a single pad token."""
    weight = model.embedding.weight

    def remembered(tokens, latents):
        lower, upper = model.lower.new_cache(1, 20, weight), model.upper.new_cache(1, 20, weight)
        state = model.read(tokens, lower, upper)
        if latents is not None:
            state = model.hear(latents, upper)
        caches = []
        for cache in (lower, upper):
            pairs = zip(cache._keys, cache._values, strict=True)
            caches.append([tuple(x[0, :, : cache.length].clone() for x in pair) for pair in pairs])
        return *caches, state[:, -1]

    with torch.no_grad():
        lower, upper, _ = remembered(torch.tensor([PROMPT]), FRAMES)
        _, negative, state = remembered(torch.tensor([[PAD]]), None)
    return RealtimeVoice("mike", lower, upper, negative, state)


def oracle(model: VibeVoiceRealtime, words: list[int], seed: int, frames: int) -> torch.Tensor:
    """The loop with whole sequences, one context after the other, in the peer's Qwen2 layers."""
    from diffusers import DPMSolverMultistepScheduler
    from transformers import Qwen2Config, Qwen2Model

    def peer(part: str, layers: int):
        config = Qwen2Config(
            hidden_size=16, num_hidden_layers=layers, num_attention_heads=4, num_key_value_heads=2,
            intermediate_size=24, vocab_size=3, rope_parameters={"rope_type": "default", "rope_theta": 1e6},
        )  # fmt: skip
        qwen = Qwen2Model(config).eval()
        rules = checkpoint.rule_table(TINY)
        prefix = {"lower": "model.language_model.", "upper": "model.tts_language_model."}[part]
        state = {
            rules.to_published(name).removeprefix(prefix): tensor
            for name, tensor in model.state_dict().items()
            if name.startswith(part + ".")
        }
        missing, unexpected = qwen.load_state_dict(state, strict=False)
        assert not unexpected
        assert set(missing) <= {"embed_tokens.weight", "norm.weight"}
        if part == "lower":
            qwen.norm = torch.nn.Identity()
        return qwen

    lower, upper = peer("lower", 2), peer("upper", 3)

    def last(qwen, inputs):
        return qwen(inputs_embeds=torch.cat(inputs, dim=1)).last_hidden_state

    def heard(latents):
        return model.acoustic_connector(latents) + model.types.weight[0]

    read = [model.embedding(torch.tensor([PROMPT]))]
    positive = [last(lower, read) + model.types.weight[1], heard(FRAMES)]
    negative = [last(lower, [model.embedding(torch.tensor([[PAD]]))]) + model.types.weight[1]]
    generator, latents = torch.Generator().manual_seed(seed), []
    while len(latents) < frames:
        window, words = words[:5], words[5:]
        if window:
            read.append(model.embedding(torch.tensor([window])))
            positive.append(last(lower, read)[:, -len(window) :] + model.types.weight[1])
        for _ in range(6):
            hidden = torch.cat([last(upper, positive)[:, -1], last(upper, negative)[:, -1]])
            scheduler = DPMSolverMultistepScheduler(
                beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction"
            )
            scheduler.set_timesteps(4)
            x = torch.randn(1, 6, generator=generator)
            for time in scheduler.timesteps:
                one, other = model.head(x.repeat(2, 1), time.repeat(2), hidden).chunk(2)
                x = scheduler.step(other + 1.5 * (one - other), time, x).prev_sample
            latents.append(x)
            positive.append(heard(x[:, None]))
            negative.append(heard(x[:, None]))
    return model.acoustic.decode(model.denormalize(torch.stack(latents[:frames], dim=1)))[0, 0]


@pytest.mark.peer
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@torch.no_grad()
def test_the_loop_equals_the_oracle(model, voice) -> None:
    pytest.importorskip("transformers")
    pytest.importorskip("diffusers")
    words = [3, 4, 5, 6, 7, 8, 9]  # a whole window and a part of one, and then a window without words
    config = SpeechGenerationConfig(max_frames=14, guidance=1.5, diffusion_steps=4, seed=3)
    spoken = RealtimeGenerator(model, config).stream(iter(words), voice)
    audio = torch.cat([step.audio for step in spoken])
    expected = oracle(model, words, seed=3, frames=14)
    assert expected.std() > 0.01
    torch.testing.assert_close(audio, expected, atol=1e-4, rtol=1e-4)


def speak(model, voice, words, **options) -> list:
    config = SpeechGenerationConfig(**{"max_frames": 20, "diffusion_steps": 1, **options})
    return list(RealtimeGenerator(model, config).stream(words, voice))


def test_text_is_read_only_as_far_as_it_is_needed(model, voice) -> None:
    taken: list[int] = []

    def words():
        for word in range(3, 14):
            taken.append(word)
            yield word

    steps = RealtimeGenerator(model, SpeechGenerationConfig(max_frames=20, diffusion_steps=1)).stream(
        words(), voice
    )
    next(steps)
    assert len(taken) == 5
    for _ in range(6):
        next(steps)
    assert len(taken) == 10


def test_the_end_is_heard_or_forced(model, voice, monkeypatch) -> None:
    assert [step.ended for step in speak(model, voice, [3, 4], max_frames=3)] == [None, None, "length"]
    monkeypatch.setattr(model.end.output.bias, "data", torch.tensor([50.0]))
    assert [step.ended for step in speak(model, voice, [3, 4])] == ["eos"]


def test_what_cannot_be_spoken_is_refused(model, voice) -> None:
    with pytest.raises(InputError, match="no text to speak"):
        speak(model, voice, [])
    with pytest.raises(InputError, match="64 positions are used up"):
        speak(model, voice, [3] * 60, max_frames=500)


def test_voice_files(model, voice, tmp_path) -> None:
    voice.save(tmp_path / "mike.safetensors")
    again = RealtimeVoice.load(tmp_path / "mike.safetensors", TINY)
    assert again.name == "mike"
    one, other = (torch.cat([s.audio for s in speak(model, v, [3, 4, 5])]) for v in (voice, again))
    assert torch.equal(one, other)
    for change, problem in (
        ({"upper.2.key": None}, "upper.2.key is missing|upper.2 is missing"),
        ({"lower.0.key": torch.zeros(2, 7, 5)}, r"lower.0 has the shape \(2, 7, 5\)"),
        ({"negative_state": torch.zeros(3)}, "negative_state"),
    ):
        content = dict(tensors.read(tmp_path / "mike.safetensors")) | change
        tensors.save(
            {k: v for k, v in content.items() if v is not None}, tmp_path, filename="bad.safetensors"
        )
        with pytest.raises(CheckpointError, match=problem):
            RealtimeVoice.load(tmp_path / "bad.safetensors", TINY)


def test_checkpoint_and_full_size_names(model, tmp_path) -> None:
    checkpoint.save(model, tmp_path)
    again = checkpoint.load(tmp_path)
    assert again.config == TINY
    for (name, one), (same, two) in zip(model.state_dict().items(), again.state_dict().items(), strict=True):
        assert name == same
        assert torch.equal(one, two), name
    names = set(tensors.read(tmp_path))
    assert "model.language_model.embed_tokens.weight" in names
    assert "model.language_model.norm.weight" not in names
    assert {"model.tts_language_model.norm.weight", "tts_eos_classifier.fc1.bias"} <= names
    with tensors.on_meta():
        full = VibeVoiceRealtime(VIBEVOICE_REALTIME_0_5B)
    published = [checkpoint.rule_table(full.config).to_published(name) for name in full.state_dict()]
    assert len(set(published)) == len(published)
    count = sum(
        p.numel() for p in (*full.lower.parameters(), *full.upper.parameters(), full.embedding.weight)
    )
    assert count == pytest.approx(494.0e6, rel=1e-3)
    assert sum(p.numel() for p in full.head.parameters()) == pytest.approx(42.1e6, rel=2e-3)
    config = checkpoint.config_to_published(full.config)
    assert checkpoint.config_from_published(config, where="x") == full.config
    with pytest.raises(CheckpointError, match="expected 'vibevoice_streaming'"):
        checkpoint.config_from_published({"model_type": "vibevoice"}, where="x")
