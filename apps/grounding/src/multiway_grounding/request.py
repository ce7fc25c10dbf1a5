"""What can be asked about a picture, and the one way in which command, batch run and demo ask it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

from multiway_core import config
from multiway_core.errors import InputError

if TYPE_CHECKING:
    from multiway_vision_language.pictures import PictureSource
    from multiway_vision_language.pipeline import GroundingPipeline
    from multiway_vision_language.result import Grounding

Task = Literal["caption", "locate", "describe", "ask", "prompt"]
Frame = Literal["pixel", "norm"]


@dataclass(frozen=True)
class Request:
    """One task with its words.

    Attributes:
        detailed: caption: many sentences.
        grounded: caption, ask: with the places of what is named.
        phrases: locate: what to look for.
        threshold: locate: least ``present`` of a phrase that gets boxes (of models that know absence).
        box: describe: left, top, right, bottom.
        frame: describe: whether ``box`` is in pixels or in fractions of the picture.
        text: ask: the question; prompt: text with tags.
    """

    task: Task = "caption"
    detailed: bool = False
    grounded: bool = True
    phrases: tuple[str, ...] = ()
    threshold: float = 0.5
    box: tuple[float, float, float, float] | None = None
    frame: Frame = "pixel"
    text: str = ""

    def to_json(self) -> dict[str, Any]:
        """The task and what differs from the defaults."""
        values = config.to_dict(self)
        changed = {field.name for field in fields(self) if getattr(self, field.name) != field.default}
        return {name: value for name, value in values.items() if name == "task" or name in changed}

    @classmethod
    def from_json(cls, data: Any, *, where: str) -> Request:
        """Strict. Raises :class:`ConfigError` that names ``where`` and the key."""
        return config.from_dict(cls, data, where=where)

    def run(
        self,
        pipeline: GroundingPipeline,
        picture: PictureSource,
        on_partial: Callable[[Grounding], None] | None = None,
    ) -> Grounding:
        """Ask it. Raises :class:`InputError` for a bad picture, and for words that are missing or cannot be taken."""
        if self.task == "caption":
            return pipeline.caption(
                picture, detailed=self.detailed, grounded=self.grounded, on_partial=on_partial
            )
        if self.task == "locate":
            return pipeline.locate(picture, self.phrases, threshold=self.threshold)
        if self.task == "describe":
            if self.box is None:
                raise InputError("there is no box to describe; give left, top, right, bottom")
            return pipeline.describe(picture, self.box, frame=self.frame, on_partial=on_partial)
        if self.task == "ask":
            return pipeline.ask(picture, self.text, grounded=self.grounded, on_partial=on_partial)
        return pipeline.prompt(picture, self.text, on_partial=on_partial)


def parse_box(text: str) -> tuple[float, float, float, float]:
    """``x1,y1,x2,y2`` (or with spaces) as numbers. Raises :class:`InputError`."""
    try:
        left, top, right, bottom = (float(part) for part in text.replace(",", " ").split())
    except ValueError:
        raise InputError(f"{text!r} is not a box: expected four numbers x1,y1,x2,y2") from None
    return left, top, right, bottom
