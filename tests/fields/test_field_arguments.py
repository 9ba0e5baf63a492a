"""What an application sets of a model's fields: formulas and other domains."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

import ndl
from ndl import NDLError

HEAT = """
domain Ring = periodic(x in 0..2*pi)
domain Torus = periodic(x in 0..2*pi, y in 0..2*pi)

model Heat:
    domain Omega = interval(x in 0..1)
    param nu: R on Omega = 0.1
    state u: R on Omega = sin(pi*x)
    u' = nu*lap(u)
    on boundary(Omega): u = 0

model Wave:
    domain Omega = periodic(x in 0..2*pi)
    state u: R on Omega = sin(x)
    state u': R on Omega = 0
    u'' = lap(u)

model Two:
    a = Heat(Omega=Ring, u=x -> cos(x))
    state s = 0.0
    s' = mean(a.u^2, x in a.Omega)

fn bump(x) = cos(x)
"""


def final(application: str, grid: str, span: str = "0..1") -> Any:
    run = f"solve {application} as run:\n    span = {span}\n    grid = {grid}\n"
    (found,) = ndl.loads(HEAT + run + "    method = rk4(h=0.001)\n    save = end\n").run("run")
    return found


def test_a_formula_is_the_initial_field() -> None:
    s = final("Heat(u=x -> sin(2*pi*x))", "chebyshev(16)")
    wanted = math.exp(-0.4 * math.pi**2) * torch.sin(2 * math.pi * s.grid.x)
    assert (s.final.u - wanted).abs().max() < 1e-6


def test_a_function_of_the_file_is_a_formula() -> None:
    s = final("Heat(Omega=Ring, u=bump)", "fourier(16)")
    assert (s.final.u - math.exp(-0.1) * torch.cos(s.grid.x)).abs().max() < 1e-9


@pytest.mark.parametrize("grid", ["fourier(16)", "{Ring: fourier(16)}"])
def test_a_periodic_domain_needs_no_condition(grid: str) -> None:
    s = final("Heat(Omega=Ring, u=x -> cos(x))", grid)
    assert (s.final.u - math.exp(-0.1) * torch.cos(s.grid.x)).abs().max() < 1e-9


def test_a_domain_may_have_more_coordinates() -> None:
    s = final("Heat(Omega=Torus, u=[x, y] -> cos(x)*sin(y), nu=[x, y] -> 0.2)", "fourier(12)")
    wanted = math.exp(-0.4) * torch.cos(s.grid.x) * torch.sin(s.grid.y)
    assert s.final.u.shape == (12, 12)
    assert (s.final.u - wanted).abs().max() < 1e-9


def test_a_first_derivative_has_a_formula() -> None:
    s = final("Wave(u=x -> 0, u'=x -> cos(x))", "fourier(16)")
    assert (s.final.u - math.sin(1) * torch.cos(s.grid.x)).abs().max() < 1e-9


def test_two_applications_are_two_models() -> None:
    a, b = (final(f"Heat(Omega=Ring, u=x -> cos({k}*x))", "fourier(16)") for k in (1, 2))
    assert (a.final.u - math.exp(-0.1) * torch.cos(a.grid.x)).abs().max() < 1e-9
    assert (b.final.u - math.exp(-0.4) * torch.cos(2 * b.grid.x)).abs().max() < 1e-9


def test_what_is_no_domain_is_refused() -> None:
    with pytest.raises(NDLError, match="`Omega` is a domain"):
        final("Heat(Omega=3)", "fourier(16)")


def test_a_formula_of_other_coordinates_is_refused() -> None:
    with pytest.raises(NDLError, match="1 argument"):
        final("Heat(Omega=Torus, u=x -> cos(x))", "fourier(16)")


def test_a_part_has_the_domain_that_its_application_sets() -> None:
    s = final("Two", "fourier(16)")
    wanted = 0.5 * (1 - math.exp(-0.2)) / 0.2
    assert abs(float(s.final.s) - wanted) < 1e-9
