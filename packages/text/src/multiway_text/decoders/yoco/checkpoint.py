"""The released layout, ``checkpoint.pth`` (a plain state dict) and ``params.json``, <-> :class:`~.model.Yoco`."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from multiway_core import checkpoint, config, files
from multiway_core.checkpoint import Rule, RuleTable
from multiway_core.errors import CheckpointError, InputError

from multiway_text.checkpoint_files import check_layers
from multiway_text.decoders.yoco.config import YocoConfig
from multiway_text.decoders.yoco.model import Yoco

WEIGHTS_FILE, CONFIG_FILE = "checkpoint.pth", "params.json"

_RETENTION = {"q_proj": "query", "k_proj": "key", "v_proj": "value", "g_proj": "gate", "gt_proj": "decay"}


def _layer_rules(published: str, ours: str, mixer: dict[str, str]) -> list[Rule]:
    names = {f"mixer.{old}": f"attention.{new}" for old, new in (mixer | {"out_proj": "output"}).items()}
    # Theirs: fc2(swish(fc1 x) * gate x).
    names |= {"ffn.fc1": "feedforward.gate", "ffn.gate": "feedforward.up", "ffn.fc2": "feedforward.down"}
    names |= {"mixer_layer_norm": "attention_norm", "final_layer_norm": "feedforward_norm"}
    return [Rule(f"{published}.{{i}}.{a}.weight", f"{ours}.{{i}}.{b}.weight") for a, b in names.items()]


RELEASED = RuleTable(
    [
        Rule("embed_tokens.weight", "embedding.weight"),
        Rule("output_projection.weight", "head.weight"),
        Rule("layer_norm.weight", "decoder.cross_decoder.norm.weight"),
        Rule("cross_decoder.k_proj.weight", "decoder.key.weight"),
        Rule("cross_decoder.v_proj.weight", "decoder.value.weight"),
        Rule("cross_decoder.kv_layer_norm.weight", "decoder.key_value_norm.weight"),
        *_layer_rules("self_decoder.layers", "decoder.self_decoder.layers", _RETENTION),
        *_layer_rules("cross_decoder.layers", "decoder.cross_decoder.layers", {"q_proj": "query"}),
    ]
)

_KEYS = {
    "dim": "hidden_size",
    "n_layers": "num_layers",
    "hidden_dim": "inner_size",
    "n_self_heads": "num_self_heads",
    "n_attn_heads": "num_heads",
    "n_attn_kv_heads": "num_kv_heads",
    "vocab_size": "vocab_size",
    "max_seq_len": "max_positions",
    "rope_theta": "rope_theta",
    "norm_eps": "norm_eps",
    "sliding_window": "window",
}
_OF_A_RUN = {"max_batch_size", "model_parallel_size", "load_checkpoint"}  # not of the model
REQUIRED = ("dim", "n_layers", "hidden_dim", "n_self_heads", "n_attn_heads", "n_attn_kv_heads", "vocab_size")


def load(
    folder: Path,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    max_positions: int | None = None,
) -> Yoco:
    """The model in a folder of the released layout, in evaluation mode. Raises CheckpointError.

    ``max_positions`` takes the place of the file's ``max_seq_len``, which is a number of the run that wrote it.
    """
    folder = Path(folder)
    tensors = checkpoint.read(folder / WEIGHTS_FILE)
    head = tensors.get("output_projection.weight")
    tied = head is None or _same(head, tensors.get("embed_tokens.weight"))
    own = _read_config(folder / CONFIG_FILE, tied, max_positions)
    check_layers(folder, own.num_layers, tensors)
    with checkpoint.on_meta():
        model = Yoco(own)
    rules = RELEASED
    if tied:
        rules = RuleTable(
            [rule for rule in RELEASED.rules if rule.ours != "head.weight"],
            dropped=("output_projection.weight",),
        )
    checkpoint.load(model, folder / WEIGHTS_FILE, rules=rules, dtype=dtype, device=device)
    return model.to(device).eval()


def save(model: Yoco, folder: Path, *, dtype: torch.dtype | None = None) -> None:
    """Write the released layout. Raises OutputError."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {
        RELEASED.to_published(name): tensor.detach().to(dtype=dtype).cpu().contiguous()
        for name, tensor in model.state_dict().items()
    }
    state.setdefault("output_projection.weight", state["embed_tokens.weight"])
    with files.atomic_write(folder / WEIGHTS_FILE) as file:
        torch.save(state, file)
    values = config.to_dict(model.config)
    content = {key: values[name] for key, name in _KEYS.items()} | {
        "max_batch_size": 0,
        "model_parallel_size": 1,
        "load_checkpoint": False,
    }
    files.write_text(folder / CONFIG_FILE, json.dumps(content, indent=2) + "\n")


def _same(one: torch.Tensor, other: torch.Tensor | None) -> bool:
    return other is not None and one.shape == other.shape and one.data_ptr() == other.data_ptr()


def _read_config(where: Path, tied: bool, max_positions: int | None) -> YocoConfig:
    published = config.read_json(where)
    unknown = sorted(published.keys() - _KEYS.keys() - _OF_A_RUN)
    missing = [key for key in REQUIRED if key not in published]
    if unknown or missing:
        raise CheckpointError(f"{where} does not fit YOCO", missing=missing, unexpected=unknown)
    own = {name: published[key] for key, name in _KEYS.items() if published.get(key) is not None}
    if own.get("window") in (False, 0):
        del own["window"]
    if max_positions is not None:
        own["max_positions"] = max_positions
    elif own.get("max_positions", -1) == -1:
        own.pop("max_positions", None)
    try:
        return config.from_dict(YocoConfig, own | {"tied_embeddings": tied}, where=str(where))
    except InputError as error:
        raise CheckpointError(f"{where}: {error}") from error
