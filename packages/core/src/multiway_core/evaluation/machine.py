"""What a measurement ran on: CPU, cores, memory, accelerator, versions, peak memory."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from pathlib import Path
from typing import Any

_LIBRARIES = ("torch", "numpy", "transformers", "safetensors", "gradio")


def peak_rss_bytes() -> int | None:
    """Largest resident set size of this process so far in bytes; None where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # bytes on macOS, KiB elsewhere


def available_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def describe_machine() -> dict[str, Any]:
    """CPU model and instruction set, cores, memory in bytes, system and, when torch is loaded, GPU names."""
    machine: dict[str, Any] = {
        "cpu": _cpu_model(),
        "instruction_set": instruction_set(),
        "cores": available_cores(),
        "memory_bytes": _memory_bytes(),
        "system": f"{platform.system()} {platform.machine()}",
    }
    torch = sys.modules.get("torch")  # a report about code that never used torch need not load it
    if torch is not None:
        machine["threads"] = torch.get_num_threads()
        if torch.cuda.is_available():
            machine["gpus"] = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return machine


def installed_versions() -> dict[str, str]:
    """Versions of Python, of the installed Multiway members and of the libraries that decide numbers."""
    versions = {"python": platform.python_version()}
    for distribution in importlib.metadata.distributions():
        name = (distribution.metadata["Name"] or "").lower()
        if name in _LIBRARIES or name == "multiway" or name.startswith("multiway-"):
            versions[name] = distribution.version
    return dict(sorted(versions.items()))


def instruction_set() -> str:
    """The widest vector instructions that matter for speed here: "AMX", "AVX-512", "AVX2", or the architecture.

    Orders of contenders change between them, so a measurement names it. What the machine has: variables such as
    ``ONEDNN_MAX_CPU_ISA`` may keep a library from using it.
    """
    flags = set(_cpu_info("flags").split())
    for flag, name in (("amx_tile", "AMX"), ("avx512f", "AVX-512"), ("avx2", "AVX2")):
        if flag in flags:
            return name
    return platform.machine() or "unknown"


def _cpu_model() -> str:
    return _cpu_info("model name") or platform.processor() or platform.machine() or "unknown"


def _cpu_info(field: str) -> str:
    """The first value of a field of /proc/cpuinfo; empty where there is none."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip().lower() == field:
                return value.strip()
    except OSError:
        pass
    return ""


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
