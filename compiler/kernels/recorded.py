"""What the history of delayed states has of an accepted step besides its time and size, and values of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from ndl.compiler.kernels.code import Code
from ndl.compiler.kernels.ir import Value
from ndl.compiler.kernels.outputs import Dense, Hermite, Polynomial


class Record(ABC):
    """The numbers of a step: `common` ones of all components, which have no derivative, and those of each
    component. `width(p)` counts those of component p, the common ones with p = None."""

    def __init__(self, code: Code) -> None:
        self.code = code

    @abstractmethod
    def width(self, p: int | None) -> int:
        """How many numbers there are."""

    def common(self, dense: Dense) -> list[Value]:
        """Those of all components."""
        return []

    def inside(self, common: Sequence[Value], theta: Value, time: Value) -> list[Value]:
        """What all components want of a time in the step, at the fraction theta."""
        return []

    @abstractmethod
    def of(self, dense: Dense, p: int) -> list[Value]:
        """Those of component p."""

    @abstractmethod
    def value(self, p: int, numbers: Sequence[Value], inside: Sequence[Value], theta: Value) -> Value:
        """Component p at a fraction of the step, from its numbers and what `inside` gave."""


class Cubic(Record):
    """Of a cubic: values and slopes at both ends."""

    def width(self, p: int | None) -> int:
        return 0 if p is None else 4

    def of(self, dense: Dense, p: int) -> list[Value]:
        assert isinstance(dense, Hermite)
        return [dense.x0[p], dense.x1[p], dense.hf0[p], dense.hf1[p]]

    def value(self, p: int, numbers: Sequence[Value], inside: Sequence[Value], theta: Value) -> Value:
        x0, x1, hf0, hf1 = ([v] for v in numbers)
        return Hermite(self.code, x0, x1, hf0, hf1).at(theta)[0]


class Slopes(Record):
    """Of a polynomial of the step's slopes, which has a row for each."""

    def __init__(self, code: Code, rows: Sequence[Sequence[float]]) -> None:
        super().__init__(code)
        self.rows = rows

    def width(self, p: int | None) -> int:
        return 0 if p is None else 1 + len(self.rows)

    def of(self, dense: Dense, p: int) -> list[Value]:
        assert isinstance(dense, Polynomial)
        return [dense.x0[p], *(k[p] for k in dense.slopes[: len(self.rows)])]

    def value(self, p: int, numbers: Sequence[Value], inside: Sequence[Value], theta: Value) -> Value:
        x0, *slopes = numbers
        return Polynomial(self.code, [x0], [[k] for k in slopes], self.rows).at(theta)[0]
