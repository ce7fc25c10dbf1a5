"""Pictures of each app's real result, as the home page and the README show them.

Opens the demo pages in a headless browser, presses "Try it", waits for the result of the bundled model and writes
``card.webp`` (and ``card-dark.webp``) where each app's declaration has its picture; for speech the sound as well.

    uv run --group browser python benchmarks/gallery.py
"""

from __future__ import annotations

import argparse
import io
import shutil
import threading
import time
from pathlib import Path

from multiway_core.app import App, installed_apps
from multiway_core.app.serve.listener import address, listen, server
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from multiway.home import build_home
from multiway.home.cards import CARDS

ROOT = Path(__file__).resolve().parents[1]
WIDTH, HEIGHT = 640, 400
WINDOW = {"width": 1180, "height": 900}
PATIENCE = 90_000  # milliseconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--app", action="append", choices=list(CARDS))
    parser.add_argument("-o", "--output", type=Path, help="one folder for all in place of the apps' own")
    options = parser.parse_args()
    apps = {item.name: item.app for item in installed_apps() if item.app}
    listening = listen("127.0.0.1", 0)
    running = server(build_home(installed_apps()))
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    chromium = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for name in options.app or CARDS:
            for scheme, suffix in (("light", ""), ("dark", "-dark")):
                tab = browser.new_page(viewport=WINDOW, color_scheme=scheme, device_scale_factor=1)
                tab.set_default_timeout(PATIENCE)
                tab.goto(
                    f"{address(listening, '127.0.0.1')}/{name}/?try" + "&__theme=dark" * (scheme == "dark")
                )
                target = (options.output / name) if options.output else _folder(apps[name])
                target.mkdir(parents=True, exist_ok=True)
                started = time.monotonic()
                picture = take(tab, name)
                path = target / f"card{suffix}.webp"
                picture.save(path, "WEBP", quality=80, method=6)
                print(
                    f"{path}: {path.stat().st_size:,} bytes, {time.monotonic() - started:.0f} s", flush=True
                )
                if name == "tts" and scheme == "light":
                    save_sound(tab, target / "card-sound.mp3")
                tab.close()
        browser.close()
    running.should_exit = True
    thread.join()


def take(tab: Page, name: str) -> Image.Image:
    """The part of the page with the result, at the card's shape."""
    card = CARDS[name]
    tab.wait_for_selector(card.done, state="attached")
    tab.wait_for_timeout(2500)
    for slider in tab.query_selector_all("#events-view input.time"):
        slider.evaluate(
            "e => { e.value = 0.75 * e.max; e.dispatchEvent(new Event('input', {bubbles: true})) }"
        )
    part = tab.query_selector(card.result)
    assert part is not None
    part.scroll_into_view_if_needed()
    shot = Image.open(io.BytesIO(part.screenshot())).convert("RGB")
    height = min(shot.height, round(shot.width * HEIGHT / WIDTH))
    shot = shot.crop((0, 0, shot.width, height)).resize(
        (WIDTH, round(height * WIDTH / shot.width)), Image.Resampling.LANCZOS
    )
    whole = Image.new("RGB", (WIDTH, HEIGHT), shot.getpixel((1, shot.height - 1)))
    whole.paste(shot, (0, (HEIGHT - shot.height) // 2))
    return whole


def save_sound(tab: Page, path: Path) -> None:
    """The speech that the page made, as MP3."""
    import soundfile

    with tab.expect_download() as download:
        tab.click("#tts-get-wav")
    samples, rate = soundfile.read(str(download.value.path()), dtype="int16")
    soundfile.write(str(path), samples, rate, format="MP3")


def _folder(app: App) -> Path:
    assert app.picture is not None
    return (ROOT / "apps" / app.name / "src" / app.package / app.picture).parent


if __name__ == "__main__":
    main()
