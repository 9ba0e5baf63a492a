"""Quadratures over parts of an interval, and integral equations with known solutions."""

import math
from typing import ClassVar

import numpy as np
import pytest
import torch
from library import method
from ndl.runtime.errors import SettingError
from ndl.runtime.failures import SolveFailure
from ndl.runtime.info import IntegralInfo, ParameterInfo
from ndl.runtime.quadrature import gauss, read_rule, simpson, trapezoid
from ndl.runtime.solve import solve
from problems import Small, scalars


@pytest.mark.parametrize(("rule", "order"), [(trapezoid, 2), (simpson, 3)])
def test_partial_integrals_have_their_order(rule, order):
    a, b = np.array([0.5, 0.71, 1.93, 0.5]), np.array([2.0, 1.31, 0.6, 0.5])
    e = []
    for n in (40, 80):
        q = rule(n).on(0.5, 2.0)
        e.append(np.abs(q.weights(a, b) @ np.exp(q.nodes) - (np.exp(b) - np.exp(a))).max())
    assert math.log2(e[0] / e[1]) > order - 0.3


def test_gauss_is_exact_for_polynomials():
    q = gauss(6).on(-1.0, 3.0)
    whole = q.weights(np.array([-1.0]), np.array([3.0]))[0]
    assert abs(whole @ q.nodes**11 - (3**12 - 1) / 12) < 1e-9 * 3**12
    part = q.weights(np.array([0.2]), np.array([1.7]))[0]
    assert abs(part @ q.nodes**5 - (1.7**6 - 0.2**6) / 6) < 1e-12


def test_rules_are_read_from_their_text():
    assert read_rule("gauss(24)") == gauss(24)
    assert read_rule("simpson") == simpson(100)
    with pytest.raises(SettingError, match="even number"):
        simpson(7)
    with pytest.raises(SettingError, match="is not a quadrature"):
        read_rule("gaus(24)")


class Volterra(Small):
    """y(t) = t - int_0^t (t - s) y ds: y = sin t."""

    NAME = "Volterra"
    STATES = scalars("y")
    INTEGRALS = (IntegralInfo(True),)

    def kernel_0(self, t, s, y):
        return (t - s) * y[..., 0]

    def lower_0(self, t):
        return torch.zeros_like(t)

    def forcing(self, t, integrals):
        return (t - integrals[0])[..., None]


class Square(Volterra):
    """y(t) = tan t + … : y(t) = 1 + int_0^t y^2 ds, y = 1/(1 - t): a nonlinear kernel."""

    NAME = "Square"

    def kernel_0(self, t, s, y):
        return y[..., 0] ** 2

    def forcing(self, t, integrals):
        return (1 + integrals[0])[..., None]


class Fredholm(Small):
    """y(t) = exp(t) - a (exp(t + 1) - 1)/(t + 1) + a int_0^1 exp(ts) y ds: y = exp t."""

    NAME = "Fredholm"
    STATES = scalars("y")
    INTEGRALS = (IntegralInfo(False),)
    PARAMETERS = (ParameterInfo("a"),)
    DEFAULTS: ClassVar = {"a": 1.0}

    def kernel_0(self, t, s, y):
        return torch.exp(t * s) * y[..., 0]

    def lower_0(self, t):
        return torch.zeros_like(t)

    def upper_0(self, t):
        return torch.ones_like(t)

    def forcing(self, t, integrals):
        return (torch.exp(t) + self.a * (integrals[0] - (torch.exp(t + 1) - 1) / (t + 1)))[..., None]


class Pair(Small):
    """y, z = 1 + int z, 1 + t - cos… : y' = z, z' = -y from (0, 1): two states, a vector kernel."""

    NAME = "Pair"
    STATES = scalars("y", "z")
    INTEGRALS = (IntegralInfo(True), IntegralInfo(True))

    def kernel_0(self, t, s, x):
        return x[..., 1]

    def kernel_1(self, t, s, x):
        return x

    lower_0 = Volterra.lower_0
    lower_1 = Volterra.lower_0

    def forcing(self, t, integrals):
        return torch.stack([integrals[0], 1 - integrals[1][..., 0]], -1)


@pytest.mark.parametrize("name", ["picard", "nystrom"])
@pytest.mark.parametrize(
    ("rule", "tolerance"), [(trapezoid(400), 1e-4), (simpson(60), 2e-6), (gauss(20), 1e-12)]
)
def test_a_volterra_equation(name, rule, tolerance):
    s = solve(Volterra(), span=(0, 3), method=method(name, quadrature=rule, tol=1e-13))
    assert float((s.y - torch.sin(s.t)).abs().max()) < tolerance
    assert abs(float(s.y(1.2345)) - math.sin(1.2345)) < tolerance
    assert abs(float(s.final.y) - math.sin(3)) < tolerance


def test_nystrom_solves_a_linear_equation_at_once():
    s = solve(Fredholm(), span=(0, 1), method=method("nystrom", quadrature=gauss(24)))
    assert float((s.y - torch.exp(s.t)).abs().max()) < 1e-12
    assert s.stats.steps == 2  # the second step sees that nothing changes


def test_a_fredholm_equation_is_solved_beyond_its_interval():
    s = solve(Fredholm(), span=(0, 2), method=method("nystrom", quadrature=gauss(24)), save=[0.5, 1.7])
    assert float((s.y - torch.exp(s.t)).abs().max()) < 1e-11


@pytest.mark.parametrize("name", ["picard", "nystrom"])
def test_a_nonlinear_equation(name):
    s = solve(Square(), span=(0, 0.5), method=method(name, quadrature=gauss(20), tol=1e-13))
    assert float((s.y - 1 / (1 - s.t)).abs().max()) < 1e-11


def test_several_states_and_a_vector_kernel():
    for name in ("picard", "nystrom"):
        s = solve(Pair(), span=(0, 2), method=method(name, quadrature=gauss(16), tol=1e-13))
        assert float((s.y - torch.sin(s.t)).abs().max()) < 1e-12
        assert float((s.z - torch.cos(s.t)).abs().max()) < 1e-12


def test_a_family_and_its_gradients():
    a = torch.tensor([0.2, 0.5], dtype=torch.float64, requires_grad=True)

    def run(a, gradient, name):
        m = method(name, quadrature=gauss(12), tol=1e-13)
        return solve(Fredholm().bind(a=a), span=(0, 1), method=m, save=[0.3], gradient=gradient).y[:, 0]

    torch.testing.assert_close(run(a.detach(), "none", "picard"), torch.full((2,), math.exp(0.3)).double())
    for name in ("picard", "nystrom"):
        for gradient in ("discrete", "adjoint"):
            # y = exp t for every a
            (slope,) = torch.autograd.grad(run(a, gradient, name).sum(), a)
            assert float(slope.abs().max()) < 1e-9


def test_adjoint_gradients_agree_with_differences():
    class Scaled(Volterra):
        PARAMETERS = (ParameterInfo("a"),)
        DEFAULTS: ClassVar = {"a": 1.0}

        def forcing(self, t, integrals):
            return (t - self.a * integrals[0])[..., None]

    def value(a, gradient="none"):
        m = method("nystrom", quadrature=gauss(16))
        return solve(Scaled().bind(a=a), span=(0, 2), method=m, save="end", gradient=gradient).final.y

    a = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    (found,) = torch.autograd.grad(value(a, "adjoint"), a)
    # y = sin(sqrt(a) t)/sqrt(a)
    r = math.sqrt(0.7)
    expected = (2 * math.cos(2 * r) / r - math.sin(2 * r) / r**2) / (2 * r)
    assert abs(float(found) - expected) < 1e-10


def test_what_is_refused_and_what_fails():
    with pytest.raises(SettingError, match="does not solve the integral equation"):
        solve(Volterra(), span=(0, 1), method=method("rk4", h=0.1))
    with pytest.raises(SolveFailure, match="did not converge"):
        solve(Fredholm(a=5.0), span=(0, 1), method=method("picard", quadrature=gauss(8)))
