"""The ``serve`` command."""

from __future__ import annotations

import os
import socket

from multiway_core.app import ModelOptions, load_pipeline, note
from multiway_core.errors import InputError

from multiway_lm.app import APP

KEY_VARIABLE = "MULTIWAY_LM_API_KEY"
_GRACE_SECONDS = 5


def serve(
    model: ModelOptions,
    *,
    host: str,
    port: int,
    name: str | None,
    max_concurrency: int,
    max_queue: int,
    max_tokens: int,
    max_bytes: int,
    api_key: str | None,
) -> None:
    """Serve until Ctrl-C. Raises InputError where the address cannot be used."""
    import uvicorn

    from multiway_lm.server import build_server

    listening = _listen(host, port)  # before the model is loaded: a taken port shows at once
    with listening:
        loaded = load_pipeline(APP, model)
        api_key = api_key or os.environ.get(KEY_VARIABLE) or None
        if api_key is None and host not in ("127.0.0.1", "::1", "localhost"):
            note(f"multiway-lm: {host} is reachable from elsewhere, and no key is asked for (--api-key)")
        app = build_server(
            loaded,
            name=name or model.model,
            max_concurrency=max_concurrency,
            max_queue=max_queue,
            max_tokens=max_tokens,
            max_bytes=max_bytes,
            api_key=api_key,
        )
        settings = uvicorn.Config(
            app, log_level="warning", access_log=False, timeout_graceful_shutdown=_GRACE_SECONDS
        )
        where = f"[{host}]" if ":" in host else host
        note(
            f"{name or model.model} is served at http://{where}:{listening.getsockname()[1]}/v1  (Ctrl-C ends it)"
        )
        uvicorn.Server(settings).run(sockets=[listening])


def _listen(host: str, port: int) -> socket.socket:
    listening = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(512)
    except OSError as error:
        if listening is not None:
            listening.close()
        reason = (error.strerror or str(error)).lower()
        raise InputError(f"cannot serve on {host}:{port}: {reason}; give another --host or --port") from error
    return listening
