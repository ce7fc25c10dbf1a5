"""Sources to targets with an encoder that was fine-tuned to write (`multiway_text.s2s_ft`).

A masked model predicts the next token at a ``[MASK]`` behind what is written; a causal one behind the newest token.
Either way a step costs one or two tokens behind a cache. Texts of one batch may differ in length, and the result of a
text does not depend on its batch.

Shape suffixes: B texts, N beams of all texts, S source tokens, T new tokens, V vocabulary, E hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from multiway_blocks.text_encoder.model import EncoderContext
from multiway_core.errors import InputError
from multiway_core.generation import GenerationConfig, GenerationOutput, MinLength, NoRepeatNGram, beam_search
from multiway_core.tokenization import TextTokenizer
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from multiway_text.data.corruption import Masking
from multiway_text.data.masked_batch import MaskedBatch, collate
from multiway_text.encoder.heads import MaskedLM
from multiway_text.pretraining import vocabulary
from multiway_text.s2s_ft.config import Method, Seq2SeqConfig
from multiway_text.s2s_ft.objective import Corruption, lay_out, source_ids, target_log_probs
from multiway_text.seq2seq.cache import SourceTargetCache
from multiway_text.seq2seq.rules import LengthPenalty, Seq2SeqRow

_ALL_MASKED = Corruption(target_mask_prob=0.0, masking=Masking(masked=1.0, random=0.0))


@dataclass(frozen=True)
class Decoding:
    """How targets are searched for.

    Attributes:
        num_beams: hypotheses of a text; 1 is greedy.
        penalty: for or against long targets.
        min_length, max_length: tokens of a target, its end not counted for the former; None: what the model was
            trained for.
        no_repeat_ngram: no n-gram of so many tokens comes twice, but for those with a piece of ``ignore``; 0 allows it.
        early_stop: whether a search ends when nothing can win any more, which does not change the result.
        batch_size: texts that are decoded side by side.
    """

    num_beams: int = 5
    penalty: LengthPenalty = field(default_factory=LengthPenalty)
    min_length: int = 1
    max_length: int | None = None
    no_repeat_ngram: int = 3
    ignore: tuple[str, ...] = (".",)
    early_stop: bool = True
    batch_size: int = 16


class Writer:
    """A fine-tuned model that writes; what `beam_search` takes as its decoding step."""

    def __init__(self, model: MaskedLM, config: Seq2SeqConfig, tokenizer: TextTokenizer) -> None:
        self.model, self.config, self.tokenizer = model, config, tokenizer
        self.vocabulary = vocabulary(tokenizer)

    @property
    def max_source(self) -> int:
        """Tokens of a source without special ones; longer sources are refused, never cut."""
        return self.config.max_source - (1 if self.config.method == "causal" else 2)

    @torch.inference_mode()
    def write(self, sources: Sequence[Sequence[int]], decoding: Decoding) -> GenerationOutput:
        """The best target of each source, both as ids without special tokens, in the order of the sources.

        Raises InputError for an empty source or one longer than :attr:`max_source`, and for a ``max_length`` that the
        position table does not hold.
        """
        longest = decoding.max_length or self.config.max_target
        room = self.model.encoder.config.max_length - self.config.max_source
        if not 0 < longest <= room:
            raise InputError(
                f"max_length is {longest}; the model has positions for 1 to {room} tokens behind a source"
            )
        for number, source in enumerate(sources):
            if not 0 < len(source) <= self.max_source:
                raise InputError(
                    f"source {number} has {len(source)} tokens; expected 1 to {self.max_source}: divide it into windows"
                )
        generation = GenerationConfig(
            longest,
            (self.vocabulary.sep_id,),
            self.model.encoder.config.pad_id,
            num_beams=decoding.num_beams,
        )
        processors: list[MinLength | NoRepeatNGram] = [
            MinLength(decoding.min_length, generation.eos_token_ids)
        ]
        if decoding.no_repeat_ngram:
            known = [self.tokenizer.engine.token_to_id(piece) for piece in decoding.ignore]
            ignored = [piece for piece in known if piece is not None]
            processors.append(NoRepeatNGram(decoding.no_repeat_ngram, ignored))
        order = sorted(range(len(sources)), key=lambda i: len(sources[i]))
        output = GenerationOutput([], [], [], [])
        found: dict[int, tuple[Tensor, Tensor, str, float]] = {}
        for start in range(0, len(order), decoding.batch_size):
            rows = order[start : start + decoding.batch_size]
            cache = self.read([sources[i] for i in rows], longest)
            best = beam_search(
                self.step,
                self._predict(None, cache),
                cache,
                generation,
                processors,
                new_row=lambda: Seq2SeqRow(
                    decoding.num_beams, longest, decoding.penalty, early_stop=decoding.early_stop
                ),
            )
            columns = (best.tokens, best.log_probs, best.stop_reasons, best.beam_scores)
            found.update(zip(rows, zip(*columns, strict=True), strict=True))
        for i in range(len(sources)):
            tokens, log_probs, reason, score = found[i]
            output.tokens.append(tokens)
            output.log_probs.append(log_probs)
            output.stop_reasons.append(reason)
            output.beam_scores.append(score)
        return output

    @torch.inference_mode()
    def log_probs(self, sources: Sequence[Sequence[int]], target: Sequence[int]) -> list[float]:
        """Mean log-probability of a token of one target (its end included) behind each source, in one pass."""
        method: Method = "causal" if self.config.method == "causal" else "pseudo_masked"
        config = replace(self.config, method=method, max_target=len(target) + 1)
        rows = [
            lay_out(list(ids), list(target), config, _ALL_MASKED, self.vocabulary, np.random.default_rng(0))
            for ids in sources
        ]
        batch = collate(rows, self.model.encoder.config.pad_id)
        device = self.model.encoder.token_embedding.weight.device
        log_probs_NV, targets_N = target_log_probs(
            self.model, MaskedBatch(*(tensor.to(device) for tensor in batch))
        )
        return log_probs_NV.gather(1, targets_N[:, None]).view(len(sources), -1).mean(1).tolist()

    def read(self, sources: Sequence[Sequence[int]], max_target: int) -> SourceTargetCache:
        """Sources side by side, padded on the right, as keys and values."""
        encoder = self.model.encoder
        device = encoder.token_embedding.weight.device
        rows = [torch.from_numpy(source_ids(list(ids), self.config, self.vocabulary)) for ids in sources]
        tokens_BS = pad_sequence(rows, batch_first=True, padding_value=encoder.config.pad_id).to(device)
        lengths_B = torch.tensor([len(row) for row in rows], device=device)
        positions_BS = torch.arange(tokens_BS.shape[1], device=device).expand_as(tokens_BS)
        valid_BS = positions_BS < lengths_B[:, None]
        cache = SourceTargetCache(positions_BS, valid_BS, encoder.config.num_layers, max_target)
        cache.bias = encoder.bias(positions_BS, positions_BS)
        self._pass(tokens_BS, positions_BS, self.config.source_type, cache)
        return cache

    def step(self, tokens_N1: Tensor, cache: SourceTargetCache) -> Tensor:
        """Write a token in each row, and predict what follows it: logits (N, V)."""
        return self._predict(tokens_N1, cache)

    def _predict(self, tokens_N1: Tensor | None, cache: SourceTargetCache) -> Tensor:
        """The prediction behind what is written, whose newest token is given (None: nothing is written yet)."""
        device = cache.valid_BS.device
        parts = [] if tokens_N1 is None else [tokens_N1]
        if self.config.method == "causal":
            parts = parts or [torch.full((cache.batch_size, 1), self.vocabulary.sep_id, device=device)]
        else:
            parts = [*parts, torch.full((cache.batch_size, 1), self.vocabulary.mask_id, device=device)]
        cache.kept = 0 if tokens_N1 is None and self.config.method != "causal" else 1
        tokens_NT = torch.cat(parts, dim=1)
        lengths_N1 = cache.lengths_B[cache.text_of_N, None]
        positions_NT = lengths_N1 + cache.written + torch.arange(tokens_NT.shape[1], device=device)
        if self.model.encoder.relative_bias is not None:
            written = lengths_N1 + torch.arange(cache.written, device=device)
            keys = torch.cat([cache.positions_BS[cache.text_of_N], written, positions_NT], dim=1)
            cache.bias = self.model.encoder.bias(positions_NT, keys)
        hidden_NTE = self._pass(tokens_NT, positions_NT, self.config.target_type, cache)
        cache.advance()
        return self.model.logits(hidden_NTE[:, -1])

    def _pass(self, tokens: Tensor, positions: Tensor, type_id: int, cache: SourceTargetCache) -> Tensor:
        encoder = self.model.encoder
        types = None if encoder.type_embedding is None else torch.full_like(tokens, type_id)
        x_NTE = encoder.embed(tokens, positions + encoder.config.first_position, types)
        return encoder.stack(x_NTE, EncoderContext(cache=cache))
