"""A public address for a server on this machine, through Gradio's tunnel."""

from __future__ import annotations

import secrets

from multiway_core.errors import InputError


def open_tunnel(port: int) -> str:
    """The public URL of ``port``. Visitors' files leave the local network. Raises InputError: no tunnel can be had."""
    from gradio.networking import setup_tunnel

    try:
        return setup_tunnel("127.0.0.1", port, secrets.token_urlsafe(32), None, None)
    except Exception as error:  # whatever the download of its client, the network and its server raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"--share: no public tunnel can be opened: {reason}") from error
