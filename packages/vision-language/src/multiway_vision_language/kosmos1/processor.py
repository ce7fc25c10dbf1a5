"""Interleaved documents and the prompts of the paper's tasks (arXiv 2302.14045, sections 2.1 and 4).

<s> text <image> [Q slots] </image> text ... </s>
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from multiway_vision_language.kosmos2.processor import PICTURE, Kosmos2Processor

Picture = Image.Image | np.ndarray
Document = Sequence[str | Picture]
"""Text and upright pictures (PIL, or uint8 (height, width, 3)) in reading order."""

CAPTION_PROMPT = "An image of"
VQA_PROMPT = "Question: {question} Answer:"
RATIONALE_PROMPT = "Introduce this picture in detail:"
IMAGENET_PROMPT = "The photo of the"
SENTIMENT_PROMPT = "Question: what is the sentiment of the opinion? Answer:"
SENTIMENTS = ("positive", "negative")
HATE_PROMPT = "Question: does this picture contain real hate speech? Answer:"
CLASS_PROMPT = "Question:what is the name of {category} in the picture? Answer:"


class Kosmos1Processor(Kosmos2Processor):
    """Kosmos-2's processor for documents with any number of pictures."""

    def document(self, parts: Document, *, begin: bool = True, end: bool = False) -> list[int]:
        """Ids of a document, behind ``<s>`` and before ``</s>`` where asked for.

        Raises :class:`InputError` for what is neither text nor a picture when its pixels are made.
        """
        text = "".join(part if isinstance(part, str) else PICTURE for part in parts)
        ids = self.encode(text)
        return [*([self.tokens.bos] if begin else []), *ids, *([self.tokens.eos] if end else [])]


def pictures_of(documents: Sequence[Document]) -> list[Picture]:
    """The pictures of documents, in the order in which the model takes them."""
    return [part for document in documents for part in document if not isinstance(part, str)]


def caption(picture: Picture) -> Document:
    """Prompt for a caption."""
    return [picture, CAPTION_PROMPT]


def question(picture: Picture, text: str) -> Document:
    """Prompt for an answer to a question about a picture."""
    return [picture, VQA_PROMPT.format(question=text)]


def few_shot(examples: Sequence[tuple[Document, str]], query: Document) -> Document:
    """k solved examples, each a prompt with its answer, in front of the query (section 4.1.1)."""
    solved = [part for prompt, answer in examples for part in [*prompt, f" {answer} "]]
    return [*solved, *query]


def classification(picture: Picture, category: str, descriptions: Sequence[str] = ()) -> Document:
    """Prompt for the name of what a picture shows, behind descriptions of the classes (section 4.8)."""
    told = " ".join(descriptions)
    return [*([told] if told else []), picture, CLASS_PROMPT.format(category=category)]


def raven_prefix(panels: Sequence[Picture]) -> Document:
    """The given panels of a matrix, one by one (section 4.3.2)."""
    words = {3: "three", 4: "four", 8: "eight"}
    number = words.get(len(panels), str(len(panels)))
    return [f"Here are {number} images:", *panels, "The following image is:"]


def raven_candidate(panel: Picture) -> Document:
    """One candidate for the missing panel, with the question about it."""
    return [panel, "Is it correct?"]
