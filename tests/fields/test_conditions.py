"""Boundary conditions: convergence to closed forms, on every kind of grid and with every order."""

from __future__ import annotations

import math

import pytest
import torch
from field_problems import EXPLICIT, errors, order, solved
from ndl.compiler.diagnostics import NDLError

import ndl

PI = math.pi
ROD = "domain Rod = interval(x in 0..1)\n"


def heat(start: str, conditions: str, source: str = "0") -> str:
    return f"""{ROD}
model M:
    state u: R on Rod = {start}
    u' = 0.1*lap(u) + {source}
    {conditions}
"""


def decay(k: float, t: float = 0.5) -> float:
    return math.exp(-0.1 * k**2 * t)


CASES = {
    "value": (
        heat("sin(pi*x)", "on boundary(Rod): u = 0"),
        lambda x: decay(PI) * torch.sin(PI * x),
    ),
    "slope": (
        heat("cos(pi*x)", "on boundary(Rod): dn(u) = 0"),
        lambda x: decay(PI) * torch.cos(PI * x),
    ),
    "mixed": (
        heat("1 + x + sin(pi*x/2)", "on left(Rod): u = 1\n    on right(Rod): dn(u) = 1"),
        lambda x: 1 + x + decay(PI / 2) * torch.sin(PI * x / 2),
    ),
    # u = cos(k x) with k tan k = 1: u' = -u at the right end
    "Robin": (
        heat("cos(0.8603335890193798*x)", "on left(Rod): dn(u) = 0\n    on right(Rod): u + dn(u) = 0"),
        lambda x: decay(0.8603335890193798) * torch.cos(0.8603335890193798 * x),
    ),
    "moving": (
        heat(
            "cos(x)",
            "on left(Rod): u = cos(t)\n    on right(Rod): dn(u) = -sin(1 + t)",
            "0.1*cos(x + t) - sin(x + t)",
        ),
        lambda x: torch.cos(x + 0.5),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("accuracy", [2, 4, 6])
def test_orders_of_differences(name: str, accuracy: int) -> None:
    text, exact = CASES[name]
    sizes = (17, 33) if accuracy == 2 else (25, 49) if accuracy == 4 else (13, 25)
    found = errors(text, [f"uniform({n}, order={accuracy})" for n in sizes], exact)
    assert order(found) > accuracy - 0.5, found


@pytest.mark.parametrize("name", ["value", "slope", "mixed", "moving"])
def test_orders_between_cells(name: str) -> None:
    text, exact = CASES[name]
    found = errors(text, [f"uniform({n}, at=cells)" for n in (16, 32)], exact)
    assert order(found) > 1.8, found


@pytest.mark.parametrize("name", CASES)
def test_polynomials_converge_spectrally(name: str) -> None:
    text, exact = CASES[name]
    assert errors(text, ["chebyshev(16)"], exact)[0] < 1e-9


PLATE = """
domain Plate = interval(x in 0..1, y in 0..2)

model M:
    state u: R on Plate = sin(pi*x)*cos(pi*y)
    u' = 0.1*lap(u)
    on left(Plate): u = 0
    on right(Plate): u = 0
    on bottom(Plate): dn(u) = 0
    on top(Plate): dn(u) = 0
"""


@pytest.mark.parametrize("grid", ["uniform(17, 17)", "[uniform(17), chebyshev(12)]"])
def test_sides_of_a_plate(grid: str) -> None:
    exact = lambda x, y: math.exp(-0.1 * PI**2) * torch.sin(PI * x) * torch.cos(PI * y)  # noqa: E731
    found = errors(PLATE, [grid], exact)[0]
    assert found < 4e-3, found


CHANNEL = """
domain Channel = periodic(x in 0..2*pi) * interval(y in 0..1)

model M:
    state u: R on Channel = sin(x)*sin(pi*y)
    u' = dxx(u) + dyy(u)
    on boundary(Channel): u = 0
"""


def test_periodic_in_one_direction() -> None:
    rate = 1 + PI**2
    exact = lambda x, y: math.exp(-0.1 * rate) * torch.sin(x) * torch.sin(PI * y)  # noqa: E731
    found = errors(CHANNEL, ["[fourier(8), chebyshev(12)]"], exact, span="0..0.1", method=EXPLICIT)[0]
    assert found < 1e-9, found


WAVE = f"""{ROD}
model M:
    state u: R on Rod = sin(pi*x)
    state u' = 0
    u'' = lap(u)
    on boundary(Rod): u = 0
"""


def test_a_string_swings() -> None:
    exact = lambda x: math.cos(PI * 0.75) * torch.sin(PI * x)  # noqa: E731
    assert errors(WAVE, ["chebyshev(20)"], exact, span="0..0.75", method=EXPLICIT)[0] < 1e-9


def test_a_condition_on_a_derived_field() -> None:
    """u' = -dxxxx(u) with u = mu = 0 at the ends, where mu = dxx(u): the mode sin(pi x)."""
    text = f"""{ROD}
model M:
    state u: R on Rod = sin(pi*x)
    mu = dxx(u)
    u' = -dxx(mu)
    on boundary(Rod):
        u = 0
        mu = 0
"""
    exact = lambda x: math.exp(-(PI**4) * 0.01) * torch.sin(PI * x)  # noqa: E731
    assert errors(text, ["chebyshev(16)"], exact, span="0..0.01")[0] < 1e-8
    found = errors(text, ["uniform(17)", "uniform(33)"], exact, span="0..0.01")
    assert order(found) > 1.8


def test_members_of_an_ensemble_are_runs_of_their_own() -> None:
    text = f"""{ROD}
model M:
    param nu = 0.1
    state u: R on Rod = sin(pi*x)
    u' = nu*lap(u)
    on left(Rod): u = 0
    on right(Rod): u + dn(u) = nu
    mass = integral(u)
"""
    program = ndl.loads(
        text
        + """
solve M(nu in [0.1, 0.3]) as both:
    span = 0..0.5
    grid = uniform(17)
    method = tsit5(rtol=1e-10, atol=1e-12)
    save = end

solve M(nu=0.3) as one:
    span = 0..0.5
    grid = uniform(17)
    method = tsit5(rtol=1e-10, atol=1e-12)
    save = end
"""
    )
    (both,), (one,) = program.run("both"), program.run("one")
    assert both.final.u.shape == (2, 17) and both.final.mass.shape == (2,)
    torch.testing.assert_close(both.final.u[1], one.final.u, rtol=0, atol=1e-9)
    torch.testing.assert_close(both.final.mass[1], one.final.mass, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("condition", "code", "words"),
    [
        ("on left(Rod): u = 0\n    on boundary(Rod): dn(u) = 1", "NDL442", "left(Rod)"),
        ("on top(Rod): u = 0", "NDL444", "top"),
        ("on boundary(Rod): dn(u*u) = 0", "NDL444", "name"),
        ("on Rod: u = 0", "NDL444", "boundary"),
        ("on boundary(Rod): k = 0", "NDL444", "no field"),
        ("on left(Rod): u = 0", "NDL443", "right(Rod)"),
    ],
)
def test_conditions_that_cannot_be(condition: str, code: str, words: str) -> None:
    text = heat("0", condition).replace("state", "param k = 1\n    state")
    with pytest.raises(NDLError) as trouble:
        ndl.loads(text)
    (found,) = trouble.value.diagnostics
    assert found.code == code and words in found.message + (found.help or "")


def test_missing_conditions_are_found_through_names() -> None:
    text = """
domain Plate = interval(x in 0..1, y in 0..1)

model M:
    state u: R on Plate = 0
    state v: R on Plate = 0
    mu = u^3 - u - lap(u)
    flux = grad(v)
    u' = lap(mu)
    v' = div(flux) + dx(u)
    on boundary(Plate): dn(u) = 0
    on boundary(Plate): dn(mu) = 0
    on left(Plate): v = 0
    on right(Plate): v = 0
    on top(Plate): dn(v) = 0
"""
    with pytest.raises(NDLError) as trouble:
        ndl.loads(text)
    (found,) = trouble.value.diagnostics
    assert found.code == "NDL443" and found.message == "`v` has no condition on `bottom(Plate)`"
    transport = text[: text.index("state v")] + "u' = -dx(u)\n"
    ndl.loads(transport)  # a derivative of first order needs none


def test_grids_that_do_not_fit() -> None:
    text = CASES["value"][0]
    for grid, words in {
        "fourier(16)": "periodic",
        "uniform(16, 16)": "2 axes",
        "uniform(16, order=3)": "2, 4, 6 or 8",
        "uniform(3)": "too few",
        "gauss(8)": "no grid",
        "fem(order=1)": "needs a size",
        "chebyshev(8, order=2)": "no option",
    }.items():
        with pytest.raises(NDLError) as trouble:
            solved(text, grid)
        (found,) = trouble.value.diagnostics
        assert found.code == "NDL441" and words in found.message, found
        assert found.span.text == grid
    program = ndl.loads(text + "\nsolve M:\n    span = 0..1\n    method = tsit5\n")
    with pytest.raises(NDLError) as trouble:
        program.run()
    assert trouble.value.diagnostics[0].code == "NDL440"


@pytest.mark.parametrize(
    ("said", "code", "words"),
    [
        ("on boundary(Rod): u^3 = 8", "NDL550", "not linear in `u`"),
        ("on boundary(Rod): dn(u)^2 + u = 1", "NDL550", "not linear in `dn(u)`"),
        ("on boundary(Rod): u = u*u", "NDL550", "boundary(Rod)"),
        ("on boundary(Rod): dx(u) = 1", "NDL551", "dn(u)"),
        ("on boundary(Rod): dn(u) = lap(u)", "NDL551", "lap(u)"),
        ("on boundary(Rod): u = [0, 1]", "NDL301", "R on Rod"),
        ("on boundary(Rood): u = 0", "NDL201", "Rood"),
        ("on boundary(Rod): w = 0", "NDL201", "w"),
        ("on boundary(Rod): u = 0\n    state m = 0\n    m' = u", "NDL302", "mean(u, x in Rod)"),
        ("on boundary(Rod): u = 0\n    param x = 1", "NDL552", "coordinate of `Rod`"),
        ("on boundary(Rod): u = 0\n    r = diff(u^2, x)", "NDL554", "dx(u^2)"),
    ],
)
def test_mistakes_of_newcomers(said: str, code: str, words: str) -> None:
    with pytest.raises(NDLError) as trouble:
        ndl.loads(heat("0", said))
    (found,) = trouble.value.diagnostics
    assert found.code == code and words in found.message + (found.help or "")


def test_what_is_solved_for_numbers_is_linear() -> None:
    with pytest.raises(NDLError) as trouble:
        solved(heat("0", "on boundary(Rod): sin(u) = 1"), "uniform(17)")
    assert trouble.value.diagnostics[0].code == "NDL550"


def test_a_fourth_derivative_needs_two_conditions() -> None:
    text = heat("0", "on boundary(Rod): u = 0").replace("lap(u)", "-lap(lap(u))")
    with pytest.raises(NDLError) as trouble:
        ndl.loads(text)
    assert trouble.value.diagnostics[0].code == "NDL553"


def test_derivatives_by_coordinates_have_units_of_their_own() -> None:
    text = heat("0", "on boundary(Rod): u = 0").replace(
        "state u: R on", "param a: R{m^2/s} = 1\n    state u: R{K} on"
    )
    ndl.loads(text.replace("lap(u)", "a*lap(u)"))


BEGUN = """
solve M{given}:
    span = 0..1
    grid = uniform(9)
    method = rk4(h=0.001)
    {more}
"""


@pytest.mark.parametrize(
    ("start", "given", "more", "code", "words"),
    [
        ("log(x - 0.5)", "", "", "NDL651", "`u` has no finite initial value"),
        ("0", "(u=[1, 2])", "", "NDL576", "shape [9]"),
        ("0", "(k=x -> x)", "", "NDL576", "no field"),
        ("0", "", "ensemble = 0", "NDL518", "at least 1"),
    ],
)
def test_runs_that_cannot_begin(start: str, given: str, more: str, code: str, words: str) -> None:
    text = heat(start, "param k = 1\n    on boundary(Rod): u = 0")
    with pytest.raises(NDLError) as trouble:
        ndl.loads(text + BEGUN.format(given=given, more=more)).run()
    (found,) = trouble.value.diagnostics
    assert found.code == code and words in found.message


def test_fields_are_reset_in_events() -> None:
    ndl.loads(heat("0", "on boundary(Rod): u = 0\n    when every 0.1: u <- 0.5*u"))
