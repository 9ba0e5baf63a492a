"""Functions of linear maps that are known by products with vectors.

map_function        (v, s, weights, free, *captured): f(A) v for the map A that `function` computes from
                    (v, *captured), as an array of the shape of v; `back` is its plain transpose. `kind` is
                    `exp`, `inverse` or `^`, the power s. `weights` are those of the inner product (or `mesh`
                    has the mass matrix), `free` is 1 where no condition gives the value. `turned`: the plain
                    transpose of f(A). `extra` axes of v come last and are carried along.
map_function_back   (g, *operands): the cotangent of operand `at`
map_function_along  (*operands, dots of v and of what is captured): the derivative along these
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ndl.compiler.ops.adjoint import fit, kind, zeros
from ndl.compiler.ops.adjoint import shape as shape_of
from ndl.compiler.ops.rules import tensors
from ndl.compiler.ops.table import Attributes, Op, TypeRuleError, register
from ndl.compiler.ops.text import call, items
from ndl.compiler.types import Dim, Tensor, Type

if TYPE_CHECKING:
    from ndl.compiler.ir.graph import Graph, Node

FIRST = 4
"""Operands in front of what is captured."""


def _captured(a: Attributes) -> int:
    return len(a["function"].inputs) - 1


def _rule(types: Sequence[Type], a: Attributes) -> Type:
    v, s, weights, free, *captured = tensors(types, "a function of a map")
    extra = a.get("extra", 0)
    inner = v.shape[: len(v.shape) - extra]
    if v.kind != "R" or s.rank or weights.shape != inner or free.shape != inner:
        raise TypeRuleError(f"a function of a map of {weights} is given {v}", [0])
    for given, needed in zip(captured, a["function"].inputs[1:], strict=True):
        if given.shape != needed.type.shape:
            raise TypeRuleError(f"a map that depends on {needed.type} is given {given}", [0])
    return Tensor("R", v.shape)


def _back_rule(types: Sequence[Type], a: Attributes) -> Type:
    x = types[1 + a["at"]]
    assert isinstance(x, Tensor)
    return Tensor("R", x.shape)


def _along_rule(types: Sequence[Type], a: Attributes) -> Type:
    v, dot = types[0], types[FIRST + _captured(a)]
    assert isinstance(v, Tensor) and isinstance(dot, Tensor)
    return Tensor("R", dot.shape)


def _formula(a: Attributes, along: Any, back: Any) -> Any:
    """What the runtime is told, with the two functions as callables of (v, *captured)."""
    from ndl.runtime.traced_maps import Formula

    return Formula(along, back, *_said(a))


def _said(a: Attributes) -> tuple[Any, ...]:
    first, *captured = (n.type for n in a["function"].inputs)
    ranks = tuple(len(t.shape) for t in captured)
    return (a["kind"], len(first.shape), ranks, a.get("mesh", ""), a.get("turned", False))


def _called(function: Any) -> Callable[..., Any]:
    from ndl.compiler.ir.interpret import interpret

    names = [n.attr("name") for n in function.inputs]

    def image(v: Any, *captured: Any) -> Any:
        if v.ndim == len(function.inputs[0].type.shape):
            return next(iter(interpret(function, dict(zip(names, (v, *captured)))).values()))
        import torch

        return torch.stack([image(row, *captured) for row in v])

    return image


def _reference(v: Any, s: Any, weights: Any, free: Any, *captured: Any, **a: Any) -> Any:
    from ndl.runtime.traced_maps import map_function

    formula = _formula(a, _called(a["function"]), _called(a["back"]))
    return map_function(formula, v, s, weights, free, captured, a.get("extra", 0))


def _back_reference(g: Any, v: Any, s: Any, weights: Any, free: Any, *captured: Any, **a: Any) -> Any:
    from ndl.runtime.traced_maps import map_function_back

    formula = _formula(a, _called(a["function"]), _called(a["back"]))
    return map_function_back(g, formula, _place(a["at"]), v, s, weights, free, captured)


def _along_reference(v: Any, s: Any, weights: Any, free: Any, *rest: Any, **a: Any) -> Any:
    from ndl.runtime.traced_maps import map_function_along

    formula, n = _formula(a, _called(a["function"]), _called(a["back"])), _captured(a)
    return map_function_along(formula, v, s, weights, free, rest[:n], rest[n:], a.get("extra", 0))


def _texts(name: str) -> Any:
    """The printer of modules prints both functions and gives their names: `along`, `backward`."""

    def text(texts: Sequence[str], types: Sequence[Type], a: Attributes) -> str:
        made = call("ops.Formula", a["along"], a["backward"], *map(repr, _said(a)))
        n = _captured(a)
        rest = list(texts[name == "map_function_back" :])
        given = [*rest[:FIRST], items(rest[FIRST : FIRST + n])]
        if name == "map_function_along":
            given.append(items(rest[FIRST + n :]))
        if name == "map_function_back":
            return call(f"ops.{name}", texts[0], made, str(_place(a["at"])), *given)
        more = [str(a["extra"])] if a.get("extra") else []
        return call(f"ops.{name}", made, *given, *more)

    return text


def _place(at: int) -> int:
    """The place of an operand among v, s and what is captured."""
    return at if at < 2 else at - 2


def _vjp(graph: Graph, node: Node, operands: Sequence[Node], g: Node) -> list[Node | None]:
    attrs = dict(node.attrs)
    turned = {**attrs, "turned": not attrs.get("turned", False)}
    found: list[Node | None] = [graph.add("map_function", [g, *operands[1:]], **turned)]
    if attrs.get("extra"):
        return [*found, *[None] * (len(operands) - 1)]
    for k, x in enumerate(operands[1:], 1):
        moving = kind(x) == "R" and k not in (2, 3) and not (k == 1 and attrs["kind"] != "^")
        found.append(graph.add("map_function_back", [g, *operands], at=k, **attrs) if moving else None)
    return [fit(graph, c, x) for c, x in zip(found, operands)]


def tangent(
    graph: Graph, node: Node, operands: Sequence[Node], dots: Sequence[Node | None], extra: tuple[Dim, ...]
) -> Node | None:
    """The derivative along tangents with `extra` axes behind."""
    attrs = dict(node.attrs)
    attrs["extra"] = attrs.get("extra", 0) + len(extra)
    v, captured = dots[0], dots[FIRST:]
    if not any(d is not None for d in captured):
        return None if v is None else graph.add("map_function", [v, *operands[1:]], **attrs)
    whole = [
        zeros(graph, shape_of(o) + extra) if d is None else d
        for o, d in zip([operands[0], *operands[FIRST:]], [v, *captured])
    ]
    return graph.add("map_function_along", [*operands, *whole], **attrs)


register(Op("map_function", _rule, _reference, _texts("map_function"), vjp=_vjp, linear=(0,)))
register(Op("map_function_back", _back_rule, _back_reference, _texts("map_function_back")))
register(Op("map_function_along", _along_rule, _along_reference, _texts("map_function_along")))

__all__ = ["tangent"]
