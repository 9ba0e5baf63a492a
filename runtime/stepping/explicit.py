"""Explicit Runge–Kutta steps from a tableau, with few tensor operations a stage.

Without a tape, slopes times h live in one buffer `[s, b*n]`, and the argument of a stage is one
matrix–vector product with its leading rows. With a tape nothing is written in place.
"""

from __future__ import annotations

from functools import cache, cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from ndl.runtime.methods import Tableau, VectorField
from ndl.runtime.problem import Floats, Ints
from ndl.runtime.stepping.calling import ratio
from ndl.runtime.stepping.stepper import (
    Attempt,
    Carry,
    Stepper,
    Time,
    fraction,
    hermite,
    pick,
    stage_times,
    step_factor,
)
from torch import Tensor


def full(rows: tuple[tuple[float, ...], ...], width: int) -> np.ndarray:
    """Rows of different lengths, filled by zeros."""
    out = np.zeros((len(rows), width))
    for i, row in enumerate(rows):
        out[i, : len(row)] = row
    return out


class Numbers(NamedTuple):
    """An explicit tableau as arrays: `d` are the weights of the error, `main` the stages that the solution
    and the error need, `fsal` says that the last of them is the first of the next step."""

    c: np.ndarray
    A: np.ndarray
    b: np.ndarray
    d: np.ndarray
    dense: np.ndarray | None
    main: int
    fsal: bool


@cache
def numbers(tableau: Tableau) -> Numbers:
    """Nobody may write into them."""
    s = tableau.stages
    c, A, b = np.asarray(tableau.c, dtype=np.float64), full(tableau.A, s), full((tableau.b,), s)[0]
    d = np.zeros(s) if tableau.b_hat is None else b - full((tableau.b_hat,), s)[0]
    main = int(max(np.nonzero(b)[0].max(), np.nonzero(d)[0].max(initial=0))) + 1
    last = main - 1
    fsal = bool(main > 1 and b[last] == 0 and c[last] == 1 and np.array_equal(A[last], b))
    # a pair without FSAL whose next slope is needed anyway (Hermite) carries it over
    dense = None
    if tableau.dense is not None:
        dense = np.zeros((s, len(tableau.dense[0])))
        dense[: len(tableau.dense)] = tableau.dense
    return Numbers(c, A, b, d, dense, main, fsal)


class Buffer:
    """Storage for the slopes of one step, with the views that the stages use."""

    def __init__(self, stages: int, x: Tensor) -> None:
        self.K = x.new_empty(stages, *x.shape)
        flat = self.K.view(stages, -1)
        self.rows = self.K.unbind(0)
        self.flat = flat.unbind(0)
        self.heads = [flat[:i].t() for i in range(stages + 1)]


class ExplicitRK(Stepper):
    """An explicit tableau. Stages after the last that `b` or `b_hat` uses are left to `complete`."""

    joins = True
    revisits = True

    def __init__(self, tableau: Tableau, like: Tensor) -> None:
        n = numbers(tableau)
        self.c, self.A, self.b, self.d, self.dense = n.c, n.A, n.b, n.d, n.dense
        self.main, self.fsal = n.main, n.fsal
        self.adaptive = tableau.b_hat is not None
        self.order = tableau.order
        self.error_order = min(tableau.order, tableau.embedded or tableau.order)
        self.extrapolates = tableau.embedded is None or tableau.embedded < tableau.order
        self.total = tableau.stages if self.dense is not None else self.main
        self._like = like.new_empty(0)
        self._buffer: Buffer | None = None
        self.width = self.total + 1

    # tensors are for steps by torch: a kernel asks for numbers alone

    @cached_property
    def _vectors(self) -> list[Tensor]:
        return [self._like.new_tensor(row[:i]) for i, row in enumerate(self.A)]

    @cached_property
    def _b(self) -> Tensor:
        return self._like.new_tensor(self.b[: self.main])

    @cached_property
    def _d(self) -> Tensor:
        return self._like.new_tensor(self.d[: self.main])

    @cached_property
    def _sparse(self) -> list[list[tuple[int, float]]]:
        return [self._nonzero(row) for row in self.A]

    @staticmethod
    def _nonzero(row: np.ndarray) -> list[tuple[int, float]]:
        return [(int(j), float(row[j])) for j in np.nonzero(row)[0]]

    def know(self, carry: Carry, f0: Tensor, rows: np.ndarray) -> None:
        if "owed" in carry:
            carry["owed"] = np.where(rows, 0, carry["owed"])
        if carry["f0"] is not None and not rows.all():
            f0 = torch.where(torch.from_numpy(rows).to(f0.device)[:, None], f0, carry["f0"])
            rows = carry["fresh"] | rows
        carry["f0"], carry["fresh"] = f0, rows.copy()

    def attempt(
        self, f: VectorField, x: Tensor, t: Time, h: Time, carry: Carry, taped: bool = False
    ) -> Attempt:
        times = stage_times(t, h, self.c, x)
        fresh = carry["fresh"]
        cost = (self.main - 1) + (~fresh).astype(np.int64) + carry.owed()
        f0, known = carry["f0"], bool(fresh.all())
        if f0 is None:
            f0 = f(x, times[0])
        elif not known:
            missing = torch.from_numpy(~fresh).to(x.device)[:, None]
            f0 = torch.where(missing, f(x, times[0]), f0)
        carry["f0"], carry["fresh"] = f0, np.ones(len(fresh), dtype=bool)
        run = self._taped if taped else self._fast
        return run(f, x, times, step_factor(h, x), f0, cost)

    def _fast(self, f: VectorField, x: Tensor, times: Any, h: Any, f0: Tensor, cost: Ints) -> Attempt:
        buffer = self._buffer
        if buffer is None or buffer.rows[0].shape != x.shape:
            buffer = self._buffer = Buffer(self.main, x)
        shape, flat, rows = x.shape, x.reshape(-1), buffer.rows
        torch.mul(f0, h, out=rows[0])
        y, k = x, f0
        for i in range(1, self.main):
            sparse = self._sparse[i]
            if len(sparse) == 1:
                y = torch.add(x, rows[sparse[0][0]], alpha=sparse[0][1])
            else:
                y = torch.addmv(flat, buffer.heads[i], self._vectors[i]).view(shape)
            k = f(y, times[i])
            torch.mul(k, h, out=rows[i])
        if not self.fsal:
            y = torch.addmv(flat, buffer.heads[self.main], self._b).view(shape)
        error = torch.mv(buffer.heads[self.main], self._d).view(shape) if self.adaptive else None
        return self._made(x, y, k, error, cost, buffer.K, h)

    def _taped(self, f: VectorField, x: Tensor, times: Any, h: Any, f0: Tensor, cost: Ints) -> Attempt:
        slopes = [f0 * h]
        y, k = x, f0
        for i in range(1, self.main):
            y = combine(x, slopes, self._sparse[i], self._vectors[i])
            k = f(y, times[i])
            slopes.append(k * h)
        if not self.fsal:
            y = combine(x, slopes, self._nonzero(self.b), self._b)
        error = None
        if self.adaptive:
            error = combine(torch.zeros_like(x), slopes, self._nonzero(self.d), self._d)
        return self._made(x, y, k, error, cost, slopes, h)

    def _made(
        self, x: Tensor, y: Tensor, k: Tensor, error: Tensor | None, cost: Ints, slopes: Any, h: Any
    ) -> Attempt:
        b = x.shape[0]
        carry = Carry(f0=k if self.fsal else None, fresh=np.full(b, self.fsal))
        return Attempt(x, y, error, carry, cost, extra={"slopes": slopes, "h": h})

    def revisit(
        self, f: VectorField, x0: Tensor, x1: Tensor, t: Floats, h: Floats, ids: Ints
    ) -> Attempt | None:
        self._buffer = None
        again = self.attempt(f, x0, t, h, Carry(fresh=np.zeros(len(ids), dtype=bool), f0=None))
        again.x1 = x1
        self._buffer = None
        return again

    def complete(self, f: VectorField, step: Attempt, t: Time, h: Time) -> None:
        if step.stages is not None:
            return
        slopes = step.extra.pop("slopes")
        factor = step.extra["h"]
        K = list(slopes.clone().unbind(0)) if isinstance(slopes, Tensor) else list(slopes)
        times = None
        if self.total > self.main:
            times = stage_times(t, h, self.c, step.x0)
            for i in range(self.main, self.total):
                k = f(combine(step.x0, K, self._sparse[i], self._vectors[i]), times[i])
                K.append(k * factor)
        if self.dense is None and not self.fsal:
            f1 = f(step.x1, stage_times(t, h, np.ones(1), step.x0)[0])
            step.carry["f0"], step.carry["fresh"] = f1, np.ones(len(step.cost), dtype=bool)
            step.carry["owed"] = np.ones_like(step.cost)
            K.append(f1 * factor)
        step.stages = torch.stack(K)

    def interpolate(self, step: Attempt, rows: Ints | None, theta: Any) -> Tensor:
        K, x0 = step.stages, step.x0
        column = fraction(theta, x0)
        if self.dense is None:
            hf1 = K[self.main - 1] if self.fsal else K[-1]
            return hermite(pick(x0, rows), pick(step.x1, rows), pick(K[0], rows), pick(hf1, rows), column)
        powers = torch.cat([column ** (j + 1) for j in range(self.dense.shape[1])], dim=1)
        weights: Tensor = powers @ x0.new_tensor(self.dense.T)
        if x0.shape[0] == 1:
            value: Tensor = x0 + weights @ K[: self.total, 0]
            return value
        chosen = K[: self.total] if rows is None else K[: self.total, torch.from_numpy(rows).to(K.device)]
        moved: Tensor = (weights.t()[:, :, None] * chosen).sum(0)
        return pick(x0, rows) + moved

    def stiffness(self, step: Attempt, h: Time) -> Tensor:
        """||k_i - k_j|| / ||x_i - x_j|| for the last two stages at the same time (the last two if no two
        agree): Hairer, Wanner, "Solving Ordinary Differential Equations II", (IV.2.3)."""
        pairs = [
            (i, j) for i in range(self.main) for j in range(i) if self.c[i] == self.c[j] and self.A[i].any()
        ]
        i, j = pairs[-1] if pairs else (self.main - 1, max(self.main - 2, 0))
        K = step.stages
        weights = step.x0.new_tensor(self.A[i] - self.A[j])[: len(K)]
        gap = torch.tensordot(weights, K[: len(weights)], dims=1)
        size = h.abs() if isinstance(h, Tensor) else torch.from_numpy(np.abs(h)).to(K)
        return ratio(K[i] - K[j], size[:, None] * gap)


def combine(x: Tensor, slopes: list[Tensor], sparse: list[tuple[int, float]], vector: Tensor) -> Tensor:
    """x + sum_j a_j slopes_j, out of place: a chain of additions for few terms, else one product."""
    if len(sparse) <= 3:
        for j, a in sparse:
            x = torch.add(x, slopes[j], alpha=a)
        return x
    count = sparse[-1][0] + 1
    stacked = torch.stack(slopes[:count]).reshape(count, -1)
    return torch.addmv(x.reshape(-1), stacked.t(), vector[:count]).view(x.shape)
