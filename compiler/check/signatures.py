"""Signatures of nets whose operator takes and gives one vector: what is given is joined into it.

`net F: (R, R) -> R[2] = MLP()` gives its two numbers to `MLP` as one vector; `net H: R[4] -> R = MLP()` takes
the only component of what `MLP` gives.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    scope = op.module.scope.child({**op.options})
    data = [resolve_type(ev, p.type, scope, dict(op.dims)) if p.type else None for p in op.decl.data]
    result = resolve_type(ev, op.decl.result, scope, dict(op.dims)) if op.decl.result else None
    params, gives = signature.params, signature.result
    if len(data) == 1 and _vector(data[0]) and all(isinstance(p, Tensor) and p.rank < 2 for p in params):
        total = Dim.of(0)
        for p in params:
            assert isinstance(p, Tensor)
            total = total + (p.shape[0] if p.shape else Dim.of(1))
        if len(params) > 1 or _scalar(params[0]):
            params = (Tensor("R", (total,)),)
    if _vector(result) and _scalar(gives):
        gives = Tensor("R", (Dim.of(1),))
    same = params == signature.params and gives == signature.result
    return None if same else Map(params, gives)


def joined(ev: Evaluator, values: Sequence[Value], span: Span) -> Any:
    """Numbers and vectors as one vector."""
    vectors = [v if v.type.shape else ev.op("stack", [v], span, axis=0) for v in values]
    found: Any = vectors[0] if len(vectors) == 1 else ev.op("concat", vectors, span, axis=0)  # type: ignore[arg-type]
    return found


def _vector(type_: Type | None) -> bool:
    return isinstance(type_, Tensor) and type_.kind == "R" and type_.rank == 1


def _scalar(type_: Type | None) -> bool:
    return isinstance(type_, Tensor) and type_.kind == "R" and type_.rank == 0
