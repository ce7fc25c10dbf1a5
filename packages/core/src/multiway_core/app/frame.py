"""The Gradio frame of every demo: theme, header, queue, limits, and errors as messages."""

from __future__ import annotations

import functools
import html
import inspect
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from multiway_core.app.command import describe, note
from multiway_core.app.examples import private_folder
from multiway_core.errors import InputError, MultiwayError

if TYPE_CHECKING:
    import fastapi
    import gradio

MAX_FILE_SIZE = "20mb"
MAX_QUEUE = 64
_CACHE_SECONDS = 3600
_ATTEMPTS = 3
# Local fonts only: a demo must look the same without a network.
_SANS = ("system-ui", "-apple-system", "Segoe UI", "Cantarell", "DejaVu Sans", "sans-serif")
_MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "DejaVu Sans Mono", "monospace")

_CSS = """
.gradio-container { --mw-ink: #1f3a68; width: 100%; max-width: 1680px !important; margin: 0 auto !important; }
.mw-header { padding: 0; }
.mw-header h1 { font-size: 1.5rem; font-weight: 650; margin: 0; letter-spacing: -0.01em; }
.mw-header p { margin: 2px 0 0; color: var(--body-text-color-subdued); font-size: 0.95rem; }
.mw-header a { color: var(--link-text-color); font-size: 0.9rem; }
/* The label of an upload area stands on its first line: what else is in it begins below. */
.gradio-container .block:has(> label.float) .upload-container .wrap { padding-top: 26px; }
.gradio-container .upload-container .icon-wrap { height: 18px; margin-bottom: 2px; }
"""

# On a phone one column, as wide as the screen whatever a column asks for (Gradio rewrites media queries in its css).
# Gradio numbers a gallery's pictures and calls every upload area the same: the script says what each is.
_HEAD = """<style>
.dark button[role=tab][aria-selected=true] { color: var(--link-text-color) !important; }
@media (max-width: 700px) {
  .gradio-container .row > .column { min-width: 100% !important; flex-grow: 1 !important; }
  .gradio-container main.app { padding: 12px 8px !important; }
}
</style><script>
new MutationObserver(() => {
  const name = (part, text) => part.getAttribute("aria-label") !== text && part.setAttribute("aria-label", text);
  for (const part of document.querySelectorAll(".thumbnail-item:has(.caption-label)")) {
    name(part, part.querySelector(".caption-label").textContent);
    part.querySelector("img")?.setAttribute("alt", "");
  }
  for (const part of document.querySelectorAll(".upload-container")) {
    const label = part.parentElement.querySelector("label[data-testid=block-label]");
    name(part, `${label ? label.textContent.trim() + ": " : ""}${part.innerText.replace(/\\s+/g, " ").trim()}`);
  }
}).observe(document.documentElement, { childList: true, subtree: true });
</script>"""


def _gradio() -> Any:
    """Gradio, imported late (it takes seconds) and with everything that calls home switched off before."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    if not os.environ.get(
        "GRADIO_TEMP_DIR"
    ):  # its own choice is a folder that any user of the machine can take first
        os.environ["GRADIO_TEMP_DIR"] = str(private_folder("gradio"))
    try:
        import gradio
    except ImportError as error:
        raise InputError("the demo needs Gradio: pip install 'multiway-core[app]'") from error
    return gradio


@contextmanager
def frame(title: str, description: str) -> Iterator[gradio.Blocks]:
    """Gradio Blocks with the house's header, to be filled in the ``with`` block.

    Files that a visitor uploaded or made are removed an hour later.
    """
    gr = _gradio()

    class Blocks(gr.Blocks):  # type: ignore[name-defined]
        async def process_api(self, *args: Any, **kwargs: Any) -> Any:
            """Values that no component takes get a message too, where Gradio would answer ``{"error": null}``."""
            try:
                return await super().process_api(*args, **kwargs)
            except Exception as error:
                if isinstance(error, gr.Error | MultiwayError):
                    raise _as_message(error) from error
                raise gr.Error(f"this page does not take such values ({type(error).__name__})") from error

    with Blocks(
        title=title, analytics_enabled=False, fill_width=True, delete_cache=(_CACHE_SECONDS, _CACHE_SECONDS)
    ) as blocks:
        gr.HTML(
            f"<div class='mw-header'><h1>{html.escape(title)}</h1><p>{html.escape(description)}</p></div>",
            apply_default_css=False,
        )
        yield blocks


def mount(server: fastapi.FastAPI, blocks: gradio.Blocks, path: str, *, head: str = "") -> None:
    """Serve ``blocks`` at ``path`` of a FastAPI application, as :func:`launch` serves them alone.

    ``head``: HTML for the page's head. The blocks' own tasks run in the application's lifespan.
    """
    gr = _gradio()
    blocks.queue(max_size=MAX_QUEUE, default_concurrency_limit=1)
    gr.mount_gradio_app(
        server,
        blocks,
        path,
        max_file_size=MAX_FILE_SIZE,
        theme=_theme(gr),
        css=_CSS,
        head=_HEAD + head,
        footer_links=[],
        ssr_mode=False,
        show_error=False,
        run_history=False,
        allowed_paths=[str(private_folder("examples"))],
    )


def launch(
    blocks: gradio.Blocks,
    host: str = "127.0.0.1",
    port: int | None = None,
    *,
    hosts: Iterable[str] = (),
    share: bool = False,
    max_file_size: str = MAX_FILE_SIZE,
    max_queue: int = MAX_QUEUE,
    block: bool = True,
) -> str:
    """Serve ``blocks`` and return the address; with ``block`` only after Ctrl-C.

    Requests wait in a queue of ``max_queue`` and one runs at a time (the model already uses all cores);
    larger uploads than ``max_file_size`` are refused. Only Gradio's own cache and the examples are served.

    Args:
        port: None takes the first free one from 7860 on.
        hosts: names that the page answers to, beside its own and this machine's (a public tunnel has any name).
        share: open a public tunnel (needs the internet; the visitor's files leave the local network).

    Raises:
        InputError: the address or port cannot be used.
    """
    gr = _gradio()
    from starlette.middleware import Middleware

    from multiway_core.app.serve.hosts import HostGate, allowed_hosts

    names = ("*",) if share else allowed_hosts(host, hosts)
    blocks.queue(max_size=max_queue, default_concurrency_limit=1)
    no_proxy_for_loopback()
    where = host if port is None else f"{host}:{port}"
    for attempt in range(_ATTEMPTS):
        try:
            _, local, public = blocks.launch(
                server_name=host,
                server_port=port,
                share=share,
                max_file_size=max_file_size,
                theme=_theme(gr),
                css=_CSS,
                head=_HEAD,
                footer_links=[],
                ssr_mode=False,
                quiet=True,
                show_error=False,
                prevent_thread_lock=True,
                allowed_paths=[str(private_folder("examples"))],
                app_kwargs={"middleware": [Middleware(HostGate, hosts=names)]},
            )
            break
        except (OSError, ValueError) as error:
            blocks.close(verbose=False)
            slow = "localhost is not accessible" in str(error)  # Gradio asks its own page once
            if not slow or attempt == _ATTEMPTS - 1:
                raise InputError(f"cannot serve the demo on {where}: {describe_os(error)}") from error
    note(f"The demo is open at {local}" + (f" and {public}" if public else "") + "  (Ctrl-C ends it)")
    if block:
        try:
            blocks.block_thread()
        finally:
            blocks.close(verbose=False)
    return local


def no_proxy_for_loopback() -> None:
    """Let requests of this process to this machine go past ``HTTP_PROXY``."""
    for variable in ("NO_PROXY", "no_proxy"):
        hosts = [host for host in os.environ.get(variable, "").split(",") if host]
        hosts += [host for host in ("localhost", "127.0.0.1", "::1") if host not in hosts]
        os.environ[variable] = ",".join(hosts)


def describe_os(error: Exception) -> str:
    """The reason of a failed launch without Gradio's advice about its own parameters."""
    text = getattr(error, "strerror", None) or str(error)
    if "localhost is not accessible" in text:
        return "the page does not answer on this machine (a firewall, a proxy, or too much load)"
    if "Cannot find empty port" in text:
        return "the port is taken; give another --port"
    return text.splitlines()[0].lower()


def messages(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let a Gradio handler (function or generator) show what goes wrong as a one-line message in the page."""
    if inspect.isgeneratorfunction(function):

        @functools.wraps(function)
        def stream(*args: Any, **kwargs: Any) -> Iterator[Any]:
            try:
                yield from function(*args, **kwargs)
            except Exception as error:
                raise _as_message(error) from error

        return stream

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except Exception as error:
            raise _as_message(error) from error

    return call


def _as_message(error: Exception) -> Exception:
    gr = _gradio()
    if isinstance(error, gr.Error):
        return error
    # Gradio renders messages as HTML: what stands in a file's name must stay text.
    return gr.Error(html.escape(describe(error)), print_exception=not isinstance(error, MultiwayError))


def _theme(gr: Any) -> Any:
    return gr.themes.Soft(
        primary_hue=gr.themes.colors.blue,
        neutral_hue=gr.themes.colors.slate,
        radius_size=gr.themes.sizes.radius_md,
        font=list(_SANS),
        font_mono=list(_MONO),
    ).set(  # The theme's own colours are too pale to be read by everybody (WCAG asks for a contrast of 4.5).
        body_text_color_subdued="*neutral_600",
        block_info_text_color="*neutral_600",
        input_placeholder_color="*neutral_500",
        block_label_text_color="*primary_700",
        block_title_text_color="*primary_700",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        checkbox_label_background_fill_selected="*primary_600",
        color_accent="*primary_600",
        link_text_color_dark="*primary_300",
    )
