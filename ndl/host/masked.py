"""Values with missing entries: what an operation makes of them, or its refusal.

An entry is missing where `mask` is False; `ref` has a harmless number there, which never counts: elementwise
results are missing where an operand is, reductions leave missing entries out, a conditional has the entry of
the branch that it takes. What can do neither is refused, for it would count the number.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ndl.compiler.check.values import Value
from ndl.compiler.diagnostics import NDLError, fail
from ndl.compiler.ops.table import lookup
from ndl.compiler.source import Span

SHAPING = frozenset(["expand", "reshape", "permute", "slice", "index", "stack", "concat"])
NEUTRAL = {"sum": 0.0, "mean": 0.0, "prod": 1.0, "amax": -torch.inf, "amin": torch.inf}


def mask_of(v: Any) -> Any:
    """Where a value is present; None where it is everywhere."""
    return getattr(v, "mask", None)


def masked_result(
    name: str, args: Sequence[Value], refs: list[Any], attrs: dict[str, Any], span: Span
) -> tuple[Any, Any, int | None]:
    """An op's result where an operand has missing entries, where the result is present (None: everywhere),
    and whose mask that is."""
    reference = lookup(name).reference
    masks = [mask_of(a) for a in args]
    whole = [m if m is not None else torch.ones(r.shape, dtype=torch.bool) for m, r in zip(masks, refs)]
    if name in NEUTRAL:
        return *_reduced(name, refs[0], whole[0], attrs), None
    if name == "select":
        return reference(*refs, **attrs), _selected(args, refs, masks, whole), None
    if name == "gather":
        return reference(*refs, **attrs), reference(whole[0], refs[1], **attrs), None
    if name in SHAPING:
        return reference(*refs, **attrs), reference(*whole, **attrs), None
    if lookup(name).scalar is None and name != "stop_gradient":
        raise refused(f"`{name}`", span)
    found = whole[0]
    for m in whole[1:]:
        found = found & m
    origins = {getattr(a, "origin", None) for a, m in zip(args, masks) if m is not None}
    return reference(*refs, **attrs), found, origins.pop() if len(origins) == 1 else None


def _selected(args: Sequence[Value], refs: list[Any], masks: list[Any], whole: list[Any]) -> Any:
    """Where the branch that is taken is present. `if isnan(v) then 0 else v` is, everywhere."""
    filled = getattr(args[0], "of", None)
    if filled is not None and masks[1] is None and getattr(args[2], "origin", None) == filled:
        return None
    return torch.where(refs[0], whole[1], whole[2]) & whole[0]


def _reduced(name: str, x: torch.Tensor, mask: torch.Tensor, attrs: dict[str, Any]) -> tuple[Any, Any]:
    """A reduction of what is present; over some axes only, the mean and extremes of nothing are missing."""
    reference = lookup(name).reference
    kept = torch.where(mask, x, torch.full_like(x, NEUTRAL[name]))
    count = lookup("sum").reference(mask.to(x.dtype), **attrs)
    if name == "mean":
        found = lookup("sum").reference(kept, **attrs) / count.clamp(min=1)
    else:
        found = reference(kept, **attrs)
    if found.ndim == 0 or name in ("sum", "prod"):
        return found, None
    there = count > 0
    return torch.where(there, found, torch.zeros_like(found)), there


def refused(what: str, span: Span) -> NDLError:
    """Missing values where they would count."""
    return fail(
        "NDL615",
        f"{what} would count missing values",
        span,
        help="reduce them by `sum`, `mean`, `max` or `min`, put a number in their place, "
        "`if isnan(v) then 0 else v`, or a path through what is known, `linear(data.t, data.v)`",
    )


def nothing_missing(v: Any, what: str, span: Span) -> None:
    """Refuse a value with missing entries."""
    if mask_of(v) is not None:
        raise refused(what, span)
