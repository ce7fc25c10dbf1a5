from __future__ import annotations

import contextlib
import dataclasses
import enum
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multiway_core import config
from multiway_core.errors import ConfigError


class Norm(enum.Enum):
    LAYER = "layer"
    RMS = "rms"


@dataclass(frozen=True)
class Encoder:
    num_layers: int
    dropout: float = 0.0
    norm: Norm = Norm.LAYER
    activation: Literal["gelu", "silu"] = "gelu"

    def __post_init__(self) -> None:
        if self.num_layers < 0:
            raise ValueError(f"num_layers must not be negative, got {self.num_layers}")


@dataclass(frozen=True)
class Decoder:
    vocabulary: dict[str, int]


@dataclass(frozen=True)
class Model:
    name: str
    encoder: Encoder
    size: tuple[int, int]
    betas: tuple[float, ...] = (0.9, 0.98)
    head: Encoder | None = None
    layers: tuple[Encoder, ...] = ()
    other: Encoder | Decoder | None = None
    window: int | float | str = 1
    causal: bool = True
    folder: Path = Path()
    tags: list[str] = dataclasses.field(default_factory=list)
    derived: int = dataclasses.field(default=3, init=False)


encoders = st.builds(
    Encoder,
    num_layers=st.integers(0, 10**20),
    dropout=st.floats(allow_nan=False, allow_infinity=False),
    norm=st.sampled_from(Norm),
    activation=st.sampled_from(["gelu", "silu"]),
)
finite = st.floats(allow_nan=False, allow_infinity=False)
models = st.builds(
    Model,
    name=st.text(),
    encoder=encoders,
    size=st.tuples(st.integers(), st.integers()),
    betas=st.lists(finite).map(tuple),
    head=st.none() | encoders,
    layers=st.lists(encoders, max_size=3).map(tuple),
    other=st.none() | encoders | st.builds(Decoder, st.dictionaries(st.text(), st.integers())),
    window=st.integers() | finite | st.text(),
    causal=st.booleans(),
    tags=st.lists(st.text()),
)
BASE: dict[str, Any] = {"name": "m", "encoder": {"num_layers": 2}, "size": [3, 4]}


@given(models)
@settings(max_examples=80, deadline=None)
def test_json_round_trip_is_the_identity(model: Model) -> None:
    text = json.dumps(config.to_dict(model), allow_nan=False)
    again = config.from_dict(Model, json.loads(text))
    assert again == model
    assert type(again.window) is type(model.window)
    assert hash(again.encoder) == hash(model.encoder)


def test_file_round_trip(tmp_path: Path) -> None:
    model = config.from_dict(Model, {**BASE, "name": "größe", "folder": "a/b"})
    config.save(model, tmp_path / "config.json")
    assert config.load(Model, tmp_path / "config.json") == model
    assert "größe" in (tmp_path / "config.json").read_text(encoding="utf-8")
    assert list(json.loads((tmp_path / "config.json").read_text()))[:3] == ["name", "encoder", "size"]


def test_integers_are_good_floats() -> None:
    encoder = config.from_dict(Encoder, {"num_layers": 1, "dropout": 1})
    assert encoder.dropout == 1.0
    assert isinstance(encoder.dropout, float)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"encoder": {"num_layer": 2}},
            r"config: encoder\.num_layer: unknown key; did you mean num_layers",
        ),
        ({"zzz": 2}, r"config: zzz: unknown key; known keys: name, encoder, size"),
        ({"derived": 2}, r"config: derived: unknown key"),
        ({"encoder": {}}, r"config: encoder\.num_layers: missing"),
        ({"encoder": {"num_layers": True}}, r"encoder\.num_layers: expected an integer, got True"),
        ({"encoder": {"num_layers": 2.0}}, r"encoder\.num_layers: expected an integer, got 2\.0"),
        ({"encoder": {"num_layers": -1}}, r"config: encoder: num_layers must not be negative, got -1"),
        (
            {"encoder": {"num_layers": 1, "norm": "batch"}},
            r"\.norm: expected one of 'layer', 'rms'",
        ),
        (
            {"encoder": {"num_layers": 1, "activation": "x"}},
            r"expected one of 'gelu', 'silu', got 'x'",
        ),
        ({"encoder": {"num_layers": 1, "dropout": "0"}}, r"encoder\.dropout: expected a number, got '0'"),
        ({"encoder": {"num_layers": 1, "dropout": 10**400}}, r"dropout: expected a finite number, got int"),
        ({"encoder": [1]}, r"config: encoder: expected an object \(Encoder\), got a list"),
        ({"name": None}, r"config: name: expected a string, got null"),
        ({"size": [1, 2, 3]}, r"config: size: expected a list of 2, got one of 3"),
        ({"size": [1, "2"]}, r"config: size\[1\]: expected an integer, got '2'"),
        (
            {"layers": [{"num_layers": 1}, {"num_layers": []}]},
            r"layers\[1\]\.num_layers: expected an int",
        ),
        ({"head": {"num_layers": "x"}}, r"config: head\.num_layers: expected an integer, got 'x'"),
        ({"other": {"x": 1}}, r"config: other: expected one of the types Encoder, Decoder, got an object"),
        ({"other": {"vocabulary": {"a": None}}}, r"config: other: expected one of the types"),
        ({"causal": 1}, r"config: causal: expected true or false, got 1"),
        ({"tags": "abc"}, r"config: tags: expected a list, got 'abc'"),
        ({"folder": 3}, r"config: folder: expected a path"),
    ],
)
def test_bad_value_names_its_path(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config.from_dict(Model, {**BASE, **change})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not JSON: expecting value"),
        (b'{"a": 1,\n]', r"not JSON: .* \(line 2, column 1\)"),
        (b"[1]", "expected an object at the top, got a list"),
        (b"\xff\xfe", "not UTF-8"),
        (b'{"num_layers": NaN}', "NaN is not JSON"),
        (b'{"num_layers": 1, "dropout": 1e999}', "dropout: expected a finite number"),
        (b'{"num_layers": 1, "num_layers": 2}', "the key 'num_layers' is given twice"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b'{"num_layers": ' + b"9" * 5000 + b"}", "digits"),
    ],
)
def test_bad_file_names_the_file(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message) as caught:
        config.load(Encoder, path)
    assert str(path) in str(caught.value)


def test_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        config.load(Encoder, tmp_path / "none.json")
    with pytest.raises(ConfigError, match="not a regular file"):
        config.load(Encoder, tmp_path)


@given(st.binary(max_size=200))
@settings(max_examples=100, deadline=None)
def test_random_bytes_raise_only_config_errors(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "random.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError):
        config.load(Encoder, path)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | finite | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([f.name for f in dataclasses.fields(Model)]), json_values))
@settings(max_examples=150, deadline=None)
def test_random_json_raises_only_config_errors(data: dict[str, Any]) -> None:
    with contextlib.suppress(ConfigError):
        model = config.from_dict(Model, {**BASE, **data})
        assert config.from_dict(Model, config.to_dict(model)) == model


def test_values_that_json_cannot_hold() -> None:
    with pytest.raises(ConfigError, match="dropout: nan cannot be written"):
        config.to_dict(Encoder(1, dropout=float("nan")))


def test_failed_save_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    config.save(Encoder(1), path)
    before = path.read_bytes()
    with pytest.raises(ConfigError):
        config.save(Encoder(1, dropout=float("inf")), path)
    assert path.read_bytes() == before
