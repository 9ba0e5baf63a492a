"""Comparisons, logic, and the choice between two values, at each place of equal shapes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ndl.compiler.ops.adjoint import fit, number, op
from ndl.compiler.ops.families.elementwise import binary
from ndl.compiler.ops.families.pointwise import (
    NOUNS,
    Printer,
    flat,
    sympy_function,
    torch_function,
)
from ndl.compiler.ops.rules import (
    Rule,
    common_domain,
    numeric,
    promote,
    real,
    same_shape,
    same_unit,
    tensors,
    truth,
)
from ndl.compiler.ops.table import Attributes, Op, TypeRuleError, register
from ndl.compiler.ops.text import (
    BIT_AND,
    BIT_OR,
    COMPARE,
    Text,
    call,
    infix,
    level,
    prefix,
)
from ndl.compiler.types import Tensor, Type

if TYPE_CHECKING:
    from ndl.compiler.ir.graph import Graph, Node


def _not_rule(types: Sequence[Type], attributes: Attributes) -> Type:
    (x,) = tensors(types, "`not`")
    truth([x], "`not`")
    return Tensor("Bool", x.shape, x.on)


register(
    Op(
        "not",
        _not_rule,
        torch_function("logical_not"),
        lambda texts, types, a: prefix("~", texts[0]),
        vjp=flat,
        sympy=sympy_function("Not"),
        scalar="not",
        breaks=True,
    )
)


def _isfinite_rule(types: Sequence[Type], attributes: Attributes) -> Type:
    (x,) = tensors(types, "`isfinite`")
    numeric([x], "`isfinite`")
    return Tensor("Bool", x.shape, x.on)


register(
    Op(
        "isfinite",
        _isfinite_rule,
        torch_function("isfinite"),
        lambda texts, types, a: call("torch.isfinite", texts[0]),
        vjp=flat,
        scalar="isfinite",
        breaks=True,
    )
)


def comparison_rule(name: str, ordered: bool) -> Rule:
    what = NOUNS[name]

    def rule(types: Sequence[Type], attributes: Attributes) -> Type:
        operands = tensors(types, what)
        if ordered:
            real(operands, what)
        elif {t.kind == "Bool" for t in operands} == {True, False}:
            numeric(operands, what)
        same_unit(operands, what)
        return Tensor("Bool", same_shape(operands, what), common_domain(operands, what))

    return rule


def comparison_text(symbol: str) -> Printer:
    return lambda texts, types, a: infix(symbol, _loose(texts[0]), _loose(texts[1]), COMPARE)


def infix_text(symbol: str, binds: int) -> Printer:
    return lambda texts, types, a: infix(symbol, texts[0], texts[1], binds)


for _name, _symbol, _image in (
    ("lt", "<", "StrictLessThan"),
    ("le", "<=", "LessThan"),
    ("gt", ">", "StrictGreaterThan"),
    ("ge", ">=", "GreaterThan"),
    ("eq", "==", "Eq"),
    ("ne", "!=", "Ne"),
):
    binary(
        _name,
        comparison_rule(_name, _name not in ("eq", "ne")),
        torch_function(_name),
        comparison_text(_symbol),
        flat,
        sympy_function(_image),
        breaks=True,
    )


def _loose(text: str) -> str:
    """A comparison inside a comparison would be read by Python as a chain."""
    return f"({text})" if level(text) == COMPARE else Text(text, level(text))


def _logical_rule(name: str) -> Rule:
    what = NOUNS[name]

    def rule(types: Sequence[Type], attributes: Attributes) -> Type:
        operands = tensors(types, what)
        truth(operands, what)
        return Tensor("Bool", same_shape(operands, what), common_domain(operands, what))

    return rule


for _name, _symbol, _level, _image in (("and", "&", BIT_AND, "And"), ("or", "|", BIT_OR, "Or")):
    binary(
        _name,
        _logical_rule(_name),
        torch_function(f"logical_{_name}"),
        infix_text(_symbol, _level),
        flat,
        sympy_function(_image),
        breaks=True,
    )


def _select_rule(types: Sequence[Type], attributes: Attributes) -> Type:
    condition, a, b = tensors(types, "a conditional")
    truth([condition], "the condition of a conditional")
    what = NOUNS["select"]
    try:
        shape = same_shape([a, b], what)
        unit = same_unit([a, b], what)
    except TypeRuleError as e:
        raise TypeRuleError(e.message, [i + 1 for i in e.operands], e.help, e.code) from None
    if condition.shape != shape:
        raise TypeRuleError("the condition of a conditional and its branches differ in shape", [0, 1])
    if (a.kind == "Bool") != (b.kind == "Bool"):
        raise TypeRuleError("one branch of a conditional is a truth value and the other a number", [1, 2])
    return Tensor(promote([a, b]), shape, common_domain([condition, a, b], "a conditional"), unit)


def _select_vjp(graph: Graph, node: Node, operands: Sequence[Node], g: Node) -> list[Node | None]:
    condition, a, b = operands
    nothing = number(graph, 0, g)
    return [
        None,
        fit(graph, op(graph, "select", condition, g, nothing), a),
        fit(graph, op(graph, "select", condition, nothing, g), b),
    ]


def _sympy_select(condition: Any, a: Any, b: Any) -> Any:
    import sympy

    return sympy.Piecewise((a, condition), (b, True))


register(
    Op(
        "select",
        _select_rule,
        torch_function("where"),
        lambda texts, types, a: call("torch.where", *texts),
        vjp=_select_vjp,
        sympy=_sympy_select,
        scalar="select",
        linear=(1, 2),
        breaks=True,
    )
)
