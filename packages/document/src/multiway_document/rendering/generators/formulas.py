"""Short formulas."""

from __future__ import annotations

from multiway_document.rendering.generators.choice import Rng, Words, pick


def formula(rng: Rng, words: Words) -> str:
    a, b, c, d = (pick(rng, "abcdefghijknmpqrstuvwxyzABCDEFGHXYZ") for _ in range(4))
    n, m = int(rng.integers(2, 200)), int(rng.integers(2, 20))
    return pick(
        rng,
        [
            f"{a} = {n}{b} + {m}",
            f"{a}² + {b}² = {c}²",
            f"√{n} ≈ {n**0.5:.3f}",
            f"{a} ≤ {b} ≠ {c} ≥ {d}",
            f"{n} × {m} ÷ {a} = {b}",
            f"{a} → ∞",
            f"{n} ± {m} µm",
            f"½ {a}³ − ¼{b}",
            f"{n}° {m}' N",
            f"{a}({b}) = {c}/{d}",
            f"−{n},{m} °C",
            f"{a}¹ ∙ {b}",
            f"{n} < {a} < {n + m}",
            f"{n}:{m}",
            f"{n}/{m}",
            f"¾ × {n}",
            f"¬{a} ÷ {b}",
            f"{a} ← {b}",
        ],
    )
