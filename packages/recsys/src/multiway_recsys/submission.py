"""`prediction.zip` for the MIND leaderboard: written from scores, checked against the impressions, and scored.

The archive holds `prediction.txt` with a line for each row of `behaviors.tsv`, in the same order: the impression id, a
blank, and the ranks of its candidates in their order, 1 the best: `24481 [3,1,2]`. The leaderboard splits a line at
blanks, so there is none inside the brackets.
"""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from multiway_core.errors import DataError, InputError, os_reason
from multiway_core.files import atomic_write
from numpy.typing import NDArray

from multiway_recsys.data.bad_rows import excerpt
from multiway_recsys.data.tables import Behaviors
from multiway_recsys.metrics.ranking import RankingScores, evaluate_ranking, rank_rows

MEMBER = "prediction.txt"
_LONGEST_LINE = 1 << 20
_RANKS = re.compile(r"\[([0-9]+(?:,[0-9]+)*)\]")
_SAME_DATE = (1980, 1, 1, 0, 0, 0)  # the same scores give the same bytes


def write_predictions(path: Path, scores: NDArray[np.floating], behaviors: Behaviors) -> None:
    """Write `prediction.zip`.

    Args:
        path: of the archive; whole or absent, an older one is replaced.
        scores: (candidates in all,) in the order of `behaviors.candidates.values`; higher is better. Of equal scores
            the later candidate gets the better rank, as in `metrics.ranking`.
        behaviors: the impressions, in the order of their file; labels are not looked at.

    Raises:
        InputError: another number of scores than of candidates, or a score is NaN.
        OutputError: it cannot be written.
    """
    scores = np.asarray(scores)
    offsets = behaviors.candidates.offsets
    if scores.shape != (offsets[-1],):
        raise InputError(
            f"scores of shape {scores.shape}; expected one for each of the {offsets[-1]} candidates"
        )
    if np.isnan(scores).any():
        row = int(np.searchsorted(offsets, np.flatnonzero(np.isnan(scores))[0], side="right")) - 1
        raise InputError(f"a score of impression {behaviors.impression_ids[row]} is NaN; expected numbers")
    with atomic_write(Path(path)) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        member = zipfile.ZipInfo(MEMBER, _SAME_DATE)
        member.compress_type = zipfile.ZIP_DEFLATED
        with archive.open(member, "w", force_zip64=True) as text:
            for start in range(0, len(behaviors), 10_000):
                rows = np.arange(start, min(start + 10_000, len(behaviors)))
                first, last = offsets[rows[0]], offsets[rows[-1] + 1]
                local = offsets[rows[0] : rows[-1] + 2] - first
                ranks = rank_rows(scores[first:last], local).tolist()
                lines = [
                    f"{behaviors.impression_ids[row]} [{','.join(map(str, ranks[local[i] : local[i + 1]]))}]\n"
                    for i, row in enumerate(rows.tolist())
                ]
                text.write("".join(lines).encode())


def check_predictions(path: Path, behaviors: Behaviors) -> None:
    """Refuse what the leaderboard would refuse or count wrongly.

    Raises DataError: no archive, no `prediction.txt` at its root; or a line has blanks in its brackets, another id
    than the impression in its place, another number of ranks than candidates, or ranks that are no permutation of
    1..n; or lines are missing or left over. Names the line.
    """
    _read_ranks(Path(path), behaviors, is_strict=True)


def score_predictions(path: Path, behaviors: Behaviors) -> RankingScores:
    """What the leaderboard computes of an archive: it takes 1/rank for a score.

    As there, tied ranks are allowed, and lines missing at the end count as rank 1 for every candidate.

    Args:
        path: the archive.
        behaviors: labelled impressions.

    Raises:
        DataError: the archive or a line cannot be read, or a rank is below 1.
        InputError: the impressions have no labels.
    """
    return evaluate_ranking(1.0 / _read_ranks(Path(path), behaviors, is_strict=False), behaviors)


def _read_ranks(path: Path, behaviors: Behaviors, *, is_strict: bool) -> NDArray[np.int64]:
    """(candidates in all,) ranks."""
    lengths = behaviors.candidates.lengths.tolist()
    ranks: list[NDArray[np.int64]] = []
    for number, line in enumerate(_lines(path), 1):
        where = f"{path}: line {number}"
        if number > len(behaviors):
            if not line.strip():
                continue
            raise DataError(
                f"{where}: {excerpt(line)} is left over; expected {len(behaviors):,} lines, one an impression"
            )
        name, length = behaviors.impression_ids[number - 1], lengths[number - 1]
        ranks.append(_ranks_of(line, where, name, length, is_strict=is_strict))
    missing = len(behaviors) - len(ranks)
    if missing > 0 and is_strict:
        raise DataError(
            f"{path}: ends after line {len(ranks):,}; expected {len(behaviors):,} lines, one an impression "
            f"(next: {behaviors.impression_ids[len(ranks)]})"
        )
    ranks += [np.ones(length, np.int64) for length in lengths[len(ranks) :]]
    return np.concatenate(ranks) if ranks else np.zeros(0, np.int64)


def _ranks_of(line: str, where: str, name: str, length: int, *, is_strict: bool) -> NDArray[np.int64]:
    parts = line.split()
    if len(parts) > 2:
        raise DataError(f"{where}: {excerpt(line)} has blanks inside the brackets; expected {name} [3,1,2]")
    match = _RANKS.fullmatch(parts[1]) if len(parts) == 2 else None
    if match is None:
        raise DataError(
            f"{where}: {excerpt(line)}; expected an impression id and ranks, as in {name} [3,1,2]"
        )
    if parts[0] != name:
        raise DataError(
            f"{where}: impression {excerpt(parts[0])}; expected {name}, as lines follow the order of behaviors.tsv"
        )
    texts = match[1].split(",")
    if len(texts) != length:
        raise DataError(
            f"{where}: {len(texts)} ranks for impression {name}; expected {length}, one a candidate"
        )
    ranks = np.array([int(text[:18]) for text in texts], np.int64)
    if (ranks < 1).any():
        raise DataError(
            f"{where}: rank 0 for impression {name}; expected ranks from 1 (the best) to {length}"
        )
    if is_strict and (np.sort(ranks) != np.arange(1, length + 1)).any():
        raise DataError(
            f"{where}: the ranks of impression {name} are no permutation; expected each of 1 to {length} once"
        )
    return ranks


def _lines(path: Path) -> Iterator[str]:
    """Lines of `prediction.txt`, one by one; what is no text is replaced, and then fits no line."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [item.filename for item in archive.infolist()]
            if MEMBER not in names:
                held = f"holds {', '.join(excerpt(name) for name in names[:3])}" if names else "is empty"
                raise DataError(f"{path} {held}; expected {MEMBER} at the root of the archive")
            with archive.open(MEMBER) as file:
                reader = io.TextIOWrapper(file, encoding="utf-8", errors="replace", newline="\n")
                number = 0
                while line := reader.readline(_LONGEST_LINE):
                    number += 1
                    if len(line) >= _LONGEST_LINE:
                        raise DataError(
                            f"{path}: line {number} is longer than 1 MiB; expected one line an impression"
                        )
                    yield line.rstrip("\r\n")
    except zipfile.BadZipFile as error:
        raise DataError(f"{path} is no zip archive ({error}); expected one with {MEMBER} in it") from error
    except OSError as error:
        raise DataError(f"cannot read {path}: {os_reason(error)}") from error
    except (zlib.error, EOFError, RuntimeError, NotImplementedError, ValueError) as error:
        raise DataError(
            f"cannot read {path}: {error}; expected a plain, undamaged zip archive with {MEMBER} in it"
        ) from error
