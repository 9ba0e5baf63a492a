"""Sparse Jacobians of field problems, and linear systems with them: direct, conjugate gradients, multigrid.

A Jacobian is assembled from derivatives along a few vectors: points far enough apart on the grid do not
meet in any residual, so one vector serves all of them (Curtis, Powell and Reid 1974, J. Inst. Math. Appl.
13, 117–119).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from ndl.runtime.errors import SettingError
from ndl.runtime.info import GridInfo
from torch import Tensor

Function = Callable[[Tensor], Tensor]
EVERYWHERE = -1
COARSEST = 9
"""Points along an axis below which multigrid solves directly."""

BATCH = 64
"""Vectors of which the derivatives along them are taken at once."""

CYCLES = 100
"""V-cycles or hundreds of steps of conjugate gradients allowed for one system."""


def library() -> Any:
    """scipy.sparse. Raises `SettingError` where it is not installed."""
    try:
        import scipy.sparse
        import scipy.sparse.linalg
    except ImportError:
        raise SettingError(
            "sparse systems need SciPy, which is not installed",
            help="install it with `pip install ndl-lang[sparse]`",
        ) from None
    return scipy.sparse


def periods(grid: GridInfo) -> list[int]:
    """For each axis the distance from which points share a vector."""
    found = []
    for (kind, n, _, _), reach in zip(grid.layouts, grid.reach):
        least = 2 * reach + 1
        if reach == EVERYWHERE or least >= n:
            found.append(n)
        elif kind == "ring":  # around a ring the distance must divide the number of points
            found.append(next(p for p in range(least, n + 1) if n % p == 0))
        else:
            found.append(least)
    return found


def jacobian(F: Function, x: Tensor, grid: GridInfo, sizes: list[int]) -> Any:
    """dF/dx at x `[n]` as a compressed matrix, for F of `[..., n]`; `sizes` are the components of each
    field, one after another."""
    sparse = library()
    shape = [layout[1] for layout in grid.layouts]
    points, total = int(np.prod(shape)), int(np.prod(shape)) * sum(sizes)
    place = np.arange(points).reshape(shape)
    steps = periods(grid)
    offsets = np.concatenate([[0], np.cumsum([points * c for c in sizes])])
    # the rows of all fields at each point
    every = np.concatenate(
        [start + np.arange(points)[:, None] * c + np.arange(c) for start, c in zip(offsets, sizes)], axis=1
    )
    owners, seeds = [], []
    for start in itertools.product(*(range(p) for p in steps)):
        chosen = place[tuple(slice(s, None, p) for s, p in zip(start, steps))]
        owner = _owners(chosen, shape, grid, start, steps)
        for k, c in enumerate(sizes):
            for j in range(c):
                seed = torch.zeros(total, dtype=x.dtype)
                seed[torch.from_numpy((offsets[k] + chosen * c + j).reshape(-1))] = 1.0
                seeds.append(seed)
                owners.append(offsets[k] + owner * c + j)
    rows, columns, values = [], [], []
    for first in range(0, len(seeds), BATCH):
        batch = torch.stack(seeds[first : first + BATCH]).to(x.device)
        slopes = torch.func.jvp(F, (x.repeat(len(batch), 1),), (batch,))[1].detach().cpu().numpy()
        for slope, owner in zip(slopes, owners[first:]):
            found = slope[every]
            at, row = np.nonzero(found)
            rows.append(every[at, row])
            columns.append(owner[at])
            values.append(found[at, row])
    entries = (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns)))
    return sparse.csr_matrix(entries, shape=(total, total))


def _owners(
    chosen: np.ndarray, shape: list[int], grid: GridInfo, start: tuple[int, ...], steps: list[int]
) -> np.ndarray:
    """For each point of the grid the chosen one that it may read: the nearest along every axis."""
    nearest = []
    for (kind, _, _, _), n, first, p, count in zip(grid.layouts, shape, start, steps, chosen.shape):
        k = np.floor_divide(np.arange(n) - first + p // 2, p)
        nearest.append(k % count if kind == "ring" else np.clip(k, 0, count - 1))
    found: np.ndarray = chosen[np.ix_(*nearest)].reshape(-1)
    return found


# ---------------------------------------------------------------- systems

Solve = Callable[[np.ndarray], np.ndarray]


def direct(A: Any) -> Solve:
    """By factors of a sparse matrix."""
    try:
        factors = library().linalg.splu(A.tocsc())
    except RuntimeError:  # singular: no solution, which the iteration says in the model's words
        return lambda b: np.full_like(b, np.nan)
    return lambda b: np.asarray(factors.solve(b))


def conjugate_gradients(A: Any, tol: float) -> Solve:
    """Conjugate gradients with the diagonal as preconditioner, for symmetric systems up to their sign; others
    by GMRES."""
    linalg = library().linalg
    d = A.diagonal()
    sign = -1.0 if d.sum() < 0 else 1.0
    symmetric = abs(A - A.T).max() <= 1e-10 * abs(A).max()
    near = library().diags(sign / np.where(d == 0, 1.0, d) * np.where(d == 0, 0.0, 1.0))
    run = linalg.cg if symmetric else linalg.gmres

    def solve(b: np.ndarray) -> np.ndarray:
        x, trouble = run(sign * A, sign * b, rtol=tol, atol=0.0, M=near, maxiter=100 * CYCLES)
        return np.asarray(x if not trouble else np.full_like(b, np.nan))

    return solve


class Multigrid:
    """V-cycles over grids of half as many intervals, with Galerkin's coarse systems and symmetric
    Gauss–Seidel smoothing: Trottenberg, Oosterlee and Schüller, Multigrid (2001), chapter 2. It
    preconditions GMRES, so that systems with other conditions than values converge as well."""

    def __init__(self, A: Any, grid: GridInfo, components: int, tol: float) -> None:
        sparse, self.tol = library(), tol
        self.A, self.levels = A, []
        layouts = [(kind, n) for kind, n, _, _ in grid.layouts]
        while max(n for _, n in layouts) > COARSEST:
            P, layouts = _interpolation(sparse, layouts)
            P = sparse.kron(P, sparse.identity(components)).tocsr()
            lower = sparse.tril(A).tocsr()
            self.levels.append((A, P, lower, sparse.triu(A).tocsr()))
            A = (P.T @ A @ P).tocsr()
        self.coarsest = direct(A)

    def cycle(self, b: np.ndarray, level: int = 0) -> np.ndarray:
        if level == len(self.levels):
            return self.coarsest(b)
        A, P, lower, upper = self.levels[level]
        sweep = library().linalg.spsolve_triangular
        x = sweep(lower, b, lower=True)
        x = x + P @ self.cycle(P.T @ (b - A @ x), level + 1)
        found: np.ndarray = x + sweep(upper, b - A @ x, lower=False)
        return found

    def __call__(self, b: np.ndarray) -> np.ndarray:
        linalg, n = library().linalg, len(b)
        near = linalg.LinearOperator((n, n), matvec=self.cycle)
        x, trouble = linalg.gmres(self.A, b, rtol=self.tol, atol=0.0, M=near, maxiter=CYCLES)
        return np.asarray(x if not trouble else np.full_like(b, np.nan))


def _interpolation(sparse: Any, layouts: list[tuple[str, int]]) -> tuple[Any, list[tuple[str, int]]]:
    """Linear interpolation from every other point, and the coarse grid."""
    whole: Any = None
    coarse = []
    for kind, n in layouts:
        ring = kind == "ring" and n % 2 == 0
        if n <= COARSEST or (kind == "ring" and n % 2):
            one, m = sparse.identity(n), n
        else:
            m = n // 2 if ring else (n + 1) // 2
            one = sparse.lil_matrix((n, m))
            for j in range(n):
                one[j, j // 2 if j // 2 < m else m - 1] += 0.5 if j % 2 else 1.0
                if j % 2:
                    one[j, (j // 2 + 1) % m if ring else min(j // 2 + 1, m - 1)] += 0.5
        whole = one if whole is None else sparse.kron(whole, one)
        coarse.append((kind, m))
    if all(m == n for (_, m), (_, n) in zip(coarse, layouts)):
        raise SettingError("multigrid needs numbers of points that can be halved", help="use `direct()`")
    return whole.tocsr(), coarse


# ---------------------------------------------------------------- differentiable


class Inverse:
    """v -> J^-1 v for a Jacobian that is held; its derivative is that of this linear map."""

    def __init__(self, A: Any, make: Callable[[Any], Solve]) -> None:
        self.A, self.make = A, make
        self.forward = make(A)
        self._backward: Solve | None = None

    def transposed(self, b: np.ndarray) -> np.ndarray:
        if self._backward is None:
            self._backward = self.make(self.A.T.tocsr())
        return self._backward(b)

    def __call__(self, v: Tensor) -> Tensor:
        found: Tensor = _Solved.apply(v, self)  # type: ignore[no-untyped-call]
        return found


class _Solved(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, v: Tensor, inverse: Inverse) -> Tensor:
        ctx.inverse = inverse
        return v.new_tensor(inverse.forward(v.detach().cpu().double().numpy()))

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return g.new_tensor(ctx.inverse.transposed(g.detach().cpu().double().numpy())), None
