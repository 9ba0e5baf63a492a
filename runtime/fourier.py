"""The linear part of a model that is diagonal in Fourier space: its exponential and phi functions.

phi_0(z) = e^z and phi_k(z) = (phi_(k-1)(z) - 1/(k-1)!)/z, with phi_k(0) = 1/k!. States without such a part
have L = 0, and phi_k(0) v = v/k!.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from ndl.runtime.grids import by_modes
from ndl.runtime.info import FourierInfo, State
from torch import Tensor

TERMS = 24
"""Of the series of phi_k, which serves up to |z| = 1."""


def phi(order: int, z: Tensor) -> Tensor:
    """phi_order(z), elementwise, for complex z."""
    near = z.abs() < 1
    small = torch.where(near, z, torch.zeros_like(z))
    large = torch.where(near, torch.ones_like(z), z)
    series = torch.zeros_like(z)
    for j in reversed(range(TERMS)):
        series = series * small + 1 / math.factorial(j + order)
    found = torch.exp(torch.where(near, torch.zeros_like(z), z))
    for k in range(order):
        found = (found - 1 / math.factorial(k)) / large
    return torch.where(near, series, found)


@dataclass(frozen=True)
class Part:
    """One state's modes and what multiplies them; `symbol` is worked out when it is asked for."""

    state: State
    axes: tuple[int, ...]
    symbol: Callable[[], Tensor]

    def multiplied(self, field: Tensor, factor: Tensor) -> Tensor:
        """A stored field `[..., *shape]` with its modes times a factor."""
        s = self.state
        found = by_modes(s.value(field), [a - len(s.seen) for a in self.axes], factor)
        return s.parts(found)


class FourierPart:
    """L of a model, or of one of its terms."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = tuple(parts)
        self._symbols: dict[int, Tensor] = {}
        self._known: dict[tuple[int, int, float], Tensor] = {}

    def _symbol(self, k: int) -> Tensor:
        """Of part k; kept while nothing is differentiated."""
        if torch.is_grad_enabled():
            return self.parts[k].symbol()
        if k not in self._symbols:
            self._symbols[k] = self.parts[k].symbol()
        return self._symbols[k]

    def _phi(self, k: int, order: int, h: Tensor) -> Tensor:
        z = self._symbol(k)
        one = float(h.reshape(-1)[0])
        if torch.is_grad_enabled() or bool((h != one).any()):
            size = h.reshape(*h.shape, *(1,) * len(self.parts[k].axes)) if h.ndim else h
            return phi(order, z.to(torch.complex128) * size)
        key = (k, order, one)
        if key not in self._known:
            if len(self._known) > 64:
                self._known.clear()
            self._known[key] = phi(order, z.to(torch.complex128) * one)
        return self._known[key]

    def phi(self, order: int, h: Tensor, v: Tensor) -> Tensor:
        """phi_order(h L) v, for v `[..., n]` and h `[...]`."""
        rest = v if order < 2 else v / math.factorial(order)
        return self._each(v, rest, lambda k: self._phi(k, order, h))

    def apply(self, v: Tensor) -> Tensor:
        """L v."""
        return self._each(v, torch.zeros_like(v), self._symbol)

    def _each(self, v: Tensor, rest: Tensor, factor: Callable[[int], Tensor]) -> Tensor:
        pieces, at = [], 0
        for k, part in enumerate(self.parts):
            s = part.state
            pieces.append(rest[..., at : s.offset])
            field = v[..., s.places].reshape(*v.shape[:-1], *s.shape)
            pieces.append(part.multiplied(field, factor(k)).flatten(-len(s.shape)))
            at = s.offset + s.size
        return torch.cat([*pieces, rest[..., at:]], -1)


def fourier_part(model: object, infos: Sequence[FourierInfo], states: Sequence[State]) -> FourierPart | None:
    """L of a model from its static description; None where it has no such part."""
    if not infos:
        return None
    by_name = {s.name: s for s in states}
    made = [Part(by_name[i.state], i.axes, getattr(model, i.method)) for i in infos]
    return FourierPart(sorted(made, key=lambda p: p.state.offset))
