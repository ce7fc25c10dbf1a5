"""VibeVoice-ASR against the class of `transformers`: random weights, every tensor perturbed, all layouts, tokens."""

from __future__ import annotations

import json
import re

import pytest
import torch
from multiway_core import checkpoint as tensors
from multiway_core.generation import GenerationConfig, generate
from multiway_speech.vibevoice_asr import checkpoint
from multiway_speech.vibevoice_asr.config import VIBEVOICE_ASR
from multiway_speech.vibevoice_asr.model import VibeVoiceAsr
from safetensors.torch import save_file

pytestmark = [pytest.mark.peer, pytest.mark.requires("transformers")]

FRAME, EOS = 3, 0
SIZES = {
    "grouped": {
        "audio": {"num_filters": 4, "downsampling_ratios": [2, 5], "depths": [1, 2, 1], "hidden_size": 6},
        "text": {"hidden_size": 24, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 40},
    },
    "wide": {
        "audio": {"num_filters": 3, "downsampling_ratios": [3, 2, 2], "depths": [2, 1, 1, 1], "hidden_size": 5},
        "text": {
            "hidden_size": 30, "num_attention_heads": 3, "num_key_value_heads": 3, "intermediate_size": 50,
            "head_dim": 8,
        },
    },
}  # fmt: skip


@pytest.fixture(scope="module", params=list(SIZES))
def published(request, perturb, tmp_path_factory):
    """The peer's model, its folder, and ours."""
    from transformers import VibeVoiceAsrConfig, VibeVoiceAsrForConditionalGeneration

    sizes = SIZES[request.param]
    encoder = {"model_type": "vibevoice_acoustic_tokenizer_encoder", **sizes["audio"]}
    hop = torch.tensor(sizes["audio"]["downsampling_ratios"]).prod().item()
    torch.manual_seed(0)
    config = VibeVoiceAsrConfig(
        acoustic_tokenizer_encoder_config=encoder,
        semantic_tokenizer_encoder_config=encoder | {"hidden_size": 9},
        text_config={
            "model_type": "qwen2", "vocab_size": 99, "num_hidden_layers": 2, "max_position_embeddings": 512,
            "tie_word_embeddings": False, "rope_parameters": {"rope_type": "default", "rope_theta": 1e4},
            **sizes["text"],
        },
        audio_token_id=FRAME, audio_bos_token_id=4, audio_eos_token_id=5,
        acoustic_tokenizer_chunk_size=3 * hop,
    )  # fmt: skip
    config._attn_implementation = "eager"
    model = perturb(VibeVoiceAsrForConditionalGeneration(config))
    folder = tmp_path_factory.mktemp(request.param)
    model.save_pretrained(folder)
    return model, folder, checkpoint.load(folder)


def batch(hop: int) -> dict[str, torch.Tensor]:
    """Two recordings of eight and five frames (more than one chunk each), the shorter prompt padded on the left."""
    generator = torch.Generator().manual_seed(1)
    waves = torch.randn(2, 1, 8 * hop, generator=generator)
    waves[1, :, 5 * hop :] = 0
    padding = torch.ones(2, 8 * hop, dtype=torch.bool)
    padding[1, 5 * hop :] = False
    tokens = torch.randint(6, 99, (2, 16), generator=generator)
    tokens[0, 3:11] = FRAME
    tokens[1, 6:11] = FRAME
    tokens[1, :3] = EOS
    mask = torch.ones(2, 16, dtype=torch.long)
    mask[1, :3] = 0
    return {"input_ids": tokens, "attention_mask": mask, "input_values": waves, "padding_mask": padding}


def hear(ours: VibeVoiceAsr, inputs, hop: int, piece: int) -> torch.Tensor:
    waves = inputs["input_values"]
    lengths = inputs["padding_mask"].sum(dim=1).tolist()
    heard = [ours.hear(w[None, :, :n].split(piece, dim=2))[0] for w, n in zip(waves, lengths, strict=True)]
    return torch.cat(heard)


@torch.no_grad()
def test_frames_logits_and_greedy_tokens(published) -> None:
    theirs, _, ours = published
    hop = ours.config.acoustic.hop
    inputs = batch(hop)
    expected = theirs.get_audio_features(
        inputs["input_values"], padding_mask=inputs["padding_mask"], sample=False
    ).pooler_output
    for piece in (hop, 3 * hop, 7, 100 * hop):
        frames = hear(ours, inputs, hop, piece)
        torch.testing.assert_close(frames, expected, atol=1e-5, rtol=1e-4)
    valid = inputs["attention_mask"].bool()
    logits = theirs(**inputs, sample=False).logits
    torch.testing.assert_close(
        ours(inputs["input_ids"], valid, frames)[valid], logits[valid], atol=1e-5, rtol=1e-4
    )
    written = theirs.generate(
        **inputs, sample=False, max_new_tokens=20, do_sample=False, eos_token_id=98, pad_token_id=98
    )[:, 16:]
    cache = ours.language_model.new_cache(2, 40)
    first = ours.language_model.logits(
        ours.language_model.read(ours.embed_prompt(inputs["input_ids"], frames), valid, cache)
    )
    config = GenerationConfig(max_new_tokens=20, eos_token_ids=(98,), pad_token_id=98)
    output = generate(ours.language_model.decode, first, cache, config)
    for row in range(2):
        end = len(output.tokens[row])
        assert output.tokens[row].tolist() == written[row, :end].tolist()
        assert end >= 5


@torch.no_grad()
def test_noise_is_the_sigma_vaes(published) -> None:
    _, _, ours = published
    wave = torch.randn(1, 1, 4 * ours.config.acoustic.hop)
    plain = ours.hear([wave])
    one, same, other = (
        ours.hear([wave], generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(one, same)
    assert not torch.allclose(one, other)
    assert not torch.allclose(one, plain)


@torch.no_grad()
def test_all_layouts_and_the_way_back(published, to_original, tmp_path) -> None:
    theirs, folder, ours = published
    on_disk = set(tensors.read(folder))
    assert any(name.startswith("acoustic_tokenizer_encoder.") for name in on_disk)  # the older names
    in_memory = tmp_path / "memory"
    in_memory.mkdir()
    state = {name: t.contiguous() for name, t in theirs.state_dict().items()}
    save_file(state, in_memory / "model.safetensors")
    (in_memory / "config.json").write_text((folder / "config.json").read_text())

    original = tmp_path / "original"
    original.mkdir()
    renamed = {}
    for name, tensor in state.items():
        for part in ("acoustic", "semantic"):
            prefix = f"model.{part}_tokenizer_encoder."
            if name.startswith(prefix):
                name = f"model.{part}_tokenizer." + to_original(name.removeprefix(prefix))
            name = re.sub(
                rf"^model\.multi_modal_projector\.{part}_(linear_1|norm|linear_2)\.",
                lambda m, part=part: f"model.{part}_connector."
                + {"linear_1": "fc1", "norm": "norm", "linear_2": "fc2"}[m[1]] + ".",
                name,
            )  # fmt: skip
        renamed[name] = tensor
    renamed["model.acoustic_tokenizer.decoder.head.conv.conv.bias"] = torch.zeros(1)  # carried along, unused
    save_file(renamed, original / "model.safetensors")
    audio, text = theirs.config.acoustic_tokenizer_encoder_config, theirs.config.text_config.to_dict()
    tokenizer = {
        "vae_dim": audio.hidden_size, "encoder_n_filters": audio.num_filters, "fix_std": 0.5,
        "encoder_ratios": list(reversed(audio.downsampling_ratios)), "encoder_depths": "-".join(map(str, audio.depths)),
        "std_dist_type": "gaussian",
    }  # fmt: skip
    config = {
        "model_type": "vibevoice", "architectures": ["VibeVoiceForASRTraining"],
        "acoustic_tokenizer_config": tokenizer, "semantic_tokenizer_config": tokenizer | {"vae_dim": 9},
        "decoder_config": text,
        "audio_token_id": FRAME, "audio_bos_token_id": 4, "audio_eos_token_id": 5,
    }  # fmt: skip
    (original / "config.json").write_text(json.dumps(config))

    for other_folder in (in_memory, original):
        other = checkpoint.load(other_folder)
        assert other.config.text == ours.config.text
        for (name, one), (same, two) in zip(
            ours.state_dict().items(), other.state_dict().items(), strict=True
        ):
            assert name == same
            assert torch.equal(one, two), name

    from transformers import VibeVoiceAsrForConditionalGeneration

    checkpoint.save(ours, tmp_path / "saved", max_shard_bytes=20_000)
    back, report = VibeVoiceAsrForConditionalGeneration.from_pretrained(
        tmp_path / "saved", output_loading_info=True
    )
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    inputs = batch(ours.config.acoustic.hop)
    valid = inputs["attention_mask"].bool()
    one, other = (model(**inputs, sample=False).logits[valid] for model in (back.eval(), theirs))
    torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_full_size_names_and_shapes() -> None:
    from transformers import VibeVoiceAsrConfig, VibeVoiceAsrForConditionalGeneration

    published = checkpoint.config_to_published(VIBEVOICE_ASR)
    with torch.device("meta"):
        theirs = VibeVoiceAsrForConditionalGeneration(VibeVoiceAsrConfig(**published))
    with tensors.on_meta():
        ours = VibeVoiceAsr(VIBEVOICE_ASR)
    rules = checkpoint.rule_table("hugging_face", VIBEVOICE_ASR)
    expected = {rules.to_ours(name): tensor.shape for name, tensor in theirs.state_dict().items()}
    assert {name: tensor.shape for name, tensor in ours.state_dict().items()} == expected
    assert checkpoint.config_from_published(published, where="x") == (VIBEVOICE_ASR, "hugging_face")
