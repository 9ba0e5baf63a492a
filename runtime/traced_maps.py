"""Functions of linear maps that a model writes as formulas: `exp(t*A) @ v`, `A^-1 @ v`, `A^s @ v` for an A
whose products with vectors are compiled.

What A depends on are the values that its formula captures; derivatives go to these, to v and to the power.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from ndl.runtime import map_functions
from ndl.runtime.colouring import installed, library
from ndl.runtime.errors import RunError
from ndl.runtime.map_functions import Kind
from ndl.runtime.matrix_free import Inverse, LinearOperator, Space
from ndl.runtime.meshes import mass_matrix
from ndl.runtime.second_order import inner_derivative
from ndl.runtime.weights import broadcast_shapes
from torch import Tensor

Image = Callable[..., Tensor]
"""(v `[..., *shape]`, what is captured) -> its image."""

COLUMNS = 4096
"""Numbers of a field up to which the sparse matrix of a map is made, of its columns."""

BLOCK = 256
"""Columns that are made at once."""

FULL = 0.25
"""The share of entries beyond which a large matrix is no sparse one."""

KEPT: dict[Any, tuple[Any, tuple[Tensor, ...], Traced]] = {}
"""The last map of each of the formulas used lately, with the formula's code and what it captured."""

LATELY = 16
"""How many formulas."""


@dataclass(frozen=True)
class Formula:
    """f(A) for one A of a program. `along` gives A v, `back` the plain transpose of it; `kind` is `exp`, `^`
    or `inverse`; `rank` that of a field with its components, `ranks` those of what is captured. `turned`:
    f(A) transposed as a matrix. `mesh` has the mass matrix of the space."""

    along: Image
    back: Image
    kind: str
    rank: int
    ranks: tuple[int, ...]
    mesh: str = ""
    turned: bool = False


class Traced(LinearOperator):
    """A map by compiled products."""

    def __init__(
        self, space: Space, formula: Formula, captured: Sequence[Tensor], turned: bool = False
    ) -> None:
        super().__init__(space)
        self.formula, self.captured, self.turned = formula, tuple(captured), turned

    def act(self, v: Tensor) -> Tensor:
        """A v, or of the adjoint W^-1 A^T W v."""
        space = self.space
        v = space.vector(space.values(v))
        if not self.turned:
            return space.vector(self.formula.along(space.values(v), *self.captured))
        found = space.vector(self.formula.back(space.values(space.dual(v)), *self.captured))
        return space.vector(space.values(space.primal(found)))

    def transposed(self) -> LinearOperator:
        made = Traced(self.space, self.formula, self.captured, not self.turned)
        if self.matrix is not None:
            made.__dict__["matrix"] = self.matrix.T.tocsr()
        return made

    def taped(self, captured: Sequence[Tensor]) -> Traced:
        """The same map of values with derivatives; what is known of it stays."""
        made = Traced(self.space, self.formula, captured, self.turned)
        for name in ("matrix", "symmetric", "sign"):
            if name in self.__dict__:
                made.__dict__[name] = self.__dict__[name]
        if "inverse" in self.__dict__:
            made.__dict__["inverse"] = Inverse(made)
            if "factors" in self.inverse.__dict__:
                made.inverse.__dict__["factors"] = self.inverse.factors
        return made

    def weak(self) -> Any:
        """By its columns."""
        n, free = self.space.n, self.space.free
        if n > COLUMNS or not installed():
            return None
        places, blocks = free.nonzero()[:, 0], []
        with torch.no_grad():
            for start in range(0, len(places), BLOCK):
                some = places[start : start + BLOCK]
                unit = torch.zeros(len(some), n, dtype=torch.float64)
                unit[torch.arange(len(some)), some] = 1.0
                dual = self.space.dual(self.act(unit))
                blocks.append(library().csr_matrix(dual[:, free].numpy()))
        found = library().vstack(blocks).T.tocsr() if blocks else None
        if found is None or (n > BLOCK and found.nnz > FULL * len(places) ** 2):
            return None
        return found


class Doubled(LinearOperator):
    """(a, b) -> (A a + E b, A b) for the derivative E of a map along tangents of what it captures: the
    exponential of it has that of A beside its derivative (Najfeld and Havel 1995, Adv. Appl. Math. 16)."""

    def __init__(self, A: Traced, dots: Sequence[Tensor]) -> None:
        space = A.space
        weights = None if space.weights is None else space.weights.repeat(2)
        mass = None if space.mass is None else library().block_diag([space.mass] * 2).tocsr()
        super().__init__(Space((2 * space.n,), weights, mass, space.free.repeat(2)))
        self.A, self.dots = A, tuple(dots)

    def act(self, v: Tensor) -> Tensor:
        a, b = v[..., : self.A.space.n], v[..., self.A.space.n :]
        return torch.cat([self.A.act(a) + self._moved(b), self.A.act(b)], -1)

    def _moved(self, v: Tensor) -> Tensor:
        found = _moved(self.A.formula, v, self.A.space.shape, self.A.captured, self.dots)
        return self.A.space.vector(self.A.space.values(found))

    def transposed(self) -> LinearOperator:
        raise NotImplementedError  # its exponential is taken without a tape, which alone asks for this


def operator(formula: Formula, weights: Tensor, free: Tensor, captured: Sequence[Tensor]) -> Traced:
    """The map for what its formula captures; the last one is kept with its factors."""
    plain = tuple(c.detach().to("cpu", torch.float64) for c in captured)
    held = _held(formula.along)
    key = tuple(map(id, held))
    known = KEPT.pop(key, None)
    if known is not None and all(a.shape == b.shape and torch.equal(a, b) for a, b in zip(known[1], plain)):
        KEPT[key] = known
        return known[2].taped(captured)
    mass = mass_matrix(formula.mesh, int(np.prod(weights.shape[1:]))) if formula.mesh else None
    shape = tuple(weights.shape)
    flat = None if mass is not None else weights.detach().to("cpu", torch.float64).reshape(-1)
    space = Space(shape, flat, mass, free.detach().cpu().reshape(-1) > 0.5)
    made = Traced(space, formula, plain)
    if formula.kind == "inverse":
        _ = made.inverse.factors
    _ = made.symmetric, made.matrix
    KEPT[key] = held, plain, made
    while len(KEPT) > LATELY:
        del KEPT[next(iter(KEPT))]
    return made.taped(captured)


def _held(image: Image) -> list[Any]:
    """What tells a local function from others: its code, and what it reads around it."""
    cells = getattr(image, "__closure__", None) or ()
    return [getattr(image, "__code__", image), *(c.cell_contents for c in cells)]


def valued(A: LinearOperator, kind: str, s: Tensor, v: Tensor) -> Tensor:
    """f(A) v."""
    if kind == "inverse":
        return A.inverse.act(v)
    return map_functions.apply(A, Kind(kind, s), v)


def leaf(x: Tensor, again: bool) -> Tensor:
    """A place where a derivative is taken; `again`: that has derivatives itself, by what x comes from."""
    if again and x.requires_grad:
        return x.view_as(x)
    return x.detach().requires_grad_(x.is_floating_point())


class _Function(torch.autograd.Function):
    """f(A) v of rows `v [m, n]`."""

    @staticmethod
    def forward(
        v: Tensor, s: Tensor, formula: Formula, weights: Tensor, free: Tensor, *captured: Tensor
    ) -> Tensor:
        with torch.no_grad():
            return _one(v, s, formula, weights, free, captured)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        v, s, formula, weights, free, *captured = inputs
        ctx.formula = formula
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(v, s, weights, free, *captured)
        ctx.save_for_forward(v, s, weights, free, output, *captured)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:  # type: ignore[override]
        v, s, weights, free, *captured = ctx.saved_tensors
        again = torch.is_grad_enabled()
        leaves = [leaf(x, again) for x in (v, s, *captured)]
        with torch.enable_grad():
            y = _one(leaves[0], leaves[1], ctx.formula, weights, free, leaves[2:])
            slopes = torch.autograd.grad(y, leaves, g, create_graph=again, allow_unused=True)
        return (slopes[0], slopes[1], None, None, None, *slopes[2:])

    @staticmethod
    def vmap(info: Any, in_dims: Any, v: Tensor, *rest: Any) -> tuple[Tensor, int]:
        """Rows are one batch already; several maps are one after the other."""
        where, *others = in_dims
        rows = v.movedim(where, 0) if where is not None else v.expand(info.batch_size, *v.shape)
        if all(d is None for d in others):
            found: Tensor = _Function.apply(rows.reshape(-1, v.shape[-1]), *rest)  # type: ignore[no-untyped-call]
            return found.reshape(rows.shape), 0
        return one_by_one(_Function, info, (0, *others), (rows, *rest)), 0

    @staticmethod
    def jvp(ctx: Any, dv: Any, ds: Any, *others: Any) -> Tensor:
        v, s, weights, free, y, *captured = ctx.saved_tensors
        same = (s, ctx.formula, weights, free, *captured)
        found: Tensor = torch.zeros_like(y)
        if dv is not None:
            found = _Function.apply(dv, *same)  # type: ignore[no-untyped-call]
        dots = others[3:]
        if ds is None and all(d is None for d in dots):
            return found
        kind, turned = ctx.formula.kind, ctx.formula.turned
        if turned or kind == "^":
            raise RunError(
                "the derivative of this power of a map along what the map depends on",
                code="NDL490",
                help="take a method that needs no Jacobian, such as `tsit5`",
            )
        whole = [torch.zeros_like(c) if d is None else d for c, d in zip(captured, dots)]
        if kind == "inverse":
            found = found - _Function.apply(_moved(ctx.formula, y, weights.shape, captured, whole), *same)  # type: ignore[no-untyped-call]
        else:
            found = found + _Slope.apply(v, *same, *whole)  # type: ignore[no-untyped-call]
        return found


def _moved(
    formula: Formula, y: Tensor, shape: Sequence[int], captured: Sequence[Tensor], dots: Sequence[Tensor]
) -> Tensor:
    """dA y of rows y, along tangents of what A captures."""

    def image(*captured: Tensor) -> Tensor:
        return formula.along(y.reshape(*y.shape[:-1], *shape), *captured).reshape(y.shape)

    whole = tuple(c.clone() for c in captured), tuple(d.clone() for d in dots)
    found: Tensor = torch.func.jvp(image, *whole)[1]
    return found


class _Slope(torch.autograd.Function):
    """The derivative of exp(A) v along tangents of what A captures."""

    @staticmethod
    def forward(
        v: Tensor, s: Tensor, formula: Formula, weights: Tensor, free: Tensor, *both: Tensor
    ) -> Tensor:
        captured, dots = both[: len(both) // 2], both[len(both) // 2 :]
        with torch.no_grad():
            A = operator(formula, weights, free, captured)
            start = A.space.vector(A.space.values(v))
            doubled = torch.cat([torch.zeros_like(start), start], -1)
            found: Tensor = map_functions.apply(Doubled(A, dots), Kind("exp"), doubled)
        return found[..., : A.space.n].clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        pass

    @staticmethod
    def vmap(info: Any, in_dims: Any, *given: Any) -> tuple[Tensor, int]:
        return one_by_one(_Slope, info, in_dims, given), 0


def one_by_one(function: Any, info: Any, in_dims: Any, given: Sequence[Any]) -> Tensor:
    """A function of tensors along a batch of some of them."""
    found = [
        function.apply(*(x if d is None else x.select(d, k) for d, x in zip(in_dims, given)))
        for k in range(info.batch_size)
    ]
    return torch.stack(found)


def _one(
    v: Tensor, s: Tensor, formula: Formula, weights: Tensor, free: Tensor, captured: Sequence[Tensor]
) -> Tensor:
    A: LinearOperator = operator(formula, weights, free, captured)
    space = A.space
    v = space.vector(space.values(v))
    if not formula.turned:
        return valued(A, formula.kind, s, v)
    # the plain transpose of f(A) is W f(A*) W^-1, A* the adjoint
    found = space.dual(valued(A.transposed(), formula.kind, s, space.primal(v)))
    return space.vector(space.values(found))


def map_function(
    formula: Formula, v: Tensor, s: Tensor, weights: Tensor, free: Tensor,
    captured: Sequence[Tensor] = (), extra: int = 0,
) -> Tensor:  # fmt: skip
    """f(A) v for `v [..., *shape, *extra axes]`; the power s, and what A captures, may have leading axes of
    members too. `weights` and `free` `[*shape]` are those of the space."""
    rank = formula.rank
    v = v.movedim(tuple(range(-extra, 0)), tuple(range(extra))) if extra else v
    leads = [c.shape[: c.ndim - r] for c, r in zip(captured, formula.ranks)]
    lead = v.shape[: v.ndim - rank]
    several = broadcast_shapes(tuple(s.shape), *map(tuple, leads))
    whole = broadcast_shapes(tuple(lead), tuple(several))
    n = int(np.prod(weights.shape))
    rows = v.expand(*whole, *v.shape[v.ndim - rank :]).reshape(*whole, n)
    if not several:
        found = _applied(formula, rows.reshape(-1, n), s, weights, free, captured)
    else:
        one = int(np.prod(several))
        front = rows.reshape(-1, one, n)
        members = [c.expand(*several, *c.shape[c.ndim - r :]) for c, r in zip(captured, formula.ranks)]
        members = [c.reshape(one, *c.shape[len(several) :]) for c in members]
        powers = s.expand(several).reshape(one)
        found = torch.stack(
            [
                _applied(formula, front[:, k], powers[k], weights, free, [c[k] for c in members])
                for k in range(one)
            ],
            1,
        )
    shaped = found.reshape(*whole, *weights.shape)
    return shaped.movedim(tuple(range(extra)), tuple(range(-extra, 0))) if extra else shaped


def _applied(
    formula: Formula, rows: Tensor, s: Tensor, weights: Tensor, free: Tensor, captured: Sequence[Tensor]
) -> Tensor:
    """In double precision on the host, where sparse factors are."""
    host = [x.to("cpu", torch.float64) for x in (rows, s, *captured)]
    found: Tensor = _Function.apply(host[0], host[1], formula, weights, free, *host[2:])  # type: ignore[no-untyped-call]
    return found.to(rows.device, rows.dtype)


def map_function_back(
    g: Tensor, formula: Formula, at: int, v: Tensor, s: Tensor, weights: Tensor, free: Tensor,
    captured: Sequence[Tensor] = (),
) -> Tensor:  # fmt: skip
    """The cotangent of operand `at` of (v, s, what is captured), for that of f(A) v."""
    taped = torch.is_grad_enabled() and any(x.requires_grad for x in (g, v, s, *captured))
    leaves = [leaf(x, taped) for x in (v, s, *captured)]
    ranks = (formula.rank, 0, *formula.ranks)
    lead = broadcast_shapes(*(tuple(x.shape[: x.ndim - r]) for x, r in zip((g, *leaves), (ranks[0], *ranks))))
    wide = [x.expand(*lead, *x.shape[x.ndim - r :]) for x, r in zip(leaves, ranks)]
    with torch.enable_grad(), inner_derivative():
        y = map_function(formula, wide[0], wide[1], weights, free, wide[2:])
        (slope,) = torch.autograd.grad(y, wide[at], g.expand_as(y), create_graph=taped)
    return slope if taped else slope.detach()


def map_function_along(
    formula: Formula, v: Tensor, s: Tensor, weights: Tensor, free: Tensor, captured: Sequence[Tensor],
    dots: Sequence[Tensor], extra: int = 0,
) -> Tensor:  # fmt: skip
    """The derivative of f(A) v along tangents of (v, what is captured), with `extra` axes behind."""
    turned = [d.movedim(tuple(range(-extra, 0)), tuple(range(extra))) if extra else d for d in dots]
    ranks = (formula.rank, *formula.ranks)
    ahead = broadcast_shapes(*(tuple(d.shape[: d.ndim - r]) for d, r in zip(turned, ranks)))
    values = [
        x.expand(*broadcast_shapes(ahead, tuple(x.shape[: x.ndim - r])), *x.shape[x.ndim - r :])
        for x, r in zip((v, *captured), ranks)
    ]
    values = [x.clone() for x in values]
    dots = [d.expand(x.shape).clone() for d, x in zip(turned, values)]

    def f(v: Tensor, *captured: Tensor) -> Tensor:
        return map_function(formula, v, s, weights, free, captured)

    found: Tensor = torch.func.jvp(f, tuple(values), tuple(dots))[1]
    return found.movedim(tuple(range(extra)), tuple(range(-extra, 0))) if extra else found


__all__ = ["Formula", "Traced", "map_function", "map_function_along", "map_function_back"]
