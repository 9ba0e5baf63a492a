"""Graphs and models written as formulas, for tests of the symbolic floor and the passes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ndl.compiler.ir.graph import Function, Graph, Node, ParamSpec
from ndl.compiler.ir.model import ModelIR, NoiseSpec, StateSpec
from ndl.compiler.passes.facts.numeric import evaluate
from ndl.compiler.types import SCALAR, tensor


@dataclass(frozen=True, eq=False)
class E:
    """A node with Python's operators."""

    graph: Graph
    node: Node

    def op(self, name, *others, **attrs):
        lift = lambda v: v.node if isinstance(v, E) else self.graph.add("const", value=v)  # noqa: E731
        return E(self.graph, self.graph.add(name, [self.node, *map(lift, others)], **attrs))

    def flipped(self, name, other):
        return E(self.graph, self.graph.add("const", value=other)).op(name, self)

    def __add__(self, o):
        return self.op("add", o)

    def __radd__(self, o):
        return self.flipped("add", o)

    def __sub__(self, o):
        return self.op("sub", o)

    def __rsub__(self, o):
        return self.flipped("sub", o)

    def __mul__(self, o):
        return self.op("mul", o)

    def __rmul__(self, o):
        return self.flipped("mul", o)

    def __truediv__(self, o):
        return self.op("div", o)

    def __rtruediv__(self, o):
        return self.flipped("div", o)

    def __pow__(self, o):
        return self.op("pow", o)

    def __neg__(self):
        return self.op("neg")

    def __getitem__(self, i):
        return self.op("index", axis=0, at=i)


def stack(*items):
    graph = items[0].graph
    return E(graph, graph.add("stack", [e.node for e in items], axis=0))


def function(formula, *names, name="f", shapes=None, params=()):
    """A function whose outputs `formula(*inputs)` gives, as one E or a dict of them."""
    graph, shapes = Graph(), shapes or {}
    inputs = [graph.add("input", type=tensor(*shapes.get(n, ())), name=n) for n in names]
    weights = [E(graph, graph.add("param", type=tensor(*shapes.get(n, ())), name=n)) for n in params]
    found = formula(*(E(graph, n) for n in inputs), *weights)
    outputs = found if isinstance(found, dict) else {name: found}
    return Function(name, graph, tuple(inputs), tuple((k, e.node) for k, e in outputs.items()))


def value(f, weights=None, **inputs):
    """The outputs by name as floats or nested lists."""
    specs = {n: ParamSpec(n, tensor(), init=v) for n, v in (weights or {}).items()}
    return {name: v.tolist() for name, v in evaluate(f, inputs, specs).items()}


def model(
    states: Mapping[str, float | tuple],
    drift,
    diffusion=None,
    noises: Sequence[NoiseSpec] = (),
    params: Mapping[str, float] | None = None,
    algebraic: Sequence[str] = (),
    **more,
) -> ModelIR:
    """A model from formulas of (t, *states, *params) that return dicts of outputs."""
    params = params or {}
    shapes = {n: (len(v),) for n, v in states.items() if isinstance(v, tuple)}
    names = ("t", *states)
    initial = Graph()
    starts = tuple((n, initial.add("const", value=v)) for n, v in states.items())
    return ModelIR(
        "M",
        "",
        tuple(ParamSpec(n, SCALAR, init=v) for n, v in params.items()),
        {},
        tuple(StateSpec(n, tensor(*shapes.get(n, ())), algebraic=n in algebraic) for n in states),
        (),
        tuple(noises),
        Function("initial", initial, (), starts),
        function(drift, *names, name="drift", shapes=shapes, params=tuple(params)) if drift else None,
        function(diffusion, *names, name="diffusion", shapes=shapes, params=tuple(params))
        if diffusion
        else None,
        **more,
    )
