"""Prompts: the exact token sequence that VibeVoice was trained with, leading spaces included.

Each piece is tokenized by itself, so no token crosses two pieces.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from multiway_core.tokenization import TextTokenizer
from torch import Tensor

from multiway_speech.script import Turn
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
        ids = [
            *self.tokenizer.encode(TASK),
            *self._voices(voice_frames),
            *self.tokenizer.encode(" Text input:\n"),
        ]
        for turn in turns:
            ids += self.tokenizer.encode(f" Speaker {turn.speaker}: {turn.text}\n")
        return torch.tensor([*ids, *self._output()])

    def write_voices(self, voice_frames: Sequence[int] = ()) -> Tensor:
        """The same without task and script: for a model that is given the script while it speaks; see ``reading``."""
        return torch.tensor([*self._voices(voice_frames), *self._output()])

    def write_phone_script(self, turns: Sequence[Turn]) -> Tensor:
        """Int64 (T,) ids of turns whose texts are phones: what such a model writes along its speech."""
        ids: list[int] = []
        for turn in turns:
            ids += self.tokenizer.encode(f" Speaker {turn.speaker}: {turn.text}")
        return torch.tensor(ids)

    def _voices(self, voice_frames: Sequence[int]) -> list[int]:
        tokens = self.tokens
        ids = self.tokenizer.encode(" Voice input:\n") if voice_frames else []
        for speaker, frames in enumerate(voice_frames):
            ids += self.tokenizer.encode(f" Speaker {speaker}:")
            ids += [tokens.start, *[tokens.frame] * frames, tokens.end]
            ids += self.tokenizer.encode("\n")
        return ids

    def _output(self) -> list[int]:
        return [*self.tokenizer.encode(" Speech output:\n"), self.tokens.start]
