"""The ``chat`` command: a conversation in the terminal."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from multiway_core.app import ModelOptions, load_pipeline, note, write_stdout
from multiway_core.errors import InputError

from multiway_lm.app import APP
from multiway_lm.sampling import CHAT_TEMPERATURE, Sampling

if TYPE_CHECKING:
    from multiway_text.language_model import LanguageModel
    from multiway_text.sampling import SamplingOptions

HELP = "/reset forgets what was said, /system TEXT instructs the model, /quit ends; Ctrl-C stops an answer."


@dataclass
class Conversation:
    """What was said so far."""

    system: str | None = None
    turns: list[dict[str, str]] = field(default_factory=list)

    def messages(self) -> list[dict[str, str]]:
        """As the model gets them."""
        head = [] if self.system is None else [{"role": "system", "content": self.system}]
        return [*head, *self.turns]


def talk(options: ModelOptions, sampling: Sampling, *, system: str | None) -> None:
    """Converse on standard input and output until its end, /quit, or Ctrl-C at the prompt."""
    model = load_pipeline(APP, options)
    if model.chat_template is None:
        raise InputError(f"{options.model} has no chat format; use: multiway-lm generate")
    chosen = sampling.options(model.recommended_sampling, temperature=CHAT_TEMPERATURE)
    conversation = Conversation(system)
    interactive = sys.stdin.isatty()
    if interactive:
        note(f"{options.model}. {HELP}")
        _enable_history()
    while True:
        line = _ask("> " if interactive else "")
        if line is None:
            return
        if line.startswith("/"):
            if not _obey(line, conversation):
                return
        elif line.strip():
            _answer(model, chosen, conversation, line.strip())


def _enable_history() -> None:
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401 - input() uses it once it is there


def _ask(prompt: str) -> str | None:
    """The next line; None at the end of the input or Ctrl-C."""
    try:
        return input(prompt)
    except EOFError:
        return None
    except KeyboardInterrupt:
        note("")
        return None
    except UnicodeDecodeError:
        raise InputError("standard input is not UTF-8 text") from None


def _obey(line: str, conversation: Conversation) -> bool:
    """Do what a line that begins with / says; False ends the conversation."""
    command, _, rest = line.strip().partition(" ")
    if command in ("/quit", "/exit", "/bye"):
        return False
    if command == "/reset":
        conversation.turns.clear()
        note("forgotten")
    elif command == "/system":
        conversation.system = rest.strip() or None
        note("instructed" if rest.strip() else "without an instruction")
    else:
        note(HELP)
    return True


def _answer(
    model: LanguageModel, options: SamplingOptions, conversation: Conversation, question: str
) -> None:
    """Print the answer as it comes. What was said of a stopped one stays; after an error the question is taken back."""
    conversation.turns.append({"role": "user", "content": question})
    answer = ""
    try:
        for piece in model.stream(conversation.messages(), options):
            answer += piece.text
            if piece.text:
                write_stdout(piece.text)
    except KeyboardInterrupt:
        note(" (stopped)")
    except InputError as error:
        conversation.turns.pop()
        note(f"{error}{'; /reset makes room' if 'context' in str(error) else ''}")
        return
    write_stdout("\n")
    conversation.turns.append({"role": "assistant", "content": answer.strip()})
