"""Published voice files of VibeVoice-Realtime: the same structure is read, and nothing else is let in."""

from __future__ import annotations

import os
import sys
import types
from collections import OrderedDict

import pytest
import torch
from multiway_core.errors import CheckpointError
from multiway_speech.language_model import LanguageModelConfig
from multiway_speech.vibevoice_realtime import published_voices
from multiway_speech.vibevoice_realtime.config import VibeVoiceRealtimeConfig
from multiway_speech.vibevoice_realtime.voices import RealtimeVoice

CONFIG = VibeVoiceRealtimeConfig(
    text=LanguageModelConfig(hidden_size=16, num_layers=5, num_heads=4, num_kv_heads=2, vocab_size=50),
    num_upper_layers=3,
)


class BaseModelOutputWithPast(OrderedDict):
    """Pickles as the class of ``transformers`` does: called with its fields, then its attributes and items."""

    def __reduce__(self):
        kind, _, *rest = super().__reduce__()
        return kind, (self.last_hidden_state, self.past_key_values, None, None), *rest

    def __init__(self, last_hidden_state=None, past_key_values=None, hidden_states=None, attentions=None):
        super().__init__(last_hidden_state=last_hidden_state, past_key_values=past_key_values)
        self.last_hidden_state, self.past_key_values = last_hidden_state, past_key_values


class DynamicCache:
    pass


class DynamicLayer:
    pass


@pytest.fixture
def transformers(monkeypatch):
    """Modules under the names that a published file asks for; gone again before anything is read."""
    homes = {
        "transformers.modeling_outputs": [BaseModelOutputWithPast],
        "transformers.cache_utils": [DynamicCache, DynamicLayer],
    }
    monkeypatch.setitem(sys.modules, "transformers", types.ModuleType("transformers"))
    for name, classes in homes.items():
        module = types.ModuleType(name)
        monkeypatch.setitem(sys.modules, name, module)
        for kind in classes:
            monkeypatch.setattr(kind, "__module__", name)
            monkeypatch.setattr(module, kind.__name__, kind, raising=False)


def part(layers: int, positions: int, *, newer: bool = False) -> BaseModelOutputWithPast:
    cache = DynamicCache()
    pairs = [torch.randn(2, 1, 2, positions, 4, dtype=torch.bfloat16) for _ in range(layers)]
    if newer:
        cache.layers = []
        for pair in pairs:
            layer = DynamicLayer()
            layer.keys, layer.values = pair[0], pair[1]
            cache.layers.append(layer)
    else:
        cache.key_cache, cache.value_cache = [p[0] for p in pairs], [p[1] for p in pairs]
        cache._seen_tokens = positions
    return BaseModelOutputWithPast(torch.randn(1, positions, 16, dtype=torch.bfloat16), cache)


def voice_parts(**options) -> dict:
    torch.manual_seed(0)
    shapes = {"lm": (2, 7), "tts_lm": (3, 11), "neg_lm": (2, 1), "neg_tts_lm": (3, 1)}
    return {name: part(*shape, **options) for name, shape in shapes.items()}


@pytest.mark.parametrize("newer", [False, True])
def test_a_published_voice_becomes_one_of_ours(tmp_path, transformers, newer) -> None:
    parts = voice_parts(newer=newer)
    torch.save(parts, tmp_path / "en-Mike_man.pt")
    voice = published_voices.read(tmp_path / "en-Mike_man.pt", CONFIG)
    assert voice.name == "en-Mike_man"
    assert [len(voice.lower), len(voice.upper), len(voice.negative)] == [2, 3, 3]
    cache = parts["tts_lm"].past_key_values
    keys = cache.layers[1].keys if newer else cache.key_cache[1]
    assert torch.equal(voice.upper[1][0], keys[0])
    assert torch.equal(voice.negative_1E, parts["neg_tts_lm"].last_hidden_state[0])
    voice.save(tmp_path / "mike.safetensors")
    again = RealtimeVoice.load(tmp_path / "mike.safetensors", CONFIG)
    assert torch.equal(again.lower[0][1], voice.lower[0][1])
    assert RealtimeVoice.load(tmp_path / "en-Mike_man.pt", CONFIG).name == "en-Mike_man"


class Evil:
    def __reduce__(self):
        return os.system, ("touch SHOULD_NOT_BE",)


def test_other_code_is_refused(tmp_path, transformers, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(voice_parts() | {"lm": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(CheckpointError, match="refused, it holds more than a voice"):
        published_voices.read(tmp_path / "evil.pt", CONFIG)
    assert not (tmp_path / "SHOULD_NOT_BE").exists()


def test_what_is_no_voice_is_said_in_a_line(tmp_path, transformers) -> None:
    def read(content) -> None:
        torch.save(content, tmp_path / "bad.pt")
        published_voices.read(tmp_path / "bad.pt", CONFIG)

    parts = voice_parts()
    with pytest.raises(CheckpointError, match="expected the entries lm, tts_lm, neg_tts_lm"):
        read({"lm": parts["lm"]})
    with pytest.raises(CheckpointError, match="expected the entries"):
        read([1, 2])
    with pytest.raises(CheckpointError, match="3 layers in lower, expected 2"):
        read(parts | {"lm": part(3, 4)})
    with pytest.raises(CheckpointError, match="lm: no keys and values"):
        read(parts | {"lm": BaseModelOutputWithPast(torch.zeros(1, 1, 16))})
    with pytest.raises(CheckpointError, match="no last_hidden_state"):
        read(parts | {"neg_tts_lm": BaseModelOutputWithPast(None, part(3, 1).past_key_values)})
    (tmp_path / "bad.pt").write_bytes(b"PK\x03\x04 not an archive")
    with pytest.raises(CheckpointError, match=r"not a voice file|refused"):
        published_voices.read(tmp_path / "bad.pt", CONFIG)
    with pytest.raises(CheckpointError, match="not a voice file"):
        published_voices.read(tmp_path / "absent.pt", CONFIG)
