"""Decoding constraints: output that always parses, and a stop on repetition (an addition of ours).

Off for parity with the published decoding; on in the pipeline.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from multiway_core.generation import LogitsProcessor, StatefulConstraint
from multiway_core.generation.constraints import FORBIDDEN, FiniteStateConstraint, StopOnRepetition
from multiway_core.generation.processors import NEVER
from torch import Tensor

from multiway_document.kosmos2_5.config import TokenConfig
from multiway_document.kosmos2_5.processor import Processor

# Token classes and states of the grammar  line := <bbox> x0 y0 x1 y1 </bbox> text+ ;  output := line* </s>
TEXT, BOX, BOX_END, X, Y, END, OTHER = range(7)
LINE_START, X0, Y0, X1, Y1, CLOSE, TEXT_START, IN_TEXT = range(8)


class OcrGrammar(FiniteStateConstraint):
    """Every line is a box with ``x1 >= x0`` and ``y1 >= y0`` and then text."""

    def __init__(self, tokens: TokenConfig) -> None:
        classes_V = torch.full((tokens.vocab_size,), OTHER)
        classes_V[tokens.first_text : tokens.mask] = TEXT
        classes_V[tokens.box] = BOX
        classes_V[tokens.box_end] = BOX_END
        classes_V[tokens.eos] = END
        classes_V[tokens.first_location :: 2] = X
        classes_V[tokens.first_location + 1 :: 2] = Y
        transitions_SC = torch.full((8, 7), FORBIDDEN)
        transitions_SC[LINE_START, BOX] = X0
        transitions_SC[LINE_START, END] = LINE_START
        for state, symbol, following in ((X0, X, Y0), (Y0, Y, X1), (X1, X, Y1), (Y1, Y, CLOSE)):
            transitions_SC[state, symbol] = following
        transitions_SC[CLOSE, BOX_END] = TEXT_START
        transitions_SC[TEXT_START, TEXT] = IN_TEXT
        transitions_SC[IN_TEXT, TEXT] = IN_TEXT
        transitions_SC[IN_TEXT, BOX] = X0
        transitions_SC[IN_TEXT, END] = IN_TEXT
        super().__init__(classes_V, transitions_SC)
        self.first_location = tokens.first_location
        self.corners_N2 = torch.empty(0, 2, dtype=torch.long)

    def start(self, batch_size: int, device: torch.device) -> None:
        super().start(batch_size, device)
        self.corners_N2 = torch.zeros(batch_size, 2, dtype=torch.long)

    def __call__(self, tokens_BT: Tensor, logits_BV: Tensor) -> Tensor:
        logits_BV = super().__call__(tokens_BT, logits_BV)
        for row, state in enumerate(self.states_N.tolist()):
            if state in (X1, Y1):  # nothing left of or above the first corner
                smallest = self.first_location + 2 * int(self.corners_N2[row, int(state == Y1)])
                logits_BV[row, self.first_location : smallest] = NEVER
        return logits_BV

    def observe(self, tokens_B: Tensor) -> Iterable[int]:
        for row, (state, token) in enumerate(zip(self.states_N.tolist(), tokens_B.tolist(), strict=True)):
            if state in (X0, Y0):
                self.corners_N2[row, int(state == Y0)] = (token - self.first_location) // 2
        return super().observe(tokens_B)

    def select(self, rows: Tensor) -> None:
        super().select(rows)
        self.corners_N2 = self.corners_N2[rows]


class TextGrammar(StatefulConstraint):
    """Text tokens and the end, nothing else: markdown and answers."""

    name = "text"

    def __init__(self, tokens: TokenConfig) -> None:
        self.forbidden_V = torch.ones(tokens.vocab_size, dtype=torch.bool)
        self.forbidden_V[tokens.first_text : tokens.mask] = False
        self.forbidden_V[tokens.eos] = False

    def start(self, batch_size: int, device: torch.device) -> None:
        self.forbidden_V = self.forbidden_V.to(device)

    def __call__(self, tokens_BT: Tensor, logits_BV: Tensor) -> Tensor:
        return logits_BV.masked_fill(self.forbidden_V, NEVER)


def ocr_guard(processor: Processor) -> tuple[LogitsProcessor, ...]:
    """For ``<ocr>``: the grammar, and a stop when a line (text and box) or a cycle of lines repeats three times."""
    tokens = processor.tokens
    return OcrGrammar(tokens), StopOnRepetition([tokens.box])


def text_guard(processor: Processor) -> tuple[LogitsProcessor, ...]:
    """For ``<md>``: text only, and a stop when a line or a cycle of lines repeats (blank lines do not count)."""
    return TextGrammar(processor.tokens), StopOnRepetition(processor.newline_tokens, repeats=4)
