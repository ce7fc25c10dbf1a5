"""Reports of bad rows: an error for the first one, or a count of each kind where they are skipped."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from multiway_core.errors import DataError

MAX_REJECTED = 0.01  # share of rows above which a file is not taken even when bad rows may be skipped
EXCERPT = 80


class Problem(NamedTuple):
    """One thing wrong with a row."""

    kind: str  # "columns", "time", "label", ...: what the table counts by
    column: int  # 1-based character of the line where the offending text begins
    message: str  # what was found and what was expected


@dataclass(frozen=True)
class BadRows:
    """What reading one file met: rows that were left out, and rows that were taken with a remark."""

    path: Path
    rows: int = 0  # rows of the file, the rejected ones included
    rejected: dict[str, int] = field(default_factory=dict)  # kind -> rows left out
    remarks: dict[str, int] = field(default_factory=dict)  # kind -> how often; nothing was left out
    first: dict[str, str] = field(default_factory=dict)  # kind -> its first message, with file:line:column

    def __len__(self) -> int:
        return sum(self.rejected.values())

    def table(self) -> str:
        """A line for each kind with its count and where it was first met; empty when there was nothing."""
        if not self.rejected and not self.remarks:
            return ""
        lines = [f"{self.path}: {self.rows:,} rows, {len(self):,} left out"]
        for verb, counts in (("left out", self.rejected), ("kept", self.remarks)):
            for kind, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
                lines.append(f"  {count:>9,}  {verb:<8}  {kind:<20}  first at {self.first[kind]}")
        return "\n".join(lines)


class RowLog:
    """Takes the problems of one file as its reader finds them; strict means that the first one is raised."""

    def __init__(self, path: Path, *, skip_bad_rows: bool) -> None:
        self.path = path
        self.skip_bad_rows = skip_bad_rows
        self.rows = 0
        self._rejected: Counter[str] = Counter()
        self._remarks: Counter[str] = Counter()
        self._first: dict[str, str] = {}

    def reject(self, line: int, problem: Problem) -> None:
        """Leave the row out. Raises DataError when rows may not be left out."""
        message = self._place(line, problem)
        if not self.skip_bad_rows:
            raise DataError(message)
        self._rejected[problem.kind] += 1
        self._first.setdefault(problem.kind, message)

    def remark(self, line: int, problem: Problem) -> None:
        """The row is taken, but its reader should know."""
        self._remarks[problem.kind] += 1
        if problem.kind not in self._first:
            self._first[problem.kind] = self._place(line, problem)

    def finish(self) -> BadRows:
        """The counts. Raises DataError: more than `MAX_REJECTED` of the rows were left out."""
        rejected = sum(self._rejected.values())
        if rejected > MAX_REJECTED * self.rows:
            kinds = ", ".join(f"{kind} {count:,}" for kind, count in self._rejected.most_common())
            first = self._first[next(iter(self._rejected))]
            raise DataError(
                f"{self.path}: {rejected:,} of {self.rows:,} rows are bad ({kinds}), more than the "
                f"{MAX_REJECTED:.0%} that may be skipped; the first: {first}"
            )
        return BadRows(self.path, self.rows, dict(self._rejected), dict(self._remarks), dict(self._first))

    def _place(self, line: int, problem: Problem) -> str:
        return f"{self.path}:{line}:{problem.column}: {problem.message}"


def excerpt(text: str) -> str:
    """`text` in quotes, at most 80 characters of it."""
    return f'"{text}"' if len(text) <= EXCERPT else f'"{text[: EXCERPT - 3]}..."'
