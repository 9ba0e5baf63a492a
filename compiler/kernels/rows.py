"""Rows of n components, and the saved values of a step with their cotangents."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from ndl.compiler.ir.model import ModelIR
from ndl.compiler.kernels.code import Code
from ndl.compiler.kernels.ir import Value
from ndl.compiler.kernels.outputs import Dense
from ndl.compiler.kernels.reverse import pullback


class Slots(Protocol):
    """Which saved times belong to a step, counted down from `slot`."""

    def more(self, slot: Value) -> Value: ...

    def theta(self, slot: Value) -> Value: ...


def state_names(model: ModelIR) -> list[str]:
    """A name for each scalar state."""
    return [f"{s.name}{f'.{i}' if s.size > 1 else ''}" for s in model.states for i in range(s.size)]


def title(model: ModelIR, method: str, what: str) -> str:
    """What a kernel does, with the equations that it solves."""
    return "\n".join([f"{model.name} by {method}, {what}", *(f"    {e}" for e in model.equations)])


def _row(code: Code, k: Value, n: int, i: int) -> Value:
    return code.op("add", code.op("mul", k, code.const(n, "i32")), code.const(i, "i32"))


def store_rows(code: Code, buffer: str, k: Value, values: Sequence[Value]) -> None:
    """Store values in the rows k n, k n + 1, …"""
    for i, v in enumerate(values):
        code.store(buffer, _row(code, k, len(values), i), v)


def load_rows(code: Code, buffer: str, k: Value, n: int) -> list[Value]:
    """The rows k n, k n + 1, … of a buffer."""
    return [code.load(buffer, _row(code, k, n, i)) for i in range(n)]


MARKS = ("marks", "places")
"""Before which steps a checkpoint is written, and where; the tables end with a step that never comes."""


def checkpoint(code: Code, k: Value, mark: Value, values: Sequence[Value]) -> Value:
    """Write a checkpoint of `values` where one is due before step k; the number of the next one."""
    due = code.op("eq", code.load("marks", mark), k)

    def write() -> list[Value]:
        store_rows(code, "states", code.load("places", mark), values)
        return [code.op("add", mark, code.const(1, "i32"))]

    return code.when(due, write, [mark])[0]


def gather(
    code: Code, dense: Dense, x1: Sequence[Value], slot: Value, slots: Slots, more: Sequence[Value] = ()
) -> tuple[Value, dict[Value, Value]]:
    """The cotangents that the saved times of a step give to what continuous output depends on, to x1, and to
    what else (`more`) the fractions of the step depend on."""
    n, targets = len(x1), list(dict.fromkeys([*x1, *dense.targets, *more]))

    def turn(carried: tuple[Value, ...]) -> list[Value]:
        slot, values = code.op("sub", carried[0], code.const(1, "i32")), carried[1:]
        theta, g = slots.theta(slot), load_rows(code, "grad_saved", slot, n)
        ended = code.op("ge", theta, 1.0)
        between = dense.at(theta)
        # the derivative of a choice between the step's end and its inside
        parts = [(e, code.op("select", ended, c, 0.0)) for e, c in zip(x1, g)]
        inside = seeded(code, [(v, code.op("select", ended, 0.0, c)) for v, c in zip(between, g)])
        pulled = pullback(code, code.visible(), inside, targets)
        more = seeded(code, [*zip(targets, pulled), *parts])
        return [slot, *(code.op("add", a, more[t]) for a, t in zip(values, targets))]

    start = [slot, *[code.const(0.0)] * len(targets)]
    found = code.loop(start, lambda c: slots.more(c[0]), turn)
    return found[0], dict(zip(targets, found[1:]))


def seeded(code: Code, pairs: Iterable[tuple[Value, Value]]) -> dict[Value, Value]:
    """Cotangents by value, those of one value added up."""
    found: dict[Value, Value] = {}
    for value, g in pairs:
        found[value] = code.op("add", found[value], g) if value in found else g
    return found


def gather_start(code: Code, slot: Value, gx: Sequence[Value]) -> list[Value]:
    """The cotangents of the saved times at the start."""

    def turn(carried: tuple[Value, ...]) -> list[Value]:
        before = code.op("sub", carried[0], code.const(1, "i32"))
        g = load_rows(code, "grad_saved", before, len(gx))
        return [before, *(code.op("add", a, b) for a, b in zip(carried[1:], g))]

    zero = code.const(0, "i32")
    return list(code.loop([slot, *gx], lambda c: code.op("gt", c[0], zero), turn)[1:])
