"""Linear maps outside of models: what they make of values, their inverses and functions, eigenvalues."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from ndl.compiler.check.applications import parts_of
from ndl.compiler.check.grids import Axes, Fem, GridChoice, grid_choice, grid_of
from ndl.compiler.check.linearized import ModelMap
from ndl.compiler.check.maps import Map
from ndl.compiler.check.scope import Scope
from ndl.compiler.check.values import Closure, DomainV, ModelV, TupleV, Unknown, Value, is_number
from ndl.compiler.diagnostics import fail
from ndl.compiler.ir.grid import end_weights
from ndl.compiler.source import Span
from ndl.compiler.syntax import tree
from ndl.host.builder import lift
from ndl.host.objects import ModelObject
from ndl.host.sample import batched
from ndl.runtime import map_functions, matrix_free
from ndl.runtime.linearized import linearized

if TYPE_CHECKING:
    from ndl.host.host import Host

LINEAR = 1e-9
"""How far a function of vectors may be from a linear one, relative to its values."""


class HostMap(ModelMap):
    """`linearize(M, x)`: one operator for each number of points that it meets."""

    def __init__(
        self, host: Host, model: Any, target: ModelV, state: str, point: Any, choice: Any, span: Span
    ) -> None:
        super().__init__(target, state, span, point, choice)
        self.host, self.given = host, model
        self.made: dict[Any, matrix_free.LinearOperator] = {}

    def operator(self, shape: tuple[int, ...] | None) -> matrix_free.LinearOperator:
        """The map of values of a shape; None: of those that the point or the model has. Raises `NDLError`."""
        if shape is None and isinstance(self.point, Value):
            shape = tuple(self.point.ref.shape)
        if shape not in self.made:
            self.made[shape] = self._make(shape)
        found = self.made[shape]
        if shape is not None and found.space.shape != shape:
            what = f"`{self.name}` is of R{[*found.space.shape]}, and is applied to R{[*shape]}"
            raise fail("NDL471", what, self.span)
        return found

    def _make(self, shape: tuple[int, ...] | None) -> matrix_free.LinearOperator:
        host = self.host
        domain, placed = self._domain(), self.placed(shape)
        choice = placed.grid
        instance = self.given.instance if isinstance(self.given, ModelObject) else host.instance(placed)
        if instance.initial_state().ndim > 1:
            what = f"`linearize` of a family: `{self.model.decl.name}` has several members here"
            raise fail("NDL470", what, self.span)
        state = instance.state(self.state)
        x = instance.initial_state().detach().to(torch.float64)
        if isinstance(self.point, Value):
            at = self.point.ref.detach().to(x.dtype)
            if tuple(at.shape) != state.shape:
                what = f"`{self.name}` is about R{[*at.shape]}, and `{self.state}` is R{[*state.shape]}"
                raise fail("NDL471", what, self.span)
            x = x.clone()
            x[state.places] = at.reshape(-1)
        grids = host.compilation.model(placed).ir.grids
        ends = [
            [] if a.periodic or a.kind == "chebyshev" else [float(w) for w in end_weights(a.order, a.cells)]
            for g in grids
            for a in g.axes
        ]
        fem = None if choice is None or domain is None else choice.of(domain.name)
        held = bool(parts_of(host.ev, self.model.decl).conditions)
        lumped = isinstance(fem, Fem) and fem.lumped
        return linearized(instance, state, x, ends, held, lumped)

    # ------------------------------------------------------------ where fields stand

    def placed(self, shape: tuple[int, ...] | None) -> ModelV:
        """The model on the grid for values of a shape."""
        choice = self._choice(self._domain(), shape)
        return self.model if choice is None else replace(self.model, grid=choice)

    def _domain(self) -> DomainV | None:
        """The domain of the state, if it is a field."""
        item = parts_of(self.host.ev, self.model.decl).states[self.state][0]
        if not isinstance(item.type, tree.FieldType) or not isinstance(item.type.domain, tree.Name):
            return None
        scope = self.model.module.scope
        found = self.model.values.get(item.type.domain.id, scope.find(item.type.domain.id))
        for d in self.model.decl.body:
            if isinstance(d, tree.DomainDecl) and d.name == item.type.domain.id and found is None:
                found = self.host.ev.eval(d.value, scope)
        found = self.host.ev.file_value(found) if type(found).__name__ == "FileV" else found
        return found if isinstance(found, DomainV) else None

    def _choice(self, domain: DomainV | None, shape: tuple[int, ...] | None) -> GridChoice | None:
        """The grid: that of the map, else of the model, else the points that values of a shape have."""
        if domain is None:
            return None
        if self.choice is not None or self.model.grid is not None:
            return self.choice or self.model.grid  # type: ignore[no-any-return]
        setting = self.host.run_grid
        chosen = None if setting is None else setting.of(domain.name)
        if chosen is not None or shape is None or domain.shape is not None:
            if chosen is None:
                raise fail(
                    "NDL440",
                    f"`{self.name}` needs a grid for `{domain.name}`",
                    self.span,
                    help=f"write `linearize({self.model.decl.name}, {self.state}, grid=uniform(65))`",
                )
            return setting
        kinds = [Axes("fourier" if p else "uniform", (n,)) for p, n in zip(domain.periodic, shape)]
        return GridChoice(((domain.name, tuple(kinds)),))


class Maps:
    """The host's part for linear maps."""

    run_grid: GridChoice | None = None
    """Where fields stand in the training that is under way, if it says so."""

    def linearized(
        self: Any,
        model: Any,
        target: ModelV,
        state: str,
        point: Any,
        grid: tree.Expr | None,
        scope: Scope,
        span: Span,
    ) -> HostMap:
        """`linearize(M, x)`."""
        choice = None
        if grid is not None:
            made = grid_choice(self.ev, self.ev.eval(grid, scope), grid.span)
            choice = None if isinstance(made, Unknown) else made
        return HostMap(self, model, target, state, point, choice, span)

    def act(self: Any, map_: Map, v: Value, span: Span) -> Any:
        """`A @ v`."""
        A = self.operator(map_, tuple(v.ref.shape), span)

        def run(_: Any, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return (A.space.values(A.act(A.space.vector(x.to("cpu", torch.float64)))),)

        if batched(v.ref) and self.sample is not None:
            found = self.sample.whole(run, v.ref)[0]
        else:
            found = self.guarded(lambda: run(None, v.ref)[0], span)
        return lift(found.to(v.ref.device, v.ref.dtype) if v.ref.dtype.is_floating_point else found)

    def norm_by(self: Any, v: Value, map_: Map, span: Span) -> Any:
        """`norm(v, A)` in the inner product of the map's space."""
        A = self.operator(map_, tuple(v.ref.shape), span)
        image = self.act(map_, v, span).ref
        x, y = (A.space.vector(u.to(torch.float64)) for u in (v.ref, image))
        return lift(A.space.inner(x, y).sqrt())

    def eigen(self: Any, ev: Any, what: Any, count: Any, span: Span) -> Any:
        """`eig(A)` of a matrix, `eig(A, n)` of a map."""
        from ndl.runtime.eigen import eig

        if not isinstance(what, Map):
            v = ev.value(what, span)
            if v.type.rank != 2 or v.type.shape[0] != v.type.shape[1]:
                raise fail("NDL474", f"`eig` is of square matrices and maps, not of {v.type}", span)
            w, V = eig(v.ref if v.ref.dtype.is_floating_point or v.ref.is_complex() else v.ref.double())
            return TupleV((lift(w), lift(V)))
        number = ev.known(count)
        if not is_number(number) or number != int(number):
            raise fail("NDL474", "how many eigenvalues is a whole number", span)
        A = self.operator(what, None, span)
        w, V = self.guarded(lambda: map_functions.eigenpairs(A, int(number)), span)
        return TupleV((lift(w), lift(A.space.values(V))))

    # ------------------------------------------------------------ operators

    def operator(
        self: Any, map_: Map, shape: tuple[int, ...] | None, span: Span
    ) -> matrix_free.LinearOperator:
        """A map as the runtime knows it, of values of a shape. Raises `NDLError`."""
        space = self._space(map_, shape, span)
        found: matrix_free.LinearOperator = self._operator(map_, shape, space, span)
        return found

    def _space(self: Any, map_: Map, shape: tuple[int, ...] | None, span: Span) -> matrix_free.Space:
        """The space of the models in a map, else that of plain numbers."""
        for leaf in leaves(map_):
            if isinstance(leaf, HostMap):
                return leaf.operator(shape).space
        if shape is None:
            raise fail("NDL471", "nothing here tells the space of this map", span)
        return matrix_free.Space(shape)

    def _operator(
        self: Any, map_: Map, shape: tuple[int, ...] | None, space: matrix_free.Space, span: Span
    ) -> matrix_free.LinearOperator:
        def inner(m: Any) -> matrix_free.LinearOperator:
            found: matrix_free.LinearOperator = self._operator(m, shape, space, span)
            return found

        if isinstance(map_, HostMap):
            return map_.operator(shape)
        if map_.op == "identity":
            return matrix_free.Identity(space)
        if map_.op == "*":
            return matrix_free.Scaled(_number(self, map_.of[0], span), inner(map_.of[1]))
        if map_.op in ("+", "-"):
            return matrix_free.Sum(inner(map_.of[0]), 1.0 if map_.op == "+" else -1.0, inner(map_.of[1]))
        if map_.op == "@":
            return matrix_free.Product(inner(map_.of[0]), inner(map_.of[1]))
        if map_.op == "T":
            return inner(map_.of[0]).transposed()
        if map_.op == "matrix":
            return _matrix(map_.of[0].ref, space, span)
        if map_.op == "^":
            return _power(inner(map_.of[0]), _number(self, map_.of[1], span))
        if map_.op == "exp":
            return _function(inner(map_.of[0]), map_functions.Kind("exp"))
        if len(map_.of) > 1 and isinstance(map_.of[1], Closure):
            return _closure(self, map_.of[1], space, span)
        what = f"the map `{map_.name}` of what is no field of a model"
        raise fail("NDL490", f"{what} is not yet lowered", span)


def leaves(map_: Map) -> list[Map]:
    inner = [m for m in map_.of if isinstance(m, Map)]
    return [x for m in inner for x in leaves(m)] if inner else [map_]


def _number(host: Any, value: Any, span: Span) -> Any:
    found = host.number(value)
    if isinstance(found, torch.Tensor) and found.ndim:
        raise fail("NDL471", "a map is multiplied by a number", span)
    return found


def _matrix(M: torch.Tensor, space: matrix_free.Space, span: Span) -> matrix_free.LinearOperator:
    if tuple(M.shape) != (space.n, space.n) or len(space.shape) != 1 or space.weights is not None:
        what = f"a matrix R{[*M.shape]} and a map of R{[*space.shape]} have no sum"
        raise fail("NDL471", what, span)
    from ndl.runtime.colouring import library

    return matrix_free.Function(
        space, lambda v: v @ M.T, lambda v: v @ M, lambda: library().csr_matrix(M.detach().numpy())
    )


def _power(A: matrix_free.LinearOperator, s: Any) -> matrix_free.LinearOperator:
    """A^s: whole powers by products, of A or its inverse."""
    if isinstance(s, torch.Tensor) or s != int(s) or abs(s) > 8:
        return _function(A, map_functions.Kind("^", s))
    base = A if s > 0 else A.inverse
    found: matrix_free.LinearOperator = matrix_free.Identity(A.space) if s == 0 else base
    for _ in range(abs(int(s)) - 1):
        found = matrix_free.Product(base, found)
    return found


def _function(A: matrix_free.LinearOperator, kind: map_functions.Kind) -> matrix_free.LinearOperator:
    return matrix_free.Function(
        A.space,
        lambda v: map_functions.apply(A, kind, v),
        lambda v: map_functions.apply(A.transposed(), kind, v),
    )


def _closure(host: Any, f: Closure, space: matrix_free.Space, span: Span) -> matrix_free.LinearOperator:
    """`v -> e` as a map. Raises `NDLError` where it is not linear."""

    def along(x: torch.Tensor) -> torch.Tensor:
        if x.ndim > 1:
            return torch.stack([along(row) for row in x])
        found = host.ev.value(host.ev.apply(f, [lift(space.values(x))], span), span)
        if not isinstance(found, Value) or tuple(found.ref.shape) != space.shape:
            raise fail("NDL471", "this function does not give what it takes: a value of the same shape", span)
        return space.vector(found.ref)

    def back(x: torch.Tensor) -> torch.Tensor:
        if x.ndim > 1:
            return torch.stack([back(row) for row in x])
        zero = torch.zeros(space.n, dtype=torch.float64)
        (found,) = torch.func.vjp(along, zero)[1](space.dual(x))
        return space.primal(found)

    _check_linear(along, space, f.expr.span)
    return matrix_free.Function(space, along, back)


def _check_linear(f: Callable[[torch.Tensor], torch.Tensor], space: matrix_free.Space, span: Span) -> None:
    u, v = (space.vector(space.values(p)) for p in matrix_free.probes(space.n))
    with torch.no_grad():
        a, b, both = f(u), f(v), f(2 * u - 3 * v)
    if not bool((both - 2 * a + 3 * b).abs().max() <= LINEAR * (a.abs().max() + b.abs().max())):
        raise fail(
            "NDL475",
            "this function is not linear, and stands where a linear map is needed",
            span,
            help="`linearize(M, x)` and `jac(e, x)` are the linear maps near a point",
        )


__all__ = ["HostMap", "Maps", "grid_of"]
