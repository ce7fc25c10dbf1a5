"""Mistakes planted in the networks and losses, one at a time: do the system's own tests see each of them?

``python -m benchmarks.mutations`` takes every ``model.py`` and ``objective.py`` of the packages, changes one place of
one file (an operator, a constant, an argument left out, a call skipped), and runs the tests of that system until the
first failure. No file is written: the changed module is what the import system gives to the tests. A mistake that all
tests pass is a survivor: a test is missing, or the change means the same.

Every outcome is appended to ``--log`` at once and is not run again, so that a stopped study resumes. ``--again``
plants the survivors of a log anew, after tests were added; the later outcome counts. ``--report`` writes what the log
holds to ``docs/mutations.md``.
"""

from __future__ import annotations

import ast
import importlib.abc
import importlib.util
import json
import os
import random
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
NOT_NETWORKS = {"multiway_core"}  # core's `objective.py` is a protocol without arithmetic
EXTRA_TESTS = {  # beside `test_*<folder>*.py` of the same package
    "llama": ["quantized_llama"],
    "recurrent": ["baselines"],
    "ssla_det": ["ssla_engines", "ssla_training", "ssla_checkpoint", "ssla_head", "ssla_policies"],
    "speech_tokenizer": ["small_tokenizer", "planted_mistakes"],
    "vibevoice": ["vibevoice_parity", "vibevoice_pipeline", "vibevoice_small", "planted_mistakes"],
    "vibevoice_asr": ["small_asr", "planted_mistakes"],
    "vibevoice_realtime": ["realtime_pipeline", "planted_mistakes"],
    "latent_lm": ["configuration_reaches_networks"],
    "longnet": ["configuration_reaches_networks"],
    "magneto": ["configuration_reaches_networks"],
    "mh_moe": ["configuration_reaches_networks"],
    "retnet": ["configuration_reaches_networks"],
    "kosmos2": ["kosmos2_parity", "kosmos2_generation", "kosmos2_recipe"],
    "glocim": ["batches", "parity_glory", "checkpoint_glory", "recipe"],
}
ONLY_EXTRA = {"vibevoice", "kosmos2"}  # the pattern of these would take their neighbours' tests
OPPOSITE: dict[type, type] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult,
    ast.FloorDiv: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.And: ast.Or, ast.Or: ast.And,
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip


@dataclass(frozen=True)
class Mutation:
    """One mistake: where, which kind, in words, and the function that plants it in the tree it was found in."""

    line: int
    kind: str
    says: str
    plant: Callable[[], None]


def mutations(tree: ast.Module) -> list[Mutation]:
    """All mistakes that can be planted in the functions of ``tree``, in the order of the file."""
    found: list[Mutation] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            for statement in node.body:
                found += _in_node(statement, node, "body")
    unique = {(m.line, m.kind, m.says): m for m in found}  # a nested function is walked twice
    return sorted(unique.values(), key=lambda m: (m.line, m.kind, m.says))


def _in_node(node: ast.AST, parent: ast.AST, field: str) -> Iterator[Mutation]:
    if isinstance(node, ast.Raise | ast.Assert | ast.JoinedStr | ast.FunctionDef | ast.ClassDef):
        return
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return  # a docstring
    yield from _of_node(node, parent, field)
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "type_comment", "ctx", "returns"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _in_node(child, node, name)


def _of_node(node: ast.AST, parent: ast.AST, field: str) -> Iterator[Mutation]:
    line = getattr(node, "lineno", 0)

    def change(kind: str, says: str, plant: Callable[[], None]) -> Mutation:
        return Mutation(line, kind, says, plant)

    def replace(kind: str, new: ast.AST) -> Mutation:
        says = f"`{_short(node)}` becomes `{_short(new)}`"
        return change(kind, says, lambda: _substitute(parent, field, node, new))

    match node:
        case ast.BinOp(left, op, right) if type(op) in OPPOSITE:
            yield replace("operator", ast.BinOp(left, OPPOSITE[type(op)](), right))
        case ast.AugAssign(target, op, value) if type(op) in OPPOSITE:
            yield replace("operator", ast.AugAssign(target, OPPOSITE[type(op)](), value))
        case ast.Compare(left, [op], rest):
            yield replace("comparison", ast.Compare(left, [OPPOSITE[type(op)]()], rest))
        case ast.BoolOp(op, values):
            yield replace("condition", ast.BoolOp(OPPOSITE[type(op)](), values))
        case ast.UnaryOp(ast.USub() | ast.Not() | ast.Invert(), operand):
            yield replace("sign", operand)
        case ast.IfExp(_, body, orelse):
            yield replace("condition", body)
            yield replace("condition", orelse)
        case ast.If(test):
            yield change(
                "condition", f"`if {_short(test)}` is turned round",
                lambda: setattr(node, "test", ast.UnaryOp(ast.Not(), test)),
            )  # fmt: skip
        case ast.Constant(bool() as value):
            yield replace("constant", ast.Constant(not value))
        case ast.Constant(int() as value):
            yield replace("constant", ast.Constant(value + 1))
        case ast.Constant(float() as value):
            yield replace("constant", ast.Constant(value * 2 if value else 1.0))
        case ast.Expr(ast.Call()):
            yield change(
                "statement", f"`{_short(node)}` is left out",
                lambda: _substitute(parent, field, node, ast.Pass()),
            )  # fmt: skip
        case ast.Call(func, arguments, keywords):
            if _is_super(func):
                return
            for keyword in keywords:
                if keyword.arg:
                    says = f"`{keyword.arg}=` is left out of `{_short(node)}`"
                    yield change("argument", says, lambda keyword=keyword: keywords.remove(keyword))
            if len(arguments) >= 2 and not isinstance(arguments[1], ast.Constant | ast.Starred):
                yield replace(
                    "argument", ast.Call(func, [arguments[1], arguments[0], *arguments[2:]], keywords)
                )
            if arguments and isinstance(func, ast.Attribute) and _short(func).startswith(("self.", "F.")):
                yield replace("call", arguments[0])


def _is_super(func: ast.AST) -> bool:
    return _short(func).startswith("super()")


def _short(node: ast.AST) -> str:
    text = ast.unparse(node).split("\n")[0]
    return text if len(text) <= 70 else f"{text[:67]}..."


def _substitute(parent: ast.AST, field: str, old: ast.AST, new: ast.AST) -> None:
    value = getattr(parent, field)
    if isinstance(value, list):
        value[next(i for i, item in enumerate(value) if item is old)] = new
    else:
        setattr(parent, field, new)


def chosen(found: Sequence[Mutation], count: int, seed: int) -> list[int]:
    """Places of ``count`` mutations, drawn evenly over the kinds."""
    by_kind: dict[str, list[int]] = defaultdict(list)
    for place in random.Random(seed).sample(range(len(found)), len(found)):
        by_kind[found[place].kind].append(place)
    rounds = zip_longest(*(by_kind[kind] for kind in sorted(by_kind)))
    return sorted([place for row in rounds for place in row if place is not None][:count])


@dataclass(frozen=True)
class Target:
    """A file under test, the name it is imported by, and the tests of its system."""

    path: Path
    module: str
    tests: tuple[str, ...]


def targets(pattern: str = "") -> list[Target]:
    """Every ``model.py`` and ``objective.py`` of the packages whose path contains ``pattern``."""
    found = []
    for path in sorted(ROOT.glob("packages/*/src/**/*.py")):
        parts = path.relative_to(ROOT).parts
        module = ".".join(parts[3:])[:-3]
        if path.name not in ("model.py", "objective.py") or module.split(".")[0] in NOT_NETWORKS:
            continue
        if pattern not in str(path.relative_to(ROOT)):
            continue
        folder = path.parent.name
        tests = ROOT / "packages" / parts[1] / "tests"
        names = [] if folder in ONLY_EXTRA else [p.stem[5:] for p in tests.glob(f"test_*{folder}*.py")]
        names += EXTRA_TESTS.get(folder, [])
        files = sorted({str((tests / f"test_{n}.py").relative_to(ROOT)) for n in names})
        found.append(Target(path, module, tuple(f for f in files if (ROOT / f).exists())))
    return found


class Planted(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """Gives the changed module to whoever imports it."""

    def __init__(self, target: Target, tree: ast.Module) -> None:
        self.target = target
        self.code = compile(ast.fix_missing_locations(tree), str(target.path), "exec")

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name != self.target.module:
            return None
        return importlib.util.spec_from_file_location(name, self.target.path, loader=self)

    def get_code(self, name: str) -> Any:
        return self.code

    def get_source(self, name: str) -> str:
        return self.target.path.read_text()

    def get_filename(self, name: str) -> str:
        return str(self.target.path)


def outcome(target: Target, place: int | None, limit: float) -> tuple[str, float]:
    """``killed``, ``survived`` or ``timeout`` of the mutation at ``place`` (None: nothing is changed), and seconds."""
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        os.setsid()
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1), os.dup2(null, 2)
        code = 99
        try:
            if place is not None:
                tree = ast.parse(target.path.read_text())
                mutations(tree)[place].plant()
                sys.meta_path.insert(0, Planted(target, tree))
            import pytest

            options = [
                "-x",
                "-q",
                "-p",
                "no:cacheprovider",
                "--numprocesses=0",  # another process would import the module as it is
                f"--timeout={limit:.0f}",
                "--timeout-method=signal",
            ]
            code = int(pytest.main([*options, *target.tests]))
        finally:
            os._exit(code)
    while time.monotonic() - started < limit:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            return ("survived" if code == 0 else "killed"), time.monotonic() - started
        time.sleep(0.05)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "timeout", time.monotonic() - started


def preload() -> None:
    """What every test file would import for itself, imported once; never a module of the house."""
    import hypothesis
    import numpy
    import pytest
    import safetensors.torch
    import torch
    import transformers
    from transformers import PreTrainedModel

    torch.set_num_threads(1)
    del hypothesis, numpy, pytest, safetensors, transformers, PreTrainedModel


def unknown_places(
    file: str, planted: Sequence[Mutation], rows: Sequence[dict[str, Any]], count: int, seed: int
) -> dict[int, int]:
    """{place: line} of ``count`` mutations, without those that the log's ``rows`` hold."""
    known = {(r["file"], r["says"], r["line"]) for r in rows}
    places = {place: planted[place].line for place in chosen(planted, count, seed)}
    return {place: line for place, line in places.items() if (file, planted[place].says, line) not in known}


def surviving_places(
    file: str, planted: Sequence[Mutation], rows: Sequence[dict[str, Any]]
) -> dict[int, int]:
    """{place: line in the log} of the survivors of the log's ``rows``: the nearest line of the same words."""
    found = {}
    for row in rows:
        same = [place for place, mutation in enumerate(planted) if mutation.says == row["says"]]
        if row["file"] == file and row["outcome"] == "survived" and same:
            found[min(same, key=lambda place: abs(planted[place].line - row["line"]))] = row["line"]
    return found


def study(found: Sequence[Target], count: int, seed: int, log: Path, again: bool) -> None:
    """Runs what ``log`` does not hold yet (``again``: its survivors), and appends each outcome."""
    rows = read_log(log)
    preload()
    for target in found:
        file = str(target.path.relative_to(ROOT))
        planted = mutations(ast.parse(target.path.read_text()))
        if again:
            places = surviving_places(file, planted, rows)
        else:
            places = unknown_places(file, planted, rows, count, seed)
        if not places:
            continue
        result, seconds = outcome(target, None, 600) if target.tests else ("without tests", 0.0)
        print(f"{file}: {len(planted)} places, tests {result} in {seconds:.0f} s", flush=True)
        if result != "survived":
            continue
        for place, line in places.items():
            mutation = planted[place]
            result, took = outcome(target, place, 60 + 4 * seconds)
            record = {
                "file": file, "line": line, "kind": mutation.kind, "says": mutation.says,
                "outcome": result, "seconds": round(took, 1),
            }  # fmt: skip
            with log.open("a") as out:
                out.write(json.dumps(record) + "\n")
            print(f"  {result:8} {took:5.0f} s  line {mutation.line}: {mutation.says}", flush=True)


def read_log(log: Path) -> list[dict[str, Any]]:
    """The outcomes of earlier runs; of a mistake that was planted again the last."""
    lines = log.read_text().splitlines() if log.exists() else []
    rows = {(row["file"], row["says"], row["line"]): row for row in map(json.loads, lines)}
    return list(rows.values())


def report(log: Path, page: Path) -> None:
    """Write counts for every file, and the survivors."""
    from benchmarks import harness

    rows = read_log(log)
    files: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        files[row["file"]].append(row)
    killed = sum(row["outcome"] != "survived" for row in rows)
    counts = [
        [f"`{file.split('/src/')[1]}`", len(own), sum(row["outcome"] != "survived" for row in own)]
        for file, own in sorted(files.items())
    ]
    survivors = [
        [f"`{row['file'].split('/src/')[1]}`", row["line"], row["says"].replace("|", "\\|")]
        for row in sorted(rows, key=lambda row: (row["file"], row["line"]))
        if row["outcome"] == "survived"
    ]
    text = (
        f"# Planted mistakes\n\n`python -m benchmarks.mutations` planted {len(rows)} mistakes, one at a time; the "
        f"tests of the system saw {killed}. Lines are those of the revision that was studied.\n\n"
        + harness.table(["file", "planted", "seen"], counts)
        + "\n\n## Survivors\n\nThose that are left mean the same: a mean square with its sides exchanged, the last of"
        " two dimensions counted from the front, another filter of the same size, a random number that is never"
        " exactly the limit, a device that is the default, an empty piece that is passed on, two conditions that are"
        " always met together.\n\n" + harness.table(["file", "line", "mistake"], survivors, numbers_from=9)
    )
    page.write_text(text + "\n", encoding="utf-8")


def main() -> None:
    import argparse

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", metavar="TEXT", help="files whose path contains this")
    parser.add_argument("--per-file", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log", type=Path, default=Path("mutations.jsonl"))
    parser.add_argument("--again", action="store_true", help="plant the survivors of the log anew")
    parser.add_argument("--report", action="store_true", help="write the page of the log, and plant nothing")
    options = parser.parse_args()
    if options.report:
        report(options.log, ROOT / "docs" / "mutations.md")
        return
    study(targets(options.only), options.per_file, options.seed, options.log, options.again)


if __name__ == "__main__":
    main()
