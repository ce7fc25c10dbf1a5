"""Our blocks under TorchScale's names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Published:
    """Children and parameters of a block go by the names in TorchScale's checkpoints.

    ``class MultiheadAttention(Published, Attention, names={"query": "q_proj"})`` has a child ``q_proj``, in state
    dicts, optimisers and for callers alike, which the block itself still finds as ``self.query``. ``names`` may also be
    an instance's own, given when it is made.
    """

    _names: Mapping[str, str] = {}

    def __init_subclass__(cls, names: Mapping[str, str] | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._names = names or cls._names

    def __init__(self, *args: Any, names: Mapping[str, str] | None = None, **kwargs: Any) -> None:
        if names is not None:
            self.__dict__["_names"] = names
        super().__init__(*args, **kwargs)

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(self._names.get(name, name), value)

    def __getattr__(self, name: str) -> Any:
        # A name that is published for another child is that child's.
        if name in self._names and name not in self._names.values():
            return getattr(self, self._names[name])
        return super().__getattr__(name)  # type: ignore[misc]
