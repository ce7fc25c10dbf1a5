"""Published configuration files, old and new spellings, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from multiway_core.errors import CheckpointError, ConfigError
from multiway_document.kosmos2_5 import checkpoint
from multiway_document.kosmos2_5.config import (
    KOSMOS_2_5,
    KOSMOS_2_5_MINI,
    PRESETS,
    Kosmos25Config,
    TextConfig,
    TokenConfig,
    VisionConfig,
)
from multiway_document.kosmos2_5.model import Kosmos25


def test_presets_agree_with_themselves() -> None:
    for config in PRESETS.values():
        assert config.tokens.vocab_size == config.text.vocab_size
        assert config.text.hidden_size % config.text.num_heads == 0
    assert KOSMOS_2_5.vision.patch_dim == 768
    mini = KOSMOS_2_5_MINI
    largest_location = (mini.tokens.num_locations - 1) * mini.tokens.location_step
    # Every pixel of every grid but strips has a location.
    assert largest_location >= 16 * (mini.vision.max_patches**0.5) * 2


def test_tokens_do_not_overlap() -> None:
    tokens = TokenConfig(num_text_tokens=5, num_locations=3)
    ids = [
        tokens.bos, tokens.pad, tokens.eos, tokens.unknown,
        *range(tokens.first_text, tokens.mask),
        tokens.mask, tokens.ocr, tokens.image, tokens.image_end, tokens.chunk_end, tokens.box, tokens.box_end,
        tokens.markdown,
        *(token for i in range(3) for token in (tokens.x(i), tokens.y(i))),
    ]  # fmt: skip
    assert ids == list(range(tokens.vocab_size))


@pytest.mark.parametrize("config", PRESETS.values(), ids=PRESETS.keys())
def test_published_form_and_back(config: Kosmos25Config) -> None:
    published = json.loads(json.dumps(checkpoint.config_to_published(config)))
    assert checkpoint.config_from_published(published, where="config.json") == config


def published(**changes) -> dict:
    return checkpoint.config_to_published(KOSMOS_2_5) | changes


def test_empty_parts_are_the_published_sizes() -> None:
    config = checkpoint.config_from_published({"model_type": "kosmos-2.5"}, where="config.json")
    assert config == KOSMOS_2_5


def test_old_spellings_are_mapped() -> None:
    vision = {"d_ff": 3968, "d_kv": 64, "seq_len": 2048, "num_hidden_layers": 5, "some_new_key": 1}
    text = {"hidden_size": 1536, "num_hidden_layers": 7, "num_attention_heads": 16}
    content = {"model_type": "kosmos-2.5", "vision_config": vision, "text_config": text}
    config = checkpoint.config_from_published(content, where="config.json")
    assert config.vision == replace(VisionConfig(), max_patches=2048, num_layers=5)
    assert config.text == replace(TextConfig(), num_layers=7)
    # A file that has both says what it means in the current spelling.
    both = published(vision_config={"intermediate_size": 100, "d_ff": 3968})
    assert checkpoint.config_from_published(both, where="").vision.inner_size == 100


def test_refusals_name_the_place() -> None:
    with pytest.raises(CheckpointError, match=r"a/config.json: model_type is 'kosmos-2', expected"):
        checkpoint.config_from_published(published(model_type="kosmos-2"), where="a/config.json")
    with pytest.raises(CheckpointError, match="vocabulary has 99 tokens, but the token layout 108481"):
        checkpoint.config_from_published(published(text_config={"vocab_size": 99}), where="config.json")
    with pytest.raises(ConfigError, match="hidden_size"):
        checkpoint.config_from_published(
            published(vision_config={"hidden_size": "wide"}), where="config.json"
        )


NO_OBJECT = '{"model_type": "kosmos-2.5", "vision_config": 3}'


@pytest.mark.parametrize("content", ["", "{", "[]", '"kosmos-2.5"', "null", NO_OBJECT])
def test_broken_config_files(tmp_path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises((CheckpointError, ConfigError), match=r"config\.json"):
        checkpoint.load(tmp_path)


def test_folder_without_a_model(tmp_path) -> None:
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        checkpoint.load(tmp_path)


TINY = Kosmos25Config(
    vision=VisionConfig(hidden_size=16, num_layers=1, num_heads=2, head_dim=8, inner_size=24, max_patches=16),
    text=TextConfig(
        hidden_size=16, num_layers=1, num_heads=2, inner_size=24, vocab_size=52, max_positions=64
    ),
    tokens=TokenConfig(num_text_tokens=20, num_locations=10),
    num_queries=4,
)


@pytest.fixture
def tiny_folder(tmp_path) -> Path:
    torch.manual_seed(0)
    checkpoint.save(Kosmos25(TINY), tmp_path)
    return tmp_path


def test_saved_model_loads_the_same(tiny_folder) -> None:
    again = checkpoint.load(tiny_folder)
    assert again.config == TINY
    assert not again.training
    torch.manual_seed(0)
    for (name, a), (_, b) in zip(
        Kosmos25(TINY).state_dict().items(), again.state_dict().items(), strict=True
    ):
        assert torch.equal(a, b), name


def test_weights_of_another_size_are_refused(tiny_folder) -> None:
    content = json.loads((tiny_folder / "config.json").read_text())
    content["vision_config"]["intermediate_size"] = 25
    (tiny_folder / "config.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load(tiny_folder)
    assert len(caught.value.misshaped) == 3  # wi_0, wi_1 and wo of the one layer
