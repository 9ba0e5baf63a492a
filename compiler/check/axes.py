"""Bound indices as array axes: an op on indexed values becomes one op on bigger arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ndl.compiler.check.evaluator import Evaluator
from ndl.compiler.check.values import UNKNOWN, Axis, Unknown, Value
from ndl.compiler.ops.families.contraction import matmul_equation
from ndl.compiler.ops.table import infer
from ndl.compiler.source import Span
from ndl.compiler.types import Dim, Tensor, Tuple

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def full(v: Value) -> Value:
    """The value with its bound axes as ordinary leading axes."""
    lead = tuple(a.extent for a in v.axes)
    return reshaped(v, (*lead, *v.type.shape), ())


def split(v: Value, axes: tuple[Axis, ...]) -> Value:
    """The inverse of `full`."""
    return reshaped(v, v.type.shape[len(axes) :], axes)


def reshaped(v: Value, shape: tuple[Dim, ...], axes: tuple[Axis, ...]) -> Value:
    """The same array with other axes counted as bound; its missing entries stay missing."""
    type_ = replace(v.type, shape=shape)
    if getattr(v, "mask", None) is not None:
        return replace(v, type=type_, axes=axes)
    return Value(type_, v.ref, axes)


def aligned(ev: Evaluator, v: Value, axes: tuple[Axis, ...], span: Span) -> Value:
    """A value with exactly these leading axes, in this order, missing ones repeated."""
    if v.axes == axes:
        return full(v)
    whole = full(v)
    own = [axes.index(a) for a in v.axes]
    if own != sorted(own):
        order = sorted(range(len(own)), key=lambda k: own[k])
        perm = (*order, *range(len(own), whole.type.rank))
        whole = _must(ev.builder.op("permute", [whole], span, {"axes": perm}))
        own = sorted(own)
    lead = [a.extent for a in axes]
    shape = tuple(plain(d) for d in (*lead, *v.type.shape))
    positions = (*own, *range(len(axes), len(axes) + v.type.rank))
    return _must(ev.builder.op("expand", [whole], span, {"shape": shape, "axes": tuple(positions)}))


def plain(d: Dim) -> Any:
    return d.constant if d.constant is not None else d


def _must(v: Any) -> Value:
    assert isinstance(v, Value)
    return v


def lifted(
    ev: Evaluator,
    name: str,
    args: Sequence[Value],
    axes: tuple[Axis, ...],
    span: Span,
    attrs: dict[str, Any],
) -> Value | Unknown:
    """An op on values with bound axes."""
    result = infer(name, [a.type for a in args], attrs)
    if ev.checking:
        return Value(result, None, axes) if isinstance(result, Tensor) else UNKNOWN
    k = len(axes)
    if name == "matmul":
        return _product(ev, args, axes, span)
    if name == "einsum":
        return _einsum(ev, args, axes, span, attrs["equation"])
    if name in ("convolve", "convolve_back") and not args[0].axes:
        whole = [args[0], aligned(ev, args[1], axes, span)]  # one kernel: other axes may stand in front
        return split(_must(ev.builder.op(name, whole, span, attrs)), axes)
    whole = [aligned(ev, a, axes, span) for a in args]
    moved = dict(attrs)
    if name in ("expand", "reshape"):
        lead = tuple(plain(a.extent) for a in axes)
        moved["shape"] = (*lead, *attrs["shape"])
        if name == "expand":
            moved["axes"] = (*range(k), *(k + a for a in attrs["axes"]))
    elif name == "permute":
        moved["axes"] = (*range(k), *(k + a for a in attrs["axes"]))
    elif "axes" in attrs:
        moved["axes"] = tuple(k + a for a in attrs["axes"])
    elif "axis" in attrs:
        moved["axis"] = k + attrs["axis"]
    elif name in (
        "solve",
        "inv",
        "det",
        "expm",
        "cholesky",
        "logdet",
        "eigvalsh",
        "eigvecsh",
        "symmetric_power",
        "gather",
        "call",
        "apply",
        "convolve",
        "convolve_back",
    ):
        unknown: Unknown = ev.not_lowered(f"`{name}` under a bound index", span)
        return unknown
    return split(_must(ev.builder.op(name, whole, span, moved)), axes)


def _product(ev: Evaluator, args: Sequence[Value], axes: tuple[Axis, ...], span: Span) -> Value:
    """`a @ b` with bound axes."""
    left, right = (v.type.rank for v in args)
    return _einsum(ev, args, axes, span, matmul_equation(left, right))


def _einsum(ev: Evaluator, args: Sequence[Value], axes: tuple[Axis, ...], span: Span, equation: str) -> Value:
    """A contraction with bound axes, as one einsum; its own indices keep their letters."""
    terms, _, result = equation.replace(" ", "").partition("->")
    free = iter(c for c in LETTERS if c not in equation)
    of = {axis: next(free) for axis in axes}
    inner = ["".join(of[x] for x in v.axes) + own for v, own in zip(args, terms.split(","))]
    whole = f"{','.join(inner)}->{''.join(of[x] for x in axes)}{result}"
    found = ev.builder.op("einsum", [full(a) for a in args], span, {"equation": whole})
    return split(_must(found), axes)


def reduce_axes(ev: Evaluator, op: str, v: Value, over: Sequence[Axis], span: Span) -> Any:
    """Reduce bound axes with `sum`, `mean`, `prod`, `amax`, `amin`."""
    missing = [a for a in over if a not in v.axes]
    if missing:
        v = (
            split(aligned(ev, v, (*v.axes, *missing), span), (*v.axes, *missing))
            if not ev.checking
            else Value(v.type, None, (*v.axes, *missing))
        )
    rest = tuple(a for a in v.axes if a not in over)
    if ev.checking:
        return Value(v.type if op != "mean" or v.type.kind != "Z" else Tensor("R", v.type.shape), None, rest)
    positions = tuple(i for i, a in enumerate(v.axes) if a in over)
    return split(_must(ev.builder.op(op, [full(v)], span, {"axes": positions})), rest)


def to_tensor(ev: Evaluator, v: Value, axes: Sequence[Axis], span: Span) -> Value:
    """Bound axes as the first axes of an ordinary tensor, in the order given; others stay bound."""
    rest = tuple(a for a in v.axes if a not in axes)
    whole = (
        aligned(ev, v, (*rest, *axes), span)
        if not ev.checking
        else Value(replace(v.type, shape=(*(a.extent for a in (*rest, *axes)), *v.type.shape)))
    )
    return split(whole, rest)


__all__ = ["Tuple", "aligned", "full", "lifted", "plain", "reduce_axes", "split", "to_tensor"]
