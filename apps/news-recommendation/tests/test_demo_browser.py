"""The demo in a real browser: choose a reader, see why, take the chains away. Skips without Chromium or Playwright."""

from __future__ import annotations

import pytest
from multiway_core.app import launch


@pytest.fixture(scope="module")
def url(browser, world):
    from multiway_news_recommendation.demo import build_demo

    blocks = build_demo(str(world.model), device="cpu")
    yield launch(blocks, block=False)
    blocks.close(verbose=False)


@pytest.fixture
def tab(open_tab, url):
    tab = open_tab(url, height=1000)
    tab.wait_for_selector("#news-view .item")
    tab.wait_for_timeout(1000)  # until the page's components listen
    return tab


def test_choose_see_why_and_take_the_chains_away(tab, url, keep):
    rows = tab.locator("#news-view .item")
    assert rows.count() == 10
    assert "Simulated portal" in tab.locator("#news-view .badge").inner_text()
    assert tab.locator("#news-view .picture svg").count() == 1
    start = keep(tab, "news-start")

    # Another row: its own reasons and its own picture.
    first = tab.locator("#news-view .why .text").inner_text()
    rows.nth(3).click()
    assert "chosen" in rows.nth(3).get_attribute("class")
    assert tab.locator("#news-view .why .text").inner_text() != first
    assert tab.locator("#news-view .checks tr").count() >= 2
    picture = tab.locator("#news-view .picture svg").bounding_box()
    frame = tab.locator("#news-view .picture").bounding_box()
    assert frame["x"] <= picture["x"]
    assert picture["width"] <= frame["width"]
    assert keep(tab, "news-chosen") != start

    # Without chains: ranked anew, with the change of each place.
    tab.click("#news-chains input")
    tab.wait_for_function(
        "document.querySelector('#news-view .summary').textContent.includes('without chains')"
    )
    assert all(text.strip() for text in tab.locator("#news-view .move").all_inner_texts())
    keep(tab, "news-without-chains")
    tab.click("#news-chains input")
    tab.wait_for_function(
        "!document.querySelector('#news-view .summary').textContent.includes('without chains')"
    )

    # A new reader.
    tab.fill("#news-history textarea", "")
    tab.click("#news-run")
    tab.wait_for_function("document.querySelector('#news-view .summary').textContent.includes('new reader')")
    assert rows.count() == 10
    keep(tab, "news-new-reader")

    # A mistake is a message in the page.
    tab.fill("#news-history textarea", "N1, " + 300 * "x")
    tab.click("#news-run")
    assert "is no id" in tab.wait_for_selector(".toast-body").inner_text()

    assert tab.errors == []
    assert tab.hosts <= {url.split("/")[2], ""}  # nothing is fetched from anywhere else
