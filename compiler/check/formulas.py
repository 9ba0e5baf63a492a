"""Formulas as nets: `net F: (R, R) -> R[2] = expression(size=7)`."""

from __future__ import annotations

from typing import Any

from ndl.compiler.check.values import NetV, WordV
from ndl.compiler.diagnostics import fail
from ndl.compiler.source import Span
from ndl.compiler.types import Map, Tensor


def is_formula(net: Any) -> bool:
    return isinstance(net, NetV) and isinstance(net.target, WordV) and net.target.name == "expression"


def formula_signature(net: NetV, span: Span) -> tuple[int, int | None]:
    """Of how many numbers a formula is a function, and how many it gives; None: a number."""
    signature = net.signature
    good = isinstance(signature, Map) and all(
        isinstance(p, Tensor) and p.rank == 0 and p.kind == "R" for p in signature.params
    )
    result = signature.result if isinstance(signature, Map) else None
    if not good or not isinstance(result, Tensor) or result.rank > 1:
        raise fail(
            "NDL680",
            f"the formula `{net.name}` is a function of numbers: say of how many",
            span,
            help=f"write `net {net.name}: (R, R) -> R = expression(…)`, or `-> R[2]`",
        )
    assert isinstance(signature, Map)
    return len(signature.params), result.extents[0] if result.rank else None
