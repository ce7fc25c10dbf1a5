"""Reader of the published voices (``en-Mike_man.pt`` ...), which runs no code of the file.

They are pickles of four model outputs (``lm``, ``tts_lm``, and ``neg_`` of both) with a cache of keys and values each.
PyTorch's restricted reader takes tensors, dictionaries, and here the two classes by name, for which stand-ins that
only hold what they are given are put in; whatever else a file asks for is refused.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from multiway_core.errors import CheckpointError
from torch import Tensor

from multiway_speech.vibevoice_realtime.config import VibeVoiceRealtimeConfig
from multiway_speech.vibevoice_realtime.voices import RealtimeVoice, check

PARTS = ("lm", "tts_lm", "neg_tts_lm")  # "neg_lm" is there as well, and nothing needs it


def _output(last_hidden_state: Any = None, past_key_values: Any = None, *rest: Any) -> OrderedDict[str, Any]:
    """Stands for ``BaseModelOutputWithPast``, whose pickle calls it with its fields and then sets its items."""
    return OrderedDict(last_hidden_state=last_hidden_state, past_key_values=past_key_values)


class _Cache:
    """Stands for ``DynamicCache``: only attributes."""


class _Layer:
    """Stands for a layer of the newer ``DynamicCache``: only attributes."""


_STAND_INS: list[Any] = [
    (_output, "transformers.modeling_outputs.BaseModelOutputWithPast"),
    (_Cache, "transformers.cache_utils.DynamicCache"),
    (_Layer, "transformers.cache_utils.DynamicLayer"),
]


def read(path: Path, config: VibeVoiceRealtimeConfig) -> RealtimeVoice:
    """The voice in a published file; ``voice.save`` writes it as safetensors.

    Raises :class:`CheckpointError`: unreadable, asks for other code, or not a voice of this model.
    """
    try:
        with torch.serialization.safe_globals(_STAND_INS):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = (
            str(error).partition("WeightsUnpickler error: ")[2].strip().split("\n")[0] or type(error).__name__
        )
        raise CheckpointError(f"{path}: refused, it holds more than a voice: {reason}") from None
    except Exception as error:  # truncated archives and the like raise whatever they meet
        raise CheckpointError(f"{path}: not a voice file: {type(error).__name__}") from None
    if not isinstance(content, dict) or not all(isinstance(content.get(part), OrderedDict) for part in PARTS):
        raise CheckpointError(f"{path}: not a voice: expected the entries {', '.join(PARTS)}")
    lower, upper, negative = (_layers(content[part], f"{path}: {part}") for part in PARTS)
    state = content["neg_tts_lm"].get("last_hidden_state")
    if not isinstance(state, Tensor) or state.ndim != 3 or not state.numel():
        raise CheckpointError(f"{path}: neg_tts_lm has no last_hidden_state of shape (1, positions, size)")
    voice = RealtimeVoice(path.stem, lower, upper, negative, state[0, -1:].clone())
    check(voice, config, path)
    return voice


def _layers(output: OrderedDict[str, Any], where: str) -> list[tuple[Tensor, Tensor]]:
    """Keys and values (H, P, D) of each layer: two lists in older caches, a list of layers in newer ones."""
    found = output.get("past_key_values")
    cache = vars(found) if isinstance(found, _Cache) else {}
    if "key_cache" in cache:
        keys, values = cache.get("key_cache"), cache.get("value_cache")
    else:
        layers = [vars(layer) for layer in cache.get("layers", ()) if isinstance(layer, _Layer)]
        keys, values = [layer.get("keys") for layer in layers], [layer.get("values") for layer in layers]
    if not isinstance(keys, list) or not isinstance(values, list) or not keys or len(keys) != len(values):
        raise CheckpointError(f"{where}: no keys and values")
    for tensor in (*keys, *values):
        if not isinstance(tensor, Tensor) or tensor.ndim != 4 or len(tensor) != 1:
            raise CheckpointError(
                f"{where}: keys and values must be tensors (1, heads, positions, head size)"
            )
    return [(key[0].clone(), value[0].clone()) for key, value in zip(keys, values, strict=True)]
