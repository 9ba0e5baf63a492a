"""The drift correction by forward derivatives of the graph, for a diffusion that is not a formula.

    c = 1/2 Σ_k (∂g_k/∂x) g_k

The tangents of all columns k go forward together, as a trailing axis.
"""

from __future__ import annotations

from ndl.compiler.ir.autodiff import pushforward
from ndl.compiler.ir.graph import Graph, Node
from ndl.compiler.ir.model import ModelIR, NoiseSpec, StateSpec
from ndl.compiler.types import Dim, Tensor


def graph_correction(graph: Graph, model: ModelIR, diffusion: dict[str, Node]) -> dict[str, Node]:
    """Nodes of c by state, of the state's shape; `diffusion` are the outputs as nodes of `graph`.

    Raises `NotDifferentiable` where an op has no derivative.
    """
    inputs = {n.attr("name"): n for n in graph if n.op == "input"}
    total: dict[str, Node] = {}
    for noise in model.noises:
        columns = {
            state.name: matrix_of(graph, state, noise, diffusion[f"{state.name},{noise.name}"])
            for state in model.states
            if f"{state.name},{noise.name}" in diffusion
        }
        seeds = {
            inputs[state.name].id: reshape(graph, columns[state.name], (*state.type.extents, noise.size))
            for state in model.states
            if state.name in columns and state.name in inputs
        }
        for state in model.states:
            if state.name not in columns:
                continue
            extra = (Dim.of(noise.size),)
            tangent = pushforward(graph, columns[state.name], seeds, extra, parts=model.parts)
            if tangent is None:
                continue
            term = half_trace(graph, state, noise, tangent)
            known = total.get(state.name)
            total[state.name] = term if known is None else graph.add("add", [known, term])
    return total


def matrix_of(graph: Graph, state: StateSpec, noise: NoiseSpec, output: Node) -> Node:
    """An output of the diffusion as a matrix, components of the state by those of the noise."""
    assert isinstance(output.type, Tensor)
    n, m = state.size, noise.size
    if output.type.extents == state.type.extents and (m == n and (n > 1 or not noise.shape)):
        spread = expand(graph, reshape(graph, output, (n,)), (n, m), (0,))
        return graph.add("mul", [spread, identity(graph, n)])
    return reshape(graph, output, (n, m))


def half_trace(graph: Graph, state: StateSpec, noise: NoiseSpec, tangent: Node) -> Node:
    """1/2 Σ_k of the derivative of column k along itself."""
    n, m = state.size, noise.size
    whole = reshape(graph, tangent, (n, m, m))
    chosen = graph.add("mul", [whole, expand(graph, identity(graph, m), (n, m, m), (1, 2))])
    summed = graph.add("sum", [chosen], axes=(1, 2))
    half = expand(graph, graph.add("const", value=0.5), (n,), ())
    return reshape(graph, graph.add("mul", [half, summed]), state.type.extents)


def identity(graph: Graph, n: int) -> Node:
    rows = tuple(tuple(1.0 if i == j else 0.0 for j in range(n)) for i in range(n))
    return graph.add("const", value=rows)


def reshape(graph: Graph, node: Node, shape: tuple[int, ...]) -> Node:
    assert isinstance(node.type, Tensor)
    return node if node.type.extents == shape else graph.add("reshape", [node], shape=shape)


def expand(graph: Graph, node: Node, shape: tuple[int, ...], axes: tuple[int, ...]) -> Node:
    return graph.add("expand", [node], shape=shape, axes=axes)
