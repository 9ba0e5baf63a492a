"""Models that kernels do not have, and why."""

from __future__ import annotations

from ndl.compiler.ir.model import ModelIR
from ndl.compiler.kernels.scalars import Unsupported

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
        (model.delays and model.events, "it has delays and events"),
        (model.delays and model.requires, "it has delays and requirements to check"),
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
    functions = [*model.derived.values(), *(a for o in model.observes for a in o.arguments)]
    nodes = (n for f in functions for n in f.graph if n.op == "path")
    return any(str(n.attr("name")).startswith("past ") for n in nodes)
