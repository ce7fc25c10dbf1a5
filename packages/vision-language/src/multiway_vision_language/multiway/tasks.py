"""The tasks that a picture-text model can be fine-tuned for."""

from __future__ import annotations

from typing import Literal

Task = Literal["retrieval", "vqa", "nlvr2", "caption", "imagenet"]
"""Finding pictures by words and words by pictures; answers to questions; whether a statement is true of two pictures;
captions; classes of pictures."""
