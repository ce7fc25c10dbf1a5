"""Words as SQLite's full-text index takes them, for BM25 in any script.

Its tokenizer finds words between spaces and marks. Scripts without spaces (Chinese, Japanese, Thai, ...) and Korean
with its endings are written as overlapping pairs of characters, as other search engines do. The ranges are written
out, since an entry is removed from the index by the same words that put it there: no version of Python may change them.
"""

from __future__ import annotations

import re

from multiway_text.search import languages

TOKENIZER = "unicode61 remove_diacritics 2 categories 'L* N* M* Co'"
"""Marks belong to words: without them Hindi and Thai fall to pieces."""
MAX_TERMS = 256
"""Different terms of a query; what follows them is left out."""
_RUN = re.compile(
    "["
    "\u0e00-\u0eff"  # Thai, Lao
    "\u1000-\u109f\u1780-\u17ff"  # Burmese, Khmer
    "\u3040-\u30ff\u31f0-\u31ff"  # Hiragana, Katakana
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Han
    "\u1100-\u11ff\uac00-\ud7af"  # Hangul
    "]+"
)
_WORD = re.compile(r"[^\W_]+")


def indexed(text: str) -> str:
    """A text as it is given to the index."""
    return _RUN.sub(lambda run: f" {' '.join(_pairs(run.group()))} ", text)


def match(query: str) -> list[str]:
    """A query's terms in the index's language, without words of grammar if there are others."""
    terms = dict.fromkeys(_terms(query))
    terms = {term: None for term in terms if term.strip('"').casefold() not in languages.ALL} or terms
    return list(terms)[:MAX_TERMS]


def words(query: str) -> list[str]:
    """What can be marked in a passage: the query's words of at least two characters, runs of Han whole."""
    found = [word for word in dict.fromkeys(_marked(query)) if len(word) > 1]
    return [word for word in found if word not in languages.ALL] or found


def _marked(query: str) -> list[str]:
    rest = _RUN.sub(" ", query)
    return [
        *(pair for run in _RUN.findall(query) for pair in _pairs(run)),
        *(word.casefold() for word in _WORD.findall(rest)),
    ]


def _terms(query: str) -> list[str]:
    found = []
    for word in indexed(query).split():
        for part in re.split(r'[\x00"]+', word):
            if any(character.isalnum() for character in part):
                alone = _RUN.fullmatch(part) is not None and len(part) == 1
                found.append(f'"{part}"' + ("*" if alone else ""))
    return found


def _pairs(run: str) -> list[str]:
    return [run] if len(run) == 1 else [run[place : place + 2] for place in range(len(run) - 1)]
