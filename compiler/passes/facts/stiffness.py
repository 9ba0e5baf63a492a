"""A hint of stiffness: the spread of decay rates in the Jacobian at and near the initial state."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from ndl.compiler.ir.graph import Function, ParamSpec
from ndl.compiler.ir.model import ModelIR
from ndl.compiler.passes.facts.facts import Fact
from ndl.compiler.passes.facts.numeric import NotNumeric, evaluate
from ndl.compiler.passes.jacobian import with_jacobian

Matrix = npt.NDArray[np.float64]

PROBES = (0.0, 0.01)
"""Distances from the initial state, relative to its largest component, at which the Jacobian is taken:
fast time scales may show only once a component has left 0."""

NOISE_FLOOR = 1e-12
"""Eigenvalues below this part of the norm are rounding errors of 0."""


def stiffness(model: ModelIR) -> Fact[float | None]:
    """max |Re λ| / min |Re λ| over decaying modes, the largest of the probes."""
    if any(state.algebraic for state in model.states):
        return Fact(None, "algebraic equations hold at once: an implicit method is needed anyway")
    jacobian = model.jacobian or with_jacobian(model).jacobian
    if jacobian is None:
        return Fact(None, "the Jacobian has no formula, so that stiffness shows only in a run")
    try:
        start = initial_state(model)
        ratios = [
            (ratio, why) for d in PROBES for ratio, why in [spread(matrix_at(model, jacobian, start, d))]
        ]
    except NotNumeric as e:
        return Fact(None, f"{e}, and with it the time scales")
    ratio, why = max(ratios, key=lambda found: found[0])
    return Fact(ratio, why)


def spread(matrix: Matrix) -> tuple[float, str]:
    """The ratio of the fastest decay to the slowest, 1 when fewer than two modes decay."""
    if not np.isfinite(matrix).all():
        return 1.0, "the Jacobian is not finite at the initial state"
    eigenvalues = np.linalg.eigvals(matrix)
    floor = NOISE_FLOOR * float(np.abs(matrix).max(initial=0.0))
    decays = sorted(-float(v.real) for v in eigenvalues if v.real < -floor)
    if not decays:
        return 1.0, "no mode decays at the initial state"
    slow, fast = decays[0], decays[-1]
    if slow == fast:
        return 1.0, f"all modes that decay do so at the rate {fast:.3g}"
    return fast / slow, f"near the initial state modes decay at rates from {slow:.2g} to {fast:.2g}"


def initial_state(model: ModelIR) -> dict[str, Any]:
    weights = parameters(model)
    return evaluate(model.initial, {}, weights)


def matrix_at(model: ModelIR, jacobian: Function, start: dict[str, Any], distance: float) -> Matrix:
    """The Jacobian at t = 0 with every component moved by a part of the largest."""
    scale = max([float(v.abs().max()) for v in start.values() if v.numel()] or [1.0]) or 1.0
    state = {name: v.double() + distance * scale for name, v in start.items()}
    found = evaluate(jacobian, {"t": 0.0, **state}, parameters(model))
    result: Matrix = found["jacobian"].numpy()
    return result


def parameters(model: ModelIR) -> dict[str, ParamSpec]:
    return {spec.name: spec for spec in model.params}
