"""Markdown as the tree of its HTML: what NTED compares.

CommonMark with tables and strikethrough. A node is labelled with its tag name and a text leaf with its text,
white space squeezed, because a line wrapped elsewhere is the same HTML. Attributes (link targets, image
sources, list starts) carry no node. Raw HTML is one leaf labelled with its source.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = "document"


@dataclass
class Tree:
    """An ordered, labelled tree."""

    label: str
    children: list[Tree] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Number of nodes, this one included."""
        count, stack = 0, [self]
        while stack:
            node = stack.pop()
            count += 1
            stack.extend(node.children)
        return count


def markdown_tree(markdown: str, *, with_text: bool = True) -> Tree:
    """The tree of a markdown text under a root labelled ``document``; without its text leaves if asked."""
    root = Tree(ROOT)
    _grow(root, _parser().parse(markdown), with_text)
    return root


def _parser() -> MarkdownIt:
    return MarkdownIt("commonmark").enable(["table", "strikethrough"])


def _grow(root: Tree, tokens: Iterable[Token], with_text: bool) -> None:
    """Hang the nodes of a token stream under ``root``."""
    open_nodes = [root]
    pending: list[str] = []

    def end_text() -> None:
        text = " ".join("".join(pending).split())
        pending.clear()
        if text and with_text:
            open_nodes[-1].children.append(Tree(text))

    for token in tokens:
        if token.type == "inline":
            _grow(open_nodes[-1], token.children or (), with_text)
        elif token.type in ("text", "text_special"):
            pending.append(token.content)
        elif token.type == "softbreak":
            pending.append("\n")
        elif token.hidden:  # the paragraphs of a tight list are not in the HTML
            continue
        else:
            end_text()
            if token.nesting < 0:
                open_nodes.pop()
                continue
            node = Tree(token.tag or token.type)
            open_nodes[-1].children.append(node)
            if token.nesting > 0:
                open_nodes.append(node)
            elif token.type in ("code_inline", "fence", "code_block"):
                code = " ".join(token.content.split())
                leaf = [Tree(code)] if code and with_text else []
                node.label = "code" if token.type == "code_inline" else "pre"
                node.children = leaf if token.type == "code_inline" else [Tree("code", leaf)]
            elif token.type in ("html_block", "html_inline") and with_text:
                node.label = " ".join(token.content.split())
    end_text()
