"""The latency table: what it answers, refuses, and whether it was measured right."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from dtmm.deploy import plan, run_on_device
from dtmm.errors import DataError, DtmmError, MeasurementError
from dtmm.latency import measure
from dtmm.latency.code_size import measure_code_size
from dtmm.latency.measure import measure_points
from dtmm.latency.table import Cost, LatencyTable, OpShape, Point
from dtmm.network.fold import fold
from dtmm.planning import layout
from dtmm.planning.points import KINDS, op_shape
from dtmm.quantization import quantize
from dtmm.sweep import InProcessExecutor
from dtmm.training.calibrate import activation_ranges
from tests.training.networks import residual

SHAPE = OpShape("conv2d", (6, 6), (6, 6), kernel=(3, 3), pad=(1, 1), in_halo=1, out_halo=1)
POINTS = (
    Point(SHAPE, "conv_dense", 16, 8, 72),
    Point(SHAPE, "conv_fwcs", 16, 8, 30),
    Point(SHAPE, "conv_fwcs", 24, 8, 8),
    Point(OpShape("add", (6, 6), (6, 6), out_halo=1), "add", 20, 20),
    Point(OpShape("mean", (6, 6), (1, 1)), "mean", 20, 20),
    Point(OpShape("fully_connected", (1, 1), (1, 1)), "fully_connected", 40, 10),
    Point(OpShape("max_pool", (6, 6), (3, 3), (2, 2), (2, 2)), "max_pool", 20, 20),
    Point(OpShape("average_pool", (6, 6), (3, 3), (2, 2), (2, 2)), "average_pool", 20, 20),
)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory, toolchain: None) -> LatencyTable:
    return measured(tmp_path_factory.mktemp("latency") / "store.jsonl", POINTS)


def measured(store: Path, points: tuple[Point, ...]) -> LatencyTable:
    return measure_points(points, store, seed=5, executor=InProcessExecutor())


def test_every_point_is_measured(table: LatencyTable) -> None:
    assert set(table.costs) == set(POINTS)
    assert all(cost.cycles > 0 and cost.instructions > 0 for cost in table.costs.values())
    assert table.provenance["cycle_model"].startswith("m55-v1/llvm-")
    assert table.provenance["pattern_seed"] == "5"
    assert table.cost(POINTS[0]).scratch > 0


def test_measuring_again_gives_the_same_figures(table: LatencyTable, tmp_path: Path) -> None:
    alone = measured(tmp_path / "store.jsonl", POINTS[3:4])
    assert alone.cost(POINTS[3]) == table.cost(POINTS[3])


def test_what_is_stored_is_not_measured_again(
    tmp_path: Path, toolchain: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = measured(tmp_path / "store.jsonl", POINTS[3:5])
    monkeypatch.setattr(measure, "run_firmware", None)
    assert measured(tmp_path / "store.jsonl", POINTS[3:5]).costs == first.costs


def test_other_outputs_than_the_hosts_are_rejected(
    tmp_path: Path, toolchain: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tampered(lines, chunk, real=measure._reports):
        reports = real(lines, chunk)
        if any(line.key == "REGION" for line in lines):  # the device's
            reports[0] = dataclasses.replace(reports[0], checksum=reports[0].checksum ^ 1)
        return reports

    monkeypatch.setattr(measure, "_reports", tampered)
    with pytest.raises(DtmmError, match="the measurement is rejected"):
        measured(tmp_path / "store.jsonl", POINTS[3:4])


def test_a_point_that_does_not_fit_is_refused(tmp_path: Path, toolchain: None) -> None:
    large = Point(dataclasses.replace(SHAPE, in_hw=(512, 512), out_hw=(512, 512)), "conv_dense",
                  16, 8, 72)  # fmt: skip
    with pytest.raises(DtmmError, match="IN_BYTES"):
        measured(tmp_path / "store.jsonl", (large,))


def test_an_operator_that_refuses_is_an_error(tmp_path: Path, toolchain: None) -> None:
    without_halo = Point(dataclasses.replace(SHAPE, in_halo=0), "conv_dense", 16, 8, 72)
    with pytest.raises(DtmmError, match="returned status -1"):
        measured(tmp_path / "store.jsonl", (without_halo,))


def test_a_missing_point_names_the_nearest() -> None:
    costs = {point: Cost(float(n), n, 0) for n, point in enumerate(POINTS)}
    wanted = Point(SHAPE, "conv_fwcs", 16, 8, 33)
    with pytest.raises(MeasurementError, match=r"33 filterlets; nearest: conv_fwcs .* 30 filt"):
        LatencyTable(costs, {}).cost(wanted)
    assert LatencyTable(costs, {}).missing([POINTS[0], wanted]) == (wanted,)


def test_a_table_survives_its_file(tmp_path: Path) -> None:
    costs = {point: Cost(n + 0.5, n, 3 * n) for n, point in enumerate(POINTS)}
    table = LatencyTable(costs, {"compiler": "clang: 19"})
    table.save(tmp_path / "table.csv")
    assert LatencyTable.load(tmp_path / "table.csv") == table


def test_a_table_without_a_column_is_refused(tmp_path: Path) -> None:
    LatencyTable({POINTS[0]: Cost(1.0, 1, 1)}, {}).save(tmp_path / "table.csv")
    text = (tmp_path / "table.csv").read_text()
    (tmp_path / "table.csv").write_text(text.replace("filterlets", "kept"))
    with pytest.raises(DataError, match="lacks columns filterlets"):
        LatencyTable.load(tmp_path / "table.csv")


def test_code_sizes_add_up(toolchain: None) -> None:
    size = measure_code_size()
    assert all(0 < bytes_ < 8192 for bytes_ in size.kernels.values()), size
    assert 0 < size.shared < 8192
    assert size.fixed(3) - size.fixed(2) == size.fixed(1) - size.fixed(0)


def test_the_table_predicts_a_networks_layers(tmp_path: Path, toolchain: None) -> None:
    """A layer alone, on random weights, costs what it costs inside a network."""
    network = fold(residual(size=8, c_in=1, widths=(16, 24)))
    images = np.random.default_rng(0).normal(size=(8, 8, 8, 1)).astype(np.float32)
    place = layout(network)
    quantized = quantize(network, activation_ranges(network, images))
    deployment = plan(quantized, place)
    inputs = np.random.default_rng(1).integers(-128, 128, (1, 8, 8, 1)).astype(np.int8)
    steps = {step.name: step.cycles for step in run_on_device(deployment, inputs).steps}
    points = {}
    for op in network.ops:
        shape = op_shape(network, place, op)
        inputs_, outputs = (
            network.tensors[name][-1]
            for name in (op.inputs[0] if hasattr(op, "inputs") else op.input, op.output)
        )
        kernel = deployment.kernels.get(op.name, KINDS[type(op)])
        kept = outputs * shape.kernel[0] * shape.kernel[1] if "conv" in kernel else 0
        points[op.name] = Point(shape, kernel, inputs_, outputs, kept)
    table = measured(tmp_path / "store.jsonl", tuple(points.values()))
    for name, point in points.items():
        # 6 %: page-end edges and the calls around a layer depend on where its code lies
        assert table.cost(point).cycles == pytest.approx(steps[name], rel=0.06, abs=400), name
    total = sum(table.cost(point).cycles for point in points.values())
    assert total == pytest.approx(sum(steps[name] for name in points), rel=0.02)
