"""Kosmos-2 against the class of `transformers`: random weights, every tensor perturbed, both directions."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from multiway_core.errors import CheckpointError
from multiway_vision_language.kosmos2 import checkpoint
from multiway_vision_language.kosmos2.config import KOSMOS_2, TokenConfig
from multiway_vision_language.kosmos2.generation import Decoding, Kosmos2Generator
from multiway_vision_language.kosmos2.model import Kosmos2
from multiway_vision_language.kosmos2.objective import counted_tokens, next_token_loss
from multiway_vision_language.kosmos2.processor import Kosmos2Processor, TokenBatch
from torch import Tensor

pytestmark = [pytest.mark.peer, pytest.mark.requires("transformers.models.kosmos2")]

TOKENS = TokenConfig(num_text_tokens=147, grid_size=6)  # 199 ids in all
SIZES = {
    # the tower wider than the decoder; more slots than patches
    "narrow": {
        "vision_config": {
            "hidden_size": 60, "num_hidden_layers": 2, "num_attention_heads": 5, "intermediate_size": 72,
            "image_size": 33, "patch_size": 11,
        },
        "text_config": {"embed_dim": 42, "layers": 3, "attention_heads": 3, "ffn_dim": 50},
        "latent_query_num": 13,
    },
    # the decoder wider than the tower; fewer slots than patches; a part of the picture that no patch covers
    "wide": {
        "vision_config": {
            "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 40,
            "image_size": 36, "patch_size": 7, "layer_norm_eps": 1e-4,
        },
        "text_config": {
            "embed_dim": 64, "layers": 2, "attention_heads": 4, "ffn_dim": 96, "layer_norm_eps": 2e-5,
        },
        "latent_query_num": 4,
    },
}  # fmt: skip
TEXT = {"vocab_size": TOKENS.vocab_size, "max_position_embeddings": 40}  # shorter than what is decoded


class NoText:
    """The ids of these tests are drawn, not encoded."""

    def encode(self, text: str) -> list[int]:
        return []

    def decode(self, ids) -> str:
        return "".join(f" {index}" for index in ids)


@pytest.fixture(scope="module", params=list(SIZES))
def published(request, tmp_path_factory):
    """The peer's model with random weights and its folder, saved the way it is published."""
    from transformers import Kosmos2Config, Kosmos2ForConditionalGeneration

    sizes = SIZES[request.param]
    torch.manual_seed(0)
    config = Kosmos2Config(
        text_config=TEXT | sizes["text_config"],
        vision_config=sizes["vision_config"],
        latent_query_num=sizes["latent_query_num"],
    )
    config._attn_implementation = "eager"
    model = Kosmos2ForConditionalGeneration(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    folder = tmp_path_factory.mktemp(f"published-{request.param}")
    model.save_pretrained(folder)
    path = folder / "config.json"
    content = json.loads(path.read_text())
    content["token_layout"] = {"num_text_tokens": TOKENS.num_text_tokens, "grid_size": TOKENS.grid_size}
    path.write_text(json.dumps(content))
    return model, folder


def pixels(model: Kosmos2, rows: int, seed: int = 0) -> Tensor:
    size = model.config.vision.image_size
    return torch.randn(rows, 3, size, size, generator=torch.Generator().manual_seed(seed))


def prompts(model: Kosmos2, *lengths: int, seed: int = 0) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    processor = Kosmos2Processor(model.config, NoText())
    ids = [token for token in range(4, TOKENS.vocab_size) if token not in (TOKENS.image, TOKENS.image_end)]
    return [processor.prompt("") + rng.choice(ids, length).tolist() for length in lengths]


def batch_of(model: Kosmos2, rows: list[list[int]]) -> TokenBatch:
    return Kosmos2Processor(model.config, NoText()).batch(rows)


def by_theirs(theirs, pixel_values: Tensor, batch: TokenBatch, **more):
    return theirs(
        pixel_values=pixel_values,
        input_ids=batch.tokens_BT,
        attention_mask=batch.valid_BT.long(),
        image_embeds_position_mask=batch.image_slots_BT.long(),
        **more,
    )


@torch.no_grad()
def test_tower_connector_and_logits(published) -> None:
    theirs, folder = published
    ours = checkpoint.load(folder)
    pictures = pixels(ours, 2)
    features = theirs.vision_model(pixel_values=pictures).last_hidden_state
    features = theirs.vision_model.model.post_layernorm(features)
    torch.testing.assert_close(ours.vision(pictures), features, atol=1e-5, rtol=0)
    images = ours.encode_images(pictures)
    expected = theirs.get_image_features(pictures).pooler_output
    torch.testing.assert_close(images.embeddings_BQE, expected, atol=1e-5, rtol=0)
    batch = batch_of(ours, prompts(ours, 21, 21))
    logits = ours(batch.tokens_BT, batch.valid_BT, images=images, image_slots_BT=batch.image_slots_BT)
    torch.testing.assert_close(logits, by_theirs(theirs, pictures, batch).logits, atol=1e-5, rtol=0)


@torch.no_grad()
def test_left_padding_equals_theirs_and_single_rows(published) -> None:
    theirs, folder = published
    ours = checkpoint.load(folder)
    pictures, rows = pixels(ours, 3), prompts(ours, 17, 5, 1)
    batch = batch_of(ours, rows)
    images = ours.encode_images(pictures)
    logits = ours(batch.tokens_BT, batch.valid_BT, images=images, image_slots_BT=batch.image_slots_BT)
    wanted = by_theirs(theirs, pictures, batch).logits
    torch.testing.assert_close(logits[batch.valid_BT], wanted[batch.valid_BT], atol=1e-5, rtol=0)
    for row, prompt in enumerate(rows):
        alone = batch_of(ours, [prompt])
        single = ours(
            alone.tokens_BT, alone.valid_BT, images=images.rows([row]), image_slots_BT=alone.image_slots_BT
        )
        torch.testing.assert_close(logits[row, -len(prompt) :], single[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("block", [0, 3])
def test_64_greedy_tokens(published, block: int) -> None:
    """The ban is given to both: `generate` of the peer loses the one in its own configuration."""
    theirs, folder = published
    ours = checkpoint.load(folder)
    generator = Kosmos2Generator(ours, Kosmos2Processor(ours.config, NoText()))
    pictures, rows = pixels(ours, 2), prompts(ours, 9, 9, seed=3)
    batch = batch_of(ours, rows)
    expected = theirs.generate(
        pixel_values=pictures,
        input_ids=batch.tokens_BT,
        attention_mask=batch.valid_BT.long(),
        image_embeds_position_mask=batch.image_slots_BT.long(),
        max_new_tokens=64,
        do_sample=False,
        no_repeat_ngram_size=block,
        eos_token_id=2,
        pad_token_id=1,
    )[:, batch.tokens_BT.shape[1] :]
    prefix = generator.prefill(rows, ours.encode_images(pictures), room=64)
    written = generator.generate(prefix, Decoding(max_new_tokens=64, no_repeat_ngram_size=block))
    for row, theirs_T in zip(written, expected.tolist(), strict=True):
        end = theirs_T.index(2) if 2 in theirs_T else len(theirs_T)
        assert row.ids == theirs_T[:end]


@torch.no_grad()
def test_loss(published) -> None:
    theirs, folder = published
    ours = checkpoint.load(folder)
    pictures = pixels(ours, 2)
    batch = batch_of(ours, prompts(ours, 14, 14))
    counted_BT = counted_tokens(batch, TOKENS)
    assert int(counted_BT.sum()) == 2 * 14  # what stands behind the pictures
    labels = batch.tokens_BT.masked_fill(~counted_BT, -100)
    expected = by_theirs(theirs, pictures, batch, labels=labels).loss
    total, count = next_token_loss(ours, batch, ours.encode_images(pictures))
    torch.testing.assert_close(total / count, expected, atol=1e-5, rtol=0)


def test_ours_saved_loads_in_theirs(published, tmp_path) -> None:
    from transformers import Kosmos2ForConditionalGeneration

    theirs, folder = published
    checkpoint.save(checkpoint.load(folder), tmp_path)
    again, info = Kosmos2ForConditionalGeneration.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    for (name, a), (_, b) in zip(theirs.state_dict().items(), again.state_dict().items(), strict=True):
        assert torch.equal(a, b), name
    assert checkpoint.read_config(tmp_path) == checkpoint.read_config(folder)


def test_an_older_file_with_the_tied_matrix_twice(published, tmp_path) -> None:
    theirs, folder = published
    from safetensors.torch import save_file

    tensors = {name: tensor.clone() for name, tensor in theirs.state_dict().items()}
    tensors["text_model.lm_head.weight"] = tensors["text_model.model.embed_tokens.weight"].clone()
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    for (name, a), (_, b) in zip(
        checkpoint.load(folder).state_dict().items(),
        checkpoint.load(tmp_path).state_dict().items(),
        strict=True,
    ):
        assert torch.equal(a, b), name


# Published names -> the authors', as pieces that are replaced in this order.
ORIGINAL = (
    ("text_model.lm_head", "gpt_model.decoder.output_projection"),
    ("text_model.model", "gpt_model.decoder"),
    ("image_to_text_projection", "img_connector"),
    ("vision_model.model.embeddings.class_embedding", "img_model.visual.class_embedding"),
    ("vision_model.model.embeddings.position_embedding.weight", "img_model.visual.positional_embedding"),
    ("vision_model.model.embeddings.patch_embedding", "img_model.visual.conv1"),
    ("vision_model.model", "img_model.visual"),
    ("pre_layrnorm", "ln_pre"),
    ("post_layernorm", "ln_post"),
    ("encoder.layers", "transformer.resblocks"),
)
IN_BLOCKS = (
    ("self_attn", "ts_attn"),
    ("layer_norm1", "ln_1"),
    ("layer_norm2", "ln_2"),
    ("fc1", "c_fc"),
    ("fc2", "c_proj"),
)


def original_tensors(theirs) -> dict[str, Tensor]:
    renamed = {
        "gpt_model.decoder.embed_positions._float_tensor": torch.zeros(1),
        "gpt_model.decoder.self_attn_sope.scale": torch.ones(32),
    }
    for name, tensor in {
        "text_model.lm_head.weight": theirs.text_model.lm_head.weight,
        **theirs.state_dict(),
    }.items():
        for old, new in (*ORIGINAL, *(IN_BLOCKS if name.startswith("vision_model") else ())):
            name = name.replace(old, new)
        renamed[name] = tensor.detach()
    return renamed


def test_original_fairseq_layout_is_bit_equal(published, tmp_path) -> None:
    """A synthetic ``kosmos-2.pt`` with the authors' names and a namespace of options gives the same network."""
    theirs, folder = published
    content = {"args": argparse.Namespace(arch="unigptmodel_xl"), "model": original_tensors(theirs)}
    torch.save(content, tmp_path / checkpoint.ORIGINAL_FILE)
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    ours, original = checkpoint.load(folder), checkpoint.load(tmp_path)
    for (name, a), (_, b) in zip(ours.state_dict().items(), original.state_dict().items(), strict=True):
        assert torch.equal(a, b), name


def test_a_pickle_with_code_is_refused(published, tmp_path) -> None:
    theirs, folder = published
    torch.save({"model": original_tensors(theirs), "hook": Path}, tmp_path / checkpoint.ORIGINAL_FILE)
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    with pytest.raises(CheckpointError, match="refused"):
        checkpoint.load(tmp_path)


def test_published_size_on_the_meta_device() -> None:
    with torch.device("meta"):
        model = Kosmos2(KOSMOS_2)
    assert sum(p.numel() for p in model.parameters()) == 1_664_485_376
    assert sum(p.numel() for p in model.text.parameters()) == 1_342_289_920
    assert sum(p.numel() for p in model.vision.parameters()) == 303_179_776
    assert sum(p.numel() for p in model.resampler.parameters()) == 19_015_680

    from transformers import Kosmos2Config, Kosmos2ForConditionalGeneration

    with torch.device("meta"):
        theirs = Kosmos2ForConditionalGeneration(Kosmos2Config())
    expected = {name: tuple(t.shape) for name, t in theirs.state_dict().items()}
    expected.pop("text_model.lm_head.weight", None)
    names = {
        checkpoint.HUGGING_FACE.to_published(name): tuple(t.shape) for name, t in model.state_dict().items()
    }
    assert names == expected


def test_published_sizes_are_read_from_the_hubs_config() -> None:
    from transformers import Kosmos2Config

    own = checkpoint.config_from_published(Kosmos2Config().to_dict(), where="config.json")
    assert own == KOSMOS_2
    again = checkpoint.config_from_published(checkpoint.config_to_published(KOSMOS_2), where="config.json")
    assert again == KOSMOS_2


@torch.no_grad()
def test_bfloat16_is_as_near_to_the_truth_as_theirs(published) -> None:
    """Both networks in bfloat16 against theirs in float32 with the same rounded weights and pixels."""
    _, folder = published
    peer_class = type(published[0])
    theirs = peer_class.from_pretrained(folder, dtype=torch.bfloat16).eval()
    exact = peer_class.from_pretrained(folder, dtype=torch.bfloat16).eval().float()
    ours = checkpoint.load(folder, dtype=torch.bfloat16)
    errors: dict[str, list[Tensor]] = {"ours": [], "theirs": []}
    for seed in range(6):
        pictures = pixels(ours, 1, seed).bfloat16()
        batch = batch_of(ours, prompts(ours, 12, seed=seed))
        wanted = by_theirs(exact, pictures.float(), batch).logits.double()
        errors["theirs"].append(by_theirs(theirs, pictures, batch).logits.double() - wanted)
        images = ours.encode_images(pictures)
        logits = ours(batch.tokens_BT, batch.valid_BT, images=images, image_slots_BT=batch.image_slots_BT)
        errors["ours"].append(logits.double() - wanted)
    size = {name: float(torch.cat(parts).square().mean().sqrt()) for name, parts in errors.items()}
    assert size["ours"] <= 1.15 * size["theirs"]  # 15 %: another draw of roundings
