"""The ``serve`` command."""

from __future__ import annotations

import os

from multiway_core.app import ModelOptions, load_pipeline, note

from multiway_lm.app import APP

KEY_VARIABLE = "MULTIWAY_LM_API_KEY"


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
    from multiway_core.app.serve.hosts import allowed_hosts
    from multiway_core.app.serve.listener import address, listen, serve_until_interrupted

    from multiway_lm.server import build_server

    listening = listen(host, port)  # before the model is loaded: a taken port shows at once
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
            hosts=allowed_hosts(host),
        )
        served = f"{name or model.model} is served at {address(listening, host)}/v1"
        serve_until_interrupted(app, listening, served)
