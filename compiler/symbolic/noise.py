"""The diffusion of a model as a matrix of expressions: components of the state by components of the noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from ndl.compiler.ir.graph import Function, Node
from ndl.compiler.ir.model import ModelIR, NoiseSpec, StateSpec
from ndl.compiler.symbolic.bridge import Budget, Reader
from ndl.compiler.symbolic.derivatives import Differentiator


@dataclass(frozen=True)
class NoiseMatrix:
    """g[i, k] of dx_i = … + Σ_k g[i, k] dW_k: the entries that are not 0. `states` are the symbols of the
    flat state, so that rows and derivatives have one numbering."""

    reader: Reader
    states: tuple[Any, ...]
    columns: int
    entries: dict[tuple[int, int], Any]

    def calculus(self) -> Differentiator:
        return Differentiator(self.reader.leaves)


def inputs_of(function: Function) -> dict[str, Node]:
    return {str(node.attr("name")): node for node in function.inputs}


def state_symbols(model: ModelIR, function: Function, reader: Reader) -> tuple[Any, ...] | None:
    """The symbols of the flat state, None when a state is too large to read."""
    by_name = inputs_of(function)
    found: list[Any] = []
    for state in model.states:
        cells = reader.read(by_name[state.name])
        if cells is None:
            return None
        found.extend(cells.flat)
    return tuple(found)


def offsets(model: ModelIR) -> dict[str, int]:
    """Where each state starts in the flat state."""
    found, at = {}, 0
    for state in model.states:
        found[state.name] = at
        at += state.size
    return found


def noise_matrix(model: ModelIR, budget: Budget | None = None) -> NoiseMatrix | None:
    """The diffusion of a model, None when it has none or one that is too large to read, as that of noise by
    waves, in which each point of a grid reads every wave."""
    if model.diffusion is None or any(spec.law == "waves" for spec in model.noises):
        return None
    reader = Reader(model.diffusion.graph, budget)
    states = state_symbols(model, model.diffusion, reader)
    if states is None:
        return None
    first, start = {}, 0
    for spec in model.noises:
        first[spec.name] = start
        start += spec.size
    rows = offsets(model)
    specs = {state.name: state for state in model.states}
    noises = {spec.name: spec for spec in model.noises}
    entries: dict[tuple[int, int], Any] = {}
    for name, node in model.diffusion.outputs:
        state, _, noise = name.rpartition(",")
        cells = reader.read(node)
        if cells is None:
            return None
        for (i, k), expr in pairs(specs[state], noises[noise], cells):
            if expr != 0:
                place = (rows[state] + i, first[noise] + k)
                entries[place] = entries.get(place, 0) + expr
    return NoiseMatrix(reader, states, start, dict(sorted(entries.items())))


def pairs(state: StateSpec, noise: NoiseSpec, cells: Any) -> list[tuple[tuple[int, int], Any]]:
    """The entries of one output: of the state's own shape when each component has its own noise, else
    state x noise."""
    if cells.shape == state.type.extents and noise.size == state.size:
        return [((i, i), expr) for i, expr in enumerate(cells.flat)]
    table = np.reshape(cells, (state.size, noise.size))
    return [((i, k), table[i, k]) for i in range(state.size) for k in range(noise.size)]
