"""A demo that is built when it is asked for first."""

from __future__ import annotations

import asyncio
import html
import json
import threading
from importlib import resources
from string import Template
from typing import Any

from fastapi import FastAPI
from fastapi.responses import HTMLResponse
from multiway_core.app import InstalledApp, note
from multiway_core.app.command import describe
from multiway_core.app.frame import mount

from multiway.home.cards import CARDS, Card

_building = threading.Lock()  # Gradio keeps the Blocks that are being built in one global place


class LazyDemo:
    """ASGI application of one app's demo, at ``/<name>/``.

    A browser that comes before the demo is ready gets a page that asks again; other clients wait. A demo that cannot
    be built answers 503 with the reason; the next visitor tries again.
    """

    def __init__(self, item: InstalledApp) -> None:
        assert item.app is not None
        self.item, self.declared = item, item.app
        self._server: FastAPI | None = None
        self._building: asyncio.Task[FastAPI] | None = None
        self._living: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if self._server is None:
            if self._building is None:
                self._building = asyncio.create_task(self._open())
            wants_page = scope.get("method") == "GET" and scope["path"] == f"/{self.item.name}/"
            await asyncio.wait([self._building], timeout=0.5 if wants_page else None)
            if not self._building.done():
                await HTMLResponse(_page("loading", self.declared.title))(scope, receive, send)
                return
            error = self._building.exception()
            if error is not None:
                self._building = None
                reason = describe(error)
                note(f"multiway: the demo of {self.item.name} cannot be built: {reason}")
                page = _page("failed", self.declared.title, html.escape(reason))
                await HTMLResponse(page, 503)(scope, receive, send)
                return
            self._server = self._building.result()
        await self._server(scope, receive, send)

    async def close(self) -> None:
        """End the demo's own tasks."""
        self._stop.set()
        if self._living is not None:
            await self._living

    async def _open(self) -> FastAPI:
        server = await asyncio.get_running_loop().run_in_executor(None, self._build)
        ready = asyncio.Event()

        async def live() -> None:
            async with server.router.lifespan_context(server):
                ready.set()
                await self._stop.wait()

        self._living = asyncio.create_task(live())
        await ready.wait()
        return server

    def _build(self) -> FastAPI:
        card = CARDS.get(self.item.name, Card())
        script = (resources.files("multiway.home") / "demo.js").read_text("utf-8")
        head = f"<script>const multiwaySteps = {json.dumps(card.steps)};\n{script}</script>"
        with _building:
            server, demo = FastAPI(openapi_url=None), self.declared.load("demo")()
            if isinstance(demo, FastAPI):  # a page of the app's own, such as a viewer that asks for tiles
                server.mount(f"/{self.item.name}", demo)
            else:
                mount(server, demo, f"/{self.item.name}", head=head)
        return server


def _page(kind: str, title: str, reason: str = "") -> str:
    files = resources.files("multiway.home")
    if kind == "loading":
        refresh, line = "<meta http-equiv='refresh' content='1'>", "The model is being loaded ..."
    else:
        refresh, line = "", f"This demo cannot be shown: {reason}"
    return Template((files / "wait.html").read_text("utf-8")).substitute(
        style=(files / "home.css").read_text("utf-8"), title=html.escape(title), refresh=refresh, line=line
    )
