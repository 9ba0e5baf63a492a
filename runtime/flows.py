"""Flows of the parts of a right-hand side: by a step of a method, exactly when linear, or along held states.

A flow is called as a step solver calls it, `flow(x, t, h)`: where the part alone takes x from t in a time h.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np
import torch
from ndl.runtime.errors import SettingError
from ndl.runtime.fourier import FourierPart
from ndl.runtime.methods import VectorField
from ndl.runtime.stepping.stepper import Stepper
from torch import Tensor


class Flow(Protocol):
    def __call__(self, x: Tensor, t: Tensor, h: Tensor) -> Tensor: ...


class SteppedFlow:
    """`count` equal steps of a method of its own, each started afresh."""

    def __init__(self, f: VectorField, stepper: Stepper, count: int, taped: bool) -> None:
        self.f, self.stepper, self.count, self.taped = f, stepper, count, taped

    def __call__(self, x: Tensor, t: Tensor, h: Tensor) -> Tensor:
        size = (h / self.count).expand(x.shape[:-1])
        start = t.expand(x.shape[:-1])
        for k in range(self.count):
            at = start + k * size
            moment, step = at.detach().cpu().numpy(), size.detach().cpu().numpy()
            carry = self.stepper.begin(self.f, x, moment)
            if self.taped:
                x = self.stepper.attempt(self.f, x, at, size, carry, taped=True).x1
            else:
                x = self.stepper.attempt(self.f, x, moment, step, carry).x1
        return x


class ExactFlow:
    """exp(h L) of a part L x + b with constant coefficients: the exponential of [[L, b], [0, 0]], kept for
    each h. The matrix comes from the part itself: b = f(0), column j of L is f(e_j) - b."""

    def __init__(self, f: VectorField, t: Tensor, like: Tensor, taped: bool) -> None:
        self.f, self.t, self.like, self.taped = f, t, like, taped
        self.known: dict[float, Tensor] = {}
        self._matrix: Tensor | None = None

    def matrix(self) -> Tensor:
        """[[L, b], [0, 0]], `[..., n + 1, n + 1]`; with a tape it is made for each flow, so that a
        stretch can be repeated."""
        if self._matrix is not None:
            return self._matrix
        unit = torch.eye(self.like.shape[-1], dtype=self.like.dtype, device=self.like.device)
        zero = torch.zeros_like(self.like)
        b = self.f(zero, self.t)
        L = torch.stack([self.f(zero + e, self.t) - b for e in unit], -1)
        top = torch.cat([L, b[..., None]], -1)
        made = torch.cat([top, torch.zeros_like(top[..., :1, :])], -2)
        if not self.taped:
            self._matrix = made
        return made

    def __call__(self, x: Tensor, t: Tensor, h: Tensor) -> Tensor:
        one = torch.ones_like(x[..., :1])
        E = self._exponential(h)
        moved: Tensor = torch.einsum("...ij,...j->...i", E, torch.cat([x, one], -1))[..., :-1]
        return moved

    def _exponential(self, h: Tensor) -> Tensor:
        first = float(h.reshape(-1)[0])
        if self.taped or bool((h != first).any()):
            made: Tensor = exponential(self.matrix() * h[..., None, None])
            return made
        if first not in self.known:
            self.known[first] = exponential(self.matrix() * first)
        return self.known[first]


class FourierFlow:
    """exp(h L) of a part that is diagonal in Fourier space."""

    def __init__(self, part: FourierPart) -> None:
        self.part = part

    def __call__(self, x: Tensor, t: Tensor, h: Tensor) -> Tensor:
        return self.part.phi(0, h, x)


def exponential(M: Tensor) -> Tensor:
    """exp(M), `[..., n, n]`. For a single matrix torch takes a polynomial of too low a degree, with an error
    of 1e-10; two of them are done well."""
    found: Tensor = torch.linalg.matrix_exp(torch.stack([M, M]))[0]
    return found


class VisitedFlow:
    """A flow whose nets have weights of their own for each visit. `visits` counts those of the nets `names`
    in a step, for all flows of a splitting; `make` gives the flow of some visits."""

    def __init__(
        self, make: Callable[[Mapping[str, int]], Flow], names: tuple[str, ...], visits: dict[str, int]
    ) -> None:
        self.make, self.names, self.visits = make, names, visits
        self.known: dict[tuple[int, ...], Flow] = {}

    def __call__(self, x: Tensor, t: Tensor, h: Tensor) -> Tensor:
        now = tuple(self.visits.get(name, 0) for name in self.names)
        self.visits.update((name, k + 1) for name, k in zip(self.names, now))
        if now not in self.known:
            self.known[now] = self.make(dict(zip(self.names, now)))
        return self.known[now](x, t, h)


class HeldFlow:
    """Some components move while the others are held: x + h f on `mask [n]`. Exact when their rates do not
    depend on what moves. `inside` is the fraction of h at which time stands."""

    def __init__(self, f: VectorField, mask: Tensor, inside: float) -> None:
        self.f, self.mask, self.inside = f, mask, inside
        self.known: dict[float, Tensor] = {}

    def __call__(self, x: Tensor, t: Tensor, h: Tensor) -> Tensor:
        rate = self.f(x, t + self.inside * h if self.inside else t)
        if h.numel() > 1 or h.requires_grad:
            return torch.addcmul(x, h[..., None] * self.mask, rate)
        # fixed steps come with few different sizes
        size = float(h)
        if size not in self.known:
            self.known = {**dict(list(self.known.items())[-7:]), size: size * self.mask}
        return torch.addcmul(x, self.known[size], rate)


def check_linear(f: VectorField, name: str, x: Tensor, t0: float, t1: float) -> bool:
    """Whether f(x, t) = L x + b with constant L and b: tried at a few states and times, to rounding."""
    generator = torch.Generator().manual_seed(1)
    scale = 1 + x.abs().amax()
    for t in (t0, t0 + 0.37 * (t1 - t0), t1):
        for _ in range(2):
            u = torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x) * scale
            v = torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x) * scale
            start, now = x.new_tensor(t0), x.new_tensor(t)
            zero = f(torch.zeros_like(x), start)
            sum_ = f(2 * u - 3 * v, now) - zero
            parts = 2 * (f(u, start) - zero) - 3 * (f(v, start) - zero)
            size = parts.abs().amax() + sum_.abs().amax() + zero.abs().amax()
            if not bool((sum_ - parts).abs().amax() <= 1e3 * torch.finfo(x.dtype).eps * (size + 1e-300)):
                return False
    return True


def bipartition(depends: np.ndarray, names: Callable[[int], str], method: str) -> np.ndarray:
    """Components as positions (False) and momenta (True), so that no rate depends on its own group.

    `depends[i, j]` says that the rate of i depends on j. The first component of each connected group is a
    position. Raises `SettingError` when a component depends on itself or around an odd circle.
    """
    joined = depends | depends.T
    side = np.full(len(joined), -1)
    for first in range(len(joined)):
        if side[first] >= 0:
            continue
        side[first] = 0
        waiting = [first]
        while waiting:
            i = waiting.pop()
            for j in np.flatnonzero(joined[i]):
                if side[j] == side[i]:
                    raise SettingError(
                        f"`{method}` needs an equation that separates into positions and momenta, and the "
                        f"rate of `{names(i)}` depends on {'itself' if i == j else f'`{names(int(j))}`'}",
                        help="use `rk4` or `tsit5`, or name the parts in a splitting such as `strang`",
                    )
                if side[j] < 0:
                    side[j] = 1 - side[i]
                    waiting.append(int(j))
    return np.asarray(side == 1)
