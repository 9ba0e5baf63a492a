"""Models that kernels do not have, and why."""

from __future__ import annotations

from collections.abc import Sequence

from ndl.compiler.ir.graph import Function
from ndl.compiler.ir.model import ModelIR
from ndl.compiler.kernels.ir import Unsupported

LARGEST = 64
"""States beyond which code for each component is no longer what pays."""


def refuse(model: ModelIR, checks: bool, watches: bool) -> None:
    """Raise `Unsupported` for what kernels do not have, or, without `checks` and `watches`, do not look
    at."""
    bounded = any(s.lower is not None or s.upper is not None for s in model.states)
    if model.drift is None and model.diffusion is None:
        raise Unsupported("the model has no rates")
    for found, why in (
        (model.integrals, "it has integral equations"),
        (model.events and not watches, "it has events"),
        (model.requires and not checks, "it has requirements to check"),
        (_required_back(model), "a requirement reads the past"),
        (_looks_back(model), "a derived value of it reads the past"),
        (any(s.source is not None for s in model.states), "it remembers earlier values"),
        (bounded and not checks, "its states are bounded"),
    ):
        if found:
            raise Unsupported(why)
    size = sum(s.size for s in model.states)
    if size > LARGEST:
        raise Unsupported(f"it has {size} scalar states, more than {LARGEST}")


def _looks_back(model: ModelIR) -> bool:
    """Whether something that a solution evaluates by itself reads delayed states."""
    return reads_back([*model.derived.values(), *(a for o in model.observes for a in o.arguments)])


def _required_back(model: ModelIR) -> bool:
    """Whether something that must hold is of the past: a failure is told from the last state alone."""
    return reads_back([r.condition for r in model.requires])


def reads_back(functions: Sequence[Function]) -> bool:
    """Whether functions read delayed states."""
    nodes = (n for f in functions for n in f.graph if n.op == "path")
    return any(str(n.attr("name")).startswith("past ") for n in nodes)
