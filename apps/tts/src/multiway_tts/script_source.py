"""Reads the argument ``SCRIPT|-|TEXT``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from multiway_core.data_files import read_text
from multiway_core.errors import InputError

MAX_BYTES = 10 * 1024 * 1024
_SUFFIXES = (".txt", ".md", ".json", ".script")


def read_script(argument: str) -> str:
    """A file's text, standard input for ``-``, else the argument itself.

    Raises InputError (empty, too large, no such file), DataError (not UTF-8).
    """
    if not argument.strip():
        raise InputError("the script is empty")
    if argument == "-":
        data = sys.stdin.buffer.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise InputError(f"the script is larger than {MAX_BYTES // 2**20} MB")
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise InputError("the script on standard input is not UTF-8 text") from error
    elif (path := _file(argument)) is not None:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path}: larger than {MAX_BYTES // 2**20} MB")
        text = read_text(path)
        if path.suffix.lower() == ".json":
            _check_json(path, text)
    else:
        text = argument
    if not text.strip():
        raise InputError("the script is empty")
    return text


def _file(argument: str) -> Path | None:
    """The file that an argument names; a text makes the system say no, or complain about its length."""
    path = Path(argument)
    try:
        if path.is_file():
            return path
        if path.is_dir():
            raise InputError(f"{path} is a folder; give a script file, - or a text")
    except (OSError, ValueError):
        return None
    if path.suffix.lower() in _SUFFIXES and not any(c.isspace() for c in argument):
        raise InputError(f"{path}: no such file")
    return None


def _check_json(path: Path, text: str) -> None:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON ({error})") from error
    if not isinstance(data, list):
        raise InputError(f'{path}: expected a list of {{"speaker": ..., "text": ...}}')
