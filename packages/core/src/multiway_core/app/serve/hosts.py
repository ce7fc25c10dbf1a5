"""Which names a server answers to.

A page of any site can make a browser send requests to an address of this machine under a name of its own (DNS
rebinding); such requests carry that name in their ``Host`` header and are refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from multiway_core.app.serve.gate import refuse

LOOPBACK = ("localhost", "127.0.0.1", "::1")


class HostGate:
    """ASGI middleware: 421 for a ``Host`` that is not one of ``hosts``; ``"*"`` allows all."""

    def __init__(self, app: Any, hosts: Iterable[str]) -> None:
        self.app, self.hosts = app, frozenset(host.lower() for host in hosts)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and "*" not in self.hosts:
            host = next((value for name, value in scope["headers"] if name == b"host"), b"").decode("latin-1")
            if host_name(host) not in self.hosts:
                message = "this server does not answer to that host name; see --allow-host"
                await refuse(send, 421, message, "host_not_allowed")
                return
        await self.app(scope, receive, send)


def allowed_hosts(host: str, more: Iterable[str] = ()) -> tuple[str, ...]:
    """The names of a server on ``host``: its own, those of this machine, and ``more``.

    A server on all interfaces has names that it cannot know: it answers to all unless ``more`` names some.
    """
    named = tuple(more)
    if host in ("0.0.0.0", "::", "") and not named:
        return ("*",)
    return (*LOOPBACK, host, *named)


def host_name(header: str) -> str:
    """The name in a ``Host`` header without its port, in lower case; brackets of an IPv6 address go."""
    header = header.strip().lower()
    if header.startswith("["):
        return header[1:].partition("]")[0]
    return header.rpartition(":")[0] if header.count(":") == 1 else header
