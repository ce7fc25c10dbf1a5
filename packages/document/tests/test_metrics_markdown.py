"""NTED: the markdown tree, the tree distance against zss, hand-computed scores, bounded time."""

from __future__ import annotations

import random
import time

import pytest
import zss
from multiway_document.metrics import nted
from multiway_document.metrics.markdown_tree import Tree, markdown_tree
from multiway_document.metrics.tree_distance import tree_distance


def shown(tree: Tree) -> str:
    inside = " ".join(shown(child) for child in tree.children)
    return f"{tree.label}({inside})" if inside else tree.label


def random_tree(nodes: int, rng: random.Random) -> Tree:
    grown = [Tree(rng.choice("abc"))]
    for _ in range(nodes - 1):
        parent = rng.choice(grown[-5:] if rng.random() < 0.6 else grown)
        grown.append(Tree(rng.choice("abc")))
        parent.children.insert(rng.randint(0, len(parent.children)), grown[-1])
    return grown[0]


def zss_distance(a: Tree, b: Tree) -> int:
    return zss.distance(
        a, b, lambda n: n.children, lambda n: 1, lambda n: 1, lambda x, y: int(x.label != y.label)
    )


@pytest.mark.parametrize(
    ("markdown", "expected"),
    [
        ("", "document"),
        ("# A *b*\n\nc\nd  e", "document(h1(A em(b)) p(c d e))"),
        ("- x\n- y", "document(ul(li(x) li(y)))"),
        ("1. x\n\n2. y", "document(ol(li(p(x)) li(p(y))))"),
        ("| a | b |\n|---|---|\n| 1 | |", "document(table(thead(tr(th(a) th(b))) tbody(tr(td(1) td))))"),
        ("~~no~~ `co  de`", "document(p(s(no) code(co de)))"),
        ("```py\nx = 1\n```", "document(pre(code(x = 1)))"),
        ("a  \nb ![alt](i.png) [l](u)", "document(p(a br b img a(l)))"),
        ("---\n\n> q", "document(hr blockquote(p(q)))"),
        ("a &amp; \\* b", "document(p(a & * b))"),
        ("<div>x</div>\n\ny", "document(<div>x</div> p(y))"),
    ],
)
def test_tree_of_markdown(markdown: str, expected: str) -> None:
    assert shown(markdown_tree(markdown)) == expected


def test_tree_without_text() -> None:
    assert shown(markdown_tree("# A *b*\n\n- c `d`", with_text=False)) == "document(h1(em) ul(li(code)))"


def test_tree_distance_equals_zss() -> None:
    rng = random.Random(0)
    for _ in range(120):
        a, b = random_tree(rng.randint(1, 15), rng), random_tree(rng.randint(1, 15), rng)
        expected = zss_distance(a, b)
        assert tree_distance(a, b) == expected
        assert tree_distance(b, a) == expected
        assert tree_distance(a, a) == 0
        # the piecewise bound is never below the distance nor above deleting and inserting everything
        assert expected <= tree_distance(a, b, max_cells=20) <= a.size + b.size


def test_tree_distance_of_larger_trees_equals_zss() -> None:
    rng = random.Random(1)
    a, b = random_tree(60, rng), random_tree(70, rng)
    assert tree_distance(a, b) == zss_distance(a, b)


@pytest.mark.parametrize(
    ("prediction", "reference", "with_text", "expected"),
    [
        ("# A\n\nb", "# A\n\nb", True, 1.0),
        ("# A\n\nb", "# A\n\nc", True, 1 - 1 / 4),  # one leaf of h1, A, p, c relabelled
        ("# A\n\nb", "# A\n\nc", False, 1.0),
        ("A\n\nb", "# A\n\nb", True, 1 - 1 / 4),  # p -> h1
        ("A\n\nb", "# A\n\nb", False, 1 - 1 / 2),
        ("- a\n- b", "- a\n- b\n- c", True, 1 - 2 / 7),  # ul + three of (li, text); li and c inserted
        ("", "", True, 1.0),
        ("", "a", True, 0.0),
        ("a", "", True, 0.0),
    ],
)
def test_nted_by_hand(prediction: str, reference: str, with_text: bool, expected: float) -> None:
    assert nted(prediction, reference, with_text=with_text) == pytest.approx(expected)
    assert nted(reference, prediction, with_text=with_text) == pytest.approx(expected)


def test_nted_never_falls_below_zero() -> None:
    deep, wide = "> " * 15 + "a", "\n\n".join("# x" for _ in range(9))
    assert tree_distance(markdown_tree(deep), markdown_tree(wide)) > markdown_tree(wide).size
    assert nted(deep, wide) == 0.0


def test_huge_tables_take_bounded_time() -> None:
    def table(rows: int, word: str) -> str:
        body = "".join(f"| {i} | {word} {i} | x |\n" for i in range(rows))
        return f"# T\n\n| a | b | c |\n|---|---|---|\n{body}\nend"

    started = time.process_time()
    similar = nted(table(1500, "word"), table(1500, "ward"))  # about 10,500 nodes, one of seven differs
    different = nted(table(1200, "word"), "\n\n".join(f"Paragraph {i}." for i in range(3000)))
    elapsed = time.process_time() - started
    assert similar == pytest.approx(1 - 1 / 7, abs=0.01)
    assert 0 <= different < 0.3
    assert elapsed < 40


@pytest.mark.parametrize(
    "hostile", ["[" * 3000, "*a_ " * 2000, "> " * 3000, "`" * 4001, "|" * 5000 + "\n|-|-|"]
)
def test_hostile_markdown(hostile: str) -> None:
    started = time.process_time()
    assert 0.0 <= nted(hostile, "# A\n\nb") <= 1.0
    assert nted(hostile, hostile) == 1.0
    assert time.process_time() - started < 20
