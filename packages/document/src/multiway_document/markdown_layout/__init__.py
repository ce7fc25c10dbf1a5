"""Markdown of a page from its lines, their places and their ink alone: for the fast engine, which has no
decoder.

Larger or bolder lines are headings, lines behind a mark or a number are list items, words that stand in columns
are table rows, letters on a grid are code, text set in from both sides is a quote, and what is left is
paragraphs. Nothing that was read is left out: headers, footers and page numbers become paragraphs of their own.
"""

from multiway_document.markdown_layout.page import lines_to_markdown, page_blocks

__all__ = ["lines_to_markdown", "page_blocks"]
