"""Forced problems that sympy derives from a model, and what `ndl test --manufactured` says of them."""

from __future__ import annotations

import numpy as np
import pytest
import sympy as sp
from ndl.compiler.check.values import ModelV
from ndl.compiler.diagnostics import NDLError
from ndl.compiler.manufactured.exact import TIME, coordinate
from ndl.compiler.manufactured.forced import Forced, manufactured
from ndl.compiler.syntax import tree
from ndl.compiler.syntax.show import show_expr, show_stmt

import ndl
from ndl.host.manufactured import studies

X = coordinate("x")
ROD = """domain Rod = interval(x in 0..2)

model Heat:
    param nu = 0.1
    state u: R on Rod = 0
    u' = nu*dxx(u) - u*dx(u)
    on left(Rod): u = 1
    on right(Rod): u + 2*dn(u) = t
"""


def forced(text: str) -> Forced:
    program = ndl.loads(text)
    (model,) = program._model_values().values()
    assert isinstance(model, ModelV)
    return manufactured(model, program.host.sink)


def value(text: str, **names: float) -> float:
    """The value of a sum or product as the language writes it."""
    written = sp.sympify(text.replace("^", "**"), locals={"t": TIME, "x": X})
    return float(written.subs({TIME: names["t"], X: names["x"], sp.Symbol("nu"): 0.1}))


def test_sources_and_data_are_residuals() -> None:
    """Against derivatives of the solution by differences of high precision."""
    found = forced(ROD)
    u = sp.lambdify((X, TIME), found.solutions["u"][()], "mpmath")
    from mpmath import diff, mp

    mp.dps = 40
    shown = {type(s): s for s in found.model.decl.body}
    equation = shown[tree.Assign]
    assert isinstance(equation, tree.Assign) and isinstance(equation.value, tree.Binary)
    source = show_stmt(tree.Assign(equation.span, equation.targets, equation.value.right)).split("=", 1)[1]
    for x, t in ((0.3, 0.1), (1.7, 0.9)):
        residual = diff(u, (x, t), (0, 1)) - 0.1 * diff(u, (x, t), (2, 0)) + u(x, t) * diff(u, (x, t), (1, 0))
        assert value(source, x=x, t=t) == pytest.approx(float(residual), abs=1e-13)
    sides = [s for s in found.model.decl.body if isinstance(s, tree.On)]
    assert [show_stmt(s).split(":")[0] for s in sides] == ["on left(Rod)", "on right(Rod)"]
    right = sides[1].body[0]
    assert isinstance(right, tree.Assign)
    data = show_stmt(right).split("=", 1)[1]
    wanted = u(2, 0.4) + 2 * diff(u, (2, 0.4), (1, 0))
    assert value(data, x=0, t=0.4) == pytest.approx(float(wanted), abs=1e-13)


def test_solutions_say_something_at_the_ends() -> None:
    found = forced(ROD)
    u = found.solutions["u"][()]
    for end in (0, 2):
        assert abs(float(u.subs({X: end, TIME: 0.3}))) > 0.1
        assert abs(float(u.diff(X).subs({X: end, TIME: 0.3}))) > 0.1


def test_solutions_obey_constraints() -> None:
    text = """domain Ring = periodic(x in 0..1)

model M:
    state a > 0: R on Ring = 1
    state b in 2..3: R[2] on Ring = [2.5, 2.5]
    state c < -1: R on Ring = -2
    a' = 0.01*dxx(a) + log(a)
    b' = 0.01*dxx(b)
    c' = dx(c)
"""
    found = forced(text)
    points = np.linspace(0, 1, 101)
    bounds = {"a": (0, np.inf), "b": (2, 3), "c": (-np.inf, -1)}
    for name, (low, high) in bounds.items():
        for e in found.solutions[name].flat:
            v = sp.lambdify((X, TIME), e, "numpy")(points[:, None], points[None, :])
            assert low < v.min() and v.max() < high
            assert np.abs(v[0] - v[-1]).max() < 1e-12


WRONG = {
    "noise": "    noise W: wiener\n    du = dxx(u)*dt + 0.1*dW",
    "event": "    u' = dxx(u)\n    when every 1: u <- 0*u",
    "input": "    input f: R\n    u' = dxx(u) + f",
    "max": "    u' = dxx(u) - max(u, x in Ring)",
    "drawn": "    k ~ normal(0, 1)\n    u' = k*dxx(u)",
}


@pytest.mark.parametrize("word", WRONG)
def test_models_that_have_none(word: str) -> None:
    text = f"domain Ring = periodic(x in 0..1)\n\nmodel M:\n    state u: R on Ring = 0\n{WRONG[word]}\n"
    with pytest.raises(NDLError) as trouble:
        forced(text)
    (found,) = trouble.value.diagnostics
    assert found.code == "NDL449" and word in found.message


WAVE = """domain Ring = periodic(x in 0..1)

model Wave:
    param g = 0.3
    state psi: C on Ring = exp(2i*pi*x)
    size = abs(psi)^2
    psi' = 0.02i*(lap(psi) + g*size*psi) - 0.1*conj(psi)*imag(psi)
"""


def test_complex_fields_have_sources() -> None:
    """The source is what is left of the equation for the solution, worked out here by complex numbers."""
    found = forced(WAVE)
    psi = found.solutions["psi"][()]
    *_, equation = (s for s in found.model.decl.body if isinstance(s, tree.Assign))
    assert isinstance(equation.value, tree.Binary)
    text = show_expr(equation.value.right).replace("1i", "I").replace("^", "**")
    written = sp.sympify(text, locals={"t": TIME, "x": X})
    at = {TIME: 0.3, X: 0.4}
    p, rate, bend = (complex(e.subs(at)) for e in (psi, sp.diff(psi, TIME), sp.diff(psi, X, 2)))
    assert abs(p.real) > 0.1 and abs(p.imag) > 0.1
    wanted = rate - (0.02j * (bend + 0.3 * abs(p) ** 2 * p) - 0.1 * p.conjugate() * p.imag)
    assert complex(written.subs(at).subs(sp.Symbol("g"), 0.3)) == pytest.approx(wanted, rel=1e-12)
    program = ndl.loads(WAVE)
    (model,) = program._model_values().values()
    (study,) = studies(program, model, ["uniform(n, order=4)"])
    assert study.passed and study.observed == pytest.approx(4, abs=0.2)


def test_a_wrong_equation_is_found() -> None:
    """A model that solves another equation than the one behind its source does not converge."""
    program = ndl.loads(ROD)
    (model,) = program._model_values().values()
    (right,) = studies(program, model, ["uniform(n)"])
    assert right.passed and right.observed == pytest.approx(2, abs=0.2)
    other = ndl.loads(ROD.replace("u*dx(u)", "1.01*u*dx(u)"))
    (changed,) = other._model_values().values()
    from ndl.host.manufactured import Verification

    made = Verification(program, model, {})
    body = tuple(
        b if not isinstance(b, tree.Assign) else _with_source(a, b)
        for a, b in zip(changed.decl.body, made.forced.model.decl.body)
    )
    object.__setattr__(made.forced.model.decl, "body", body)
    assert not made.study("uniform(n)").passed


def _with_source(other: tree.Stmt, forced: tree.Assign) -> tree.Stmt:
    """Another model's equation with this one's source."""
    assert isinstance(other, tree.Assign) and isinstance(forced.value, tree.Binary)
    binary = tree.Binary(forced.value.span, "+", other.value, forced.value.right)
    return tree.Assign(forced.span, forced.targets, binary)


def test_the_command(ndl, tmp_path) -> None:
    file = tmp_path / "heat.ndl"
    file.write_text(ROD + "\nmodel Plain:\n    state y = 1\n    y' = -y\n")
    shown = ndl("test", "--manufactured", file, "--grid", "uniform(n, order=4)", "--set", "nu=0.3")
    assert shown.code == 0 and "1 passed, 0 failed" in shown.out and "Plain" not in shown.out
    (row,) = ndl("test", "--manufactured", file, "--grid", "uniform(n)", "--points", "16,32", "--json").json[
        "manufactured"
    ]
    assert row["expected"] == 2 and row["observed"] > 1.8 and [r["n"] for r in row["rows"]] == [17, 33]
    coarse = ndl("test", "--manufactured", file, "--grid", "chebyshev(n)", "--points", "3,4")
    assert coarse.code == 1 and "FAILED" in coarse.out
    none = ndl("test", "--manufactured", file, "--model", "Plain")
    assert none.code == 1 and "NDL449" in none.err
    assert ndl("test", "--manufactured", file, "--set", "mu=1").code == 2
    assert ndl("test", file, "--grid", "uniform(n)").code == 2
    assert ndl("test", "--manufactured", file, "--points", "a").code == 2


def test_the_euler_lagrange_equation_is_shown(ndl, tmp_path) -> None:
    path = tmp_path / "film.ndl"
    path.write_text(
        "domain Rod = interval(x in 0..1)\n\nmodel Film:\n    state u: R on Rod = x\n"
        "    minimize integral(dx(u)^2/2 + u^4/4, x in Rod)\n    on boundary(Rod): u = x\n"
    )
    shown = ndl("show", "--latex", path).out
    assert r"u^{3} &= \partial_{x}\left(u_{x}\right)" in shown
    assert r"\left(u_{x}\right) \partial_{x} \delta u + \left(u^{3}\right) \delta u" in shown
