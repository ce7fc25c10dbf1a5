"""The picture of an explanation: whole XML, nothing outside its frame, hostile titles stay text."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from multiway_recsys.serving.explanation import Article, Explanation, Hop, Occlusion
from multiway_recsys.serving.explanation_svg import explanation_svg

SVG = "{http://www.w3.org/2000/svg}"


def article(number, title=None):
    return Article(
        number, f"N{number}", title if title is not None else f"Title of article number {number}", "sport"
    )


def explanation(hops, clicks=9, continues=None, title=None):
    chain = tuple(Hop(article(i), 300 // i, 0.1 * i, 0.1) for i in range(1, hops + 1))
    history = tuple((article(100 + i, title), 0.1 + 0.01 * i) for i in range(clicks))
    return Explanation(
        text="why",
        click=history[2][0],
        click_share=0.12,
        chain=chain,
        continues=hops - 1 if continues is None and hops else continues,
        occlusion=Occlusion(-0.4, -0.1, -0.2),
        clicks=history,
        branches=tuple((Hop(article(200 + i), 2, 0.1),) for i in range(hops)),
    )


PARTS = {"text": 0.8, "neighbours": 0.3, "chains": -0.1, "popularity": 0.2}


@pytest.mark.parametrize("hops", [0, 1, 2, 5, 8, 12])
def test_it_is_a_whole_picture_inside_its_frame(hops):
    root = ElementTree.fromstring(explanation_svg(explanation(hops), article(7), PARTS, 1.2))
    width, height = (float(root.get(name)) for name in ("width", "height"))
    assert root.get("viewBox") == f"0 0 {width:.0f} {height:.0f}"
    for rect in root.iter(SVG + "rect"):
        x, y, w, h = (float(rect.get(name)) for name in ("x", "y", "width", "height"))
        assert 0 <= x <= x + w <= width
        assert 0 <= y <= y + h <= height
    texts = ["".join(node.itertext()) for node in root.iter(SVG + "text")]
    assert "score 1.20, made of" in texts
    assert "\N{MINUS SIGN}0.10" in texts
    titles = ["".join(node.itertext()) for node in root.iter(SVG + "title")]
    for number in range(1, hops + 1):
        assert any(f"(N{number}, sport)" in title for title in titles)
    assert any("(N102, sport)" in title for title in titles)  # the explained click is among those shown


def test_cards_do_not_lie_on_each_other():
    root = ElementTree.fromstring(explanation_svg(explanation(8), article(7), PARTS, 1.2))
    cards = [
        tuple(float(rect.get(name)) for name in ("x", "y", "width", "height"))
        for rect in root.iter(SVG + "rect")
        if rect.get("rx") == "7"
    ]
    assert len(cards) == 7 + 8 + 1
    for i, (x, y, w, h) in enumerate(cards):
        for x2, y2, w2, h2 in cards[:i]:
            assert x + w <= x2 or x2 + w2 <= x or y + h <= y2 or y2 + h2 <= y


@pytest.mark.parametrize(
    "title",
    [
        "</text><script>alert(1)</script>",
        'a "quoted" & <b>bold</b>',
        "\x00\x07\x1b[31m",
        "",
        "長い見出し" * 30,
        "W" * 400,
    ],
)
def test_hostile_and_odd_titles_stay_text(title):
    picture = explanation_svg(explanation(3, title=title), article(7, title), PARTS, 1.2)
    root = ElementTree.fromstring(picture)
    assert not [
        node
        for node in root.iter()
        if node.tag.removeprefix(SVG) in ("script", "b", "foreignObject", "image")
    ]
    assert not re.search(r"\son\w+=", re.sub(r">[^<]*<", "><", picture))


def test_faded_after_the_place_that_it_continues():
    root = ElementTree.fromstring(explanation_svg(explanation(6, continues=2), article(7), PARTS, 1.2))
    opacities = [group.get("opacity") for group in root.iter(SVG + "g") if group.get("opacity")]
    assert opacities == ["1.0", "1.0", "1.0", "0.5", "0.5"]  # and of what is behind, two steps


def test_a_rule_has_no_way_to_draw():
    root = ElementTree.fromstring(
        explanation_svg(Explanation("popular and new"), article(7), {"popularity": 1.0}, 1.0)
    )
    assert not list(root.iter(SVG + "path"))
