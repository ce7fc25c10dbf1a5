"""Dataclass <-> JSON, strict: an unknown, missing or ill-typed key is an error that names its path.

Fields may be `bool`, `int`, `float`, `str`, `Path`, an `Enum` (by value), `Literal`, another dataclass,
`tuple[X, ...]`, `tuple[X, Y]`, `list[X]`, `dict[str, X]`, and unions of these (`X | None`). A field with a
default may be absent from the JSON. Checks that need more than a type belong in `__post_init__`: a
`ValueError` from there is reported with the path of the object.

Why not a library: for a plain dataclass pydantic and msgspec ignore unknown keys, which are most often misspelled ones.
pydantic reads "1" and true as integers, and its strict mode refuses JSON's lists as tuples and objects as dataclasses;
msgspec takes infinities and no `Path`. Each config class of each package would have to be written for the library.
"""

from __future__ import annotations

import dataclasses
import difflib
import enum
import json
import math
import types
import typing
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar, Union

from multiway_core.errors import ConfigError, os_reason
from multiway_core.files import write_text

Config = TypeVar("Config")

_JSON_NAMES = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}


def to_dict(config: Any) -> dict[str, Any]:
    """A dataclass as nested dictionaries, lists and scalars that JSON can hold, in field order.

    Raises ConfigError if a value is not JSON (NaN, infinity, an unsupported type).
    """
    if not dataclasses.is_dataclass(config) or isinstance(config, type):
        raise TypeError(f"to_dict needs a dataclass instance, not {config!r}")
    return _encode(config, "")


def from_dict(cls: type[Config], data: Mapping[str, Any], *, where: str = "config") -> Config:
    """Build the dataclass `cls` from what `json.load` gives; the inverse of `to_dict`.

    `where` (a file name, say) begins each message: `config.json: encoder.num_layers: expected an integer`.
    Raises ConfigError for unknown keys, missing keys, wrong types, and a ValueError in `__post_init__`.
    """
    return _Decoder(where).decode(cls, data, "")


def load(cls: type[Config], path: Path) -> Config:
    """Read `path` (UTF-8 JSON) as the dataclass `cls`. Raises ConfigError, also for an unreadable file."""
    return from_dict(cls, read_json(path), where=str(path))


def save(config: Any, path: Path) -> None:
    """Write a dataclass as indented JSON, atomically. Raises ConfigError (not JSON) or OutputError."""
    write_text(Path(path), json.dumps(to_dict(config), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in `path`; NaN, infinities and repeated keys are refused. Raises ConfigError."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            keys = [key for key, _ in pairs]
            raise ConfigError(
                f"{path}: the key {next(k for k in keys if keys.count(k) > 1)!r} is given twice"
            )
        return found

    def no_constant(name: str) -> None:
        raise ConfigError(f"{path}: {name} is not JSON")

    if Path(path).exists() and not Path(path).is_file():  # a folder, or a pipe that nobody writes to
        raise ConfigError(f"{path}: not a regular file")
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {os_reason(error)}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not JSON: not UTF-8 text (byte {error.start})") from error
    try:
        data = json.loads(text, object_pairs_hook=unique, parse_constant=no_constant)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise ConfigError(f"{path}: not JSON: {error.msg.lower()} ({place})") from error
    except RecursionError as error:
        raise ConfigError(f"{path}: nested too deeply") from error
    except ValueError as error:  # an integer of thousands of digits
        raise ConfigError(f"{path}: {error}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: expected an object at the top, got {_describe(data)}")
    return data


def _encode(value: Any, path: str) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = (field for field in dataclasses.fields(value) if field.init)
        return {f.name: _encode(getattr(value, f.name), _join(path, f.name)) for f in fields}
    if isinstance(value, enum.Enum):
        return _encode(value.value, path)
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float and math.isfinite(value):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple | list):
        return [_encode(item, f"{path}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: _encode(item, _join(path, key)) for key, item in value.items()}
    raise ConfigError(f"{path}: {value!r} cannot be written as JSON")


@dataclasses.dataclass(frozen=True)
class _Decoder:
    where: str

    def decode(self, kind: Any, value: Any, path: str) -> Any:
        if dataclasses.is_dataclass(kind):
            return self._dataclass(kind, value, path)
        if kind in (types.NoneType, None):
            return self._check(value is None, value, path, "null")
        if kind is bool:
            return self._check(type(value) is bool, value, path, "true or false")
        if kind is int:
            return self._check(type(value) is int, value, path, "an integer")
        if kind is float:
            return self._float(value, path)
        if kind is str:
            return self._check(isinstance(value, str), value, path, "a string")
        if kind is Path:
            return Path(self._check(isinstance(value, str), value, path, "a path (string)"))
        if isinstance(kind, type) and issubclass(kind, enum.Enum):
            return self._one_of({member.value: member for member in kind}, value, path)
        origin, arguments = typing.get_origin(kind), typing.get_args(kind)
        if origin is Literal:
            return self._one_of({choice: choice for choice in arguments}, value, path)
        if origin in (Union, types.UnionType):
            return self._union(arguments, value, path)
        if origin in (tuple, list):
            return origin(self._items(origin, arguments, value, path))
        if origin is dict:
            self._check(isinstance(value, Mapping), value, path, "an object")
            return {key: self.decode(arguments[1], item, _join(path, key)) for key, item in value.items()}
        raise TypeError(f"config fields of type {kind} are not supported ({path})")

    def fail(self, path: str, problem: str) -> ConfigError:
        return ConfigError(f"{self.where}: {path}: {problem}" if path else f"{self.where}: {problem}")

    def _check(self, is_right: bool, value: Any, path: str, expected: str) -> Any:
        if not is_right:
            raise self.fail(path, f"expected {expected}, got {_describe(value)}")
        return value

    def _float(self, value: Any, path: str) -> float:
        self._check(type(value) in (int, float), value, path, "a number")
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        self._check(math.isfinite(number), value, path, "a finite number")
        return number

    def _one_of(self, choices: Mapping[Any, Any], value: Any, path: str) -> Any:
        for choice, result in choices.items():
            if type(choice) is type(value) and choice == value:
                return result
        raise self.fail(path, f"expected one of {', '.join(map(repr, choices))}, got {_describe(value)}")

    def _union(self, kinds: tuple[Any, ...], value: Any, path: str) -> Any:
        if value is None and types.NoneType in kinds:
            return None
        problems: list[ConfigError] = []
        kinds = tuple(kind for kind in kinds if kind is not types.NoneType)
        for kind in sorted(kinds, key=lambda kind: kind is not type(value)):  # int | float keeps 1 an int
            try:
                return self.decode(kind, value, path)
            except ConfigError as problem:
                problems.append(problem)
        if len(problems) == 1:
            raise problems[0]
        names = ", ".join(getattr(kind, "__name__", str(kind)) for kind in kinds)
        raise self.fail(path, f"expected one of the types {names}, got {_describe(value)}")

    def _items(self, origin: type, arguments: tuple[Any, ...], value: Any, path: str) -> list[Any]:
        self._check(isinstance(value, list | tuple), value, path, "a list")
        if origin is list or arguments[-1] is Ellipsis:
            kinds = [arguments[0]] * len(value)
        else:
            kinds = list(arguments)
            if len(value) != len(kinds):
                raise self.fail(path, f"expected a list of {len(kinds)}, got one of {len(value)}")
        return [self.decode(k, v, f"{path}[{i}]") for i, (k, v) in enumerate(zip(kinds, value, strict=True))]

    def _dataclass(self, cls: Any, data: Any, path: str) -> Any:
        self._check(isinstance(data, Mapping), data, path, f"an object ({cls.__name__})")
        fields = {field.name: field for field in dataclasses.fields(cls) if field.init}
        for key in data:
            if key not in fields:
                close = difflib.get_close_matches(str(key), fields, n=1)
                right = f"did you mean {close[0]}?" if close else f"known keys: {', '.join(fields)}"
                raise self.fail(_join(path, str(key)), f"unknown key; {right}")
        missing = [name for name, field in fields.items() if name not in data and _is_required(field)]
        if missing:
            raise self.fail(_join(path, missing[0]), f"missing (missing here: {', '.join(missing)})")
        kinds = _field_types(cls)
        values = {key: self.decode(kinds[key], item, _join(path, key)) for key, item in data.items()}
        try:
            return cls(**values)
        except ValueError as error:
            raise self.fail(path, str(error)) from error


@cache
def _field_types(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _describe(value: Any) -> str:
    if isinstance(value, str) and len(value) <= 40:
        return repr(value)
    if type(value) in (int, float, bool) and abs(value) < 1e30:
        return repr(value)
    return _JSON_NAMES.get(type(value), type(value).__name__)
