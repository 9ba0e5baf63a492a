"""Optimised and not optimised are one model; what the pipeline leaves is well formed."""

import pytest
import torch
from formulas import E, model, value
from ndl.compiler.ir.verify import verify
from ndl.compiler.passes.cost import total_cost
from ndl.compiler.passes.pipeline import Options, map_functions, optimize
from test_facts import lorenz, pendulum, robertson
from test_jacobian import brusselator

POINT = {"t": 0.4}


def values(m, shift=0.1):
    """All outputs of the model's functions of the state, at a point near the initial one."""
    weights = {p.name: p.init for p in m.params}
    start = {k: torch.as_tensor(v, dtype=torch.float64) + shift for k, v in value(m.initial, weights).items()}
    found = {"initial": value(m.initial, weights)}
    for name in ("drift", "diffusion"):
        if getattr(m, name) is not None:
            found[name] = value(getattr(m, name), weights, **POINT, **start)
    return found


@pytest.mark.parametrize("make", [robertson, lorenz, pendulum, lambda: brusselator(3)])
def test_on_equals_off(make):
    m = make()
    on, off = optimize(m), optimize(m, Options(enabled=False))
    assert off.drift is m.drift
    for name, expected in values(off).items():
        for key, entry in expected.items():
            assert values(on)[name][key] == pytest.approx(entry, rel=1e-12, abs=1e-14)
    assert total_cost(on.drift.graph, on.drift.graph) <= total_cost(m.drift.graph, m.drift.graph)
    map_functions(on, lambda f: verify(f) or f)


def test_switches():
    m = lorenz()
    assert optimize(m).jacobian is not None
    assert optimize(m, Options(derivatives=False)).jacobian is None
    plain = optimize(
        model({"x": 1.0}, lambda t, x: {"x": x * x / x}), Options(without=("simplify",), derivatives=False)
    )
    assert [n.op for n in plain.drift.graph][-1] == "div"


def test_what_is_dead_is_gone_and_inputs_stay():
    def drift(t, x):
        (x.op("exp") * 3).op("sin")
        return {"x": -x}

    m = optimize(model({"x": 1.0}, drift))
    assert [n.op for n in m.drift.graph] == ["input", "input", "neg"]
    assert [n.attr("name") for n in m.drift.inputs] == ["t", "x"]


def test_thirds_stay_exact_until_they_are_folded():
    def drift(t, x):
        third = E(x.graph, x.graph.add("const", value=1)) / 3
        return {"x": third * x + third * x + third * x}

    m = optimize(model({"x": 1.0}, drift))
    assert m.drift.outputs[0][1].op == "input"


def test_twice_is_once():
    from ndl.compiler.ir.text import print_function

    once = optimize(robertson())
    assert print_function(optimize(once).drift) == print_function(once.drift)
