"""Linear constraints 0 = C x - g(t) and their multipliers p, x' = f(x, t) + B p, in a model's vector field.

Multipliers solve S p = b with S = C B, the same all through a run. On rings S is a convolution, known by
what it makes of one point, and undone by a Fourier transform; else it is a sparse matrix with sparse
factors, or a small dense one. Where S is singular the solution is the shortest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from copy import copy
from typing import Any

import numpy as np
import torch
from ndl.runtime.adjoint import differentiable
from ndl.runtime.colouring import colouring, components, is_sparse, library
from ndl.runtime.errors import SettingError
from ndl.runtime.linear_maps import Factors, solved
from ndl.runtime.members import is_family
from ndl.runtime.model import Model
from ndl.runtime.problem import Problem
from ndl.runtime.second_order import again
from torch import Tensor

Solve = Callable[[Tensor], Tensor]

SHIFT = 1e-9
"""Added to S, relative to its largest entry, so that a singular one has factors; refinement takes it away."""

REFINEMENTS = 3
FELT = 1e-12
"""How far S may change with a number, relative to both, when it does not depend on it."""

DENSE = 1500
"""Multipliers for which a dense matrix is made where there is no other way."""


class Constraint:
    """The constraint of a prepared problem; all functions take x `[..., B, n]` and t `[..., B]`."""

    def __init__(self, problem: Problem) -> None:
        self.problem, self.model = problem, problem.model
        mass = problem.mass()
        self.kept = mass
        self.places = torch.nonzero(mass == 0).reshape(-1)
        self.rows: Tensor | None = None
        x = problem.x0.detach() * mass
        # members that differ in their state alone have one S
        x = x if is_family(problem.model) else x[:1]
        self.zero = torch.zeros_like(x)
        self.start = x.new_full((len(x),), problem.t0)
        with torch.no_grad():
            self.moves = self._moves()
            self.matrices: Matrices | None = None
            self._check(x)
            self.inverse: Solve = self._solver()
            self.rest = self.field(self.start, self.zero)
            """Rates and residual of the state 0, at the start."""
            one = self.zero.new_ones(len(x), len(self.places))
            self.level = bool(
                self.schur(one).abs().max() <= 1e-9 * self.schur(self._random(one.shape, 6)).abs().max()
            )
            """Whether a multiplier has no level of its own: a constant is not felt."""
        self.felt = problem.taped and self._felt()
        """Whether S depends on what wants a gradient: else one correction has all derivatives."""

    def of(self, rows: Tensor | None) -> Constraint:
        """That of the members `rows [m]` (None: all), for functions of x `[..., m, n]`."""
        if rows is None or len(self.zero) == 1:
            return self
        made = copy(self)
        made.rows = rows
        return made

    # ------------------------------------------------------------ the model's parts

    def field(self, t: Tensor, x: Tensor, p: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Rates `[..., n]`, 0 in the places of multipliers, and the constraint's residual `[..., m]`."""
        return self.field_of(self.model, t, x, p)

    def field_of(self, model: Model, t: Tensor, x: Tensor, p: Tensor | None = None) -> tuple[Tensor, Tensor]:
        free = x * self.kept
        if p is not None:
            free = free.index_copy(-1, self.places, p)
        found = model.vector_field(t, free)
        return found * self.kept, found[..., self.places]

    def along(self, model: Model, k: Tensor) -> Tensor:
        """C k."""
        t = self.first(k)
        return self.field_of(model, t, k)[1] - self.field_of(model, t, torch.zeros_like(k))[1]

    def spread(self, model: Model, p: Tensor) -> Tensor:
        """B p."""
        zero = p.new_zeros(*p.shape[:-1], self.kept.shape[0])
        t = self.first(p)
        return self.field_of(model, t, zero, p)[0] - self.field_of(model, t, zero)[0]

    def first(self, like: Tensor) -> Tensor:
        """The start of the run, for each row of `[..., n]`."""
        return like.new_full(like.shape[:-1], self.problem.t0)

    def solve(self, b: Tensor) -> Tensor:
        """S^-1 b, `[..., B, m]`."""
        if self.rows is None:
            return self.inverse(b)
        count = len(self.zero)
        whole = b.new_zeros(*b.shape[:-2], count, b.shape[-1]).index_copy(-2, self.rows, b)
        return self.inverse(whole).index_select(-2, self.rows)

    def schur(self, p: Tensor) -> Tensor:
        """S p."""
        return self.along(self.model, self.spread(self.model, p))

    def change(self, model: Model, t: Tensor, like: Tensor) -> Tensor | float:
        """-g'(t), of the shape of residuals."""
        if not self.moves:
            return 0.0
        zero = torch.zeros_like(like)
        found: Tensor = torch.func.jvp(
            lambda s: self.field_of(model, s, zero)[1], (t,), (torch.ones_like(t),)
        )[1]
        return found

    # ------------------------------------------------------------ what is asked

    def projected(self, model: Model, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """The rates with which the constraint goes on to hold, and the multipliers."""
        with torch.no_grad():
            k, _ = self.field_of(model, t, x)
            p = -self.solve(self._along(model, k) + self.change(model, t, x))
        if not torch.is_grad_enabled():
            return k + self._spread(model, p), p
        k, _ = self.field_of(model, t, x, p)
        change = self.change(model, t, x)
        return self._corrected(model, k, p, lambda k: self.along(model, k) + change)

    def _corrected(self, model: Model, k: Tensor, p: Tensor, left: Solve) -> tuple[Tensor, Tensor]:
        """k, made with the numbers p and for which `left(k)` of the constraint is left, and p: nearly what
        they were, with the derivatives of the implicit function, S being held."""
        more = self.solve(left(k))
        if self.felt:
            more = again(lambda m: left(k - self.spread(model, m)), more, lambda r: -self.solve(r))
        return k - self.spread(model, more), p - more

    def freed(self, model: Model, t: Tensor, k: Tensor) -> Tensor:
        """Of rates k without multipliers, those that keep the constraint."""
        with torch.no_grad():
            p = -self.solve(self._along(model, k) + self.change(model, t, k))
        if not torch.is_grad_enabled():
            return k + self._spread(model, p)
        k = k + self.spread(model, p)
        change = self.change(model, t, k)
        return self._corrected(model, k, p, lambda k: self.along(model, k) + change)[0]

    def restored(self, model: Model, t: Tensor, x: Tensor) -> Tensor:
        """x + B q, so that the constraint holds."""
        with torch.no_grad():
            r = self.field_of(model, t, x)[1] if self.moves else self._along(model, x) + self._rest(1)
            q = -self.solve(r)
        if not torch.is_grad_enabled():
            return x + self._spread(model, q)
        x = x + self.spread(model, q)
        return self._corrected(model, x, q, lambda x: self.field_of(model, t, x)[1])[0]

    def _along(self, model: Model, k: Tensor) -> Tensor:
        """C k without derivatives."""
        if self.matrices is not None:
            return self.matrices.along(k, self.rows)
        return self.field_of(model, self.first(k), k)[1] - self._rest(1)

    def _spread(self, model: Model, p: Tensor) -> Tensor:
        """B p without derivatives."""
        if self.matrices is not None:
            return self.matrices.spread(p, self.rows)
        zero = p.new_zeros(*p.shape[:-1], self.kept.shape[0])
        return self.field_of(model, self.first(p), zero, p)[0] - self._rest(0)

    def _rest(self, part: int) -> Tensor:
        """Rates (0) or residual (1) of the state 0, of the members."""
        found = self.rest[part]
        return found if self.rows is None else found.index_select(0, self.rows)

    def _felt(self) -> bool:
        leaves, shape = differentiable(self.model), (len(self.zero), len(self.places))
        with torch.enable_grad():
            size = (self.schur(self._random(shape, 9)) * self._random(shape, 10)).sum()
            if not size.requires_grad:
                return False
            slopes = torch.autograd.grad(size, leaves, allow_unused=True)
        moved = [(g * x.detach()).abs().max() for g, x in zip(slopes, leaves) if g is not None and g.numel()]
        return any(bool(m > FELT * size.detach().abs()) for m in moved)

    # ------------------------------------------------------------ checks

    def _random(self, shape: Sequence[int], seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(self.zero)

    def _moves(self) -> bool:
        """Whether the constraint depends on time."""
        p = self.problem
        values = [
            self.field(self.start * 0 + p.t0 + s * (p.t1 - p.t0), self.zero)[1] for s in (0, 0.31, 0.77)
        ]
        return any(not torch.equal(values[0], v) for v in values[1:])

    def _check(self, x: Tensor) -> None:
        """Raises `SettingError` for what is not a linear constraint with multipliers that enter linearly."""
        b, m, name = len(x), len(self.places), self.problem.method.name
        states = ", ".join(f"`{s.name}`" for s in self.model.STATES if s.algebraic)
        if not m:
            raise SettingError(
                f"`{name}` is for equations with constraints `0 = …`, and `{self.model.NAME}` has none",
                help="use the method itself",
            )
        p, q = self._random((b, m), 1), self._random((b, m), 2)
        u, v = self._random(tuple(x.shape), 3) * self.kept, self._random(tuple(x.shape), 4) * self.kept
        t = self.start + 0.37 * (self.problem.t1 - self.problem.t0)
        tight = 1e4 * torch.finfo(x.dtype).eps

        def same(one: Tensor, two: Tensor, *sizes: Tensor) -> bool:
            size = max([float(s.abs().max()) for s in (one, two, *sizes)])
            return bool((one - two).abs().max() <= tight * size)

        none, zero = self.field(t, u)[1], self.field(t, self.zero)[1]
        if not same(self.field(t, u, p)[1], none):
            raise SettingError(
                f"`{name}` is for constraints that do not read their multipliers, and that of {states} does",
                help="use `rodas5` or `kvaerno5`, for equations of index 1",
            )
        both = self.field(t, 2 * u - 3 * v)[1] - zero
        if not same(both, 2 * (none - zero) - 3 * (self.field(t, v)[1] - zero), none):
            raise SettingError(
                f"`{name}` is for linear constraints, and the equation of {states} is not linear"
            )
        flat = self.spread(self.model, 2 * p - 3 * q)
        here = self.field(t, x, 2 * p - 3 * q)[0] - self.field(t, x)[0]
        if not (
            same(flat, 2 * self.spread(self.model, p) - 3 * self.spread(self.model, q))
            and same(flat, here, self.field(t, x)[0])
        ):
            raise SettingError(
                f"`{name}` is for multipliers that enter the rates linearly, with coefficients that do not "
                f"change, unlike {states}"
            )

    # ------------------------------------------------------------ S^-1

    def _solver(self) -> Solve:
        model = self.model
        rings = len(model.GRIDS) == 1 and all(kind == "ring" for kind, _, _, _ in model.GRIDS[0].layouts)
        if rings and len(self.places) == math.prod(n for _, n, _, _ in model.GRIDS[0].layouts):
            found = self._by_modes([n for _, n, _, _ in model.GRIDS[0].layouts])
            if found is not None:
                return found
        if is_sparse(model.GRIDS, model.STATES, self.zero.device.type):
            return self._by_factors()
        if len(self.places) > DENSE:
            raise SettingError(
                f"`{self.problem.method.name}` has no sparse way to {len(self.places)} multipliers here",
                help="use `uniform(…)` along all axes, or `fourier(…)` along all, and install SciPy: "
                "`pip install ndl-lang[sparse]`",
            )
        return self._by_matrix()

    def _by_modes(self, shape: list[int]) -> Solve | None:
        """Where S is the same at every point of a torus; None where it is not."""
        axes = tuple(range(-len(shape), 0))
        point = self.zero.new_zeros(len(self.zero), len(self.places))
        point[:, 0] = 1.0

        def modes(v: Tensor) -> Tensor:
            wide: Tensor = torch.fft.rfftn(v.reshape(*v.shape[:-1], *shape), dim=axes)
            return wide

        symbol = modes(self.schur(point))
        size = symbol.abs()
        felt = size > 64 * torch.finfo(self.zero.dtype).eps * size.max()
        inverse = torch.where(felt, 1 / torch.where(felt, symbol, 1.0), 0.0)

        def solve(b: Tensor) -> Tensor:
            found: Tensor = torch.fft.irfftn(modes(b) * inverse, s=shape, dim=axes)
            return found.flatten(-len(shape))

        v = self.schur(self._random(tuple(point.shape), 5))
        gap = (self.schur(solve(v)) - v).abs().max()
        return solve if bool(gap <= 1e6 * torch.finfo(v.dtype).eps * v.abs().max()) else None

    def _by_factors(self) -> Solve:
        """S as a product of sparse matrices."""
        (grid,) = self.model.GRIDS
        colours = colouring(grid, components(grid, self.model.STATES))
        run = lambda y: self.model.vector_field(self.start.expand(y.shape[:-1]), y)  # noqa: E731
        matrices = colours.matrices(run, self.zero)
        own = self.places.cpu().numpy()
        M = library().diags(self.kept.cpu().double().numpy())
        C, B = [A[own] @ M for A in matrices], [(M @ A)[:, own] for A in matrices]
        made = [(c @ b).tocsr() for c, b in zip(C, B)]
        pairs = [(X, each[0]) for each in (C, B) for X in each[1:]]
        if all(abs(X - Y).max() <= 1e-12 * abs(Y).max() for X, Y in pairs):
            C, B, made = C[:1], B[:1], made[:1]
        self.matrices = Matrices(C, B)
        return _refined(made)

    def _by_matrix(self) -> Solve:
        members, n = self.zero.shape
        unit = torch.eye(n, dtype=self.zero.dtype, device=self.zero.device)[:, None].expand(n, members, n)
        C = self.along(self.model, unit * self.kept).permute(1, 2, 0)
        B = self.spread(self.model, unit[..., self.places][self.places]).permute(1, 2, 0)
        inverse = torch.linalg.pinv(C @ B, rtol=1e3 * torch.finfo(C.dtype).eps)
        self.matrices = Matrices(list(C.cpu().double().numpy()), list(B.cpu().double().numpy()))
        return lambda b: (inverse @ b[..., None])[..., 0]


def product(matrices: list[Any], v: Tensor) -> Tensor:
    """A v for v `[..., B, n]`, of one matrix or one for each member."""
    rows = v.detach().cpu().double().numpy()
    flat = rows.reshape(-1, len(matrices), rows.shape[-1])
    found = np.stack([(A @ flat[:, k].T).T for k, A in enumerate(matrices)], 1)
    return v.new_tensor(found.reshape(*rows.shape[:-1], found.shape[-1]))


def chosen(matrices: list[Any], rows: Tensor | None) -> list[Any]:
    """Those of some members, or the one of all."""
    if rows is None or len(matrices) == 1:
        return matrices
    return [matrices[int(k)] for k in rows]


class Matrices:
    """C and B as matrices, one for all members or one for each."""

    def __init__(self, C: list[Any], B: list[Any]) -> None:
        self.C, self.B = C, B

    def along(self, k: Tensor, rows: Tensor | None) -> Tensor:
        return product(chosen(self.C, rows), k)

    def spread(self, p: Tensor, rows: Tensor | None) -> Tensor:
        return product(chosen(self.B, rows), p)


def _refined(matrices: list[Any]) -> Solve:
    """Solutions with factors of shifted matrices, refined with the matrices themselves."""
    sparse = library()
    shifted = []
    for S in matrices:
        top = abs(S).max()
        sign = -1.0 if S.diagonal().sum() < 0 else 1.0
        shifted.append(S + sign * SHIFT * top * sparse.identity(S.shape[0]))
    refined = Refined(matrices, Factors(shifted))
    return lambda b: solved(b, refined)


class Refined:
    """Solutions by nearby factors, refined with the matrices themselves."""

    def __init__(self, matrices: list[Any], near: Factors) -> None:
        self.matrices, self.turned, self.near = matrices, [S.T.tocsr() for S in matrices], near

    def solve(self, b: Tensor, transposed: bool = False) -> Tensor:
        x = self.near.solve(b, transposed)
        for _ in range(REFINEMENTS - 1):
            x = x + self.near.solve(b - product(self.turned if transposed else self.matrices, x), transposed)
        return x


def smoothed(field: Tensor, kinds: list[str]) -> Tensor:
    """A multiplier `[..., n1, n2, …]` read from the middles of cells, as it stands in the equations, at the
    points: without the waves from point to point that no equation sees. At ends of an axis the mean of two
    points belongs to the middle of a cell, and two of them are continued to the point."""
    if all(kind == "series" for kind in kinds):
        return field
    for axis, kind in zip(range(-len(kinds), 0), kinds):
        if kind == "series":
            continue
        v = field.movedim(axis, -1)
        if kind == "ring":
            v = (v.roll(1, -1) + 2 * v + v.roll(-1, -1)) / 4
        else:
            half = (v[..., 1:] + v[..., :-1]) / 2
            inner = (half[..., 1:] + half[..., :-1]) / 2
            low, high = (3 * half[..., :1] - half[..., 1:2]) / 2, (3 * half[..., -1:] - half[..., -2:-1]) / 2
            v = torch.cat([low, inner, high], -1)
        field = v.movedim(-1, axis)
    return field
