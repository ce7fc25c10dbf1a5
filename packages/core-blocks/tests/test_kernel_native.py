"""Building C++ on first use: by several at once, with a damaged or unsafe cache, without a compiler."""

from __future__ import annotations

import ctypes
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from multiway_blocks.kernels import native

CODE = 'extern "C" __attribute__((visibility("default"))) int answer() { return 42; }'
needs_compiler = pytest.mark.skipif(native._find_compiler() is None, reason="no C++ compiler")


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "operation" / "cpu.cpp"
    path.parent.mkdir()
    path.write_text(CODE)
    return path


def cached(source: Path) -> list[Path]:
    return sorted((source.parent.parent / "cache" / "multiway" / "kernels").iterdir())


@needs_compiler
def test_builds_once_and_again_when_the_source_changes(source: Path) -> None:
    for _ in range(2):
        library = native.load(source)
        assert isinstance(library, ctypes.CDLL)
        assert library.answer() == 42
        assert len(cached(source)) == 1
    source.write_text(CODE.replace("42", "43"))
    changed = native.load(source)
    assert changed is not None
    assert changed.answer() == 43
    assert len(cached(source)) == 2


@needs_compiler
def test_processes_that_build_at_once_all_get_a_library(source: Path) -> None:
    code = (
        "import sys, pathlib; from multiway_blocks.kernels import native;"
        "raise SystemExit(native.load(pathlib.Path(sys.argv[1])).answer())"
    )
    command = [sys.executable, "-c", code, str(source)]
    processes = [subprocess.Popen(command) for _ in range(4)]
    assert [process.wait(timeout=120) for process in processes] == [42] * 4
    assert len(cached(source)) == 1  # and no temporary file is left


@needs_compiler
def test_damaged_library_is_built_again(source: Path) -> None:
    compiler = native._find_compiler()
    assert compiler is not None
    library = native.private_cache_folder("kernels") / f"operation-{native._key(source, compiler)}.so"
    library.write_bytes(b"not a library")
    built = native.load(source)
    assert built is not None
    assert built.answer() == 42


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="POSIX permissions")
def test_nothing_is_loaded_from_a_folder_that_others_can_write(source: Path) -> None:
    native.private_cache_folder("kernels").chmod(0o777)
    assert native.load(source) is None
    assert cached(source) == []


@pytest.mark.parametrize(
    "change", [{"CXX": "/no/such/compiler"}, {"CXX": "false"}, {"XDG_CACHE_HOME": "/dev/null"}]
)
def test_what_cannot_be_built_is_none_and_told_once(
    source: Path,
    change: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One line a process: what runs in its place can be many times slower."""
    monkeypatch.setattr(native, "_told", set())
    for name, value in change.items():
        monkeypatch.setenv(name, value)
    assert native.load(source) is None
    assert native.load(source) is None
    (told,) = (record for record in caplog.records if record.levelno >= logging.WARNING)
    assert told.getMessage().startswith(
        "no machine code for CPUs, so what follows can be many times slower: "
    )
    assert "\n" not in told.getMessage()
    assert capfd.readouterr() == ("", "")


@needs_compiler
def test_source_with_an_error_is_none_and_leaves_no_file(source: Path) -> None:
    source.write_text("int answer( {")
    assert native.load(source) is None
    assert cached(source) == []
