"""`x[i, 2:5, -1]`: whole numbers, half-open slices, bound indices and integer vectors."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any

from ndl.compiler.check.axes import aligned, full, plain, split
from ndl.compiler.check.evaluator import Evaluator
from ndl.compiler.check.scope import Scope
from ndl.compiler.check.values import (
    UNKNOWN,
    Axis,
    HostV,
    ListV,
    NotLowered,
    Object,
    TupleV,
    Unknown,
    Value,
    WordV,
    describe,
    is_number,
)
from ndl.compiler.source import Span
from ndl.compiler.syntax import tree
from ndl.compiler.types import Dim, Tensor


def index(ev: Evaluator, base: Any, e: tree.Index, scope: Scope) -> Any:
    """The element or part of a tensor, list or recorded path."""
    items = [read_index(ev, i, scope) for i in e.items]
    if isinstance(base, Object):
        return base.index(ev, items, e.span)
    if isinstance(base, (Unknown, HostV)) or any(isinstance(i, Unknown) for i in items):
        return UNKNOWN
    if isinstance(base, (ListV, TupleV)) and len(items) == 1:
        if isinstance(items[0], slice):
            return ListV(base.items[items[0]])
        if is_number(items[0]):
            k = int(items[0])
            if -len(base.items) <= k < len(base.items):
                return base.items[k]
            return ev.error(
                "NDL332", f"the index {k} is outside a list of {len(base.items)}", e.items[0].span
            )
    if isinstance(base, (NotLowered, WordV)):
        return UNKNOWN if ev.checking else ev.value(base, e.span)
    found = ev.value(base, e.value.span)
    if isinstance(found, Unknown):
        return UNKNOWN
    if len(items) > found.type.rank:
        return ev.error(
            "NDL333", f"{found.type} has {found.type.rank} axes, but {len(items)} indices are given", e.span
        )
    axis = 0
    for item, written in zip(items, e.items):
        if isinstance(found, Unknown):
            return UNKNOWN
        found, axis = _one(ev, found, axis, item, written.span)
    return found


def read_index(ev: Evaluator, item: tree.Expr, scope: Scope) -> Any:
    """One index: a whole number, a slice, or a value that the run has."""
    if isinstance(item, tree.Slice):
        ends = [None if s is None else ev.known(ev.eval(s, scope)) for s in (item.start, item.stop)]
        for end in ends:
            if isinstance(end, (Unknown, Value)):
                return UNKNOWN
        if any(end is not None and not (is_number(end) and float(end).is_integer()) for end in ends):
            return ev.error("NDL334", "the ends of a slice are whole numbers known when compiling", item.span)
        return slice(*[None if end is None else int(end) for end in ends])
    found = ev.known(ev.eval(item, scope))
    if isinstance(found, (ListV, TupleV)):
        return ev.value(found, item.span)
    if isinstance(found, HostV):
        return UNKNOWN
    if isinstance(found, (Value, Unknown)):
        return found
    if is_number(found) and float(found).is_integer():
        return int(found)
    return ev.error("NDL334", f"an index is a whole number, not {describe(found)}", item.span)


def _one(ev: Evaluator, v: Value, axis: int, item: Any, span: Span) -> tuple[Any, int]:
    """Apply one index to the axis; the axis that the next one applies to."""
    extent = v.type.shape[axis]
    size = extent.constant
    if isinstance(item, slice):
        if size is None:
            if not ev.checking:
                return UNKNOWN, axis + 1
            shape = (*v.type.shape[:axis], _left(extent, item), *v.type.shape[axis + 1 :])
            return Value(replace(v.type, shape=shape), None, v.axes), axis + 1
        start, stop, _ = item.indices(size)
        if start >= stop:
            return ev.error("NDL335", f"this slice of an axis of {size} is empty", span), axis
        return ev.op("slice", [v], span, axis=axis, start=start, stop=stop), axis + 1
    if isinstance(item, int):
        if size is None:
            return (Value(_without(v.type, axis), None, v.axes) if ev.checking else UNKNOWN), axis
        if not -size <= item < size:
            return ev.error("NDL332", f"the index {item} is outside an axis of {size}", span), axis
        return ev.op("index", [v], span, axis=axis, at=item % size), axis
    return _by_value(ev, v, axis, item, span)


def _left(extent: Dim, item: slice) -> Dim:
    """What a slice leaves of an extent that is not known. Ends that a short axis cuts off are known when it
    is used: that extent is a name of its own."""
    first, last = item.start or 0, item.stop or 0
    if first < 0 or last > 0 or item.stop == 0:
        return Dim.of(f"({extent}|{item.start}:{item.stop})")
    return extent - first + last


def _without(t: Tensor, axis: int) -> Tensor:
    return replace(t, shape=(*t.shape[:axis], *t.shape[axis + 1 :]))


def note_same(told: dict[str, Dim], a: Dim, b: Dim) -> None:
    """What it tells of a dimension name that two extents are the same."""
    for one, other in ((a, b), (b, a)):
        name = next(iter(one.names), "")
        if one == Dim.of(name) and other.constant is not None:
            told.setdefault(name, other)


def _by_value(ev: Evaluator, v: Value, axis: int, item: Value, span: Span) -> tuple[Any, int]:
    """An index that is itself a value: a bound index, a whole number of the run, a vector of them."""
    if item.type.kind not in ("Z", "Bool"):
        return ev.error("NDL334", f"an index is a whole number, not {item.type}", span), axis
    if item.type.rank > 1:
        return ev.error("NDL334", f"an index is a number or a vector of them, not {item.type}", span), axis
    joined = (*v.axes, *(a for a in item.axes if a not in v.axes))
    result = _without(v.type, axis)
    if item.type.rank:
        result = replace(v.type, shape=(*v.type.shape[:axis], item.type.shape[0], *v.type.shape[axis + 1 :]))
    bound = item.index_of
    if ev.checking:
        if ev.told is not None and bound is not None:
            note_same(ev.told, bound.extent, v.type.shape[axis])
        return Value(result, None, joined), axis + item.type.rank
    if bound is not None and bound not in v.axes and bound.extent == v.type.shape[axis]:
        k = len(v.axes)
        order = (*range(k), k + axis, *(i for i in range(k, k + v.type.rank) if i != k + axis))
        moved = ev.builder.op("permute", [full(v)], span, {"axes": order})
        return split(moved, (*v.axes, bound)), axis
    if any(a in v.axes for a in item.axes):
        return _together(ev, v, axis, item, joined, span), axis + item.type.rank
    return _gather(ev, v, axis, item, joined, span), axis + item.type.rank


def _gather(ev: Evaluator, v: Value, axis: int, item: Value, joined: Any, span: Span) -> Value:
    """Elements by integer vector; a bound index's axes come out in front."""
    k, whole = len(v.axes), full(item)
    count = 1
    for d in whole.type.extents:
        count *= d
    flat = ev.builder.op("reshape", [whole], span, {"shape": (count,)})
    taken = ev.builder.op("gather", [full(v), flat], span, {"axis": k + axis})
    shape = [plain(d) for d in taken.type.shape]
    inner = [plain(d) for d in whole.type.shape]
    at = k + axis
    opened = ev.builder.op("reshape", [taken], span, {"shape": (*shape[:at], *inner, *shape[at + 1 :])})
    lead = len(item.axes)
    rank = opened.type.rank
    bound = list(range(at, at + lead))
    order = (*range(k), *bound, *(i for i in range(k, rank) if i not in bound))
    moved = ev.builder.op("permute", [opened], span, {"axes": tuple(order)})
    return split(moved, joined)


def _together(ev: Evaluator, v: Value, axis: int, item: Value, joined: tuple[Axis, ...], span: Span) -> Value:
    """`A[i, i]`, `A[i, k[i]]`: an index that runs together with axes that are bound already. The bound axes
    become one axis of rows, and each row takes its own elements from the concatenation of all rows."""
    k, size = len(joined), v.type.extents[axis]
    lead = tuple(plain(a.extent) for a in joined)
    rows, inner = prod(lead), item.type.extents
    every = prod(inner)
    rest = (*v.type.extents[:axis], *v.type.extents[axis + 1 :])
    order = (*range(k), k + axis, *(k + i for i in range(v.type.rank) if i != axis))
    table = ev.builder.op("permute", [aligned(ev, v, joined, span)], span, {"axes": order})
    table = ev.builder.op("reshape", [table], span, {"shape": (rows * size, *rest)})
    places = ev.builder.op("reshape", [aligned(ev, item, joined, span)], span, {"shape": (rows * every,)})
    starts = tuple(row * size for row in range(rows) for _ in range(every))
    offset = ev.builder.const(starts, Tensor("Z", (Dim.of(rows * every),)), span)
    at = ev.builder.op("add", [places, offset], span, {})
    taken = ev.builder.op("gather", [table, at], span, {"axis": 0})
    opened = ev.builder.op("reshape", [taken], span, {"shape": (*lead, *inner, *rest)})
    own = list(range(k, k + len(inner)))
    others = [i for i in range(k + len(inner), opened.type.rank)]
    final = (*range(k), *others[:axis], *own, *others[axis:])
    return split(ev.builder.op("permute", [opened], span, {"axes": final}), joined)
