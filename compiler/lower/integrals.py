"""Integral equations `y(t) = g(t) + integral(K(y(s), t, s), s in a..b)`: kernels, limits and the forcing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ndl.compiler.check.binders import clause_of
from ndl.compiler.check.model_parts import Equation
from ndl.compiler.check.models import Elaboration
from ndl.compiler.diagnostics import fail
from ndl.compiler.ir.graph import Function
from ndl.compiler.ir.model import IntegralSpec
from ndl.compiler.lower.builder import GraphBuilder
from ndl.compiler.lower.sites import Integrand
from ndl.compiler.syntax import tree
from ndl.compiler.syntax.walk import walk
from ndl.compiler.types import Tensor

if TYPE_CHECKING:
    from ndl.compiler.lower.models import ModelLowering


Owned = tuple[Elaboration, Equation]
"""An equation with the model or part that it belongs to."""


def integral_parts(lowering: ModelLowering) -> tuple[tuple[IntegralSpec, ...], Function | None]:
    """The integrals of a model's and its parts' equations, and the right sides with their values known."""
    owned = [(f, eq) for f in lowering.frames for eq in f.parts.rates.values() if eq.kind == "integral"]
    if not owned:
        return (), None
    _only_integrals(lowering, owned)
    calls = [(f, c) for f, eq in owned for c in walk(eq.value) if _is_integral(c)]
    specs = tuple(_integral(lowering, f, c, owned) for f, c in calls)
    types = {f"integral{k}": _output_type(s.kernel) for k, s in enumerate(specs)}

    def make(root: Elaboration, g: GraphBuilder) -> list[tuple[str, Any]]:
        found = []
        for frame, eq in owned:
            el = root.descend(frame.path)
            # equal parts share their syntax, so that the values are those of one part at a time
            el.ev.integrals = {
                id(c): el.site.noise(key, types[key]) for key, (f, c) in zip(types, calls) if f is frame
            }
            wanted = frame.state_type(eq.name)
            plain = None if wanted is None else Tensor(wanted.kind, wanted.shape)
            found.append((frame.prefix + eq.name, el.fit(el.ev.eval(eq.value, el.scope), eq, plain)))
        return found

    return specs, lowering.function("forcing", make, {"t": Tensor(), **types}, with_states=False)


def _only_integrals(lowering: ModelLowering, owned: list[Owned]) -> None:
    """Integral equations and others are not solved together."""
    names = {f.prefix + eq.name for f, eq in owned}
    other = next((s for s in lowering.slots if s.spec.name not in names), None)
    if other is not None:
        raise fail(
            "NDL437",
            f"`{other.spec.name}` has no integral equation, but `{next(iter(names))}` has one",
            other.spec.span,
            help="write the rate as an integral equation, `x(t) = x0 + integral(f(x(s), s), s in 0..t)`",
        )


def _is_integral(e: Any) -> bool:
    return isinstance(e, tree.Call) and isinstance(e.func, tree.Name) and e.func.id == "integral"


def _integral(
    lowering: ModelLowering, frame: Elaboration, call: tree.Call, owned: list[Owned]
) -> IntegralSpec:
    own = lowering.scratch().descend(frame.path)
    clause = clause_of(own.ev, call.args[1], own.scope) if len(call.args) == 2 else None
    if clause is None or not isinstance(clause.set, tree.Range):
        raise fail("NDL490", "an integral equation over this set is not yet lowered", call.span)
    variable = clause.pattern.names[0]
    limits = clause.set
    upper = limits.hi
    volterra = isinstance(upper, tree.Name) and upper.id == "t" and not upper.primes

    def bound(e: tree.Expr) -> Function:
        def make(root: Elaboration, g: GraphBuilder) -> list[tuple[str, Any]]:
            el = root.descend(frame.path)
            return [("bound", el.ev.eval(e, el.scope))]

        return lowering.function("bound", make, {"t": Tensor()}, with_states=False)

    def kernel(root: Elaboration, g: GraphBuilder) -> list[tuple[str, Any]]:
        for f, eq in owned:  # parts read each other's unknowns by their dotted names
            el = root.descend(f.path)
            el.cache[eq.name, 0] = Integrand(el.lookup(eq.name, 0))
        el = root.descend(frame.path)
        names: dict[str, Any] = {variable: el.site.noise("s", Tensor())}
        return [("kernel", el.ev.eval(call.args[0].value, el.scope.child(names)))]

    inside = lowering.function("kernel", kernel, {"s": Tensor()})
    return IntegralSpec(bound(limits.lo), None if volterra else bound(upper), inside)


def _output_type(f: Function) -> Tensor:
    type_ = f.outputs[0][1].type
    assert isinstance(type_, Tensor)
    return type_
