"""Quadrature rules whose weights integrate over any part of their interval.

A rule interpolates its values at the nodes (piecewise linear, piecewise quadratic, one polynomial) and the
weights integrate the interpolant exactly, so that the same nodes serve `integral(…, s in 0..t)` for every t.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from ndl.runtime.errors import SettingError, did_you_mean
from ndl.runtime.problem import Floats


@dataclass(frozen=True)
class Rule:
    """A family of rules with its number; `on(lo, hi)` gives the rule of an interval."""

    name: str
    count: int

    def on(self, low: float, high: float) -> Quadrature:
        return FAMILIES[self.name][0](low, high, self.count)

    def __str__(self) -> str:
        return f"{self.name}({self.count})"


@dataclass(frozen=True)
class Quadrature:
    """`nodes [m]`, increasing, on low..high; `primitive(x [T])`: weights `[T, m]` from `low` to x."""

    low: float
    high: float
    nodes: Floats
    primitive: Callable[[Floats], Floats]

    def weights(self, a: Floats, b: Floats) -> Floats:
        """The integral from a to b, both `[T]`, as weights `[T, m]` of the values at the nodes."""
        return self.primitive(np.asarray(b)) - self.primitive(np.asarray(a))


def trapezoid(n: int = 200) -> Rule:
    """The trapezoidal rule with n intervals: error O(h^2)."""
    return _rule("trapezoid", n)


def simpson(n: int = 100) -> Rule:
    """Simpson's rule with n intervals, an even number: error O(h^4)."""
    return _rule("simpson", n)


def gauss(n: int = 32) -> Rule:
    """Gauss–Legendre with n nodes: exact for polynomials of degree 2n - 1 on the whole interval."""
    return _rule("gauss", n)


def read_rule(value: Any) -> Rule:
    """A rule from itself or from its text, `gauss(24)`. Raises `SettingError`."""
    if isinstance(value, Rule):
        return value
    found = re.fullmatch(r"\s*(\w+)\s*(?:\(\s*(\d+)\s*\))?\s*", str(value))
    if found is None or found[1] not in FAMILIES:
        raise SettingError(
            f"`{value}` is not a quadrature", help=did_you_mean(str(value), FAMILIES) or "write `gauss(24)`"
        )
    return _rule(found[1], int(found[2]) if found[2] else FAMILIES[found[1]][1])


def _rule(name: str, n: Any) -> Rule:
    least = 1 if name != "simpson" else 2
    if int(n) != n or n < least:
        raise SettingError(f"`{name}` needs a whole number of at least {least}, not {n}")
    if name == "simpson" and n % 2:
        raise SettingError(
            f"`simpson` needs an even number of intervals, not {n}", help=f"write `simpson({n + 1})`"
        )
    return Rule(name, int(n))


# ---------------------------------------------------------------- the families


def _trapezoid(low: float, high: float, n: int) -> Quadrature:
    nodes, h = np.linspace(low, high, n + 1), (high - low) / n

    def primitive(x: Floats) -> Floats:
        u = np.clip((x - low) / h, 0, n)
        cell = np.minimum(u.astype(np.int64), n - 1)
        share = (u - cell)[:, None]
        place = np.arange(n + 1)
        whole = h * ((place < cell[:, None]) * 0.5 + ((place > 0) & (place <= cell[:, None])) * 0.5)
        first, second = place == cell[:, None], place == cell[:, None] + 1
        return np.asarray(whole + h * (first * (share - share**2 / 2) + second * share**2 / 2))

    return Quadrature(low, high, nodes, primitive)


def _simpson(low: float, high: float, n: int) -> Quadrature:
    nodes, h = np.linspace(low, high, n + 1), (high - low) / n
    pairs = n // 2

    def local(u: Floats) -> list[Floats]:
        """Integrals from 0 to u in 0..2 of the quadratics that are 1 at 0, 1, 2 and 0 at the others."""
        return [(u**3 / 3 - 1.5 * u**2 + 2 * u) / 2, u**2 - u**3 / 3, (u**3 / 3 - u**2 / 2) / 2]

    def primitive(x: Floats) -> Floats:
        u = np.clip((x - low) / h, 0, n)
        pair = np.minimum((u / 2).astype(np.int64), pairs - 1)
        out = np.zeros((len(u), n + 1))
        full = local(np.array(2.0))
        for k in range(3):
            columns = np.arange(pairs) * 2 + k
            out[:, columns] += h * full[k] * (np.arange(pairs) < pair[:, None])
            np.add.at(out, (np.arange(len(u)), 2 * pair + k), h * local(u - 2 * pair)[k])
        return out

    return Quadrature(low, high, nodes, primitive)


def _gauss(low: float, high: float, n: int) -> Quadrature:
    points, weights = np.polynomial.legendre.leggauss(n)
    half = (high - low) / 2
    at_nodes = np.polynomial.legendre.legvander(points, n - 1)

    def primitive(x: Floats) -> Floats:
        """w_j/2 sum_k P_k(x_j) (P_{k+1}(x) - P_{k-1}(x)), with P_{-1} = -1."""
        u = np.clip((x - low) / half - 1, -1, 1)
        P = np.polynomial.legendre.legvander(u, n)
        before = np.concatenate([-np.ones((len(u), 1)), P[:, : n - 1]], 1)
        return np.asarray(half * 0.5 * ((P[:, 1:] - before) @ at_nodes.T) * weights)

    return Quadrature(low, high, low + half * (1 + points), primitive)


FAMILIES: dict[str, tuple[Callable[[float, float, int], Quadrature], int]] = {
    "trapezoid": (_trapezoid, 200),
    "simpson": (_simpson, 100),
    "gauss": (_gauss, 32),
}
"""Family -> its rule on an interval, the number that it takes by itself."""
