"""Nets of fields outside of models: applied to arrays of values, `[*points, *components]`.

How many points there are, the array tells. On which grid they lie, the setting `grid` of a training says;
without it they are evenly spaced, both ends included, a periodic coordinate without its upper end. A net is
compiled for each sampling that it meets, and all of them share the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ndl.compiler.check.evaluator import Evaluator
from ndl.compiler.check.grids import Axes, Fem, GridChoice
from ndl.compiler.check.operators import solve_dims
from ndl.compiler.check.sets import header_sets, option_set
from ndl.compiler.check.values import DomainV, NetV, OperatorV, PointsV, Value
from ndl.compiler.diagnostics import fail
from ndl.compiler.ir.graph import Function
from ndl.compiler.lower.operators import lower_operator
from ndl.compiler.lower.placed import Placed, check_weights
from ndl.compiler.lower.space import Space
from ndl.compiler.source import Span
from ndl.compiler.syntax import tree
from ndl.compiler.types import Map, Tensor

if TYPE_CHECKING:
    from ndl.host.instances import Instances

Points = tuple[tuple[int, ...], ...]
"""Of each datum the points along the coordinates of its domain; () of one that is no field."""
FIRST = 16
"""Points along each coordinate where nothing tells how many, while weights are made."""


class FieldNet:
    """An operator of fields that is compiled for the samplings that it meets. `choice` is the setting of
    grids, if there is one."""

    def __init__(
        self, host: Instances, op: OperatorV, name: str, net: NetV | None, choice: GridChoice | None
    ):
        self.host, self.op, self.name, self.net, self.choice = host, op, name, net, choice
        self.span: Span = op.decl.name_span
        self.domains = [self._domain(p) for p in op.decl.data]
        self.function: Function | None = None

    def _domain(self, parameter: tree.Parameter) -> DomainV | None:
        """The domain of a datum that is a field."""
        written = parameter.type
        if not isinstance(written, tree.FieldType):
            return None
        if not isinstance(written.domain, tree.Name):
            what = f"`{self.name}` of a field on `{written.domain.span.text}`, outside of a model,"
            raise fail("NDL490", f"{what} is not yet lowered", self.span)
        found = option_set(self.host.ev, self.op, written.domain.id)
        if found is None or not found.coordinates:
            raise fail(
                "NDL308",
                f"nothing here tells the domain `{written.domain.id}` of `{self.name}`",
                self.span,
                help=f"give it a signature: `net f: R on Omega -> R on Omega = {self.op.decl.name}()`",
            )
        return found

    # ------------------------------------------------------------ shapes

    def ranks(self) -> list[int]:
        """How many axes of components each datum has."""
        if self.net is not None and isinstance(self.net.signature, Map):
            return [p.rank if isinstance(p, Tensor) else 0 for p in self.net.signature.params]
        return [_rank(p.type) for p in self.op.decl.data]

    def points(self, shapes: Sequence[Sequence[int]], span: Span) -> Points:
        """The points of the samplings of arrays of one sample; the first axes of each are those of points."""
        found = []
        for shape, domain, rank, p in zip(shapes, self.domains, self.ranks(), self.op.decl.data):
            count = _axes_of(domain)
            if len(shape) != count + rank and domain is not None:
                along = ["points"] if isinstance(domain.shape, PointsV) else domain.coordinates
                axes = ", ".join([*along, *["components"] * bool(rank)])
                what = f"`{self.name}` wants the values of a field on `{domain.name}` for `{p.name}`"
                raise fail(
                    "NDL307",
                    f"{what}, an array with axes {axes}, but is given R{[*shape]}",
                    span,
                )
            found.append(tuple(shape[:count]))
        return tuple(found)

    def first(self) -> Points:
        """A sampling for the weights: that of the setting, or some points."""
        return tuple(() if d is None else self.first_of(d) for d in self.domains)

    def first_of(self, domain: DomainV | None) -> tuple[int, ...]:
        """Of a set of points how many there are, else what is chosen."""
        if domain is not None and isinstance(domain.shape, PointsV):
            return (len(domain.shape.rows or ()),)
        return () if domain is None else self._chosen(domain)

    def _chosen(self, domain: DomainV) -> tuple[int, ...]:
        each = self._setting(domain)
        return tuple(FIRST if a is None else a.points[0] for a in each)

    def _setting(self, domain: DomainV) -> list[Axes | None]:
        """What the setting says for each coordinate of a domain."""
        count = len(domain.coordinates)
        chosen = None if self.choice is None else self.choice.of(domain.name) or self.choice.of(domain.given)
        if isinstance(chosen, Fem):
            raise fail("NDL490", "a net of fields on a mesh is not yet lowered", self.span)
        if chosen is None:
            return [None] * count
        each: list[Axes | None] = []
        for axes in chosen:
            many = axes.points * count if len(axes.points) == len(chosen) == 1 else axes.points
            each += [replace(axes, points=(n,)) for n in many]
        return each

    def grids(self, domain: DomainV, points: Sequence[int]) -> tuple[Axes, ...]:
        """The grid of a domain with these points."""
        kinds = [Axes("fourier" if p else "uniform", (1,)) for p in domain.periodic]
        return tuple(
            replace(a or kind, points=(n,)) for a, kind, n in zip(self._setting(domain), kinds, points)
        )

    # ------------------------------------------------------------ compiling

    def lowered(self, points: Points, shapes: Sequence[tuple[int, ...]]) -> Function:
        """The function for a sampling; `shapes` are those of components."""
        for p, domain, n in zip(self.op.decl.data, self.domains, points):
            if domain is not None and isinstance(domain.shape, PointsV) and n != self.first_of(domain):
                what = f"`{p.name}` of `{self.name}` has values at {n[0]} points"
                many = self.first_of(domain)[0]
                raise fail("NDL307", f"{what}, and `{domain.name}` has {many}", self.span)
        chosen: dict[str, tuple[Axes, ...]] = {}
        for domain, n in zip(self.domains, points):
            if domain is not None and not isinstance(domain.shape, PointsV):
                made = self.grids(domain, n)
                if chosen.setdefault(domain.name, made) != made:
                    what = f"the fields of `{self.name}` on `{domain.name}` have different samplings"
                    raise fail("NDL493", what, self.span, help="bring them to one with `resample(v, ratio)`")
        for name in header_sets(self.op.decl):
            result = option_set(self.host.ev, self.op, name)
            if result is None or isinstance(result.shape, PointsV):
                continue
            if result.coordinates and result.name not in chosen:
                if self.choice is None:
                    raise fail(
                        "NDL440",
                        f"the fields on `{result.name}` that `{self.name}` gives need a grid",
                        self.span,
                        help="add the setting `grid = {" + result.name + ": uniform(65)}` to the training",
                    )
                chosen[result.name] = tuple(a for a in self._setting(result) if a is not None)
        space = Space(GridChoice(tuple(chosen.items())))
        ev = self.host.ev
        own = [() if d is None else space.add(ev, d, self.span) for d in self.domains]
        types = [
            Tensor("R", (*(a.extent for a in axes), *Tensor("R").shape, *_dims(s)))
            for axes, s in zip(own, shapes)
        ]
        return lower_operator(self._closed(shapes), types, ev, self.name, self.net, Placed(space, tuple(own)))

    def _closed(self, shapes: Sequence[tuple[int, ...]]) -> OperatorV:
        """The operator with the dimensions that components of these shapes tell."""
        if self.net is not None and self.net.inner is not None:
            return self.op
        ev: Evaluator = self.host.ev
        values = [
            Value(Tensor("R", _dims(s), None if d is None else d.name)) for s, d in zip(shapes, self.domains)
        ]
        wanted = (
            self.net.signature.result
            if self.net is not None and isinstance(self.net.signature, Map)
            else None
        )
        solved = solve_dims(ev, self.op, values, self.span, wanted)
        assert solved is not None
        return solved[0]

    def module(self, shapes: Sequence[Sequence[int]] | None, seed: int) -> Any:
        """The net for the sampling of some arrays, or for that of the setting; it becomes another one where
        it meets another sampling."""
        points = self.first() if shapes is None else self.points(shapes, self.span)
        ranks = self.ranks()
        if shapes is None:
            inner = [p.extents for p in self.net.signature.params]  # type: ignore[union-attr]
        else:
            inner = [tuple(s[len(s) - r :]) if r else () for s, r in zip(shapes, ranks)]
        self.inner = inner
        self.function = self.lowered(points, inner)
        cls = self.host.compilation.operator(self.function)
        return on_grids(cls, self, points)(seed=seed)

    def other(self, points: Points) -> Any:
        """A twin for another sampling, with weights that are still its own."""
        function = self.lowered(points, self.inner)
        assert self.function is not None
        check_weights(self.function, function, self.span)
        return self.host.compilation.operator(function)(seed=0)


def _axes_of(domain: DomainV | None) -> int:
    """Along how many axes the values of a field stand."""
    if domain is None:
        return 0
    return 1 if isinstance(domain.shape, PointsV) else len(domain.coordinates)


def _rank(written: tree.TypeExpr | None) -> int:
    inner = written.value if isinstance(written, tree.FieldType) else written
    return len(inner.dims) if isinstance(inner, tree.TypeName) else 0


def _dims(shape: Sequence[int]) -> Any:
    from ndl.compiler.types import Dim

    return tuple(Dim.of(n) for n in shape)


def on_grids(cls: Any, maker: FieldNet, points: Points) -> Any:
    """A generated class whose instances look at the sampling of what they are given."""
    ranks = maker.ranks()
    counts = [_axes_of(d) for d in maker.domains]
    twins: dict[Points, Any] = {}

    def forward(self: Any, *given: Any) -> Any:
        many = zip(given, ranks, counts)
        seen = tuple(tuple(x.shape[x.ndim - r - k : x.ndim - r]) for x, r, k in many)
        if seen == points:
            return cls.forward(self, *given)
        if seen not in twins:
            twins[seen] = maker.other(seen).to(given[0].device, given[0].dtype)
        return shared(self, twins[seen])(*given)

    return type(cls.__name__, (cls,), {"forward": forward, "__module__": cls.__module__})


def shared(owner: Any, twin: Any) -> Callable[..., Any]:
    """A twin with the weights that its owner has now; arrays of the points are its own."""
    for mine, other in zip(owner.modules(), twin.modules()):
        for table in ("_parameters", "training", "chance", "_news"):
            other.__dict__[table] = mine.__dict__[table]
        names = [p.attribute or p.name for p in getattr(mine, "PARAMETERS", ())]
        kept = {n: mine._buffers[n] for m in names for n in (m, f"unit_{m}") if n in mine._buffers}
        other.__dict__["_buffers"] = {**other._buffers, **kept}
    return twin  # type: ignore[no-any-return]
