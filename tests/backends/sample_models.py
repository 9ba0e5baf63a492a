"""Hand-built lowered models, and the graphs they are made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ndl.compiler.backends.torch import compile_source, print_module
from ndl.compiler.ir.graph import Function, Graph, Node, ParamSpec
from ndl.compiler.ir.model import EventSpec, InputSpec, ModelIR, NoiseSpec, StateSpec
from ndl.compiler.types import SCALAR, Tensor, tensor


def function(
    name: str,
    inputs: Sequence[tuple[str, Tensor]],
    body: Callable[..., Sequence[tuple[str, Node]]],
    **more: Any,
) -> Function:
    """A function from a body that gets the graph and the input nodes."""
    graph = Graph()
    nodes = tuple(graph.add("input", type=t, name=n) for n, t in inputs)
    return Function(name, graph, nodes, tuple(body(graph, *nodes)), **more)


def param(graph: Graph, name: str, type: Tensor = SCALAR) -> Node:
    return graph.add("param", type=type, name=name)


T = ("t", SCALAR)


def lotka_volterra() -> ModelIR:
    states = [T, ("prey", SCALAR), ("predator", SCALAR)]
    starts = {"alpha": 0.55, "beta": 0.028, "delta": 0.024, "gamma": 0.8}

    def drift(g: Graph, t: Node, x: Node, y: Node) -> list[tuple[str, Node]]:
        def mul(a: Node, b: Node) -> Node:
            return g.add("mul", [a, b])

        meet = [mul(mul(param(g, name), x), y) for name in ("beta", "delta")]
        return [
            ("prey", g.add("sub", [mul(param(g, "alpha"), x), meet[0]])),
            ("predator", g.add("sub", [meet[1], mul(param(g, "gamma"), y)])),
        ]

    def initial(g: Graph) -> list[tuple[str, Node]]:
        return [("prey", g.add("const", value=33.0)), ("predator", g.add("const", value=6.0))]

    return ModelIR(
        "LotkaVolterra",
        "Predators and prey.",
        tuple(ParamSpec(n, SCALAR, init=v, lower=0.0) for n, v in starts.items()),
        {},
        tuple(StateSpec(n, SCALAR, lower=0.0) for n, _ in states[1:]),
        (),
        (),
        function("initial", [], initial),
        function("drift", states, drift),
        equations=(
            "prey' = alpha*prey - beta*prey*predator",
            "predator' = delta*prey*predator - gamma*predator",
        ),
    )


def linear(size_in: int, size_out: int) -> Function:
    """`W @ x + b`, with drawn W."""

    def body(g: Graph, x: Node) -> list[tuple[str, Node]]:
        product = g.add("matmul", [param(g, "W", tensor(size_out, size_in)), x])
        return [("y", g.add("add", [product, param(g, "b", tensor(size_out))]))]

    bound = 1 / size_in**0.5
    params = (
        ParamSpec("W", tensor(size_out, size_in), law=("uniform", (-bound, bound))),
        ParamSpec("b", tensor(size_out), init=(0.5,) * size_out),
    )
    return function("Linear", [("x", tensor(size_in))], body, params=params)


def network() -> Function:
    """Two affine maps with a tanh between, as parts."""

    def body(g: Graph, x: Node) -> list[tuple[str, Node]]:
        h = g.add("call", [x], type=tensor(4), instance="first", index=0)
        return [("y", g.add("call", [g.add("tanh", [h])], type=tensor(2), instance="second", index=0))]

    return function("Net", [("x", tensor(2))], body, parts={"first": linear(2, 4), "second": linear(4, 2)})


def everything() -> ModelIR:
    """A vector state and scalars with awkward names, a net, a path, noise, an event, computed starts."""
    states = [T, ("z", tensor(2)), ("x", SCALAR), ("x'", SCALAR)]

    def drift(g: Graph, t: Node, z: Node, x: Node, v: Node) -> list[tuple[str, Node]]:
        net = g.add("call", [z], type=tensor(2), instance="f", index=0)
        push = g.add("path", [t], type=SCALAR, name="u", order=0)
        wide = g.add("expand", [g.add("mul", [param(g, "lambda"), x])], shape=(2,), axes=())
        force = g.add("sub", [push, g.add("sin", [x])], hint="force")
        return [("z", g.add("add", [net, wide])), ("x", v), ("x'", g.add("mul", [force, force]))]

    def initial(g: Graph) -> list[tuple[str, Node]]:
        twice = g.add("mul", [g.add("const", value=2.0), param(g, "lambda")])
        return [
            ("z", g.add("const", value=(1.0, -1.0))),
            ("x", twice),
            ("x'", g.add("const", value=0.0)),
        ]

    def diffusion(g: Graph, t: Node, z: Node, x: Node, v: Node) -> list[tuple[str, Node]]:
        full = g.add("einsum", [z, z], equation="i,j->ij")
        return [("z,W", full), ("x',B", g.add("mul", [param(g, "lambda"), x]))]

    def energy(g: Graph, t: Node, z: Node, x: Node, v: Node, b: Node) -> list[tuple[str, Node]]:
        return [("energy", g.add("add", [g.add("mul", [v, v]), b]))]

    def guard(g: Graph, t: Node, z: Node, x: Node, v: Node) -> list[tuple[str, Node]]:
        return [("guard", g.add("sub", [x, t]))]

    def reset(g: Graph, t: Node, z: Node, x: Node, v: Node) -> list[tuple[str, Node]]:
        return [("x'", g.add("neg", [v])), ("z", g.add("mul", [z, z]))]

    def constant(g: Graph, *inputs: Node) -> list[tuple[str, Node]]:
        return [("value", g.add("const", value=True))]

    return ModelIR(
        "Everything",
        "",
        (ParamSpec("lambda", SCALAR, init=1.5), ParamSpec("A", tensor(2, 2), law=("normal", (0.0, 1.0)))),
        {"f": network()},
        (StateSpec("z", tensor(2)), StateSpec("x", SCALAR), StateSpec("x'", SCALAR, algebraic=False)),
        (InputSpec("u", SCALAR, True),),
        (NoiseSpec("W", 2, (2,)), NoiseSpec("B", 1, ())),
        function("initial", [], initial),
        function("drift", states, drift),
        function("diffusion", states, diffusion),
        noise_kind="general",
        derived={"energy": function("energy", [*states, ("B", SCALAR)], energy)},
        terms={"spin": function("spin", states, drift)},
        events=(
            EventSpec(
                "falling",
                "falling(x - t)",
                function("guard", states, guard),
                function("reset", states, reset),
                ("x'", "z"),
            ),
        ),
        equations=("z' = f(z) + lambda*x", "x'' = (u - sin(x))^2"),
    )


def built(model: ModelIR) -> type[Any]:
    """The generated class of a model."""
    found: type[Any] = getattr(compile_source(print_module([model]), f"generated_{model.name}"), model.name)
    return found
