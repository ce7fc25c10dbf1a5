"""Causal convolutions and the sigma-VAE's networks: causal, and in pieces what they are at once."""

from __future__ import annotations

import pytest
import torch
from multiway_blocks.causal_conv import CausalConv1d, CausalConvBlock, CausalConvTranspose1d, StreamState
from multiway_blocks.vae import CausalDecoder, CausalEncoder, mean_penalty, sample_latents
from torch import Tensor, nn

SIZES = {"latent_size": 5, "num_filters": 4, "layer_scale": 0.5}


def randomized(module: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    for parameter in module.double().parameters():
        parameter.data += torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * 0.2
    return module.eval()


def signal(rows: int, channels: int, steps: int) -> Tensor:
    return torch.randn(
        rows, channels, steps, generator=torch.Generator().manual_seed(steps), dtype=torch.float64
    )


def in_pieces(
    module: nn.Module, x: Tensor, lengths: list[int], state: StreamState, axis: int = 2
) -> list[Tensor]:
    return [module(piece, state) for piece in x.split(lengths, dim=axis)]


MODULES = {
    "plain": lambda: CausalConv1d(3, 4, 7),
    "dilated": lambda: CausalConv1d(3, 4, 3, dilation=4),
    "strided": lambda: CausalConv1d(3, 4, 10, stride=5),
    "pointwise": lambda: CausalConv1d(3, 4, 1),
    "upsampling": lambda: CausalConvTranspose1d(3, 4, 10, stride=5),
    "wide upsampling": lambda: CausalConvTranspose1d(3, 4, 7, stride=2),
    "no overlap": lambda: CausalConvTranspose1d(3, 4, 2, stride=2),
    "block": lambda: CausalConvBlock(3, layer_scale=0.5),
}


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("lengths", [[40], [5] * 8, [1] * 40, [3, 0, 17, 20], [7, 33]])
@torch.no_grad()
def test_pieces_equal_the_whole(name: str, lengths: list[int]) -> None:
    module = randomized(MODULES[name]())
    x = signal(2, 3, 40)
    pieces = in_pieces(module, x, lengths, StreamState(2))
    torch.testing.assert_close(torch.cat(pieces, dim=2), module(x), atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", MODULES)
@torch.no_grad()
def test_no_output_hears_the_future(name: str) -> None:
    module = randomized(MODULES[name]())
    x = signal(1, 3, 40)
    changed = x.clone()
    changed[..., 20:] += 1
    before = module(x).shape[-1] // 2
    assert torch.equal(module(x)[..., :before], module(changed)[..., :before])
    assert not torch.equal(module(x)[..., before:], module(changed)[..., before:])


@torch.no_grad()
def test_convolutions_equal_their_formula() -> None:
    conv, x = randomized(CausalConv1d(2, 3, 4, stride=2)), signal(1, 2, 8)
    padded = nn.functional.pad(x, (conv.padding, 0))
    for step in range(4):
        window = padded[0, :, 2 * step : 2 * step + 4]
        expected = (conv.conv.weight * window).sum(dim=(1, 2)) + conv.conv.bias
        torch.testing.assert_close(conv(x)[0, :, step], expected)
    up = randomized(CausalConvTranspose1d(2, 3, 4, stride=2))
    weight = up.conv.weight  # (in, out, kernel)
    for step in range(16):
        column, phase = divmod(step, 2)
        expected = torch.einsum("i,io->o", x[0, :, column], weight[:, :, phase]) + up.conv.bias
        if column:
            expected += torch.einsum("i,io->o", x[0, :, column - 1], weight[:, :, phase + 2])
        torch.testing.assert_close(up(x)[0, :, step], expected)


def test_impossible_strides_are_refused() -> None:
    with pytest.raises(ValueError, match="stride 9"):
        CausalConv1d(1, 1, 3, stride=9)
    with pytest.raises(ValueError, match="gaps"):
        CausalConvTranspose1d(1, 1, 3, stride=4)


@pytest.mark.parametrize(
    ("ratios", "depths"), [((2, 5), (1, 2, 1)), ((3,), (2, 1)), ((2, 2, 4), (1, 1, 0, 2))]
)
@torch.no_grad()
def test_encoder_and_decoder_stream(ratios, depths) -> None:
    encoder = randomized(CausalEncoder(ratios=ratios, depths=depths, **SIZES))
    decoder = randomized(CausalDecoder(ratios=ratios[::-1], depths=depths[::-1], **SIZES))
    x = signal(2, 1, 6 * encoder.hop)
    frames = encoder(x)
    assert frames.shape == (2, 6, 5)
    for lengths in ([encoder.hop] * 6, [1, 2 * encoder.hop, 4 * encoder.hop - 1]):
        streamed = torch.cat(in_pieces(encoder, x, lengths, StreamState(2)), dim=1)
        torch.testing.assert_close(streamed, frames, atol=1e-12, rtol=0)
    audio = decoder(frames)
    assert audio.shape == x.shape
    streamed = torch.cat(in_pieces(decoder, frames, [1, 2, 3], StreamState(2), axis=1), dim=2)
    torch.testing.assert_close(streamed, audio, atol=1e-12, rtol=0)


def test_depths_must_fit_the_ratios() -> None:
    with pytest.raises(ValueError, match="3 depths"):
        CausalEncoder(ratios=(2, 2), depths=(1, 1), **SIZES)


@torch.no_grad()
def test_rows_of_a_stream_are_independent() -> None:
    decoder = randomized(CausalDecoder(ratios=(5, 2), depths=(1, 2, 1), **SIZES))
    frames = signal(3, 4, 5)
    alone = [decoder(row[None]) for row in frames]
    state, rows = StreamState(3), torch.tensor([0, 2])
    part = state.take(rows)  # row 1 waits while the others run
    first = decoder(frames[rows, :2], part)
    state.put(rows, part)
    torch.testing.assert_close(first, torch.cat([alone[0], alone[2]])[..., :20])
    late = decoder(frames[1:2], part := state.take(torch.tensor([1])))
    torch.testing.assert_close(late, alone[1])
    state.put(torch.tensor([1]), part)
    state.reset(torch.tensor([True, False, False]))
    mixed = torch.stack([frames[0, 0], frames[1, 3], frames[2, 2]])[:, None]
    again = decoder(mixed, state)
    torch.testing.assert_close(again[0], alone[0][0, :, :10])
    torch.testing.assert_close(again[2], alone[2][0, :, 20:30])


def test_all_rows_of_a_state_are_the_state() -> None:
    state = StreamState(3)
    assert state.take(torch.arange(3)) is state
    state.put(torch.arange(3), state)
    for rows in ([0, 2, 1], [0, 1], [2]):
        assert state.take(torch.tensor(rows)) is not state


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "module",
    [
        lambda: CausalConv1d(64, 48, 10, stride=5),
        lambda: CausalConv1d(40, 40, 7, groups=40),
        lambda: CausalConv1d(40, 40, 3, groups=40, dilation=2),
        lambda: CausalConvTranspose1d(64, 32, 10, stride=5),
        lambda: CausalConvTranspose1d(64, 32, 7, stride=2),
        lambda: CausalConvTranspose1d(64, 32, 3, stride=3),
        lambda: CausalConvBlock(32, layer_scale=0.5),
    ],
)
@pytest.mark.parametrize("channels_together", [False, True])
def test_sums_by_hand_equal_the_convolutions(module, dtype, channels_together: bool) -> None:
    """Short signals without gradients go another way than with them."""
    torch.manual_seed(0)
    module = module().to(dtype)
    channels = next(module.parameters()).shape[0]
    if isinstance(module, CausalConv1d) and not module.depthwise:
        channels = 64
    x = torch.randn(2, channels, 20, dtype=dtype)
    x = x.transpose(1, 2).contiguous().transpose(1, 2) if channels_together else x
    expected = module(x).detach()
    exact = {"atol": 1e-5, "rtol": 1e-5} if dtype == torch.float32 else {"atol": 0.03, "rtol": 0.03}
    with torch.no_grad():
        torch.testing.assert_close(module(x), expected, **exact)
        pieces = torch.cat(in_pieces(module, x, [5, 10, 5], StreamState(2)), dim=2)
    torch.testing.assert_close(pieces, expected, **exact)


def test_a_block_under_autocast() -> None:
    torch.manual_seed(0)
    block, x = CausalConvBlock(32, layer_scale=0.5), torch.randn(2, 32, 20)
    with torch.autocast("cpu", torch.bfloat16):
        found = block(x)
        torch.autograd.grad(found.float().square().sum(), list(block.parameters()))
    torch.testing.assert_close(found.float(), block(x), atol=0.05, rtol=0.05)


def test_state_does_not_keep_the_pieces_alive() -> None:
    conv, state = CausalConv1d(1, 1, 7), StreamState(1)
    with torch.no_grad():
        conv(torch.zeros(1, 1, 100_000), state)
    assert sum(tail.untyped_storage().nbytes() for tail in state._tails.values()) == 6 * 4


def test_one_noise_level_an_example() -> None:
    mean = torch.full((4000, 8, 4), 3.0)
    noise = sample_latents(mean, 0.5, torch.Generator().manual_seed(0)) - mean
    levels = noise.square().mean(dim=(1, 2)).sqrt()
    assert abs(noise.mean()) < 0.01
    assert abs(noise.std() - 0.5) < 0.02
    # The level itself is a half-normal variable: its spread is what a fixed level would not have.
    assert levels.std() > 0.25
    assert mean_penalty(mean) == 9
