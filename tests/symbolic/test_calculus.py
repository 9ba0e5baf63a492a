"""Drift corrections against closed forms and finite differences."""

import numpy as np
import pytest
from formulas import E, model, stack, value
from ndl.compiler.ir.model import NoiseSpec
from ndl.compiler.symbolic.calculus import in_calculus
from ndl.compiler.types import tensor

W = NoiseSpec("W", 1, ())


def at(m, name, **inputs):
    weights = {p.name: p.init for p in m.params}
    return value(getattr(m, name), weights, **{"t": 0.0, **inputs})


def test_geometric_brownian_motion():
    m = model(
        {"x": 1.0},
        lambda t, x, mu, s: {"x": mu * x},
        lambda t, x, mu, s: {"x,W": s * x},
        [W],
        {"mu": 0.1, "s": 0.4},
    )
    s = in_calculus(m, "stratonovich")
    assert s.calculus == "stratonovich"
    assert at(s, "drift", x=2.0)["x"] == pytest.approx((0.1 - 0.08) * 2.0, rel=1e-14)
    back = in_calculus(s, "ito")
    assert at(back, "drift", x=2.0)["x"] == pytest.approx(0.2, rel=1e-14)
    assert in_calculus(m, "ito") == m


def test_additive_noise_needs_none():
    m = model({"x": 1.0}, lambda t, x: {"x": -x}, lambda t, x: {"x,W": 1 + t}, [W])
    assert in_calculus(m, "stratonovich").drift is m.drift


def general():
    """Two noises, two states, nothing special."""
    return model(
        {"x": 0.7, "y": -0.4},
        lambda t, x, y: {"x": -x, "y": x * y},
        lambda t, x, y: {
            "x,W": x * y,
            "y,W": (x * x).op("sin"),
            "x,V": y.op("exp"),
            "y,V": x / (1 + y * y),
        },
        [W, NoiseSpec("V", 1, ())],
    )


def numeric_correction(g, x, h=1e-6):
    """1/2 Σ_ik g_ik ∂g_jk/∂x_i by central differences."""
    n = len(x)
    total = np.zeros(n)
    for i in range(n):
        e = np.eye(n)[i] * h
        slope = (g(x + e) - g(x - e)) / (2 * h)
        total += 0.5 * slope @ g(x)[i]
    return total


def test_general_noise():
    m = general()

    def g(v):
        out = at(m, "diffusion", x=v[0], y=v[1])
        return np.array([[out["x,W"], out["x,V"]], [out["y,W"], out["y,V"]]])

    s = in_calculus(m, "stratonovich")
    point = np.array([0.7, -0.4])
    ito, strat = (at(k, "drift", x=0.7, y=-0.4) for k in (m, s))
    got = np.array([ito["x"] - strat["x"], ito["y"] - strat["y"]])
    assert got == pytest.approx(numeric_correction(g, point), rel=1e-8)


def test_diagonal_noise_of_a_vector():
    m = model(
        {"x": (1.0, 2.0, 3.0)},
        lambda t, x: {"x": -x},
        lambda t, x: {"x,W": x * x},
        [NoiseSpec("W", 3, (3,))],
        noise_kind="diagonal",
    )
    s = in_calculus(m, "stratonovich")
    x = np.array([1.0, 2.0, 3.0])
    assert at(s, "drift", x=x.tolist())["x"] == pytest.approx((-x - x**3).tolist(), rel=1e-14)


def test_one_noise_spread_over_a_vector():
    m = model({"x": (1.0, 2.0)}, lambda t, x: {"x": -x}, lambda t, x: {"x,W": stack(x[1], x[0] * x[0])}, [W])
    s = in_calculus(m, "stratonovich")
    x = np.array([1.0, 2.0])
    correction = numeric_correction(lambda v: np.array(at(m, "diffusion", x=v.tolist())["x,W"])[:, None], x)
    assert at(s, "drift", x=x.tolist())["x"] == pytest.approx((-x - correction).tolist(), rel=1e-8)


def test_a_matrix_times_a_vector_of_noises():
    def diffusion(t, x):
        rows = stack(stack(x[0] * x[1], x[1]), stack(x[0], x[0] * x[0]))
        return {"x,W": rows}

    m = model({"x": (0.6, 1.1)}, lambda t, x: {"x": -x}, diffusion, [NoiseSpec("W", 2, (2,))])
    s = in_calculus(m, "stratonovich")
    x = np.array([0.6, 1.1])
    correction = numeric_correction(lambda v: np.array(at(m, "diffusion", x=v.tolist())["x,W"]), x)
    assert at(s, "drift", x=x.tolist())["x"] == pytest.approx((-x - correction).tolist(), rel=1e-8)


def test_through_a_function_without_a_formula():
    """A linear solve is not read symbolically: the graph's own derivatives serve."""

    def diffusion(t, x):
        graph = x.graph
        matrix = stack(stack(2 + x[0], x[1]), stack(x[1], 3 - x[0]))
        solved = E(graph, graph.add("solve", [matrix.node, x.node]))
        return {"x,W": E(graph, graph.add("reshape", [solved.node], shape=(2, 1)))}

    m = model({"x": (0.6, 1.1)}, lambda t, x: {"x": -x}, diffusion, [NoiseSpec("W", 1, (1,))])
    s = in_calculus(m, "stratonovich")
    x = np.array([0.6, 1.1])
    correction = numeric_correction(lambda v: np.array(at(m, "diffusion", x=v.tolist())["x,W"]), x)
    assert at(s, "drift", x=x.tolist())["x"] == pytest.approx((-x - correction).tolist(), rel=1e-7)
    assert m.states[0].type == tensor(2)
