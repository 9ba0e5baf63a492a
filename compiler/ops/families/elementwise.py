"""Arithmetic of two operands at each place of equal shapes.

A scalar is repeated by `expand` before. A field with a plain tensor is a field.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ndl.compiler.ops.adjoint import conj, fit, kind, mul, number, op, scale
from ndl.compiler.ops.families.pointwise import (
    NOUNS,
    Printer,
    Vjp,
    difference,
    floating,
    real_function,
    step,
    sum_text,
    sympy_function,
    torch_function,
)
from ndl.compiler.ops.rules import (
    Rule,
    common_domain,
    numeric,
    product_unit,
    promote,
    real,
    same_shape,
    same_unit,
    tensors,
)
from ndl.compiler.ops.table import Attributes, Op, TypeRuleError, register
from ndl.compiler.ops.text import (
    PRODUCT,
    call,
    infix,
    is_number,
)
from ndl.compiler.ops.text import method as dot
from ndl.compiler.ops.text import power as power_text
from ndl.compiler.types import Tensor, Type

if TYPE_CHECKING:
    from ndl.compiler.ir.graph import Graph, Node


def binary_rule(
    name: str, unit: str, *, least: str = "Bool", complex_ok: bool = True, result: str | None = None
) -> Rule:
    """`unit`: how units meet: same, product, quotient, none, unknown."""
    what = NOUNS[name]

    def rule(types: Sequence[Type], attributes: Attributes) -> Type:
        a, b = operands = tensors(types, what)
        numeric(operands, what) if complex_ok else real(operands, what)
        shape, on = same_shape(operands, what), common_domain(operands, what)
        units = None
        if unit == "same":
            units = same_unit(operands, what)
        elif unit in ("product", "quotient"):
            units = product_unit(a, b, 1 if unit == "product" else -1)
        elif unit == "exponent" and b.unit:
            raise TypeRuleError("an exponent has no unit", [1], code="NDL303")
        elif unit == "exponent" and a.unit == ():
            units = ()
        return Tensor(result or promote(operands, least), shape, on, None if result else units)

    return rule


def binary(
    name: str,
    rule: Rule,
    reference: Callable[..., Any],
    torch: Printer,
    vjp: Vjp,
    sympy: Callable[..., Any] | None,
    **more: Any,
) -> None:
    register(Op(name, rule, reference, torch, vjp, sympy, name, **more))


def pair(of: Callable[[Graph, Node, Node, Node, Node], Sequence[Node | None]]) -> Vjp:
    """A vjp from (graph, node, a, b, g) -> cotangents, made fit for their operands."""

    def vjp(graph: Graph, node: Node, operands: Sequence[Node], g: Node) -> list[Node | None]:
        a, b = operands
        return [fit(graph, c, x) for c, x in zip(of(graph, node, a, b, g), operands)]

    return vjp


def _div_reference(a: Any, b: Any) -> Any:
    whole = not (a.is_floating_point() or b.is_floating_point() or a.is_complex() or b.is_complex())
    return a.double() / b if whole else a / b


def _div_text(texts: Sequence[str], types: Sequence[Type], attributes: Attributes) -> str:
    whole = all(isinstance(t, Tensor) and t.kind == "Z" for t in types)
    left = texts[0] if not whole or is_number(texts[0]) else dot(texts[0], ".double()")
    return infix("/", left, texts[1], PRODUCT)


def _div_vjp(graph: Graph, node: Node, a: Node, b: Node, g: Node) -> list[Node | None]:
    left = op(graph, "div", g, conj(graph, b))
    right = op(graph, "neg", mul(graph, left, conj(graph, node))) if kind(b) in "RC" else None
    return [left, right]


def constant_of(graph: Graph, node: Node) -> float | None:
    """The number that a node repeats, when it is a constant."""
    while node.op in ("expand", "reshape"):
        node = graph.operands(node)[0]
    value = node.attr("value") if node.op == "const" else None
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _pow_vjp(graph: Graph, node: Node, a: Node, b: Node, g: Node) -> list[Node | None]:
    """b*a^(b-1), and a^b*log(a), which is 0 where a^b is (a = 0 < b)."""
    exponent = constant_of(graph, b)
    if exponent is not None:
        if exponent == 2:
            slope = scale(graph, 2.0, a)
        elif exponent == 1:
            slope = number(graph, 1.0, a)
        elif exponent == 0:
            return [None, None]
        else:
            slope = scale(graph, exponent, op(graph, "pow", a, number(graph, exponent - 1, a)))
        return [mul(graph, g, conj(graph, slope)), None]
    less = op(graph, "pow", a, op(graph, "sub", b, number(graph, 1, b)))
    base = mul(graph, g, conj(graph, mul(graph, b, less))) if kind(a) in "RC" else None
    logarithm = op(graph, "log", a)
    if kind(a) != "C":
        at_zero = op(graph, "eq", a, number(graph, 0, a))
        safe = op(graph, "select", at_zero, number(graph, 1, a), a)
        logarithm = op(graph, "log", safe)
    return [base, mul(graph, g, conj(graph, mul(graph, node, logarithm)))]


def _coarse_power_reference(x: Any, exponent: Any) -> Any:
    """A normal x > 0 by its exponent and a cubic in its mantissa, and back."""
    import torch
    from ndl.compiler.kernels.math.coarse import EXP2, LOG2

    half, whole = torch.frexp(x)
    m = 2 * half - 1
    y = exponent * (whole - 1 + m * (LOG2[0] + m * (LOG2[1] + m * LOG2[2])))
    f = y - y.round()
    return sum(c * f**k for k, c in enumerate(EXP2)) * 2 ** y.round()


def pow_text(texts: Sequence[str], types: Sequence[Type], attributes: Attributes) -> str:
    base, exponent = texts
    if is_number(base) and not is_number(exponent):
        return call("torch.pow", base, exponent)
    if exponent in ("0.5", "1/2"):
        return call("torch.sqrt", floating(base, types[0]))
    if exponent.endswith(".0") and exponent[:-2].lstrip("-").isdigit():
        base, exponent = floating(base, types[0]), exponent[:-2]
    elif all(isinstance(t, Tensor) and t.kind == "Z" for t in types):
        base = floating(base, types[0])
    return power_text(base, exponent)


def _pow_reference(a: Any, b: Any) -> Any:
    whole = not (a.is_floating_point() or b.is_floating_point() or a.is_complex() or b.is_complex())
    return a.double() ** b if whole else a**b


def _floordiv_vjp(graph: Graph, node: Node, a: Node, b: Node, g: Node) -> list[Node | None]:
    return [None, None]


def _mod_vjp(graph: Graph, node: Node, a: Node, b: Node, g: Node) -> list[Node | None]:
    """a mod b = a - floor(a/b)*b."""
    quotient = op(graph, "floordiv", a, b)
    return [g, op(graph, "neg", mul(graph, g, quotient))]


def _extremum_vjp(compare: str) -> Callable[[Graph, Node, Node, Node, Node], list[Node | None]]:
    """The cotangent goes to the larger (smaller) one, and in halves at a tie."""

    def of(graph: Graph, node: Node, a: Node, b: Node, g: Node) -> list[Node | None]:
        half = step(graph, op(graph, "eq", a, b), scale(graph, 0.5, g), number(graph, 0, g))
        first = step(graph, op(graph, compare, a, b), g, half)
        second = step(graph, op(graph, compare, b, a), g, half)
        return [first, second]

    return of


def _extremum_text(name: str, bound: str) -> Printer:
    def text(texts: Sequence[str], types: Sequence[Type], attributes: Attributes) -> str:
        left, right = texts
        if is_number(left) or is_number(right):
            return call(f"ops.{name}", left, right)
        return call(f"torch.{name}", left, right)

    return text


def _atan2_vjp(graph: Graph, node: Node, a: Node, b: Node, g: Node) -> list[Node | None]:
    square = op(graph, "add", mul(graph, a, a), mul(graph, b, b))
    ratio = op(graph, "div", g, square)
    return [mul(graph, ratio, b), op(graph, "neg", mul(graph, ratio, a))]


def _sympy_binary(function: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    return lambda a, b: function(a, b)


binary(
    "add",
    binary_rule("add", "same"),
    torch_function("add"),
    lambda texts, types, a: sum_text(texts),
    pair(lambda G, y, a, b, g: [g, g]),
    _sympy_binary(lambda a, b: a + b),
    linear=(0, 1),
)


binary(
    "sub",
    binary_rule("sub", "same"),
    torch_function("sub"),
    lambda texts, types, a: difference(texts[0], texts[1]),
    pair(lambda G, y, a, b, g: [g, op(G, "neg", g)]),
    _sympy_binary(lambda a, b: a - b),
    linear=(0, 1),
)
binary(
    "mul",
    binary_rule("mul", "product"),
    torch_function("mul"),
    lambda texts, types, a: infix("*", texts[0], texts[1], PRODUCT),
    pair(lambda G, y, a, b, g: [mul(G, g, conj(G, b)), mul(G, g, conj(G, a))]),
    _sympy_binary(lambda a, b: a * b),
    multilinear=True,
)
binary(
    "div",
    binary_rule("div", "quotient", least="R"),
    _div_reference,
    _div_text,
    pair(_div_vjp),
    _sympy_binary(lambda a, b: a / b),
    linear=(0,),
)
binary(
    "pow",
    binary_rule("pow", "exponent", least="R"),
    _pow_reference,
    pow_text,
    pair(_pow_vjp),
    _sympy_binary(lambda a, b: a**b),
)
register(
    Op(
        "coarse_power",
        binary_rule("pow", "exponent", least="R", complex_ok=False),
        _coarse_power_reference,
        lambda texts, types, a: call("ops.coarse_power", *texts),
        scalar="coarse_power",
    )
)
binary(
    "floordiv",
    binary_rule("floordiv", "quotient", complex_ok=False),
    lambda a, b: __import__("torch").floor_divide(a, b),
    lambda texts, types, a: infix("//", texts[0], texts[1], PRODUCT),
    pair(_floordiv_vjp),
    _sympy_binary(lambda a, b: sympy_function("floor")(a / b)),
    breaks=True,
)
binary(
    "mod",
    binary_rule("mod", "same", complex_ok=False),
    torch_function("remainder"),
    lambda texts, types, a: infix("%", texts[0], texts[1], PRODUCT),
    pair(_mod_vjp),
    sympy_function("Mod"),
    breaks=True,
)
for _name, _compare, _bound, _image in (
    ("maximum", "gt", "min", "Max"),
    ("minimum", "lt", "max", "Min"),
):
    binary(
        _name,
        binary_rule(_name, "same", complex_ok=False),
        torch_function(_name),
        _extremum_text(_name, _bound),
        pair(_extremum_vjp(_compare)),
        sympy_function(_image),
        breaks=True,
    )
binary(
    "atan2",
    binary_rule("atan2", "none", least="R", complex_ok=False),
    real_function("atan2"),
    lambda texts, types, a: call(
        "ops.atan2" if any(map(is_number, texts)) else "torch.atan2",
        *(floating(x, t) if not is_number(x) else x for x, t in zip(texts, types)),
    ),
    pair(_atan2_vjp),
    sympy_function("atan2"),
)
