"""Types of NDL values: dimensions as integer polynomials, tensors, fields, maps, units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property

Monomial = tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Dim:
    """An integer polynomial over dimension names, such as `2*d + 1`.

    `terms` maps monomials (sorted (name, power) pairs) to coefficients, sorted. A quotient that
    does not divide is an opaque name, such as `(n//2)`.
    """

    terms: tuple[tuple[Monomial, int], ...] = ()

    @staticmethod
    def of(value: int | str | Dim) -> Dim:
        if isinstance(value, Dim):
            return value
        if isinstance(value, int):
            return Dim((((), value),) if value else ())
        return Dim(((((value, 1),), 1),))

    @staticmethod
    def _sum(terms: Mapping[Monomial, int]) -> Dim:
        return Dim(tuple(sorted((m, c) for m, c in terms.items() if c)))

    def __add__(self, other: int | Dim) -> Dim:
        total = dict(self.terms)
        for m, c in Dim.of(other).terms:
            total[m] = total.get(m, 0) + c
        return Dim._sum(total)

    def __mul__(self, other: int | Dim) -> Dim:
        total: dict[Monomial, int] = {}
        for m, c in self.terms:
            for n, d in Dim.of(other).terms:
                powers: dict[str, int] = dict(m)
                for name, p in n:
                    powers[name] = powers.get(name, 0) + p
                key = tuple(sorted(powers.items()))
                total[key] = total.get(key, 0) + c * d
        return Dim._sum(total)

    def __sub__(self, other: int | Dim) -> Dim:
        return self + Dim.of(other) * -1

    def __floordiv__(self, other: int | Dim) -> Dim:
        divisor = Dim.of(other)
        if self.constant is not None and divisor.constant:
            return Dim.of(self.constant // divisor.constant)
        if divisor.constant and all(c % divisor.constant == 0 for _, c in self.terms):
            return Dim(tuple((m, c // divisor.constant) for m, c in self.terms))
        return Dim.of(f"({self}//{divisor})")

    @cached_property
    def constant(self) -> int | None:
        """The value when no name is left, else None."""
        if not self.terms:
            return 0
        if len(self.terms) == 1 and self.terms[0][0] == ():
            return self.terms[0][1]
        return None

    @cached_property
    def names(self) -> frozenset[str]:
        return frozenset(name for m, _ in self.terms for name, _ in m)

    def substitute(self, values: Mapping[str, Dim]) -> Dim:
        if not self.names & values.keys():
            return self
        total = Dim()
        for m, c in self.terms:
            factor = Dim.of(c)
            for name, p in m:
                for _ in range(p):
                    factor = factor * values.get(name, Dim.of(name))
            total = total + factor
        return total

    def __str__(self) -> str:
        if self.constant is not None:
            return str(self.constant)
        parts = []
        for m, c in sorted(self.terms, key=lambda t: (-sum(p for _, p in t[0]), t[0])):
            names = "*".join(n if p == 1 else f"{n}^{p}" for n, p in m)
            parts.append(str(c) if not m else names if c == 1 else f"{c}*{names}")
        return " + ".join(parts).replace("+ -", "- ")

    __repr__ = __str__


Units = tuple[tuple[str, Fraction], ...]


def unit_product(a: Units, b: Units, power: int | Fraction = 1) -> Units:
    """a * b^power."""
    total = dict(a)
    for name, p in b:
        total[name] = total.get(name, Fraction(0)) + p * power
    return tuple(sorted((n, p) for n, p in total.items() if p))


def unit_text(unit: Units) -> str:
    """`m/s^2` for a unit, `1` for none."""
    up = [n if p == 1 else f"{n}^{p}" for n, p in unit if p > 0]
    down = [n if p == -1 else f"{n}^{-p}" for n, p in unit if p < 0]
    return "*".join(up or ["1"]) + "".join(f"/{d}" for d in down)


@dataclass(frozen=True)
class Type:
    """Base of all types."""


@dataclass(frozen=True)
class Tensor(Type):
    """`R[2, n]`, with `on` the domain of a field (`Omega`, `time`) and an optional unit.

    `kind` is one of `R`, `C`, `Z`, `Bool`. `shape` is that of one sample at one point.
    """

    kind: str = "R"
    shape: tuple[Dim, ...] = ()
    on: str | None = None
    unit: Units | None = None

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def extents(self) -> tuple[int, ...]:
        """The shape as integers; only for types without free dimensions."""
        found = []
        for d in self.shape:
            if d.constant is None:
                raise ValueError(f"dimension {d} is not bound")
            found.append(d.constant)
        return tuple(found)

    def with_shape(self, shape: tuple[Dim, ...]) -> Tensor:
        return replace(self, shape=shape)

    def substitute(self, values: Mapping[str, Dim]) -> Tensor:
        return replace(self, shape=tuple(d.substitute(values) for d in self.shape))

    def __str__(self) -> str:
        dims = f"[{', '.join(map(str, self.shape))}]" if self.shape else ""
        unit = f"{{{unit_text(self.unit)}}}" if self.unit is not None else ""
        return f"{self.kind}{dims}{unit}" + (f" on {self.on}" if self.on else "")


def tensor(*shape: int | str | Dim, kind: str = "R", on: str | None = None) -> Tensor:
    """Shorthand: `tensor(2, "n")` is `R[2, n]`."""
    return Tensor(kind, tuple(Dim.of(d) for d in shape), on)


@dataclass(frozen=True)
class Tuple(Type):
    items: tuple[Type, ...]

    def __str__(self) -> str:
        return f"({', '.join(map(str, self.items))})"


@dataclass(frozen=True)
class Map(Type):
    params: tuple[Type, ...]
    result: Type

    def __str__(self) -> str:
        left = ", ".join(map(str, self.params))
        return f"{left if len(self.params) == 1 else f'({left})'} -> {self.result}"


SCALAR = Tensor()
BOOL = Tensor("Bool")
INTEGER = Tensor("Z")
