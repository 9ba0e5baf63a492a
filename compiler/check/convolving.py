"""Convolutions and pooling of arrays: `convolve(K, v)`, `windows(v, 3)`, `max_pool(v, 2)`, `upsample(v, 2)`.

A number for `stride`, `pad` or `dilation` holds for every axis, a list has one for each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from ndl.compiler.check import duals, samplings
from ndl.compiler.check.axes import plain
from ndl.compiler.check.evaluator import Evaluator
from ndl.compiler.check.fields import is_field
from ndl.compiler.check.scope import Scope
from ndl.compiler.check.values import UNKNOWN, Builtin, HostV, ListV, Unknown, Value, WordV
from ndl.compiler.source import Span
from ndl.compiler.syntax import tree
from ndl.compiler.types import Dim, Tensor

BORDERS = ("zeros", "periodic", "reflect", "replicate")


class NotKnown(Exception):
    """A number that the checker does not know yet, or an error that was reported."""


def numbers(ev: Evaluator, value: Any, count: int, what: str, least: int, span: Span) -> tuple[int, ...]:
    """A whole number for each axis."""
    items = value.items if isinstance(value, ListV) else [value] * count
    found = [ev.known(i) for i in items]
    if any(isinstance(i, (Unknown, Value)) for i in found):
        raise NotKnown
    if len(found) != count or any(not isinstance(i, int) or i < least for i in found):
        ev.error(
            "NDL345", f"`{what}` is a whole number of at least {least}, or one for each of {count} axes", span
        )
        raise NotKnown
    return tuple(found)


def _word(value: Any) -> str | None:
    return value.name if isinstance(value, (WordV, Builtin)) else None


def border_of(ev: Evaluator, options: dict[str, Any], span: Span) -> str:
    name = _word(options["border"]) if "border" in options else "zeros"
    if name not in BORDERS:
        ev.error("NDL345", f"a border is one of {', '.join(BORDERS)}", span)
        raise NotKnown
    return name


def _array(ev: Evaluator, value: Any, span: Span) -> Value:
    if isinstance(value, (Unknown, HostV)):
        raise NotKnown
    found = ev.value(value, span)
    if isinstance(found, Unknown):
        raise NotKnown
    return found


def _size(ev: Evaluator, extents: Sequence[Dim]) -> tuple[int, ...]:
    found = [d.constant for d in extents]
    if any(n is None for n in found):
        raise NotKnown
    return tuple(n for n in found if n is not None)


def _geometry(
    ev: Evaluator, options: dict[str, Any], size: Sequence[Dim], span: Span
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[tuple[int, int], ...]]:
    """Stride, dilation and pads (before, after) for windows of a size."""
    count = len(size)
    stride = numbers(ev, options.get("stride", 1), count, "stride", 1, span)
    dilation = numbers(ev, options.get("dilation", 1), count, "dilation", 1, span)
    if _word(options.get("pad")) == "same":
        reach = [(k - 1) * d for k, d in zip(_size(ev, size), dilation)]
        return stride, dilation, tuple((r // 2, r - r // 2) for r in reach)
    pad = numbers(ev, options.get("pad", 0), count, "pad", 0, span)
    return stride, dilation, tuple((p, p) for p in pad)


def bordered(
    ev: Evaluator, v: Value, pads: Sequence[tuple[int, int]], border: str, span: Span
) -> tuple[Value, tuple[tuple[int, int], ...]]:
    """An array with its last axes continued over their ends, and what zeros are still to be added."""
    if border == "zeros":
        return v, tuple(pads)
    first = v.type.rank - len(pads)
    for k, (before, after) in enumerate(pads):
        extent = v.type.shape[first + k]
        if not before and not after:
            continue
        if extent.constant is None:
            if not ev.checking:
                raise NotKnown
            shape = list(v.type.shape)
            shape[first + k] = extent + before + after
            v = Value(replace(v.type, shape=tuple(shape)), None, v.axes)
            continue
        n = extent.constant
        if border == "reflect" and max(before, after) >= n:
            ev.error("NDL345", f"an axis of {n} cannot be reflected over {max(before, after)} places", span)
            raise NotKnown
        at = tuple(continued(i, n, border) for i in range(-before, n + after))
        index = ev.builder.const(at, Tensor("Z", (Dim.of(len(at)),)), span)
        found = ev.op("gather", [v, index], span, axis=first + k)
        assert isinstance(found, Value)
        v = found
    return v, tuple((0, 0) for _ in pads)


def continued(i: int, n: int, border: str) -> int:
    """Which of n places stands at place i beyond the ends."""
    if border == "periodic":
        return i % n
    if border == "replicate":
        return min(max(i, 0), n - 1)
    return -i if i < 0 else 2 * (n - 1) - i if i >= n else i


Handler = Callable[..., Any]


def handled(make: Callable[[Evaluator, list[Any], dict[str, Any], tree.Call, Scope], Any]) -> Handler:
    """The handler of a function that gives up on what the checker does not know."""

    def handler(ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call, scope: Scope) -> Any:
        try:
            return make(ev, args, options, e, scope)
        except NotKnown:
            if ev.checking or ev.sink.failed:
                return UNKNOWN
            return ev.error("NDL345", "the extents of this array must be known when compiling", e.span)

    return handler


def _convolve(ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call, scope: Scope) -> Any:
    """`convolve(K, v; stride, pad, dilation, groups, border)`, for K: R[out, in, *size], v: R[in, *n]."""
    K, v = (_array(ev, a, e.span) for a in args)
    if is_field(ev, v):
        return samplings.convolve_field(ev, K, v, options, e, scope)
    if K.type.rank < 3 or v.type.rank < K.type.rank - 1:
        return ev.op("convolve", [K, v], e.span, [a.value for a in e.args[:2]], **_flat(K), groups=1)
    size = K.type.shape[2:]
    stride, dilation, pads = _geometry(ev, options, size, e.span)
    v, pads = bordered(ev, v, pads, border_of(ev, options, e.span), e.span)
    (groups,) = numbers(ev, options.get("groups", 1), 1, "groups", 1, e.span)
    exprs = [a.value for a in e.args[:2]]
    geometry = {"stride": stride, "dilation": dilation, "pad": pads}
    return ev.op("convolve", [K, v], e.span, exprs, **geometry, groups=groups)


def _flat(K: Value) -> dict[str, Any]:
    count = max(K.type.rank - 2, 0)
    return {"stride": (1,) * count, "dilation": (1,) * count, "pad": ((0, 0),) * count}


def _transposed(ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call, scope: Scope) -> Any:
    """`convolve_transposed(K, y; stride, pad, dilation, groups, extra)`, for K: R[in, out, *size]."""
    K, y = (_array(ev, a, e.span) for a in args)
    exprs = [a.value for a in e.args[:2]]
    count = K.type.rank - 2
    if count < 1 or y.type.rank < count + 1:
        return ev.op("convolve_back", [K, y], e.span, exprs, **_flat(K), groups=1, shape=(1,) * max(count, 0))
    stride, dilation, pads = _geometry(ev, options, K.type.shape[2:], e.span)
    extra = numbers(ev, options.get("extra", 0), count, "extra", 0, e.span)
    (groups,) = numbers(ev, options.get("groups", 1), 1, "groups", 1, e.span)
    shape = []
    for m, k, s, d, (before, after), more in zip(
        y.type.shape[y.type.rank - count :], K.type.shape[2:], stride, dilation, pads, extra
    ):
        shape.append(plain((m - 1) * s + (k - 1) * d + 1 + more - before - after))
    if any(isinstance(n, int) and n < 1 for n in shape):
        return ev.error("NDL345", f"these pads leave nothing of {y.type}", e.span)
    geometry = {"stride": stride, "dilation": dilation, "pad": pads}
    return ev.op("convolve_back", [K, y], e.span, exprs, **geometry, groups=groups, shape=tuple(shape))


def _windows_of(
    ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call, border: str | None = None
) -> tuple[Value, int]:
    """Windows over all axes but the first, and how many axes those are."""
    v = _array(ev, args[0], e.span)
    count = v.type.rank - 1
    if count < 1:
        ev.error("NDL345", f"windows slide over the axes after the first, and this is {v.type}", e.span)
        raise NotKnown
    size = numbers(ev, args[1], count, "size", 1, e.span)
    stride, dilation, pads = _geometry(ev, options, [Dim.of(k) for k in size], e.span)
    v, pads = bordered(ev, v, pads, border or border_of(ev, options, e.span), e.span)
    found = ev.op("unfold", [v], e.span, size=size, stride=stride, dilation=dilation, pad=pads)
    if isinstance(found, Unknown):
        raise NotKnown
    return found, count


def _windows(ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call, scope: Scope) -> Any:
    """`windows(v, size)`: R[c, *n] as R[c, *places, *size]."""
    return _windows_of(ev, args, options, e)[0]


def _pool(op: str) -> Callable[..., Any]:
    """`max_pool(v, size; stride, pad)`: windows side by side unless `stride` says otherwise. Beyond the ends
    nothing counts for a maximum, which repeating the last entry comes to, and zeros for a mean."""

    def make(ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call, scope: Scope) -> Any:
        border = "replicate" if op == "amax" else "zeros"
        found, count = _windows_of(ev, args, {"stride": args[1], **options}, e, border)
        rank = found.type.rank
        return ev.op(op, [found], e.span, axes=tuple(range(rank - count, rank)))

    return make


def _upsample(ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call, scope: Scope) -> Any:
    """`upsample(v, k)`: each place of all axes but the first becomes k equal ones."""
    v = _array(ev, args[0], e.span)
    count = v.type.rank - 1
    factors = numbers(ev, args[1], count, "factor", 1, e.span)
    wide: list[Any] = [plain(v.type.shape[0])]
    kept = [0]
    for n, k in zip(v.type.shape[1:], factors):
        kept.append(len(wide))
        wide += [plain(n), k]
    full: tuple[Any, ...] = (wide[0], *(plain(n * k) for n, k in zip(v.type.shape[1:], factors)))
    spread = ev.op("expand", [v], e.span, shape=tuple(wide), axes=tuple(kept))
    return UNKNOWN if isinstance(spread, Unknown) else ev.op("reshape", [spread], e.span, shape=full)


FUNCTIONS: dict[str, tuple[Handler, int, tuple[str, ...]]] = {
    "convolve": (handled(_convolve), 2, ("stride", "pad", "dilation", "groups", "border")),
    "convolve_transposed": (handled(_transposed), 2, ("stride", "pad", "dilation", "groups", "extra")),
    "windows": (handled(_windows), 2, ("stride", "pad", "dilation", "border")),
    "max_pool": (handled(_pool("amax")), 2, ("stride", "pad", "dilation")),
    "mean_pool": (handled(_pool("mean")), 2, ("stride", "pad")),
    "upsample": (handled(_upsample), 2, ()),
    **duals.FUNCTIONS,
    **samplings.FUNCTIONS,
}
"""By name: handler, number of arguments, options."""
