"""Modality experts: one module for each kind of token, chosen by an explicit list of segments.

Shape suffixes: B batch, T tokens, E input size.

The systems differ in what they partition, not in how. BEiT-3's released layers partition the four projections, all
norms and the feed-forward network (experts "vision", "text"); its paper and VLMo partition the feed-forward network,
with a third expert "pair" in the top layers, where one segment covers both modalities; VLMo also shares the first
norm and puts text before the image. Each system builds its blocks with a `ModalityExperts` around the parts that it
partitions; attention itself stays joint.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from multiway_blocks.transformer.context import Context, Contextual, Segment


class ModalityExperts(Contextual):
    """As many modules as there are experts; each token goes through its own.

    Args:
        module_factory: makes one expert, a module from (..., E) to (..., F) that treats every token alone.
        experts: their names, which are also names in the state dict (``experts.<name>.``).
    """

    def __init__(self, module_factory: Callable[[], nn.Module], experts: Sequence[str]) -> None:
        super().__init__()
        self.experts = nn.ModuleDict({name: module_factory() for name in experts})
        if not self.experts or len(self.experts) != len(experts):
            raise ValueError(f"experts need names of their own, got {list(experts)}")

    def forward(self, x_BTE: Tensor, context: Context, layer: int = 0) -> Tensor:
        """(B, T, E) -> (B, T, F).

        ``context.segments``: one list for all rows of the batch, or a list of segments for every row (spans of
        interleaved documents). Those of a row cover its tokens without gap or overlap, in order; empty ones are
        allowed. Raises ValueError otherwise, and for the name of an expert that does not exist.
        """
        batch, tokens = x_BTE.shape[:2]
        segments = context.segments
        if not segments:
            raise ValueError("no segments given")
        if isinstance(segments[0], tuple):
            shared: list[Segment] = list(segments)  # type: ignore[arg-type]
            self._check(shared, tokens)
            return self._slices(x_BTE, shared)
        rows: list[list[Segment]] = [list(row) for row in segments]  # type: ignore[arg-type]
        if len(rows) != batch:
            raise ValueError(f"{len(rows)} lists of segments for {batch} rows")
        for row in rows:
            self._check(row, tokens)
        return self._gathered(x_BTE, rows)

    def _check(self, segments: Sequence[Segment], tokens: int) -> None:
        end = 0
        for start, stop, expert in segments:
            if start != end or stop < start:
                raise ValueError(f"segment ({start}, {stop}) does not follow the token {end}")
            if expert not in self.experts:
                raise ValueError(f"unknown expert {expert!r}; there are {list(self.experts)}")
            end = stop
        if end != tokens:
            raise ValueError(f"the segments cover {end} of {tokens} tokens")

    def _slices(self, x_BTE: Tensor, segments: Sequence[Segment]) -> Tensor:
        parts = [
            self.experts[expert](x_BTE[:, start:stop]) for start, stop, expert in segments if stop > start
        ]
        if not parts:
            return self.experts[segments[0][2]](x_BTE)
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def _gathered(self, x_BTE: Tensor, rows: Sequence[Sequence[Segment]]) -> Tensor:
        places: dict[str, list[Tensor]] = {}
        for row, segments in enumerate(rows):
            for start, stop, expert in segments:
                if stop > start:
                    first = row * x_BTE.shape[1]
                    places.setdefault(expert, []).append(torch.arange(first + start, first + stop))
        if not places:
            return next(iter(self.experts.values()))(x_BTE)
        flat_NE = x_BTE.flatten(0, 1)
        index = {expert: torch.cat(parts).to(x_BTE.device) for expert, parts in places.items()}
        outputs = [
            self.experts[expert](flat_NE.index_select(0, of_expert)) for expert, of_expert in index.items()
        ]
        # All tokens occur once, so the inverse of their order puts every output in its place.
        order = torch.cat(list(index.values())).argsort()
        return torch.cat(outputs).index_select(0, order).unflatten(0, x_BTE.shape[:2])
