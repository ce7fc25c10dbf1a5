"""Before a request is read: its size, its time, and who sends it."""

from __future__ import annotations

import asyncio
import hmac
import json
from typing import Any

from multiway_core.app.serve.errors import error_body

MAX_BYTES = 32 << 20
_MAX_DRAINED = (
    64 << 20
)  # of a body that is too large, so that its sender reads the answer and not a broken pipe
BODY_SECONDS = 30.0  # for a body to arrive


class Gate:
    """ASGI middleware: 413 for a larger body than ``max_bytes``, 408 for a slow one, 401 without the key."""

    def __init__(self, app: Any, *, max_bytes: int = MAX_BYTES, api_key: str | None = None) -> None:
        self.app, self.max_bytes, self.api_key = app, max_bytes, api_key

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if self.api_key is not None and scope["path"].startswith("/v1/") and not self._knows(scope):
            await refuse(send, 401, "a valid API key is needed: Authorization: Bearer KEY", "invalid_api_key")
            return
        try:
            async with asyncio.timeout(BODY_SECONDS):
                body = await self._read(receive)
        except TimeoutError:
            await refuse(send, 408, f"the request did not arrive within {BODY_SECONDS:.0f} s", None)
            return
        if body is None:
            message = f"the request is larger than {self.max_bytes} bytes"
            await refuse(send, 413, message, "request_too_large")
            return
        given = False

        async def replay() -> Any:
            nonlocal given
            if given:
                return await receive()  # what comes next is that the client left
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self.app(scope, replay, send)

    async def _read(self, receive: Any) -> bytes | None:
        """The whole body; None if it is too large."""
        parts, size, more = [], 0, True
        while more and size <= _MAX_DRAINED:
            message = await receive()
            if message["type"] == "http.disconnect":
                break
            part = message.get("body", b"")
            size += len(part)
            if size <= self.max_bytes:
                parts.append(part)
            else:
                parts.clear()
            more = message.get("more_body", False)
        return b"".join(parts) if size <= self.max_bytes else None

    def _knows(self, scope: Any) -> bool:
        header = dict(scope["headers"]).get(b"authorization", b"")
        scheme, _, given = header.partition(b" ")
        return scheme.lower() == b"bearer" and hmac.compare_digest(given.strip(), self.api_key.encode())  # type: ignore[union-attr]


async def refuse(send: Any, status: int, message: str, code: str | None) -> None:
    """Send an error as the whole response."""
    body = json.dumps(error_body(message, code=code)).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
