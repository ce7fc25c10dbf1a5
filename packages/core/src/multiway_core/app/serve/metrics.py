"""Counters of a server for Prometheus."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

if TYPE_CHECKING:
    from multiway_core.app.serve.service import Endpoint

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class Metrics:
    """Requests by path and status, their seconds, models in memory, and requests that run or wait."""

    media_type = "text/plain; version=0.0.4; charset=utf-8"

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "multiway_requests", "Requests answered.", ["path", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "multiway_request_seconds",
            "From a request to the end of its answer.",
            ["path"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        loaded = Gauge(
            "multiway_model_loaded", "Whether the model is in memory.", ["model"], registry=self.registry
        )
        pending = Gauge("multiway_pending", "Requests that run or wait.", ["model"], registry=self.registry)
        for each in endpoints:
            loaded.labels(each.id).set_function(partial(_is_loaded, each))
            pending.labels(each.id).set_function(partial(_pending, each))

    def text(self) -> bytes:
        """All of them in Prometheus' text format."""
        return generate_latest(self.registry)

    class Middleware:
        """ASGI middleware that counts."""

        def __init__(self, app: Any, metrics: Metrics) -> None:
            self.app, self.metrics = app, metrics

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] != "http":
                await self.app(scope, receive, send)
                return
            status = 500
            started = time.monotonic()

            async def watched(message: Any) -> None:
                nonlocal status
                status = message.get("status", status)
                await send(message)

            try:
                await self.app(scope, receive, watched)
            finally:
                # An unknown path is not kept: clients could fill the memory with names.
                path = getattr(scope.get("route"), "path", "other")
                self.metrics.requests.labels(path, str(status)).inc()
                self.metrics.seconds.labels(path).observe(time.monotonic() - started)


def _is_loaded(endpoint: Endpoint) -> float:
    return float(endpoint.model.loaded is not None)


def _pending(endpoint: Endpoint) -> float:
    return float(endpoint.pending)
