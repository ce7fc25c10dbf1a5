"""SSLA-Det written out event by event with dictionaries, from the published tensors: slow, plain, independent of ours.

States by (layer, space), one event after another in canonical order, every matrix in turn. `grid` gives what the
head sees, for the commit-and-peek stream and for the released code's window.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass

import numpy as np


@dataclass
class Layer:
    """One layer's published tensors."""

    tensors: dict[str, np.ndarray]

    @property
    def size(self) -> int:
        return math.isqrt(len(self.tensors["scatter_conv_weights"]))

    def __call__(self, x, py, px, height, width, state, *, write: bool):
        w = {name: tensor.astype(np.float64) for name, tensor in self.tensors.items()}
        k, r, d = self.size, (self.size - 1) // 2, len(w["norm.weight"])
        y = np.zeros(d)
        for space_y in range(py - r, py + r + 1):
            for space_x in range(px - r, px + r + 1):
                if not (0 <= space_y < height and 0 <= space_x < width):
                    continue
                position = (py - space_y + r) * k + (px - space_x + r)
                z = w["scatter_conv_weights"][position].reshape(d, -1) @ x
                q, v = w["q_proj.weight"] @ z, w["v_proj.weight"] @ z
                g = 1 / (1 + np.exp(-(w["g_proj.weight"] @ z)))
                h = g * state.get((space_y, space_x), np.zeros(d)) + v
                if write:
                    state[space_y, space_x] = h
                o = w["o_proj.weight"] @ (q * h)
                y += w["gather_conv_weights"][position].reshape(d, d) @ o
        y += w["input_proj.weight"] @ x if "input_proj.weight" in w else x
        y = (y - y.mean()) / np.sqrt(y.var() + 1e-5)
        return y * w["norm.weight"] + w["norm.bias"]


def layers_of(state: dict[str, np.ndarray]) -> list[list[Layer]]:
    """[level][layer] of a published state dictionary."""
    numbers = sorted({int(name.split(".")[1]) for name in state if name.startswith("backbone.")})
    found: list[list[Layer]] = []
    for number in numbers:
        prefix = f"backbone.{number}."
        tensors = {name.removeprefix(prefix): t for name, t in state.items() if name.startswith(prefix)}
        if "norm.weight" not in tensors:
            continue
        if number % 4 == 0:
            found.append([])
        found[-1].append(Layer(tensors))
    return found


def canonical(stream):
    order = sorted(range(len(stream[0])), key=lambda i: (stream[0][i], stream[2][i], stream[1][i], i))
    return [tuple(int(a[i]) for a in stream) for i in order]


def features(events):
    previous: dict[tuple[int, int], int] = {}
    for t, x, y, p in events:
        delta = min((t - previous[x, y]) / 1e5, 1.0) if (x, y) in previous else 1.0
        previous[x, y] = t
        yield t, x, y, np.array([delta, 1.0 if p > 0 else -1.0])


def stream_grid(levels, stream, height, width, window=4):
    """{(cell y, cell x): feature} at the stream's end, by state updates and peek."""
    frames = [(math.ceil(height / 2**n), math.ceil(width / 2**n)) for n in range(len(levels))]
    states = [[{} for _ in level] for level in levels]
    counts = [defaultdict(int) for _ in levels]
    newest = {}
    for _, x, y, f in features(canonical(stream)):
        for n, level in enumerate(levels):
            if n > 0:
                number = counts[n][y >> n, x >> n]
                counts[n][y >> n, x >> n] += 1
                if number % window:
                    break
            for layer, state in zip(level, states[n], strict=True):
                f = layer(f, y >> n, x >> n, *frames[n], state, write=True)
        else:
            n = len(levels)
        last = len(levels) - 1
        newest[y >> last, x >> last] = (f, n, y, x)
    grid = {}
    for cell, (f, start, y, x) in newest.items():
        for n in range(start, len(levels)):
            for layer, state in zip(levels[n], states[n], strict=True):
                f = layer(f, y >> n, x >> n, *frames[n], state, write=False)
        grid[cell] = f
    return grid


def window_grid(levels, stream, height, width, window=4, merge=True):
    """{(cell y, cell x): feature} of a whole window, thinned from its end, ties merged by the maximum."""
    rows = [(t, y, x, f) for t, x, y, f in features(canonical(stream))]
    # Without merging the order of the events is kept; merged events are put in order anew.
    for n, level in enumerate(levels):
        frame = math.ceil(height / 2**n), math.ceil(width / 2**n)
        if n > 0:
            cells = defaultdict(list)
            for number, (t, y, x, f) in enumerate(rows):
                cell = cells[y // 2, x // 2]
                if merge and cell and cell[-1][1] == t:
                    cell[-1] = (number, t, np.maximum(cell[-1][2], f))
                else:
                    cell.append((number, t, f))
            kept = [
                ((t, y, x) if merge else number, (t, y, x, f))
                for (y, x), cell in cells.items()
                for i, (number, t, f) in enumerate(cell)
                if (len(cell) - 1 - i) % window == 0
            ]
            rows = [row for _, row in sorted(kept, key=lambda pair: pair[0])]
        for layer in level:
            state: dict = {}
            rows = [(t, y, x, layer(f, y, x, *frame, state, write=True)) for t, y, x, f in rows]
    return {(y, x): f for _, y, x, f in rows}
