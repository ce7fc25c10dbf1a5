"""Every import of our own modules leads somewhere, also those inside functions, which run only when they are called."""

from __future__ import annotations

import ast
import importlib.util
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
FOLDERS = ("packages", "apps", "src", "benchmarks", "tests")


@cache
def exists(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of a parent
        return False


def test_imported_modules_exist():
    missing = []
    for path in [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            missing += [
                f"{path.relative_to(ROOT)}:{node.lineno} imports {name}"
                for name in names
                if name.split(".")[0].startswith(("multiway", "benchmarks")) and not exists(name)
            ]
    assert not missing, "\n".join(missing)
