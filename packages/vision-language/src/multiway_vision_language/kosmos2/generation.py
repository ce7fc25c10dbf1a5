"""Generation and scoring with a shared prefix cache: a prefix is encoded once, continued any number of times.

Shape suffixes: B rows, T tokens, V vocabulary, L locations.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace

import torch
from multiway_core.errors import InputError
from multiway_core.generation import (
    GenerationConfig,
    LogitsProcessor,
    StatefulConstraint,
    StaticKVCache,
    StepEvent,
    StopOnRepetition,
    generate,
)
from torch import Tensor

from multiway_vision_language.kosmos2.constraints import (
    PHRASE_CLOSED,
    BlockScope,
    GroundingGrammar,
    LocationProbabilities,
    NoRepeatBehindPrompt,
    StopAfter,
)
from multiway_vision_language.kosmos2.model import ImageFeatures, Kosmos2
from multiway_vision_language.kosmos2.processor import Kosmos2Processor, TokenBatch


@dataclass(frozen=True)
class Decoding:
    """How to write. The defaults are the published ones (greedy, no 3-gram twice) without our grammar.

    Attributes:
        max_new_tokens: most tokens a row, a final ``</s>`` included.
        no_repeat_ngram_size: no n-gram of prompt and output twice; 0 allows it.
        block_scope: which n-grams that means, see `NoRepeatBehindPrompt`.
        grammar: only output that parses, and an end to boxes that repeat.
        grounded: with the grammar: whether phrases with places may be written.
        stop_after: tokens that end a row and are kept, such as ``</object>``.
        num_beams: hypotheses; above 1 there are no distributions of locations.
        temperature, top_p, seed: sampling, as in `GenerationConfig`.
    """

    max_new_tokens: int = 64
    no_repeat_ngram_size: int = 3
    block_scope: BlockScope = "all"
    grammar: bool = False
    grounded: bool = True
    stop_after: Collection[int] = ()
    num_beams: int = 1
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None


@dataclass(frozen=True)
class GeneratedSequence:
    """What one row wrote.

    ``ids`` without ``</s>``; ``log_probs`` of each under the model itself; ``locations`` the distribution over cells at
    each location token, in order; ``stop_reason`` as in `GenerationOutput`.
    """

    ids: list[int]
    log_probs: list[float]
    locations: list[Tensor]
    stop_reason: str

    @property
    def truncated(self) -> bool:
        """Whether the length limit cut it."""
        return self.stop_reason == "length"


@dataclass
class Prefix:
    """Prompts that were read once: cache, next-token logits and tokens, a row each."""

    cache: StaticKVCache
    logits_BV: Tensor
    batch: TokenBatch
    images: ImageFeatures | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.batch.tokens_BT)


class _PicturesOfRows(StatefulConstraint):
    """Keeps pictures in step with the rows of the batch, for networks that look at cells at every token."""

    def __init__(self, images: ImageFeatures | None) -> None:
        self.images = images if images is not None and images.cells_BNF is not None else None

    def select(self, rows: Tensor) -> None:
        if self.images is not None:
            self.images = self.images.rows(rows)


class Kosmos2Generator:
    """A model with its processor, ready to write and to score."""

    def __init__(self, model: Kosmos2, processor: Kosmos2Processor) -> None:
        self.model = model
        self.processor = processor
        self.tokens = processor.tokens

    @torch.inference_mode()
    def prefill(
        self, prompts: Sequence[Sequence[int]], images: ImageFeatures | None = None, *, room: int = 0
    ) -> Prefix:
        """Read prompts into a cache with ``room`` more slots a row.

        ``images`` are the pictures of all rows in order, one for every ``<image>`` of the prompts.
        Raises :class:`InputError` for an empty prompt, or for too few or too many pictures.
        """
        if not prompts or not all(prompts):
            raise InputError("a prompt is empty")
        batch = self.processor.batch(prompts).to(self.model.device)
        wanted = sum(len(self.processor.slots(prompt)) for prompt in prompts)
        given = 0 if images is None else len(images.embeddings_BQE)
        if wanted != given:
            raise InputError(f"the prompts have places for {wanted} pictures, but {given} are given")
        cache = self.model.text.new_cache(len(prompts), batch.tokens_BT.shape[1] + room)
        hidden_BTE = self.model.hidden(
            batch.tokens_BT, batch.valid_BT, images=images, image_slots_BT=batch.image_slots_BT, cache=cache
        )
        logits_BV = self.model.logits(hidden_BTE[:, -1:], self._looked_at(images))[:, 0].float()
        return Prefix(cache, logits_BV, batch, images)

    @torch.inference_mode()
    def extend(self, prefix: Prefix, suffixes: Sequence[Sequence[int]], *, room: int = 0) -> Prefix:
        """The prefix with further tokens behind it: row by row, or one row with every suffix of many.

        The given prefix stays as it is. Raises :class:`InputError` for an empty suffix.
        """
        extended, hidden_BTE = self._behind(prefix, suffixes, room)
        logits_BV = self.model.logits(hidden_BTE[:, -1:], self._looked_at(extended.images))[:, 0].float()
        return replace(extended, logits_BV=logits_BV)

    @torch.inference_mode()
    def score(self, prefix: Prefix, suffixes: Sequence[Sequence[int]]) -> list[list[float]]:
        """Log-probability of every token of each suffix behind the prefix: row by row, or one row with many.

        The first token of a suffix is predicted by the prefix. Raises :class:`InputError` for an empty suffix.
        """
        extended, hidden_BTE = self._behind(prefix, suffixes, 0)
        logits_BTV = self.model.logits(hidden_BTE[:, :-1], self._looked_at(extended.images)).float()
        first_BV = prefix.logits_BV.expand(len(suffixes), -1)
        longest = hidden_BTE.shape[1]
        scores = []
        for row, suffix in enumerate(suffixes):
            predictions_TV = torch.cat([first_BV[row : row + 1], logits_BTV[row, longest - len(suffix) :]])
            chosen_T = torch.tensor(list(suffix), device=predictions_TV.device)
            log_probs_T = predictions_TV.log_softmax(dim=-1).gather(1, chosen_T[:, None])[:, 0]
            scores.append(log_probs_T.tolist())
        return scores

    def generate(
        self, prefix: Prefix, decoding: Decoding, on_step: Callable[[StepEvent], None] | None = None
    ) -> list[GeneratedSequence]:
        """Continue every row until it ends; the prefix is used up. ``on_step`` as in `multiway_core.generation`.

        The cache must have room for ``max_new_tokens - 1``.
        """
        pictures = _PicturesOfRows(prefix.images)
        probabilities = LocationProbabilities(self.tokens)
        processors: list[LogitsProcessor] = [pictures]
        if decoding.no_repeat_ngram_size:
            processors.append(
                NoRepeatBehindPrompt(
                    decoding.no_repeat_ngram_size,
                    prefix.batch.tokens_BT,
                    self.tokens,
                    scope=decoding.block_scope,
                )
            )
        if decoding.grammar:
            processors.append(self._grammar(prefix, decoding))
            # A box, or a phrase with its box, for the third time in a row.
            processors.append(StopOnRepetition([self.tokens.object_end, self.tokens.delimiter]))
        if decoding.stop_after:
            processors.append(StopAfter(decoding.stop_after))
        if decoding.num_beams == 1:
            processors.append(probabilities)

        def decode(tokens_BT: Tensor, cache: StaticKVCache) -> Tensor:
            valid_BT = torch.ones_like(tokens_BT, dtype=torch.bool)
            return self.model(tokens_BT, valid_BT, images=pictures.images, cache=cache)[:, -1].float()

        config = GenerationConfig(
            max_new_tokens=decoding.max_new_tokens,
            eos_token_ids=(self.tokens.eos,),
            pad_token_id=self.tokens.pad,
            temperature=decoding.temperature,
            top_p=decoding.top_p,
            num_beams=decoding.num_beams,
            seed=decoding.seed,
        )
        output = generate(decode, prefix.logits_BV, prefix.cache, config, processors, on_step)
        locations = probabilities.distributions or [[] for _ in output.tokens]
        return [
            GeneratedSequence(tokens.tolist(), log_probs.tolist(), distributions, reason)
            for tokens, log_probs, distributions, reason in zip(
                output.tokens, output.log_probs, locations, output.stop_reasons, strict=True
            )
        ]

    def _grammar(self, prefix: Prefix, decoding: Decoding) -> GroundingGrammar:
        last_B = prefix.batch.tokens_BT[:, -1].tolist()
        behind_phrase = [token == self.tokens.phrase_end for token in last_B]
        if any(behind_phrase) != all(behind_phrase):
            raise InputError("some prompts end in </phrase> and others do not; write them in two calls")
        return GroundingGrammar(
            self.tokens,
            **({"start": PHRASE_CLOSED} if all(behind_phrase) else {}),
            grounded=decoding.grounded,
            absence=self.model.config.trained_absence,
            forbidden_words=self.processor.words_with_tag_signs,
        )

    def _behind(self, prefix: Prefix, suffixes: Sequence[Sequence[int]], room: int) -> tuple[Prefix, Tensor]:
        if not suffixes or not all(suffixes):
            raise InputError("nothing to read behind the prefix")
        if len(prefix) not in (1, len(suffixes)):
            raise ValueError(f"{len(suffixes)} suffixes for {len(prefix)} prefixes")
        more = self.processor.batch(suffixes).to(self.model.device)
        rows = (
            torch.arange(len(suffixes)) if len(prefix) > 1 else torch.zeros(len(suffixes), dtype=torch.long)
        )
        length = more.tokens_BT.shape[1] + room
        cache = self.model.text.new_cache(len(suffixes), prefix.cache.length + length)
        cache.copy_from(prefix.cache, rows)
        images = self._looked_at(prefix.images)
        if images is not None:
            images = images.rows(rows)
        hidden_BTE = self.model.hidden(more.tokens_BT, more.valid_BT, images=images, cache=cache)
        chosen = rows.to(self.model.device)
        joined = [torch.cat([old[chosen], new], dim=1) for old, new in zip(prefix.batch, more, strict=True)]
        # Padding between prefix and suffix moves to the left, so that no n-gram depends on the other rows.
        order_BT = joined[1].long().argsort(dim=1, stable=True)
        batch = TokenBatch(*(part.gather(1, order_BT) for part in joined))
        return Prefix(cache, prefix.logits_BV, batch, images), hidden_BTE

    @staticmethod
    def _looked_at(images: ImageFeatures | None) -> ImageFeatures | None:
        """The pictures, if the network looks at them behind the prefix as well."""
        return images if images is not None and images.cells_BNF is not None else None
