"""The line reader and its losses: what batching may not change, and losses against naive computations."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from multiway_document.alphabet import ALPHABET
from multiway_document.kosmos2_5.config import Kosmos25Config, TextConfig, TokenConfig, VisionConfig
from multiway_document.kosmos2_5.line_reader import (
    greedy_readings,
    line_patches,
    read_lines,
)
from multiway_document.kosmos2_5.model import Kosmos25, Patches
from multiway_document.kosmos2_5.objective import IGNORED, Reader, ctc_loss, freeze_vision, token_loss
from multiway_document.line_reading import LINE_HEIGHT, STEPS_PER_COLUMN

TOKENS = TokenConfig(num_text_tokens=20, num_locations=8)
CONFIG = Kosmos25Config(
    vision=VisionConfig(
        hidden_size=32, num_layers=2, num_heads=2, head_dim=16, inner_size=48, max_patches=128
    ),
    text=TextConfig(
        hidden_size=32,
        num_layers=2,
        num_heads=2,
        inner_size=48,
        vocab_size=TOKENS.vocab_size,
        max_positions=64,
        dropout=0.0,
    ),
    tokens=TOKENS,
    num_queries=6,
)


@pytest.fixture(scope="module")
def reader() -> Reader:
    reader = Reader(CONFIG)
    reader.reset_parameters(seed=0)
    with torch.no_grad():  # sharper scores than at the start, so that lines have different texts
        reader.line_reader.scores.weight.mul_(4)
    return reader.eval()


def random_line(width: int) -> np.ndarray:
    return np.random.default_rng(width).integers(0, 256, (LINE_HEIGHT, width), dtype=np.uint8)


def test_patches_of_lines() -> None:
    lines = [random_line(20), random_line(64)]
    patches, steps = line_patches(lines)
    assert patches.pixels_BNP.shape == (2, 8, 768)
    assert steps.tolist() == [2 * STEPS_PER_COLUMN, 4 * STEPS_PER_COLUMN]
    assert patches.rows_BN.tolist() == [[1, 1, 0, 0, 2, 2, 0, 0], [1, 1, 1, 1, 2, 2, 2, 2]]
    assert patches.columns_BN.tolist() == [[1, 2, 0, 0, 1, 2, 0, 0], [1, 2, 3, 4, 1, 2, 3, 4]]
    wide = lines[1].astype(np.float64)
    normal = (wide - wide.mean()) / wide.std()
    second_of_bottom_row = patches.pixels_BNP[1, 5].view(16, 16, 3)
    for channel in range(3):
        torch.testing.assert_close(
            second_of_bottom_row[..., channel].double(),
            torch.from_numpy(normal[16:, 16:32]),
            atol=1e-4,
            rtol=0,
        )


def test_the_end_of_a_line_is_filled_with_paper() -> None:
    line = random_line(20)
    patches, _ = line_patches([line])
    brightest = patches.pixels_BNP.max()
    last_patch = patches.pixels_BNP[0, 1].view(16, 16, 3)
    assert (last_patch[:, 4:] == brightest).all()


def test_reading_alone_equals_reading_in_a_batch_and_keeps_order(reader) -> None:
    lines = [random_line(width) for width in (200, 16, 333, 7, 90, 200, 1, 401)]
    together = read_lines(reader.kosmos.vision, reader.line_reader, lines)
    alone = [read_lines(reader.kosmos.vision, reader.line_reader, [line])[0] for line in lines]
    small = read_lines(reader.kosmos.vision, reader.line_reader, lines, patches_per_batch=60)
    reversed_order = read_lines(reader.kosmos.vision, reader.line_reader, lines[::-1])[::-1]
    assert len({reading.text for reading in alone}) > 4
    for others in (together, small, reversed_order):
        for a, b in zip(others, alone, strict=True):
            assert a.text == b.text
            assert a.confidence == pytest.approx(b.confidence, abs=1e-5)
    assert read_lines(reader.kosmos.vision, reader.line_reader, []) == []


def test_blank_lines_do_not_raise(reader) -> None:
    blank = np.full((LINE_HEIGHT, 50), 255, np.uint8)
    (reading,) = read_lines(reader.kosmos.vision, reader.line_reader, [blank])
    assert 0 <= reading.confidence <= 1


def test_best_path_by_hand() -> None:
    a, b = ALPHABET.index("a") + 1, ALPHABET.index("b") + 1
    path = [0, a, a, 0, a, b, b, 0, b]  # "aabb", then steps of padding that do not count
    logits = torch.zeros(1, len(path), len(ALPHABET) + 1)
    logits[0, range(len(path)), path] = 20.0
    (reading,) = greedy_readings(logits, torch.tensor([len(path)]))
    assert reading.text == "aabb"
    assert reading.confidence == pytest.approx(1, abs=1e-4)
    assert greedy_readings(logits, torch.tensor([4]))[0].text == "a"
    assert greedy_readings(logits[:, :1], torch.tensor([1]))[0] == type(reading)("", 1.0)
    unsure = torch.zeros(1, 1, len(ALPHABET) + 1)
    unsure[0, 0, a] = np.log(len(ALPHABET))  # half of all probability
    assert greedy_readings(unsure, torch.tensor([1]))[0].confidence == pytest.approx(0.5)


# -- losses


def naive_ctc(log_probs_TK: torch.Tensor, target: list[int]) -> float:
    """Sum over all paths that collapse to the target."""
    steps, classes = log_probs_TK.shape
    total = 0.0
    for path in itertools.product(range(classes), repeat=steps):
        merged = [c for c, _ in itertools.groupby(path) if c != 0]
        if merged == target:
            total += float(sum(log_probs_TK[t, c] for t, c in enumerate(path)).exp())
    return -float(np.log(total)) if total else 0.0


def test_ctc_is_the_sum_over_lines() -> None:
    logits = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    targets, steps = [[1, 1], [3], [2, 1, 3]], [5, 3, 4]
    log_probs = logits.log_softmax(-1)
    expected = sum(naive_ctc(log_probs[i, : steps[i]], targets[i]) for i in range(3))
    ours = ctc_loss(logits, torch.tensor(steps), torch.tensor([1, 1, 3, 2, 1, 3]), torch.tensor([2, 1, 3]))
    assert ours.item() == pytest.approx(expected, rel=1e-5)


def test_a_line_that_does_not_fit_counts_nothing() -> None:
    logits = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    lengths = torch.tensor([1, 3])
    both = ctc_loss(logits, torch.tensor([3, 3]), torch.tensor([2, 1, 1, 1]), lengths)  # "111" needs 5 steps
    alone = ctc_loss(logits[:1], torch.tensor([3]), torch.tensor([2]), torch.tensor([1]))
    assert both.item() == pytest.approx(alone.item())
    (gradient,) = torch.autograd.grad(both, logits)
    assert not gradient[1].any()


def naive_token_loss(logits: torch.Tensor, targets: torch.Tensor, std: float) -> float:
    total = 0.0
    for row in range(targets.shape[0]):
        for step in range(targets.shape[1]):
            target = int(targets[row, step])
            if target == IGNORED:
                continue
            log_probs = logits[row, step].log_softmax(-1)
            if target < TOKENS.first_location or std == 0:
                total -= float(log_probs[target])
                continue
            index, axis = divmod(target - TOKENS.first_location, 2)
            reach = int(np.ceil(2 * std))
            near = [i for i in range(index - reach, index + reach + 1) if 0 <= i < TOKENS.num_locations]
            weights = np.exp([-0.5 * ((i - index) / std) ** 2 for i in near])
            for i, weight in zip(near, weights / weights.sum(), strict=True):
                total -= weight * float(log_probs[TOKENS.first_location + 2 * i + axis])
    return total


@pytest.mark.parametrize("std", [0.0, 0.7, 1.0, 2.5])
def test_token_loss_equals_naive(std: float) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 7, TOKENS.vocab_size, generator=generator)
    targets = torch.randint(0, TOKENS.vocab_size, (3, 7), generator=generator)
    targets[0, :4] = torch.tensor([TOKENS.x(0), TOKENS.y(0), TOKENS.x(7), TOKENS.y(7)])  # ends of the table
    targets[1, ::2] = IGNORED
    loss = token_loss(logits, targets, TOKENS, neighbour_std=std)
    assert loss.item() == pytest.approx(naive_token_loss(logits, targets, std), rel=1e-5)


def test_token_loss_without_any_target_is_zero_and_differentiable() -> None:
    logits = torch.randn(1, 2, TOKENS.vocab_size, requires_grad=True)
    loss = token_loss(logits, torch.full((1, 2), IGNORED), TOKENS, neighbour_std=1.0)
    loss.backward()
    assert loss.item() == 0
    assert not logits.grad.any()


def test_chat_fine_tuning_leaves_the_encoder_as_it_is() -> None:
    reader = Reader(CONFIG)
    reader.reset_parameters(seed=1)
    model: Kosmos25 = reader.kosmos
    freeze_vision(model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    patches, _ = line_patches([random_line(48)])
    suffix = torch.tensor([[TOKENS.markdown, 5, 6, 7, TOKENS.eos]])
    logits = model(Patches(*patches).padded(CONFIG.vision.max_patches), suffix)[:, -6:-1]
    token_loss(logits, suffix, TOKENS, neighbour_std=0.0).backward()
    assert all(parameter.grad is None for parameter in model.vision.parameters())
    assert all(parameter.grad is not None for parameter in model.resampler.parameters())
    optimizer.step()
    for name, value in model.state_dict().items():
        same = torch.equal(value, before[name])
        # A key's bias adds the same number to all scores of a query: a softmax does not see it.
        if name.startswith("vision."):
            assert same, name
        elif name.startswith(("resampler.", "text.decoder.")) and "key.bias" not in name:
            assert not same, name
