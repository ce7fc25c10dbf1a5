"""The demo in a real browser: chat, continue, score, look at a token. Skips without Chromium or Playwright."""

from __future__ import annotations

import pytest
from multiway_core.app import launch


@pytest.fixture(scope="module")
def url(browser, folder):
    from multiway_lm.demo import build_demo

    blocks = build_demo(str(folder), device="cpu")
    yield launch(blocks, block=False)
    blocks.close(verbose=False)


@pytest.fixture
def tab(open_tab, url):
    tab = open_tab(url)
    tab.wait_for_selector("#lm-chat-tokens .text", state="attached")
    tab.wait_for_timeout(1000)  # until the page's components listen
    return tab


def press(tab, button, sign) -> None:
    """Click until it shows: a page on a busy machine may be drawn before it listens."""
    playwright_api = pytest.importorskip("playwright.sync_api")
    for _ in range(8):
        tab.click(button)
        try:
            tab.wait_for_function(sign, timeout=30_000)
            return
        except playwright_api.TimeoutError:
            continue
    raise AssertionError(f"{button} does nothing: {tab.locator('body').inner_text()}")


def test_chat_continue_score(tab, url, keep) -> None:
    keep(tab, "start")
    tab.locator("#lm-message").scroll_into_view_if_needed()
    tab.fill("#lm-message textarea, #lm-message input", "hello <b>there</b>")
    press(tab, "#lm-send", "document.querySelectorAll('#lm-chat [data-testid=user]').length > 0")
    tab.wait_for_function(
        "document.querySelector('#lm-chat-tokens .summary').textContent.includes('written')"
    )
    keep(tab, "chat")
    assert tab.locator("#lm-chat [data-testid=bot]").count() == 1
    assert "hello <b>there</b>" in tab.locator("#lm-chat [data-testid=user]").inner_text()  # no markup
    tokens = tab.locator("#lm-chat-tokens .token")
    assert tokens.count() >= 1
    tokens.nth(0).click()
    assert tab.locator("#lm-chat-tokens .bars .row").count() >= 8
    assert "bits" in tab.locator("#lm-chat-tokens .chosen-token .number").inner_text()
    keep(tab, "token")
    tab.click("#lm-reset")
    tab.wait_for_function("document.querySelectorAll('#lm-chat [data-testid=user]').length === 0")

    tab.get_by_role("tab", name="Continue").click()
    tab.click("#lm-go")
    tab.wait_for_function(
        "document.querySelector('#lm-prompt-tokens .summary').textContent.includes('written')"
    )
    assert tab.locator("#lm-continuation textarea").input_value()
    keep(tab, "continue")

    tab.get_by_role("tab", name="Score").click()
    tab.click("#lm-judge")
    tab.wait_for_function(
        "document.querySelector('#lm-text-tokens .summary').textContent.includes('bits per byte')"
    )
    tokens = tab.locator("#lm-text-tokens .token")
    text = tab.locator("#lm-text textarea").input_value()
    assert "".join(tokens.all_text_contents()) == text
    keep(tab, "score")
    assert tab.errors == []
    assert tab.hosts <= {url.split("/")[2], ""}  # nothing is fetched from anywhere else


def test_what_is_wrong_is_a_message(tab, keep) -> None:
    press(tab, "#lm-send", "document.querySelector('.toast-body') !== null")
    assert "write a message first" in tab.wait_for_selector(".toast-body").inner_text()
    tab.fill("#lm-message textarea, #lm-message input", "word " * 400)
    tab.click("#lm-send")
    tab.wait_for_function(
        "[...document.querySelectorAll('.toast-body')].some(toast => toast.innerText.includes('context'))"
    )
    keep(tab, "too-long")
    assert tab.locator("#lm-message textarea, #lm-message input").input_value().startswith("word word")
