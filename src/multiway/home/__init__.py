"""The home page of ``multiway demo``: a card for each app, and each app's demo at its own address.

A demo is built, and its model loaded, when its address is opened first; until then a page says that it loads.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from importlib import resources
from string import Template
from typing import Any

from fastapi import FastAPI
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse, Response
from multiway_core.app import InstalledApp
from multiway_core.app.serve.hosts import HostGate

from multiway.home.cards import CARDS, Card
from multiway.home.lazy_demo import LazyDemo


def build_home(apps: Sequence[InstalledApp], *, hosts: Sequence[str] = ("*",)) -> FastAPI:
    """The ASGI application with the home page at ``/`` and every app's demo at ``/<name>/``.

    An app that cannot be loaded has its reason on its card; one whose demo cannot be built, at its address.
    ``hosts``: names that the server answers to.
    """
    apps = sorted(apps, key=_place)
    demos = {item.name: LazyDemo(item) for item in apps if item.app is not None and item.app.demo is not None}
    page = _page(apps, demos)
    home = FastAPI(title="Multiway", openapi_url=None)

    @home.get("/")
    async def index() -> Response:
        return HTMLResponse(page)

    @home.get("/pictures/{name}/{file}")
    async def picture(name: str, file: str) -> Response:
        path = next((path for path in _pictures(apps, name) if path.name == file), None)
        return Response(status_code=404) if path is None else FileResponse(path)

    home.add_middleware(_Demos, demos=demos)
    home.add_middleware(HostGate, hosts=hosts)
    return home


class _Demos:
    """ASGI middleware: what lies under ``/<name>/`` goes to that app's demo with its path as it is."""

    def __init__(self, app: Any, demos: dict[str, LazyDemo]) -> None:
        self.app, self.demos = app, demos

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            try:
                await self.app(scope, receive, send)
            finally:
                for each in self.demos.values():
                    await each.close()
            return
        name, slash, _ = scope["path"].lstrip("/").partition("/")
        demo = self.demos.get(name)
        if demo is None:
            await self.app(scope, receive, send)
        elif slash:
            await demo(scope, receive, send)
        else:
            query = scope["query_string"].decode("latin-1")
            await RedirectResponse(f"/{name}/" + (f"?{query}" if query else ""))(scope, receive, send)


def _place(item: InstalledApp) -> tuple[int, str]:
    names = list(CARDS)
    return names.index(item.name) if item.name in names else len(names), item.name


def _pictures(apps: Sequence[InstalledApp], name: str) -> list[Any]:
    """The files that an app's card shows: its picture, the same for dark pages, and a sound."""
    path = next((item.app.picture_path() for item in apps if item.app and item.name == name), None)
    return [] if path is None else sorted(path.parent.glob(f"{path.stem}*.*"))


def _page(apps: Sequence[InstalledApp], demos: dict[str, LazyDemo]) -> str:
    files = resources.files("multiway.home")
    template = Template((files / "home.html").read_text("utf-8"))
    cards = "\n".join(_card(item, apps, item.name in demos) for item in apps)
    return template.substitute(style=(files / "home.css").read_text("utf-8"), cards=cards)


def _card(item: InstalledApp, apps: Sequence[InstalledApp], has_demo: bool) -> str:
    name = html.escape(item.name)
    if item.app is None:
        reason = html.escape(item.problem or "it cannot be loaded")
        return f"<li class='card broken'><h2>{name}</h2><p>This app cannot be loaded: {reason}</p></li>"
    card = CARDS.get(item.name, Card())
    title = html.escape(item.app.title.removeprefix("Multiway "))
    parts = []
    files = {path.stem.partition("-")[2] + path.suffix: path.name for path in _pictures(apps, item.name)}
    source = f"/pictures/{name}/"
    if ".webp" in files:
        dark = files.get("dark.webp", files[".webp"])
        parts.append(
            f"<picture><source srcset='{source}{dark}' media='(prefers-color-scheme: dark)'>"
            f"<img src='{source}{files['.webp']}' alt='{html.escape(card.picture, quote=True)}' "
            "width='640' height='400' loading='lazy'></picture>"
        )
    if "sound.mp3" in files:
        parts.append(
            f"<audio controls preload='none' src='{source}{files['sound.mp3']}' "
            f"aria-label='{html.escape(card.sound, quote=True)}'></audio>"
        )
    parts += [f"<h2>{title}</h2>", f"<p>{html.escape(item.app.description)}</p>"]
    links = []
    if has_demo and card.steps:
        links.append(
            f"<a class='try' href='/{name}/?try'>Try it<span class='hidden'>: {title} with an example</span></a>"
        )
    if has_demo:
        links.append(f"<a href='/{name}/'>Open<span class='hidden'> {title}</span></a>")
    links.append(f"<code>{html.escape(item.app.program)}</code>")
    parts.append(f"<div class='links'>{''.join(links)}</div>")
    return f"<li class='card' id='{name}'>{''.join(parts)}</li>"
