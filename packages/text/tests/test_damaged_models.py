"""Damaged and hostile model files: whatever is in them, loading ends with a model or with one line."""

from __future__ import annotations

import importlib
import json
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from multiway_core.errors import MultiwayError
from multiway_text import gguf_tokenizer
from multiway_text.decoders.llama import checkpoint, gguf_export
from multiway_text.language_model import LanguageModel
from multiway_text.sampling import SamplingOptions

tiny = importlib.import_module("packages.text.tests.tiny_lm")
RELAXED = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.save_llama(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def gguf_bytes(folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("gguf") / "model.gguf"
    gguf_export.save(checkpoint.load(folder), path, "f16", metadata=gguf_tokenizer.metadata(tiny.tokenizer()))
    return path.read_bytes()


def attempt(path) -> None:
    """Load and use; only errors of ours, of one line."""
    said = ""
    try:
        model = LanguageModel.from_pretrained(path)
        messages = [{"role": "user", "content": "hi"}]
        model.generate("hi" if model.chat_template is None else messages, SamplingOptions(max_tokens=2))
        model.score("The fox")
    except MultiwayError as error:
        said = str(error)
    assert "\n" not in said


def test_gguf_with_bytes_changed(gguf_bytes, tmp_path) -> None:
    generator = random.Random(0)
    head = gguf_bytes.index(b"blk.0")  # what is before: metadata, tokens, merges
    path = tmp_path / "model.gguf"
    for _ in range(120):
        data = bytearray(gguf_bytes)
        for _ in range(generator.choice([1, 1, 3, 30])):
            end = head if generator.random() < 0.8 else len(data)
            data[generator.randrange(end)] = generator.choice(
                [0, 1, 3, 8, 9, 127, 255, generator.randrange(256)]
            )
        path.write_bytes(data)
        attempt(path)
    for cut in (0, 3, 8, 24, 100, head, len(gguf_bytes) - 1):
        path.write_bytes(gguf_bytes[:cut])
        attempt(path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5000) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
KEYS = {
    "config.json": ["model_type", "hidden_size", "num_hidden_layers", "head_dim", "rms_norm_eps", "rope_theta",
                    "rope_parameters", "tie_word_embeddings", "quantization_config", "eos_token_id"],
    "tokenizer_config.json": ["bos_token", "eos_token", "add_bos_token", "chat_template"],
    "generation_config.json": ["eos_token_id", "temperature", "top_k", "top_p", "do_sample", "repetition_penalty"],
}  # fmt: skip
PLACES = [(name, key) for name, keys in KEYS.items() for key in keys]


@given(st.sampled_from(PLACES), JSON)
@RELAXED
def test_settings_with_any_value(folder, tmp_path, place, value) -> None:
    name, key = place
    copy = tmp_path / "copy"
    copy.mkdir(exist_ok=True)
    for file in folder.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    content = json.loads((copy / name).read_text())
    (copy / name).write_text(json.dumps({**content, key: value}))
    attempt(copy)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("content", ["", "[]", "{", "null", "\0", '{"model": 3}', "{}"])
def test_files_that_are_something_else(folder, tmp_path, name, content) -> None:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / name).write_text(content)
    attempt(tmp_path)
