"""What happens on the demo's page."""

from __future__ import annotations

import html
from collections.abc import Iterator
from typing import Any

from multiway_core.app import messages
from multiway_core.errors import InputError

from multiway_lm.demo.layout import Components
from multiway_lm.demo.session import Choice, Session
from multiway_lm.demo.view import tokens_value

Turn = dict[str, Any]


def shown(turns: list[dict[str, str]]) -> list[dict[str, str]]:
    """Role and text as Gradio's messages, which are drawn as markup: what was written must stay text."""
    return [{**turn, "content": html.escape(turn["content"], quote=False)} for turn in turns]


def plain(turns: list[Turn] | None) -> list[dict[str, str]]:
    """The inverse: Gradio's messages, whose content may be a list of parts, as role and text."""
    found = []
    for turn in turns or []:
        content = turn["content"]
        if not isinstance(content, str):
            content = "".join(part.get("text", "") for part in content if isinstance(part, dict))
        found.append({"role": turn["role"], "content": html.unescape(content)})
    return found


def connect(session: Session, parts: Components) -> None:
    """Give the components of the page that is being built their events."""
    import gradio as gr

    @messages
    def say(message: str, turns: list[Turn] | None, system: str, *sliders: Any) -> Iterator[list[Any]]:
        if not message.strip():
            raise InputError("write a message first")
        before = plain(turns)
        said = [*before, {"role": "user", "content": message}]
        yield ["", shown(said), tokens_value(note="Reading ...")]
        try:
            for text, value in session.answer(said, system, Choice.of(*sliders)):
                yield ["", shown([*said, {"role": "assistant", "content": text}]), value]
        except Exception:
            yield [message, shown(before), tokens_value()]  # the question is given back
            raise

    @messages
    def go_on(text: str, *sliders: Any) -> Iterator[list[Any]]:
        yield ["", tokens_value(note="Reading ...")]
        try:
            for continuation, value in session.continue_text(text, Choice.of(*sliders)):
                yield [continuation, value]
        except Exception:
            yield ["", tokens_value()]
            raise

    @messages
    def judge(text: str) -> dict[str, Any]:
        return session.judge(text)

    @messages
    def chat_once(message: str, system: str, *sliders: Any) -> str:
        turns = [{"role": "user", "content": message}]
        *_, (text, _) = session.answer(turns, system, Choice.of(*sliders))
        return text

    outputs = [parts.message, parts.chat, parts.chat_tokens]
    shared: dict[str, Any] = {
        "api_visibility": "private",
        "show_progress": "hidden",
        "concurrency_id": "model",
    }
    speaking = [
        trigger(say, [parts.message, parts.chat, parts.system, *parts.sliders], outputs, **shared)
        for trigger in (parts.send.click, parts.message.submit)
    ]
    parts.stop.click(None, cancels=speaking, api_visibility="private")
    parts.reset.click(
        lambda: ["", [], tokens_value(note="The tokens of the answer appear here.")],
        None,
        outputs,
        cancels=speaking,
        api_visibility="private",
        show_progress="hidden",
    )
    going = parts.go.click(
        go_on, [parts.prompt, *parts.sliders], [parts.continuation, parts.prompt_tokens], **shared
    )
    parts.halt.click(None, cancels=[going], api_visibility="private")
    parts.judge.click(judge, parts.text, parts.text_tokens, **shared)
    # The same for programs (gradio_client): one call, the answer as text.
    gr.Button(visible=False).click(
        chat_once,
        [parts.message, parts.system, *parts.sliders],
        gr.Textbox(visible=False),
        api_name="chat",
        concurrency_id="model",
    )
