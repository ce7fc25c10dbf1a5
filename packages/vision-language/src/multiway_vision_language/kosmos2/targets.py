"""Training targets of Kosmos-2: captions with boxes behind their phrases, as tokens.

The data of a fine-tuning are a JSONL file, boxes in pixels of the upright picture (left, top, right, bottom):

    {"image": "1.jpg", "caption": "An image of a snowman.", "phrases": [{"span": [12, 21], "boxes": [[40, 9, 90, 80]]}]}

An image is a path beside the file or an absolute one. A row without ``phrases`` is a plain caption; one whose phrase is
all of its caption teaches to find that phrase.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from multiway_core.data_files import get, get_items, number, read_text, shown
from multiway_core.errors import DataError, InputError

from multiway_vision_language.datasets.files import picture_size
from multiway_vision_language.datasets.samples import GroundingSample, TruePhrase
from multiway_vision_language.grounded_text import GROUNDING
from multiway_vision_language.kosmos2.processor import Kosmos2Processor
from multiway_vision_language.locations import Cells, Edge
from multiway_vision_language.result import XYXY

_EXPECTED = 'expected {"image": ..., "caption": ..., "phrases": [{"span": [start, end], "boxes": [...]}]}'


def read_captions(path: Path) -> list[GroundingSample]:
    """The rows of a JSONL file. Raises :class:`DataError` naming file, line and what would be right."""
    samples = []
    for line, row in enumerate(read_text(path).split("\n"), start=1):
        if not row.strip():
            continue
        where = f"{path}:{line}"
        try:
            content = json.loads(row)
        except (json.JSONDecodeError, RecursionError) as error:
            problem = getattr(error, "msg", "nested too deeply")
            raise DataError(f"{where}: not JSON ({problem}); {_EXPECTED}") from error
        samples.append(_sample(content, path.parent, where))
    if not samples:
        raise DataError(f"{path}: no rows; {_EXPECTED}")
    return samples


def target_tokens(
    processor: Kosmos2Processor, sample: GroundingSample, *, edge: Edge = "half_open"
) -> list[int]:
    """``<s>``, the picture's block, the caption with its boxes, ``</s>``: what a training step reads and predicts.

    The caption is encoded as a whole, and tags stand between its tokens, as in the published training. (At inference
    every stretch between tags is encoded for itself: there a full stop behind a tag is two tokens, here one.)
    ``edge`` as in `LocationGrid.encode`; the published training is "legacy".
    Raises :class:`DataError` naming the sample for a phrase without words or boxes, overlapping phrases or a bad box.
    """
    ids = processor.tokens
    head = processor.prompt(GROUNDING if sample.phrases else "")
    return [*head, *_tagged_tokens(processor, sample, edge), ids.eos]


def _tagged_tokens(processor: Kosmos2Processor, sample: GroundingSample, edge: Edge) -> list[int]:
    phrases = sorted(sample.phrases, key=lambda phrase: phrase.span)
    for phrase, following in itertools.pairwise(phrases):
        if phrase.span[1] > following.span[0]:
            raise DataError(
                f"{sample.name}: the phrases {shown(phrase.text)} and {shown(following.text)} overlap"
            )
    found = processor.tokenizer.encode_with_offsets(sample.caption, add_special_tokens=False)
    tokens = [(token, start, end) for token, (start, end) in zip(found.ids, found.offsets, strict=True)]
    written: list[int] = []
    place = 0
    for phrase in phrases:
        first, last = _token_span(tokens, sample.caption, phrase.span)
        if first < place or first >= last:
            raise DataError(f"{sample.name}: the phrase {shown(phrase.text)} has no token of its own")
        words = [token for token, _, _ in tokens[first:last]]
        written += [token for token, _, _ in tokens[place:first]]
        cells = [_cells(processor, sample, box, edge) for box in phrase.boxes]
        written += [processor.tokens.phrase, *words, processor.tokens.phrase_end, *_object(processor, cells)]
        place = last
    return [*written, *(token for token, _, _ in tokens[place:])]


def _token_span(
    tokens: Sequence[tuple[int, int, int]], caption: str, span: tuple[int, int]
) -> tuple[int, int]:
    """The tokens that a phrase's characters touch, with a lone space before them, as a prompt has it."""
    start, end = span
    first = next((index for index, token in enumerate(tokens) if token[2] > start), len(tokens))
    last = next((index for index, token in enumerate(tokens) if token[1] >= end), len(tokens))
    if first > 0:
        _, begin, stop = tokens[first - 1]
        if not caption[begin:stop].strip():
            first -= 1
    return first, last


def _object(processor: Kosmos2Processor, cells: Sequence[Cells]) -> list[int]:
    tokens = processor.tokens
    ids = [tokens.object]
    for index, pair in enumerate(cells):
        ids += [tokens.delimiter] if index else []
        ids += [processor.location_token(cell) for cell in pair]
    return [*ids, tokens.object_end]


def _cells(processor: Kosmos2Processor, sample: GroundingSample, box: XYXY, edge: Edge) -> Cells:
    left, top, right, bottom = box
    try:
        normal = (left / sample.width, top / sample.height, right / sample.width, bottom / sample.height)
        return processor.grid.encode(normal, edge=edge)
    except InputError as error:
        raise DataError(f"{sample.name}: {shown(list(box))}: {error}") from error


def _sample(content: Any, folder: Path, where: str) -> GroundingSample:
    image, caption = get(content, "image", str, where), get(content, "caption", str, where)
    if not caption.strip():
        raise DataError(f"{where}.caption: empty")
    path = folder / image
    if not path.is_file():
        raise DataError(f"{where}.image: no such file: {path}")
    phrases = []
    for row, place in get_items(content, "phrases", where) if "phrases" in content else ():
        span = get(row, "span", list, place)
        whole = len(span) == 2 and all(type(edge) is int for edge in span)
        if not whole or not 0 <= span[0] < span[1] <= len(caption):
            right = f"[start, end] within the {len(caption)} characters of the caption"
            raise DataError(f"{place}.span: expected {right}, got {shown(span)}")
        boxes = tuple(_box(box, box_place) for box, box_place in get_items(row, "boxes", place))
        if not boxes:
            raise DataError(f"{place}.boxes: empty; a phrase without a place is plain text")
        start, end = span
        phrases.append(TruePhrase(caption[start:end], (start, end), boxes))
    width, height = picture_size(path)
    return GroundingSample(where, path, width, height, caption, tuple(phrases))


def _box(values: Any, where: str) -> XYXY:
    if not isinstance(values, list) or len(values) != 4:
        raise DataError(f"{where}: expected [left, top, right, bottom] in pixels, got {shown(values)}")
    left, top, right, bottom = (number(value, where) for value in values)
    if right <= left or bottom <= top:
        raise DataError(f"{where}: expected left < right and top < bottom, got {shown(values)}")
    return left, top, right, bottom
