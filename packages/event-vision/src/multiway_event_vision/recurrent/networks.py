"""The networks that are compared: spiking, recurrent, LSTM, and a control without memory; dense or convolutional.

    dense          SNN: hidden - classes            RNN, LSTM: hidden - hidden - linear read-out
    convolutional  C1 - AP2 - C2 - AP2 - hidden - the same; in the SNN average pools are LIF layers too

T steps, B samples, 2 polarities, H x W pixels; K classes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from multiway_core.errors import ConfigError
from torch import Tensor, nn

from multiway_event_vision.recurrent.cells import LifConfig
from multiway_event_vision.recurrent.layers import LifLayer, LstmLayer, MemorylessLayer, RnnLayer, each_step

Kind = Literal["snn", "rnn", "lstm", "memoryless"]
KINDS: tuple[Kind, ...] = ("snn", "rnn", "lstm", "memoryless")
_GATES = {"snn": 1, "rnn": 1, "lstm": 4, "memoryless": 1}


@dataclass(frozen=True)
class NetworkConfig:
    """`channels` empty: dense. The published sizes are 512 hidden; (64, 128) channels and 256 hidden."""

    kind: Kind
    size: tuple[int, int] = (34, 34)
    """Rows, columns of the frames."""
    classes: int = 10
    hidden: int = 512
    channels: tuple[int, ...] = ()
    lif: LifConfig = field(default_factory=LifConfig)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ConfigError(f"a network of kind {self.kind!r}; expected one of {', '.join(KINDS)}")
        if min(self.hidden, self.classes, *self.size, *self.channels) < 1:
            raise ConfigError(f"{self}: every size must be at least 1")
        if min(self.size) < 2 ** len(self.channels):
            raise ConfigError(f"frames of {self.size} are too small for {len(self.channels)} halvings")


@dataclass(frozen=True)
class Outputs:
    """What a network says at every step, and what its layers sent."""

    each_TBK: Tensor
    """SNN: spikes of the output neurons. Others: the linear read-out."""
    last_BK: Tensor
    """At the last step. SNN: potential of the output neurons, since one step has no rate. Others: the read-out."""
    sent: dict[str, Tensor]
    """Each layer's input, (T, B, ...), by the name of the layer: what operations are counted from."""


class EventNetwork(nn.Module):
    """Frames (T, B, 2, H, W) of 0 and 1, or counts -> `Outputs`. Raises ConfigError from its config."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.layers = nn.ModuleDict()
        channels, (rows, columns) = 2, config.size
        for number, width in enumerate(config.channels):
            self.layers[f"conv{number}"] = self._convolution(channels, width)
            pool: nn.Module = nn.AvgPool2d(2)
            self.layers[f"pool{number}"] = LifLayer(pool, config.lif) if config.kind == "snn" else pool
            channels, rows, columns = width, rows // 2, columns // 2
        width = channels * rows * columns
        # One dense layer does for SNNs and behind convolutions, as published.
        for number in range(1 if config.kind == "snn" or config.channels else 2):
            self.layers[f"dense{number}"] = self._dense(width, config.hidden)
            width = config.hidden
        readout = nn.Linear(width, config.classes)
        self.layers["readout"] = LifLayer(readout, config.lif) if config.kind == "snn" else readout

    def _convolution(self, inputs: int, outputs: int) -> nn.Module:
        wide = outputs * _GATES[self.config.kind]
        return self._layer(
            nn.Conv2d(inputs, wide, 3, padding=1), nn.Conv2d(outputs, wide, 3, padding=1, bias=False)
        )

    def _dense(self, inputs: int, outputs: int) -> nn.Module:
        wide = outputs * _GATES[self.config.kind]
        return self._layer(nn.Linear(inputs, wide), nn.Linear(outputs, wide, bias=False))

    def _layer(self, feed: nn.Module, recur: nn.Module) -> nn.Module:
        if self.config.kind == "snn":
            return LifLayer(feed, self.config.lif)
        if self.config.kind == "rnn":
            return RnnLayer(feed, recur)
        if self.config.kind == "lstm":
            return LstmLayer(feed, recur)
        return MemorylessLayer(feed)

    def forward(self, frames: Tensor) -> Outputs:
        sent: dict[str, Tensor] = {}
        x, potential = frames, frames
        for name, layer in self.layers.items():
            if name == "dense0" or (name == "readout" and x.dim() > 3):
                x = x.flatten(2)
            sent[name] = x
            if isinstance(layer, LifLayer):
                x, potential = layer(x)
            elif isinstance(layer, (nn.Linear, nn.AvgPool2d)):
                x = each_step(layer, x)
            else:
                x = layer(x)
        last = potential if self.config.kind == "snn" else x
        return Outputs(x, last[-1], sent)


def build(config: NetworkConfig, *, seed: int) -> EventNetwork:
    """A network whose initial weights depend on `seed` alone; the global random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return EventNetwork(config)
