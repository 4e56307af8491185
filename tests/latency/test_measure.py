"""Points measured on the simulated device, against whole networks and against counts."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from dtmm.deploy import Deployment, Measurement
from dtmm.device.protocol import Line
from dtmm.errors import MeasurementError
from dtmm.latency import LatencyTable, OpShape, Point, harness
from dtmm.latency.measure import from_row, measure_points, to_row
from dtmm.network.ir import Concat, Conv2D, Network, op_inputs
from dtmm.planning.points import op_point, op_shape
from dtmm.storage import dense_scratch, fwcs_scratch, im2col_scratch
from dtmm.storage.kernel_ids import family, variant
from dtmm.sweep import InProcessExecutor

pytestmark = pytest.mark.usefixtures("toolchain")

CONV = OpShape("conv2d", (6, 6), (6, 6), kernel=(3, 3), pad=(1, 1), in_halo=1, out_halo=1)
STRIDED = dataclasses.replace(CONV, out_hw=(3, 3), stride=(2, 2), out_halo=0)
DILATED = dataclasses.replace(CONV, dilation=(2, 2), pad=(2, 2), in_halo=2)
UNHALOED = dataclasses.replace(CONV, in_halo=0)


@pytest.fixture(scope="module")
def points(network: Network, deployment: Deployment) -> dict[str, Point]:
    """What the scheduler would ask for this very network, by operator."""
    asked = {}
    for op in network.ops:
        shape = op_shape(network, deployment.layout, op)
        if isinstance(op, Conv2D):
            weights = deployment.network.params[op.weight]
            c_out, kernel_h, kernel_w, c_in = weights.shape
            kernel = deployment.kernels[op.name]
            kept = int(weights.any(axis=3).sum())
            every = c_out * kernel_h * kernel_w
            filterlets = kept if family(kernel) == "conv_fwcs" else every
            asked[op.name] = Point(shape, kernel, c_in * op.groups, c_out, filterlets)
        else:
            deciding = op.output if isinstance(op, Concat) else op_inputs(op)[0]
            channels = network.tensors[deciding][-1]
            asked[op.name] = op_point(network, shape, op, channels)
    return asked


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("latency") / "latency.jsonl"


@pytest.fixture(scope="module")
def table(points: dict[str, Point], store: Path) -> LatencyTable:
    return measure_points(points.values(), store, executor=InProcessExecutor())


def test_the_network_holds_every_kernel(points: dict[str, Point]) -> None:
    found = {family(point.kernel) for point in points.values()}
    assert found == set(harness.OPERATORS) - {"conv_csr", "conv_fkw"}  # measured below
    assert any(variant(point.kernel) for point in points.values())


def test_points_add_up_to_the_network(
    table: LatencyTable, points: dict[str, Point], measured: Measurement
) -> None:
    """Per layer, although weights, filterlet patterns and images are others."""
    steps = {step.name: step for step in measured.steps}
    for name, point in points.items():
        cost, step = table.cost(point), steps[name]
        # a step also makes its tensors' views; runs hang on the pattern, a softmax on the data
        assert cost.cycles == pytest.approx(step.cycles, rel=0.04, abs=100), name
        assert cost.instructions == pytest.approx(step.instructions, rel=0.04, abs=80), name
    total = sum(table.cost(point).cycles for point in points.values())
    whole = sum(steps[name].cycles for name in points)
    assert abs(whole - total) <= 0.02 * whole + 50 * len(points)  # the views, in layers so small


def expected_scratch(point: Point) -> int:
    """What planning assumes for a convolution."""
    kernel, operator = point.shape.kernel, family(point.kernel)
    if operator == "conv_im2col":
        return im2col_scratch(point.shape.out_hw[1], 32)
    if operator == "conv_dense":
        return dense_scratch(point.kernel, kernel, point.out_channels)
    if operator == "conv_fwcs":
        return fwcs_scratch(point.kernel, point.filterlets, point.out_channels, kernel)
    return 0


def test_scratch_is_what_planning_assumes(
    table: LatencyTable, points: dict[str, Point], network: Network
) -> None:
    for op in network.convs():
        assert table.cost(points[op.name]).scratch == expected_scratch(points[op.name]), op.name


def test_only_what_is_missing_is_measured(
    table: LatencyTable,
    points: dict[str, Point],
    store: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ran: list[list[Point]] = []
    original = harness._fields

    def fields(point: Point, *others: int) -> list[int]:
        ran.append([point])
        return original(point, *others)

    monkeypatch.setattr(harness, "_fields", fields)
    again = measure_points(list(points.values())[::-1], store, executor=InProcessExecutor())
    assert again == table
    assert ran == []
    new = Point(STRIDED, "conv_dense", 16, 8, 72)
    more = measure_points([new, *points.values()], store, executor=InProcessExecutor())
    assert ran == [[new]]
    assert {point: more.cost(point) for point in table.costs} == table.costs


def test_a_cost_does_not_depend_on_its_neighbours(
    table: LatencyTable, points: dict[str, Point], tmp_path: Path
) -> None:
    alone = [points["narrow"], points["mean"]]
    found = measure_points(alone, tmp_path / "own.jsonl", executor=InProcessExecutor())
    assert found.costs == {point: table.cost(point) for point in alone}


def test_other_shapes_agree_with_the_host(tmp_path: Path) -> None:
    """Their checksums are compared with the host's; more filterlets cost more cycles."""
    kept = (5, 20, 108)
    sparse = [Point(shape, "conv_fwcs", 20, 12, n) for n in kept for shape in (CONV, DILATED)]
    dense = [Point(STRIDED, "conv_dense", 7, 30, 270), Point(CONV, "conv_im2col", 3, 17, 153)]
    found = measure_points([*sparse, *dense], tmp_path / "s.jsonl", executor=InProcessExecutor())
    for shape in (CONV, DILATED):
        cycles = [found.cost(Point(shape, "conv_fwcs", 20, 12, n)).cycles for n in kept]
        assert cycles == sorted(cycles)
        assert cycles[0] < cycles[-1] / 2


def test_provenance_says_how(table: LatencyTable) -> None:
    wanted = {"compiler", "flags", "qemu", "cycle_model", "memory_map", "commit", "pattern_seed"}
    assert wanted <= table.provenance.keys()
    assert table.provenance["cycle_model"].startswith("m55-v1")


def test_an_output_that_differs_is_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = Point(CONV, "conv_dense", 16, 8, 72), Point(STRIDED, "conv_dense", 16, 8, 72)
    original = harness._run_on_host

    def tampered(work: Path) -> tuple[Line, ...]:
        lines = original(work)
        last = lines[-1]
        wrong = (*last.values[:-1], str(int(last.values[-1]) ^ 1))
        return (*lines[:-1], Line(last.key, wrong))

    path = tmp_path / "s.jsonl"
    with monkeypatch.context() as patch:
        patch.setattr(harness, "_run_on_host", tampered)
        with pytest.raises(MeasurementError, match="rejected") as raised:
            measure_points([good, bad], path, executor=InProcessExecutor())
    assert len(str(raised.value)) < 250
    assert set(measure_points([bad], path, executor=InProcessExecutor()).costs) == {bad}


@pytest.mark.parametrize(
    ("point", "says"),
    [
        (Point(CONV, "conv_pointwise_p16", 16, 8, 72), "the operator returned status -4"),
        (Point(UNHALOED, "conv_fwcs", 16, 8, 72), "the operator returned status -1"),
        (Point(CONV, "conv_dense", 16, 1500, 13500), "needs CHANNELS=1500, the harness has 1024"),
    ],
)
def test_a_point_that_cannot_be_measured_is_named(point: Point, says: str, tmp_path: Path) -> None:
    with pytest.raises(MeasurementError, match=says) as raised:
        measure_points([point], tmp_path / "s.jsonl", executor=InProcessExecutor())
    assert f"{point.kernel} 3x3 stride 1 on 6x6x16" in str(raised.value)


def test_rows_and_points_are_each_others_inverse(points: dict[str, Point]) -> None:
    assert [from_row(to_row(point)) for point in points.values()] == list(points.values())
