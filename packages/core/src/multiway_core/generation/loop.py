"""The decode loop: greedy and sampling, batched, streaming, with finished rows dropped on the way.

Shape legend: B rows of the call, N rows still in the batch, T generated tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence

import torch
from torch import Tensor, nn

from multiway_core.errors import ConfigError
from multiway_core.generation.beam import beam_search
from multiway_core.generation.cache import DecodeStep, StaticKVCache, without
from multiway_core.generation.config import GenerationConfig
from multiway_core.generation.output import GenerationOutput, StepEvent, StopReason, ordinary
from multiway_core.generation.processors import (
    NEVER,
    LogitsProcessor,
    NoRepeatNGram,
    ProcessorChain,
    Temperature,
    TopK,
    TopP,
    at_least_float32,
)


def generate(
    decode: DecodeStep,
    first_logits_BV: Tensor,
    cache: StaticKVCache,
    config: GenerationConfig,
    processors: Sequence[LogitsProcessor] = (),
    on_step: Callable[[StepEvent], None] | None = None,
) -> GenerationOutput:
    """Continue every row of a prefilled cache until it ends.

    The result of a row does not depend on its batch mates. The cache is used up: rows are dropped from it and
    reordered on the way.

    Args:
        decode: the model's step.
        first_logits_BV: float (batch, vocabulary), the prediction after the prompt.
        cache: filled with the prompt; needs max_new_tokens - 1 free slots.
        config: how to decode.
        processors: change or forbid next tokens, applied in order, before those that `config` asks for.
        on_step: called after every step (not in beam search, which revises its tokens until the end).

    Raises InputError when the tokens do not fit the cache, ConfigError when `on_step` meets beam search.
    """
    if config.num_beams > 1:
        if on_step is not None:
            raise ConfigError("generation: beam search has no steps to report; set num_beams to 1")
        return beam_search(decode, first_logits_BV, cache, config, [*processors, *_constraints_of(config)])
    steps = stream(decode, first_logits_BV, cache, config, processors)
    while True:
        try:
            event = next(steps)
        except StopIteration as end:
            return end.value
        if on_step is not None:
            on_step(event)


def stream(
    decode: DecodeStep,
    first_logits_BV: Tensor,
    cache: StaticKVCache,
    config: GenerationConfig,
    processors: Sequence[LogitsProcessor] = (),
) -> Generator[StepEvent, None, GenerationOutput]:
    """Like `generate`, but a generator that yields each step's StepEvent; its return value is the output.

    Raises at once what `generate` raises; also ConfigError when num_beams is above 1.
    """
    if config.num_beams > 1:
        raise ConfigError("generation: beam search cannot stream, it revises its tokens; set num_beams to 1")
    if len(first_logits_BV) != cache.batch_size:
        raise ValueError(f"{len(first_logits_BV)} rows of logits but {cache.batch_size} rows in the cache")
    cache.require(max(config.max_new_tokens - 1, 0))
    chain = ProcessorChain([*processors, *_constraints_of(config), *_filters_of(config)])
    return _steps(decode, first_logits_BV, cache, config, chain)


@torch.inference_mode()
def _steps(
    decode: DecodeStep,
    logits_NV: Tensor,
    cache: StaticKVCache,
    config: GenerationConfig,
    chain: ProcessorChain,
) -> Generator[StepEvent, None, GenerationOutput]:
    batch_size, device = len(logits_NV), logits_NV.device
    limit = config.max_new_tokens
    # On the CPU, by original row: what is emitted.
    all_tokens_BT = torch.full((batch_size, limit), config.pad_token_id)
    all_log_probs_BT = torch.zeros(batch_size, limit, dtype=torch.float64)
    lengths_B = torch.zeros(batch_size, dtype=torch.long)
    reasons: list[StopReason] = ["length"] * batch_size
    # On the device, by row still in the batch: what processors and the sampler read.
    history_NT = all_tokens_BT.to(device, copy=True)
    uniform_NT = _uniform(config, batch_size).to(device) if config.temperature > 0 else None
    eos = torch.tensor(config.eos_token_ids, dtype=torch.long)
    rows_N = torch.arange(batch_size)  # the original row of each row in the batch
    chain.start(batch_size, device)

    for step in range(limit if batch_size else 0):
        scores_NV = at_least_float32(logits_NV)
        allowed_NV = chain(history_NT[:, :step], scores_NV)
        best_N, tokens_N = allowed_NV.max(dim=1)
        if uniform_NT is not None:
            tokens_N = _sample(allowed_NV, uniform_NT[:, step])
        # A row where nothing is allowed (or everything is NaN) must end rather than emit a forbidden token.
        tokens_N = torch.where(best_N > NEVER, tokens_N, -1)
        log_probs_N = -nn.functional.cross_entropy(scores_NV, tokens_N.clamp(min=0), reduction="none")
        chosen_N = tokens_N.cpu()  # the step's one synchronisation with the device
        log_probs = log_probs_N.double().cpu()

        ended = dict.fromkeys((chosen_N < 0).nonzero()[:, 0].tolist(), "stopped:no_token")
        ended.update(dict.fromkeys(torch.isin(chosen_N, eos).nonzero()[:, 0].tolist(), "eos"))
        emitted_N = torch.ones(len(rows_N), dtype=torch.bool)
        emitted_N[list(ended)] = False
        ended = chain.observe(chosen_N) | ended
        emitted_rows = rows_N[emitted_N]
        all_tokens_BT[emitted_rows, step] = chosen_N[emitted_N]
        all_log_probs_BT[emitted_rows, step] = log_probs[emitted_N]
        lengths_B[emitted_rows] += 1
        stopped = {int(rows_N[index]): reason for index, reason in ended.items()}
        for row, reason in stopped.items():
            reasons[row] = reason
        if step + 1 == limit:
            still_running = set(rows_N.tolist()) - stopped.keys()
            stopped |= dict.fromkeys(sorted(still_running), "length")
        active_B = torch.zeros(batch_size, dtype=torch.bool)
        active_B[emitted_rows] = True
        yield StepEvent(
            step,
            ordinary(all_tokens_BT[:, step]),
            ordinary(active_B),
            ordinary(all_log_probs_BT[:, step]),
            stopped,
        )

        if step + 1 == limit or len(ended) == len(rows_N):
            break
        history_NT[:, step] = tokens_N
        if ended:
            kept = without(len(rows_N), ended.keys())
            rows_N = rows_N[kept]
            chain.select(kept)
            cache.select(kept)
            kept = kept.to(device)
            tokens_N, history_NT = tokens_N[kept], history_NT[kept]
            uniform_NT = uniform_NT[kept] if uniform_NT is not None else None
        logits_NV = decode(tokens_N[:, None], cache)

    lengths = lengths_B.tolist()
    return GenerationOutput(
        tokens=[ordinary(all_tokens_BT[row, :length]) for row, length in enumerate(lengths)],
        log_probs=[ordinary(all_log_probs_BT[row, :length]) for row, length in enumerate(lengths)],
        stop_reasons=reasons,
    )


def _uniform(config: GenerationConfig, batch_size: int) -> Tensor:
    """Float64 (batch, max_new_tokens) in [0, 1): row i comes from the generator seeded with seed + i.

    Drawn on the CPU before the first step, so a row's sample depends neither on its batch mates nor on the
    device.
    """
    seed = int(torch.randint(2**62, ())) if config.seed is None else config.seed
    uniform_BT = torch.empty(batch_size, config.max_new_tokens, dtype=torch.float64)
    for row in range(batch_size):
        uniform_BT[row].uniform_(generator=torch.Generator().manual_seed(seed + row))
    return uniform_BT


def _sample(scores_NV: Tensor, uniform_N: Tensor) -> Tensor:
    """One token per row by inversion of the cumulative distribution in the order of the vocabulary.

    That order, unlike one sorted by probability, cannot flip between two runs that differ by rounding.
    """
    cumulative_NV = scores_NV.softmax(dim=1, dtype=torch.float64).cumsum(dim=1)
    total_N1 = cumulative_NV[:, -1:]
    # Strictly below the total, so that the token found has a probability above 0.
    target_N1 = torch.minimum(uniform_N[:, None] * total_N1, total_N1.nextafter(torch.zeros_like(total_N1)))
    found_N1 = torch.searchsorted(cumulative_NV, target_N1, right=True)
    return found_N1[:, 0].clamp(max=scores_NV.shape[1] - 1)


def _constraints_of(config: GenerationConfig) -> list[LogitsProcessor]:
    return [NoRepeatNGram(config.no_repeat_ngram_size)] if config.no_repeat_ngram_size else []


def _filters_of(config: GenerationConfig) -> list[LogitsProcessor]:
    """What shapes the distribution that is sampled from; greedy decoding needs none of it."""
    if config.temperature == 0:
        return []
    filters: list[LogitsProcessor] = [Temperature(config.temperature)]
    if config.top_k:
        filters.append(TopK(config.top_k))
    if config.top_p < 1:
        filters.append(TopP(config.top_p))
    return filters
