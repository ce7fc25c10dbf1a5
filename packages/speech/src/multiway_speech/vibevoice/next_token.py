"""Choice of the next token: free, as in the published models, or along the script's phones, as in the small one.

A large model keeps its place in the script by itself. A small one loses it: words are skipped, repeated, slurred. So
ours writes each phone of the script into its speech before the frames of that phone,

    <start> Speaker 0: HH <frame> <frame> AH0 <frame> L <frame> OW1 <frame> <frame> <frame> . <frame> <end> <eos>

and what it decides in every step is only whether the phone it speaks goes on or the next begins.

Shape suffixes: B rows still speaking, E hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from multiway_speech.vibevoice.model import VibeVoice

MAX_PHONE_SECONDS = 1.5
"""No phone and no pause lasts longer."""


class NextToken(Protocol):
    """Chooses tokens for the rows that still speak."""

    def choose(self, hidden_BE: Tensor) -> Tensor:
        """Int64 (B,) ids for the hidden states of the context with the script."""

    def embed(self, chosen_B: Tensor) -> Tensor:
        """Inputs (B, E) of what was chosen; those of frames are replaced by what was heard."""

    def select(self, rows: Sequence[int]) -> None:
        """Keep these rows, in this order."""


class FreeNextToken:
    """The likeliest of the four control tokens."""

    def __init__(self, model: VibeVoice) -> None:
        self.language_model, tokens = model.language_model, model.config.tokens
        # In ascending order, so that a tie goes to the lower id.
        control = sorted({tokens.start, tokens.end, tokens.frame, tokens.eos})
        self.control = torch.tensor(control, device=self.language_model.embedding.weight.device)

    def choose(self, hidden_BE: Tensor) -> Tensor:
        return self.control[self.language_model.logits_of(hidden_BE, self.control).argmax(dim=-1)]

    def embed(self, chosen_B: Tensor) -> Tensor:
        return self.language_model.embedding(chosen_B)

    def select(self, rows: Sequence[int]) -> None:
        pass


class ScriptedNextToken:
    """A frame, or what comes next in the row's script, whose end is followed by <end> and <eos>.

    The model gives the chance that a phone ends after each frame. It ends at the median: where the chance that it would
    still go on falls under one half. A greedy choice would be late, since a chance under one half adds up too.
    """

    def __init__(self, model: VibeVoice, phone_scripts: Sequence[Tensor]) -> None:
        """``phone_scripts``: int64 (T,) ids a row."""
        self.model = model
        tokens = model.config.tokens
        device = model.language_model.embedding.weight.device
        self.scripts = [[*reading.tolist(), tokens.end, tokens.eos] for reading in phone_scripts]
        self.inputs = [model.embed_phones(reading[None].to(device))[0] for reading in phone_scripts]
        self.places = [0] * len(phone_scripts)
        self.going_on = [1.0] * len(phone_scripts)
        self.frames = [0] * len(phone_scripts)
        self.max_frames = round(MAX_PHONE_SECONDS * model.config.acoustic.frame_rate)

    def choose(self, hidden_BE: Tensor) -> Tensor:
        tokens, language_model = self.model.config.tokens, self.model.language_model
        following = [script[place] for script, place in zip(self.scripts, self.places, strict=True)]
        matrix_VE = language_model.output_matrix_VE
        apart_BE = matrix_VE[torch.tensor(following, device=hidden_BE.device)] - matrix_VE[tokens.frame]
        ends = (hidden_BE * apart_BE).sum(dim=-1).float().sigmoid().tolist()
        chosen = []
        for row, end in enumerate(ends):
            self.going_on[row] *= 1 - end
            forced = self.places[row] == 0 or following[row] == tokens.eos
            if forced or self.going_on[row] < 0.5 or self.frames[row] >= self.max_frames:
                chosen.append(following[row])
                self.places[row] += 1
                self.going_on[row], self.frames[row] = 1.0, 0
            else:
                chosen.append(tokens.frame)
                self.frames[row] += 1
        return torch.tensor(chosen, device=hidden_BE.device)

    def embed(self, chosen_B: Tensor) -> Tensor:
        x_BE = self.model.language_model.embedding(chosen_B)
        for row, (place, inputs_TE) in enumerate(zip(self.places, self.inputs, strict=True)):
            if 0 < place <= len(inputs_TE) and self.frames[row] == 0:
                x_BE[row] = inputs_TE[place - 1]
        return x_BE

    def select(self, rows: Sequence[int]) -> None:
        for name in ("scripts", "inputs", "places", "going_on", "frames"):
            setattr(self, name, [getattr(self, name)[row] for row in rows])
