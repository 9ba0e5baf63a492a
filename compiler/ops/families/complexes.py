"""Complex numbers: their parts, their sizes, and how they are put together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ndl.compiler.ops.adjoint import conj, fit, kind, mul, number, op
from ndl.compiler.ops.families.pointwise import sympy_function, torch_function
from ndl.compiler.ops.families.unary import unary_rule
from ndl.compiler.ops.rules import Rule, numeric, tensors
from ndl.compiler.ops.table import Attributes, Op, register
from ndl.compiler.ops.text import call
from ndl.compiler.ops.text import method as dot
from ndl.compiler.types import Tensor, Type

if TYPE_CHECKING:
    from ndl.compiler.ir.graph import Graph, Node


def _part_rule(name: str) -> Rule:
    def rule(types: Sequence[Type], attributes: Attributes) -> Type:
        (x,) = tensors(types, f"`{name}`")
        numeric([x], f"`{name}`")
        return Tensor("R" if x.kind == "C" else x.kind, x.shape, x.on, x.unit)

    return rule


def _conj_vjp(graph: Graph, node: Node, operands: Sequence[Node], g: Node) -> list[Node | None]:
    return [fit(graph, conj(graph, g), operands[0])]


def _real_vjp(graph: Graph, node: Node, operands: Sequence[Node], g: Node) -> list[Node | None]:
    return [fit(graph, g, operands[0])]


def _imag_vjp(graph: Graph, node: Node, operands: Sequence[Node], g: Node) -> list[Node | None]:
    if kind(operands[0]) != "C":
        return [None]
    from ndl.compiler.ops.adjoint import shape, spread

    unit = spread(graph, graph.add("const", value=1j), shape(operands[0]))
    return [mul(graph, unit, g)]


def _abs_rule(types: Sequence[Type], attributes: Attributes) -> Type:
    (x,) = tensors(types, "`abs`")
    numeric([x], "`abs`")
    return Tensor("R" if x.kind == "C" else x.kind, x.shape, x.on, x.unit)


def _abs_vjp(graph: Graph, node: Node, operands: Sequence[Node], g: Node) -> list[Node | None]:
    """g x/|x|, 0 at 0."""
    (x,) = operands
    if kind(x) != "C":
        return [fit(graph, mul(graph, g, op(graph, "sign", x)), x)]
    none = op(graph, "eq", node, number(graph, 0, node))
    size = op(graph, "select", none, number(graph, 1, node), node)
    return [mul(graph, g, op(graph, "div", x, size))]


register(
    Op(
        "abs",
        _abs_rule,
        torch_function("abs"),
        lambda texts, types, a: call("torch.abs", texts[0]),
        vjp=_abs_vjp,
        sympy=sympy_function("Abs"),
        scalar="abs",
        breaks=True,
    )
)


register(
    Op(
        "conj",
        unary_rule("`conj`", keep_kind=True, keep_unit=True, complex_ok=True),
        torch_function("conj_physical"),
        lambda texts, types, a: call("torch.conj_physical", texts[0]),
        vjp=_conj_vjp,
        sympy=sympy_function("conjugate"),
        scalar="conj",
    )
)
register(
    Op(
        "real",
        _part_rule("real"),
        lambda x: x.real.clone(),
        lambda texts, types, a: dot(texts[0], ".real"),
        vjp=_real_vjp,
        sympy=sympy_function("re"),
        scalar="real",
    )
)
register(
    Op(
        "imag",
        _part_rule("imag"),
        lambda x: x.imag.clone() if x.is_complex() else x * 0,
        lambda texts, types, a: call("ops.imag", texts[0]),
        vjp=_imag_vjp,
        sympy=sympy_function("im"),
        scalar="imag",
    )
)
