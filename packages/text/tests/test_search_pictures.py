"""Pictures among texts, with an encoder whose vector is in the file: kinds, days, places, changes, bad files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from multiway_core.errors import InputError
from multiway_text.search.pictures import (
    TEXT_RELATED,
    TEXT_UNRELATED,
    Scope,
    as_text_cosine,
    distance_km,
)
from multiway_text.search.pipeline import SearchPipeline


@dataclass(frozen=True)
class Facts:
    taken: str | None = None
    latitude: float | None = None
    longitude: float | None = None


@dataclass(frozen=True)
class Picture:
    vector_E: np.ndarray
    tags: tuple[str, ...]
    facts: Facts


class Encoder:
    """A file says ``text|tag|day|latitude|longitude``; its vector is the text's."""

    name, text_encoder, unrelated, related = "toy", "tiny", TEXT_UNRELATED, TEXT_RELATED
    suffixes = frozenset({".jpg"})

    def __init__(self, texts: SearchPipeline, version: str = "1") -> None:
        self.texts, self.version, self.count = texts, version, 0

    def read(self, path: str | Path) -> Picture:
        self.count += 1
        text = Path(path).read_text()
        if not text:
            raise InputError(f"{path}: is empty (0 bytes)")
        words, tag, day, *place = text.split("|")
        latitude, longitude = [float(part) for part in place] or [None, None]
        vector_E = self.texts.embed([words], prompt="query")[0]
        return Picture(vector_E, (tag,) if tag else (), Facts(day or None, latitude, longitude))


@pytest.fixture
def pipeline(tiny_encoder: Path) -> SearchPipeline:
    made = SearchPipeline.from_pretrained(str(tiny_encoder))
    made.pictures = Encoder(made)
    return made


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "anna.jpg").write_text("Anna lives in Paris.|espresso|2024-05-31|48.85|2.35")
    (folder / "film.jpg").write_text("A very bad film.|dog|2023-01-02")
    (folder / "broken.jpg").write_text("")
    (folder / "note.md").write_text("The weather was good in London.")
    return folder


def names(found: object) -> list[str]:
    return [Path(hit.passage.path).name for hit in found.hits]  # type: ignore[attr-defined]


def test_pictures_are_found_beside_texts(pipeline: SearchPipeline, photos: Path, tmp_path: Path) -> None:
    with pipeline.open(tmp_path / "index", create=True) as index:
        report = pipeline.update(index, [photos])
        assert (report.added, report.pictures, report.embedded) == (3, 2, 1)
        assert report.failed == ((f"{photos}/broken.jpg", "is empty (0 bytes)"),)
        found = pipeline.query(index, "Anna lives in Paris.", mode="dense")
        assert names(found)[0] == "anna.jpg"
        assert sorted(names(found)) == ["anna.jpg", "film.jpg", "note.md"]
        hit = found.hits[0]
        assert (hit.passage.kind, hit.passage.place) == ("picture", "2024-05-31; 48.8500, 2.3500")
        assert hit.cosine == pytest.approx(1.0, abs=2e-3)
        assert names(pipeline.query(index, "espresso", mode="bm25")) == ["anna.jpg"]
        assert names(pipeline.query(index, "film", mode="bm25")) == ["film.jpg"]  # the file's name
        near = pipeline.similar(index, photos / "film.jpg")
        assert {Path(item.path).name for item in near} == {"anna.jpg", "note.md"}


def test_scopes_hold_together(pipeline: SearchPipeline, photos: Path, tmp_path: Path) -> None:
    with pipeline.open(tmp_path / "index", create=True) as index:
        pipeline.update(index, [photos])

        def ask(**only: object) -> list[str]:
            return sorted(names(pipeline.query(index, "Anna good film", mode="dense", **only)))  # type: ignore[arg-type]

        assert ask(kind="text") == ["note.md"]
        assert ask(kind="picture") == ["anna.jpg", "film.jpg"]
        assert ask(since="2024") == ["anna.jpg"]
        assert ask(until="2023-01") == ["film.jpg"]
        assert ask(until="2023-01-01") == []
        assert ask(near=(48.8, 2.3, 10.0)) == ["anna.jpg"]
        assert ask(near=(48.8, 2.3, 10.0), until="2023") == []
        assert ask(path="*/f*.jpg", kind="picture") == ["film.jpg"]
    for wrong in ({"since": "May"}, {"near": (99.0, 0.0, 1.0)}, {"near": (0.0, 0.0, -1.0)}):
        with pytest.raises(InputError):
            Scope(**wrong)  # type: ignore[arg-type]


def test_only_changed_pictures_are_looked_at_again(
    pipeline: SearchPipeline, photos: Path, tmp_path: Path
) -> None:
    encoder = pipeline.pictures
    assert isinstance(encoder, Encoder)
    with pipeline.open(tmp_path / "index", create=True) as index:
        pipeline.update(index, [photos])
        encoder.count = 0
        (photos / "film.jpg").rename(photos / "cinema.jpg")
        again = pipeline.update(index, [])
        assert (encoder.count, again.renamed, again.unchanged) == (0, 1, 2)
        (photos / "cinema.jpg").write_text("Anna is good.|dog|")
        assert (pipeline.update(index, []).changed, encoder.count) == (1, 1)
        assert names(pipeline.query(index, "Anna is good.", mode="dense", top=1)) == ["cinema.jpg"]
        (photos / "cinema.jpg").unlink()
        assert pipeline.update(index, []).removed == 1
        assert index.connection.execute("SELECT count(*) FROM pictures").fetchone() == (1,)
        pipeline.pictures = Encoder(pipeline, "2")
        with pytest.raises(InputError, match="another version"):
            pipeline.update(index, [])
        pipeline.pictures = None
        with pytest.raises(InputError, match="the index has pictures by toy"):
            pipeline.update(index, [])


def test_a_picture_as_near_as_a_text_has_its_cosine() -> None:
    assert as_text_cosine(0.15, 0.15, 0.47) == pytest.approx(TEXT_UNRELATED)
    assert as_text_cosine(0.47, 0.15, 0.47) == pytest.approx(TEXT_RELATED)


def test_distances_go_around_the_earth() -> None:
    assert distance_km(0, 179.9, 0, -179.9) == pytest.approx(22.2, abs=0.1)
    assert distance_km(48.85, 2.35, 52.52, 13.40) == pytest.approx(878, abs=3)
    assert distance_km(None, 1.0, 0, 0) is None
