"""Derivatives of graphs: through calls, callables and roots; Jacobians as arrays."""

from __future__ import annotations

import pytest
import torch
from ndl.compiler.ir.autodiff import NotDifferentiable, gradient, jacobian, jvp, pullback
from ndl.compiler.ir.graph import Function, Graph, Node
from ndl.compiler.ir.interpret import interpret
from ndl.compiler.ir.verify import verify
from ndl.compiler.types import SCALAR, tensor
from test_functions import DOTTED, WEIGHTS, X, square_root, stacked


def wanted_jacobian(function: Function, inputs: dict[str, torch.Tensor], wrt: str) -> torch.Tensor:
    def value(x: torch.Tensor) -> torch.Tensor:
        return next(iter(interpret(function, {**inputs, wrt: x}, WEIGHTS).values()))

    found: torch.Tensor = torch.autograd.functional.jacobian(value, inputs[wrt])  # type: ignore[no-untyped-call]
    return found


def with_jacobian(function: Function, wrt: Node) -> Function:
    """The same graph with a Jacobian of its first output as its output."""
    node = jacobian(function.graph, function.outputs[0][1], wrt, function.parts)
    return Function("J", function.graph, function.inputs, (("J", node),), function.params, function.parts)


def test_jacobian_through_calls() -> None:
    function = stacked()
    J = with_jacobian(function, function.inputs[0])
    weights = {**WEIGHTS, **DOTTED}
    torch.testing.assert_close(
        interpret(J, {"x": X}, weights)["J"], wanted_jacobian(stacked(), {"x": X}, "x")
    )


def test_gradient_through_calls() -> None:
    function = stacked()
    graph = function.graph
    loss = graph.add("sum", [graph.add("sin", [function.outputs[0][1]])], axes=(0,))
    (slope,) = gradient(graph, loss, [function.inputs[0]], function.parts)
    outputs = (("loss", loss), ("slope", slope))
    both = Function("g", graph, function.inputs, outputs, function.params, function.parts)
    x = X.clone().requires_grad_(True)
    result = interpret(both, {"x": x}, {**WEIGHTS, **DOTTED})
    torch.testing.assert_close(result["slope"], torch.autograd.grad(result["loss"], x)[0])


def rich() -> Function:
    """A vector of a vector by way of most kinds of op."""
    graph = Graph()
    x = graph.add("input", type=tensor(3), name="x")
    outer = graph.add("einsum", [x, x], equation="i,j->ij")
    unit = graph.add("const", value=((3.0, 0.0, 0.0), (0.0, 3.0, 0.0), (0.0, 0.0, 3.0)))
    matrix = graph.add("add", [unit, graph.add("tanh", [outer])])
    solved = graph.add("solve", [matrix, graph.add("cumsum", [x], axis=0)])
    probability = graph.add("softmax", [solved], axis=0)
    turned = graph.add("permute", [outer], axes=(1, 0))
    flat = graph.add("reshape", [turned], shape=(9,))
    part = graph.add("slice", [flat], axis=0, start=2, stop=5)
    positive = graph.add("gt", [x, part])
    chosen = graph.add("select", [positive, probability, part])
    most = graph.add("amax", [outer], axes=(0,))
    size = graph.add("logdet", [matrix])
    wide = graph.add("expand", [size], shape=(3,), axes=())
    y = graph.add("add", [graph.add("mul", [chosen, wide]), most])
    both = graph.add("concat", [y, graph.add("index", [outer], axis=0, at=-1)], axis=0)
    return Function("rich", graph, (x,), (("y", both),))


def test_jacobian_of_a_vector_is_a_few_arrays() -> None:
    x = {"x": torch.tensor([0.3, -0.7, 1.1], dtype=torch.float64)}
    function = rich()
    J = with_jacobian(function, function.inputs[0])
    verify(J)
    torch.testing.assert_close(interpret(J, x)["J"], wanted_jacobian(rich(), x, "x"))


def test_the_size_of_a_jacobian_does_not_grow_with_the_vector() -> None:
    sizes = []
    for n in (3, 40):
        graph = Graph()
        x = graph.add("input", type=tensor(n), name="x")
        y = graph.add("mul", [graph.add("sin", [x]), graph.add("cumsum", [x], axis=0)])
        jacobian(graph, y, x)
        sizes.append(len(graph))
    assert sizes[0] == sizes[1]


def test_jvp_is_the_jacobian_times_the_tangent() -> None:
    function = rich()
    graph, x = function.graph, function.inputs[0]
    v = graph.add("input", type=tensor(3), name="v")
    forward = jvp(graph, function.outputs[0][1], [x], [v])
    J = jacobian(graph, function.outputs[0][1], x)
    both = Function("b", graph, (x, v), (("forward", forward), ("J", J)))
    values = {"x": torch.tensor([0.3, -0.7, 1.1]), "v": torch.tensor([1.0, 2.0, -0.5])}
    result = interpret(both, values)
    torch.testing.assert_close(result["forward"], result["J"] @ values["v"].double())


def test_callables_are_differentiated_by_their_jacobian() -> None:
    graph = Graph()
    x = graph.add("input", type=tensor(2), name="x")
    t = graph.add("input", type=SCALAR, name="t")
    y = graph.add("sin", [graph.add("apply", [graph.add("mul", [x, x]), t], type=tensor(2), callee="f")])
    J = jacobian(graph, y, x)
    g = graph.add("input", type=tensor(2), name="g")
    by_x, by_t = pullback(graph, y, g, [x, t])
    assert by_x is not None and by_t is not None
    outputs = (("y", y), ("J", J), ("by_x", by_x), ("by_t", by_t))
    function = Function("f", graph, (x, t, g), outputs)

    def f(z: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        return torch.stack([z[0] * z[1] * s, z[0] + s**2])

    values = {
        "x": torch.tensor([0.4, 0.9], dtype=torch.float64, requires_grad=True),
        "t": torch.tensor(0.7, dtype=torch.float64, requires_grad=True),
        "g": torch.tensor([1.0, -2.0], dtype=torch.float64),
    }
    result = interpret(function, values, callables={"f": f})
    rows = [torch.autograd.grad(result["y"][i], values["x"], retain_graph=True)[0] for i in range(2)]
    torch.testing.assert_close(result["J"], torch.stack(rows))
    wanted = torch.autograd.grad((values["g"] * result["y"]).sum(), [values["x"], values["t"]])
    torch.testing.assert_close([result["by_x"], result["by_t"]], list(wanted))


def test_a_root_is_differentiated_implicitly() -> None:
    function = square_root()
    (slope,) = gradient(function.graph, function.outputs[0][1], list(function.inputs))
    whole = Function("d", function.graph, function.inputs, (*function.outputs, ("slope", slope)))
    a = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    result = interpret(whole, {"a": a})
    assert result["z"].item() == pytest.approx(2**0.5, abs=1e-14)
    assert result["slope"].item() == pytest.approx(0.5 / 2**0.5, abs=1e-12)
    assert torch.autograd.grad(result["z"], a)[0].item() == pytest.approx(0.5 / 2**0.5, abs=1e-12)


def test_what_has_no_derivative_says_so() -> None:
    graph = Graph()
    x = graph.add("input", type=tensor(2), name="x")
    slope = graph.add("apply_jac", [x], type=tensor(2, 2), callee="f", wrt=0)
    total = graph.add("sum", [slope], axes=(0, 1))
    with pytest.raises(NotDifferentiable, match="`apply_jac` has no derivative"):
        gradient(graph, total, [x])
