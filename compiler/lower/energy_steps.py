"""What the steps of solvers for energies know: the Laplacian, and products that are integrals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ndl.compiler.check.linear import Diagonal
from ndl.compiler.check.maps import Map
from ndl.compiler.check.values import Builtin, Unknown, Value
from ndl.compiler.source import Span
from ndl.compiler.syntax import tree
from ndl.compiler.types import tensor

if TYPE_CHECKING:
    from ndl.compiler.lower.solvers import StepLowering

VECTOR = tensor("n")
LAPLACIAN, WEIGHTS = "laplacian", "weights"
"""Of a run: the callable whose Jacobian is the Laplacian, and the weights of the integral."""


def of_energies(lowering: StepLowering, step: tree.Step) -> dict[str, Any]:
    """`lap`, `dot` and `norm` of functions: `dot(u, v)` is the integral of u v, `norm(v, A)` the root of
    that of v A v."""

    def dot(ev: Any, a: Any, b: Any, span: Span) -> Any:
        weighted = ev.binary("*", lowering.read(WEIGHTS, VECTOR), ev.binary("*", a, b, span), span)
        found = ev.value(weighted, span)
        return found if isinstance(found, Unknown) else ev.op("sum", [found], span, axes=(0,))

    def norm(ev: Any, args: list[Any], options: Any, e: tree.Call, scope: Any) -> Any:
        image = args[0] if len(args) == 1 else ev.matmul(args[1], args[0], e.span)
        return ev.elementwise("sqrt", [dot(ev, args[0], image, e.span)], e.span)

    def product(ev: Any, args: list[Any], options: Any, e: tree.Call, scope: Any) -> Any:
        return dot(ev, args[0], args[1], e.span)

    def act(ev: Any, v: Value, span: Span) -> Any:
        return ev.op("matmul", [matrix_of(ev, lap, span), v], span)

    unknown = next(p for p in step.params if p not in ("E", "n"))
    lap = Map("base", act, lambda ev: lowering.read(unknown, VECTOR), name="lap", back=act)
    return {"lap": lap, "dot": Builtin("dot", product, 2, 2), "norm": Builtin("norm", norm, 1, 2)}


def matrix_of(ev: Any, map_: Map, span: Span) -> Any:
    """A map made of `lap`, `identity` and numbers as a matrix, which the run need not form."""
    if map_.op == "base" and len(map_.of) > 1:
        at = ev.builder.node(map_.of[1](ev))
        made = ev.builder.add("apply_jac", [at], span, type=tensor("n", "n"), callee=LAPLACIAN, wrt=0)
        return Value(tensor("n", "n"), made)
    if map_.op == "identity":
        return Diagonal(1.0)
    if map_.op not in ("+", "-", "*"):
        return ev.not_lowered("this function of a map in a step", span)
    return ev.binary(map_.op, *(matrix_of(ev, m, span) if isinstance(m, Map) else m for m in map_.of), span)
