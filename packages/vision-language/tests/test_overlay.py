"""Annotated pictures: boxes where they belong, labels inside the picture."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from multiway_vision_language.overlay import PALETTE, annotated, colour
from multiway_vision_language.pictures import open_picture
from multiway_vision_language.result import Box, Entity, Grounding
from PIL import Image, ImageColor

GREY = (128, 128, 128)


def result_of(*places, phrase="a dog", size=(300, 200)):
    entities = tuple(Entity(phrase, (0, len(phrase)), (Box(place, (0, 1), 0.5),), 1.0) for place in places)
    return Grounding("x.png", "m", *size, phrase, entities)


def changed(image: Image.Image) -> np.ndarray:
    return (np.asarray(image) != GREY).any(axis=2)


def test_a_box_is_drawn_in_its_colour_where_it_lies():
    picture = open_picture(Image.new("RGB", (300, 200), GREY))
    image = annotated(picture, result_of((40, 80, 140, 160), (200, 100, 260, 190)))
    assert image.size == (300, 200)
    assert picture.image.getpixel((40, 80)) == GREY  # the picture itself stays
    assert image.getpixel((40, 120)) == ImageColor.getrgb(PALETTE[0])
    assert image.getpixel((200, 150)) == ImageColor.getrgb(PALETTE[1])
    rows, columns = np.nonzero(changed(image)[100:])
    assert columns.min() == 40
    assert columns.max() == 259
    assert rows.max() + 100 == 189
    assert image.getpixel((20, 20)) == GREY


def test_of_a_reduced_picture_the_boxes_are_reduced():
    picture = replace(open_picture(Image.new("RGB", (300, 200), GREY)), width=3000, height=2000)
    large = annotated(picture, result_of((400, 800, 1400, 1600), size=(3000, 2000)))
    small = annotated(open_picture(picture.image), result_of((40, 80, 140, 160)))
    assert np.array_equal(np.asarray(large), np.asarray(small))


def test_any_box_any_phrase_any_size():
    phrase = "\x1b[31m\n 犬 " + "very long " * 40
    for size in ((1, 1), (3, 400), (400, 3), (50, 50)):
        picture = open_picture(Image.new("RGB", size, GREY))
        whole = (0.0, 0.0, float(size[0]), float(size[1]))
        sliver = (size[0] - 0.01, size[1] - 0.01, size[0], size[1])
        assert changed(annotated(picture, result_of(whole, sliver, phrase=phrase, size=size))).any()
    nothing = Grounding("x.png", "m", 50, 50, "", (Entity("a cat", (0, 0), (), 0.1),))
    assert not changed(annotated(picture, nothing)).any()


def test_colours_differ_and_are_dark_enough_for_white_text():
    assert len(set(PALETTE)) == len(PALETTE)
    assert colour(len(PALETTE)) == colour(0)
    for name in PALETTE:
        linear = [
            value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4
            for value in (part / 255 for part in ImageColor.getrgb(name))
        ]
        luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
        assert 1.05 / (luminance + 0.05) >= 4.5  # WCAG, text of any size
