"""What the small network's processor does otherwise than Kosmos-2's."""

from __future__ import annotations

import importlib
from dataclasses import replace

import numpy as np
from multiway_vision_language.kosmos2_small.config import GROUNDING_SMALL
from multiway_vision_language.kosmos2_small.processor import SmallProcessor
from PIL import Image

tiny = importlib.import_module("packages.vision-language.tests.tiny_kosmos2")


def test_signs_stand_at_their_words(tmp_path):
    pieces = tiny.train_vocabulary(tmp_path)
    tokens = replace(GROUNDING_SMALL.tokens, num_text_tokens=pieces.vocab_size - len(pieces.special))
    processor = SmallProcessor(replace(GROUNDING_SMALL, tokens=tokens), pieces)
    tagged = (
        "<phrase>a snowman</phrase><object><patch_index_0001><patch_index_0040></object>. It is by a fire."
    )
    written = processor.decode(processor.encode(tagged))
    assert written == tagged.replace("<phrase>", "<phrase> ")
    parsed = processor.parse(written)
    assert parsed.text == "a snowman. It is by a fire."
    assert parsed.entities[0].span == (0, 9)


def test_pixels_are_those_of_the_picture(tmp_path):
    processor = SmallProcessor(GROUNDING_SMALL, tiny.train_vocabulary(tmp_path))
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8))
    pixels = processor.pixels([picture])
    assert pixels.shape == (1, 3, 256, 256)
    assert np.array_equal(pixels[0].permute(1, 2, 0).numpy(), np.asarray(picture))
    assert processor.pixels([]).shape == (0, 3, 256, 256)
