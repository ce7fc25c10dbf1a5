"""What the tests of several kernels share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from multiway_blocks.kernels import native


@pytest.fixture(params=[("-mavx2", "-mfma", "-fopenmp"), ("-fopenmp-simd",)], ids=["flags0", "flags1"])
def built_for_lesser_machine(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[ModuleType], None]]:
    """Builds a kernel's ``cpu`` module anew as on a machine without this one's instructions, until the test ends."""
    flags = request.param
    if native._find_compiler() is None:
        pytest.skip("no C++ compiler")
    if "-mavx2" in flags and "avx2" not in native._processor():
        pytest.skip("no AVX2 here")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(native, "_FLAG_SETS", (("-no-such-flag",), flags))
    built: list[ModuleType] = []

    def build(cpu: ModuleType) -> None:
        built.append(cpu)
        cpu._functions.cache_clear()
        assert cpu._functions()

    yield build
    for cpu in built:
        cpu._functions.cache_clear()
