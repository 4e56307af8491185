"""Totals of a whole decision at once by array look-up: for searches that change everything."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dtmm.scheduler.problem import Metric, Problem

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class FlatTables:
    """All tables of a problem laid end to end; `totals` is `evaluate` on index arrays."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        groups, layers = problem.groups, problem.layers
        self.group_start = np.cumsum([0, *(len(g.levels) for g in groups)])[:-1]
        shapes = np.array([x.latency.shape for x in layers], dtype=np.int64).reshape(-1, 3)
        self.strides = np.stack([shapes[:, 1] * shapes[:, 2], shapes[:, 2]], axis=1)
        self.layer_start = np.cumsum([0, *shapes.prod(axis=1)])[:-1]
        self.inputs = np.array([x.input_group for x in layers], dtype=np.int64)
        self.outputs = np.array([x.output_group for x in layers], dtype=np.int64)
        self.group_tables = np.stack(
            [np.concatenate([getattr(g, m) for g in groups]) for m in ("latency", "flash", "loss")]
        )
        self.layer_tables = np.stack([
            np.concatenate([getattr(x, m).ravel() for x in layers] or [np.zeros(0)])
            for m in ("latency", "flash", "loss", "scratch")
        ])  # fmt: skip
        self._flatten_steps()
        self._number_kernels()

    def _flatten_steps(self) -> None:
        steps = self.problem.steps
        live = [(t, g, size) for t, step in enumerate(steps) for g, size in step.groups.items()]
        self.live_step = np.array([t for t, _, _ in live], dtype=np.int64)
        self.live_group = np.array([g for _, g, _ in live], dtype=np.int64)
        self.live_start = np.cumsum([0, *(len(size) for _, _, size in live)])[:-1]
        self.live_bytes = np.concatenate([np.zeros(0), *(size for _, _, size in live)])
        fixed = self.problem.fixed_sram
        self.step_fixed = np.array([fixed + step.fixed for step in steps])
        own = [(t, step.layer) for t, step in enumerate(steps) if step.layer is not None]
        self.own_step = np.array([t for t, _ in own], dtype=np.int64)
        self.own_layer = np.array([n for _, n in own], dtype=np.int64)

    def _number_kernels(self) -> None:
        code = self.problem.kernel_code or {}
        names = sorted(name for name, size in code.items() if size)
        number = {name: n for n, name in enumerate(names)}
        self.code = np.array([*(code[name] for name in names), 0.0])
        options = [[number.get(v, len(names)) for v in x.kernels] for x in self.problem.layers]
        self.kernel_start = np.cumsum([0, *(len(row) for row in options)])[:-1]
        self.kernel_of = np.array([v for row in options for v in row], dtype=np.int64)

    def totals(self, levels: Ints, options: Ints) -> dict[Metric, float]:
        """Totals by metric; the same numbers as `evaluate` up to rounding."""
        at = self.entries(levels, options)
        rows = self.layer_tables[:, at]
        sums = self.group_tables[:, self.group_start + levels].sum(axis=1) + rows[:3].sum(axis=1)
        used = np.zeros(len(self.code), dtype=np.bool_)
        used[self.kernel_of[self.kernel_start + options]] = True
        sizes = self.step_sizes(levels, rows[3])
        return {
            "latency": self.problem.fixed_latency + float(sums[0]),
            "flash": self.problem.fixed_flash + float(sums[1] + self.code[used].sum()),
            "loss": self.problem.fixed_loss + float(sums[2]),
            "sram": float(sizes.max()) if len(sizes) else self.problem.fixed_sram,
        }

    def entries(self, levels: Ints, options: Ints) -> Ints:
        """Where each layer's present entry lies in `layer_tables`."""
        across = (
            self.strides[:, 0] * levels[self.inputs] + self.strides[:, 1] * levels[self.outputs]
        )
        return np.asarray(self.layer_start + across + options)

    def step_sizes(self, levels: Ints, scratch: Floats) -> Floats:
        """Bytes in use at each step, given each layer's scratch."""
        sizes = self.step_fixed.copy()
        live = self.live_bytes[self.live_start + levels[self.live_group]]
        sizes += np.bincount(self.live_step, weights=live, minlength=len(sizes))
        sizes[self.own_step] += scratch[self.own_layer]
        return sizes
