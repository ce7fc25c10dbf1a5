"""axe-core finds no serious fault in the home page and in each demo with its example's result, light and dark."""

import pytest
from multiway_core.app import installed_apps

from multiway.home import build_home
from multiway.home.cards import CARDS
from tests.serving import serving

SERIOUS = {"serious", "critical"}
PAGES = ["", *(item.name for item in installed_apps() if item.app is not None and item.app.demo)]
FIRST_RESULT = {
    "asr": "#asr-view .line",
    "tts": "#tts-player .play:not([disabled])",
}  # the whole would take a minute
AT_REST = "* { transition: none !important; animation: none !important; } .pending { opacity: 1 !important; }"


@pytest.fixture(scope="module")
def home(browser):
    with serving(build_home(installed_apps())) as url:
        yield url


def faults(tab) -> list[str]:
    """The rule, the element and the reason of every serious fault that axe sees now."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    violations = axe.run(tab).response["violations"]
    return [
        f"{violation['id']}: {node['html'][:200]}: {node['failureSummary']}"
        for violation in violations
        if violation["impact"] in SERIOUS
        for node in violation["nodes"]
    ]


@pytest.mark.parametrize("name", PAGES, ids=lambda name: name or "home")
def test_no_serious_fault(home, open_tab, name):
    tab = open_tab(f"{home}/{name}?try" if name else home, width=1366)
    if name:
        tab.wait_for_selector(FIRST_RESULT.get(name, CARDS[name].done), state="attached")
    tab.add_style_tag(content=AT_REST)
    found = {"light": faults(tab)}
    tab.emulate_media(color_scheme="dark")
    if name:  # Gradio's pages choose by a class, the home page by the reader's wish
        tab.evaluate("document.body.classList.add('dark')")
    found["dark"] = faults(tab)
    assert found == {"light": [], "dark": []}


def test_a_fault_is_seen(open_tab):
    tab = open_tab("data:text/html,<html lang=en><title>x</title><p style='color:silver'>pale <img src=x>")
    assert {fault.split(":")[0] for fault in faults(tab)} == {"color-contrast", "image-alt"}
