"""Newton's method far from a solution: what its damping reaches, what it says where there is none."""

from __future__ import annotations

import math

import pytest
from field_problems import solved
from ndl.compiler.diagnostics import NDLError

import ndl

SURFACE = """
domain Square = interval(x in 0..1, y in 0..1)

model M:
    state u: R on Square = x*(1 - y)
    minimize integral(sqrt(1 + norm(grad(u))^2), [x, y] in Square)
    on left(Square): u = 0
    on right(Square): u = 0
    on bottom(Square): u = sin(pi*x)
    on top(Square): u = 0
"""

BRATU = """
domain Rod = interval(x in 0..1)

model M:
    param k = 3.5
    state u: R on Rod = 0
    0 = dxx(u) + k*exp(u)
    on boundary(Rod): u = 0
"""


def number(text: str, method: str) -> float:
    """The root of a model with one unknown."""
    (s,) = ndl.loads(f"{text}\n\nsolve M as run:\n    method = {method}\n    save = end\n").run("run")
    return float(s.final.u)


def test_a_minimal_surface_from_a_poor_guess() -> None:
    """Undamped the moves grow without end."""
    with pytest.raises(NDLError, match="residual of `u"):
        solved(SURFACE, "uniform(17, 17)", method="newton(damped=false)")
    found = solved(SURFACE, "uniform(17, 17)", method="newton()").final.u
    # the surface is below the harmonic one, whose height in the middle is sinh(pi/2)/sinh(pi)
    flat = solved(
        SURFACE.replace("sqrt(1 + norm(grad(u))^2)", "norm(grad(u))^2"), "uniform(17, 17)", method="newton()"
    )
    assert 0 < float(found[8, 8]) < float(flat.final.u[8, 8])
    assert float(flat.final.u[8, 8]) == pytest.approx(math.sinh(math.pi / 2) / math.sinh(math.pi), rel=5e-3)


def test_an_equation_whose_moves_overshoot() -> None:
    text = "model M:\n    state u = 3\n    0 = atan(u)"
    assert number(text, "newton()") == pytest.approx(0, abs=1e-12)
    with pytest.raises(NDLError, match="newton` did not converge"):
        number(text, "newton(damped=false)")


def test_no_solution_beyond_the_fold() -> None:
    """The fold of Bratu's equation on an interval is at k = 3.5138."""
    s = solved(BRATU, "uniform(129)", method="newton()")
    top = float(s.final.u.max())
    q = 4 * math.acosh(math.exp(top / 2))  # u = -2 log(cosh((x - 1/2) q/2)/cosh(q/4))
    assert q == pytest.approx(math.sqrt(2 * 3.5) * math.cosh(q / 4), rel=1e-3)
    with pytest.raises(NDLError, match=r"no move, however short, .* the residual of `u\[\d+\]` is") as caught:
        solved(BRATU.replace("3.5", "3.6"), "uniform(129)", method="newton()")
    assert "there `u[" in str(caught.value)


def test_convergence_near_a_root_is_quadratic() -> None:
    """The moves are whole there: twice as many digits, one more iteration."""
    steps = []
    for tol in ("1e-3", "1e-6", "1e-12"):
        run = f"solve M as run:\n    method = newton(tol={tol})\n"
        text = f"model M:\n    state u = 1.5\n    0 = exp(u) - 2\n\n{run}"
        (s,) = ndl.loads(text).run("run")
        steps.append(int(s.stats.steps))
    assert steps[1] - steps[0] == 1, steps
    assert steps[2] - steps[1] == 1, steps
    assert float(s.final.u) == pytest.approx(math.log(2), abs=1e-14)
