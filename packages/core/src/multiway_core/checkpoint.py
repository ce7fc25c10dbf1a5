"""Checkpoints: load one into a module, save one atomically; `read` gives the bare tensors.

Files are safetensors, single or sharded; legacy PyTorch files can be read (`tensor_files`). Names and shapes
of a whole checkpoint are checked before a module is touched.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from multiway_core.errors import CheckpointError, OutputError
from multiway_core.files import atomic_write, write_text
from multiway_core.tensor_files import SafetensorsFiles, read
from multiway_core.tensor_names import Rule, RuleTable, compile_pattern

__all__ = ["Rule", "RuleTable", "load", "on_meta", "read", "save"]

# What initialization does to values in place, functions of `nn.init` and the steps of `trunc_normal_` included.
_FILLS = {
    *("normal_", "uniform_", "erfinv_", "mul_", "add_", "clamp_", "fill_", "zero_"),
    *("xavier_normal_", "xavier_uniform_", "kaiming_normal_", "kaiming_uniform_"),
}


@contextmanager
def on_meta() -> Iterator[None]:
    """Modules built in this block have shapes and no values or memory, until `load` gives them some.

    As `torch.device("meta")`, and initialization is left out altogether: PyTorch would import its compiler
    for it (3 CPU-seconds) to fill in nothing.
    """
    with _NoFills(), torch.device("meta"):
        yield


class _NoFills(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") in _FILLS:
            tensor = args[0] if args else kwargs.get("tensor")
            if isinstance(tensor, Tensor) and tensor.is_meta:
                return tensor
        if func in (torch.rand, torch.randn) and torch.device(kwargs.get("device") or "cpu").type == "meta":
            func = torch.empty
        return func(*args, **kwargs)


def load(
    module: nn.Module,
    path: Path,
    *,
    rules: RuleTable | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
    optional: Sequence[str] = (),
    key: str | None = None,
    tensors: Mapping[str, Tensor] | None = None,
) -> None:
    """Give `module` (built `on_meta` or with memory) the tensors of the checkpoint at `path`.

    rules: from the file's names to the module's; without them the names are equal.
    dtype: of all floating-point tensors; None keeps the file's. On the CPU, tensors that need no conversion
    stay mapped: loading reads nothing before use.
    optional: patterns (`"ctc_head.{rest*}"`) of the module's names that either side may lack; a tensor that
    the file lacks keeps its value. Names of one tied parameter need be in the file once.
    key: see `read`.
    tensors: what to use as the file's content, where a layout needs more than other names; `path` names it in errors.

    Raises CheckpointError; one that lists all missing, unexpected and mis-shaped tensors if they do not fit.
    The module is unchanged then.
    """
    source = read(path, key) if tensors is None else tensors
    excused = [compile_pattern(pattern) for pattern in optional]
    targets = {name: t for name, t in module.state_dict(keep_vars=True).items() if isinstance(t, Tensor)}
    in_file: dict[str, str] = {}
    unexpected: list[str] = []
    for name in source:
        try:
            ours = rules.to_ours(name) if rules else name
        except CheckpointError:
            unexpected.append(name)
            continue
        if ours is None:
            continue
        if ours in in_file:
            raise CheckpointError(f"{path}: {in_file[ours]} and {name} both stand for {ours}")
        if ours in targets:
            in_file[ours] = name
        elif not _fits(excused, ours):
            unexpected.append(name)

    found = {id(targets[ours]) for ours in in_file}
    missing = [
        ours
        for ours, target in targets.items()
        if id(target) not in found and (target.is_meta or not _fits(excused, ours))
    ]
    misshaped = [
        problem
        for ours, name in in_file.items()
        if (problem := _mismatch(ours, source[name], targets[ours])) is not None
    ]
    if missing or unexpected or misshaped:
        raise CheckpointError(
            f"{path} does not fit {type(module).__name__}",
            missing=missing,
            unexpected=unexpected,
            misshaped=misshaped,
        )

    loaded: dict[int, Tensor] = {}
    for ours, name in in_file.items():
        mapped = source[name].detach()
        tensor = mapped.to(device=device, dtype=dtype if mapped.is_floating_point() else None)
        if tensor is not mapped and isinstance(source, SafetensorsFiles):
            source.close()  # the pages of what was copied need not stay in memory
        first = loaded.setdefault(id(targets[ours]), tensor)
        if first is not tensor and not torch.equal(first, tensor):
            raise CheckpointError(f"{path}: {name} differs from what {type(module).__name__} ties it to")
    _assign(module, loaded)


def save(
    source: nn.Module | Mapping[str, Tensor],
    folder: Path,
    *,
    rules: RuleTable | None = None,
    dtype: torch.dtype | None = None,
    max_shard_bytes: int = 5_000_000_000,
    filename: str = "model.safetensors",
) -> None:
    """Write the tensors of `source` to `folder/filename`, or as numbered shards and an index beside it.

    rules: from our names to the published ones. dtype: of all floating-point tensors; None keeps theirs.
    A tensor that goes by several names (tied) is written once, under the first name that `rules` know.
    All is written before anything is put in place, and an older checkpoint of the same name goes; a kill
    between two shards leaves no index, so never a mixture.

    Raises OutputError; CheckpointError for a tensor without rule or without values (meta device).
    """
    if not filename.endswith(".safetensors") or Path(filename).name != filename:
        raise ValueError(f"filename must be a plain NAME.safetensors, got {filename!r}")
    folder = Path(folder)
    tensors = _published(source.state_dict() if isinstance(source, nn.Module) else source, rules)
    shards = _shards(tensors, dtype, max_shard_bytes)
    stem = filename.removesuffix(".safetensors")
    names = [filename]
    if len(shards) > 1:
        names = [f"{stem}-{i:05}-of-{len(shards):05}.safetensors" for i in range(1, len(shards) + 1)]
    index = folder / f"{filename}.index.json"
    stale = {file for file in folder.glob(f"{stem}-?????-of-?????.safetensors") if file.name not in names}

    with ExitStack() as writes:
        for name, shard in zip(names, shards, strict=True):
            file = writes.enter_context(atomic_write(folder / name))
            values = {key: _convert(tensors[key], dtype) for key in shard}
            try:
                save_file(values, file.name, metadata={"format": "pt"})
            except safetensors.SafetensorError as error:
                raise OutputError(f"cannot write {folder / name}: {error}") from error
            # The library puts a private file of its own in the place of the open one.
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            with Path(file.name).open("rb") as written:
                os.fchmod(written.fileno(), mode)
                os.fsync(written.fileno())
        if len(shards) > 1:  # from here to the new index the folder holds no readable checkpoint
            index.unlink(missing_ok=True)
            (folder / filename).unlink(missing_ok=True)
    if len(shards) > 1:
        weight_map = {key: name for name, shard in zip(names, shards, strict=True) for key in shard}
        total = sum(_size(tensor, dtype) for tensor in tensors.values())
        content = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
        write_text(index, json.dumps(content, indent=2) + "\n")
    else:
        index.unlink(missing_ok=True)
    for file_path in stale:
        file_path.unlink(missing_ok=True)


def _fits(patterns: Sequence[re.Pattern[str]], name: str) -> bool:
    return any(pattern.fullmatch(name) for pattern in patterns)


def _mismatch(name: str, tensor: Tensor, target: Tensor) -> str | None:
    if tensor.shape != target.shape:
        return f"{name}: file has {list(tensor.shape)}, model needs {list(target.shape)}"
    if tensor.is_floating_point() != target.is_floating_point():
        return f"{name}: file has {tensor.dtype}, model needs {target.dtype}".replace("torch.", "")
    return None


def _assign(module: nn.Module, loaded: Mapping[int, Tensor]) -> None:
    """Give parameters and buffers, by id, these values; all names of a tied one get the same object."""
    left = [n for n, b in module.named_buffers() if b.is_meta and id(b) not in loaded]
    if left:  # non-persistent, so in no checkpoint: a constructor has to compute them on a real device
        raise RuntimeError(f"{type(module).__name__} keeps buffers on the meta device: {', '.join(left)}")
    replaced: dict[int, Tensor] = {}
    for part in module.modules():
        slots: Any
        for slots in (part._parameters, part._buffers):
            for name, old in slots.items():
                if old is None or id(old) not in loaded:
                    continue
                if id(old) not in replaced:
                    replaced[id(old)] = _replacement(old, loaded[id(old)])
                slots[name] = replaced[id(old)]


def _replacement(old: Tensor, value: Tensor) -> Tensor:
    if not old.is_meta:  # an optimizer may hold it: it stays the same object
        old.data = value
        return old
    if isinstance(old, nn.Parameter):
        return nn.Parameter(value, requires_grad=old.requires_grad)
    return value


def _published(tensors: Mapping[str, Tensor], rules: RuleTable | None) -> dict[str, Tensor]:
    """Detached tensors under their published names, each tied one once."""
    names: dict[Any, list[str]] = {}
    for name, tensor in tensors.items():
        if tensor.is_meta:
            raise CheckpointError(f"cannot save {name}: it has no values (meta device)")
        view = (tensor.untyped_storage().data_ptr(), tensor.storage_offset(), tensor.shape, tensor.stride())
        names.setdefault((*view, tensor.dtype, tensor.device) if tensor.numel() else name, []).append(name)
    found: dict[str, Tensor] = {}
    for group in names.values():
        published = group[0] if rules is None else _first_published(group, rules)
        if published in found:
            raise CheckpointError(f"cannot save {group[0]}: another tensor is published as {published}")
        found[published] = tensors[group[0]].detach()
    return found


def _first_published(group: Sequence[str], rules: RuleTable) -> str:
    for name in group[:-1]:
        try:
            return rules.to_published(name)
        except CheckpointError:
            continue
    return rules.to_published(group[-1])


def _shards(tensors: Mapping[str, Tensor], dtype: torch.dtype | None, max_bytes: int) -> list[list[str]]:
    shards: list[list[str]] = [[]]
    size = 0
    for name, tensor in tensors.items():
        if shards[-1] and size + _size(tensor, dtype) > max_bytes:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += _size(tensor, dtype)
    return shards


def _size(tensor: Tensor, dtype: torch.dtype | None) -> int:
    final = dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype
    return tensor.numel() * final.itemsize


def _convert(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    return tensor.to(dtype=dtype if tensor.is_floating_point() else None).contiguous()
