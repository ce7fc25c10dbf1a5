"""The prompt of a transcription: the exact chat that VibeVoice-ASR was trained with."""

from __future__ import annotations

import torch
from multiway_core.tokenization import TextTokenizer
from torch import Tensor

from multiway_speech.vibevoice_asr.config import AsrTokens

SYSTEM = "You are a helpful assistant that transcribes audio input into text output in JSON format."
KEYS = "Start time, End time, Speaker ID, Content"
MAX_CONTEXT = 20_000
"""Characters of context that are taken."""


def request(duration: float, context: str = "") -> str:
    """What is asked for behind the sound; ``duration`` in seconds, ``context`` free text such as names."""
    if not context:
        return f"This is a {duration:.2f} seconds audio, please transcribe it with these keys: {KEYS}"
    return (
        f"This is a {duration:.2f} seconds audio, with extra info: {context}\n\n"
        f"Please transcribe it with these keys: {KEYS}"
    )


def write_prompt(
    tokenizer: TextTokenizer, tokens: AsrTokens, num_frames: int, duration: float, context: str = ""
) -> Tensor:
    """Int64 (T,) ids; the model answers with the head of its own turn."""
    ids = [
        tokens.turn_start,
        *tokenizer.encode(f"system\n{SYSTEM}"),
        tokens.turn_end,
        *tokenizer.encode("\n"),
        tokens.turn_start,
        *tokenizer.encode("user\n"),
        tokens.start,
        *[tokens.frame] * num_frames,
        tokens.end,
        *tokenizer.encode("\n" + request(duration, context)),
        tokens.turn_end,
        *tokenizer.encode("\n"),
    ]
    return torch.tensor(ids)
