"""NTED of MarkdownEval (KOSMOS-2.5 paper, appendix A.3): similarity of two markdown texts as trees.

The paper's formula is 1 - TD / max(nodes). Ours where it is silent: the tree is that of the HTML
(:mod:`markdown_tree`), every edit costs 1, the common root counts neither as a node nor as a match, and
a distance above max(nodes), which trees of very different shapes have, scores 0 instead of less.
"""

from __future__ import annotations

from multiway_document.metrics.markdown_tree import markdown_tree
from multiway_document.metrics.tree_distance import tree_distance


def nted(prediction: str, reference: str, *, with_text: bool = True) -> float:
    """Normalised tree edit similarity of two markdown texts, 0 to 1, higher is better.

    ``with_text=False`` compares the tags alone: the structure, whatever the words. Two empty trees score 1.0.
    """
    first = markdown_tree(prediction, with_text=with_text)
    second = markdown_tree(reference, with_text=with_text)
    nodes = max(first.size, second.size) - 1
    return max(0.0, 1.0 - tree_distance(first, second) / nodes) if nodes else 1.0
