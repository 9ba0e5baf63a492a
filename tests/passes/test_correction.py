"""The drift correction as a function, and as what a generated model offers the runtime."""

import pytest
from formulas import E, model, stack, value
from ndl.compiler.ir.model import NoiseSpec
from ndl.compiler.passes.correction import with_correction
from ndl.compiler.passes.pipeline import optimize
from ndl.compiler.symbolic.calculus import in_calculus

W = NoiseSpec("W", 1, ())


def vectors():
    """A vector with one noise, a scalar without."""
    return model(
        {"x": (1.0, 2.0), "y": 0.5},
        lambda t, x, y: {"x": -x, "y": -y},
        lambda t, x, y: {"x,W": stack(x[1] * y, x[0] * x[0])},
        [W],
    )


def test_it_is_the_difference_of_the_two_drifts():
    m = vectors()
    point = {"t": 0.0, "x": [1.0, 2.0], "y": 0.5}
    ito = value(m.drift, **point)
    stratonovich = value(in_calculus(m, "stratonovich").drift, **point)
    found = value(with_correction(m).correction, **point)
    assert found["y"] == 0.0
    expected = [a - b for a, b in zip(ito["x"], stratonovich["x"])]
    assert found["x"] == pytest.approx(expected, rel=1e-12) and min(map(abs, found["x"])) > 0.1


def test_there_is_none_for_additive_noise_and_without_a_formula():
    additive = model({"x": 1.0}, lambda t, x: {"x": -x}, lambda t, x: {"x,W": t}, [W])
    assert with_correction(additive).correction is None

    def called(t, x):
        return {"x,W": E(x.graph, x.graph.add("call", [x.node], type=x.node.type, instance="net", index=0))}

    assert with_correction(model({"x": 1.0}, lambda t, x: {"x": -x}, called, [W])).correction is None
    assert with_correction(model({"x": 1.0}, lambda t, x: {"x": -x})).correction is None


def test_the_pipeline_attaches_it():
    assert optimize(vectors()).correction is not None
