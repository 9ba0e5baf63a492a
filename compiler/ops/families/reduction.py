"""Reductions over axes of one sample, and operations along an axis that keep it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ndl.compiler.ops.adjoint import conj, fit, mul, number, op, over, plain, scale, spread
from ndl.compiler.ops.adjoint import shape as shape_of
from ndl.compiler.ops.rules import Rule, axes_of, axis_of, numeric, promote, real, size, tensors, truth
from ndl.compiler.ops.table import Attributes, Op, TypeRuleError, register
from ndl.compiler.ops.text import items
from ndl.compiler.ops.text import method as dot
from ndl.compiler.types import Tensor, Type

if TYPE_CHECKING:
    from ndl.compiler.ir.graph import Graph, Node

Cotangents = list["Node | None"]


def reduction_rule(name: str, *, least: str, ordered: bool = False, keep_unit: bool = True) -> Rule:
    what = f"`{name}`"

    def rule(types: Sequence[Type], attributes: Attributes) -> Type:
        (x,) = tensors(types, what)
        real([x], what) if ordered else numeric([x], what)
        axes = axes_of(attributes, x.rank, what)
        shape = tuple(n for i, n in enumerate(x.shape) if i not in axes)
        return Tensor(promote([x], least), shape, x.on, x.unit if keep_unit else None)

    return rule


def node_axes(node: Node, x: Node) -> tuple[int, ...]:
    return axes_of(dict(node.attrs), len(shape_of(x)), node.op)


def negative(types: Sequence[Type], attributes: Attributes) -> list[int]:
    """The axes counted from the end, as they are under a batch."""
    x = types[0]
    assert isinstance(x, Tensor)
    return [a - x.rank for a in axes_of(attributes, x.rank, "a reduction")]


def reduction_text(name: str) -> Callable[[Sequence[str], Sequence[Type], Attributes], str]:
    def text(texts: Sequence[str], types: Sequence[Type], attributes: Attributes) -> str:
        axes = negative(types, attributes)
        if not axes:
            return texts[0]
        where = str(axes[0]) if len(axes) == 1 else items([str(a) for a in axes])
        return dot(texts[0], f".{name}({where})")

    return text


def reduction_reference(name: str) -> Callable[..., Any]:
    def reference(x: Any, axes: Any = None) -> Any:
        chosen = tuple(range(x.ndim)) if axes is None else tuple(axes)
        return getattr(x, name)(chosen) if chosen else x

    return reference


def back(graph: Graph, node: Node, x: Node, value: Node) -> Node:
    """A value of the reduced shape repeated along the reduced axes."""
    rank = len(shape_of(x))
    return spread(graph, value, shape_of(x), over(node_axes(node, x), rank))


def _sum_vjp(graph: Graph, node: Node, operands: Sequence[Node], g: Node) -> Cotangents:
    return [fit(graph, back(graph, node, operands[0], g), operands[0])]


register(
    Op(
        "sum",
        reduction_rule("sum", least="Z"),
        reduction_reference("sum"),
        reduction_text("sum"),
        _sum_vjp,
        linear=(0,),
    )
)


def _mean_reference(x: Any, axes: Any = None) -> Any:
    wide = x if x.is_floating_point() or x.is_complex() else x.double()
    chosen = tuple(range(x.ndim)) if axes is None else tuple(axes)
    return wide.mean(chosen) if chosen else wide


def _mean_text(texts: Sequence[str], types: Sequence[Type], attributes: Attributes) -> str:
    x = types[0]
    whole = isinstance(x, Tensor) and x.kind == "Z"
    return reduction_text("mean")([dot(texts[0], ".double()")] if whole else texts, types, attributes)


def _mean_vjp(graph: Graph, node: Node, operands: Sequence[Node], g: Node) -> Cotangents:
    (x,) = operands
    count = size([shape_of(x)[a] for a in node_axes(node, x)]).constant
    if count is None:
        raise TypeRuleError("the derivative of a mean over an unknown number of entries")
    return [fit(graph, back(graph, node, x, scale(graph, 1 / max(count, 1), g)), x)]


register(Op("mean", reduction_rule("mean", least="R"), _mean_reference, _mean_text, _mean_vjp, linear=(0,)))


def _prod_reference(x: Any, axes: Any = None) -> Any:
    chosen = tuple(range(x.ndim)) if axes is None else tuple(axes)
    for axis in sorted(chosen, reverse=True):
        x = x.prod(axis)
    return x


def _prod_text(texts: Sequence[str], types: Sequence[Type], attributes: Attributes) -> str:
    text = texts[0]
    for i, a in enumerate(negative(types, attributes)):
        text = dot(text, f".prod({a + i})" if a + i < 0 else ".prod(-1)")
    return text


def _prod_vjp(graph: Graph, node: Node, operands: Sequence[Node], g: Node) -> Cotangents:
    """The product of the other factors for each factor, without dividing (a factor may be 0):
    products of what stands before and after it, along one merged axis."""
    (x,) = operands
    axes, rank = node_axes(node, x), len(shape_of(x))
    if not axes:
        return [fit(graph, g, x)]
    kept = over(axes, rank)
    moved = op(graph, "permute", x, axes=(*kept, *axes))
    count = size([shape_of(x)[a] for a in axes]).constant or 0
    outer = tuple(plain(shape_of(x)[a]) for a in kept)
    flat = op(graph, "reshape", moved, shape=(*outer, count))
    last = len(outer)
    factors = []
    for i in range(count):
        pieces = [
            op(graph, "slice", flat, axis=last, start=low, stop=high)
            for low, high in ((0, i), (i + 1, count))
            if high > low
        ]
        others: Node | None = None
        for piece in pieces:
            value = op(graph, "prod", piece, axes=(last,))
            others = value if others is None else mul(graph, others, value)
        factors.append(number(graph, 1.0, g) if others is None else others)
    rest = conj(graph, graph.add("stack", factors, axis=last))
    full = mul(graph, spread(graph, g, (*outer, count), tuple(range(last))), rest)
    shaped = op(graph, "reshape", full, shape=(*outer, *(plain(shape_of(x)[a]) for a in axes)))
    order = (*kept, *axes)
    return [fit(graph, op(graph, "permute", shaped, axes=tuple(order.index(i) for i in range(rank))), x)]


register(
    Op("prod", reduction_rule("prod", least="Z", keep_unit=False), _prod_reference, _prod_text, _prod_vjp)
)


def _extreme_vjp(graph: Graph, node: Node, operands: Sequence[Node], g: Node) -> Cotangents:
    """The cotangent is shared evenly among the entries that attain the extremum."""
    (x,) = operands
    hit = op(graph, "eq", x, back(graph, node, x, node))
    share = op(graph, "select", hit, number(graph, 1, x), number(graph, 0, x))
    count = op(graph, "sum", share, axes=node_axes(node, x))
    each = op(graph, "div", g, count)
    return [fit(graph, mul(graph, share, back(graph, node, x, each)), x)]


for _name in ("amax", "amin"):
    register(
        Op(
            _name,
            reduction_rule(_name.removeprefix("a"), least="Z", ordered=True),
            reduction_reference(_name),
            reduction_text(_name),
            _extreme_vjp,
            breaks=True,
        )
    )


def _truth_rule(name: str) -> Rule:
    def rule(types: Sequence[Type], attributes: Attributes) -> Type:
        (x,) = tensors(types, f"`{name}`")
        truth([x], f"`{name}`")
        axes = axes_of(attributes, x.rank, f"`{name}`")
        return Tensor("Bool", tuple(n for i, n in enumerate(x.shape) if i not in axes), x.on)

    return rule


for _name in ("all", "any"):
    register(
        Op(
            _name,
            _truth_rule(_name),
            reduction_reference(_name),
            reduction_text(_name),
            lambda graph, node, operands, g: [None],
            breaks=True,
        )
    )

# ---------------------------------------------------------------- along an axis


def _along_rule(name: str, kind: str | None, keep: bool, ordered: bool = True) -> Rule:
    what = f"`{name}`"

    def rule(types: Sequence[Type], attributes: Attributes) -> Type:
        (x,) = tensors(types, what)
        real([x], what) if ordered else numeric([x], what)
        axis = axis_of(attributes, x.rank, what)
        shape = x.shape if keep else x.shape[:axis] + x.shape[axis + 1 :]
        unit = x.unit if name == "cumsum" else None
        return Tensor(kind or x.kind, shape, x.on, unit)

    return rule


def _along_text(function: str) -> Callable[[Sequence[str], Sequence[Type], Attributes], str]:
    def text(texts: Sequence[str], types: Sequence[Type], attributes: Attributes) -> str:
        x = types[0]
        assert isinstance(x, Tensor)
        return dot(texts[0], f".{function}({attributes['axis'] % x.rank - x.rank})")

    return text


def _softmax_vjp(graph: Graph, node: Node, operands: Sequence[Node], g: Node) -> Cotangents:
    """y*(g - sum(g*y))."""
    rank = len(shape_of(node))
    axis = node.attr("axis") % rank
    weighted = op(graph, "sum", mul(graph, g, node), axes=(axis,))
    centred = op(graph, "sub", g, spread(graph, weighted, shape_of(node), over((axis,), rank)))
    return [fit(graph, mul(graph, node, centred), operands[0])]


def _cumsum_vjp(graph: Graph, node: Node, operands: Sequence[Node], g: Node) -> Cotangents:
    """The sum of the cotangents from each place to the end: total - cumsum + g."""
    rank = len(shape_of(node))
    axis = node.attr("axis") % rank
    total = spread(graph, op(graph, "sum", g, axes=(axis,)), shape_of(node), over((axis,), rank))
    after = op(graph, "sub", total, op(graph, "cumsum", g, axis=axis))
    return [fit(graph, op(graph, "add", after, g), operands[0])]


register(
    Op(
        "softmax",
        _along_rule("softmax", "R", True),
        lambda x, axis: x.double().softmax(axis),
        _along_text("softmax"),
        _softmax_vjp,
    )
)
register(
    Op(
        "cumsum",
        _along_rule("cumsum", None, True, ordered=False),
        lambda x, axis: x.cumsum(axis),
        _along_text("cumsum"),
        _cumsum_vjp,
        linear=(0,),
    )
)
for _name in ("argmax", "argmin"):
    register(
        Op(
            _name,
            _along_rule(_name, "Z", False),
            lambda x, axis, n=_name: getattr(x, n)(axis),
            _along_text(_name),
            lambda graph, node, operands, g: [None],
            breaks=True,
        )
    )
