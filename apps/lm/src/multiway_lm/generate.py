"""The ``generate`` command: one prompt, one or several answers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multiway_core.app import ModelOptions, load_pipeline, write_json, write_stdout
from multiway_core.data_files import read_text
from multiway_core.errors import InputError

from multiway_lm.app import APP
from multiway_lm.sampling import CHAT_TEMPERATURE, Sampling

if TYPE_CHECKING:
    from multiway_text.language_model import Completion

MAX_BYTES = 10 * 1024 * 1024
SCHEMA = "multiway.lm.generate/1"


def read_prompt(argument: str) -> str:
    """The text that ``PROMPT|-|FILE`` means. Raises InputError (empty, too large), DataError (not UTF-8)."""
    if argument == "-":
        data = sys.stdin.buffer.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise InputError(f"the prompt is larger than {MAX_BYTES // 2**20} MB")
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise InputError("the prompt on standard input is not UTF-8 text") from error
    elif is_file(argument):
        path = Path(argument)
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path}: larger than {MAX_BYTES // 2**20} MB")
        text = read_text(path)
    else:
        text = argument
    if not text.strip():
        raise InputError("the prompt is empty")
    return text


def is_file(argument: str) -> bool:
    """Whether an argument names a file (a long text makes the system complain instead)."""
    try:
        return Path(argument).is_file()
    except (OSError, ValueError):
        return False


def generate_text(
    text: str,
    options: ModelOptions,
    sampling: Sampling,
    *,
    chat: bool | None,
    system: str | None,
    answers: int,
    json: bool,
) -> None:
    """Load the model and print its answers: as they come for one, one after the other for several."""
    model = load_pipeline(APP, options)
    if chat is None:
        chat = model.chat_template is not None
    if system is not None and not chat:
        raise InputError("--system belongs to a chat; with --continue put it into the prompt")
    prompt: Any = text.rstrip("\n") if not chat else [{"role": "user", "content": text.strip()}]
    if system is not None:
        prompt = [{"role": "system", "content": system}, *prompt]
    warm = CHAT_TEMPERATURE if chat or answers > 1 else 0.0
    chosen = sampling.options(model.recommended_sampling, temperature=warm)
    if json:
        found = model.generate(prompt, chosen, answers=answers)
        write_json(as_json(options.model, text, found))
    elif answers == 1:
        for piece in model.stream(prompt, chosen):
            if piece.text:
                write_stdout(piece.text)
        write_stdout("\n")
    else:
        for number, answer in enumerate(model.generate(prompt, chosen, answers=answers), 1):
            write_stdout(f"--- {number}\n{answer.text}\n")


def as_json(name: str, prompt: str, answers: list[Completion]) -> dict[str, Any]:
    """The result's JSON."""
    return {
        "schema": SCHEMA,
        "model": name,
        "prompt": prompt,
        "prompt_tokens": answers[0].prompt_tokens,
        "answers": [
            {
                "text": answer.text,
                "finish": answer.finish,
                "tokens": [
                    {"id": token.id, "text": token.text, "log_prob": token.log_prob}
                    for token in answer.tokens
                ],
            }
            for answer in answers
        ],
    }
