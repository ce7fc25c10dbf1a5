"""Files of results: one JSON, an array of them, or JSON lines; and the file that a batch run adds to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from multiway_core.errors import DataError, InputError, MultiwayError, OutputError, os_reason
from multiway_core.files import write_bytes
from multiway_vision_language.result import Grounding

from multiway_grounding.jobs import key_of

REQUEST = "request"
"""The key of what was asked, which the lines of batch runs have beside those of the schema."""
_BEGINNING = b'{"schema": "multiway.grounding/1"'


def read_results(path: Path) -> list[Grounding]:
    """All results of a file. Raises DataError, InputError: naming the file, and the line or entry."""
    content = _content(path)
    try:
        whole = json.loads(content)
    except (ValueError, RecursionError):
        rows = [
            (f"{path}:{number}", _parsed(line, f"{path}:{number}"))
            for number, line in enumerate(content.splitlines(), 1)
            if line.strip()
        ]
    else:
        is_array = isinstance(whole, list)
        rows = [(f"{path}[{i}]", row) for i, row in enumerate(whole)] if is_array else [(str(path), whole)]
    results = [Grounding.from_json(_without_request(row), where=where) for where, row in rows]
    if not results:
        raise DataError(f"{path}: holds no results")
    return results


class ResultsFile:
    """JSON lines, one a job; what is there stays, and a line that a kill has torn is cut off.

    Raises DataError when the file is there and something else than such lines.
    """

    def __init__(self, path: Path, *, overwrite: bool = False) -> None:
        self.path = path
        self.done: set[tuple[str, str]] = set()
        """Model and job key of each line."""
        if path.is_dir():
            raise OutputError(f"cannot write {path}: it is a folder; give a file name")
        if overwrite or not path.exists():
            write_bytes(path, b"")
            return
        data = path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        torn = data[len(whole) :]
        try:
            self.done = {
                _identity(line, f"line {number}") for number, line in enumerate(whole.splitlines(), 1)
            }
            if torn and not torn.startswith(_BEGINNING[: len(torn)]):
                raise DataError("its last line is no JSON of results")
        except MultiwayError as error:
            raise DataError(
                f"{path}: is no file of this command ({error}); give another, or --overwrite"
            ) from error
        if torn:
            write_bytes(path, whole)

    def add(self, result: Grounding, request: dict[str, Any]) -> None:
        """Append a line. Raises OutputError."""
        line = json.dumps({**result.to_json(), REQUEST: request}, ensure_ascii=False) + "\n"
        try:
            with self.path.open("ab") as file:
                file.write(line.encode("utf-8", "replace"))
        except OSError as error:
            reason = os_reason(error)
            raise OutputError(f"cannot write {self.path}: {reason}") from error


def _identity(line: bytes, where: str) -> tuple[str, str]:
    row = _parsed(line.decode("utf-8", "replace"), where)
    result = Grounding.from_json(_without_request(row), where=where)
    request = row.get(REQUEST)
    if not isinstance(request, dict):
        raise DataError(f"{where}: does not say what was asked")
    return result.model, key_of(result.source, request)


def _without_request(row: Any) -> Any:
    return {key: value for key, value in row.items() if key != REQUEST} if isinstance(row, dict) else row


def _parsed(line: str, where: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        raise DataError(f"{where}: is no JSON of results") from None


def _content(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        raise DataError(f"{path}: is no UTF-8 text") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({os_reason(error)})") from None
