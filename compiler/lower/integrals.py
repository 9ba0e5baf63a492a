"""Integral equations `y(t) = g(t) + integral(K(y(s), t, s), s in a..b)`: kernels, limits and the forcing."""

from __future__ import annotations

from collections.abc import Mapping
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


def integral_parts(lowering: ModelLowering) -> tuple[tuple[IntegralSpec, ...], Function | None]:
    """The integrals of a model's equations, and the right sides with their values known."""
    rates = lowering.parts.rates
    equations = {n: eq for n, eq in rates.items() if eq.kind == "integral"}
    for frame in lowering.frames[1:]:
        for eq in frame.parts.rates.values():
            if eq.kind == "integral":
                raise fail("NDL490", "an integral equation in a part is not yet lowered", eq.span)
    if not equations:
        return (), None
    calls = [c for eq in equations.values() for c in walk(eq.value) if _is_integral(c)]
    specs = tuple(_integral(lowering, c, equations) for c in calls)
    types = {f"integral{k}": _output_type(s.kernel) for k, s in enumerate(specs)}

    def make(el: Elaboration, g: GraphBuilder) -> list[tuple[str, Any]]:
        found = []
        for name, eq in equations.items():
            el.ev.integrals = {id(c): el.site.noise(key, types[key]) for key, c in zip(types, calls)}
            wanted = lowering.types.state_type(name)
            plain = None if wanted is None else Tensor(wanted.kind, wanted.shape)
            found.append((name, el.fit(el.ev.eval(eq.value, el.scope), eq, plain)))
        return found

    return specs, lowering.function("forcing", make, {"t": Tensor(), **types}, with_states=False)


def _is_integral(e: Any) -> bool:
    return isinstance(e, tree.Call) and isinstance(e.func, tree.Name) and e.func.id == "integral"


def _integral(lowering: ModelLowering, call: tree.Call, equations: Mapping[str, Equation]) -> IntegralSpec:
    root = lowering.scratch()
    clause = clause_of(root.ev, call.args[1], root.scope) if len(call.args) == 2 else None
    if clause is None or not isinstance(clause.set, tree.Range):
        raise fail("NDL490", "an integral equation over this set is not yet lowered", call.span)
    variable = clause.pattern.names[0]
    limits = clause.set
    upper = limits.hi
    volterra = isinstance(upper, tree.Name) and upper.id == "t" and not upper.primes

    def bound(e: tree.Expr) -> Function:
        return lowering.function(
            "bound", lambda el, g: [("bound", el.ev.eval(e, el.scope))], {"t": Tensor()}, with_states=False
        )

    def kernel(el: Elaboration, g: GraphBuilder) -> list[tuple[str, Any]]:
        names: dict[str, Any] = {variable: el.site.noise("s", Tensor())}
        for name in equations:
            names[name] = Integrand(el.lookup(name, 0))
        return [("kernel", el.ev.eval(call.args[0].value, el.scope.child(names)))]

    inside = lowering.function("kernel", kernel, {"s": Tensor()})
    return IntegralSpec(bound(limits.lo), None if volterra else bound(upper), inside)


def _output_type(f: Function) -> Tensor:
    type_ = f.outputs[0][1].type
    assert isinstance(type_, Tensor)
    return type_
