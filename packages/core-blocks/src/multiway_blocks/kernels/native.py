"""Builds a kernel's C++ file with the user's own compiler, on first use, and loads it.

The files are plain C++ with C functions, without PyTorch's or Python's headers (those in this folder are all that
they include of ours): a build takes about two seconds, needs nothing but a compiler, and one library serves every
Python and PyTorch version. Pointers are passed through `ctypes`, which releases the interpreter lock during the call.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from multiway_core.files import private_cache_folder

Key = TypeVar("Key")

logger = logging.getLogger(__name__)

_BUILD_SECONDS = 120
_told: set[str] = set()  # reasons for missing kernels
_HEADERS = Path(__file__).parent
_COMMON_FLAGS = ("-std=c++17", "-O3", "-fPIC", "-shared", "-fvisibility=hidden")
# From fast to safe; the first set that the compiler accepts is used. The last one lacks threads, and for x86
# means SSE2, which every machine has.
_FLAG_SETS = (
    ("-march=native", "-fopenmp"),
    ("-mcpu=native", "-fopenmp-simd"),
    ("-fopenmp-simd",),
)


def load(source: Path) -> ctypes.CDLL | None:
    """Return the library built from `source`, or None where it cannot be built.

    The build is kept in the user's cache folder (`$XDG_CACHE_HOME/multiway/kernels`, else `~/.cache/...`),
    under a name that stands for the source and our headers, the compiler and the processor, so a home folder
    shared by unlike machines is safe. Processes that build at the same time each write a file of their own and
    rename it into place: there is no lock that a killed process could leave behind. Failing is not an error,
    because every kernel has a definition in plain PyTorch; but that can be many times slower, so the first failure of a
    process is told in one line (a WARNING, which Python writes to standard error), further ones at level DEBUG.
    """
    try:
        compiler = _find_compiler()
        if compiler is None:
            _tell("no C++ compiler found (install one, or name it in CXX)")
            return None
        folder = private_cache_folder("kernels")  # what lies there is executed
        library = folder / f"{source.parent.name}-{_key(source, compiler)}.so"
        if library.exists():
            try:
                return ctypes.CDLL(str(library))
            except OSError as error:  # damaged, by a power failure for example
                logger.debug("%s is built again: %s", library.name, error)
        _build(source, compiler, library)
        return ctypes.CDLL(str(library))
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        _tell(f"{source.parent.name}/{source.name} is not built: {reason[-1]}")
        return None


def _tell(reason: str) -> None:
    """Say once a process that kernels are missing, and what for."""
    level = logging.DEBUG if _told else logging.WARNING
    _told.add(reason)
    logger.log(level, "no machine code for CPUs, so what follows can be many times slower: %s", reason)


def functions(
    source: Path, arguments: Mapping[str, Sequence[Any]], endings: Mapping[Key, str]
) -> dict[tuple[str, Key], Callable[..., None]]:
    """The C functions `<name>_<ending>` of a source, by name and by what the ending stands for (a data type).

    arguments: the ctypes of each name's arguments; they return nothing. Empty where the source cannot be built.
    """
    library = load(source)
    found: dict[tuple[str, Key], Callable[..., None]] = {}
    if library is not None:
        for name, types in arguments.items():
            for key, ending in endings.items():
                function = getattr(library, f"{name}_{ending}")
                function.argtypes, function.restype = tuple(types), None
                found[name, key] = function
    return found


def address(function: Any) -> int:
    """Where a C function lies: for machine code that calls it."""
    return ctypes.cast(function, ctypes.c_void_p).value or 0


def _find_compiler() -> str | None:
    """The compiler of `$CXX` if that is set, else the first of the usual names on the search path."""
    names = (os.environ["CXX"],) if os.environ.get("CXX") else ("c++", "g++", "clang++")
    return next((path for name in names if (path := shutil.which(name))), None)


def _key(source: Path, compiler: str) -> str:
    """Digest of all that the machine code depends on."""
    code = b"".join(path.read_bytes() for path in (source, *sorted(_HEADERS.glob("*.h"))))
    status = Path(compiler).resolve().stat()
    build = (compiler, status.st_size, status.st_mtime_ns, _COMMON_FLAGS, _FLAG_SETS)
    return hashlib.sha256(code + repr((build, platform.machine(), _processor())).encode()).hexdigest()[:16]


def _processor() -> str:
    """Model and instruction sets of the processor, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").split("\n\n")[0].splitlines()
    except OSError:
        return platform.processor()
    names = ("model name", "model", "stepping", "flags", "Features", "CPU part")
    return "\n".join(line for line in lines if line.partition(":")[0].strip() in names)


def _build(source: Path, compiler: str, library: Path) -> None:
    handle, name = tempfile.mkstemp(prefix=library.stem, suffix=".tmp", dir=library.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        for flags in _FLAG_SETS:
            command = [
                compiler, *_COMMON_FLAGS, *flags, f"-I{_HEADERS}", str(source), "-o", str(temporary)
            ]  # fmt: skip
            result = subprocess.run(
                command, capture_output=True, timeout=_BUILD_SECONDS, stdin=subprocess.DEVNULL
            )
            if result.returncode == 0:
                temporary.replace(library)
                return
        raise RuntimeError(result.stderr.decode(errors="replace")[-2000:])
    finally:
        temporary.unlink(missing_ok=True)
