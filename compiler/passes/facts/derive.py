"""All facts of a model, in the order in which they are told."""

from __future__ import annotations

from typing import Any

from ndl.compiler.ir.model import ModelIR
from ndl.compiler.passes.facts.algebra import conserved_sums, linear_parts
from ndl.compiler.passes.facts.breaks import discontinuities
from ndl.compiler.passes.facts.facts import Fact, Facts
from ndl.compiler.passes.facts.noise import drift_correction, noise_kind
from ndl.compiler.passes.facts.stiffness import stiffness
from ndl.compiler.passes.facts.structure import (
    autonomous,
    consistency,
    equation_kind,
    separation,
    sparsity,
)
from ndl.compiler.passes.facts.view import MOST_COMPONENTS, component_names, view_of


def derive(model: ModelIR) -> Facts:
    """The facts of a lowered model. Every step is bounded; what is out of bounds says so."""
    view = view_of(model)
    size = sum(state.size for state in model.states)
    if view is None:
        why = (
            "there is no right-hand side"
            if model.drift is None
            else f"the state has {size} components; up to {MOST_COMPONENTS} are looked into"
        )
        unknown: Fact[Any] = Fact(None, why)
        linear, wholly, pattern, separable, consistent = (unknown,) * 5
        conserved: Fact[Any] = Fact((), why)
    else:
        linear, wholly = linear_parts(view)
        pattern, separable = sparsity(view), separation(view)
        consistent, conserved = consistency(view), conserved_sums(view)
    return Facts(
        model=model.name,
        components=component_names(model),
        equation=equation_kind(model),
        autonomous=autonomous(model),
        noise=noise_kind(model),
        calculus=model.calculus,
        correction=drift_correction(model),
        linear=linear,
        wholly_linear=wholly,
        stiffness=stiffness(model),
        breaks=discontinuities(model),
        sparsity=pattern,
        conserved=conserved,
        separable=separable,
        consistent=consistent,
    )
