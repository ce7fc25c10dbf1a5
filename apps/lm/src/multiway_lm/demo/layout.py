"""What stands where on the demo's page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from multiway_core.app import viewer

from multiway_lm.app import APP
from multiway_lm.demo.session import Session
from multiway_lm.demo.view import tokens_value
from multiway_lm.sampling import CHAT_TEMPERATURE

QUESTIONS = ["What is the capital of France?", "Name three colours.", "Why do birds sing?"]
BEGINNINGS = ["Once upon a time, there was a", "The three largest planets are", "To make tea, first"]
SENTENCES = ["The quick brown fox jumps over the lazy dog.", "The dog lazy the over jumps fox brown quick."]


@dataclass(frozen=True)
class Components:
    """The parts of the page that events read or change (Gradio's own types, which are loaded late)."""

    sliders: list[Any]
    system: Any
    chat: Any
    message: Any
    send: Any
    stop: Any
    reset: Any
    chat_tokens: Any
    prompt: Any
    go: Any
    halt: Any
    continuation: Any
    prompt_tokens: Any
    text: Any
    judge: Any
    text_tokens: Any


def components(session: Session) -> Components:
    """Put the components on the page that is being built."""
    import gradio as gr

    defaults = session.model.recommended_sampling
    max_tokens = session.max_tokens

    def value(recommended: float | None, otherwise: float) -> float:
        return otherwise if recommended is None else recommended

    # The settings come second: on a narrow screen they then stand below.
    with gr.Row(equal_height=False):
        with gr.Column(scale=1, min_width=600), gr.Tabs():
            chat, message, send, stop, reset, chat_tokens = _chat(gr, session)
            with gr.Tab("Continue", elem_id="lm-tab-continue"):
                prompt = gr.Textbox(
                    label="Text to be continued",
                    lines=5,
                    max_lines=12,
                    value=BEGINNINGS[0],
                    elem_id="lm-prompt",
                )
                with gr.Row():
                    go = gr.Button("Continue", variant="primary", elem_id="lm-go")
                    halt = gr.Button("Stop", scale=0, min_width=80)
                gr.Examples(BEGINNINGS, prompt, label="Beginnings")
                continuation = gr.Textbox(
                    label="Continuation", lines=5, max_lines=12, elem_id="lm-continuation"
                )
                prompt_tokens = _tokens("lm-prompt-tokens", "Its tokens appear here.")
            with gr.Tab("Score", elem_id="lm-tab-score"):
                text = gr.Textbox(
                    label="Text to be judged", lines=5, max_lines=12, value=SENTENCES[0], elem_id="lm-text"
                )
                judge = gr.Button("Score", variant="primary", elem_id="lm-judge")
                gr.Examples(SENTENCES, text, label="Texts")
                text_tokens = _tokens("lm-text-tokens", "Press Score: unlikely tokens turn red.")
        with gr.Column(scale=0, min_width=270):
            system = gr.Textbox(
                label="System prompt",
                placeholder="System prompt",
                lines=2,
                visible=session.can_chat,
                elem_id="lm-system",
            )
            sliders = [
                gr.Slider(1, max_tokens, value=min(256, max_tokens), step=1, label="Max tokens"),
                gr.Slider(
                    0,
                    2,
                    value=value(defaults.temperature, CHAT_TEMPERATURE),
                    step=0.05,
                    label="Temperature",
                    info="0: the likeliest token",
                    elem_id="lm-temperature",
                ),
                gr.Slider(
                    0, 200, value=value(defaults.top_k, 0), step=1, label="Top-k", info="0: all tokens"
                ),
                gr.Slider(0.05, 1, value=value(defaults.top_p, 1.0), step=0.01, label="Top-p"),
                gr.Slider(1, 2, value=value(defaults.repetition_penalty, 1.0), step=0.05, label="Repetition"),
                gr.Number(value=-1, precision=0, label="Seed", info="-1: a new one each time"),
            ]
    return Components(
        sliders,
        system,
        chat,
        message,
        send,
        stop,
        reset,
        chat_tokens,
        prompt,
        go,
        halt,
        continuation,
        prompt_tokens,
        text,
        judge,
        text_tokens,
    )


def _chat(gr: Any, session: Session) -> list[Any]:
    with gr.Tab("Chat", visible=session.can_chat, elem_id="lm-tab-chat"):
        chat = gr.Chatbot(
            show_label=False,
            height=360,
            placeholder="Ask something short and simple.",
            render_markdown=False,  # what the model writes stays text
            buttons=[],
            elem_id="lm-chat",
        )
        with gr.Row():
            message = gr.Textbox(
                placeholder="Message",
                max_lines=5,
                show_label=False,
                container=False,
                scale=1,
                elem_id="lm-message",
            )
            send = gr.Button("Send", variant="primary", scale=0, min_width=90, elem_id="lm-send")
            stop = gr.Button("Stop", scale=0, min_width=80, elem_id="lm-stop")
            reset = gr.Button("Reset", scale=0, min_width=80, elem_id="lm-reset")
        gr.Examples(QUESTIONS, message, label="Questions")
        tokens = _tokens("lm-chat-tokens", "The tokens of the answer appear here.")
    return [chat, message, send, stop, reset, tokens]


def _tokens(name: str, note: str) -> Any:
    return viewer(APP, tokens_value(note=note), name, name="tokens")
