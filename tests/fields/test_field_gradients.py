"""Gradients of fields by sweeps against torch's and finite differences, for all kinds of ends."""

from typing import Any

import pytest
import torch

import ndl
from ndl.host.field_kernels import field_choice

PROGRAM = """
domain Torus = periodic(x in 0..1, y in 0..1)
domain Box = interval(x in 0..1, y in 0..1)
domain Rod = interval(x in 0..1)
domain Channel = periodic(x in 0..1) * interval(y in 0..1, z in 0..1)

model Burgers:
    param nu = 0.02
    param c: R[2] = [1, 0.5]
    state u: R on Torus = sin(2*pi*x)*cos(2*pi*y)
    state v: R on Torus = cos(2*pi*x)*cos(2*pi*y)
    u' = -c[0]*u*dx(u) - v*dy(u) + nu*lap(u)
    v' = -u*dx(v) - c[1]*v*dy(v) + nu*lap(v) + exp(-t)*nu^2*u^3

model Held:
    param nu = 0.1
    param high = 1.0
    param slope = 0.3
    state u: R on Box = sin(pi*x)*sin(pi*y) + x
    u' = nu*lap(u) + exp(-nu*t)*x*u
    on left(Box): u = 0
    on right(Box): u = 1
    on bottom(Box): dn(u) = slope*x
    on top(Box): u + dn(u) = high*x*cos(t)

model Rough:
    param k: R on Rod = 0.1 + 0.05*x
    param a = 1.5
    state u: R on Rod = sin(pi*x)
    u' = div(k*grad(u)) - a*u^2 + tanh(u)*dx(k)
    on boundary(Rod): dn(u) = 0

model Vector:
    param a = 0.01
    state v: R[2] on Torus = [sin(2*pi*x), cos(2*pi*y)]
    v' = a*grad(div(v)) - v*div(v)

model Solid:
    param a = 0.7
    state u: R on Channel = sin(2*pi*x)*cos(pi*y)*z
    u' = a*lap(u) + u^2
    on boundary(Channel): dn(u) = 0
"""
CASES: dict[str, dict[str, Any]] = {
    "Burgers": {"grid": "uniform(12, 16, order=4)", "span": (0, 0.0105), "h": "euler(h=0.002)"},
    "Held": {"grid": "uniform(17, 13)", "span": (0, 0.01), "h": "rk4(h=0.001)"},
    "Rough": {"grid": "uniform(33)", "span": (0, 0.01), "h": "ssprk3(h=0.001)"},
    "Vector": {"grid": "uniform(12, 12)", "span": (0, 0.1), "h": "heun(steps=7)"},
    "Solid": {"grid": "uniform(6, 9, 10)", "span": (0, 0.005), "h": "midpoint(h=0.001)"},
}
SAVES = {"Burgers": [0, 0.004, 0.008], "Rough": [0.002, 0.006, 0.01]}


def model_of(name: str) -> Any:
    domains, *models = PROGRAM.split("\nmodel ")
    (text,) = (m for m in models if m.startswith(name))
    return ndl.loads(f"{domains}\nmodel {text}", grid=CASES[name]["grid"]).models[name]()


def gradients(name: str, backend: str, gradient: Any = "discrete", **bound: Any) -> list[torch.Tensor]:
    case = CASES[name]
    model = model_of(name)
    given = {p.name: getattr(model, p.name).detach().clone() for p in type(model).PARAMETERS} | bound
    states = {s.name: model.initial_values()[s.name].clone() for s in type(model).STATES}
    leaves = {
        k: torch.as_tensor(v, dtype=torch.float64).requires_grad_() for k, v in {**given, **states}.items()
    }
    s = ndl.solve(
        model.bind(**leaves), span=case["span"], method=case["h"], save=SAVES.get(name, "end"),
        gradient=gradient, backend=backend,
    )  # fmt: skip
    weights = torch.Generator().manual_seed(5)
    loss = sum(
        (s[k] ** 2 * torch.rand(s[k].shape, generator=weights, dtype=torch.float64)).sum() for k in states
    )
    assert isinstance(loss, torch.Tensor)
    return [loss.detach(), *torch.autograd.grad(loss, list(leaves.values()))]


@pytest.mark.parametrize("name", CASES)
def test_gradients_are_those_of_torch(name: str) -> None:
    expected, found = gradients(name, "torch"), gradients(name, "cpu")
    for a, b in zip(expected, found):
        assert float(a.abs().max()) > 1e-6
        torch.testing.assert_close(b, a, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("gradient", ["checkpoint(1)", "checkpoint(3)", "checkpoint(100)"])
def test_checkpoints_change_nothing(gradient: Any) -> None:
    for a, b in zip(gradients("Rough", "cpu"), gradients("Rough", "cpu", gradient)):
        torch.testing.assert_close(b, a, rtol=1e-13, atol=1e-13)


def test_gradients_are_those_of_differences() -> None:
    eps = 1e-6
    (_, _, found, *_) = gradients("Rough", "cpu")
    high, low = (gradients("Rough", "cpu", a=1.5 + e)[0] for e in (eps, -eps))
    torch.testing.assert_close(found, (high - low) / (2 * eps), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("threads", [1, 3])
def test_members_have_gradients_of_their_own(threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    k = 0.1 + 0.05 * torch.rand(3, 33, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    try:
        for bound in ({"k": k}, {"a": torch.tensor([1.0, 1.5, 2.0])}):
            expected, found = (gradients("Rough", b, **bound) for b in ("torch", "cpu"))
            for a, b in zip(expected, found):
                torch.testing.assert_close(b, a, rtol=1e-9, atol=1e-12)
    finally:
        torch.set_num_threads(before)


def test_a_second_way_back_finds_the_same() -> None:
    model = model_of("Rough")
    a = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
    s = ndl.solve(
        model.bind(a=a),
        span=(0, 0.01),
        method="rk4(h=0.001)",
        save="end",
        gradient="checkpoint(3)",
        backend="cpu",
    )
    loss = (s["u"] ** 2).sum()
    (first,) = torch.autograd.grad(loss, [a], retain_graph=True)
    (second,) = torch.autograd.grad(loss, [a])
    assert float(first.abs()) > 1e-3
    assert float(first) == float(second)


@pytest.mark.parametrize(
    ("rate", "grid", "why"),
    [
        ("lap(u) - u", "uniform(16, 16)", "their gradients too"),
        ("lap(u) - integral(u, [x, y] in Torus)", "uniform(16, 16)", "serves it: it sums over the grid"),
        ("lap(u)", "fourier(16, 16)", "serves it: `multiplier` is not done point by point"),
        ("lap(u)", "[fourier(16), uniform(16)]", "serves it: `multiplier` is not done point by point"),
    ],
)
def test_the_choice_is_explained(rate: str, grid: str, why: str) -> None:
    text = f"""
domain Torus = periodic(x in 0..1, y in 0..1)
model M:
    state u: R on Torus = sin(2*pi*x)
    u' = {rate}
"""
    assert why in field_choice(type(ndl.loads(text, grid=grid).models["M"]()).FIELDS.ir)
