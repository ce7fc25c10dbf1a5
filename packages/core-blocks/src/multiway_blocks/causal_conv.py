"""Causal convolutions over time that give the same result at once and piece by piece.

A stream is run through the same modules with a :class:`StreamState`, which holds for each convolution the few columns
of its input that later outputs still need: VibeVoice (arXiv 2508.19205, section 2.1) decodes one frame at a time with
it, and encodes an hour of audio in constant memory.

Shape suffixes: B batch, C channels, T time steps.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from multiway_blocks.linear import Linear
from multiway_blocks.norm import RMSNorm


class StreamState:
    """What the convolutions of a batch of streams remember between pieces; zeros stand before the beginning."""

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size
        self._tails: dict[nn.Module, Tensor] = {}

    def join(self, module: nn.Module, x_BCT: Tensor, columns: int) -> Tensor:
        """``x`` behind what ``module`` remembers, which at first is ``columns`` zeros."""
        tail = self._tails.get(module)
        if tail is None:
            tail = x_BCT.new_zeros(self.batch_size, x_BCT.shape[1], columns)
        return torch.cat([tail, x_BCT], dim=-1)

    def remember(self, module: nn.Module, tail_BCT: Tensor) -> None:
        """Keep ``tail`` for the next piece (a copy: a view would keep the whole piece in memory)."""
        self._tails[module] = tail_BCT.clone()

    def reset(self, rows: Tensor) -> None:
        """Let these rows (int64 indices or a bool mask) begin anew; not while columns of a partial frame wait."""
        for tail in self._tails.values():
            tail[rows] = 0

    def take(self, rows: Tensor) -> StreamState:
        """A state of its own for these rows (int64 indices)."""
        part = StreamState(len(rows))
        part._tails = {module: tail[rows] for module, tail in self._tails.items()}
        return part

    def put(self, rows: Tensor, part: StreamState) -> None:
        """Write back what :meth:`take` gave, after it was used."""
        for module, tail in part._tails.items():
            if module not in self._tails:
                self._tails[module] = tail.new_zeros(self.batch_size, *tail.shape[1:])
            self._tails[module][rows] = tail


class CausalConv1d(nn.Module):
    """Convolution whose output ``t`` sees inputs up to ``(t + 1) * stride - 1`` and none behind.

    The input is padded on the left by ``(kernel_size - 1) * dilation - (stride - 1)`` zeros.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
    ) -> None:
        super().__init__()
        self.padding = (kernel_size - 1) * dilation - (stride - 1)
        if self.padding < 0:
            raise ValueError(f"a causal convolution of kernel {kernel_size} cannot have the stride {stride}")
        self.conv = nn.Conv1d(
            in_channels, out_channels, kernel_size, stride=stride, dilation=dilation, groups=groups
        )
        self.span = (kernel_size - 1) * dilation + 1
        self.stride = stride

    def forward(self, x_BCT: Tensor, state: StreamState | None = None) -> Tensor:
        """(B, in, T) -> (B, out, T // stride); with ``state``, columns of a partial step wait for the next piece."""
        if state is None:
            x_BCT = nn.functional.pad(x_BCT, (self.padding, 0))
        else:
            x_BCT = state.join(self, x_BCT, self.padding)
        frames = max(0, (x_BCT.shape[-1] - self.span) // self.stride + 1)
        if state is not None:
            state.remember(self, x_BCT[..., frames * self.stride :])
        if frames == 0:
            return x_BCT.new_empty(len(x_BCT), self.conv.out_channels, 0)
        return self.conv(x_BCT)


class CausalConvTranspose1d(nn.Module):
    """Transposed convolution of which the outputs that later inputs would still change are left out.

    Input ``t`` is heard in outputs ``t * stride`` to ``t * stride + kernel_size - 1``, so a stream needs
    ``ceil(kernel_size / stride) - 1`` earlier columns: one, for the usual kernel of twice the stride.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, *, stride: int) -> None:
        super().__init__()
        if kernel_size < stride:
            raise ValueError(
                f"a transposed convolution of kernel {kernel_size} leaves gaps at stride {stride}"
            )
        self.conv = nn.ConvTranspose1d(in_channels, out_channels, kernel_size, stride=stride)
        self.context = -(-kernel_size // stride) - 1
        self.stride = stride

    def forward(self, x_BCT: Tensor, state: StreamState | None = None) -> Tensor:
        """(B, in, T) -> (B, out, T * stride)."""
        steps, skipped = x_BCT.shape[-1], 0
        if steps == 0:
            return x_BCT.new_empty(len(x_BCT), self.conv.out_channels, 0)
        if state is not None:
            x_BCT = state.join(self, x_BCT, self.context)
            state.remember(self, x_BCT[..., x_BCT.shape[-1] - self.context :])
            skipped = self.context
        return self.conv(x_BCT)[..., skipped * self.stride : (skipped + steps) * self.stride]


class CausalConvBlock(nn.Module):
    """ConvNeXt-like block in pre-norm form, with a learned scale on each of its two branches.

    ``x + s * depthwise(norm(x))``, then ``x + s' * W2 gelu(W1 norm(x))``; norms are over channels.
    """

    def __init__(
        self,
        channels: int,
        *,
        kernel_size: int = 7,
        expansion: int = 4,
        eps: float = 1e-5,
        layer_scale: float = 1e-6,
    ) -> None:
        super().__init__()
        self.mixer_norm = RMSNorm(channels, eps)
        self.mixer = CausalConv1d(channels, channels, kernel_size, groups=channels)
        self.mixer_scale = nn.Parameter(torch.full((channels,), layer_scale))
        self.feedforward_norm = RMSNorm(channels, eps)
        self.up = Linear(channels, expansion * channels)
        self.down = Linear(expansion * channels, channels)
        self.feedforward_scale = nn.Parameter(torch.full((channels,), layer_scale))

    def forward(self, x_BCT: Tensor, state: StreamState | None = None) -> Tensor:
        """(B, C, T) -> (B, C, T)."""
        normed_BCT = self.mixer_norm(x_BCT.transpose(1, 2)).transpose(1, 2)
        x_BCT = x_BCT + self.mixer(normed_BCT, state) * self.mixer_scale[:, None]
        x_BTC = x_BCT.transpose(1, 2)
        hidden = nn.functional.gelu(self.up(self.feedforward_norm(x_BTC)))
        return (x_BTC + self.down(hidden) * self.feedforward_scale).transpose(1, 2)
