"""Continuous output over a step, as scalar code."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from ndl.compiler.kernels.code import Code
from ndl.compiler.kernels.ir import Value


class Dense(ABC):
    """Continuous output over a step. Its values depend on `targets` alone, and on nothing else smoothly."""

    targets: list[Value]

    @abstractmethod
    def at(self, theta: Value) -> list[Value]:
        """The state at a fraction of the step, in the open block; forwards, what is noted after it."""


class Hermite(Dense):
    """The cubic through the values and slopes at both ends, third order inside the step.

    x(theta) = (1 - 3 theta^2 + 2 theta^3) x0 + (3 theta^2 - 2 theta^3) x1
             + theta (1 - theta)^2 h f0 - theta^2 (1 - theta) h f1
    """

    def __init__(self, code: Code, x0: Sequence[Value], x1: Sequence[Value], hf0: Sequence[Value],
                 hf1: Sequence[Value]) -> None:  # fmt: skip
        self.code = code
        self.x0, self.x1, self.hf0, self.hf1 = x0, x1, hf0, hf1
        self.targets = [*x1, *x0, *hf0, *hf1]

    def at(self, theta: Value) -> list[Value]:
        code = self.code
        rest, square = code.op("sub", 1.0, theta), code.op("mul", theta, theta)
        start = code.op("mul", theta, code.op("mul", rest, rest))
        end = code.op("neg", code.op("mul", square, rest))
        last = code.op("mul", square, code.op("fma", theta, -2.0, 3.0))
        first = code.op("sub", 1.0, last)
        out = []
        for a, b, f, g in zip(self.x0, self.x1, self.hf0, self.hf1):
            value = code.op("fma", last, b, code.op("mul", first, a))
            out.append(code.op("fma", end, g, code.op("fma", start, f, value)))
        return out


class Polynomial(Dense):
    """x0 + sum b_i(theta) h k_i, with the coefficients of theta, theta^2, … of each b_i."""

    def __init__(self, code: Code, x0: Sequence[Value], slopes: Sequence[Sequence[Value]],
                 rows: Sequence[Sequence[float]]) -> None:  # fmt: skip
        self.code, self.x0, self.slopes, self.rows = code, x0, slopes, rows
        self.targets = [*x0, *(v for k in slopes for v in k)]

    def at(self, theta: Value) -> list[Value]:
        code, out = self.code, list(self.x0)
        for row, k in zip(self.rows, self.slopes):
            if any(row):
                weight = horner(code, theta, row)
                out = [code.op("fma", weight, v, o) for v, o in zip(k, out)]
        return out


def horner(code: Code, theta: Value, row: Sequence[float]) -> Value:
    """row[0] theta + row[1] theta^2 + …"""
    found = code.const(0.0)
    for c in reversed(row):
        found = code.op("fma", found, theta, c)
    return code.op("mul", found, theta)
