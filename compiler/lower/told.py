"""Dimensions of weights that only their use tells: `param L: R[r, n, n]`, `L[k, i, a]*values(v)[k, a, b]`.

The body of an operator is checked with the numbers of points of its fields; where an index runs over an axis
of a weight and over one of a known extent, the two are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ndl.compiler.check.evaluator import Evaluator, TypeBuilder
from ndl.compiler.check.open_weights import open_weights
from ndl.compiler.check.operators import CheckContext, option_scope
from ndl.compiler.check.statements import run_block
from ndl.compiler.check.typing import resolve_type
from ndl.compiler.check.values import Axis, OperatorV, Value
from ndl.compiler.diagnostics import Sink, fail
from ndl.compiler.types import INTEGER, Dim, Tensor


def told_by_use(op: OperatorV, arguments: Sequence[tuple[Axis, ...]]) -> OperatorV:
    """The operator with these dimensions, for fields along axes of points. Raises `NDLError` where nothing
    tells one."""
    missing = open_weights(op)
    if not missing:
        return op
    ev = Evaluator(TypeBuilder(), Sink())
    ev.told = {}
    ev.points = {a.sampled: a.extent for axes in arguments for a in axes if a.sampled is not None}
    scope = option_scope(ev, op)
    scope.names.update({n: d.constant for n, d in op.dims.items()})
    scope.names.update({n: Value(INTEGER, Dim.of(n)) for n, _ in missing})
    for p in op.decl.data:
        wanted = resolve_type(ev, p.type, scope, op.dims) if p.type is not None else None
        if isinstance(wanted, Tensor):
            scope.names[p.name] = Value(wanted)
    ev.context = CheckContext()
    run_block(ev, op.decl.body, scope)
    for name, span in missing:
        if name not in ev.told:
            what = f"nothing here tells the dimension `{name}` of `{op.decl.name}`"
            raise fail("NDL308", what, span, help="tell it before: `r, n, m = shape(values(v))`")
    return replace(op, dims={**op.dims, **{n: ev.told[n] for n, _ in missing}})
