"""Splittings: orders with every kind of flow, exact linear parts, symplectic methods, and what is refused."""

import math
from typing import ClassVar

import pytest
import torch
from library import method
from ndl.runtime.errors import SettingError
from ndl.runtime.info import ParameterInfo, TermInfo
from ndl.runtime.methods import Method
from ndl.runtime.solve import solve
from problems import Small, scalars

A = torch.tensor([[0.0, -1], [1, 0]], dtype=torch.float64)
B = torch.tensor([[0.3, 0.2], [0, -0.5]], dtype=torch.float64)
EXACT = Method("exact", "ode", None)


class Rotor(Small):
    NAME = "Rotor"
    STATES = scalars("x", "y")
    TERMS = (TermInfo("spin", "spin"), TermInfo("stretch", "stretch"), TermInfo("push", "push"))
    DEFAULTS: ClassVar = {"x": 1.0}

    def spin(self, t, x):
        return x @ A.T

    def stretch(self, t, x):
        return x @ B.T

    def push(self, t, x):
        return torch.stack([torch.zeros_like(x[..., 0]), torch.sin(x[..., 0]) + 0 * x[..., 1]], -1)

    def vector_field(self, t, x):
        return self.spin(t, x) + self.stretch(t, x) + self.push(t, x)


class Linear(Rotor):
    NAME = "Linear"
    TERMS = Rotor.TERMS[:2]
    PARAMETERS = (ParameterInfo("k"),)
    DEFAULTS: ClassVar = {"x": 1.0, "k": 1.0}

    def spin(self, t, x):
        return self.k[..., None] * (x @ A.T)

    def vector_field(self, t, x):
        return self.spin(t, x) + self.stretch(t, x)


class Pendulum(Small):
    """theta'' = -sin(theta), with a drive cos(t) of a given size."""

    NAME = "Pendulum"
    STATES = scalars("theta", "theta'")
    PARAMETERS = (ParameterInfo("drive"),)
    DEFAULTS: ClassVar = {"theta": 1.2, "drive": 0.0}

    def vector_field(self, t, x):
        force = -torch.sin(x[..., 0]) + self.drive * torch.cos(t)
        return torch.stack([x[..., 1], force.expand(x.shape[:-1])], -1)

    def energy(self, s):
        return 0.5 * s["theta'"] ** 2 - torch.cos(s["theta"])


class Damped(Pendulum):
    NAME = "Damped"

    def vector_field(self, t, x):
        return torch.stack([x[..., 1], -torch.sin(x[..., 0]) - 0.1 * x[..., 1]], -1)


def final(model, m, span=(0.0, 1.0)):
    s = solve(model, span=span, method=m, save="end")
    return torch.stack([s.final[v.name] for v in model.STATES], -1)


def order(model, name, parts, reference, steps=(0.1, 0.05), span=(0.0, 1.0)):
    e = [float((final(model, method(name, parts, h=h), span) - reference).norm()) for h in steps]
    return math.log2(e[0] / e[1])


@pytest.mark.parametrize(("name", "expected"), [("lie", 1), ("strang", 2)])
@pytest.mark.parametrize("kind", ["rk4", "exact", "nothing", "implicit"])
def test_two_parts_by_any_flow(name, expected, kind):
    flow = {"rk4": method("rk4"), "exact": EXACT, "nothing": None, "implicit": method("sdirk")}[kind]
    reference = torch.linalg.matrix_exp(A + B)[:, 0]
    assert abs(order(Linear(), name, {"spin": flow, "stretch": flow}, reference) - expected) < 0.1


@pytest.mark.parametrize(("name", "expected"), [("lie", 1), ("strang", 2)])
def test_three_parts_are_split_in_turn(name, expected):
    parts = {"spin": EXACT, "push": method("rk4"), "stretch": EXACT}
    reference = final(Rotor(), method("dopri8", rtol=1e-12, atol=1e-12))
    assert abs(order(Rotor(), name, parts, reference) - expected) < 0.15


def test_an_exact_part_alone_is_exact():
    """With the second part zero, any step gives the exponential."""
    found = final(Linear(k=2.0), method("lie", {"spin": EXACT, "stretch": EXACT}, h=1e-3))
    assert float((found - torch.linalg.matrix_exp(2 * A + B)[:, 0]).norm()) < 2e-3
    commuting = {"spin": EXACT, "stretch": EXACT}

    class Same(Linear):
        def stretch(self, t, x):
            return 0.5 * self.spin(t, x)

    found = final(Same(), method("lie", commuting, h=0.5))
    torch.testing.assert_close(found, torch.linalg.matrix_exp(1.5 * A)[:, 0], rtol=0, atol=1e-14)


def test_substeps_of_a_part():
    """The error of Lie with Euler parts falls when the parts take more steps, towards the splitting's own."""
    reference = final(Linear(), method("lie", {"spin": EXACT, "stretch": EXACT}, h=0.1))
    e = []
    for n in (1, 2, 4):
        parts = {"spin": method("euler", steps=n), "stretch": method("euler", steps=n)}
        e.append(float((final(Linear(), method("lie", parts, h=0.1)) - reference).norm()))
    assert 1.7 < e[0] / e[1] < 2.3
    assert 1.7 < e[1] / e[2] < 2.3


@pytest.mark.parametrize(("name", "expected"), [("leapfrog", 2), ("verlet", 2), ("yoshida4", 4)])
def test_symplectic_orders_with_and_without_a_drive(name, expected):
    for drive in (0.0, 0.3):
        model = Pendulum(drive=drive)
        reference = final(model, method("dopri8", rtol=1e-13, atol=1e-13), (0.0, 2.0))
        assert abs(order(model, name, None, reference, (0.1, 0.05), (0.0, 2.0)) - expected) < 0.15


@pytest.mark.parametrize("name", ["leapfrog", "verlet", "yoshida4"])
def test_symplectic_methods_keep_the_energy(name):
    """Over 30 periods the energy error of a symplectic method does not grow; Heun's does."""
    model = Pendulum()

    def drift(m):
        s = solve(model, span=(0.0, 200.0), method=m)
        error = (model.energy(s) - model.energy(s)[0]).abs()
        return float(error[-500:].max()), float(error[:500].max())

    late, early = drift(method(name, h=0.1))
    assert late < 1.05 * early
    late, early = drift(method("heun", h=0.1))
    assert late > 3 * early


def test_gradients_of_a_splitting():
    def loss(k, gradient="none"):
        m = method("strang", {"spin": EXACT, "stretch": method("rk4")}, h=0.1)
        s = solve(Linear().bind(k=k), span=(0, 1), method=m, save="end", gradient=gradient)
        return s.final.x * 2 + s.final.y

    k = torch.tensor(1.3, dtype=torch.float64, requires_grad=True)
    for gradient in ("discrete", ("checkpoint", 3)):
        (found,) = torch.autograd.grad(loss(k, gradient), k)
        at = k.detach()
        expected = (loss(at + 1e-6) - loss(at - 1e-6)) / 2e-6
        torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-8)


def test_what_is_refused():
    rk4 = method("rk4")
    with pytest.raises(SettingError, match="no term `spinn`") as found:
        final(Linear(), method("lie", {"spinn": rk4, "stretch": rk4}, h=0.1))
    assert "spin" in str(found.value.help)
    with pytest.raises(SettingError, match="do not add up to the rate of `y`"):
        final(Rotor(), method("lie", {"spin": rk4, "stretch": rk4}, h=0.1))
    with pytest.raises(SettingError, match="`exact` follows linear terms"):
        final(Rotor(), method("lie", {"spin": rk4, "stretch": rk4, "push": EXACT}, h=0.1))
    with pytest.raises(SettingError, match="takes the splitting's steps"):
        final(Linear(), method("lie", {"spin": method("tsit5", rtol=1e-3), "stretch": rk4}, h=0.1))
    with pytest.raises(SettingError, match=r"rate of `theta'` depends on itself"):
        final(Damped(), method("leapfrog", h=0.1))
