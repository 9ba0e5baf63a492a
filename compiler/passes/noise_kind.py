"""The kind of noise that the equations' form suggests, made exact by what the coefficients are.

Form cannot see that `dx = y*dW1, dy = x*dW2`, which looks diagonal, does not commute, or that a matrix of
constants is additive. A method of high order is right only for the kinds that it names.
"""

from __future__ import annotations

from dataclasses import replace

from ndl.compiler.ir.graph import Function, Node
from ndl.compiler.ir.model import ModelIR, NoiseSpec, StateSpec
from ndl.compiler.passes.facts.noise import noise_kind
from ndl.compiler.passes.rewrite import Rewriter
from ndl.compiler.types import Tensor


def with_noise_kind(model: ModelIR) -> ModelIR:
    """The model with its true `noise_kind`, the diffusion in the shape that goes with it."""
    if model.diffusion is None or not model.noises:
        return model
    kind = noise_kind(model).value
    if model.noise_kind == "diagonal":
        if kind == "diagonal" or (kind == "scalar" and sum(s.size for s in model.states) == 1):
            return model
        return replace(model, noise_kind=kind, diffusion=matrices(model, model.diffusion))
    # A diagonal that was written as a matrix commutes, and keeps its shape.
    return replace(model, noise_kind="commutative" if kind == "diagonal" else kind)


def matrices(model: ModelIR, diffusion: Function) -> Function:
    """The diffusion with every output of shape state x noise instead of one entry a component."""
    states = {spec.name: spec for spec in model.states}
    noises = {spec.name: spec for spec in model.noises}
    target = Rewriter(diffusion.graph)
    for node in diffusion.inputs:
        target.copy(node)
    outputs = []
    for name, node in diffusion.outputs:
        state, _, noise = name.rpartition(",")
        outputs.append((name, matrix(target, target.copy(node), states[state], noises[noise])))
    return target.function(diffusion, outputs)


def matrix(target: Rewriter, node: Node, state: StateSpec, noise: NoiseSpec) -> Node:
    """A paired coefficient on the diagonal; scalars stay."""
    assert isinstance(node.type, Tensor)
    if not node.type.shape or node.type.extents != state.type.extents or noise.size != state.size:
        return node
    n = state.size
    if node.type.rank > 1:
        node = target.add("reshape", [node], shape=(n,))
    return target.add("diag", [node])
