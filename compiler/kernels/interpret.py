"""The kernel interpreter: one trajectory at a time in NumPy scalars. Slow, obvious, the oracle of the
printers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from ndl.compiler.kernels.code import number_of
from ndl.compiler.kernels.ir import Block, Instr, Kernel, Value, extent_of
from ndl.compiler.kernels.ops import BITS, REAL, TABLE

Env = dict[Value, Any]


def scalar(number: Any, type: str, precision: str) -> Any:
    """A number as a NumPy scalar of a kernel type."""
    if type == "bool":
        return np.bool_(number)
    if type == "i32":
        return np.int32(number)
    return (REAL if type == "real" else BITS)[precision](number)


def run(kernel: Kernel, buffers: Mapping[str, Any], count: int, most: int = 10_000_000) -> None:
    """Run `count` trajectories; `buffers` are flat NumPy arrays by name, written in place.

    Raises `RuntimeError` when a trajectory is not done after `most` turns.
    """
    with np.errstate(all="ignore"):
        for m in range(count):
            _Trajectory(kernel, buffers, count, m).run(most)


class _Scratch(dict[int, Any]):
    """The scratch of a trajectory: what it has not written cannot be read."""


class _Trajectory:
    def __init__(self, kernel: Kernel, buffers: Mapping[str, Any], count: int, member: int) -> None:
        self.kernel, self.count, self.member = kernel, count, member
        scratch = {b.name: _Scratch() for b in kernel.buffers if b.kind == "scratch"}
        self.buffers = {**buffers, **scratch} if scratch else buffers
        self.env: Env = {}

    def run(self, most: int) -> None:
        k = self.kernel
        self.block(k.entry, ())
        carried = self.block(k.begin, ())
        for _ in range(most):
            *carried, done = self.block(k.step, carried)
            if done:
                self.block(k.finish, carried)
                return
        raise RuntimeError(f"trajectory {self.member} of `{k.name}` is not done after {most} turns")

    def block(self, block: Block, arguments: Any) -> list[Any]:
        self.env.update(zip(block.params, arguments, strict=True))
        for instr in block.body:
            self.instr(instr)
        return [self.env[v] for v in block.yields]

    def instr(self, instr: Instr) -> None:
        args = [self.env[a] for a in instr.args]
        if instr.op == "while":
            found = self.loop(instr, args)
        elif instr.op == "when":
            found = self.block(instr.regions[0], ()) if args[0] else args[1:]
        elif instr.op == "store":
            self.buffers[instr.attr("buffer")][self.place(instr, args[0])] = args[1]
            return
        elif instr.op in ARRAYS:
            found = ARRAYS[instr.op](self, instr, args)
        elif instr.op == "load":
            found = [self.buffers[instr.attr("buffer")][self.place(instr, args[0])]]
        else:
            found = [self.pure(instr, args)]
        self.env.update(zip(instr.results, found, strict=True))

    def loop(self, instr: Instr, carried: list[Any]) -> list[Any]:
        test, turn = instr.regions
        while self.block(test, carried)[0]:
            carried = self.block(turn, carried)
        return carried

    def place(self, instr: Instr, row: Any) -> int:
        if self.kernel.buffer(instr.attr("buffer")).kind in ("table", "scratch"):
            return int(row)
        return int(row) * self.count + self.member

    def pure(self, instr: Instr, args: list[Any]) -> Any:
        type, precision = instr.results[0].type, self.kernel.precision
        if instr.op == "const":
            return scalar(number_of(instr), type, precision)
        if instr.op == "member":
            return np.int32(self.member)
        return scalar(TABLE[instr.op].compute(*args), type, precision)

    # ------------------------------------------------------------ arrays

    def array(self, values: Any) -> Any:
        return np.asarray(values, dtype=REAL[self.kernel.precision])

    def matrix(self, instr: Instr) -> Any:
        """The part of a buffer that a product reads or adds to, as a view."""
        m = instr.attr("matrix")
        return self.buffers[m.buffer][m.at : m.at + m.rows * m.columns].reshape(m.rows, m.columns)

    def rows(self, instr: Instr, count: int) -> Any:
        at = instr.attr("at")
        return self.buffers[instr.attr("buffer")][at : at + count]

    def map(self, instr: Instr, args: list[Any]) -> list[Any]:
        count = extent_of(instr.results[0].type) or 0
        spread = [np.broadcast_to(a, count) for a in args]
        places = [self.block(instr.regions[0], [a[i] for a in spread]) for i in range(count)]
        return [self.array(column) for column in zip(*places)]

    def collect(self, instr: Instr, args: list[Any]) -> list[Any]:
        found = self.array(np.zeros(extent_of(instr.results[0].type) or 0))
        for part, seen in zip(args, instr.attr("views")):
            np.add.at(found, seen.places, part)
        return [found]

    def outer(self, instr: Instr, args: list[Any]) -> list[Any]:
        found = self.matrix(instr)
        found += np.outer(*args)
        return []

    def accumulate(self, instr: Instr, args: list[Any]) -> list[Any]:
        found = self.rows(instr, len(args[0]))
        found += args[0]
        return []

    def kept(self, instr: Instr, k: Any, count: int) -> Any:
        """The part of a step's kept reals where an array stands."""
        width = instr.attr("width")
        at = (int(k) * self.count + self.member) * width + instr.attr("at")
        return self.buffers[instr.attr("buffer")][at : at + count]

    def keep(self, instr: Instr, args: list[Any]) -> list[Any]:
        self.kept(instr, args[0], len(args[1]))[:] = args[1]
        return []


ARRAYS: dict[str, Callable[[_Trajectory, Instr, list[Any]], list[Any]]] = {
    "pack": lambda t, instr, args: [t.array(args)],
    "element": lambda t, instr, args: [args[0][instr.attr("at")]],
    "row": lambda t, instr, args: [t.array(t.rows(instr, extent_of(instr.results[0].type) or 0))],
    "total": lambda t, instr, args: [args[0].sum()],
    "dense": lambda t, instr, args: [t.matrix(instr) @ args[0]],
    "dense_t": lambda t, instr, args: [t.matrix(instr).T @ args[0]],
    "map": _Trajectory.map,
    "view": lambda t, instr, args: [args[0][instr.attr("view").places]],
    "collect": _Trajectory.collect,
    "outer": _Trajectory.outer,
    "accumulate": _Trajectory.accumulate,
    "keep": _Trajectory.keep,
    "recall": lambda t, instr, args: [
        t.array(t.kept(instr, args[0], extent_of(instr.results[0].type) or 0)).copy()
    ],
}
