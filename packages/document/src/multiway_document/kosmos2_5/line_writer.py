"""The decoder reads cropped lines, the line reader verifies them, and the likelier of two different texts is kept.

The line reader's text is the draft: one step of the decoder tells how likely it finds every character of it. Most lines
end there. Where the decoder would have written something else it writes the line by itself, and both texts are scored
by both readers (joint CTC and attention decoding, Watanabe et al. 2017, section III-B, on two hypotheses).

Shape suffixes: B lines, N patches, E hidden size, T CTC steps or tokens, K classes, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from multiway_core.generation import GenerationConfig, StaticKVCache
from multiway_core.generation.speculative import LookupDraft, generate_with_drafts
from multiway_core.tokenization import TextTokenizer
from numpy.typing import NDArray
from rapidfuzz.distance import Levenshtein
from torch import Tensor, nn

from multiway_document.alphabet import ALPHABET
from multiway_document.kosmos2_5.line_reader import (
    LineReader,
    greedy_readings,
    line_patches,
    line_prompt,
    read_lines,
    width_batches,
)
from multiway_document.kosmos2_5.model import Kosmos25
from multiway_document.line_reading import LineReading

DISPUTED = "disputed"  # flag of a line of which the two readers read more than DISPUTED_SHARE differently
DISPUTED_SHARE = 0.25
DECODER_WEIGHT = 0.5  # of the decoder's log-probability in the joint score; the rest is the line reader's
MAX_EXTRA_CHARACTERS = 16  # the decoder may write this much more than the line reader read


class LineWriter:
    """Reads lines with the whole network: encoder, resampler and decoder, and the line reader beside them."""

    def __init__(
        self, model: Kosmos25, line_reader: LineReader, tokenizer: TextTokenizer, *, check: bool = True
    ) -> None:
        """Without ``check`` the decoder's text counts alone (its own error is measured so)."""
        self.model = model
        self.line_reader = line_reader
        self.tokenizer = tokenizer
        self.check = check
        self.newline = tokenizer.encode("\n")[0]
        self._ids = {character: tokenizer.encode(character)[0] for character in ALPHABET}
        self._class_ids = {character: index for index, character in enumerate(ALPHABET, start=1)}

    @torch.inference_mode()
    def __call__(
        self, lines: Sequence[NDArray[np.uint8]], *, patches_per_batch: int = 4096
    ) -> list[LineReading]:
        """Read cropped lines (32, width) uint8; lines wider than the resampler's queries are read by CTC alone."""
        limit = 16 * self.model.config.num_queries
        wide = [index for index, line in enumerate(lines) if line.shape[1] > limit]
        readings = dict(
            zip(
                wide,
                read_lines(self.model.vision, self.line_reader, [lines[index] for index in wide]),
                strict=True,
            )
        )
        rest = [index for index in range(len(lines)) if index not in readings]
        for batch in width_batches([lines[index].shape[1] for index in rest], patches_per_batch):
            chosen = [rest[position] for position in batch]
            readings.update(zip(chosen, self._read([lines[index] for index in chosen]), strict=True))
        return [readings[index] for index in range(len(lines))]

    def _read(self, lines: Sequence[NDArray[np.uint8]]) -> list[LineReading]:
        model = self.model
        weight = model.text.embedding.weight
        patches, steps_B = line_patches(lines)
        patches = patches.padded(model.config.vision.max_patches).to(weight.device, weight.dtype)
        features_BNE = model.encode(patches)
        logits_BTK = self.line_reader(features_BNE[:, :-1])
        drafts = greedy_readings(logits_BTK, steps_B)

        prompts_BT = torch.tensor(
            [line_prompt(model.config.tokens, line.shape[1]) for line in lines], device=weight.device
        )
        longest = max(len(draft.text) for draft in drafts) + MAX_EXTRA_CHARACTERS + 2
        cache = model.text.new_cache(len(lines), model.config.num_queries + 3 + prompts_BT.shape[1] + longest)
        first_BV = model.prefill(model.resampler(features_BNE, patches.multiplicity_BN), prompts_BT, cache)
        prefix = cache.length
        agree, scores, confidences = self._judge([draft.text for draft in drafts], first_BV, cache)
        readings = [
            replace(draft, confidence=(draft.confidence + confidence) / 2)
            for draft, confidence in zip(drafts, confidences, strict=True)
        ]
        others = [index for index in range(len(lines)) if not agree[index]]
        if others:
            cache.truncate(prefix)
            kept = torch.tensor(others, device=weight.device)
            cache.select(kept)
            written = self._write([drafts[index].text for index in others], first_BV[kept], cache)
            for index, (text, score, confidence) in zip(others, written, strict=True):
                reading = LineReading(text, confidence)
                if self.check:
                    reading = self._merge(
                        readings[index], reading, scores[index], score, logits_BTK[index], int(steps_B[index])
                    )
                readings[index] = reading
        return readings

    def _judge(
        self, texts: Sequence[str], first_BV: Tensor, cache: StaticKVCache
    ) -> tuple[list[bool], list[float], list[float]]:
        """What the decoder thinks of given texts: is each its own choice, its log-probability, its mean probability."""
        answers = [[*self._tokens(text), self.newline] for text in texts]
        width = max(map(len, answers))
        pad = self.model.config.tokens.pad
        tokens_BT = torch.tensor(
            [[*answer, *[pad] * (width - len(answer))] for answer in answers], device=first_BV.device
        )
        logits_BTV = torch.cat([first_BV[:, None], self._verify(tokens_BT[:, :-1], cache)], dim=1)
        log_probs_BTV = logits_BTV.float().log_softmax(dim=-1)
        picked_BT = log_probs_BTV.gather(-1, tokens_BT[..., None])[..., 0]
        real_BT = tokens_BT != pad
        agree_B = ((log_probs_BTV.argmax(dim=-1) == tokens_BT) | ~real_BT).all(dim=1)
        scores_B = (picked_BT * real_BT).sum(dim=1)
        confidences_B = (picked_BT.exp() * real_BT).sum(dim=1) / real_BT.sum(dim=1)
        return agree_B.tolist(), scores_B.tolist(), confidences_B.tolist()

    def _write(
        self, drafts: Sequence[str], first_BV: Tensor, cache: StaticKVCache
    ) -> list[tuple[str, float, float]]:
        """The decoder's own text of each line, its log-probability and its mean probability."""
        tokens = self.model.config.tokens
        limit = max(map(len, drafts)) + MAX_EXTRA_CHARACTERS
        output = generate_with_drafts(
            self._verify,
            LookupDraft([self._tokens(draft) for draft in drafts]),
            first_BV,
            cache,
            GenerationConfig(
                max_new_tokens=limit, eos_token_ids=(self.newline, tokens.eos), pad_token_id=tokens.pad
            ),
        )
        return [
            (
                self.tokenizer.decode(row.tolist()),
                float(log_probs.sum()),
                float(log_probs.exp().mean()) if len(log_probs) else 1.0,
            )
            for row, log_probs in zip(output.tokens, output.log_probs, strict=True)
        ]

    def _merge(
        self,
        draft: LineReading,
        written: LineReading,
        draft_score: float,
        written_score: float,
        logits_TK: Tensor,
        steps: int,
    ) -> LineReading:
        log_probs_TK = logits_TK[:steps].float().log_softmax(dim=-1)
        joint = [
            DECODER_WEIGHT * decoder + (1 - DECODER_WEIGHT) * self._ctc_score(text, log_probs_TK)
            for text, decoder in ((draft.text, draft_score), (written.text, written_score))
        ]
        best = draft if joint[0] >= joint[1] else written
        different = Levenshtein.normalized_distance(draft.text, written.text) > DISPUTED_SHARE
        return replace(best, flags=(DISPUTED,)) if different else best

    def _ctc_score(self, text: str, log_probs_TK: Tensor) -> float:
        classes = [self._class_ids[character] for character in text if character in self._class_ids]
        if len(classes) != len(text) or len(classes) > len(log_probs_TK):
            return float("-inf")
        return -float(
            nn.functional.ctc_loss(
                log_probs_TK[:, None],
                torch.tensor([classes], dtype=torch.long),
                torch.tensor([len(log_probs_TK)]),
                torch.tensor([len(classes)]),
                reduction="sum",
            )
        )

    def _verify(self, tokens_BT: Tensor, cache: StaticKVCache) -> Tensor:
        return self.model.text.logits(self.model.text.hidden(tokens_BT, cache=cache)).float()

    def _tokens(self, text: str) -> list[int]:
        return [self._ids[character] for character in text]
