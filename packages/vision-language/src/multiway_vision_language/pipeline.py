"""Grounding, from picture to result: the one path of commands, demo, evaluation and Python users."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import torch
from multiway_core.errors import InputError
from multiway_core.generation import StepEvent

from multiway_vision_language import presence, prompts
from multiway_vision_language.answers import Answer, close_truncated_boxes, read_answer
from multiway_vision_language.auto_model import load_pretrained
from multiway_vision_language.grounded_text import GROUNDING, PHRASE, PHRASE_END, Phrase, build
from multiway_vision_language.kosmos2.generation import Decoding, Kosmos2Generator, Prefix
from multiway_vision_language.kosmos2.model import ImageFeatures, Kosmos2
from multiway_vision_language.kosmos2_small.model import Kosmos2Small
from multiway_vision_language.locations import Cells
from multiway_vision_language.photographs import sentences
from multiway_vision_language.photographs.detector import CLASSES
from multiway_vision_language.photographs.reader import Found, PhotoReader
from multiway_vision_language.photographs.words import read_phrase
from multiway_vision_language.pictures import Picture, PictureSource, open_picture
from multiway_vision_language.prompts import Prompt
from multiway_vision_language.result import XYXY, Box, Entity, Grounding

BUNDLED_MODEL = "bundled:grounding-small"
CACHED_PICTURES = 32
ROWS = 16
"""Phrases that are looked for at once."""
SURE = 0.5
"""``present`` of the detector's from which on the network is not asked."""
NETWORK_SURE = 0.9
"""``present`` of the network's with which it overrules a detector that found nothing."""
NETWORK_SURE_OF_PHOTOGRAPHS, NETWORK_RIGHT = 0.98, 0.7
"""The same where the detector is sure of something else, and what it then is given for at most.

On 90 photographs of COCO train2017 two of three such phrases were true.
"""
MIN_NEW_TOKENS = 4
"""Tokens of one place with its tags."""

Frame = Literal["pixel", "norm"]
OnPartial = Callable[[Grounding], None]


class GroundingPipeline:
    """Captions, finds phrases, describes places and answers questions with one model.

    All methods take any picture of :func:`open_picture` and raise :class:`InputError` for one that cannot be read, and
    for words that are empty, too long, or spell the model's own tags. Boxes of results are in pixels of the source
    picture. ``on_partial`` gets the result so far while text is written, without confidences. Features of the last
    ``CACHED_PICTURES`` pictures are kept, by content.

    Attributes:
        photographs: of a model that has one, the detector and classifier which answer for nouns that they know.
    """

    def __init__(
        self, name: str, generator: Kosmos2Generator, photographs: PhotoReader | None = None
    ) -> None:
        self.name = name
        self.generator = generator
        self.photographs = photographs
        self.grid = generator.processor.grid
        self._features: OrderedDict[str, ImageFeatures] = OrderedDict()
        self._lock = threading.Lock()  # a demo's visitors come in threads

    @classmethod
    def from_pretrained(
        cls,
        name: str = BUNDLED_MODEL,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
        revision: str | None = None,
    ) -> GroundingPipeline:
        """Load ``bundled:NAME``, a local folder, or a hub id such as ``microsoft/kosmos-2-patch14-224``.

        ``dtype`` is float32 by default on a CPU, bfloat16 on a GPU.
        Raises :class:`ModelNotFoundError`, :class:`ConfigError` or :class:`CheckpointError`.
        """
        if dtype is None:
            dtype = torch.float32 if torch.device(device).type == "cpu" else torch.bfloat16
        model, processor = load_pretrained(name, revision=revision, dtype=dtype, device=device)
        return cls(name, Kosmos2Generator(model, processor), photo_reader(model))

    @property
    def knows_absence(self) -> bool:
        """Whether the model was taught what is not in a picture; else ``present`` is an uncalibrated score."""
        return self.generator.model.config.trained_absence

    def caption(
        self,
        picture: PictureSource,
        *,
        detailed: bool = False,
        grounded: bool = True,
        on_partial: OnPartial | None = None,
    ) -> Grounding:
        """What the picture shows, in words, with the places of what is named if ``grounded``."""
        opened = open_picture(picture)
        if self.photographs is not None:
            said = sentences.caption(self.photographs, opened, detailed=detailed)
            if said is not None:
                return self._said(opened, said, grounded=grounded)
        return self._write(opened, prompts.caption(detailed=detailed, grounded=grounded), on_partial)

    def locate(
        self, picture: PictureSource, phrases: Sequence[str], *, threshold: float = 0.5, before: str = ""
    ) -> Grounding:
        """Where the phrases are: an entity for each, in order, its ``phrase`` as given; the text has one a line.

        Of a model that knows absence, phrases whose ``present`` is below ``threshold`` have no boxes. One that does not
        gives a box to everything. ``before``: the sentence up to the phrase, for a phrase that comes from one.
        """
        if isinstance(phrases, str):
            raise InputError("phrases are a list; give [phrase] for a single one")
        if not phrases:
            raise InputError("there is no phrase to look for; give one or more")
        asked = [prompts.locate_phrase(phrase, before) for phrase in phrases]
        opened = open_picture(picture)
        seen = [self._seen(opened, phrase) for phrase in phrases]
        waiting = [at for at, found in enumerate(seen) if found is None or found.present < SURE]
        written: dict[int, tuple[Answer, float]] = {}
        if waiting:
            prefix = self._read(opened, GROUNDING)
            for first in range(0, len(waiting), ROWS):
                rows = waiting[first : first + ROWS]
                answers = self._places(
                    opened, prefix, [phrases[at] for at in rows], [asked[at] for at in rows]
                )
                written |= dict(zip(rows, answers, strict=True))
        entities: list[Entity] = []
        tagged: list[str] = []
        start = 0
        for at, phrase in enumerate(phrases):
            found = seen[at]
            if found is not None and (
                at not in written or not self._network_wins(opened, phrase, found, written[at])
            ):
                present, boxes = found.present, self._boxes(opened, found)
                cells = tuple(box.cells for box in boxes)
                tagged.append(build([Phrase(phrase, cells)]))
            else:
                answer, present = written[at]
                if found is not None and self._is_photograph(opened):
                    least = NETWORK_SURE_OF_PHOTOGRAPHS
                    present = 0.5 + (NETWORK_RIGHT - 0.5) * (present - least) / (1 - least)
                boxes = answer.entities[0].boxes if answer.entities else ()
                tagged.append(answer.tagged)
            if self.knows_absence and present < threshold:
                boxes = ()
            entities.append(Entity(phrase, (start, start + len(phrase)), boxes, present))
            start += len(phrase) + 1
        return self._result(opened, "\n".join(phrases), tuple(entities), "\n".join(tagged))

    def describe(
        self,
        picture: PictureSource,
        box: Sequence[float],
        *,
        frame: Frame = "pixel",
        on_partial: OnPartial | None = None,
    ) -> Grounding:
        """What is at a place: left, top, right, bottom in pixels of the picture, or as fractions (``norm``).

        The text says what "It" is, whose box is the given one as the location grid has it.
        Raises :class:`InputError`: the box has no area or reaches outside the picture.
        """
        opened = open_picture(picture)
        return self._write(opened, prompts.describe_box(self.snap(opened, box, frame=frame)), on_partial)

    def ask(
        self,
        picture: PictureSource,
        question: str,
        *,
        grounded: bool = True,
        on_partial: OnPartial | None = None,
    ) -> Grounding:
        """The answer to a question, with the places of what it names if ``grounded``."""
        prompt = prompts.answer_question(question, grounded=grounded)
        opened = open_picture(picture)
        if self.photographs is not None:
            said = sentences.answer(self.photographs, opened, question)
            if said is not None:
                return self._said(opened, said, grounded=grounded)
        return self._write(opened, prompt, on_partial)

    def prompt(
        self, picture: PictureSource, tagged: str, *, on_partial: OnPartial | None = None
    ) -> Grounding:
        """Continue any text with tags, such as ``<grounding>A picture of<phrase> a dog</phrase>``.

        Raises :class:`InputError` also for tags that are not whole.
        """
        prompt = prompts.free(tagged)
        whole = tagged
        if tagged.endswith(PHRASE_END) and PHRASE in tagged:
            whole = tagged[: tagged.rindex(PHRASE)]  # its places are what is asked for
        problems = self.generator.processor.parse(whole).problems
        if problems:
            raise InputError(f"the prompt cannot be continued: {problems[0]}")
        return self._write(open_picture(picture), prompt, on_partial)

    def snap(self, picture: Picture, box: Sequence[float], *, frame: Frame = "pixel") -> Cells:
        """The two cells of the location grid that stand for a box. Raises :class:`InputError` as :meth:`describe`."""
        if len(box) != 4 or not all(math.isfinite(number) for number in box):
            raise InputError("a box is four numbers: left, top, right, bottom")
        if frame not in ("pixel", "norm"):
            raise InputError(f"unknown frame {frame!r}: expected pixel or norm")
        across, down = (1, 1) if frame == "norm" else (picture.width, picture.height)
        left, top, right, bottom = box
        shown = ",".join(f"{number:g}" for number in box)
        if right <= left or bottom <= top:
            raise InputError(f"the box {shown} has no area: expected left < right and top < bottom")
        if left < 0 or top < 0 or right > across or bottom > down:
            raise InputError(f"the box {shown} reaches outside the picture, which is 0,0,{across},{down}")
        return self.grid.encode((left / across, top / down, right / across, bottom / down))

    def rectangle(self, picture: Picture, cells: Cells) -> XYXY:
        """The pixels of all cells from the upper left to the lower right one: what the model knows of a box."""
        size = self.grid.size
        (row, column), (last_row, last_column) = (divmod(cell, size) for cell in cells)
        across, down = picture.width / size, picture.height / size
        return column * across, row * down, (last_column + 1) * across, (last_row + 1) * down

    def features(self, picture: Picture) -> ImageFeatures:
        """What the decoder sees of one picture, kept for the next call."""
        with self._lock:
            if picture.key in self._features:
                self._features.move_to_end(picture.key)
                return self._features[picture.key]
        with torch.inference_mode():
            made = self.generator.model.encode_images(self.generator.processor.pixels([picture.image]))
        with self._lock:
            self._features[picture.key] = made
            while len(self._features) > CACHED_PICTURES:
                self._features.popitem(last=False)
        return made

    def _read(self, picture: Picture, text: str, *, max_new_tokens: int = 1) -> Prefix:
        ids = self.generator.processor.prompt(text)
        room = self._room(len(ids), max_new_tokens)
        return self.generator.prefill([ids], self.features(picture), room=room)

    def _room(self, length: int, max_new_tokens: int) -> int:
        """How many tokens may be written behind ``length``. Raises InputError where a place would not fit."""
        limit = self.generator.model.config.text.max_positions
        if length + MIN_NEW_TOKENS > limit:
            raise InputError(
                f"the words are too many: {length:,} tokens with the picture, {self.name} reads and writes {limit:,}"
            )
        return min(max_new_tokens, limit - length)

    def _write(self, picture: Picture, prompt: Prompt, on_partial: OnPartial | None) -> Grounding:
        prefix = self._read(picture, prompt.tagged, max_new_tokens=prompt.max_new_tokens)
        processor = self.generator.processor
        ids: list[int] = []

        def report(event: StepEvent) -> None:
            if event.active_B[0] and on_partial is not None:
                ids.append(int(event.tokens_B[0]))
                answer = read_answer(processor, picture, prompt, ids)
                on_partial(self._result(picture, answer.text, answer.entities, answer.tagged))

        decoding = Decoding(
            max_new_tokens=self._room(prefix.cache.length, prompt.max_new_tokens),
            no_repeat_ngram_size=self.generator.model.config.no_repeat_ngram_size,
            block_scope="text",
            grammar=True,
            grounded="<" in prompt.tagged,
        )
        (written,) = self.generator.generate(prefix, decoding, report if on_partial else None)
        whole = close_truncated_boxes(written.ids, self.generator.tokens)
        answer = read_answer(processor, picture, prompt, whole, written)
        entities = self._with_presence(picture, answer)
        result = self._result(picture, answer.text, entities, answer.tagged)
        return replace(result, truncated=written.truncated, problems=answer.problems)

    def _places(
        self, picture: Picture, prefix: Prefix, phrases: Sequence[str], asked: Sequence[Prompt]
    ) -> list[tuple[Answer, float]]:
        """The best places of each phrase whatever the model makes of it, and ``present``."""
        processor, tokens = self.generator.processor, self.generator.tokens
        end = torch.tensor([tokens.eos], device=prefix.logits_BV.device)
        suffixes = [processor.encode(prompt.tagged.removeprefix(GROUNDING)) for prompt in asked]
        room = self._room(prefix.cache.length + max(map(len, suffixes)), asked[0].max_new_tokens)
        rows = self.generator.extend(prefix, suffixes, room=room)
        said = presence.predicted(self.generator, rows)
        rows = replace(rows, logits_BV=rows.logits_BV.index_fill(1, end, float("-inf")))
        decoding = Decoding(
            max_new_tokens=room, block_scope="text", grammar=True, stop_after=(tokens.object_end,)
        )
        answers = [
            read_answer(processor, picture, prompt, close_truncated_boxes(written.ids, tokens), written)
            for prompt, written in zip(asked, self.generator.generate(rows, decoding), strict=True)
        ]
        if not self.knows_absence:
            cells = [answer.entities[0].boxes[0].cells for answer in answers]
            said = presence.verification_scores(self.generator, prefix, phrases, cells)
        return list(zip(answers, said, strict=True))

    def _seen(self, picture: Picture, phrase: str) -> Found | None:
        """What the detector and the classifier find, if they know the noun."""
        noun = read_phrase(phrase) if self.photographs is not None else None
        return None if noun is None or self.photographs is None else self.photographs.find(picture, noun)

    def _network_wins(
        self, picture: Picture, phrase: str, found: Found, written: tuple[Answer, float]
    ) -> bool:
        """Whether the network is sure of what the detector has not found: things that are drawn, for one."""
        answer, present = written
        boxes = answer.entities[0].boxes if answer.entities else ()
        if self._is_photograph(picture):
            least = NETWORK_SURE_OF_PHOTOGRAPHS
        else:
            least = NETWORK_SURE if found.places else 0.0
        if not boxes or present < least:
            return False
        noun = read_phrase(phrase)
        if noun is None or not noun.colors or self.photographs is None:
            return True
        # Nearly every colour is "present" to the network.
        scale = picture.image.width / picture.width, picture.image.height / picture.height
        left, top, right, bottom = boxes[0].xyxy
        place = (left * scale[0], top * scale[1], right * scale[0], bottom * scale[1])
        return self.photographs.has_colors(picture, place, noun.colors)

    def _is_photograph(self, picture: Picture) -> bool:
        """Whether the detector is sure of anything: it was taught photographs alone."""
        return self.photographs is not None and bool(self.photographs.things(picture))

    def _boxes(self, picture: Picture, found: Found) -> tuple[Box, ...]:
        return tuple(self._box(picture, place.xyxy, place.confidence) for place in found.shown)

    def _box(self, picture: Picture, xyxy: XYXY, confidence: float) -> Box:
        """A place of the opened picture as a box of the source."""
        across, down = picture.image.width, picture.image.height
        left, top, right, bottom = xyxy
        normal = (left / across, top / down, right / across, bottom / down)
        width, height = picture.width, picture.height
        pixels = (normal[0] * width, normal[1] * height, normal[2] * width, normal[3] * height)
        return Box(pixels, self.grid.encode(normal), confidence)

    def _said(self, picture: Picture, said: Sequence[sentences.Said], *, grounded: bool) -> Grounding:
        """A sentence of pieces as a result."""
        entities: list[Entity] = []
        parts: list[str | Phrase] = []
        text = ""
        for piece in said:
            shown = piece.text.lstrip() if not text else piece.text
            if piece.places and grounded:
                boxes = tuple(self._box(picture, place.xyxy, place.confidence) for place in piece.places)
                start = len(text) + len(shown) - len(shown.lstrip())
                entities.append(
                    Entity(shown.strip(), (start, start + len(shown.strip())), boxes, piece.present)
                )
                parts.append(Phrase(shown, tuple(box.cells for box in boxes)))
            else:
                parts.append(shown)
            text += shown
        tagged = (GROUNDING if grounded else "") + build(parts)
        return self._result(picture, text, tuple(entities), tagged)

    def _with_presence(self, picture: Picture, answer: Answer) -> tuple[Entity, ...]:
        """The entities; of those that the model named itself, ``present`` is what :meth:`locate` would say."""
        entities = list(answer.entities)
        waiting = [index for index, own in enumerate(answer.own) if own]
        if not waiting:
            return answer.entities
        prefix = self._read(picture, GROUNDING)
        for first in range(0, len(waiting), ROWS):
            part = waiting[first : first + ROWS]
            phrases = [entities[index].phrase for index in part]
            if self.knows_absence:
                suffixes = [self.generator.processor.encode(build([Phrase(phrase)])) for phrase in phrases]
                scores = presence.predicted(self.generator, self.generator.extend(prefix, suffixes))
            else:
                cells = [entities[index].boxes[0].cells for index in part]
                scores = presence.verification_scores(self.generator, prefix, phrases, cells)
            for index, score in zip(part, scores, strict=True):
                entities[index] = replace(entities[index], present=score)
        return tuple(entities)

    def _result(self, picture: Picture, text: str, entities: tuple[Entity, ...], tagged: str) -> Grounding:
        return Grounding(picture.source, self.name, picture.width, picture.height, text, entities, tagged)


def photo_reader(model: Kosmos2) -> PhotoReader | None:
    """The reader of photographs that a model brings along, if it does."""
    if not isinstance(model, Kosmos2Small) or not model.config.photographs:
        return None
    fast = model.device.type == "cpu" and bool(getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)())
    return PhotoReader(model.centernet, CLASSES, dtype=torch.bfloat16 if fast else torch.float32)
