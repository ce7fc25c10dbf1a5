"""Our blocks under TorchScale's names."""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter
from typing import Any, ClassVar


class Published:
    """Children and parameters of a block go by the names in TorchScale's checkpoints.

    ``class MultiheadAttention(Published, Attention, names={"query": "q_proj"})`` has a child ``q_proj``, in state
    dicts, optimisers and for callers alike, which the block itself still finds as ``self.query``.
    """

    _names: ClassVar[Mapping[str, str]] = {}

    def __init_subclass__(cls, names: Mapping[str, str] | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._names = names or cls._names
        for ours, theirs in cls._names.items():
            if ours not in cls._names.values():  # a name that is published for another child is that child's
                setattr(cls, ours, property(attrgetter(theirs)))

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(self._names.get(name, name), value)
