"""Causal convolutions over time that give the same result at once and piece by piece.

A stream is run through the same modules with a :class:`StreamState`, which holds for each convolution the few columns
of its input that later outputs still need: VibeVoice (arXiv 2508.19205, section 2.1) decodes one frame at a time with
it, and encodes an hour of audio in constant memory.

Shape suffixes: B batch, C channels in, I channels out of a transposed one, K kernel, S stride, T steps.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from multiway_blocks.linear import Linear, project
from multiway_blocks.norm import RMSNorm

# PyTorch's convolutions on a CPU rearrange weights and signal at every call. In a stream of one frame there are few
# columns where the most weights are and small signals elsewhere, and the same sums are faster by hand (measured in
# float32 on one core: from 2048 to 1024 channels 12 ms in place of 100 to 210); beyond these numbers they are not.
_FEW_COLUMNS = 48
_FEW_WINDOWS = 16
_SMALL_SIGNAL = 1 << 18


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
        if x_BCT.stride(1) == 1:  # channels lie together, and shall stay so
            return torch.cat([tail.transpose(1, 2), x_BCT.transpose(1, 2)], dim=1).transpose(1, 2)
        return torch.cat([tail, x_BCT], dim=-1)

    def remember(self, module: nn.Module, tail_BCT: Tensor) -> None:
        """Keep ``tail`` for the next piece (a copy: a view would keep the whole piece in memory)."""
        self._tails[module] = tail_BCT.clone()

    def reset(self, rows: Tensor) -> None:
        """Let these rows (int64 indices or a bool mask) begin anew; not while columns of a partial frame wait."""
        for tail in self._tails.values():
            tail[rows] = 0

    def take(self, rows: Tensor) -> StreamState:
        """A state of its own for these rows (int64 indices); this one itself if they are all, in order."""
        if len(rows) == self.batch_size and rows.tolist() == list(range(self.batch_size)):
            return self
        part = StreamState(len(rows))
        part._tails = {module: tail[rows] for module, tail in self._tails.items()}
        return part

    def put(self, rows: Tensor, part: StreamState) -> None:
        """Write back what :meth:`take` gave, after it was used."""
        if part is self:
            return
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
        self.depthwise = stride == 1 and groups == in_channels == out_channels

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
        if _by_hand(x_BCT):
            if self.conv.groups == 1 and self.conv.dilation == (1,) and len(x_BCT) * frames <= _FEW_WINDOWS:
                return self._windows(x_BCT)
            if self.depthwise and x_BCT.numel() <= _SMALL_SIGNAL:
                return self._taps(x_BCT, frames)
        return self.conv(x_BCT)

    def _windows(self, x_BCT: Tensor) -> Tensor:
        """One product of all that an output sees with the weights."""
        windows_BTI = x_BCT.unfold(-1, self.span, self.stride).transpose(1, 2).flatten(2)
        return project(windows_BTI, self.conv.weight.flatten(1), self.conv.bias).transpose(1, 2)

    def _taps(self, x_BCT: Tensor, frames: int) -> Tensor:
        """A channel's weights one behind the other, each for all columns and channels; summed in float32 at least."""
        wide = torch.promote_types(x_BCT.dtype, torch.float32)
        x_BTC, weight_KC = x_BCT.transpose(1, 2).to(wide), self.conv.weight[:, 0].t().to(wide).contiguous()
        bias = x_BTC.new_zeros(()) if self.conv.bias is None else self.conv.bias.to(wide)
        sum_BTC = torch.addcmul(bias, x_BTC[:, :frames], weight_KC[0])
        for tap in range(1, len(weight_KC)):
            start = tap * self.conv.dilation[0]
            sum_BTC.addcmul_(x_BTC[:, start : start + frames], weight_KC[tap])
        return sum_BTC.to(x_BCT.dtype).transpose(1, 2)


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
        few = _by_hand(x_BCT) and len(x_BCT) * x_BCT.shape[-1] <= _FEW_COLUMNS
        heard_BCT = self._products(x_BCT) if few else self.conv(x_BCT)
        return heard_BCT[..., skipped * self.stride : (skipped + steps) * self.stride]

    def _products(self, x_BCT: Tensor) -> Tensor:
        """All products of inputs and weights at once, and then the sum of those that fall on the same output."""
        weight_CIK, stride, parts = self.conv.weight, self.stride, self.context + 1
        columns = x_BCT.shape[-1]
        products_BTIK = (x_BCT.transpose(1, 2) @ weight_CIK.flatten(1)).unflatten(-1, weight_CIK.shape[1:])
        missing = parts * stride - weight_CIK.shape[-1]
        products_BTIK = nn.functional.pad(products_BTIK, (0, missing)) if missing else products_BTIK
        heard_BIT = x_BCT.new_zeros(len(x_BCT), weight_CIK.shape[1], (columns + self.context) * stride)
        for part in range(parts):
            one_BTIS = products_BTIK[..., part * stride : (part + 1) * stride]
            start = part * stride
            heard_BIT[..., start : start + columns * stride] += one_BTIS.transpose(1, 2).flatten(2)
        return heard_BIT if self.conv.bias is None else heard_BIT + self.conv.bias[:, None]


def _by_hand(x_BCT: Tensor) -> bool:
    """Whether sums may be taken without PyTorch's convolutions."""
    return x_BCT.is_cpu and not torch.is_grad_enabled() and not torch.compiler.is_compiling()


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
        x_BTC = x_BCT.transpose(1, 2)
        mixed_BCT = self.mixer(self.mixer_norm(x_BTC).transpose(1, 2), state)
        x_BTC = torch.addcmul(x_BTC, mixed_BCT.transpose(1, 2), self.mixer_scale)
        branch_BTC = self.down(nn.functional.gelu(self.up(self.feedforward_norm(x_BTC))))
        return torch.addcmul(x_BTC, branch_BTC, self.feedforward_scale).transpose(1, 2)
