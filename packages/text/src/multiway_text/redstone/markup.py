"""Math and code that survive the way from HTML to text: formulas as LaTeX in dollars, code in fences.

RedStone replaces them in the markup by marked text, turns the page into plain text, and restores them there; so does
`markup_text`. A formula counts only when a LaTeX parser accepts it, a block of code only when it shows signs of code.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote, urlsplit

MATH_PATTERN = re.compile(
    rb"<math|annotation|MathJax|math-container|class=.tex|math/tex|tex\.cgi|latex\.php|katex\.min\.css|\\frac|codecogs"
)
CODE_PATTERN = re.compile(rb"<code|<pre")
"""Bytes that a page must hold somewhere to be looked at for math, or for code."""

_TEX_SCRIPTS = ("math/tex", "math/latex", "math/asciimath")
_TEX_ENCODINGS = ("application/x-tex", "application/x-latex", "latex", "tex")
_CODE_SIGNS = re.compile(
    r"\b(?:if|else|for|while|def|class|include|switch|case|default|const|static|try|catch|exception|continue|open|close"
    r"|import|var|None|null|true|True|false|False|print|return|sudo|apt-get|wget)\b"
    r"|[{};]|\w+\s*\(.*\)|\w+\s*=\s*\w+"
)
_LANGUAGE = re.compile(r"(?:^|\s)(?:language|lang|highlight|brush|sourceCode)(?:-|:?\s+)([a-zA-Z][\w+#-]*)")
_NO_LANGUAGES = {"default", "text", "none", "plaintext", "source", "notranslate", "console-output"}
_OPEN, _CLOSE = "\ue000", "\ue001"  # private characters around what must not be changed on the way
_HELD = re.compile(f"{_OPEN}(\\d+){_CLOSE}")
MIN_NUMBERED_LINES = 8


def markup_text(html: str) -> str:
    """The whole text of a page with its formulas (``$...$``, ``$$...$$``) and its code (fenced, with its language)."""
    from lxml import html as lxml_html
    from resiliparse.extract.html2text import extract_plain_text

    html = html.replace(_OPEN, "").replace(_CLOSE, "")
    parser = lxml_html.HTMLParser(encoding="utf-8", huge_tree=False)
    root = lxml_html.document_fromstring(html.encode("utf-8", "replace"), parser=parser)
    for node in root.xpath('//*[@aria-hidden="true"]'):
        if node.getparent() is not None:
            node.drop_tree()
    held: list[str] = []
    for node in list(root.iter("math", "script", "img", "pre", "span", "annotation")):
        if node.getroottree().getroot() is root:
            _hold(node, held)
    page = lxml_html.tostring(root, encoding="unicode")
    text = extract_plain_text(page, main_content=False, alt_texts=False)
    text = _HELD.sub(lambda match: held[int(match[1])], text)
    return re.sub(r"\n{3,}", "\n\n", text).strip()


def _hold(node: Any, held: list[str]) -> None:
    """Put a mark in the place of a node that is a formula or code; leave it when it is neither."""
    is_code = node.tag == "pre"
    content = _code(node) if is_code else _formula(node)
    parent = node.getparent()
    if not content or parent is None:
        return
    tail = node.tail or ""
    if not is_code:
        tail = _without_rendering(tail, content)
    mark = f"{_OPEN}{len(held)}{_CLOSE}"
    held.append(f"\n{content}\n" if is_code else content)
    for above in node.iterancestors():  # Wikipedia hides MathML and shows a picture
        if above.tag != "span":
            break
        above.attrib.pop("style", None)
    for child in list(node):
        node.remove(child)
    node.attrib.clear()
    node.tag, node.text, node.tail = "div" if is_code else "span", mark, tail


def _formula(node: Any) -> str:
    """The LaTeX of a node between dollars; empty when it is no formula, or none that parses."""
    kind = (node.get("type") or "").lower()
    is_display = node.get("display") == "block" or "mode=display" in kind
    if node.tag == "script":
        if kind.startswith("math/mml"):
            from lxml import html as lxml_html

            inner = lxml_html.fragment_fromstring(node.text or "", create_parent="div").find("math")
            tex = "" if inner is None else _from_mathml(inner)
        else:
            tex = (node.text or "") if kind.startswith(_TEX_SCRIPTS) else ""
    elif node.tag == "math":
        tex = _from_mathml(node)
    elif node.tag == "span":
        tex = node.text_content() if node.get("class") in ("math-formula", "tex") else ""
    elif node.tag == "img":
        tex = _from_picture(node)
    else:
        tex = ""
    tex = " ".join(tex.strip().strip("$").split())
    if not tex or not is_latex(tex):
        return ""
    return f"$${tex}$$" if is_display else f"${tex}$"


def _from_mathml(math: Any) -> str:
    """The annotation with the author's LaTeX, else the ``alttext``, else a translation."""
    for note in math.iter("annotation"):
        if (note.get("encoding") or "").lower() in _TEX_ENCODINGS and (note.text or "").strip():
            return note.text_content()
    if "\\" in (math.get("alttext") or ""):
        return math.get("alttext")
    from lxml import etree
    from mathml_to_latex.converter import MathMLToLaTeX

    for note in list(math.iter("annotation", "annotation-xml")):
        note.drop_tree()
    try:
        return MathMLToLaTeX().convert(etree.tostring(math, encoding="unicode", with_tail=False))
    except Exception:  # whatever malformed MathML triggers in the translator: then it is no formula
        return ""


def _from_picture(image: Any) -> str:
    address, name = image.get("src") or "", image.get("class") or ""
    if "codecogs" in address or "latex.php" in address or "tex.cgi" in address:
        return image.get("alt") or unquote(urlsplit(address).query)
    is_formula = set(name.split()) & {"tex", "latex", "mwe-math-fallback-image-inline"}
    return (image.get("alt") or "") if is_formula else ""


def is_latex(text: str) -> bool:
    """Whether a strict LaTeX parser accepts it."""
    from pylatexenc.latexwalker import LatexWalker, LatexWalkerParseError

    try:
        LatexWalker(text, tolerant_parsing=False).get_latex_nodes(pos=0)
    except (LatexWalkerParseError, RecursionError, IndexError, ValueError):
        return False
    return True


def _without_rendering(tail: str, formula: str) -> str:
    """The text behind a formula without the formula once more in plain characters, as many pages have it."""
    from pylatexenc.latex2text import LatexNodes2Text

    if not tail.strip():
        return tail
    plain = LatexNodes2Text().latex_to_text(formula.strip("$")).strip()
    rest = tail.lstrip()
    follows = rest[len(plain) : len(plain) + 1]
    if len(plain) > 1 and rest.startswith(plain) and not follows.isalnum():
        return rest[len(plain) :]
    return tail


def _code(pre: Any) -> str:
    """A block of code in a fence with its language, where the page names one; empty when it shows no sign of code."""
    text = without_line_numbers(pre.text_content().replace("\r\n", "\n").strip("\n"))
    if not _CODE_SIGNS.search(text):
        return ""
    names = [(node.get("class") or "") for node in [*pre.iter("code"), pre, *list(pre.iterancestors())[:3]]]
    found = (match[1].lower() for name in names for match in _LANGUAGE.finditer(name))
    language = next((name for name in found if name not in _NO_LANGUAGES), "")
    fence = "`" * max(3, 1 + max(map(len, re.findall(r"`+", text)), default=0))
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def without_line_numbers(code: str) -> str:
    """Code without runs of more than seven numbers that count its lines, before them or on lines of their own."""
    lines = code.split("\n")
    kept: list[str] = []
    at = 0
    while at < len(lines):
        run: list[str] = []
        number = re.match(r"\s*(\d+)\b", lines[at])
        first = int(number[1]) if number else -1
        while number and at + len(run) < len(lines):
            found = re.match(r"\s*(\d+)(?:[.:|]?(?:\s(.*))?)$", lines[at + len(run)])
            if not found or int(found[1]) != first + len(run):
                break
            run.append(found[2] or "")
        if len(run) >= MIN_NUMBERED_LINES:
            kept += run if any(run) else []
            at += len(run)
        else:
            kept.append(lines[at])
            at += 1
    return "\n".join(kept)
