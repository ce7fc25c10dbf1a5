"""The decode loop with a small real decoder in float64: cache, ragged batches, sampling, streaming, stops."""

from __future__ import annotations

import math

import pytest
import torch
from multiway_core.errors import ConfigError, InputError
from multiway_core.generation import (
    GenerationConfig,
    StatefulConstraint,
    StaticKVCache,
    generate,
    stream,
)
from torch import Tensor, nn

VOCABULARY, WIDTH, HEADS, LAYERS = 23, 16, 2, 2
EOS, PAD = 2, 1


class TinyDecoder(nn.Module):
    """A causal transformer: attention and feed-forward with residuals, learned positions."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)

        def weight(*shape: int, scale: float) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64) * scale

        self.embedding = weight(VOCABULARY, WIDTH, scale=1.0)
        self.positions = weight(200, WIDTH, scale=0.5)
        self.qkv = [weight(3, WIDTH, WIDTH, scale=0.4) for _ in range(LAYERS)]
        self.output = [weight(WIDTH, WIDTH, scale=0.4) for _ in range(LAYERS)]
        self.up = [weight(WIDTH, 4 * WIDTH, scale=0.3) for _ in range(LAYERS)]
        self.down = [weight(4 * WIDTH, WIDTH, scale=0.3) for _ in range(LAYERS)]
        self.head = weight(WIDTH, VOCABULARY, scale=0.8)
        self.rows_seen: list[int] = []

    def all_logits(self, tokens_BT: Tensor, cache: StaticKVCache, valid_BT: Tensor) -> Tensor:
        batch, time = tokens_BT.shape
        start = cache.length
        position_BT = (cache.num_valid_B[:, None] + valid_BT.cumsum(1) - 1).clamp(min=0)
        valid_BS = torch.cat([cache.valid_BS[:, :start], valid_BT], dim=1)
        causal_TS = torch.arange(start + time) <= start + torch.arange(time)[:, None]
        mask_B1TS = (valid_BS[:, None] & causal_TS)[:, None]
        x = self.embedding[tokens_BT] + self.positions[position_BT]
        for layer in range(LAYERS):
            normed = nn.functional.layer_norm(x, (WIDTH,))
            q, k, v = ((normed @ w).view(batch, time, HEADS, -1).transpose(1, 2) for w in self.qkv[layer])
            keys, values = cache.update(layer, k, v)
            scores = (q @ keys.transpose(2, 3) / math.sqrt(q.shape[-1])).masked_fill(~mask_B1TS, -1e300)
            mixed = (scores.softmax(-1) @ values).transpose(1, 2).flatten(2)
            x = x + mixed @ self.output[layer]
            x = (
                x
                + nn.functional.gelu(nn.functional.layer_norm(x, (WIDTH,)) @ self.up[layer])
                @ self.down[layer]
            )
        cache.advance(valid_BT)
        return nn.functional.layer_norm(x, (WIDTH,)) @ self.head

    def forward(self, tokens_BT: Tensor, cache: StaticKVCache) -> Tensor:
        self.rows_seen.append(len(tokens_BT))
        return self.all_logits(tokens_BT, cache, torch.ones_like(tokens_BT, dtype=torch.bool))[:, -1]

    def prefill(self, prompts: list[list[int]], max_length: int = 120) -> tuple[Tensor, StaticKVCache]:
        longest = max(len(prompt) for prompt in prompts)
        cache = StaticKVCache(LAYERS, len(prompts), HEADS, WIDTH // HEADS, max_length, dtype=torch.float64)
        tokens = torch.tensor([[PAD] * (longest - len(prompt)) + prompt for prompt in prompts])
        valid = torch.tensor([[False] * (longest - len(prompt)) + [True] * len(prompt) for prompt in prompts])
        return self.all_logits(tokens, cache, valid)[:, -1], cache

    def uncached(self, tokens: list[int]) -> Tensor:
        return self.prefill([tokens])[0][0]


PROMPTS = [[3, 5, 7, 11], [4], [9, 8, 7, 6, 5, 4, 3], [20, 21]]


@pytest.fixture(scope="module")
def model() -> TinyDecoder:
    return TinyDecoder(seed=14)  # whose greedy rows end at four different steps


def config(**options) -> GenerationConfig:
    return GenerationConfig(**{"max_new_tokens": 25, "eos_token_ids": (EOS,), "pad_token_id": PAD, **options})


def run(model: TinyDecoder, prompts: list[list[int]], options: GenerationConfig, processors=(), **more):
    logits, cache = model.prefill(prompts)
    return generate(model, logits, cache, options, processors, **more)


class Recorder:
    """A processor that changes nothing and keeps what it sees."""

    def __init__(self) -> None:
        self.logits: list[Tensor] = []

    def __call__(self, tokens: Tensor, logits: Tensor) -> Tensor:
        self.logits.append(logits.clone())
        return logits


def uncached_greedy(model: TinyDecoder, prompt: list[int], limit: int) -> tuple[list[int], list[float], str]:
    tokens: list[int] = []
    log_probs: list[float] = []
    while len(tokens) < limit:
        scores = model.uncached(prompt + tokens).log_softmax(0)
        token = int(scores.argmax())
        if token == EOS:
            return tokens, log_probs, "eos"
        tokens.append(token)
        log_probs.append(float(scores[token]))
    return tokens, log_probs, "length"


def test_greedy_equals_recomputation_without_cache(model):
    output = run(model, PROMPTS, config())
    lengths = set()
    for row, prompt in enumerate(PROMPTS):
        tokens, log_probs, reason = uncached_greedy(model, prompt, 25)
        assert output.tokens[row].tolist() == tokens
        assert output.stop_reasons[row] == reason
        torch.testing.assert_close(
            output.log_probs[row], torch.tensor(log_probs, dtype=torch.float64), rtol=0, atol=1e-12
        )
        lengths.add(len(tokens))
    assert output.finished == [reason == "eos" for reason in output.stop_reasons]
    assert len(lengths) == 4, "the rows must end at different steps for this test to mean something"


@pytest.mark.parametrize(
    "options",
    [{}, {"temperature": 1.3, "seed": 5}, {"temperature": 0.9, "top_k": 8, "top_p": 0.9, "seed": 1}],
)
def test_ragged_batch_equals_single_runs(model, options):
    together = Recorder()
    batch = run(model, PROMPTS, config(**options), [together])
    for row, prompt in enumerate(PROMPTS):
        alone = Recorder()
        seed = {"seed": options["seed"] + row} if options else {}
        single = run(model, [prompt], config(**options | seed), [alone])
        assert torch.equal(batch.tokens[row], single.tokens[0])
        assert batch.stop_reasons[row] == single.stop_reasons[0]
        assert (batch.log_probs[row] - single.log_probs[0]).abs().max() <= 1e-12
        torch.testing.assert_close(together.logits[0][row], alone.logits[0][0], rtol=0, atol=1e-12)


def test_finished_rows_leave_the_batch(model):
    model.rows_seen.clear()
    output = run(model, PROMPTS, config())
    # A row that emits n tokens and then eos takes part in n decode calls; at the limit in one fewer.
    calls = [len(t) if done else len(t) - 1 for t, done in zip(output.tokens, output.finished, strict=True)]
    assert model.rows_seen == [sum(n > step for n in calls) for step in range(max(calls))]


def test_sampling_follows_the_distribution_and_the_seed(model):
    logits = torch.tensor([0.1, 2.0, -1.0, 0.7, 1.5]).double()
    rows = 4000
    cache = StaticKVCache(1, rows, 1, 1, 4)
    options = config(max_new_tokens=1, eos_token_ids=(), temperature=0.8, seed=0)
    first = generate(model, logits.expand(rows, -1), cache, options)
    counts = torch.stack(first.tokens)[:, 0].bincount(minlength=5)
    expected = (logits / 0.8).softmax(0) * rows
    chi_squared = ((counts - expected) ** 2 / expected).sum()
    assert chi_squared < 18.5, "0.1 % point of 4 degrees of freedom"

    again = run(model, PROMPTS, config(temperature=1.0, seed=3))
    same = run(model, PROMPTS, config(temperature=1.0, seed=3))
    other = run(model, PROMPTS, config(temperature=1.0, seed=99))
    assert [t.tolist() for t in again.tokens] == [t.tolist() for t in same.tokens]
    assert [t.tolist() for t in again.tokens] != [t.tolist() for t in other.tokens]
    torch.manual_seed(7)
    unseeded = run(model, PROMPTS, config(temperature=1.0))
    torch.manual_seed(7)
    assert [t.tolist() for t in unseeded.tokens] == [
        t.tolist() for t in run(model, PROMPTS, config(temperature=1.0)).tokens
    ]


@pytest.mark.parametrize("options", [{}, {"temperature": 1.0, "seed": 2}])
def test_streamed_tokens_are_the_output(model, options):
    output = run(model, PROMPTS, config(**options))
    logits, cache = model.prefill(PROMPTS)
    tokens: list[list[int]] = [[] for _ in PROMPTS]
    log_probs: list[list[float]] = [[] for _ in PROMPTS]
    stopped: dict[int, str] = {}
    for step, event in enumerate(stream(model, logits, cache, config(**options))):
        assert event.step == step
        assert not stopped.keys() & set(event.active_B.nonzero()[:, 0].tolist())
        assert (event.tokens_B[~event.active_B] == PAD).all()
        for row in event.active_B.nonzero()[:, 0].tolist():
            tokens[row].append(int(event.tokens_B[row]))
            log_probs[row].append(float(event.log_probs_B[row]))
        stopped |= event.stopped
    assert tokens == [t.tolist() for t in output.tokens]
    assert log_probs == [p.tolist() for p in output.log_probs]
    assert stopped == dict(enumerate(output.stop_reasons))
    events = []
    assert run(model, PROMPTS, config(**options), on_step=events.append).stop_reasons == output.stop_reasons
    assert len(events) == step + 1


def test_the_cache_is_filled_to_its_last_slot_and_no_further(model):
    logits, cache = model.prefill(PROMPTS, max_length=7 + 9)
    with pytest.raises(InputError, match=r"7 tokens .* 10 more .* max_length of 16"):
        stream(model, logits, cache, config(max_new_tokens=11))
    output = generate(model, logits, cache, config(max_new_tokens=10, eos_token_ids=()))
    assert [len(tokens) for tokens in output.tokens] == [10] * 4
    assert cache.length == 16
    with pytest.raises(InputError, match="max_length of 16"):
        model(torch.zeros(4, 1, dtype=torch.long), cache)
    logits, cache = model.prefill(PROMPTS, max_length=7 + 9)
    with pytest.raises(InputError, match="max_length of 16"):
        generate(model, logits, cache, config(max_new_tokens=11, num_beams=2))


@pytest.mark.parametrize("num_beams", [1, 3])
def test_no_new_tokens(model, num_beams):
    output = run(model, PROMPTS, config(max_new_tokens=0, num_beams=num_beams))
    assert [t.tolist() for t in output.tokens] == [[]] * 4
    assert [p.tolist() for p in output.log_probs] == [[]] * 4
    assert output.stop_reasons == ["length"] * 4
    assert not any(output.finished)


@pytest.mark.parametrize("num_beams", [1, 3])
def test_all_rows_end_at_the_first_step(model, num_beams):
    logits, cache = model.prefill(PROMPTS)
    logits[:, EOS] += 1000
    model.rows_seen.clear()
    output = generate(model, logits, cache, config(num_beams=num_beams))
    assert [t.tolist() for t in output.tokens] == [[]] * 4
    assert output.stop_reasons == ["eos"] * 4
    assert num_beams > 1 or model.rows_seen == []


@pytest.mark.parametrize("num_beams", [1, 2])
def test_empty_prompt_and_empty_batch(model, num_beams):
    """A decoder without any prompt starts from given logits and an empty cache."""
    cache = StaticKVCache(LAYERS, 1, HEADS, WIDTH // HEADS, 30, dtype=torch.float64)
    logits = torch.zeros(1, VOCABULARY, dtype=torch.float64)
    logits[0, 4] = 50
    output = generate(model, logits, cache, config(max_new_tokens=8, num_beams=num_beams))
    if num_beams == 1:
        assert output.tokens[0].tolist() == [4, *uncached_greedy(model, [4], 7)[0]]
    assert output.tokens[0][0] == 4
    nothing = StaticKVCache(LAYERS, 0, HEADS, WIDTH // HEADS, 30, dtype=torch.float64)
    options = config(num_beams=num_beams, temperature=0.0 if num_beams > 1 else 1.0)
    output = generate(model, logits[:0], nothing, options)
    assert output.tokens == output.stop_reasons == []


def test_a_row_without_any_allowed_token_ends_and_the_others_go_on(model):
    def forbid_all_in_first_row(tokens: Tensor, logits: Tensor) -> Tensor:
        if tokens.shape[1] < 3 or len(logits) < len(PROMPTS):
            return logits
        logits = logits.clone()
        logits[0] = float("-inf")
        return logits

    free = run(model, PROMPTS, config(eos_token_ids=()))
    for options in ({}, {"temperature": 0.01, "seed": 0}):
        output = run(model, PROMPTS, config(eos_token_ids=(), **options), [forbid_all_in_first_row])
        assert output.stop_reasons == ["stopped:no_token", "length", "length", "length"]
        assert [t.tolist() for t in output.tokens] == [
            free.tokens[0][:3].tolist(),
            *(t.tolist() for t in free.tokens[1:]),
        ]
    logits, cache = model.prefill(PROMPTS[:2])
    logits[0] = float("nan")
    assert generate(model, logits, cache, config()).stop_reasons[0] == "stopped:no_token"
    for options in ({"num_beams": 2}, {}):
        output = run(
            model, PROMPTS, config(**options), [lambda tokens, logits: torch.full_like(logits, float("-inf"))]
        )
        assert output.stop_reasons == ["stopped:no_token"] * 4
        assert [len(t) for t in output.tokens] == [0] * 4


class StopAtSum(StatefulConstraint):
    """Ends a row when the sum of its tokens reaches a bound."""

    name = "sum"

    def __init__(self, bound: int) -> None:
        self.bound = bound

    def start(self, batch_size: int, device: torch.device) -> None:
        self.sums = torch.zeros(batch_size, dtype=torch.long)

    def observe(self, tokens_B: Tensor) -> list[int]:
        self.sums += tokens_B
        return (self.sums >= self.bound).nonzero()[:, 0].tolist()

    def select(self, rows: Tensor) -> None:
        self.sums = self.sums[rows]


@pytest.mark.parametrize("num_beams", [1, 3])
def test_a_constraint_stops_rows_early_with_its_reason(model, num_beams):
    free = run(model, PROMPTS, config(num_beams=num_beams))
    output = run(model, PROMPTS, config(num_beams=num_beams), [StopAtSum(60)])
    assert "stopped:sum" in output.stop_reasons
    for row, reason in enumerate(output.stop_reasons):
        sums = output.tokens[row].cumsum(0).tolist()
        assert all(total < 60 for total in sums[:-1])
        if reason == "stopped:sum":
            assert sums[-1] >= 60
        if num_beams == 1:
            assert output.tokens[row].tolist() == free.tokens[row][: len(sums)].tolist()


def test_outputs_can_be_used_in_training(model):
    output = run(model, PROMPTS, config(max_new_tokens=3, eos_token_ids=()))
    table = nn.Embedding(VOCABULARY, 2)
    table(torch.stack(output.tokens)).sum().backward()
    assert table.weight.grad is not None
    output.tokens[0].add_(1)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"max_new_tokens": -1}, "max_new_tokens"),
        ({"temperature": -0.5}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_p": 0.0}, "top_p"),
        ({"num_beams": 0}, "num_beams"),
        ({"num_beams": 2, "temperature": 1.0}, "beam search"),
    ],
)
def test_config_refuses_what_cannot_be(options, named):
    with pytest.raises(ConfigError, match=named):
        config(**options)


def test_beam_search_does_not_stream(model):
    logits, cache = model.prefill(PROMPTS)
    with pytest.raises(ConfigError, match="beam search"):
        stream(model, logits, cache, config(num_beams=2))
    with pytest.raises(ConfigError, match="beam search"):
        generate(model, logits, cache, config(num_beams=2), on_step=print)


def test_cache_select_truncate_and_invalidate():
    cache = StaticKVCache(2, 3, 2, 4, 8)
    keys = torch.randn(3, 2, 3, 4)
    valid = torch.tensor([[0, 1, 1], [1, 1, 1], [0, 0, 1]]).bool()
    for layer in range(2):
        seen, _ = cache.update(layer, keys + layer, -keys)
        assert torch.equal(seen, keys + layer)
    cache.advance(valid)
    rows = torch.arange(3)
    # shrink, grow, permute, shrink, grow
    for step in (
        [2, 0],
        [0, 1, 0, 1, 1],
        [4, 3, 2, 1, 0],
        [1, 3],
        [1, 1, 0],
    ):
        cache.select(torch.tensor(step))
        rows = rows[torch.tensor(step)]
        assert cache.batch_size == len(rows)
        assert torch.equal(cache.valid_BS[:, :3], valid[rows])
        assert torch.equal(cache.num_valid_B, valid[rows].sum(1))
        seen, values = cache.update(1, torch.zeros(len(rows), 2, 1, 4), torch.zeros(len(rows), 2, 1, 4))
        assert torch.equal(seen[:, :, :3], keys[rows] + 1)
        assert torch.equal(values[:, :, :3], -keys[rows])
    cache.invalidate(torch.tensor([[True, False]] * 3))
    assert torch.equal(cache.num_valid_B, valid[rows].sum(1) - valid[rows, 1].long())
    cache.truncate(2)
    assert cache.length == 2
    assert torch.equal(cache.num_valid_B, valid[rows, 0].long())
    with pytest.raises(ValueError, match="truncate"):
        cache.truncate(3)


def test_cache_copied_to_more_rows():
    generator = torch.Generator().manual_seed(0)
    source = StaticKVCache(2, 3, 1, 4, 9)
    filled = torch.randn(3, 1, 5, 4, generator=generator)
    for layer in range(2):
        source.update(layer, filled + layer, filled - layer)
    valid = torch.tensor([[0, 1, 1, 1, 1], [1, 1, 1, 1, 1], [0, 0, 1, 1, 0]], dtype=torch.bool)
    source.advance(valid)
    for rows in ([2, 0, 2, 1], [1]):
        copy = StaticKVCache(2, len(rows), 1, 4, 7)
        copy.copy_from(source, torch.tensor(rows))
        assert copy.length == 5
        assert torch.equal(copy.valid_BS[:, :5], valid[rows])
        assert not copy.valid_BS[:, 5:].any()
        assert copy.num_valid_B.tolist() == valid[rows].sum(dim=1).tolist()
        new = torch.randn(len(rows), 1, 2, 4, generator=generator)
        for layer in range(2):
            keys, values = copy.update(layer, new, new)
            assert torch.equal(keys, torch.cat([filled[rows] + layer, new], dim=2))
            assert torch.equal(values, torch.cat([filled[rows] - layer, new], dim=2))
        copy.advance(torch.ones(len(rows), 2, dtype=torch.bool))
    assert source.length == 5
    assert torch.equal(source.update(0, filled[:, :, :1], filled[:, :, :1])[0][:, :, :5], filled)

    one = StaticKVCache(2, 1, 1, 4, 9)
    one.copy_from(source, torch.tensor([1]))
    many = StaticKVCache(2, 4, 1, 4, 5)
    many.copy_from(one, torch.zeros(4, dtype=torch.long))
    nothing = torch.empty(4, 1, 0, 4)
    assert torch.equal(many.update(1, nothing, nothing)[0], (filled[1:2] + 1).expand(4, -1, -1, -1))
    with pytest.raises(InputError, match="max_length of 4"):
        StaticKVCache(2, 1, 1, 4, 4).copy_from(source, torch.tensor([0]))
    with pytest.raises(ValueError, match="2 rows for a cache of 1"):
        StaticKVCache(2, 1, 1, 4, 9).copy_from(source, torch.tensor([0, 1]))
