"""What decoding gives: one event per step, and the whole at the end."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

# Why a row ended: "eos", "length" (max_new_tokens reached) or "stopped:<name of the constraint>".
StopReason = str


@dataclass(frozen=True)
class StepEvent:
    """One step of the loop, for all rows of the batch in their original order; tensors are on the CPU.

    Attributes:
        step: index of the step, from 0.
        tokens_B: int64 (batch,), the emitted token; pad where none.
        active_B: bool (batch,), rows that emitted a token. An end-of-sequence token is not emitted, so a
            row's active tokens over all events are its `GenerationOutput.tokens`.
        log_probs_B: float64 (batch,), log-probability of the emitted token; 0 where none.
        stopped: rows that ended with this step, and why.
    """

    step: int
    tokens_B: Tensor
    active_B: Tensor
    log_probs_B: Tensor
    stopped: dict[int, StopReason]


@dataclass(frozen=True)
class GenerationOutput:
    """Everything that was generated, row by row in the order of the batch; tensors are on the CPU.

    Attributes:
        tokens: per row int64 (length,), without padding and without the end-of-sequence token.
        log_probs: per row float64 (length,): log-probability of each emitted token under the model itself,
            before processors and temperature, so that a forced token shows as unlikely as the model found it.
        stop_reasons: per row "eos", "length" or "stopped:<name>".
        beam_scores: per row the score of the returned hypothesis, in beam search only.
    """

    tokens: list[Tensor]
    log_probs: list[Tensor]
    stop_reasons: list[StopReason]
    beam_scores: list[float] = field(default_factory=list)

    @property
    def finished(self) -> list[bool]:
        """Per row: True when it ended itself, False when it was cut by the length limit or a constraint."""
        return [reason == "eos" for reason in self.stop_reasons]


def ordinary(tensor: Tensor) -> Tensor:
    """A copy that autograd accepts (what is made in inference mode could not be used in a training step)."""
    with torch.inference_mode(False):
        return tensor.clone()
