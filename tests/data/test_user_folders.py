"""Datasets that a user brings, on tiny folders made here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import wavfile

from dtmm.data import load_dataset
from dtmm.data import speech_commands as speech
from dtmm.data.cifar10 import RECORD, TEST_FILES, TRAIN_FILES
from dtmm.data.image_files import held_out
from dtmm.errors import DataError

USER_FOLDERS = ("camera_catalogue", "cifar10", "gtsrb", "speech_commands", "vww")


@pytest.mark.parametrize("name", USER_FOLDERS)
def test_without_its_folder_it_says_what_belongs_there(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"dataset {name} needs data.folder, a folder that holds"):
        load_dataset(name)
    with pytest.raises(DataError, match="nowhere does not exist; expected one that holds"):
        load_dataset(name, tmp_path / "nowhere")


@pytest.fixture
def cifar(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in (*TRAIN_FILES, *TEST_FILES):
        records = rng.integers(0, 256, (4, RECORD), np.uint8)
        records[:, 0] = rng.integers(0, 10, 4)
        records.tofile(tmp_path / name)
    return tmp_path


def test_cifar10_planes_become_pixels(cifar: Path) -> None:
    data = load_dataset("cifar10", cifar)
    assert data.train_images.shape == (20, 32, 32, 3)
    record = np.fromfile(cifar / TRAIN_FILES[1], np.uint8)[:RECORD]
    assert data.train_labels[4] == record[0]
    assert data.train_images[4, 5, 7].tolist() == [record[1 + c * 1024 + 5 * 32 + 7] for c in
                                                   range(3)]  # fmt: skip


def test_cifar10_refuses_what_is_not_so(cifar: Path) -> None:
    path = cifar / TRAIN_FILES[2]
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    with pytest.raises(DataError, match=rf"{path.name} holds 12291 bytes, expected records"):
        load_dataset("cifar10", cifar)
    path.write_bytes(b"\x0b" + content[1:])
    with pytest.raises(DataError, match=r"has label 11, expected 0\.\.9"):
        load_dataset("cifar10", cifar)
    path.unlink()
    with pytest.raises(DataError, match=f"cannot read the dataset file .*{path.name}"):
        load_dataset("cifar10", cifar)


def picture(path: Path, colour: tuple[int, int, int], size: tuple[int, int] = (20, 10)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


def test_vww_reads_both_classes_and_splits_by_name(tmp_path: Path) -> None:
    names = [f"{n:03}.png" for n in range(60)]
    for name in names:
        picture(tmp_path / "person" / name, (200, 0, 0))
        picture(tmp_path / "non_person" / name, (0, 0, 100))
    data = load_dataset("vww", tmp_path)
    assert data.classes == ("non_person", "person")
    assert data.image_shape == (96, 96, 3)
    assert len(data.test_labels) == 2 * sum(map(held_out, names)) > 0
    assert (data.train_images[data.train_labels == 1] == (200, 0, 0)).all()
    assert (data.test_images[data.test_labels == 0] == (0, 0, 100)).all()
    assert data.mean == pytest.approx(data.train_images.mean() / 255, abs=1e-4)


def test_the_camera_catalogue_takes_a_given_split(tmp_path: Path) -> None:
    for split, count in (("train", 3), ("test", 2)):
        for label, animal in enumerate(("lion", "zebra")):
            for n in range(count):
                picture(tmp_path / split / animal / f"{n}.jpg", (50 * label, 0, 0))
    data = load_dataset("camera_catalogue", tmp_path)
    assert data.classes == ("lion", "zebra")
    assert data.train_labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert data.test_labels.tolist() == [0, 0, 1, 1]


def test_a_damaged_picture_and_an_empty_class_are_named(tmp_path: Path) -> None:
    picture(tmp_path / "person" / "a.png", (0, 0, 0))
    with pytest.raises(DataError, match="non_person has no pictures"):
        load_dataset("vww", tmp_path)
    (tmp_path / "non_person").mkdir()
    (tmp_path / "non_person" / "b.png").write_bytes(b"\x89PNG nothing")
    with pytest.raises(DataError, match=r"cannot read the picture .*b\.png"):
        load_dataset("vww", tmp_path)


@pytest.fixture
def signs(tmp_path: Path) -> Path:
    header = "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId\n"
    for n in range(43):
        folder = tmp_path / "Final_Training" / "Images" / f"{n:05}"
        sign = Image.new("RGB", (30, 20), (255, 255, 255))
        sign.paste((n, n, n), (5, 6, 15, 16))  # the region, its last row and column included
        folder.mkdir(parents=True)
        sign.save(folder / "00000.ppm")
        (folder / f"GT-{n:05}.csv").write_text(header + f"00000.ppm;30;20;5;6;14;15;{n}\n")
    folder = tmp_path / "Final_Test" / "Images"
    picture(folder / "00000.ppm", (7, 7, 7))
    (folder / "GT-final_test.csv").write_text(header + "00000.ppm;20;10;0;0;19;9;7\n")
    return tmp_path


def test_gtsrb_crops_to_the_region(signs: Path) -> None:
    data = load_dataset("gtsrb", signs)
    assert data.train_labels.tolist() == list(range(43))
    assert (data.train_images == data.train_labels[:, None, None, None]).all()
    assert data.test_labels.tolist() == [7]
    assert not data.mirror


def test_gtsrb_refuses_a_table_of_other_columns(signs: Path) -> None:
    table = signs / "Final_Test" / "Images" / "GT-final_test.csv"
    table.write_text("Filename;Width\n00000.ppm;20\n")
    with pytest.raises(DataError, match=r"lacks columns ClassId, Roi\.X1"):
        load_dataset("gtsrb", signs)


def sound(path: Path, hertz: float, seconds: float = 1.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    time = np.arange(int(seconds * speech.RATE)) / speech.RATE
    samples = (8000 * np.sin(2 * np.pi * hertz * time)).astype(np.int16)
    wavfile.write(path, speech.RATE, samples)


@pytest.fixture
def words(tmp_path: Path) -> Path:
    for n, word in enumerate((*speech.WORDS, "bed")):
        for take in range(2):
            sound(tmp_path / word / f"{take}.wav", 300 + 250 * n, 1.0 - 0.3 * take)
    sound(tmp_path / speech.NOISE_FOLDER / "hum.wav", 50, 3.0)
    (tmp_path / speech.TEST_LIST).write_text("yes/1.wav\nbed/0.wav\n")
    return tmp_path


def test_speech_commands(words: Path) -> None:
    data = load_dataset("speech_commands", words)
    assert data.image_shape == (49, 10, 1)
    assert data.classes == speech.CLASSES
    counts = np.bincount(np.concatenate([data.train_labels, data.test_labels]), minlength=12)
    assert counts.tolist() == [2] * 10 + [2, 2]  # a tenth of the words, rounded up, of each extra
    assert {speech.WORDS.index("yes"), speech.CLASSES.index("silence")} <= set(data.test_labels)
    assert data.hash == load_dataset("speech_commands", words).hash


def test_the_cepstrum_of_a_tone_peaks_in_its_mel_band() -> None:
    bands = speech._mel_bands()
    centres = np.array([np.fft.rfftfreq(512, 1 / speech.RATE)[band.argmax()] for band in bands])
    time = np.arange(speech.RATE) / speech.RATE
    tone = np.sin(2 * np.pi * 1000 * time)
    window = np.hanning(speech.WINDOW + 1)[:-1]
    power = np.abs(np.fft.rfft(tone[: speech.WINDOW] * window, 512)) ** 2
    assert abs(centres[(bands @ power).argmax()] - 1000) < 100
    found = speech.cepstrum(tone)
    assert found.shape == (49, 10)
    assert np.allclose(found, found[0], atol=0.3)  # every window hears the same
    energies = np.log(np.maximum(bands @ power, 1e-12))
    assert found[0, 0] == pytest.approx(energies.sum() / np.sqrt(40))  # the first DCT-II basis


def test_a_sound_of_another_rate_is_refused(words: Path) -> None:
    wavfile.write(words / "yes" / "0.wav", 8000, np.zeros(8000, np.int16))
    with pytest.raises(DataError, match=r"yes/0\.wav is int16 .* at 8000 Hz, expected int16 mono"):
        load_dataset("speech_commands", words)
