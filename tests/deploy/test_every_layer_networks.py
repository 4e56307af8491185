"""TFLM, the integer reference, the host C library and the simulated M55: the same bytes of every
layer, on the zoo, on definitions and on files of others. In the full run: it takes minutes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks.arena import NETWORKS
from benchmarks.zoo import DENSE, FILTERLETS, PRUNED, ZOO, Entry, deployment
from dtmm.quantization import quantize
from dtmm.quantization.tflite_reader import load_tflite
from dtmm.training.calibrate import activation_ranges
from tests.deploy.every_layer import ROOMY, Compared, compare_everywhere, tflm_of_file

pytest.importorskip("tflite_micro")
pytestmark = [pytest.mark.usefixtures("toolchain")]

Record = Callable[[str, object], None]

ENTRIES = (
    *((entry, DENSE) for entry in NETWORKS),
    *((entry, variant) for entry in ZOO[:2] for variant in (PRUNED, FILTERLETS)),
)


def keep(record: Record, kind: str, found: Compared) -> None:
    record(f"every layer: {kind}", found.to_dict())


@pytest.mark.full
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("entry", "variant"), ENTRIES, ids=lambda v: getattr(v, "name", v))
def test_the_zoo(entry: Entry, variant: str, record_property: Record) -> None:
    network = deployment(entry, variant, seed=0).network
    shape = network.tensors[network.inputs[0]].shape
    image = np.random.default_rng(0).integers(-128, 128, shape).astype(np.int8)
    keep(record_property, "the zoo", compare_everywhere(network, image))


@pytest.mark.full
@pytest.mark.timeout(3600)
def test_models_of_others(models_folder: Path, record_property: Record) -> None:
    """TFLM runs the very files."""
    files = sorted(models_folder.rglob("*.tflite"))
    assert files
    for path in files:
        network = load_tflite(path)
        shape = network.tensors[network.inputs[0]].shape
        image = np.random.default_rng(0).integers(-128, 128, shape).astype(np.int8)
        in_tflm = tflm_of_file(path.read_bytes(), image)
        assert in_tflm.keys() >= {op.output for op in network.ops}
        found = compare_everywhere(network, image, in_tflm=in_tflm)
        keep(record_property, "models of DTMM_MODELS", found)


def third_party() -> list[str]:
    try:
        from tests.network.test_third_party import SIZES
    except pytest.skip.Exception:
        return []
    return list(SIZES)


@pytest.mark.full
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", third_party())
def test_third_party_networks(name: str, record_property: Record) -> None:
    from tests.network.test_third_party import check_reader, made

    _, torch_image = made(name)
    folded = check_reader(name)
    images = torch_image.permute(0, 2, 3, 1).numpy()
    network = quantize(folded, activation_ranges(folded, images))
    image = np.random.default_rng(0).integers(-128, 128, images.shape).astype(np.int8)
    found = compare_everywhere(network, image, memory=ROOMY)
    keep(record_property, "third-party networks", found)
