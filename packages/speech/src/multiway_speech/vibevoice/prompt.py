"""Scripts and voices as token ids: the exact text that VibeVoice was trained with, leading spaces included.

Each piece is tokenized by itself, so no token crosses two pieces.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from multiway_speech.script import Turn
from multiway_speech.text_tokenizer import TextTokenizer
from multiway_speech.vibevoice.config import SpeechTokens

TASK = (
    " Transform the text provided by various speakers into speech output, "
    "utilizing the distinct voice of each respective speaker.\n"
)


class PromptWriter:
    """Writes prompts for one model."""

    def __init__(self, tokenizer: TextTokenizer, tokens: SpeechTokens) -> None:
        self.tokenizer = tokenizer
        self.tokens = tokens

    def write(self, turns: Sequence[Turn], voice_frames: Sequence[int] = ()) -> Tensor:
        """Int64 (T,) ids of a prompt that ends with the start token.

        ``voice_frames``: for each speaker, in order, the frames of the voice prompt; nothing lets the model choose.
        """
        tokens = self.tokens
        ids = self.tokenizer.encode(TASK)
        if voice_frames:
            ids += self.tokenizer.encode(" Voice input:\n")
        for speaker, frames in enumerate(voice_frames):
            ids += self.tokenizer.encode(f" Speaker {speaker}:")
            ids += [tokens.start, *[tokens.frame] * frames, tokens.end]
            ids += self.tokenizer.encode("\n")
        ids += self.tokenizer.encode(" Text input:\n")
        for turn in turns:
            ids += self.tokenizer.encode(f" Speaker {turn.speaker}: {turn.text}\n")
        ids += [*self.tokenizer.encode(" Speech output:\n"), tokens.start]
        return torch.tensor(ids)
