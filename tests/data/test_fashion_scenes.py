"""The composed task: a function of its seed, balanced, and without a source in two splits."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage

from dtmm.data import fashion_scenes, load_dataset
from dtmm.data.composition import warp
from dtmm.data.fashion_scenes import CLASSES, PIECES, SIZE, Scenes, make_scenes
from dtmm.errors import DataError
from tests.data.test_data import FILES, write_idx

PER_CLASS = 12


@pytest.fixture(scope="module")
def sources() -> tuple[np.ndarray, np.ndarray]:
    """Smooth random items, as many of each class."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (10 * PER_CLASS, 7, 7)).astype(np.uint8)
    return coarse.repeat(4, axis=1).repeat(4, axis=2), np.arange(10 * PER_CLASS) % 10


@pytest.fixture(scope="module")
def scenes(sources: tuple[np.ndarray, np.ndarray]) -> Scenes:
    return make_scenes(*sources, seed=(0, 0), folds=3)


def test_scenes_are_a_function_of_their_seed(
    sources: tuple[np.ndarray, np.ndarray], scenes: Scenes
) -> None:
    digest = hashlib.sha256(scenes.images.tobytes() + scenes.labels.tobytes()).hexdigest()
    assert digest[:16] == "4921f744774719cc"
    other = make_scenes(*sources, seed=(1, 0), folds=3)
    assert not np.array_equal(other.images, scenes.images)


def test_every_class_has_as_many_scenes(scenes: Scenes) -> None:
    assert scenes.images.shape == (10 * PER_CLASS, SIZE, SIZE, 1)
    assert scenes.images.dtype == np.uint8
    for fold in np.split(scenes.labels, 3):
        assert np.array_equal(np.bincount(fold), np.full(len(CLASSES), PER_CLASS // 3 // 2))


def test_an_item_is_the_labelled_source_and_used_once(
    sources: tuple[np.ndarray, np.ndarray], scenes: Scenes
) -> None:
    items = scenes.sources[:, 0]
    assert np.array_equal(np.sort(items), np.arange(10 * PER_CLASS))
    assert np.array_equal(scenes.labels // 2, sources[1][items])


def test_folds_share_no_source_image(scenes: Scenes) -> None:
    assert scenes.sources.shape == (10 * PER_CLASS, 1 + PIECES)
    folds = [set(part.ravel().tolist()) for part in np.split(scenes.sources, 3)]
    assert sum(map(len, folds)) == len(set.union(*folds))


def test_too_few_images_are_refused(sources: tuple[np.ndarray, np.ndarray]) -> None:
    with pytest.raises(DataError, match="class 0 has 12 images, expected 14 or more"):
        make_scenes(*sources, seed=(0, 0), folds=7)


@pytest.mark.parametrize("upside_down", [0.0, np.pi])
def test_warp_against_scipy(sources: tuple[np.ndarray, np.ndarray], upside_down: float) -> None:
    """Inverse mapping and bilinear weights, against an independent implementation."""
    images = sources[0][:4]
    rng = np.random.default_rng(1)
    angle = upside_down + rng.uniform(-0.6, 0.6, 4)
    scale, centre = rng.uniform(0.6, 2.0, 4), rng.uniform(20, 44, (4, 2))
    ours = warp(images, angle, scale, centre, SIZE)
    for n, image in enumerate(images):
        turn = np.array(
            [[np.cos(angle[n]), -np.sin(angle[n])], [np.sin(angle[n]), np.cos(angle[n])]]
        )
        matrix = turn / scale[n]
        # pixel p's centre is at p + 0.5; the image's middle at 14
        offset = 14 - 0.5 + matrix @ (0.5 - centre[n])
        expected = scipy.ndimage.affine_transform(
            np.pad(image, 40).astype(float), matrix, offset + 40, (SIZE, SIZE), order=1
        )
        assert np.abs(ours[n] - expected).max() <= 3  # positions are rounded to 1/256 pixel


def test_the_dataset_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    for key, count in (("train", 200), ("test", 20)):
        write_idx(tmp_path / FILES[f"{key}_images"], rng.integers(0, 256, (count, 28, 28)))
        write_idx(tmp_path / FILES[f"{key}_labels"], np.arange(count) % 10)
    monkeypatch.setenv("DTMM_CACHE_DIR", str(tmp_path / "cache"))
    made = load_dataset("fashion_scenes", tmp_path)
    assert made.image_shape == (64, 64, 1)
    assert (len(made.train_labels), len(made.test_labels)) == (200, 20)
    assert made.classes[3] == "Trouser, upside down"

    def never(*_: object) -> Scenes:
        raise AssertionError("made again")

    with monkeypatch.context() as patch:
        patch.setattr(fashion_scenes, "make_scenes", never)
        assert load_dataset("fashion_scenes", tmp_path).hash == made.hash
    (kept,) = (tmp_path / "cache/data").iterdir()
    kept.write_bytes(kept.read_bytes()[:5000])  # damaged: made again
    assert load_dataset("fashion_scenes", tmp_path).hash == made.hash
