"""The socket of a server, and the loop that serves an ASGI application on it."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from multiway_core.app.command import note
from multiway_core.errors import InputError, os_reason

HEADER_SECONDS = 10.0
_GRACE_SECONDS = 5
_BACKLOG = 512


def listen(host: str, port: int | None, *, first: int = 8000) -> socket.socket:
    """A listening socket; ``port`` 0 takes any free one, None the first free one from ``first`` on.

    Raises InputError: the address cannot be used.
    """
    error: OSError | None = None
    for number in [port] if port is not None else range(first, first + 100):
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(host, number, type=socket.SOCK_STREAM)[0]
            listening = socket.socket(family, kind, protocol)
            try:
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listening.bind(address)
                listening.listen(_BACKLOG)
            except OSError:
                listening.close()
                raise
            return listening
        except OSError as failure:
            error = failure
    assert error is not None
    where = host if port is None else f"{host}:{port}"
    reason = os_reason(error)
    raise InputError(f"cannot serve on {where}: {reason}; give another --host or --port") from error


def address(listening: socket.socket, host: str) -> str:
    """The URL of a listening socket, as a browser takes it."""
    shown = f"[{host}]" if ":" in host else "127.0.0.1" if host == "0.0.0.0" else host
    return f"http://{shown}:{listening.getsockname()[1]}"


def server(application: Any) -> Any:
    """A ``uvicorn.Server`` of an ASGI application; connections whose headers do not come are closed."""
    import uvicorn

    return uvicorn.Server(
        uvicorn.Config(
            application,
            http=_protocol(),
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=_GRACE_SECONDS,
        )
    )


def serve_until_interrupted(application: Any, listening: socket.socket, message: str) -> None:
    """Print ``message`` and serve until Ctrl-C or SIGTERM."""
    with listening:
        note(f"{message}  (Ctrl-C ends it)")
        server(application).run(sockets=[listening])


def _protocol() -> type[asyncio.Protocol]:
    import h11
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class TimedProtocol(H11Protocol):
        """HTTP/1.1 on a connection that must send each request's headers within ``HEADER_SECONDS``."""

        _timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._expect_headers(waiting=True)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            pending = self.conn.their_state is h11.IDLE and bool(self.conn.trailing_data[0])
            self._expect_headers(waiting=pending)

        def connection_lost(self, exc: Exception | None) -> None:
            self._expect_headers(waiting=False)
            super().connection_lost(exc)

        def _expect_headers(self, *, waiting: bool) -> None:
            if not waiting and self._timer is not None:
                self._timer.cancel()
                self._timer = None
            elif waiting and self._timer is None:
                self._timer = self.loop.call_later(HEADER_SECONDS, self.transport.close)

    return TimedProtocol
