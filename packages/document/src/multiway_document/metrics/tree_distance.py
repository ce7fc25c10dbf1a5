"""Edit distance of ordered trees (Zhang & Shasha 1989): insert, delete or relabel a node at cost 1 each.

The published algorithm fills one small table per pair of keyroots. Here all tables that share the first
tree's keyroot are filled together, a row of all of them at a time as one vector: the same cells and the same
result, but a few array operations a row instead of a Python step a cell. The package `zss` gives the same
distances (the tests compare) and took 59 times as long for trees of 100 nodes, 450 times for 300; a page has up to
2,000.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rapidfuzz.distance import Levenshtein

from multiway_document.metrics.markdown_tree import Tree

# One exact comparison fills at most so many cells; about a second and 200 MB.
MAX_CELLS = 150_000_000
# Above that the trees are compared piece by piece, and a piece fills at most so many.
MAX_PIECE_CELLS = 2_000_000
_MAX_ALIGNED = 400_000_000


def tree_distance(first: Tree, second: Tree, *, max_cells: int = MAX_CELLS) -> int:
    """Least number of nodes to insert, delete or relabel to make one tree into the other.

    Exact while the tables need at most ``max_cells`` cells (trees of some 2,000 nodes). Beyond, an upper
    bound in about linear time: equal children are paired off and what stands between them is compared piece
    by piece, so a score made from the distance can come out too low but never too high.
    """
    names: dict[object, int] = {}
    return _distance(_Flat(first, names), _Flat(second, names), max_cells)


class _Flat:
    """A tree as arrays in post-order, every node with its label's number and its left-most leaf."""

    def __init__(self, root: Tree, names: dict[object, int]) -> None:
        self.labels: list[int] = []
        self.leftmost: list[int] = []
        self.children: list[list[int]] = []
        self.shape: list[int] = []  # equal numbers for equal subtrees
        nested: list[int] = []  # levels of keyroots inside the node's subtree, off its left path
        keyroots: list[tuple[int, int]] = []
        finished: list[int] = []
        stack = [(root, False)]
        while stack:
            node, expanded = stack.pop()
            if not expanded:
                stack.append((node, True))
                stack.extend((child, False) for child in reversed(node.children))
                continue
            index = len(self.labels)
            children = finished[len(finished) - len(node.children) :]
            del finished[len(finished) - len(node.children) :]
            finished.append(index)
            self.labels.append(names.setdefault(node.label, len(names)))
            self.leftmost.append(self.leftmost[children[0]] if children else index)
            self.children.append(children)
            key = (self.labels[-1], tuple(self.shape[child] for child in children))
            self.shape.append(names.setdefault(key, len(names)))
            level = nested[children[0]] if children else 0
            for child in children[1:]:
                level = max(level, nested[child] + 1)
                keyroots.append((nested[child], child))
            nested.append(level)
        keyroots.append((nested[-1], len(self.labels) - 1))
        self.keyroots = sorted(keyroots)  # (level, node); a keyroot's table needs only lower levels
        self.cells = sum(node - self.leftmost[node] + 2 for _, node in keyroots)

    def __len__(self) -> int:
        return len(self.labels)

    def span(self, node: int) -> int:
        """Number of nodes of a subtree."""
        return node - self.leftmost[node] + 1


def _distance(first: _Flat, second: _Flat, max_cells: int) -> int:
    if first.shape[-1] == second.shape[-1]:
        return 0
    if first.cells * second.cells <= max_cells:
        return _zhang_shasha(first, second)
    return _bounded(first, [len(first) - 1], second, [len(second) - 1], min(max_cells, MAX_PIECE_CELLS))


def _zhang_shasha(first: _Flat, second: _Flat) -> int:
    """The exact distance. Legend: row = a node of the first tree, column = a node of the second in one table.

    The tables of the second tree's keyroots lie side by side, each with its empty-forest column in front,
    ordered by level: on rows of the first tree's left path a table uses results of the tables nested in it,
    which have a lower level and are therefore finished.
    """
    tables = [
        (level, node, np.arange(second.leftmost[node] - 1, node + 1)) for level, node in second.keyroots
    ]
    nodes = np.concatenate([columns for _, _, columns in tables])  # second tree's node of every column
    widths = np.array([len(columns) for _, _, columns in tables])
    starts = np.concatenate([[0], np.cumsum(widths)[:-1]])
    empty = np.zeros(len(nodes), dtype=bool)
    empty[starts] = True
    nodes[starts] = 0  # of no account: the empty-forest column is set apart below
    offset = np.concatenate([np.arange(width) for width in widths]).astype(np.int32)
    leftmost = np.array(second.leftmost)
    first_node = np.repeat([second.leftmost[node] for _, node, _ in tables], widths)
    on_path = (leftmost[nodes] == first_node) & ~empty
    # The column that holds the forest left of a column's own subtree.
    before = np.repeat(starts, widths) + np.where(empty, 0, leftmost[nodes] - first_node)
    # Running minima must not leak from one table into the next: every table stands lower than its neighbour.
    depth = np.int32(2 * (len(first) + len(second)) + 4)
    shift = offset + depth * np.repeat(np.arange(len(tables)), widths).astype(np.int32)
    labels = np.array(second.labels, dtype=np.int64)[nodes]
    levels = np.repeat([level for level, _, _ in tables], widths)
    slices = [
        slice(*np.searchsorted(levels, [level, level + 1]).tolist()) for level in range(int(levels[-1]) + 1)
    ]
    paths = [part.start + np.flatnonzero(on_path[part]) for part in slices]

    subtree = np.zeros((len(first), len(second)), dtype=np.int32)
    for _, keyroot in first.keyroots:
        low = first.leftmost[keyroot]
        table = np.empty((keyroot - low + 2, len(nodes)), dtype=np.int32)
        table[0] = offset
        for node in range(low, keyroot + 1):
            row = node - low + 1
            above, left_of = table[row - 1], table[first.leftmost[node] - low]
            if first.leftmost[node] != low:
                best = np.minimum(above + 1, left_of[before] + subtree[node][nodes])
                best[starts] = row
                table[row] = np.minimum.accumulate(best - shift) + shift
                continue
            renamed = (labels != first.labels[node]).astype(np.int32)
            renamed[1:] += above[:-1]
            for part, path in zip(slices, paths, strict=True):
                best = np.where(
                    on_path[part], renamed[part], left_of[before[part]] + subtree[node][nodes[part]]
                )
                np.minimum(best, above[part] + 1, out=best)
                best[empty[part]] = row
                table[row, part] = np.minimum.accumulate(best - shift[part]) + shift[part]
                subtree[node, nodes[path]] = table[row, path]
    return int(subtree[-1, -1])


def _bounded(a: _Flat, left: Sequence[int], b: _Flat, right: Sequence[int], max_cells: int) -> int:
    """Upper bound of the distance of two forests, given by their root nodes."""
    total = 0
    work = [(list(left), list(right), True)]
    while work:
        left, right, align = work.pop()
        left_size, right_size = sum(map(a.span, left)), sum(map(b.span, right))
        if not left or not right:
            total += left_size + right_size
        elif len(left) == len(right) == 1 and a.shape[left[0]] == b.shape[right[0]]:
            continue
        elif align and 1 < len(left) * len(right) <= _MAX_ALIGNED:
            edits = Levenshtein.opcodes([a.shape[n] for n in left], [b.shape[n] for n in right])
            work.extend(
                (left[e.src_start : e.src_end], right[e.dest_start : e.dest_end], False)
                for e in edits
                if e.tag != "equal"
            )
        elif (part := _small(a, left, b, right, max_cells)) is not None:
            total += part
        elif len(left) == len(right) == 1:
            total += a.labels[left[0]] != b.labels[right[0]]
            work.append((a.children[left[0]], b.children[right[0]], True))
        else:
            left_cut, right_cut = _middle(a, left), _middle(b, right)
            work.append((left[:left_cut], right[:right_cut], False))
            work.append((left[left_cut:], right[right_cut:], False))
    return total


def _small(a: _Flat, left: Sequence[int], b: _Flat, right: Sequence[int], max_cells: int) -> int | None:
    """The exact distance of two forests, or None if it takes more than ``max_cells`` cells."""
    if sum(map(a.span, left)) * sum(map(b.span, right)) > max_cells:
        return None
    names: dict[object, int] = {}
    first, second = _Flat(_forest(a, left), names), _Flat(_forest(b, right), names)
    return _zhang_shasha(first, second) if first.cells * second.cells <= max_cells else None


def _forest(flat: _Flat, roots: Sequence[int]) -> Tree:
    """The forest as a tree; both forests get the same root, which costs nothing."""
    top = Tree("")
    stack = [(top, node) for node in reversed(roots)]
    while stack:
        parent, node = stack.pop()
        copy = Tree(f"={flat.labels[node]}")
        parent.children.append(copy)
        stack.extend((copy, child) for child in reversed(flat.children[node]))
    return top


def _middle(flat: _Flat, roots: Sequence[int]) -> int:
    """Where to cut a forest into parts of about as many nodes; a lone tree goes to the left part."""
    ends = np.cumsum([flat.span(node) for node in roots])
    cut = int(np.searchsorted(ends, ends[-1] / 2)) + 1
    return max(1, min(cut, len(roots) - 1)) if len(roots) > 1 else 1
