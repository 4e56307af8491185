"""Instances of the scheduling problem: real graphs, plausible tables, everything from a seed.

    instance("resnet12", Grid(12, 16), seed=0) -> Problem

Tables are the formulas of instance_costs.py and random scores: log-normal per layer, filter and
filterlet, scaled so that removing everything removable would cost 1 nat; the loss of a choice is
the first-order Taylor sum over what it removes.

`LIBRARY` is the public set with the budgets that the benchmark uses.

    python -m benchmarks.instances FOLDER    writes the library's instances as .dtmm files
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt

from benchmarks.instance_costs import (
    CODE,
    PARAMETER_BYTES,
    SPECIAL_STRIDES,
    VECTOR_BYTES,
    conv_cycles,
    conv_flash,
    conv_scratch,
    op_cycles,
    random_scores,
    rounded_up,
)
from benchmarks.scheduler_graphs import GRAPHS, Graph, Op
from dtmm import artifact
from dtmm.errors import ConfigError
from dtmm.scheduler import Budgets, Concat, Group, Layer, MemoryStep, Problem, evaluate

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

FIXED_FLASH, FIXED_SRAM, FIXED_LATENCY = 9000.0, 1024.0, 2000.0
SMALLEST = 0.125
"""Share of its channels that a group keeps at least."""
KEPT_LEAST = 0.1
"""Share of a layer's filterlets that its sparsest option keeps, if that leaves one per filter."""


@dataclass(frozen=True)
class Grid:
    """How many choices there are.

    Attributes:
        channels: most levels per channel group.
        filterlets: most options per convolution, dense included.
        fine: channel levels evenly spaced in steps of 2 (4 from 128 on), which gives `channels`
            levels nearly everywhere and much harder instances; else multiples of 16 (8 below 64),
            what the library itself uses. Segments of concats keep multiples of 16 either way.
        specialised: further options with kernels specialised to one input stride.
    """

    channels: int = 12
    filterlets: int = 16
    fine: bool = False
    specialised: bool = False

    @property
    def name(self) -> str:
        """E.g. 12x16, 12x16-fine, 12x16-kernels."""
        kinds = ("-fine" if self.fine else "") + ("-kernels" if self.specialised else "")
        return f"{self.channels}x{self.filterlets}{kinds}"


@dataclass(frozen=True)
class Shares:
    """Budgets: flash and sram as shares of the dense network's, loss in nats; None: unlimited."""

    flash: float | None
    sram: float | None
    loss: float | None


SHARES: Mapping[str, Shares] = {
    "tiny_resnet": Shares(0.7, 1.0, 0.2),
    "vgg11": Shares(0.11, 0.6, 0.12),
    "resnet12": Shares(0.19, 0.6, 0.12),
    "squeezenet": Shares(0.27, 0.4, 0.12),
    "mobilenet_v1_025": Shares(0.13, 1.0, 0.25),
    "residual52": Shares(0.2, 0.7, 0.12),
    "residual204": Shares(0.33, 0.7, 0.12),
    "residual604": Shares(0.38, 0.7, 0.12),
}
"""Budgets that all bind or nearly so at the optimum of the default grid."""


@dataclass(frozen=True)
class Entry:
    """An instance of the public set."""

    network: str
    grid: Grid = Grid()
    seed: int = 0

    @property
    def name(self) -> str:
        """E.g. resnet12_12x16_s0."""
        return f"{self.network}_{self.grid.name}_s{self.seed}"

    def problem(self) -> Problem:
        """Make it."""
        return instance(self.network, self.grid, self.seed)


_FINE, _KERNELS = Grid(fine=True), Grid(specialised=True)
_LARGE = ("residual52", "residual204", "residual604")

LIBRARY: Mapping[str, Entry] = {
    entry.name: entry
    for entry in (
        Entry("tiny_resnet", Grid(2, 3)),
        Entry("resnet12", Grid(4, 6)),
        Entry("squeezenet", Grid(3, 4)),
        *(Entry(network) for network in GRAPHS if network != "tiny_resnet"),
        *(Entry(network, _KERNELS) for network in ("vgg11", "resnet12", "squeezenet")),
        *(Entry(network, _FINE) for network in ("vgg11", "resnet12", *_LARGE)),
        *(Entry(network, Grid(32, 32)) for network in ("vgg11", "resnet12")),
    )
}
"""By name; `benchmarks/instances/bounds.csv` holds the best objective and bound known of each."""


def instance(
    network: str, grid: Grid | None = None, seed: int = 0, shares: Shares | None = None
) -> Problem:
    """A problem over one of `GRAPHS`; `grid` and `shares` default to `Grid()` and `SHARES`.

    Raises:
        ConfigError: an unknown network.
    """
    if network not in GRAPHS:
        raise ConfigError(f"unknown network {network!r}, expected one of {', '.join(GRAPHS)}")
    return _Tables(GRAPHS[network](), grid or Grid(), seed).problem(shares or SHARES[network])


class _Tables:
    """A graph's tables in the making."""

    def __init__(self, graph: Graph, grid: Grid, seed: int) -> None:
        self.graph, self.grid = graph, grid
        self.segments = {s for parts in graph.concats.values() for s in parts}
        self.levels = self._levels()
        self.latency = [np.zeros(len(levels)) for levels in self.levels]
        self.flash = [np.zeros(len(levels)) for levels in self.levels]
        self.convs = [op for op in graph.ops if op.kind == "conv"]
        self.scores = random_scores(graph, self.convs, np.random.default_rng([seed, 1]))
        self.bytes = {n: self._bytes(n) for n in {t.buffer for t in graph.tensors.values()}}

    def problem(self, shares: Shares) -> Problem:
        """Everything together; budgets are shares of the dense network's totals."""
        loss, highest, order = self._group_loss()
        layers = tuple(self._layer(op, order) for op in self.convs)
        for op in self.graph.ops:
            if op.kind != "conv":
                self._add_group_terms(op)
        groups = tuple(
            Group(f"g{n}", levels, self.latency[n], self.flash[n], loss[n], unit_loss=highest[n])
            for n, levels in enumerate(self.levels)
        )
        used = {kernel for layer in layers for kernel in layer.kernels}
        problem = Problem(
            name=f"{self.graph.name}_{self.grid.name}",
            groups=groups,
            layers=layers,
            steps=self._steps(),
            budgets=Budgets(),
            fixed_latency=FIXED_LATENCY,
            fixed_flash=FIXED_FLASH,
            fixed_sram=FIXED_SRAM,
            kernel_code={kernel: CODE[kernel] for kernel in sorted(used)},
            concats=tuple(Concat(g, parts) for g, parts in self.graph.concats.items()),
        )
        return with_budgets(problem, shares)

    # --- choices -------------------------------------------------------------------------------

    def _levels(self) -> list[Ints]:
        levels: list[Ints] = []
        for group, channels in enumerate(self.graph.groups):
            if group in self.graph.concats:
                sums = {0}
                for segment in self.graph.concats[group]:
                    sums = {total + int(c) for total in sums for c in levels[segment]}
                levels.append(np.array(sorted(sums, reverse=True), dtype=np.int64))
            elif group in self.graph.fixed:
                levels.append(np.array([channels], dtype=np.int64))
            else:
                levels.append(self._channel_levels(group, channels))
        return levels

    def _channel_levels(self, group: int, channels: int) -> Ints:
        least = max(SMALLEST * channels, 1.0)
        if group in self.segments:
            step = VECTOR_BYTES
        elif self.grid.fine:
            step = 4 if channels >= 128 else 2
        else:
            step = VECTOR_BYTES // 2 if channels <= 64 else VECTOR_BYTES
        counts = np.arange(channels, 0, -step)
        usable = counts[counts >= least]
        if len(usable) > self.grid.channels:
            at = np.linspace(0, len(usable) - 1, self.grid.channels)
            usable = usable[np.round(at).astype(np.int64)]
        return usable.astype(np.int64)

    def _options(self, op: Op) -> tuple[tuple[str, ...], Floats]:
        """Kernel ids and kept shares; every share after the first is FWCS."""
        if self._is_first(op):
            return ("conv_im2col",), np.ones(1)
        positions = op.kernel**2
        least = max(KEPT_LEAST, 1.0 / positions)
        shares = np.linspace(1.0, least, self.grid.filterlets) if positions > 1 else np.ones(1)
        families = ["conv_dense", *["conv_fwcs"] * (len(shares) - 1)]
        kernels, kept = list(families), [shares]
        if self.grid.specialised:
            for stride in SPECIAL_STRIDES:
                kernels += [f"{family}_c{stride}" for family in families]
                kept.append(shares)
        return tuple(kernels), np.concatenate(kept)

    def _is_first(self, op: Op) -> bool:
        return op.inputs[0] == "image"

    def _side(self, tensor: str) -> int:
        """The group that a reader of the tensor sees."""
        return self.graph.tensors[tensor].group

    # --- tables --------------------------------------------------------------------------------

    def _layer(self, op: Op, order: list[Ints]) -> Layer:
        kernels, shares = self._options(op)
        source, target = self._side(op.inputs[0]), self._side(op.output)
        inputs, outputs = self.levels[source], self.levels[target]
        positions = op.kernel**2
        counts = np.maximum(np.round(outputs[:, None] * positions * shares), outputs[:, None])
        kept = counts.astype(np.int64)
        family = len(shares) if not self.grid.specialised else -(-len(shares) // 3)
        new = np.ones(kept.shape, dtype=np.bool_)
        new[:, 1:] = np.diff(kept, axis=1) != 0
        new[:, ::family] = True  # each kernel starts with its dense option
        out = self.graph.tensors[op.output]
        pixels = out.height * out.width
        shape = (len(inputs), len(outputs), len(kernels))
        latency, flash, scratch = np.zeros(shape), np.zeros(shape), np.zeros(shape)
        allowed = np.broadcast_to(new, shape).copy()
        for k, kernel in enumerate(kernels):
            for i, c_in in enumerate(inputs.tolist()):
                stride = rounded_up(c_in)
                if "_c" in kernel and not kernel.endswith(f"_c{stride}"):
                    allowed[i, :, k] = False
                latency[i, :, k] = conv_cycles(kernel, pixels, c_in, outputs, kept[:, k], positions)
                scratch[i, :, k] = conv_scratch(kernel, out.width, positions, stride, kept[:, k])
                flash[i, :, k] = conv_flash(kernel, positions, c_in, outputs, kept[:, k])
        loss, highest = self._conv_loss(op, outputs, kept, order[target])
        return Layer(
            name=op.name,
            input_group=source,
            output_group=target,
            kernels=kernels,
            filterlets=kept,
            latency=latency,
            flash=flash,
            loss=np.broadcast_to(loss, shape).copy(),
            scratch=scratch,
            allowed=allowed,
            unit_loss=np.broadcast_to(highest, shape).copy(),
        )

    def _conv_loss(self, op: Op, outputs: Ints, kept: Ints, order: Ints) -> tuple[Floats, Floats]:
        """[nj, nk] nats of the filterlets removed from filters that stay: all, and the highest."""
        loss, highest = np.zeros(kept.shape), np.zeros(kept.shape)
        for j, count in enumerate(outputs.tolist()):
            scores = self.scores[op.name][order[:count]]
            # one filterlet per filter always stays; the others go from the lowest on
            others = np.sort(np.sort(scores, axis=1)[:, :-1].ravel())
            gone = others.size - (kept[j] - count)
            loss[j] = np.append(0.0, np.cumsum(others))[gone]
            highest[j] = np.append(0.0, others)[gone]
        return loss, highest

    def _group_loss(self) -> tuple[list[Floats], list[Floats], list[Ints]]:
        """Per group: [n] nats of the channels removed, all and the highest; best channels first."""
        totals = [np.zeros(channels) for channels in self.graph.groups]
        for op in self.convs:
            totals[self._side(op.output)] += self.scores[op.name].sum(axis=1)
        order = [np.argsort(-scores, kind="stable") for scores in totals]
        loss, highest = [], []
        for scores, ranking, levels in zip(totals, order, self.levels, strict=True):
            rising, gone = scores[ranking][::-1], len(scores) - levels
            loss.append(np.append(0.0, np.cumsum(rising))[gone])
            highest.append(np.append(0.0, rising)[gone])
        for group in self.graph.concats:  # its segments pay
            loss[group] = highest[group] = np.zeros(len(self.levels[group]))
        return loss, highest, order

    def _add_group_terms(self, op: Op) -> None:
        group = self._side(op.inputs[0])
        levels = self.levels[group].astype(np.float64)
        source, out = self.graph.tensors[op.inputs[0]], self.graph.tensors[op.output]
        self.latency[group] += op_cycles(op, source, out, levels)
        if op.kind == "depthwise":
            self.flash[group] += levels * (op.kernel**2 + 9)
        elif op.kind == "fully_connected":
            window = source.height * source.width
            self.flash[group] += out.channels * (window * levels + PARAMETER_BYTES)

    # --- memory --------------------------------------------------------------------------------

    def _bytes(self, name: str) -> Floats:
        """[n] bytes of a buffer at each level; a row's right halo is the next one's left."""
        tensor = self.graph.tensors[name]
        held = {t.name for t in self.graph.tensors.values() if t.buffer == name} | {name}
        readers = [op for op in self.graph.ops if held.intersection(op.inputs)]
        halo = max(
            (op.kernel // 2 for op in readers if op.kind in ("conv", "depthwise")), default=0
        )
        multiple = 1 if name == "image" else VECTOR_BYTES
        pixels = (tensor.height + 2 * halo) * (tensor.width + halo) + halo
        return np.asarray(pixels * rounded_up(self.levels[tensor.group], multiple), np.float64)

    def _steps(self) -> tuple[MemoryStep, ...]:
        """Per operator the buffers that are live while it runs."""
        buffer_of = {t.name: t.buffer for t in self.graph.tensors.values()}
        born, dies = {"image": 0}, {}
        for time, op in enumerate(self.graph.ops):
            born.setdefault(buffer_of[op.output], time)
            for tensor in (*op.inputs, op.output):
                dies[buffer_of[tensor]] = time
        layer = {op.name: n for n, op in enumerate(self.convs)}
        steps = []
        for time, op in enumerate(self.graph.ops):
            fixed, groups = 0.0, dict[int, Floats]()
            for name in (name for name in born if born[name] <= time <= dies[name]):
                group = self.graph.tensors[name].group
                if group in self.graph.fixed:
                    fixed += float(self.bytes[name][0])
                else:
                    groups[group] = groups.get(group, 0.0) + self.bytes[name]
            steps.append(MemoryStep(op.name, fixed, groups, layer.get(op.name)))
        return tuple(steps)


def with_budgets(problem: Problem, shares: Shares) -> Problem:
    """The same problem under other budgets."""
    dense = evaluate(problem, [0] * len(problem.groups), [0] * len(problem.layers))
    budgets = Budgets(
        flash=None if shares.flash is None else float(np.floor(shares.flash * dense.flash)),
        sram=None if shares.sram is None else float(np.floor(shares.sram * dense.sram)),
        loss=shares.loss,
    )
    return replace(problem, budgets=budgets)


@click.command(help="Write instances of the public set as .dtmm files.")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--only", multiple=True, help="Names of instances. [default: all]")
def main(folder: Path, only: tuple[str, ...]) -> None:
    """Command line."""
    for name in only or LIBRARY:
        if name not in LIBRARY:
            raise click.ClickException(f"unknown instance {name!r}, expected one of {[*LIBRARY]}")
        click.echo(artifact.save(LIBRARY[name].problem(), folder / f"{name}.dtmm"))


if __name__ == "__main__":
    main()
