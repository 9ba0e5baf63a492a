"""Fourier grids that keep a part of the modes: what quadratic equations conserve, padding, exponentials."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from field_problems import EXPLICIT, solved
from ndl.compiler.diagnostics import NDLError

BURGERS = """
domain Ring = periodic(x in 0..2*pi)

model M:
    param a = 0.3
    state u: R on Ring = sin(x) + 0.5*cos(2*x) + a*sin(9*x)
    u' = -dx(u^2/2)
    energy = integral(u^2/2)
"""
EULER = """
domain Torus = periodic(x in 0..2*pi, y in 0..2*pi)

model M:
    state w: R on Torus = 3*cos(3*x)*sin(4*y) + 2*sin(5*x + y) + cos(2*x - 5*y)
    v = curl(-(lap^-1 @ w))
    w' = -v[0]*dx(w) - v[1]*dy(w)
    energy = integral(norm(v)^2/2)
    enstrophy = integral(w^2/2)
"""


def drift(text: str, grid: str, span: str, *names: str) -> list[float]:
    """How much of each quantity is lost or won."""
    s = solved(text, grid, span, EXPLICIT, save=f"[0, {span.split('..')[1]}]")
    return [abs(float(s[n][1] / s[n][0]) - 1) for n in names]


def test_energy_is_conserved_without_aliases() -> None:
    assert drift(BURGERS, "fourier(24, dealias=2/3)", "0..1", "energy")[0] < 1e-11
    assert drift(BURGERS, "fourier(24)", "0..1", "energy")[0] > 0.1


def test_turbulence_keeps_energy_and_enstrophy() -> None:
    assert max(drift(EULER, "fourier(18, dealias=2/3)", "0..1", "energy", "enstrophy")) < 1e-10
    assert max(drift(EULER, "fourier(18)", "0..1", "energy", "enstrophy")) > 1e-3


def padded(u: np.ndarray, m: int) -> np.ndarray:
    """-(u^2/2)' of waves up to m, the product on 3/2 as many points."""
    n, wide = len(u), 3 * (m + 1)
    modes = np.fft.rfft(u) / n
    fine = np.zeros(wide // 2 + 1, dtype=complex)
    fine[: m + 1] = modes[: m + 1]
    product = np.fft.rfft((np.fft.irfft(fine, wide) * wide) ** 2 / 2) / wide
    rate = np.zeros_like(modes)
    rate[: m + 1] = -1j * np.arange(m + 1) * product[: m + 1]
    found: np.ndarray = np.fft.irfft(rate * n, n)
    return found


def test_rates_are_those_of_padding() -> None:
    """An independent program with products on 3/2 as many points."""
    s = solved(BURGERS, "fourier(36, dealias=2/3)", "0..1", "euler(h=1)", save="steps")
    rate = (s.u[1] - s.u[0]).numpy()
    assert np.abs(rate - padded(s.u[0].numpy(), 11)).max() < 1e-13


def test_modes_beyond_are_left_out() -> None:
    """Waves k with 2k < 2n/3, from the initial field on; by a pair of axes each its own."""
    s = solved(BURGERS, "fourier(24, dealias=2/3)", "0..0.5", "rk4(h=0.01)", save="[0, 0.5]")
    modes = torch.fft.rfft(s.u).abs() / 24
    assert modes[:, 8:].max() < 1e-15
    assert modes[1, 7] > 1e-3
    assert modes[0, 1] == pytest.approx(0.5)
    s = solved(EULER, "[fourier(12, dealias=2/3), fourier(20, dealias=1/2)]", "0..0.1", "rk4(h=0.02)")
    modes = torch.fft.rfft2(s.final.w).abs() / 240
    assert modes[4:-3].max() < 1e-15
    assert modes[:, 5:].max() < 1e-15
    assert modes[:4, :5].max() > 0.1


def test_exponential_methods_still_find_the_linear_part() -> None:
    text = """
domain Ring = periodic(x in 0..32*pi)

model M:
    state u: R on Ring = cos(x/16)*(1 + sin(x/16))
    u' = -dx(u^2/2) - dxx(u) - dxxxx(u)
"""
    found = [
        solved(text, "fourier(96, dealias=2/3)", "0..10", method).final.u
        for method in ("etdrk4(h=0.05)", "rodas5(rtol=1e-9, atol=1e-11)")
    ]
    assert (found[0] - found[1]).abs().max() < 1e-6


def test_gradients_agree_with_difference_quotients() -> None:
    def run(a: float, gradient: str = "none") -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        text = BURGERS.replace("param a = 0.3", f"param a = {a!r}")
        s = solved(text, "fourier(36, dealias=2/3)", "0..0.3", "rk4(h=0.02)", gradient=gradient)
        return (s.final.u**3).mean() + s.final.u[3], dict(s.model.named_parameters())

    value, weights = run(0.3, "discrete")
    (found,) = torch.autograd.grad(value, [weights["a"]])
    quotient = float(run(0.3 + 1e-5)[0] - run(0.3 - 1e-5)[0]) / 2e-5
    assert float(found) == pytest.approx(quotient, rel=1e-6)


def test_the_part_is_a_part() -> None:
    with pytest.raises(NDLError, match="the part of the modes"):
        solved(BURGERS, "fourier(24, dealias=1.5)")
    with pytest.raises(NDLError, match="has no option `dealias`"):
        solved(BURGERS, "uniform(24, dealias=2/3)")
