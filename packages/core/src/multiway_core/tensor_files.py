"""Files of tensors, by name, memory-mapped: safetensors, single or sharded, and legacy PyTorch files.

A legacy file is read through `torch.load(weights_only=True)`, which builds tensors and plain containers and
refuses all else. Bytes come into memory when a tensor is used, so a file must be replaced, not edited in
place, while something uses it (`checkpoint.save` replaces).
"""

from __future__ import annotations

import argparse
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors
import torch
from torch import Tensor

from multiway_core.config import read_json
from multiway_core.errors import CheckpointError, ConfigError

LEGACY_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt")
# Where a legacy training checkpoint keeps its weights, in order of preference.
LEGACY_KEYS = ("model", "state_dict", "module")
FOLDER_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)


def read(path: Path, key: str | None = None) -> Mapping[str, Tensor]:
    """The tensors of a checkpoint by their names in the file, memory-mapped and in the file's dtypes.

    path: a `.safetensors` file, a `.index.json` of shards, a legacy `.pt`/`.pth`/`.bin`/`.ckpt`, or a folder
    that holds one of these (the first of `FOLDER_FILES`, or else its only checkpoint file).
    key: dotted path of the dictionary inside a legacy file that holds the weights (`"model"` for fairseq).
    Without it, a file whose top level is not all tensors is searched under `LEGACY_KEYS`.

    Raises CheckpointError: absent, corrupted, or unsafe (a pickle with other objects than tensors).
    """
    try:
        path = find(Path(path))
    except OSError as error:  # no permission, a name too long
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    if path.name.endswith(".index.json"):
        return _read_shards(path, key)
    if path.suffix == ".safetensors":
        return SafetensorsFiles({path: None})
    if path.suffix in LEGACY_SUFFIXES:
        return _read_legacy(path, key)
    kinds = ", ".join((".safetensors", ".index.json", *LEGACY_SUFFIXES))
    raise CheckpointError(f"{path}: not a checkpoint by its name; known are {kinds}")


def find(path: Path) -> Path:
    """The checkpoint file that `path` (a file or a folder) means. Raises CheckpointError if there is none."""
    if path.is_file():
        return path
    if not path.is_dir():
        problem = "not a regular file" if path.exists() else "no such file or folder"
        raise CheckpointError(f"{path}: {problem}")
    for name in FOLDER_FILES:
        if (path / name).is_file():
            return path / name
    suffixes = (".safetensors", ".index.json", *LEGACY_SUFFIXES)
    files = sorted(file for file in path.iterdir() if file.name.endswith(suffixes) and file.is_file())
    if len(files) != 1:
        found = f"several ({', '.join(file.name for file in files[:4])}): name one" if files else "none"
        raise CheckpointError(f"{path}: expected a checkpoint such as {FOLDER_FILES[0]} here, found {found}")
    return files[0]


class SafetensorsFiles(Mapping[str, Tensor]):
    """Tensors of one or more files, mapped when first asked for. None = all names that a file has."""

    def __init__(self, files: Mapping[Path, Sequence[str] | None]) -> None:
        self._open: dict[Path, Any] = {}
        self._file_of: dict[str, Path] = {}
        absent: list[str] = []
        for path, names in files.items():
            present = dict.fromkeys(self._handle(path).keys())
            for name in present if names is None else names:
                if name in present:
                    self._file_of[name] = path
                else:
                    absent.append(f"{name} in {path.name}")
        if absent:
            raise CheckpointError(
                f"{path.parent}: the index names tensors that its shards lack", missing=absent
            )

    def __getitem__(self, name: str) -> Tensor:
        path = self._file_of[name]
        try:
            return self._handle(path).get_tensor(name)
        except (safetensors.SafetensorError, RuntimeError, AttributeError) as error:
            raise CheckpointError(f"{path}: {name} cannot be read: {error}") from error

    def __iter__(self) -> Iterator[str]:
        return iter(self._file_of)

    def __len__(self) -> int:
        return len(self._file_of)

    def __contains__(self, name: object) -> bool:
        return name in self._file_of

    def close(self) -> None:
        """Unmap the files, as far as no tensor needs them; they open again when asked."""
        self._open.clear()

    def _handle(self, path: Path) -> Any:
        if path not in self._open:
            try:
                self._open[path] = safetensors.safe_open(path, framework="pt")
            except (safetensors.SafetensorError, OSError, ValueError, RuntimeError) as error:
                raise CheckpointError(f"{path}: not a safetensors file, or a damaged one: {error}") from error
        return self._open[path]


def _read_shards(index: Path, key: str | None) -> Mapping[str, Tensor]:
    try:
        weight_map = read_json(index).get("weight_map")
    except ConfigError as error:
        raise CheckpointError(str(error)) from error
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index}: expected tensor names under weight_map")
    files: dict[Path, list[str]] = {}
    for tensor, name in weight_map.items():
        files.setdefault(_shard_path(index, name), []).append(tensor)
    if all(file.suffix == ".safetensors" for file in files):
        return SafetensorsFiles(files)
    tensors: dict[str, Tensor] = {}
    for file, names in files.items():
        shard = _read_legacy(file, key)
        absent = [f"{name} in {file.name}" for name in names if name not in shard]
        if absent:
            raise CheckpointError(f"{index.parent}: the index names what its shards lack", missing=absent)
        tensors.update({name: shard[name] for name in names})
    return tensors


def _shard_path(index: Path, name: Any) -> Path:
    if not isinstance(name, str) or Path(name).name != name or "\\" in name or name in ("", ".", ".."):
        raise CheckpointError(f"{index}: the shard {name!r} is not a plain file name; refused")
    if not name.endswith((".safetensors", *LEGACY_SUFFIXES)):
        raise CheckpointError(f"{index}: the shard {name!r} is not a checkpoint by its name")
    path = index.parent / name
    if not path.is_file():
        raise CheckpointError(f"{index}: the shard {name} is missing")
    # The hub's cache is made of links from snapshots/REVISION/ to blobs/; any other way out is refused.
    homes = {index.parent.resolve()}
    if index.parent.absolute().parent.name == "snapshots":
        homes.add((index.parent.absolute().parent.parent / "blobs").resolve())
    if path.resolve().parent not in homes:
        raise CheckpointError(f"{index}: the shard {name} is a link out of its folder; refused")
    return path


def read_pickled(path: Path) -> Mapping[str, Any]:
    """The content of a PyTorch file: tensors and plain containers, and nothing else is built.

    Raises CheckpointError; "the pickle asks for NAME" where the file wants another object.
    """
    content = _unpickled(path)
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path}: expected a dictionary; {_keys(content)}")
    return content


def _unpickled(path: Path) -> Any:
    try:
        is_zip = zipfile.is_zipfile(path)
        if is_zip:
            with zipfile.ZipFile(path) as archive:
                packed = [entry for entry in archive.infolist() if entry.compress_type != zipfile.ZIP_STORED]
            if packed:  # PyTorch never compresses, and a small file could unpack to any size
                raise CheckpointError(f"{path}: refused: {packed[0].filename} in it is compressed")
        # A fairseq file keeps its options in a Namespace: a class without behaviour, safe to build.
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols; the outcome says what matters
            return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except CheckpointError:
        raise
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error}") from error
    except Exception as error:  # whatever a damaged or hostile file makes of the reader
        foreign = re.search(r"GLOBAL (\S+)", str(error))
        if foreign:
            raise CheckpointError(
                f"{path}: refused: the pickle asks for {foreign[1]}, and only tensors are read; "
                "ask its author for safetensors"
            ) from error
        raise CheckpointError(f"{path}: not a PyTorch checkpoint, or a damaged one") from error


def _read_legacy(path: Path, key: str | None) -> Mapping[str, Tensor]:
    content = _unpickled(path)
    if key is not None:
        for part in key.split("."):
            if not isinstance(content, Mapping) or part not in content:
                raise CheckpointError(f"{path}: nothing under the key {key}; {_keys(content)}")
            content = content[part]
    elif not _is_state_dict(content) and isinstance(content, Mapping):
        content = next((content[k] for k in LEGACY_KEYS if _is_state_dict(content.get(k))), content)
    if not _is_state_dict(content):
        raise CheckpointError(f"{path}: expected a dictionary of tensors; {_keys(content)}")
    return content


def _is_state_dict(content: Any) -> bool:
    return isinstance(content, Mapping) and all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in content.items()
    )


def _keys(content: Any) -> str:
    if not isinstance(content, Mapping):
        return f"found {type(content).__name__}"
    rest = ", ..." if len(content) > 8 else ""
    return f"found the keys {', '.join(map(str, list(content)[:8]))}{rest}"
