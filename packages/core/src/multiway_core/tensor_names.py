"""Tables of rules between a published checkpoint's tensor names and ours, usable in both directions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from multiway_core.errors import CheckpointError

_PLACEHOLDER = re.compile(r"\{([A-Za-z_]\w*)(\*?)\}")


@dataclass(frozen=True)
class Rule:
    """A published name and ours, exact or with placeholders that both sides share.

    `{layer}` stands for one part of a dotted name, `{rest*}` for one or more parts:
    `Rule("encoder.layers.{i}.{rest*}", "encoder.blocks.{i}.{rest*}")`.
    """

    published: str
    ours: str

    def __post_init__(self) -> None:
        published, ours = (sorted(_PLACEHOLDER.findall(side)) for side in (self.published, self.ours))
        if published != ours or len(set(published)) < len(published):
            raise ValueError(
                f"both sides need the same placeholders, each once: {self.published} | {self.ours}"
            )

    def to_ours(self, name: str) -> str | None:
        """Our name for a published one, or None if this rule is not about it."""
        return _translate(self._published_pattern, self.ours, name)

    def to_published(self, name: str) -> str | None:
        """The published name for one of ours, or None if this rule is not about it."""
        return _translate(self._ours_pattern, self.published, name)

    @cached_property
    def _published_pattern(self) -> re.Pattern[str]:
        return compile_pattern(self.published)

    @cached_property
    def _ours_pattern(self) -> re.Pattern[str]:
        return compile_pattern(self.ours)


@dataclass(frozen=True)
class RuleTable:
    """Rules in order of precedence: in either direction the first one that fits a name decides.

    `dropped` names (same pattern syntax) exist in published files and have no counterpart here.
    End a table with `Rule("{rest*}", "{rest*}")` to keep all other names as they are.
    """

    rules: Sequence[Rule]
    dropped: Sequence[str] = ()
    _dropped_patterns: tuple[re.Pattern[str], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "rules", tuple(self.rules))
        object.__setattr__(self, "dropped", tuple(self.dropped))
        object.__setattr__(self, "_dropped_patterns", tuple(map(compile_pattern, self.dropped)))

    def to_ours(self, name: str) -> str | None:
        """Our name for a published one; None if it is dropped. Raises CheckpointError if no rule fits."""
        if any(pattern.fullmatch(name) for pattern in self._dropped_patterns):
            return None
        for rule in self.rules:
            ours = rule.to_ours(name)
            if ours is not None:
                return ours
        raise CheckpointError(f"no rule for the published tensor {name}")

    def to_published(self, name: str) -> str:
        """The published name for one of ours. Raises CheckpointError if no rule fits."""
        for rule in self.rules:
            published = rule.to_published(name)
            if published is not None:
                return published
        raise CheckpointError(f"no rule for the tensor {name}: it has no published name")


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """The regular expression (for `fullmatch`) of a name with `{part}` and `{parts*}` placeholders."""
    parts: list[str] = []
    end = 0
    for match in _PLACEHOLDER.finditer(pattern):
        name, many = match.groups()
        parts.append(re.escape(pattern[end : match.start()]))
        parts.append(f"(?P<{name}>.+)" if many else f"(?P<{name}>[^.]+)")
        end = match.end()
    return re.compile("".join(parts) + re.escape(pattern[end:]), re.DOTALL)


def _translate(pattern: re.Pattern[str], template: str, name: str) -> str | None:
    match = pattern.fullmatch(name)
    if match is None:
        return None
    return _PLACEHOLDER.sub(lambda placeholder: match[placeholder[1]], template)
