"""Every solver of the library: it parses, checks, lowers, and has the orders that it claims."""

import math
import re
from fractions import Fraction

import numpy as np
import pytest
import torch
from library import files, lowered, method, solver
from ndl.compiler.source import Source
from ndl.compiler.symbolic.order_conditions import order_of
from ndl.compiler.syntax import tree
from ndl.compiler.syntax.parser import parse
from ndl.runtime.methods import Tableau
from ndl.runtime.solve import solve
from problems import Small, scalars

NAMES = (
    "euler heun midpoint rk4 ssprk2 ssprk3 ssprk54 bosh3 dopri5 tsit5 dopri8 vern7",
    "implicit_euler trapezoidal sdirk kvaerno5 rosenbrock23 rodas5 bdf",
    "leapfrog verlet yoshida4 lie strang imex ars222 ars443 picard nystrom newton anderson broyden",
    "euler_maruyama milstein euler_heun sra1 sri sosri sosri2 reversible_heun",
)
APART = ("taylor", "etdrk2", "etdrk4", "ifrk4")
ODE = [n for n, s in lowered().items() if s.kind == "ode" and " " not in n and n not in APART]
"""All but those that want the equations and not only their values, which have tests of their own."""
TABLEAUX = [n for n in ODE if lowered()[n].c]
ORDERS = {n: int(lowered()[n].order) for n in ODE}


def test_the_names_of_the_language_are_there():
    assert set(" ".join(NAMES).split()) <= set(lowered())
    assert {lowered()["heun"].kind, lowered()["heun for sde"].kind} == {"ode", "sde"}


@pytest.mark.parametrize("file", files(), ids=lambda f: f.stem)
def test_every_solver_is_documented_with_its_source(file):
    parsed, found = parse(Source(str(file), file.read_text(encoding="utf-8")))
    assert not found
    assert parsed.doc and any(isinstance(item, tree.Test) for item in parsed.items)
    solvers = [item for item in parsed.items if isinstance(item, tree.Solver)]
    assert solvers
    for item in solvers:
        assert item.doc
        assert re.search(r"1[6-9]\d\d|20\d\d", item.doc), item.name


@pytest.mark.parametrize("name", TABLEAUX)
def test_a_tableau_has_its_orders_and_no_more(name):
    s = lowered()[name]
    stages = len(s.c)
    a = [list(row) + [Fraction(0)] * (stages - len(row)) for row in s.a]
    assert order_of(a, s.b, 8).order == s.order
    if s.b_hat is not None:
        assert order_of(a, s.b_hat, 8).order >= s.embedded
        assert s.b_hat != s.b


@pytest.mark.parametrize(("name", "times"), [("ssprk2", 1), ("ssprk3", 1), ("ssprk54", 1.50818), ("rk4", 0)])
def test_strong_stability_is_kept_up_to_a_step(name, times):
    """The largest r for which r K (1 + r K)^-1 >= 0 with rows of sum <= 1, K the tableau over its weights
    (Gottlieb, Ketcheson and Shu 2011, section 3.2): how many steps of forward Euler one of these may be."""
    s = lowered()[name]
    n = len(s.c)
    K = np.zeros((n + 1, n + 1))
    for i, row in enumerate([*s.a, s.b]):
        K[i, : len(row)] = [float(v) for v in row]

    def monotone(r):
        M = r * K @ np.linalg.inv(np.eye(n + 1) + r * K)
        return bool((M > -1e-12).all() and (M.sum(1) < 1 + 1e-12).all())

    assert monotone(times) and not monotone(times + 1e-4)


@pytest.mark.parametrize("name", ["bosh3", "dopri5", "tsit5", "dopri8", "vern7", "sdirk", "kvaerno5"])
def test_dense_output_meets_the_ends_and_its_order(name):
    """b_i(1) = b_i, the sum is theta, and sum_i b_i(theta) c_i^(q-1) = theta^q/q up to the dense order."""
    made = solver(name)
    assert isinstance(made, Tableau)
    dense = np.array(made.dense)
    b = np.zeros(made.stages)
    b[: len(made.b)] = made.b
    assert np.abs(dense.sum(1) - b).max() < 1e-12
    orders = {"bosh3": 3, "dopri5": 4, "tsit5": 4, "dopri8": 7, "vern7": 7, "sdirk": 3, "kvaerno5": 4}
    dense_order = orders[name]
    c = np.array(made.c)
    for theta in (0.13, 0.5, 0.91):
        weights = dense @ theta ** np.arange(1, dense.shape[1] + 1)
        for q in range(1, dense_order + 1):
            assert abs(weights @ c ** (q - 1) - theta**q / q) < 1e-13, q


STEPS = {
    1: (0.02, 0.01),
    2: (0.04, 0.02),
    3: (0.1, 0.05),
    4: (0.2, 0.1),
    5: (0.25, 0.125),
    7: (0.375, 0.1875),
    8: (0.75, 0.375),
}


class Nonlinear(Small):
    """x' = y, y' = -sin(x) - y/5 + cos(t)/10: two states, not linear, with time."""

    NAME = "Nonlinear"
    STATES = scalars("x", "y")
    DEFAULTS = dict(x=1.0, y=0.5)  # noqa: RUF012

    def vector_field(self, t, s):
        return torch.stack([s[..., 1], -torch.sin(s[..., 0]) - s[..., 1] / 5 + 0.1 * torch.cos(t)], -1)


@pytest.mark.parametrize("name", ODE)
def test_order_on_a_nonlinear_system(name):
    steps = STEPS[ORDERS[name]]
    fine = solve(Nonlinear(), span=(0, 3), method=method("dopri8", rtol=1e-13, atol=1e-13), save="end").final
    e = []
    for h in steps:
        s = solve(Nonlinear(), span=(0, 3), method=method(name, h=h), save="end").final
        e.append(max(abs(float(s.x - fine.x)), abs(float(s.y - fine.y))))
    assert math.log2(e[0] / e[1]) > ORDERS[name] - 0.4


@pytest.mark.parametrize("name", [n for n in ODE if lowered()[n].embedded])
def test_adaptive_ones_meet_their_tolerance(name):
    tol = 1e-4 if ORDERS[name] < 3 else 1e-7
    most = (150 if ORDERS[name] < 3 else 30) * tol  # errors add up over steps, more of them at low order
    s = solve(Nonlinear(), span=(0, 10), method=method(name, rtol=tol, atol=tol), save=[4.3, 10.0])
    fine = solve(Nonlinear(), span=(0, 10), method=method("dopri8", rtol=1e-13, atol=1e-13), save=[4.3, 10.0])
    kept = 0 if name in TABLEAUX else 1  # a step without weights of its own is cubic inside
    assert float((s.x - fine.x)[kept:].abs().max()) < most
    assert float((s.y - fine.y)[kept:].abs().max()) < most


class Stiff(Small):
    """Prothero and Robinson: x' = -1e6 (x - cos t) - sin t, x = cos t."""

    NAME = "Stiff"
    STATES = scalars("x")
    DEFAULTS = dict(x=1.0)  # noqa: RUF012

    def vector_field(self, t, x):
        return -1e6 * (x - torch.cos(t)[..., None]) - torch.sin(t)[..., None]


@pytest.mark.parametrize("name", ["implicit_euler", "sdirk", "kvaerno5", "rosenbrock23", "rodas5", "bdf"])
def test_stiff_ones_take_large_steps(name):
    s = solve(Stiff(), span=(0, 10), method=method(name, h=0.1))
    assert float((s.x - torch.cos(s.t)).abs().max()) < 1e-3


class Circle(Small):
    """An index 1 equation: x' = -y, 0 = y - x + x^3/10."""

    NAME = "Circle"
    STATES = scalars("x", "y", algebraic=("y",))
    DEFAULTS = dict(x=1.0, y=0.9)  # noqa: RUF012

    def vector_field(self, t, s):
        x, y = s.unbind(-1)
        return torch.stack([-y, y - x + x**3 / 10], -1)


class Reduced(Small):
    NAME = "Reduced"
    STATES = scalars("x")
    DEFAULTS = dict(x=1.0)  # noqa: RUF012

    def vector_field(self, t, x):
        return -(x - x**3 / 10)


@pytest.mark.parametrize("name", ["implicit_euler", "sdirk", "kvaerno5", "rosenbrock23", "rodas5", "bdf"])
def test_algebraic_equations_are_solved_as_well_as_the_reduced_one(name):
    fine = float(solve(Reduced(), span=(0, 2), method=method("dopri8", rtol=1e-13, atol=1e-13)).final.x)
    h = STEPS[ORDERS[name]][0]
    s = solve(Circle(), span=(0, 2), method=method(name, h=h), save="end").final
    reduced = float(solve(Reduced(), span=(0, 2), method=method(name, h=h), save="end").final.x)
    assert abs(float(s.x) - fine) < 1.1 * abs(reduced - fine) + 1e-9
    assert abs(float(s.y - s.x + s.x**3 / 10)) < 1e-6
