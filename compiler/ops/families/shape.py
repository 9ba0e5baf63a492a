"""Shape: the same numbers at other places. Axes are those of one sample, counted from 0."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ndl.compiler.ops.adjoint import extents, fit, op, plain, spread, zeros
from ndl.compiler.ops.adjoint import shape as shape_of
from ndl.compiler.ops.rules import axis_of, common_domain, dims, promote, same_shape, same_unit, size, tensors
from ndl.compiler.ops.table import Attributes, Op, TypeRuleError, register
from ndl.compiler.ops.text import call, items
from ndl.compiler.ops.text import method as dot
from ndl.compiler.types import Dim, Tensor, Type

if TYPE_CHECKING:
    from ndl.compiler.ir.graph import Graph, Node

Cotangents = list["Node | None"]
ALL = tuple(range(1024))
"""Every operand of an op with any number of them."""


def rank(type_: Type) -> int:
    return type_.rank if isinstance(type_, Tensor) else 0


def ints(shape: Sequence[Any]) -> tuple[int, ...]:
    """Dimensions as integers; only for programs whose dimensions are bound."""
    return Tensor("R", dims(shape)).extents


# ---------------------------------------------------------------- expand


def _expand_rule(types: Sequence[Type], attributes: Attributes) -> Type:
    (x,) = tensors(types, "a repetition")
    target, axes = dims(attributes["shape"]), tuple(attributes["axes"])
    if len(axes) != x.rank or list(axes) != sorted(set(axes)) or any(a >= len(target) for a in axes):
        raise TypeRuleError(f"{x} does not fit at axes {list(axes)} of {Tensor('R', target)}", [0])
    if any(target[a] != n for a, n in zip(axes, x.shape)):
        raise TypeRuleError(f"{x} cannot be repeated to {Tensor('R', target)}", [0])
    return x.with_shape(target)


def _expand_reference(x: Any, shape: Any, axes: Any) -> Any:
    placed = [1] * len(shape)
    for axis, n in zip(axes, x.shape):
        placed[axis] = n
    return x.reshape(placed).expand(ints(shape)).clone()


def lazy_expand(text: str, axes: Sequence[int], target_rank: int) -> str:
    """The operand with axes of extent 1 where it is repeated: enough for elementwise use."""
    if not target_rank:
        return text
    new = [":" if i in axes else "None" for i in range(target_rank)]
    return dot(text, f"[..., {', '.join(new)}]") if "None" in new else text


def _expand_text(texts: Sequence[str], types: Sequence[Type], attributes: Attributes) -> str:
    placed = lazy_expand(texts[0], attributes["axes"], len(attributes["shape"]))
    return call("ops.expand", placed, items([str(n) for n in ints(attributes["shape"])]))


def _expand_vjp(graph: Graph, node: Node, operands: Sequence[Node], g: Node) -> Cotangents:
    axes = node.attr("axes")
    repeated = tuple(i for i in range(rank(node.type)) if i not in axes)
    return [fit(graph, op(graph, "sum", g, axes=repeated) if repeated else g, operands[0])]


register(Op("expand", _expand_rule, _expand_reference, _expand_text, _expand_vjp, linear=(0,)))

# ---------------------------------------------------------------- reshape and permute


def _reshape_rule(types: Sequence[Type], attributes: Attributes) -> Type:
    (x,) = tensors(types, "a reshape")
    target = dims(attributes["shape"])
    if size(target) != size(x.shape):
        raise TypeRuleError(f"{x} has {size(x.shape)} entries, {Tensor('R', target)} {size(target)}", [0])
    return x.with_shape(target)


def _reshape_text(texts: Sequence[str], types: Sequence[Type], attributes: Attributes) -> str:
    old, new = rank(types[0]), ints(attributes["shape"])
    if old == 1 and len(new) > 1:
        return dot(texts[0], f".unflatten(-1, {items([str(n) for n in new])})")
    if old > 1 and len(new) == 1:
        return dot(texts[0], f".flatten({-old})")
    return call("ops.reshape", texts[0], str(old), items([str(n) for n in new]))


def _reshape_vjp(graph: Graph, node: Node, operands: Sequence[Node], g: Node) -> Cotangents:
    shape = tuple(plain(n) for n in shape_of(operands[0]))
    return [fit(graph, op(graph, "reshape", g, shape=shape), operands[0])]


register(
    Op(
        "reshape",
        _reshape_rule,
        lambda x, shape: x.reshape(ints(shape)),
        _reshape_text,
        _reshape_vjp,
        linear=(0,),
    )
)


def _permute_rule(types: Sequence[Type], attributes: Attributes) -> Type:
    (x,) = tensors(types, "a permutation of axes")
    axes = tuple(attributes["axes"])
    if sorted(axes) != list(range(x.rank)):
        raise TypeRuleError(f"axes {list(axes)} are not those of {x}", [0])
    return x.with_shape(tuple(x.shape[a] for a in axes))


def _permute_text(texts: Sequence[str], types: Sequence[Type], attributes: Attributes) -> str:
    axes, n = tuple(attributes["axes"]), rank(types[0])
    moved = [i for i, a in enumerate(axes) if i != a]
    if not moved:
        return texts[0]
    if axes == (*range(n - 2), n - 1, n - 2):
        return dot(texts[0], ".mT")
    if len(moved) == 2:
        return dot(texts[0], f".transpose({moved[0] - n}, {moved[1] - n})")
    return call("ops.permute", texts[0], items([str(a) for a in axes]))


def _permute_vjp(graph: Graph, node: Node, operands: Sequence[Node], g: Node) -> Cotangents:
    axes = node.attr("axes")
    back = tuple(axes.index(i) for i in range(len(axes)))
    return [fit(graph, op(graph, "permute", g, axes=back), operands[0])]


register(
    Op("permute", _permute_rule, lambda x, axes: x.permute(axes), _permute_text, _permute_vjp, linear=(0,))
)

# ---------------------------------------------------------------- slice and index


def _bounds(extent: Dim, start: Any, stop: Any) -> tuple[Dim, Dim]:
    """Half-open bounds counted from the front; negative ones count from the end, None is the end."""

    def counted(bound: Any) -> Dim:
        d = Dim.of(bound)
        return extent + d if d.constant is not None and d.constant < 0 else d

    low = Dim.of(0) if start is None else counted(start)
    high = extent if stop is None else counted(stop)
    if extent.constant is not None and low.constant is not None and high.constant is not None:
        low = Dim.of(min(max(low.constant, 0), extent.constant))
        high = Dim.of(min(max(high.constant, low.constant or 0), extent.constant))
    return low, high


def _slice_rule(types: Sequence[Type], attributes: Attributes) -> Type:
    (x,) = tensors(types, "a slice")
    axis = axis_of(attributes, x.rank, "a slice")
    low, high = _bounds(x.shape[axis], attributes["start"], attributes["stop"])
    return x.with_shape((*x.shape[:axis], high - low, *x.shape[axis + 1 :]))


def _slice_reference(x: Any, axis: int, start: Any, stop: Any) -> Any:
    n = x.shape[axis]
    low, high = _bounds(Dim.of(n), start, stop)
    assert low.constant is not None and high.constant is not None
    return x.narrow(axis, low.constant, high.constant - low.constant)


def _after(axis: int, n: int) -> str:
    """`, :` for each axis behind the given one."""
    return ", :" * (n - 1 - axis)


def _slice_text(texts: Sequence[str], types: Sequence[Type], attributes: Attributes) -> str:
    n = rank(types[0])
    start = "" if attributes["start"] in (None, 0) else str(attributes["start"])
    stop = "" if attributes["stop"] is None else str(attributes["stop"])
    return dot(texts[0], f"[..., {start}:{stop}{_after(attributes['axis'] % n, n)}]")


def _slice_vjp(graph: Graph, node: Node, operands: Sequence[Node], g: Node) -> Cotangents:
    (x,) = operands
    axis = node.attr("axis") % rank(x.type)
    low, high = _bounds(shape_of(x)[axis], node.attr("start"), node.attr("stop"))
    return [fit(graph, padded(graph, g, x, axis, low, shape_of(x)[axis] - high), x)]


def padded(graph: Graph, g: Node, x: Node, axis: int, before: Dim, after: Dim) -> Node:
    """g with zeros before and after it along an axis, in the shape of x."""
    pieces = []
    for extent in (before, after):
        piece = (*shape_of(x)[:axis], extent, *shape_of(x)[axis + 1 :])
        pieces.append(zeros(graph, piece) if extent != Dim.of(0) else None)
    parts = [p for p in (pieces[0], g, pieces[1]) if p is not None]
    return graph.add("concat", parts, axis=axis) if len(parts) > 1 else g


register(Op("slice", _slice_rule, _slice_reference, _slice_text, _slice_vjp, linear=(0,)))


def _index_rule(types: Sequence[Type], attributes: Attributes) -> Type:
    (x,) = tensors(types, "an index")
    if x.rank == 0:
        raise TypeRuleError("a number has no axis to index", [0])
    axis, at = axis_of(attributes, x.rank, "an index"), attributes["at"]
    extent = x.shape[axis].constant
    if extent is not None and not -extent <= at < extent:
        raise TypeRuleError(f"index {at} is out of range for an axis of {extent}", [0])
    return x.with_shape(x.shape[:axis] + x.shape[axis + 1 :])


def _index_text(texts: Sequence[str], types: Sequence[Type], attributes: Attributes) -> str:
    n = rank(types[0])
    return dot(texts[0], f"[..., {attributes['at']}{_after(attributes['axis'] % n, n)}]")


def _index_vjp(graph: Graph, node: Node, operands: Sequence[Node], g: Node) -> Cotangents:
    (x,) = operands
    axis, at = node.attr("axis") % rank(x.type), Dim.of(node.attr("at"))
    extent = shape_of(x)[axis]
    if at.constant is not None and at.constant < 0:
        at = extent + at
    one = (*shape_of(x)[:axis], Dim.of(1), *shape_of(x)[axis + 1 :])
    g = op(graph, "reshape", g, shape=tuple(plain(n) for n in one))
    return [fit(graph, padded(graph, g, x, axis, at, extent - at - 1), x)]


register(
    Op(
        "index",
        _index_rule,
        lambda x, axis, at: x.select(axis, at),
        _index_text,
        _index_vjp,
        linear=(0,),
    )
)

# ---------------------------------------------------------------- gather


def _gather_rule(types: Sequence[Type], attributes: Attributes) -> Type:
    x, at = tensors(types, "an index")
    axis = axis_of(attributes, x.rank, "an index")
    if at.kind != "Z" or at.rank > 1:
        raise TypeRuleError(f"an index is a whole number or a vector of them, and this is {at}", [1])
    on = common_domain([x, at], "an index")
    return Tensor(x.kind, (*x.shape[:axis], *at.shape, *x.shape[axis + 1 :]), on, x.unit)


def _gather_reference(x: Any, at: Any, axis: int) -> Any:
    return x.index_select(axis, at) if at.ndim else x.select(axis, int(at))


def _gather_text(texts: Sequence[str], types: Sequence[Type], attributes: Attributes) -> str:
    n = rank(types[0])
    return call("ops.gather", *texts, str(attributes["axis"] % n), str(n), str(rank(types[1])))


def _gather_vjp(graph: Graph, node: Node, operands: Sequence[Node], g: Node) -> Cotangents:
    """A contraction with the 0/1 matrix that says which entry was read."""
    x, at = operands
    axis, n = node.attr("axis") % rank(x.type), extents(x)[node.attr("axis")]
    places = graph.add("const", value=tuple(range(n)))
    full = (*extents(at), n)
    wanted = spread(graph, at, full, tuple(range(rank(at.type))))
    present = spread(graph, places, full, (len(full) - 1,))
    read = op(graph, "eq", wanted, present)
    ones = spread(graph, graph.add("const", value=1.0), full)
    matrix = op(graph, "select", read, ones, zeros(graph, full))
    before, after = "abcdefgh"[:axis], "pqrstuvw"[: rank(x.type) - axis - 1]
    index = "y" if rank(at.type) else ""
    equation = f"{before}{index}{after},{index}z->{before}z{after}"
    return [fit(graph, op(graph, "einsum", g, matrix, equation=equation), x), None]


register(Op("gather", _gather_rule, _gather_reference, _gather_text, _gather_vjp, linear=(0,)))

# ---------------------------------------------------------------- stack and concat


def _stack_rule(types: Sequence[Type], attributes: Attributes) -> Type:
    operands = tensors(types, "a list")
    shape = same_shape(operands, "a list")
    axis = axis_of(attributes, len(shape), "a list", extra=1)
    if len({t.kind == "Bool" for t in operands}) > 1:
        raise TypeRuleError("a list holds both numbers and truth values", range(len(operands)))
    full = (*shape[:axis], Dim.of(len(operands)), *shape[axis:])
    units = {t.unit for t in operands}
    unit = units.pop() if len(units) == 1 else None
    return Tensor(promote(operands), full, common_domain(operands, "a list"), unit)


def _same_kind(operands: Sequence[Any]) -> list[Any]:
    """Tensors of one dtype, as torch.stack wants them."""
    import torch

    widest = operands[0].dtype
    for x in operands[1:]:
        widest = torch.promote_types(widest, x.dtype)
    return [x.to(widest) for x in operands]


def _stack_reference(*operands: Any, axis: int) -> Any:
    import torch

    return torch.stack(_same_kind(operands), axis)


def _stack_text(texts: Sequence[str], types: Sequence[Type], attributes: Attributes) -> str:
    n = rank(types[0]) + 1
    return call("ops.stack", f"[{', '.join(texts)}]", str(attributes["axis"] % n - n))


def _stack_vjp(graph: Graph, node: Node, operands: Sequence[Node], g: Node) -> Cotangents:
    axis = node.attr("axis") % rank(node.type)
    return [fit(graph, op(graph, "index", g, axis=axis, at=i), x) for i, x in enumerate(operands)]


register(Op("stack", _stack_rule, _stack_reference, _stack_text, _stack_vjp, linear=ALL))


def _concat_rule(types: Sequence[Type], attributes: Attributes) -> Type:
    what = "a concatenation"
    operands = tensors(types, what)
    axis = axis_of(attributes, operands[0].rank, what)
    total = Dim.of(0)
    for i, t in enumerate(operands):
        rest, first = list(t.shape), list(operands[0].shape)
        if len(rest) != len(first) or rest[:axis] + rest[axis + 1 :] != first[:axis] + first[axis + 1 :]:
            raise TypeRuleError(f"shapes differ in {what} along axis {axis}", [0, i])
        total = total + t.shape[axis]
    shape = (*operands[0].shape[:axis], total, *operands[0].shape[axis + 1 :])
    return Tensor(promote(operands), shape, common_domain(operands, what), same_unit(operands, what))


def _concat_reference(*operands: Any, axis: int) -> Any:
    import torch

    return torch.cat(_same_kind(operands), axis)


def _concat_text(texts: Sequence[str], types: Sequence[Type], attributes: Attributes) -> str:
    n = rank(types[0])
    return call("ops.concat", f"[{', '.join(texts)}]", str(attributes["axis"] % n - n), str(n))


def _concat_vjp(graph: Graph, node: Node, operands: Sequence[Node], g: Node) -> Cotangents:
    axis = node.attr("axis") % rank(node.type)
    found: Cotangents = []
    start = Dim.of(0)
    for x in operands:
        stop = start + shape_of(x)[axis]
        piece = op(graph, "slice", g, axis=axis, start=plain(start), stop=plain(stop))
        found.append(fit(graph, piece, x))
        start = stop
    return found


register(Op("concat", _concat_rule, _concat_reference, _concat_text, _concat_vjp, linear=ALL))
