"""What the compiler finds to be diagonal in Fourier space, and the methods that follow it exactly."""

from __future__ import annotations

import math

import pytest
import torch
from field_problems import order, solved
from ndl.runtime.fourier import phi

import ndl

RING = "domain Ring = periodic(x in 0..2*pi)\n"


def test_phi_functions_are_smooth_at_zero() -> None:
    """Against their series in twice the precision of what cancels: sums of z^j/(j + k)! up to |z| = 4."""
    z = torch.complex(
        torch.linspace(-3, 3, 61, dtype=torch.float64), torch.linspace(2, -2, 61, dtype=torch.float64)
    )
    for k in range(4):
        wanted = sum(z**j / float(math.factorial(j + k)) for j in range(60))
        torch.testing.assert_close(phi(k, z), wanted, rtol=1e-13, atol=1e-13)


def model(rate: str) -> str:
    return (
        f"{RING}\nmodel M:\n    param c = 0.7\n    state u: R on Ring = sin(x) + cos(3*x)\n    u' = {rate}\n"
    )


def symbol(rate: str, n: int = 8) -> torch.Tensor | None:
    program = ndl.loads(
        model(rate)
        + f"\nsolve M as run:\n    span = 0..0.01\n    grid = fourier({n})\n    method = rk4(h=0.01)\n"
    )
    (s,) = program.run("run")
    infos = s.model.FOURIER
    return getattr(s.model, infos[0].method)() if infos else None


def test_symbols() -> None:
    k = torch.arange(5, dtype=torch.float64)
    odd = torch.where(k == 4, 0.0, k)  # the highest mode has no odd derivative
    cases = {
        "c*dxx(u) - u*dx(u)": -0.7 * k**2 + 0j,
        "-(dxxx(u) - 2*c*u)/c + sin(u)": (1j * odd**3 + 1.4) / 0.7,
        "-lap(u + lap(u)) + x": k**2 - k**4 + 0j,
        "3*dx(u) + exp(c)*u + 1": 3j * odd + math.exp(0.7),
    }
    for rate, wanted in cases.items():
        found = symbol(rate)
        assert found is not None
        torch.testing.assert_close(found.detach(), wanted.to(torch.complex128), rtol=1e-13, atol=1e-13)
    assert symbol("u*dxx(u) + x*dx(u)") is None
    assert symbol("sin(x) - u^3") is None


@pytest.mark.parametrize(("method", "wanted"), [("etdrk2", 2), ("etdrk4", 4), ("ifrk4", 4)])
def test_orders(method: str, wanted: int) -> None:
    text = model("0.5*dxx(u) - u*dx(u) + cos(t)*sin(x)")
    exact = solved(text, "fourier(32)", span="0..1", method="tsit5(rtol=1e-12, atol=1e-13)").final.u
    found = []
    for h in (0.05, 0.025):
        s = solved(text, "fourier(32)", span="0..1", method=f"{method}(h={h})")
        found.append(float((s.final.u - exact).abs().max()))
    assert order(found) > wanted - 0.3, found


def test_a_linear_equation_is_exact_in_one_step() -> None:
    s = solved(model("c*dxx(u) - dxxx(u)"), "fourier(16)", span="0..1", method="etdrk4(h=1.0)")
    x = s.grid.x
    wanted = math.exp(-0.7) * torch.sin(x + 1) + math.exp(-6.3) * torch.cos(3 * (x + 9))
    torch.testing.assert_close(s.final.u, wanted, rtol=0, atol=1e-13)


def test_terms_are_followed_by_transforms() -> None:
    """Of a splitting of two linear terms that commute each step is exact; the matrix exponential agrees."""
    text = f"""{RING}
model M:
    param c = 0.7
    state u: R on Ring = sin(x) + cos(3*x)
    term diffusion = c*dxx(u)
    term transport = -dx(u)
    u' = diffusion + transport
"""
    for grid in ("fourier(16)", "uniform(16, order=8)"):
        s = solved(text, grid, span="0..1", method="strang(diffusion: exact, transport: exact, h=0.5)")
        x = s.grid.x
        wanted = math.exp(-0.7) * torch.sin(x - 1) + math.exp(-6.3) * torch.cos(3 * (x - 1))
        assert float((s.final.u - wanted).abs().max()) < (1e-12 if "fourier" in grid else 1e-2)


def test_other_grids_have_no_such_part() -> None:
    from ndl.compiler.diagnostics import NDLError

    with pytest.raises(NDLError) as trouble:
        solved(model("dxx(u)"), "uniform(16)", span="0..1", method="etdrk4(h=0.1)")
    assert "diagonal in Fourier space" in trouble.value.diagnostics[0].message


def test_explanations_say_what_was_found() -> None:
    program = ndl.loads(f"""{RING}
model M:
    param c = 0.7
    state u: R on Ring = sin(x)
    state v: R on Ring = cos(x)
    term diffusion = [c*lap(u), 2*lap(v)]
    term reaction = [u*v, -u*v]
    u', v' = diffusion + reaction
""")
    said = dict(program.facts("M"))["Fourier space"]
    assert "`dxx(u)` in the rate of `u` and `dxx(v)` in the rate of `v`" in said
    assert "`diffusion`: nothing else" in said and "`reaction`" not in said
