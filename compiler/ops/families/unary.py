"""Functions of one number, at each place of a tensor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from ndl.compiler.ops.adjoint import fit, mul, number, op, scale
from ndl.compiler.ops.families.pointwise import (
    Printer,
    chain,
    flat,
    floating,
    function_text,
    negative,
    real_function,
    step,
    sympy_function,
    torch_function,
)
from ndl.compiler.ops.rules import (
    Rule,
    numeric,
    promote,
    real,
    root_unit,
    tensors,
)
from ndl.compiler.ops.table import Attributes, Op, TypeRuleError, register
from ndl.compiler.ops.text import (
    call,
)
from ndl.compiler.ops.text import method as dot
from ndl.compiler.types import Tensor, Type

if TYPE_CHECKING:
    from ndl.compiler.ir.graph import Graph, Node


def unary_rule(
    what: str, *, keep_kind: bool, keep_unit: bool, complex_ok: bool, power: Fraction | None = None
) -> Rule:
    def rule(types: Sequence[Type], attributes: Attributes) -> Type:
        (x,) = tensors(types, what)
        numeric([x], what) if complex_ok else real([x], what)
        unit = x.unit if keep_unit else root_unit(x.unit, power) if power is not None else None
        if not keep_unit and power is None and x.unit:
            raise TypeRuleError(
                f"{what} needs a number without a unit, and this has `{Tensor(unit=x.unit)}`",
                [0],
                "divide by a reference value",
                code="NDL303",
            )
        return Tensor(x.kind if keep_kind else promote([x], "R"), x.shape, x.on, unit)

    return rule


def unary(
    name: str,
    derivative: Callable[[Graph, Node, Node], Node] | None,
    *,
    torch: str | None = None,
    printer: Printer | None = None,
    reference: Callable[..., Any] | None = None,
    sympy: Callable[..., Any] | None = None,
    keep_kind: bool = False,
    keep_unit: bool = False,
    complex_ok: bool = False,
    power: Fraction | None = None,
    linear: bool = False,
    breaks: bool = False,
) -> None:
    source = torch or f"torch.{name}"
    plain = source.removeprefix("torch.")
    register(
        Op(
            name,
            unary_rule(
                f"`{name}`", keep_kind=keep_kind, keep_unit=keep_unit, complex_ok=complex_ok, power=power
            ),
            reference or (torch_function(plain) if keep_kind else real_function(plain)),
            printer
            or ((lambda texts, types, a: call(source, texts[0])) if keep_kind else function_text(source)),
            vjp=chain(derivative) if derivative else flat,
            sympy=sympy,
            scalar=name,
            linear=(0,) if linear else (),
            breaks=breaks,
        )
    )


def one_minus_square(graph: Graph, y: Node) -> Node:
    return op(graph, "sub", number(graph, 1, y), mul(graph, y, y))


def one_plus_square(graph: Graph, y: Node) -> Node:
    return op(graph, "add", number(graph, 1, y), mul(graph, y, y))


def reciprocal(graph: Graph, y: Node) -> Node:
    return op(graph, "div", number(graph, 1, y), y)


def positive(graph: Graph, x: Node) -> Node:
    return op(graph, "gt", x, number(graph, 0, x))


register(
    Op(
        "neg",
        unary_rule("a minus sign", keep_kind=True, keep_unit=True, complex_ok=True),
        torch_function("neg"),
        lambda texts, types, a: negative(texts[0]),
        vjp=lambda graph, node, operands, g: [fit(graph, op(graph, "neg", g), operands[0])],
        sympy=lambda x: -x,
        scalar="neg",
        linear=(0,),
    )
)
unary("exp", lambda G, y, x: y, sympy=sympy_function("exp"), complex_ok=True)
unary("log", lambda G, y, x: reciprocal(G, x), sympy=sympy_function("log"), complex_ok=True)
unary(
    "sqrt",
    lambda G, y, x: op(G, "div", number(G, 0.5, y), y),
    sympy=sympy_function("sqrt"),
    complex_ok=True,
    power=Fraction(1, 2),
)
unary("sin", lambda G, y, x: op(G, "cos", x), sympy=sympy_function("sin"), complex_ok=True)
unary("cos", lambda G, y, x: op(G, "neg", op(G, "sin", x)), sympy=sympy_function("cos"), complex_ok=True)
unary("tan", lambda G, y, x: one_plus_square(G, y), sympy=sympy_function("tan"), complex_ok=True)
unary(
    "asin",
    lambda G, y, x: reciprocal(G, op(G, "sqrt", one_minus_square(G, x))),
    sympy=sympy_function("asin"),
    complex_ok=True,
)
unary(
    "acos",
    lambda G, y, x: op(G, "neg", reciprocal(G, op(G, "sqrt", one_minus_square(G, x)))),
    sympy=sympy_function("acos"),
    complex_ok=True,
)
unary(
    "atan",
    lambda G, y, x: reciprocal(G, one_plus_square(G, x)),
    sympy=sympy_function("atan"),
    complex_ok=True,
)
unary("sinh", lambda G, y, x: op(G, "cosh", x), sympy=sympy_function("sinh"), complex_ok=True)
unary("cosh", lambda G, y, x: op(G, "sinh", x), sympy=sympy_function("cosh"), complex_ok=True)
unary("tanh", lambda G, y, x: one_minus_square(G, y), sympy=sympy_function("tanh"), complex_ok=True)


def _sigmoid_slope(graph: Graph, y: Node) -> Node:
    return mul(graph, y, op(graph, "sub", number(graph, 1, y), y))


def _sympy_sigmoid(x: Any) -> Any:
    import sympy

    return 1 / (1 + sympy.exp(-x))


def _sympy_relu(x: Any) -> Any:
    import sympy

    return sympy.Max(0, x)


def _sympy_gelu(x: Any) -> Any:
    import sympy

    return x * (1 + sympy.erf(x / sympy.sqrt(2))) / 2


def _sympy_softplus(x: Any) -> Any:
    import sympy

    return sympy.log(1 + sympy.exp(x))


def _sympy_elu(x: Any) -> Any:
    import sympy

    return sympy.Piecewise((x, x > 0), (sympy.exp(x) - 1, True))


def _gelu_slope(graph: Graph, y: Node, x: Node) -> Node:
    """Phi(x) + x*phi(x), of the standard normal."""
    inner = op(graph, "erf", scale(graph, 0.5**0.5, x))
    cumulative = scale(graph, 0.5, op(graph, "add", number(graph, 1, x), inner))
    density = scale(graph, 0.3989422804014327, op(graph, "exp", scale(graph, -0.5, mul(graph, x, x))))
    return op(graph, "add", cumulative, mul(graph, x, density))


def _silu_slope(graph: Graph, y: Node, x: Node) -> Node:
    s = op(graph, "sigmoid", x)
    return op(graph, "add", s, mul(graph, y, op(graph, "sub", number(graph, 1, s), s)))


def _softplus_reference(x: Any) -> Any:
    import torch

    return torch.logaddexp(x.double(), torch.zeros((), dtype=torch.float64))


unary("sigmoid", lambda G, y, x: _sigmoid_slope(G, y), sympy=_sympy_sigmoid)
unary(
    "relu",
    lambda G, y, x: step(G, positive(G, x), number(G, 1, x), number(G, 0, x)),
    sympy=_sympy_relu,
    keep_kind=True,
    keep_unit=True,
    breaks=True,
)
unary("gelu", _gelu_slope, torch="torch.nn.functional.gelu", sympy=_sympy_gelu)
unary("silu", _silu_slope, torch="torch.nn.functional.silu", sympy=lambda x: x * _sympy_sigmoid(x))
unary(
    "softplus",
    lambda G, y, x: op(G, "sigmoid", x),
    # torch's own threshold of 20 costs 2e-9; beyond 40 the identity is exact in double precision
    printer=lambda texts, types, a: call(
        "torch.nn.functional.softplus", floating(texts[0], types[0]), "threshold=40.0"
    ),
    reference=_softplus_reference,
    sympy=_sympy_softplus,
)
unary(
    "elu",
    lambda G, y, x: step(G, positive(G, x), number(G, 1, x), op(G, "add", y, number(G, 1, y))),
    torch="torch.nn.functional.elu",
    sympy=_sympy_elu,
)
unary("sign", None, sympy=sympy_function("sign"), keep_kind=True, power=Fraction(0), breaks=True)
unary("floor", None, sympy=sympy_function("floor"), keep_kind=True, keep_unit=True, breaks=True)
unary("ceil", None, sympy=sympy_function("ceiling"), keep_kind=True, keep_unit=True, breaks=True)
unary("round", None, keep_kind=True, keep_unit=True, breaks=True)
unary(
    "erf",
    lambda G, y, x: scale(G, 1.1283791670955126, op(G, "exp", op(G, "neg", mul(G, x, x)))),
    torch="torch.special.erf",
    sympy=sympy_function("erf"),
)
unary(
    "log1p",
    lambda G, y, x: reciprocal(G, op(G, "add", number(G, 1, x), x)),
    sympy=lambda x: sympy_function("log")(1 + x),
    complex_ok=True,
)
unary(
    "expm1",
    lambda G, y, x: op(G, "add", y, number(G, 1, y)),
    sympy=lambda x: sympy_function("exp")(x) - 1,
    complex_ok=True,
)
register(
    Op(
        "lgamma",
        unary_rule("`lgamma`", keep_kind=False, keep_unit=False, complex_ok=False),
        real_function("lgamma"),
        function_text("torch.lgamma"),
        vjp=chain(lambda G, y, x: op(G, "digamma", x)),
        sympy=sympy_function("loggamma"),
        scalar="lgamma",
    )
)


def _digamma_slope(graph: Graph, y: Node, x: Node) -> Node:
    return op(graph, "trigamma", x)


def _trigamma_reference(x: Any) -> Any:
    """The Hurwitz zeta function at 2; the reflection formula for negative x."""
    import math

    import torch

    x = x.double()
    mirrored = (math.pi / torch.sin(math.pi * x)) ** 2 - torch.special.zeta(2.0, 1 - x)
    return torch.where(x > 0, torch.special.zeta(2.0, x), mirrored)


unary("digamma", _digamma_slope, sympy=sympy_function("digamma"))
register(
    Op(
        "trigamma",
        unary_rule("`trigamma`", keep_kind=False, keep_unit=False, complex_ok=False),
        _trigamma_reference,
        function_text("ops.trigamma"),
        sympy=sympy_function("trigamma"),
        scalar="trigamma",
    )
)


def _identity_rule(types: Sequence[Type], attributes: Attributes) -> Type:
    (x,) = tensors(types, "`stop_gradient`")
    return x


register(
    Op(
        "stop_gradient",
        _identity_rule,
        lambda x: x.detach(),
        lambda texts, types, a: dot(texts[0], ".detach()"),
        vjp=flat,
        scalar="identity",
    )
)
