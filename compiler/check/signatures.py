"""Signatures of nets whose operator takes and gives one vector: what is given is joined into it, and what it
gives is cut into the declared shape, both in the order of the components, rows first.

`net F: (R, R) -> R[2] = MLP()` gives its two numbers to `MLP` as one vector; `net H: R[4] -> R = MLP()` takes
the only component of what `MLP` gives; `net g: R[d] -> R[d, m] = MLP()` makes a matrix of its d*m components.
Fields are joined and cut at each point.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from math import prod
from operator import mul
from typing import Any

from ndl.compiler.check.evaluator import Evaluator
from ndl.compiler.check.typing import resolve_type
from ndl.compiler.check.values import OperatorV, Value
from ndl.compiler.source import Span
from ndl.compiler.types import Dim, Map, Tensor, Type


def inner_signature(ev: Evaluator, op: OperatorV, signature: Type | None) -> Map | None:
    """The signature as the operator sees it, where it differs; None where the two agree."""
    if not isinstance(signature, Map):
        return None
    from ndl.compiler.check.operators import option_scope

    scope = option_scope(ev, op)
    data = [resolve_type(ev, p.type, scope, dict(op.dims)) if p.type else None for p in op.decl.data]
    result = resolve_type(ev, op.decl.result, scope, dict(op.dims)) if op.decl.result else None
    params, gives = signature.params, signature.result
    one = len(params) == 1 and _vector(params[0])
    if len(data) == 1 and _vector(data[0]) and not one and all(_real(p) for p in params):
        params = (_flat(params),)
    if _vector(result) and _real(gives) and not _vector(gives):
        gives = _flat([gives])
    same = params == signature.params and gives == signature.result
    return None if same else Map(params, gives)


def joined(ev: Evaluator, values: Sequence[Value], span: Span) -> Any:
    """Numbers and tensors as one vector."""
    vectors = [_as_vector(ev, v, span) for v in values]
    found: Any = vectors[0] if len(vectors) == 1 else ev.op("concat", vectors, span, axis=0)
    return found


def shaped(ev: Evaluator, vector: Value, wanted: Tensor, span: Span) -> Any:
    """A vector in the shape that a signature declares."""
    if wanted.rank == 0:
        return ev.op("index", [vector], span, axis=0, at=0)
    return ev.op("reshape", [vector], span, shape=wanted.extents)


def _as_vector(ev: Evaluator, v: Value, span: Span) -> Any:
    if v.type.rank == 1:
        return v
    if v.type.rank == 0:
        return ev.op("stack", [v], span, axis=0)
    return ev.op("reshape", [v], span, shape=(prod(v.type.extents),))


def _flat(types: Sequence[Type]) -> Tensor:
    """The vector of all components."""
    total = Dim.of(0)
    for t in types:
        assert isinstance(t, Tensor)
        total = total + reduce(mul, t.shape, Dim.of(1))
    on = next((t.on for t in types if isinstance(t, Tensor) and t.on is not None), None)
    return Tensor("R", (total,), on)


def _real(type_: Type | None) -> bool:
    return isinstance(type_, Tensor) and type_.kind == "R" and type_.on != "time"


def _vector(type_: Type | None) -> bool:
    return isinstance(type_, Tensor) and _real(type_) and type_.rank == 1
