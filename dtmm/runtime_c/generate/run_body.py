"""The inner loops of the run kernels: which load and which other work hides behind which MAC.

A run is one to three filterlets of a filter at neighbouring columns of a kernel row. It loads every
pixel once for all its filterlets, since the filterlet one column further needs the same pixel for
the neighbouring output. Per vector of 16 channels and for eight output pixels side by side

    run of   vector loads              MACs    bound in cycles: a load and a MAC issue beside each
    1        1 weight  +  8 pixels      8      18     other and take their pipes for two, and one
    2        2 weights +  9 pixels     16      32     vector instruction issues per cycle
    3        3 weights + 10 pixels     24      48

so from two filterlets on everything hides behind the MACs, and 5 or 11 issue slots of every vector
stay free. They take the scalar work of the run and, in a filter's first run, the requantization of
the filter before it (27 instructions). The accumulators of that filter are read just before the
first MACs overwrite them: those do not accumulate, so there is nothing to clear either.

Vectors alternate between walking the pixels from left to right and from right to left: every
address is the one before plus a constant, which the loads add for nothing (`[r1, #64]!`), so one
register per row of pixels reaches all, whatever their distance. The weight needed first is in q0,
and its successor may be loaded as soon as the walk has left its last pixel.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dtmm.runtime_c import RUN_REACH

VECTOR = 16
ACCUMULATORS = ("r0", "r2", "r4", "r6", "r8", "r10", "r12", "lr")
"""Even registers, as vmladava wants; one per output pixel of the tile, row by row."""
ROWS = ("r1", "r9")
"""Pointers to the pixels of each row of the tile."""
PIXELS = ("q3", "q4", "q2")
"""Pixels take turns in the first two, or in all three where they are odd in number."""


@dataclass(frozen=True)
class Tile:
    """The eight output pixels of a tile: `rows` rows of `columns` neighbours."""

    rows: int
    columns: int


@dataclass(frozen=True)
class Mac:
    """One vmladava, by what it multiplies: names of vectors, told apart by where they come from."""

    accumulator: int
    weight: tuple[int, int]
    """(vector, filterlet)"""
    pixel: tuple[int, int, int]
    """(vector, row, column)"""


@dataclass(frozen=True)
class Run:
    """A run of `length` filterlets of `stride` bytes each over a tile.

    step: the convolution's horizontal stride. With 2, a run of three shares every other pixel,
    which is enough: 3 + 17 loads and 24 MACs; a run of two would share none.
    """

    tile: Tile
    stride: int
    length: int
    step: int

    @property
    def vectors(self) -> int:
        """Vectors of a filterlet."""
        return self.stride // VECTOR

    @property
    def bound(self) -> int:
        """Cycles that it takes at least: see the table above."""
        pixels = self.tile.rows * len(self._walk(0))
        return self.vectors * 2 * max(8 * self.length, self.length + pixels)

    @property
    def weights_ahead(self) -> int:
        """Bytes that r3 is moved at the start of the run, so that immediates reach all weights."""
        farthest = (self.length - 1) * self.stride + VECTOR * (self.vectors - 1)
        return 0 if farthest <= RUN_REACH else self.stride

    def macs(self, first: int, last: int) -> list[Mac]:
        """The MACs of the vectors first..last - 1, pixel by pixel."""
        found = []
        for vector in range(first, last):
            for row in range(self.tile.rows):
                for column in self._walk(vector):
                    for n in self._filterlets(vector):
                        output = self._output(column, n)
                        if output is not None:
                            accumulator = row * self.tile.columns + output
                            found.append(Mac(accumulator, (vector, n), (vector, row, column)))
        return found

    def _output(self, column: int, filterlet: int) -> int | None:
        """The column of the tile for which a filterlet multiplies an input column, if any."""
        output, rest = divmod(column - filterlet, self.step)
        return output if rest == 0 and 0 <= output < self.tile.columns else None

    def _walk(self, vector: int) -> Sequence[int]:
        columns = range((self.tile.columns - 1) * self.step + self.length)
        used = [
            c for c in columns if any(self._output(c, n) is not None for n in range(self.length))
        ]
        return used if vector % 2 == 0 else used[::-1]

    def _filterlets(self, vector: int) -> Sequence[int]:
        return range(self.length) if vector % 2 == 0 else range(self.length)[::-1]

    def weight_register(self, vector: int, filterlet: int) -> str:
        """q0 for what a walk needs first; filterlets alone alternate, to be loaded ahead."""
        if self.length == 1:
            return f"q{vector % 2}"
        return f"q{filterlet if vector % 2 == 0 else self.length - 1 - filterlet}"

    def pixel_register(self, vector: int, row: int, column: int) -> str:
        """See PIXELS."""
        each = len(self._walk(vector))
        number = (vector * self.tile.rows + row) * each + list(self._walk(vector)).index(column)
        odd = each * self.tile.rows % 2 == 1
        pool = PIXELS if self.length == 1 or (self.length == 2 and odd) else PIXELS[:2]
        return pool[number % len(pool)]

    def weight_load(self, vector: int, filterlet: int) -> str:
        """Loads a vector of weights; r3 as described at `weights_ahead`."""
        register = self.weight_register(vector, filterlet)
        if self.length == 1:
            return f"vldrw.u32 {register}, [r3], #{VECTOR}"
        ahead = self.weights_ahead
        if ahead and (vector, filterlet) == (0, 0):
            return f"vldrw.u32 {register}, [r3], #{ahead}"
        return f"vldrw.u32 {register}, [r3, #{filterlet * self.stride + VECTOR * vector - ahead}]"

    def pixel_load(self, vector: int, row: int, column: int) -> str:
        """Loads a pixel and moves its row's pointer there."""
        walk = list(self._walk(vector))
        at = walk.index(column)
        step = (column - walk[at - 1]) * self.stride if at else min(vector, 1) * VECTOR
        register = self.pixel_register(vector, row, column)
        address = f"[{ROWS[row]}, #{step}]!" if step else f"[{ROWS[row]}]"
        return f"vldrw.u32 {register}, {address}"

    @property
    def leave(self) -> str:
        """Moves r3 past the run's weights."""
        rest = self.length * self.stride - self.weights_ahead
        return f"add r3, r3, #{rest}"

    def products(self, first: int, last: int, clear: bool = False) -> Iterator[str]:
        """The MACs of the vectors first..last - 1 and each load just before it is needed.

        At their start the first pixel of the first vector is in its register, and beyond vector 0
        its first weights are too; where vectors follow, they end with theirs loaded.

        clear: whether the first MAC into each accumulator clears it.
        """
        macs = self.macs(first, last)
        loaded: set[tuple[int, ...]] = {macs[0].pixel}
        if first:
            loaded.add(macs[0].weight)
        touched: set[int] = set()
        for mac in macs:
            yield from self._loads(mac, loaded)
            name = "vmladav" if clear and mac.accumulator not in touched else "vmladava"
            touched.add(mac.accumulator)
            weight, pixel = self.weight_register(*mac.weight), self.pixel_register(*mac.pixel)
            yield f"{name}.s8 {ACCUMULATORS[mac.accumulator]}, {weight}, {pixel}"
        if last < self.vectors:
            yield from self._loads(self.macs(last, last + 1)[0], loaded)

    def _loads(self, mac: Mac, loaded: set[tuple[int, ...]]) -> Iterator[str]:
        if mac.weight not in loaded:
            yield self.weight_load(*mac.weight)
        if mac.pixel not in loaded:
            yield self.pixel_load(*mac.pixel)
        loaded |= {mac.weight, mac.pixel}
