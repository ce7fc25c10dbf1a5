"""The exceptions that a user may see: each says in one line what was wrong, where, and what would be right.

A command prints `str(error)` on stderr and exits with `error.exit_code`; a demo shows the same line. What
does not fit one line (the full list of tensors that a checkpoint lacks) is kept in attributes and in the
exception's notes, which Python prints under a traceback.
"""

from __future__ import annotations

from collections.abc import Sequence

NAMES_PER_NOTE = 20


class MultiwayError(Exception):
    """Base of every error that the user can fix. `str()` is always one line."""

    exit_code = 2

    def __init__(self, message: str) -> None:
        super().__init__(_printable(message))


class InputError(MultiwayError):
    """A file, option or value that the user gave cannot be used."""


class ConfigError(MultiwayError):
    """A config file or dictionary is not what its dataclass asks for; names the dotted path."""


class ModelNotFoundError(MultiwayError):
    """A model name leads to no folder on this machine, and it could not be fetched."""


class DataError(MultiwayError):
    """A data set's file is bad; names the file and, where there is one, the line."""


class OutputError(MultiwayError):
    """A result cannot be written (no space, no permission, in the way)."""


class CheckpointError(MultiwayError):
    """A checkpoint is unreadable, unsafe, or does not fit the module.

    When it does not fit, all offending tensors are in `missing`, `unexpected` and `misshaped`; the message
    gives counts and the first names, and a note per kind lists up to `NAMES_PER_NOTE` of them.
    """

    def __init__(
        self,
        message: str,
        *,
        missing: Sequence[str] = (),
        unexpected: Sequence[str] = (),
        misshaped: Sequence[str] = (),
    ) -> None:
        self.missing = tuple(missing)
        self.unexpected = tuple(unexpected)
        self.misshaped = tuple(misshaped)
        kinds = {"missing": self.missing, "unexpected": self.unexpected, "mis-shaped": self.misshaped}
        found = [_counted(kind, names, 2) for kind, names in kinds.items() if names]
        super().__init__(f"{message}: {'; '.join(found)}" if found else message)
        for kind, names in kinds.items():
            if names:
                self.add_note(_printable(_counted(kind, names, NAMES_PER_NOTE)))


def os_reason(error: OSError) -> str:
    """What the system says of a failure, in lower case: "no such file or directory"."""
    return (error.strerror or str(error)).lower()


def _printable(text: str) -> str:
    # File names and foreign messages may hold line breaks, escapes undecodable bytes: none reach a terminal.
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in " ".join(str(text).split()))


def _counted(kind: str, names: tuple[str, ...], limit: int) -> str:
    rest = f", and {len(names) - limit} more" if len(names) > limit else ""
    return f"{len(names)} {kind} ({', '.join(names[:limit])}{rest})"
