"""GrIT: grounded image-text pairs from captioned pictures, and records of the published set ``zzliang/GRIT``.

language = load_language("en_core_web_sm")
record = construct(picture, "a dog in a field of flowers", (640, 427), proposer, language)
text = grounded_text(record.caption, grounded_spans(record), LocationGrid())
"""

from __future__ import annotations

from multiway_vision_language.grit.abstract_nouns import ABSTRACT_NOUNS
from multiway_vision_language.grit.chunks import Chunk, Span, load_language, noun_chunks, outermost
from multiway_vision_language.grit.construct import Proposer, construct, suppress
from multiway_vision_language.grit.records import (
    GritRecord,
    GroundedSpan,
    ScoredBox,
    grounded_spans,
    grounded_text,
)

__all__ = [
    "ABSTRACT_NOUNS",
    "Chunk",
    "GritRecord",
    "GroundedSpan",
    "Proposer",
    "ScoredBox",
    "Span",
    "construct",
    "grounded_spans",
    "grounded_text",
    "load_language",
    "noun_chunks",
    "outermost",
    "suppress",
]
