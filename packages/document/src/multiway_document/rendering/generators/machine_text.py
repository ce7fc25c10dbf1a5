"""Machine-readable text: URLs, file paths, lines of code."""

from __future__ import annotations

from multiway_document.rendering.generators.choice import Rng, Words, digits, pick, slug
from multiway_document.rendering.generators.names import EXTENSIONS


def address(rng: Rng, words: Words) -> str:
    joint, number_ = pick(rng, ["", ".", "-", "_"]), pick(rng, ["", digits(rng, 2)])
    name = f"{slug(rng, words)}{joint}{slug(rng, words)}{number_}"
    host = f"{slug(rng, words)}.{pick(rng, EXTENSIONS)}"
    return pick(
        rng,
        [
            f"{name}@{host}",
            f"www.{host}",
            f"https://{host}/{slug(rng, words)}/{name}",
            f"http://www.{host}/?id={digits(rng, 4)}&q={name}",
            f"C:\\{slug(rng, words)}\\{name}.txt",
            f"/usr/share/{name}/{slug(rng, words)}.conf",
            f"~/{name}",
            f"#{name}",
            f"@{name}",
        ],
    )


def code(rng: Rng, words: Words) -> str:
    a, b, c = (slug(rng, words) for _ in range(3))
    n = int(rng.integers(1000))
    return pick(
        rng,
        [
            f"if ({a} == {n}) {{ return {b}[{n % 9}]; }}",
            f"def {a}_{b}({c}: int = {n}) -> None:",
            f"{a} = {b}.{c}({n}, '{a}')",
            f"#include <{a}/{b}.h>",
            f"for (int i = 0; i < {n}; ++i) {a}[i] += {b} * {c};",
            f"$ {a} --{b}={n} | grep -v '{c}' > /tmp/{a}.log 2>&1",
            f"# {a}: {b} {c}",
            f'<{a} {b}="{c}">{n}</{a}>',
            f'{{"{a}": {n}, "{b}": ["{c}", null]}}',
            f"SELECT {a}, {b} FROM {c} WHERE {a} <> {n};",
            f"0x{n * 7919:08X}",
            f"\\{a}{{{b}}} % {c}",
            f"{a}->{b} != ~{c} ^ {n}",
            f"@{a}({b}!r)",
            f"${{{a.upper()}}}/{b}",
            f"std::{a}<{b}&&> {c};",
        ],
    )
