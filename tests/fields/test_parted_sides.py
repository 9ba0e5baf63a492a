"""Conditions on parts of the sides of boxes, on grids of differences and of Chebyshev points."""

from __future__ import annotations

import pytest
import torch
from field_problems import errors, order, solved
from ndl.compiler.diagnostics import NDLError

import ndl

MIXED = """
domain Plate = interval(x in 0..1, y in 0..1)

model M:
    state u: R on Plate = exp(x)*sin(y)
    0 = lap(u)
    on left(Plate) if y < 0.4: u = sin(y)
    on left(Plate) if y >= 0.4: dn(u) = -sin(y)
    on right(Plate) if y > 0.7: u + dn(u) = 2*e*sin(y)
    on right(Plate) if not (y > 0.7): u = e*sin(y)
    on bottom(Plate): u = 0
    on top(Plate) if 0.25 < x < 0.6: dn(u) = exp(x)*cos(1)
    on top(Plate) if not (0.25 < x < 0.6): u = exp(x)*sin(1)
"""


def exact(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return torch.exp(x) * torch.sin(y)


def test_values_slopes_and_sums_on_parts_of_sides() -> None:
    """A harmonic function that meets conditions of every kind."""
    found = errors(MIXED, ["uniform(21, 21)", "uniform(41, 41)"], exact, method="direct()")
    assert 1.7 < order(found) < 2.3 and found[-1] < 1e-3, found
    assert errors(MIXED, ["chebyshev(12, 12)"], exact, method="direct()")[0] < 1e-6
    fem = errors(MIXED, ["fem(size=0.05)"], exact, method="direct()")
    assert fem[0] < 3e-3, fem


@pytest.mark.parametrize("method", ["rodas5(rtol=1e-6, atol=1e-8)"])
def test_a_run_that_settles_on_the_steady_field(method: str) -> None:
    text = MIXED.replace("0 = lap", "u' = lap").replace(
        "= exp(x)*sin(y)\n", "= exp(x)*sin(y)*(1 + x*(1 - x)*y)\n", 1
    )
    a = solved(text, "uniform(13, 13)", span="0..4", method=method)
    b = solved(MIXED, "uniform(13, 13)", method="direct()")
    torch.testing.assert_close(a.final.u, b.final.u, rtol=0, atol=1e-4)


def test_a_whole_side_in_two_parts_is_the_whole_side() -> None:
    whole = """
domain Plate = interval(x in 0..1, y in 0..1)

model M:
    state u: R on Plate = x*y
    u' = lap(u) - u*dx(u)
    on left(Plate): dn(u) = y
    on right(Plate): u = y
    on bottom(Plate): u = 0
    on top(Plate): u = x
"""
    parts = whole.replace(
        "    on left(Plate): dn(u) = y\n",
        "    on left(Plate) if y < 0.37: dn(u) = y\n    on left(Plate) if y >= 0.37: dn(u) = y\n",
    )
    a, b = (solved(t, "uniform(9, 9, order=4)", span="0..0.1", method="rk4(h=0.001)") for t in (whole, parts))
    torch.testing.assert_close(a.final.u, b.final.u, rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    ("old", "new", "code", "words"),
    [
        ("y >= 0.4", "y >= 0.3", "NDL442", "`left(Plate) if y < 0.4` meet"),
        ("y >= 0.4", "y >= 0.6", "NDL443", "part of `left(Plate)`"),
        ("y >= 0.4", "y + 1", "NDL446", "true or false"),
    ],
)
def test_errors_name_the_part(old: str, new: str, code: str, words: str) -> None:
    with pytest.raises(NDLError) as trouble:
        solved(MIXED.replace(old, new), "uniform(21, 21)", method="direct()")
    (found,) = trouble.value.diagnostics
    assert found.code == code and words in found.message, found


def test_a_side_and_a_part_of_it_is_a_contradiction() -> None:
    text = MIXED.replace("on left(Plate) if y >= 0.4: dn", "on left(Plate): dn")
    assert ndl.loads(text) is not None  # which points a condition has, the grid tells
    with pytest.raises(NDLError) as trouble:
        solved(text, "uniform(9, 9)", method="direct()")
    assert trouble.value.diagnostics[0].code == "NDL442"
