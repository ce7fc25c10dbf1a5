"""Words of captions as the COCO caption evaluation takes them: Penn Treebank tokens, lower case, no punctuation.

Own code in place of the Stanford tokenizer (Java) that the official evaluation starts.
"""

from __future__ import annotations

import re

# What the official evaluation throws away; brackets stay, under their Treebank names.
_DROPPED = {"''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";", '"'}
_BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
_PLAIN_MARKS = str.maketrans(
    {"“": '"', "”": '"', "„": '"', "‘": "'", "’": "'", "—": " -- ", "–": " -- ", "…": " ... "}
)
_ABBREVIATIONS = """
mr mrs ms dr st ave no vs etc jr sr prof mt ft lt gen col sgt capt rev hon gov sen rep co corp inc ltd
jan feb mar apr jun jul aug sep sept oct nov dec
"""
_JOINED = {
    "cannot": "can not",
    "gonna": "gon na",
    "gotta": "got ta",
    "wanna": "wan na",
    "lemme": "lem me",
    "gimme": "gim me",
}
_TOKEN = re.compile(
    r"(?:https?://|www\.)\S+"
    r"|[a-z0-9._+-]+@[a-z0-9-]+\.[a-z.]+"
    rf"|(?:{'|'.join(_ABBREVIATIONS.split())})\.(?=\s|$)"
    r"|(?:[a-z]\.){2,}|(?<!\w)[a-z]\.(?=\s|$)"  # u.s., a.m., john q. public
    r"|'(?:n'|(?:s|re|ve|ll|d|m|t)(?![^\W_])|\d\ds)"
    r"|[+-]?\d+(?:[.,:]\d+)*\w*(?:[-/]\w+)*"
    r"|@\w+"
    r"|[^\W_]['][^\W_]+[^\W_]"  # o'clock, d'oeuvre
    r"|\w+?(?=n't(?!\w))|n't"
    r"|\w+(?:[-/.&]\w+)*"
    r"|\.{2,}|-{2,}|[?!]{2,}"
    r"|\S"
)


def caption_tokens(caption: str) -> list[str]:
    """The words of one caption. Line breaks count as spaces."""
    words = []
    for token in _TOKEN.findall(caption.lower().replace("&amp;", "&").translate(_PLAIN_MARKS)):
        if token in _DROPPED or not token.strip("."):
            continue
        words += _JOINED.get(token, _BRACKETS.get(token, token)).split()
    return words
