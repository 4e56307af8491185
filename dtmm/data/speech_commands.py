"""Speech Commands v2 (Warden 2018) as 49x10 cepstral images: ten words, silence, anything else.

The features are those of keyword spotting in MLPerf Tiny: 10 mel-frequency cepstral coefficients
(Davis and Mermelstein 1980) of 40 mel bands from 20 to 4,000 Hz, over windows of 30 ms every 20 ms
of one second of sound. They are computed here with scipy, and stored in eight bits over the range
that they have in the training set, so they resemble those of TensorFlow but do not equal them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.fft import dct
from scipy.io import wavfile
from scipy.signal import get_window

from dtmm.data.dataset import Dataset
from dtmm.data.image_files import in_two
from dtmm.data.user_folder import user_folder
from dtmm.errors import DataError

WORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
CLASSES = (*WORDS, "silence", "unknown")
RATE = 16_000
WINDOW, STEP, FFT = 480, 320, 512
BANDS, COEFFICIENTS, LOW_HZ, HIGH_HZ = 40, 10, 20.0, 4000.0
NOISE_FOLDER = "_background_noise_"
TEST_LIST = "testing_list.txt"
EXTRA_PERCENT = 10
"""Silence and unknown words: each as many as this share of the ten words."""
_LEAST = 1e-12
_TAILS = (0.1, 99.9)

Sound = npt.NDArray[np.float64]


def load_speech_commands(folder: Path | None = None) -> Dataset:
    """The dataset in `folder`, laid out as published: a subfolder per word, testing_list.txt.

    The validation files are training files here; whoever validates holds images out himself.

    Raises:
        DataError: no folder is given, or a list or sound is missing or malformed.
    """
    holds = f"{', '.join(WORDS)}, {NOISE_FOLDER} and {TEST_LIST}"
    place = user_folder("speech_commands", folder, holds)
    listed = _test_files(place)
    words = [path for word in WORDS for path in _sounds(place / word)]
    rng = np.random.default_rng(0)
    others = _others(place, -(-len(words) * EXTRA_PERCENT // 100), rng)
    files = [*words, *others]
    features = [cepstrum(read_sound(path)) for path in files]
    labels = [_label(path) for path in files]
    test = [path.relative_to(place).as_posix() in listed for path in files]
    for number, sound in enumerate(_silence(place, len(others), rng)):
        features.append(cepstrum(sound))
        labels.append(CLASSES.index("silence"))
        test.append(number % 10 == 0)
    held = np.array(test)
    images = _eight_bits(np.stack(features), held)
    return in_two(
        "speech_commands", images, np.array(labels, np.int64), held, CLASSES, mirror=False
    )


def read_sound(path: Path) -> Sound:
    """One second at 16 kHz, [16000] from -1 to 1, padded with zeros at the end or cut.

    Raises:
        DataError: missing, no sound, or not 16-bit mono at 16 kHz.
    """
    second = _samples(path)[:RATE]
    return np.pad(second, (0, RATE - len(second)))


def _samples(path: Path) -> Sound:
    try:
        rate, samples = wavfile.read(path)
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read the sound {path}: {error}") from None
    if rate != RATE or samples.ndim != 1 or samples.dtype != np.int16:
        raise DataError(
            f"{path} is {samples.dtype} of shape {samples.shape} at {rate} Hz, expected int16 mono "
            f"at {RATE} Hz"
        )
    return np.asarray(samples.astype(np.float64) / 32768)


def cepstrum(sound: Sound) -> npt.NDArray[np.float64]:
    """[49, 10] coefficients of [16000] samples."""
    starts = np.arange(0, len(sound) - WINDOW + 1, STEP)
    frames = sound[starts[:, None] + np.arange(WINDOW)] * get_window("hann", WINDOW)
    power = np.abs(np.fft.rfft(frames, FFT)) ** 2
    energies = np.log(np.maximum(power @ _mel_bands().T, _LEAST))
    return np.asarray(dct(energies, norm="ortho")[:, :COEFFICIENTS])


def _mel_bands() -> npt.NDArray[np.float64]:
    """[40, 257]: triangles, evenly spaced on the mel scale, over the bins of the spectrum."""

    def mel(hertz: npt.ArrayLike) -> npt.NDArray[np.float64]:
        return np.asarray(1127.0 * np.log1p(np.asarray(hertz) / 700.0), np.float64)

    edges = np.linspace(mel(LOW_HZ), mel(HIGH_HZ), BANDS + 2)
    bins = mel(np.fft.rfftfreq(FFT, 1 / RATE))
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    return np.asarray(np.maximum(np.minimum(rising, falling), 0.0), np.float64)


def _eight_bits(
    features: npt.NDArray[np.float64], test: npt.NDArray[np.bool_]
) -> npt.NDArray[np.uint8]:
    low, high = np.percentile(features[~test] if (~test).any() else features, _TAILS)
    codes = np.rint((features - low) / max(high - low, _LEAST) * 255)
    images: npt.NDArray[np.uint8] = np.clip(codes, 0, 255).astype(np.uint8)[..., None]
    return images


def _label(path: Path) -> int:
    word = path.parent.name
    return WORDS.index(word) if word in WORDS else CLASSES.index("unknown")


def _test_files(folder: Path) -> set[str]:
    try:
        return set((folder / TEST_LIST).read_text().split())
    except OSError as error:
        raise DataError(f"cannot read {folder / TEST_LIST}: {error.strerror}") from None


def _sounds(folder: Path) -> list[Path]:
    found = sorted(folder.glob("*.wav"))
    if not found:
        raise DataError(f"{folder} has no .wav files")
    return found


def _others(folder: Path, count: int, rng: np.random.Generator) -> list[Path]:
    names = sorted(each.name for each in folder.iterdir() if each.is_dir())
    words = [name for name in names if name not in (*WORDS, NOISE_FOLDER)]
    files = [path for word in words for path in sorted((folder / word).glob("*.wav"))]
    chosen = rng.permutation(len(files))[:count]
    return [files[n] for n in sorted(chosen)]


def _silence(folder: Path, count: int, rng: np.random.Generator) -> list[Sound]:
    """Seconds of background noise, each as loud as chance will have it."""
    noises = [_samples(path) for path in _sounds(folder / NOISE_FOLDER)]
    silent = []
    for number in range(count):
        noise = noises[number % len(noises)]
        start = int(rng.integers(0, max(len(noise) - RATE, 1)))
        second = noise[start : start + RATE]
        silent.append(np.pad(second, (0, RATE - len(second))) * rng.random())
    return silent
