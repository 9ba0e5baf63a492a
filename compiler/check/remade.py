"""`remake(N, modes=24)`: a net with other options that begins with the weights of another."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ndl.compiler.check.evaluator import Evaluator
from ndl.compiler.check.operators import construct
from ndl.compiler.check.scope import Scope
from ndl.compiler.check.values import UNKNOWN, HostV, NetV, OperatorV, Unknown, describe
from ndl.compiler.syntax import tree


def remake(ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call, scope: Scope) -> Any:
    """The net with these options; its weights are carried over where it is made (`ndl/host/remade.py`)."""
    origin = args[0]
    if isinstance(origin, (Unknown, HostV)):
        return UNKNOWN
    net = getattr(origin, "net", origin)
    if isinstance(net, NetV) and isinstance(net.target, (Unknown, HostV)):
        return UNKNOWN  # made of the result of a training
    if not isinstance(net, NetV) or not isinstance(net.target, OperatorV):
        return ev.error(
            "NDL477",
            f"`remake` is of a net that an operator made, not of {describe(origin)}",
            e.args[0].span,
            help="write `net N: … = FNO(…)`, then `remake(N, modes=24)`, or `remake(run.model, …)`",
        )
    target = construct(ev, replace(net.target, place=None), options, e.span, e)
    return UNKNOWN if target is None else replace(net, target=target, owner=e, origin=origin)
