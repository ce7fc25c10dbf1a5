"""Checkpoints of a run: whole or absent, the newest few kept, and readable by any number of processes.

    <output_dir>/checkpoints/step-000001200/
        state.json                  step, config, counters
        model/*.safetensors         parameters and persistent buffers
        ema/*.safetensors           the fp32 average of the parameters, when there is one
        optimizer/*.safetensors     "<slot>.<parameter name>"

One process (and "ddp") writes `<group>/model.safetensors`, so `multiway_core.checkpoint.load` reads
`step-.../ema` as it is. "fsdp" writes one file per process through `torch.distributed.checkpoint`, whose
safetensors storage reads both, whatever the number of processes. Nothing is pickled.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from multiway_core.errors import CheckpointError, OutputError
from multiway_core.files import replace_folder, write_text
from multiway_core.training.distributed import World

Groups = Mapping[str, Mapping[str, Tensor]]
FORMAT = "multiway.training/1"


def model_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Live parameters (a tied one once) and persistent buffers by name."""
    persistent = model.state_dict(keep_vars=True).keys()
    buffers = {name: buffer for name, buffer in model.named_buffers() if name in persistent}
    return {**dict(model.named_parameters()), **buffers}


def checkpoints_in(output_dir: Path) -> list[Path]:
    """The complete checkpoints of a run, oldest first."""
    folders = Path(output_dir, "checkpoints").glob("step-*")
    return sorted(folder for folder in folders if (folder / "state.json").is_file())


def write(
    output_dir: Path, step: int, groups: Groups, state: dict[str, Any], world: World, keep: int
) -> Path:
    """Write the checkpoint of `step`, then remove all but the newest `keep`. Every process calls it.

    Raises OutputError (in every process) when it cannot be written; the checkpoints before it stay.
    """
    folder = Path(output_dir, "checkpoints", f"step-{step:09d}")
    state = {"format": FORMAT, "step": step, **state}
    problem = None
    try:
        if world.parallel == "fsdp":
            _write_spread(folder, groups, state, world)
        elif world.is_main:
            _write_whole(folder, groups, state)
        if world.is_main:
            for old in checkpoints_in(output_dir)[:-keep]:
                shutil.rmtree(_hidden(old), ignore_errors=True)
    except OutputError as error:
        problem = str(error)
    for found in world.gather(problem):
        if found is not None:
            raise OutputError(found)
    return folder


def _write_whole(folder: Path, groups: Groups, state: dict[str, Any]) -> None:
    with replace_folder(folder, overwrite=True) as temporary:
        for group, tensors in groups.items():
            contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
            try:
                (temporary / group).mkdir()
                safetensors.torch.save_file(contiguous, temporary / group / "model.safetensors")
            except (OSError, SafetensorError) as error:
                raise OutputError(f"cannot write the checkpoint {folder}: {error}") from error
        write_text(temporary / "state.json", json.dumps(state, indent=2))


def _write_spread(folder: Path, groups: Groups, state: dict[str, Any], world: World) -> None:
    from multiway_core.training import sharded_checkpoints

    with ExitStack() as stack:
        # The main process owns the folder; the others must learn its name, or why there is none.
        temporary: Path | None = None
        problem: str | None = None
        if world.is_main:
            try:
                temporary = stack.enter_context(replace_folder(folder, overwrite=True))
            except OutputError as error:
                problem = str(error)
        temporary, problem = world.from_main((temporary, problem))
        if problem is not None or temporary is None:
            raise OutputError(problem or f"cannot write the checkpoint {folder}")
        try:
            for group, tensors in groups.items():
                sharded_checkpoints.write(temporary / group, tensors)
        except OSError as error:
            raise OutputError(f"cannot write the checkpoint {folder}: {error}") from error
        if world.is_main:
            write_text(temporary / "state.json", json.dumps(state, indent=2))


def remove_unfinished(output_dir: Path) -> None:
    """Remove what a killed run left half written or half removed. No other run may be writing."""
    for leftover in Path(output_dir, "checkpoints").glob(".*.tmp"):
        shutil.rmtree(leftover, ignore_errors=True)


def _hidden(folder: Path) -> Path:
    # Renamed first, so that a kill while the files go never leaves half a checkpoint under a real name.
    return folder.rename(folder.with_name(f".{folder.name}.tmp"))


def read_state(folder: Path) -> dict[str, Any]:
    """The checkpoint's `state.json`. Raises CheckpointError."""
    path = folder / "state.json"
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
        if state["format"] != FORMAT:
            raise CheckpointError(f"{path} has the format {state['format']!r}; this version reads {FORMAT!r}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"cannot read {path}: {error!r}; remove its folder to go on without it"
        ) from error
    return state


def require_same_run(folder: Path, theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
    """Raises CheckpointError where the checkpoint's run and the one that would continue it differ, naming all."""
    different = [
        f"{name} {theirs.get(name)!r} (now {ours.get(name)!r})"
        for name in sorted(theirs.keys() | ours.keys())
        if theirs.get(name) != ours.get(name)
    ]
    if different:
        raise CheckpointError(
            f"{folder} is of a run with another config: {', '.join(different)}; "
            "continue it with its own config, or train into another folder"
        )


def read_into(folder: Path, groups: Groups, *, spread: bool = False) -> None:
    """Copy a checkpoint's tensors into `groups` in place.

    With `spread` ("fsdp") every process calls it. Raises CheckpointError: a file is damaged, or tensors are
    missing, unexpected or mis-shaped (all listed).
    """
    for group, tensors in groups.items():
        _check_names(folder / group, tensors)
    for group, tensors in groups.items():
        path = folder / group / "model.safetensors"
        try:
            if path.is_file() and not spread:
                with safe_open(path, framework="pt") as file, torch.no_grad():
                    for name, tensor in tensors.items():
                        tensor.copy_(file.get_tensor(name))
            else:
                from multiway_core.training import sharded_checkpoints

                sharded_checkpoints.read_into(folder / group, tensors, spread=spread)
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"cannot read the checkpoint {folder / group}: {error}") from error


def _check_names(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    if not folder.is_dir():
        raise CheckpointError(f"the checkpoint {folder.parent} has no {folder.name!r} weights")
    try:
        shapes = _shapes_in(folder)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"cannot read the checkpoint {folder}: {error}") from error
    missing = sorted(tensors.keys() - shapes.keys())
    unexpected = sorted(shapes.keys() - tensors.keys())
    misshaped = [
        f"{name}: {list(shapes[name])} in the file, {list(tensor.shape)} in the model"
        for name, tensor in tensors.items()
        if name in shapes and shapes[name] != tuple(tensor.shape)
    ]
    if missing or unexpected or misshaped:
        raise CheckpointError(
            f"the checkpoint {folder} does not fit the model",
            missing=missing,
            unexpected=unexpected,
            misshaped=misshaped,
        )


def _shapes_in(folder: Path) -> dict[str, tuple[int, ...]]:
    path = folder / "model.safetensors"
    if path.is_file():
        with safe_open(path, framework="pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    from multiway_core.training import sharded_checkpoints

    return sharded_checkpoints.shapes_in(folder)


def load_weights_into(model: nn.Module, output_dir: Path, *, group: str = "model") -> int:
    """Copy the weights of a run's newest checkpoint into `model` (one process, any device); returns its step.

    group: "model" for the last weights, "ema" for their average (buffers come from "model").
    Works on the checkpoints of every `parallel`. Raises CheckpointError.
    """
    found = checkpoints_in(output_dir)
    if not found:
        raise CheckpointError(f"{output_dir} holds no training checkpoint")
    model = getattr(model, "_orig_mod", model)
    read_into(found[-1], {"model": model_tensors(model)})
    if group != "model":
        read_into(found[-1], {group: dict(model.named_parameters())})
    return int(read_state(found[-1])["step"])


def load_ema_into(model: nn.Module, output_dir: Path) -> int:
    """`load_weights_into` with the averaged weights: what to export and evaluate."""
    return load_weights_into(model, output_dir, group="ema")
