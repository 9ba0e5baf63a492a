"""Signatures of nets whose operator takes and gives one vector: what is given is joined into it.

`net F: (R, R) -> R[2] = MLP()` gives its two numbers to `MLP` as one vector; `net H: R[4] -> R = MLP()` takes
the only component of what `MLP` gives; `net g: R[4] -> R[4, 2] = MLP()` has its eight components as a matrix.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ndl.compiler.check.axes import plain
from ndl.compiler.check.evaluator import Evaluator
from ndl.compiler.check.typing import resolve_type
from ndl.compiler.check.values import OperatorV, Value
from ndl.compiler.ops.rules import size
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
    few = all(isinstance(p, Tensor) and p.rank < 2 for p in params)
    if len(data) == 1 and _vector(data[0]) and few and (len(params) > 1 or _scalar(params[0])):
        params = (Tensor("R", (total_size(params),)),)
    if _vector(result) and _real(gives) and not _vector(gives):
        gives = Tensor("R", (total_size([gives]),))
    same = params == signature.params and gives == signature.result
    return None if same else Map(params, gives)


def total_size(types: Sequence[Type]) -> Dim:
    """The number of all entries."""
    total = Dim.of(0)
    for t in types:
        assert isinstance(t, Tensor)
        total = total + size(t.shape)
    return total


def joined(ev: Evaluator, values: Sequence[Value], span: Span) -> Any:
    """Numbers and vectors as one vector."""
    vectors = [v if v.type.rank else ev.op("stack", [v], span, axis=0) for v in values]
    found: Any = vectors[0] if len(vectors) == 1 else ev.op("concat", vectors, span, axis=0)  # type: ignore[arg-type]
    return found


def shaped(ev: Evaluator, vector: Value, wanted: Tensor, span: Span) -> Any:
    """A vector's components as what a signature gives: a number, a matrix, …"""
    if not wanted.rank:
        return ev.op("index", [vector], span, axis=0, at=0)
    return ev.op("reshape", [vector], span, shape=tuple(plain(d) for d in wanted.shape))


def _vector(type_: Type | None) -> bool:
    return isinstance(type_, Tensor) and type_.kind == "R" and type_.rank == 1


def _scalar(type_: Type | None) -> bool:
    return _real(type_) and isinstance(type_, Tensor) and not type_.rank


def _real(type_: Type | None) -> bool:
    return isinstance(type_, Tensor) and type_.kind == "R"
