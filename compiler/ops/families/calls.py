"""Calls: functions with weights, a solver's callables, and the root of a system.

`call` names a part, `apply` a callable argument of a solver step (`f`, `g`, …). Their types are
given by the elaborator; `apply` without one maps a vector to its like. `apply_series` has the Taylor
coefficients 0, …, `order` of the solution through (x, t).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ndl.compiler.ops.adjoint import extents, fit, kind, op
from ndl.compiler.ops.adjoint import shape as shape_of
from ndl.compiler.ops.table import Attributes, Op, TypeRuleError, register
from ndl.compiler.ops.text import call, items
from ndl.compiler.types import Dim, Tensor, Type

if TYPE_CHECKING:
    from ndl.compiler.ir.graph import Graph, Node

Cotangents = list["Node | None"]
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def _outside(*operands: Any, **attributes: Any) -> Any:
    raise LookupError("a call is made by the interpreter, which knows what is called")


def _call_rule(types: Sequence[Type], attributes: Attributes) -> Type:
    raise TypeRuleError(f"the type of a call of `{attributes.get('instance')}` must be given")


register(
    Op(
        "call",
        _call_rule,
        _outside,
        lambda texts, types, a: call(f"self.{a['instance']}", *texts),
    )
)


def _apply_rule(types: Sequence[Type], attributes: Attributes) -> Type:
    if not types:
        raise TypeRuleError(f"`{attributes['callee']}` is called with nothing")
    return types[0]


def _jacobian_rule(types: Sequence[Type], attributes: Attributes) -> Type:
    result, wrt = types[0], types[attributes["wrt"]]
    if not isinstance(result, Tensor) or not isinstance(wrt, Tensor):
        raise TypeRuleError("a Jacobian is of tensors", [attributes["wrt"]])
    return Tensor("R", result.shape + wrt.shape)


def _apply_vjp(graph: Graph, node: Node, operands: Sequence[Node], g: Node) -> Cotangents:
    """g contracted with the callable's Jacobian, for each real operand."""
    found: Cotangents = []
    for i, x in enumerate(operands):
        if kind(x) != "R":
            found.append(None)
            continue
        outer, inner = shape_of(node), shape_of(x)
        slope = graph.add(
            "apply_jac",
            operands,
            type=Tensor("R", outer + inner),
            callee=node.attr("callee"),
            wrt=i,
        )
        a, b = LETTERS[: len(outer)], LETTERS[len(outer) : len(outer) + len(inner)]
        found.append(fit(graph, op(graph, "einsum", g, slope, equation=f"{a},{a}{b}->{b}"), x))
    return found


register(
    Op(
        "apply",
        _apply_rule,
        _outside,
        lambda texts, types, a: call(str(a["callee"]), *texts),
        vjp=_apply_vjp,
    )
)
register(
    Op(
        "apply_jac",
        _jacobian_rule,
        _outside,
        lambda texts, types, a: call("ops.apply_jac", str(a["callee"]), str(a["wrt"]), *texts),
    )
)


def _series_rule(types: Sequence[Type], attributes: Attributes) -> Type:
    x = types[0]
    if not isinstance(x, Tensor):
        raise TypeRuleError("a series is of tensors", [0])
    return Tensor("R", (Dim.of(attributes["order"] + 1), *x.shape))


register(
    Op(
        "apply_series",
        _series_rule,
        _outside,
        lambda texts, types, a: call(f"{a['callee']}.series", *texts, str(a["order"])),
    )
)


def _last_rule(types: Sequence[Type], attributes: Attributes) -> Type:
    return types[-1]


# of the linear part L of a callable that is known as a formula: phi_order(h L) v, and L v
register(
    Op(
        "apply_phi",
        _last_rule,
        _outside,
        lambda texts, types, a: call(f"{a['callee']}.phi", str(a["order"]), *texts),
    )
)
register(
    Op(
        "apply_linear",
        _last_rule,
        _outside,
        lambda texts, types, a: call(f"{a['callee']}.linear_part", *texts),
    )
)
# A.T v of a linear callable
register(
    Op(
        "apply_transposed",
        _last_rule,
        _outside,
        lambda texts, types, a: call(f"{a['callee']}.transposed", *texts),
    )
)

# ---------------------------------------------------------------- root


def _root_rule(types: Sequence[Type], attributes: Attributes) -> Type:
    """Operands: a first guess, then the values that the function captures after its unknown."""
    function = attributes["function"]
    wanted = [n.type for n in function.inputs]
    for i, (given, needed) in enumerate(zip(types, wanted, strict=True)):
        if isinstance(given, Tensor) and isinstance(needed, Tensor) and given.shape != needed.shape:
            raise TypeRuleError(f"an equation for {needed} is given {given}", [i])
    residual = function.outputs[0][1].type
    if not isinstance(residual, Tensor) or not isinstance(types[0], Tensor):
        raise TypeRuleError("an equation is between tensors", [0])
    if residual.shape != types[0].shape:
        raise TypeRuleError(f"{residual} equations for an unknown of {types[0]}", [0])
    return types[0]


def _root_reference(guess: Any, *captured: Any, function: Any) -> Any:
    from ndl.compiler.ir.interpret import newton

    return newton(function, guess, captured)


def _root_text(texts: Sequence[str], types: Sequence[Type], attributes: Attributes) -> str:
    """The module printer prints the equation as a local function and gives its name here, and that of the
    callable argument that the function reads, if there is one."""
    z = types[0]
    rank = z.rank if isinstance(z, Tensor) else 0
    like = attributes.get("like")
    more = [] if like is None else [str(like)]
    return call("ops.root", str(attributes["function"]), texts[0], items(texts[1:]), str(rank), *more)


def _root_vjp(graph: Graph, node: Node, operands: Sequence[Node], g: Node) -> Cotangents:
    """Implicit function theorem: F_z^T w = g, and the cotangent of what F captured is -w F_c."""
    from ndl.compiler.ir.autodiff import jacobian, pullback
    from ndl.compiler.ir.splice import splice

    function = node.attr("function")
    inputs = dict(zip((n.attr("name") for n in function.inputs), [node, *operands[1:]]))
    residual = splice(graph, function, inputs)[0]
    n = 1
    for extent in extents(node):
        n *= extent
    slope = op(graph, "reshape", jacobian(graph, residual, node), shape=(n, n))
    flat = op(graph, "reshape", g, shape=(n,))
    w = op(graph, "solve", op(graph, "permute", slope, axes=(1, 0)), flat)
    w = op(graph, "reshape", op(graph, "neg", w), shape=extents(node))
    wanted = [x for x in operands[1:] if kind(x) in ("R", "C")]
    pulled = iter(pullback(graph, residual, w, wanted, stop=[node]))
    return [None, *(next(pulled) if kind(x) in ("R", "C") else None for x in operands[1:])]


register(Op("root", _root_rule, _root_reference, _root_text, vjp=_root_vjp))
