"""The photo encoder with small random weights: int8 files, sizes, tags, EXIF facts, and files that are no pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from multiway_core.errors import CheckpointError, InputError
from multiway_vision_language.kosmos2_small.backbones import CenterNet
from multiway_vision_language.photo_search import checkpoint
from multiway_vision_language.photo_search.config import PhotoConfig
from multiway_vision_language.photo_search.efficientnet import EfficientNetLite, load_published
from multiway_vision_language.photo_search.model import PhotoEncoder, Seen, seen_size
from multiway_vision_language.photo_search.pipeline import PhotoPipeline, read_facts
from PIL import Image

NAMES = (*(f"class {n}" for n in range(10)), *(f"thing {n}" for n in range(CenterNet.num_classes)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    model = PhotoEncoder(PhotoConfig(NAMES, 0.1, 0.3, 16, "tiny", 96 * 96, 96 * 96))
    with torch.no_grad():
        for parameter in (model.table, model.residual, model.bias, model.mean_features):
            parameter.normal_()
    target = tmp_path_factory.mktemp("photo")
    checkpoint.save(model.eval(), target)
    torch.save(model.state_dict(), target / "float.pt")
    return target


@pytest.fixture(scope="module")
def pipeline(folder: Path) -> PhotoPipeline:
    return PhotoPipeline.from_pretrained(str(folder), dtype=torch.float32)


def picture() -> Image.Image:
    rows = np.random.default_rng(0).integers(0, 255, (8, 12, 3), np.uint8)
    return Image.fromarray(rows).resize((120, 80))


def test_int8_files_hold_the_weights_to_half_a_step(folder: Path, pipeline: PhotoPipeline) -> None:
    saved = torch.load(folder / "float.pt", weights_only=True)
    for name, own in pipeline.model.state_dict().items():
        step = saved[name].flatten(1).abs().amax(1).max() / 127 if own.ndim > 1 else 0
        assert (own - saved[name]).abs().max() <= 0.51 * step + 1e-7, name


def test_vectors_have_length_one_and_tell_pictures_apart(pipeline: PhotoPipeline) -> None:
    vectors_NE, weights_NC = pipeline.encode([picture(), Image.new("RGB", (300, 40), "red"), picture()])
    np.testing.assert_allclose(np.linalg.norm(vectors_NE, axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(vectors_NE[0], vectors_NE[2])
    assert np.abs(vectors_NE[0] - vectors_NE[1]).max() > 1e-5
    assert weights_NC.shape == (3, len(NAMES))
    assert pipeline.encode([])[0].shape == (0, 16)


def test_a_vector_is_the_class_table_and_a_residual(pipeline: PhotoPipeline) -> None:
    model = pipeline.model
    seen = Seen(torch.eye(len(NAMES))[:2], torch.stack([model.mean_features + 1, model.mean_features]))
    with torch.no_grad():
        found_BE = model.vectors(seen)
        named_E = torch.nn.functional.normalize(model.table[1], dim=0) + model.bias  # no features of its own
    torch.testing.assert_close(found_BE[1], torch.nn.functional.normalize(named_E, dim=0))


def test_tags_are_classes_of_some_weight_without_doubles(pipeline: PhotoPipeline) -> None:
    weights = np.zeros(len(NAMES), np.float32)
    weights[[3, 40, 7]] = [0.5, 0.9, 0.1]
    assert pipeline.tags(weights) == (NAMES[40], NAMES[3])


def test_pictures_keep_their_shape_in_multiples_of_32() -> None:
    assert seen_size(640, 480, 288 * 288) == (320, 256)
    assert seen_size(480, 640, 288 * 288) == (256, 320)
    assert seen_size(10_000, 10, 288 * 288) == seen_size(300, 100, 288 * 288)


def test_exif_tells_day_and_place_and_turns_the_picture(pipeline: PhotoPipeline, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x0132] = "2024:05:31 10:00:00"
    exif.get_ifd(0x8825).update({1: "S", 2: (33.0, 51.0, 36.0), 3: "E", 4: (151.0, 12.0, 0.0)})
    path = tmp_path / "beach.jpg"
    picture().convert("CMYK").save(path, exif=exif)
    facts = read_facts(path)
    assert (facts.taken, facts.longitude) == ("2024-05-31", pytest.approx(151.2))
    assert facts.latitude == pytest.approx(-33.86)
    assert pipeline.read(path).facts == facts
    exif[0x0132] = "0000:00:00 00:00:00"
    exif.get_ifd(0x8825)[2] = (330.0, 0.0, 0.0)
    picture().save(path, exif=exif)
    assert read_facts(path).taken is None
    assert read_facts(path).latitude is None
    assert read_facts(path).longitude is None


def test_bad_files_are_one_line(pipeline: PhotoPipeline, tmp_path: Path, folder: Path) -> None:
    picture().save(tmp_path / "whole.png")
    (tmp_path / "broken.png").write_bytes((tmp_path / "whole.png").read_bytes()[:200])
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "phone.heic").write_bytes(b"x")
    for name in ("broken.png", "empty.jpg", "phone.heic", "nothing.jpg"):
        with pytest.raises(InputError, match=name):
            pipeline.read(tmp_path / name)
    with pytest.raises(CheckpointError, match=r"float\.pt"):
        load_published(folder / "float.pt", 1.1, 1.2)
    frames = [picture(), Image.new("RGB", (120, 80))]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    assert np.isfinite(pipeline.read(tmp_path / "moving.gif").vector_E).all()


def test_lite2_has_the_published_number_of_weights() -> None:
    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in EfficientNetLite(1.1, 1.2).parameters()) == 6_063_024
