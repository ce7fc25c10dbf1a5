"""What the tests of several kernels share."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from multiway_blocks.kernels import native

_TYPES = {"i8", "u8", "i32", "i64", "bf16", "fp16", "fp32"}

if os.environ.get("TRITON_INTERPRET") == "1":
    # Triton 3.6's interpreter turns its arrays of one number to an index by `int(array)`, which numpy 2.4 refuses: a
    # `for` over bounds known only at run time, the form whose loads are pipelined, would not run.
    from triton.runtime import interpreter

    _patch_tensor = interpreter._patch_lang_tensor

    def _patch_tensor_with_index(tensor: Any, scope: Any) -> None:
        _patch_tensor(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))

    interpreter._patch_lang_tensor = _patch_tensor_with_index


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


@pytest.fixture(scope="module")
def torchscale() -> Iterator[SimpleNamespace]:
    """The classes of PyPI's torchscale 0.3.0.

    It imports fairscale's sharding and timm's stochastic depth, which are stood in for: the tests use neither. Its
    mixtures of experts ask for a process group, even of one, and for a histogram of int64 that a CPU does not have.
    """
    pytest.importorskip("torchscale")
    sharding = ModuleType("fairscale.nn")
    sharding.checkpoint_wrapper = sharding.wrap = lambda module, *_, **__: module  # type: ignore[attr-defined]
    depth = ModuleType("timm.models.layers")
    depth.drop_path = None  # type: ignore[attr-defined]
    stand_ins = {"fairscale": ModuleType("fairscale"), "fairscale.nn": sharding}
    stand_ins |= {"timm": ModuleType("timm"), "timm.models": ModuleType("timm.models")}
    histc = torch.histc
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, module in {**stand_ins, "timm.models.layers": depth}.items():
            patch.setitem(sys.modules, name, module)
        patch.setattr(torch, "histc", lambda x, **options: histc(x.float(), **options))
        from torchscale.architecture import config
        from torchscale.architecture.decoder import Decoder
        from torchscale.architecture.encoder import Encoder
        from torchscale.architecture.encoder_decoder import EncoderDecoder
        from torchscale.architecture.retnet import RetNetDecoder
        from torchscale.component import embedding
        from torchscale.component.xpos_relative_position import XPOS
        from torchscale.model.BEiT3 import BEiT3

        yield SimpleNamespace(
            **{name: getattr(config, name) for name in dir(config) if name.endswith("Config")},
            **{name: getattr(embedding, name) for name in ("TextEmbedding", "PositionalEmbedding")},
            Decoder=Decoder,
            Encoder=Encoder,
            EncoderDecoder=EncoderDecoder,
            RetNetDecoder=RetNetDecoder,
            BEiT3=BEiT3,
            XPOS=XPOS,
        )
    for name in [name for name in sys.modules if name.split(".")[0] == "torchscale"]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def process_group() -> Iterator[None]:
    """A gloo group of this process alone."""
    distributed = torch.distributed
    if not distributed.is_available() or distributed.is_initialized():
        pytest.skip("no process group to be had")
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.fixture
def run_interpreted(request: pytest.FixtureRequest) -> Callable[[int], None]:
    """Runs this file's tests named ``interpreted`` under Triton's interpreter, whose switch is read at import."""
    pytest.importorskip("triton")

    def run(count: int) -> None:
        command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", str(request.path)]
        result = subprocess.run(
            [*command, "-k", "interpreted"],
            env=os.environ | {"TRITON_INTERPRET": "1"},
            capture_output=True,
            text=True,
            timeout=250,
        )
        assert result.returncode == 0, result.stdout + result.stderr
        assert f"{count} passed" in result.stdout

    return run


@pytest.fixture
def compile_ahead(tmp_path: Path) -> Callable[..., str]:
    """Compiles a Triton kernel for a GPU that need not be there, and checks that no register is spilled."""
    triton = pytest.importorskip("triton")
    if os.environ.get("TRITON_INTERPRET") == "1":
        pytest.skip("the interpreter replaces the compiler")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    def compile_(
        kernel: Any,
        capability: int,
        arguments: Mapping[str, Any],
        *,
        warps: int,
        shared: int,
        aligned: str = "",
        stages: int | None = None,
        pipelined: bool = True,
    ) -> str:
        """The PTX. ``arguments`` in order: names of types are types, all else constants; pointers and the ``aligned``
        numbers (separated by spaces) are multiples of 16, as the launcher finds out; ``shared``: bytes at most;
        ``pipelined``: whether it has a loop whose loads must be under way while the step before is computed.
        """
        kernel = kernel.fn if isinstance(kernel, triton.runtime.Autotuner) else kernel
        names = list(arguments)
        assert names == kernel.arg_names
        told = {n for n, v in arguments.items() if isinstance(v, str) and v.lstrip("*") in _TYPES}
        constants = {(names.index(n),): v for n, v in arguments.items() if n not in told}
        types = {n: v if n in told else "constexpr" for n, v in arguments.items()}
        places = [i for i, n in enumerate(names) if types[n].startswith("*") or n in aligned.split()]
        compiled = triton.compile(
            ASTSource(kernel, types, constants, {(i,): [["tt.divisibility", 16]] for i in places}),
            target=GPUTarget("cuda", capability, 32),
            options={"num_warps": warps} | ({} if stages is None else {"num_stages": stages}),
        )
        assert compiled.asm["cubin"]
        assert compiled.metadata.shared <= shared, compiled.metadata.shared
        ptx: str = compiled.asm["ptx"]
        source = tmp_path / "kernel.ptx"
        source.write_text(ptx)
        arch = f"sm_{capability}" + ("a" if capability == 90 else "")
        command = [triton.knobs.nvidia.ptxas.path, "-v", f"--gpu-name={arch}", str(source), "-o", os.devnull]
        report = subprocess.run(command, capture_output=True, text=True, check=True).stderr
        assert "0 bytes spill stores, 0 bytes spill loads" in report, report
        # Stages before the loop and one in it, 16 bytes at a time; none where Triton does not pipeline.
        loads = len(re.findall(r"cp\.async\.cg\.shared\.global", ptx))
        assert loads >= 2 and "cp.async.wait_group" in ptx if pipelined else loads == 0, loads
        return ptx

    return compile_
