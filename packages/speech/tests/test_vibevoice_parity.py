"""VibeVoice against the class of `transformers`: random weights, every tensor perturbed, both layouts, whole loop."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

import pytest
import torch
from multiway_core import checkpoint as tensors
from multiway_speech.vibevoice import checkpoint
from multiway_speech.vibevoice.config import VIBEVOICE_1_5B, VIBEVOICE_7B
from multiway_speech.vibevoice.generation import SpeechGenerationConfig, SpeechGenerator
from multiway_speech.vibevoice.model import VibeVoice
from safetensors.torch import save_file

pytestmark = [
    pytest.mark.peer,
    pytest.mark.requires("transformers", "diffusers"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

FRAME, START, END, EOS = 3, 4, 5, 0
SIZES = {
    "untied": {
        "audio": {"hidden_size": 6, "num_filters": 4, "downsampling_ratios": [2, 5], "depths": [1, 2, 1]},
        "text": {"hidden_size": 24, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 40},
        "head": {"num_hidden_layers": 2, "intermediate_size": 36, "frequency_embedding_size": 32},
        "tied": False,
    },
    "tied": {
        "audio": {"hidden_size": 5, "num_filters": 3, "downsampling_ratios": [2, 3, 4], "depths": [1, 1, 1, 2]},
        "text": {
            "hidden_size": 32, "num_attention_heads": 6, "num_key_value_heads": 3, "intermediate_size": 48,
            "head_dim": 8, "rms_norm_eps": 1e-5,
        },
        "head": {"num_hidden_layers": 3, "intermediate_size": 50, "rms_norm_eps": 1e-4},
        "tied": True,
    },
}  # fmt: skip


def build(name: str):
    from transformers import VibeVoiceConfig, VibeVoiceForConditionalGeneration

    sizes = SIZES[name]
    torch.manual_seed(0)
    config = VibeVoiceConfig(
        audio_config={"model_type": "vibevoice_acoustic_tokenizer", **sizes["audio"]},
        semantic_model_config={
            "model_type": "vibevoice_acoustic_tokenizer_encoder", **sizes["audio"], "hidden_size": 9,
        },
        text_config={
            "model_type": "qwen2", "vocab_size": 99, "num_hidden_layers": 2, "max_position_embeddings": 512,
            "tie_word_embeddings": sizes["tied"], "rope_parameters": {"rope_type": "default", "rope_theta": 1e4},
            **sizes["text"],
        },
        diffusion_head_config=sizes["head"],
        audio_token_id=FRAME, audio_bos_token_id=START, audio_eos_token_id=END, eos_token_id=EOS, pad_token_id=EOS,
    )  # fmt: skip
    config._attn_implementation = "eager"
    return VibeVoiceForConditionalGeneration(config)


@pytest.fixture(scope="module", params=list(SIZES))
def published(request, perturb, tmp_path_factory):
    """The peer's model, its folder as `transformers` writes it, and ours."""
    model = perturb(build(request.param))
    with torch.no_grad():
        model.model.latent_scaling_factor.fill_(0.4)
        model.model.latent_bias_factor.fill_(-0.1)
    folder = tmp_path_factory.mktemp(request.param)
    model.save_pretrained(folder)
    return model, folder, checkpoint.load(folder)


@pytest.fixture(scope="module")
def original_folder(published, to_original, tmp_path_factory):
    """The same weights and sizes the way Microsoft publishes them."""
    theirs, _, _ = published
    names = {
        r"^model\.diffusion_head\.timestep_proj\.fc1": "model.prediction_head.t_embedder.mlp.0",
        r"^model\.diffusion_head\.timestep_proj\.fc2": "model.prediction_head.t_embedder.mlp.2",
        r"^model\.diffusion_head\.layers\.(\d+)\.linear\.": r"model.prediction_head.layers.\1.adaLN_modulation.1.",
        r"^model\.diffusion_head\.final_layer\.linear_1": "model.prediction_head.final_layer.adaLN_modulation.1",
        r"^model\.diffusion_head\.final_layer\.linear_2": "model.prediction_head.final_layer.linear",
        r"^model\.diffusion_head\.": "model.prediction_head.",
        r"^model\.multi_modal_projector\.": "model.acoustic_connector.",
        r"_connector\.linear_(\d)": r"_connector.fc\1",
        r"_connector\.act\.": "_connector.norm.",
        "latent_(scaling|bias)_factor": r"speech_\1_factor",
    }
    renamed = {}
    for name, tensor in theirs.state_dict().items():
        if name == "lm_head.weight" and theirs.config.tie_word_embeddings:
            continue
        if name.startswith("model.audio_tower."):
            name = "model.acoustic_tokenizer." + to_original(name.removeprefix("model.audio_tower."))
        elif name.startswith("model.semantic_tokenizer_encoder."):
            name = "model.semantic_tokenizer." + to_original(
                name.removeprefix("model.semantic_tokenizer_encoder.")
            )
        for pattern, replacement in names.items():
            name = re.sub(pattern, replacement, name)
        renamed[name] = tensor.contiguous()
    folder = tmp_path_factory.mktemp("original")
    half = len(renamed) // 2
    parts = [dict(list(renamed.items())[:half]), dict(list(renamed.items())[half:])]
    files = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    for part, file in zip(parts, files, strict=True):
        save_file(part, folder / file)
    index = {name: file for part, file in zip(parts, files, strict=True) for name in part}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    text, head, audio = (
        theirs.config.text_config,
        theirs.config.diffusion_head_config,
        theirs.config.audio_config,
    )
    tokenizer = {
        "vae_dim": audio.hidden_size, "encoder_n_filters": audio.num_filters, "fix_std": 0.5,
        "encoder_ratios": list(reversed(audio.downsampling_ratios)),
        "encoder_depths": "-".join(map(str, audio.depths)), "decoder_depths": None, "std_dist_type": "gaussian",
    }  # fmt: skip
    config = {
        "model_type": "vibevoice",
        "acoustic_tokenizer_config": tokenizer,
        "semantic_tokenizer_config": tokenizer | {"vae_dim": 9, "fix_std": 0, "std_dist_type": "none"},
        "decoder_config": {
            "model_type": "qwen2", "hidden_size": text.hidden_size, "num_hidden_layers": 2,
            "num_attention_heads": text.num_attention_heads, "num_key_value_heads": text.num_key_value_heads,
            "head_dim": getattr(text, "head_dim", None),
            "intermediate_size": text.intermediate_size, "vocab_size": 99, "rope_theta": 1e4,
            "rms_norm_eps": text.rms_norm_eps, "tie_word_embeddings": theirs.config.tie_word_embeddings,
            "max_position_embeddings": 512,
        },
        "diffusion_head_config": {
            "head_layers": head.num_hidden_layers, "head_ffn_ratio": head.intermediate_size / text.hidden_size,
            "rms_norm_eps": head.rms_norm_eps, "prediction_type": "v_prediction", "ddpm_beta_schedule": "cosine",
            "ddpm_num_steps": 1000, "frequency_embedding_size": head.frequency_embedding_size,
        },
        "audio_token_id": FRAME, "audio_bos_token_id": START, "audio_eos_token_id": END, "eos_token_id": EOS,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def prompt(length: int, voice_frames: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(length)
    tokens = torch.randint(6, 99, (length,), generator=generator)
    if voice_frames:
        tokens[2], tokens[3 : 3 + voice_frames], tokens[3 + voice_frames] = START, FRAME, END
    tokens[-1] = START
    return tokens


@torch.no_grad()
def test_connectors_head_and_logits(published) -> None:
    theirs, _, ours = published
    latents, semantic = torch.randn(7, ours.config.acoustic.latent_size), torch.randn(7, 9)
    projector = theirs.model.multi_modal_projector
    torch.testing.assert_close(ours.acoustic_connector(latents), projector(latents), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(
        ours.semantic_connector(semantic), theirs.model.semantic_connector(semantic), atol=1e-5, rtol=1e-5
    )
    hidden, times = (
        torch.randn(7, ours.config.text.hidden_size),
        torch.tensor([0.0, 3, 50, 200, 400, 800, 999]),
    )
    expected = theirs.model.diffusion_head(latents, times, hidden)
    assert expected.std() > 0.01
    torch.testing.assert_close(ours.head(latents, times, hidden), expected, atol=1e-5, rtol=1e-5)
    hop = ours.config.acoustic.hop
    wave = torch.randn(1, 1, 4 * hop)
    tokens = prompt(20, voice_frames=4)[None]
    logits = theirs(
        input_ids=tokens,
        input_values=wave,
        padding_mask=torch.ones(1, 4 * hop, dtype=torch.bool),
        sample=False,
    ).logits
    voices = ours.acoustic.encode(wave)[0]
    valid = torch.ones_like(tokens, dtype=torch.bool)
    torch.testing.assert_close(ours(tokens, valid, voices), logits, atol=1e-5, rtol=1e-5)


def peer_speaks(theirs, prompts: Sequence[torch.Tensor], frames: int, wave: torch.Tensor | None = None):
    longest = max(map(len, prompts))
    tokens = torch.full((len(prompts), longest), EOS)
    mask = torch.zeros_like(tokens)
    for row, tokens_T in enumerate(prompts):
        tokens[row, longest - len(tokens_T) :] = tokens_T
        mask[row, longest - len(tokens_T) :] = 1
    extra = {}
    if wave is not None:
        extra = {
            "input_values": wave,
            "padding_mask": torch.ones(len(wave), wave.shape[-1], dtype=torch.bool),
        }
    torch.manual_seed(5)
    return theirs.generate(
        input_ids=tokens, attention_mask=mask, max_new_tokens=frames, guidance_scale=1.3, num_diffusion_steps=10,
        sample=False, return_dict_in_generate=True, do_sample=False, **extra,
    )  # fmt: skip


class PeersNoise(SpeechGenerator):
    """Draws noise in the peer's order, and like the peer keeps the codec's states over the end of a segment."""

    def draw_noise(self, generators):
        return torch.randn(2 * len(generators), self.model.config.acoustic.latent_size)[: len(generators)]

    def end_segments(self, ended_B, acoustic, semantic):
        pass


def we_speak(ours: VibeVoice, prompts, frames: int, voices=None, **options) -> dict[int, torch.Tensor]:
    torch.manual_seed(5)
    speaker = PeersNoise(ours, SpeechGenerationConfig(max_frames=frames, guidance=1.3, **options))
    audio: dict[int, list[torch.Tensor]] = {}
    for step in speaker.stream(prompts, voices):
        for row, wave in step.audio.items():
            audio.setdefault(row, []).append(wave)
    return {row: torch.cat(waves) for row, waves in audio.items()}


def steer(theirs, ours: VibeVoice, choices: Sequence[int]) -> None:
    """Make both models choose these control tokens by step, whatever the logits: the peer's processor and ours."""
    steps = iter(choices)

    def constrained(*args, **kwargs):
        processors = type(theirs).__mro__[0]._get_logits_processor(theirs, *args, **kwargs)

        def force(input_ids, scores):
            scores = torch.full_like(scores, float("-inf"))
            scores[:, next(steps)] = 0
            return scores

        processors.append(force)
        return processors

    theirs._get_logits_processor = constrained
    ours_steps = iter(choices)

    def logits_of(hidden, tokens_C):
        return (tokens_C == next(ours_steps)).float().expand(len(hidden), -1)

    ours.language_model.logits_of = logits_of


@pytest.fixture
def steered(published):
    theirs, _, ours = published
    yield lambda choices: steer(theirs, ours, choices)
    del theirs._get_logits_processor, ours.language_model.logits_of


@pytest.mark.parametrize(
    "choices",
    [
        [FRAME] * 6,
        [FRAME, FRAME, END, START, FRAME, FRAME, FRAME],
        [START, FRAME, START, FRAME, END, FRAME, FRAME],
    ],
)
def test_the_whole_loop(published, steered, choices) -> None:
    theirs, _, ours = published
    steered(choices)
    expected = peer_speaks(theirs, [prompt(11)], len(choices)).audio[0][0]
    audio = we_speak(ours, [prompt(11)], len(choices))[0]
    assert len(audio) == choices.count(FRAME) * ours.config.acoustic.hop
    assert expected.std() > 0.01
    torch.testing.assert_close(audio, expected, atol=1e-4, rtol=1e-4)


def test_the_whole_loop_with_a_voice_and_batched(published, steered) -> None:
    theirs, _, ours = published
    wave = torch.randn(1, 1, 3 * ours.config.acoustic.hop, generator=torch.Generator().manual_seed(2))
    choices = [FRAME] * 4
    with torch.no_grad():
        voices = ours.acoustic.encode(wave)[0]
    prompts = [prompt(9), prompt(17, voice_frames=3)]
    steered(choices)
    expected = peer_speaks(theirs, prompts, 4, wave).audio
    audio = we_speak(ours, prompts, 4, voices)
    for row in range(2):
        torch.testing.assert_close(audio[row], expected[row][0], atol=1e-4, rtol=1e-4)


def test_choices_by_logits(published, monkeypatch) -> None:
    """Unsteered, the models' own logits decide. (One row a time: the peer's rows disturb each other's codec.)

    The peer also guides its choice of tokens, by a logits processor for text that ``guidance_scale`` brings along; the
    authors' loop has none.
    """
    from transformers.generation.logits_process import (
        UnbatchedClassifierFreeGuidanceLogitsProcessor as TextGuidance,
    )

    theirs, _, ours = published
    make = type(theirs)._get_logits_processor

    def without_text_guidance(self, *args, **kwargs):
        processors = make(self, *args, **kwargs)
        return type(processors)(p for p in processors if not isinstance(p, TextGuidance))

    monkeypatch.setattr(type(theirs), "_get_logits_processor", without_text_guidance)
    seen = set()
    for length in range(6, 12):
        tokens = prompt(length)
        expected = peer_speaks(theirs, [tokens], 6).sequences[0, length:]
        torch.manual_seed(5)
        chosen = []
        for step in PeersNoise(ours, SpeechGenerationConfig(max_frames=6)).stream([tokens]):
            chosen.append(FRAME if step.audio else EOS if step.ended.get(0) == "eos" else -1)
        seen |= set(chosen)
        assert [token if token in (FRAME, EOS) else -1 for token in expected.tolist()] == chosen
    assert len(seen) > 1


def test_a_row_does_not_depend_on_its_batch_mates(published, monkeypatch) -> None:
    _, _, ours = published
    plain = ours.language_model.logits_of
    monkeypatch.setattr(  # so that every row speaks now and then
        ours.language_model,
        "logits_of",
        lambda hidden, tokens: plain(hidden, tokens).tanh() + (tokens == FRAME),
    )
    prompts = [prompt(length) for length in (8, 13, 21)]

    def speak(some, seed: int) -> dict[int, list[torch.Tensor]]:
        audio: dict[int, list[torch.Tensor]] = {}
        for step in SpeechGenerator(ours, SpeechGenerationConfig(max_frames=7, seed=seed)).stream(some):
            for row, wave in step.audio.items():
                audio.setdefault(row, []).append(wave)
        return audio

    together = speak(prompts, seed=40)
    assert together
    for row, tokens in enumerate(prompts):
        alone = speak([tokens], seed=40 + row).get(0, [])
        assert len(alone) == len(together.get(row, []))
        for one, other in zip(alone, together.get(row, []), strict=True):
            torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_original_layout_and_way_back(published, original_folder, tmp_path) -> None:
    theirs, _, ours = published
    other = checkpoint.load(original_folder)
    assert other.config.text == ours.config.text
    assert (other.config.head, other.config.tokens) == (ours.config.head, ours.config.tokens)
    for (name, one), (same, two) in zip(ours.state_dict().items(), other.state_dict().items(), strict=True):
        assert name == same
        assert torch.equal(one, two), name
    checkpoint.save(other, tmp_path, max_shard_bytes=20_000)
    from transformers import VibeVoiceForConditionalGeneration

    back, report = VibeVoiceForConditionalGeneration.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    tokens = prompt(12)[None]
    torch.testing.assert_close(back.eval()(input_ids=tokens).logits, theirs(input_ids=tokens).logits)


@pytest.mark.parametrize(("own", "count"), [(VIBEVOICE_1_5B, 2_704e6), (VIBEVOICE_7B, 9_343e6)])
def test_full_size_names_and_shapes(own, count) -> None:
    from transformers import VibeVoiceConfig, VibeVoiceForConditionalGeneration

    published = checkpoint.config_to_published(own)
    with torch.device("meta"):
        theirs = VibeVoiceForConditionalGeneration(VibeVoiceConfig(**published))
    with tensors.on_meta():
        ours = VibeVoice(own)
    rules = checkpoint.rule_table("hugging_face", own)
    expected = {rules.to_ours(name): tensor.shape for name, tensor in theirs.state_dict().items()}
    expected.pop(None, None)  # the tied output matrix
    assert {name: tensor.shape for name, tensor in ours.state_dict().items()} == expected
    assert sum(tensor.numel() for tensor in ours.state_dict().values()) == pytest.approx(count, rel=2e-3)
    assert checkpoint.config_from_published(published, where="x") == (own, "hugging_face")
    originals = {checkpoint.rule_table("original", own).to_published(name) for name in ours.state_dict()}
    assert len(originals) == len(ours.state_dict())
    assert "model.acoustic_tokenizer.decoder.upsample_layers.6.0.convtr.convtr.weight" in originals
    assert "model.semantic_tokenizer.encoder.stages.6.7.mixer.conv.conv.conv.bias" in originals
    assert "model.prediction_head.layers.3.adaLN_modulation.1.weight" in originals
