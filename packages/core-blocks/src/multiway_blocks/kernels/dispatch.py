"""Which implementation a kernel's public function runs.

By default the device of the arguments decides. The environment variable `MULTIWAY_KERNELS=reference` makes
every public function run its definition in plain PyTorch instead: the way to find out whether a kernel is to
blame, and the only mode with second derivatives. It is read once, at import, so that `torch.compile` sees a
constant.
"""

from __future__ import annotations

import os
from typing import Final

from multiway_core.errors import ConfigError


def _mode() -> str:
    mode = os.environ.get("MULTIWAY_KERNELS") or "auto"
    if mode not in ("auto", "reference"):
        raise ConfigError(f"MULTIWAY_KERNELS={mode}: expected 'auto' (the default) or 'reference'")
    return mode


USE_REFERENCE: Final = _mode() == "reference"
