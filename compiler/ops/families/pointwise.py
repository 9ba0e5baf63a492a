"""What the elementwise families share: references, texts and derivative rules made from names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ndl.compiler.ops.adjoint import conj, fit, kind, mul, op
from ndl.compiler.ops.table import Attributes
from ndl.compiler.ops.text import (
    NEGATIVE,
    PRODUCT,
    SUM,
    Text,
    call,
    infix,
    level,
    prefix,
)
from ndl.compiler.ops.text import method as dot
from ndl.compiler.types import Tensor, Type

if TYPE_CHECKING:
    from ndl.compiler.ir.graph import Graph, Node

Printer = Callable[[Sequence[str], Sequence[Type], Attributes], str]
Vjp = Callable[["Graph", "Node", Sequence["Node"], "Node"], Sequence["Node | None"]]

NOUNS = {
    "add": "an addition",
    "sub": "a subtraction",
    "mul": "a product",
    "div": "a quotient",
    "pow": "a power",
    "floordiv": "an integer division",
    "mod": "a remainder",
    "maximum": "a maximum",
    "minimum": "a minimum",
    "atan2": "an angle",
    "lt": "a comparison",
    "le": "a comparison",
    "gt": "a comparison",
    "ge": "a comparison",
    "eq": "a comparison",
    "ne": "a comparison",
    "and": "a logical `and`",
    "or": "a logical `or`",
    "select": "the branches of a conditional",
}
"""How a message speaks of an op: `shapes differ in an addition`."""


def torch_function(name: str) -> Callable[..., Any]:
    """A reference that is one torch function, looked up when it runs. Integers become real."""

    def reference(*operands: Any, **attributes: Any) -> Any:
        import torch

        function: Any = torch
        for part in name.split("."):
            function = getattr(function, part)
        return function(*operands)

    return reference


def real_function(name: str) -> Callable[..., Any]:
    """As `torch_function`, for functions whose value at an integer is real."""
    plain = torch_function(name)

    def reference(*operands: Any, **attributes: Any) -> Any:
        return plain(*(x if x.is_floating_point() or x.is_complex() else x.double() for x in operands))

    return reference


def sympy_function(name: str) -> Callable[..., Any]:
    def image(*operands: Any, **attributes: Any) -> Any:
        import sympy

        return getattr(sympy, name)(*operands)

    return image


def chain(derivative: Callable[[Graph, Node, Node], Node]) -> Vjp:
    """The rule of f(x) from a builder (graph, node, x) -> f'(x)."""

    def vjp(graph: Graph, node: Node, operands: Sequence[Node], g: Node) -> list[Node | None]:
        (x,) = operands
        if kind(x) in ("Z", "Bool"):
            return [None]
        return [fit(graph, mul(graph, g, conj(graph, derivative(graph, node, x))), x)]

    return vjp


def flat(graph: Graph, node: Node, operands: Sequence[Node], g: Node) -> list[Node | None]:
    """No dependence: piecewise constant, or cut on purpose."""
    return [None for _ in operands]


def floating(text: str, type_: Type) -> str:
    """An integer tensor as a real one, so that torch does not fall back to its default precision."""
    return dot(text, ".double()") if isinstance(type_, Tensor) and type_.kind == "Z" else text


def function_text(name: str) -> Printer:
    return lambda texts, types, a: call(name, floating(texts[0], types[0]))


def step(graph: Graph, condition: Node, then: Node, orelse: Node) -> Node:
    return op(graph, "select", condition, then, orelse)


def sum_text(texts: Sequence[str]) -> str:
    left, right = texts
    positive = unsigned(right)
    return infix("+", left, right, SUM) if positive is None else infix("-", left, positive, SUM)


def difference(left: str, right: str) -> str:
    """`left - right`; a minus sign in front of the right side turns into a plus."""
    positive = unsigned(right)
    return infix("-", left, right, SUM) if positive is None else infix("+", left, positive, SUM)


def unsigned(text: str) -> str | None:
    """A product or number without its leading minus sign, None if it has none. Signs are exact."""
    if not text.startswith("-") or level(text) not in (PRODUCT, NEGATIVE):
        return None
    return Text(text[1:], PRODUCT)


def negative(text: str) -> str:
    """`-a*b` for the negative of a product: (-a)*b is the same number."""
    plain = level(text) == PRODUCT and not any(s in text for s in ("//", "%", "@"))
    if plain and not text.startswith("-"):
        return Text(f"-{text}", PRODUCT)
    return prefix("-", text)
