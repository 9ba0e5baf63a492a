"""Corners of paths: steps end there, and each stage sees its own side."""

from __future__ import annotations

import math

import pytest
import torch
from ndl.runtime.paths_in_time import linear

import ndl

TS = [0.0, 0.25, 0.5, 0.75, 1.0]
XS = [0.0, 1.0, 0.5, 2.0, 1.0]
MODEL = ndl.loads("model E:\n    input X: R on time\n    state z = 0.0\n    dz = z*dX + dX\n").E


def final(
    method: str, span: tuple[float, float] = (0, 1), xs: torch.Tensor | None = None, **more: object
) -> torch.Tensor:
    values = torch.tensor(XS, dtype=torch.float64) if xs is None else xs
    model = MODEL().bind(X=linear(TS, values))
    return ndl.solve(model, span=span, method=method, save="end", **more).final.z


def test_fixed_steps_keep_their_order() -> None:
    exact = math.exp(1.0) - 1
    for method in ("rk4", "tsit5", "dopri5"):
        errors = [abs(float(final(f"{method}(h={h})")) - exact) for h in (1 / 32, 1 / 64)]
        assert math.log2(errors[0] / errors[1]) > 3.7


@pytest.mark.parametrize("method", ["tsit5", "dopri5", "kvaerno5", "rodas5", "bosh3"])
def test_adaptive_steps_land_on_them(method: str) -> None:
    tolerances = "(rtol=1e-8, atol=1e-9)"
    assert abs(float(final(method + tolerances)) - (math.exp(1.0) - 1)) < 1e-6
    assert abs(float(final(method + tolerances, (1, 0))) - (math.exp(-1.0) - 1)) < 1e-6


def test_steps_off_the_knots_are_cut() -> None:
    assert abs(float(final("rk4(h=0.03)")) - (math.exp(1.0) - 1)) < 3e-4


def test_kernels_take_the_same_steps() -> None:
    for method in ("rk4(h=0.0625)", "rk4(h=0.03)", "heun(h=0.01)"):
        ours, theirs = (float(final(method, backend=b)) for b in ("cpu", "torch"))
        assert abs(ours - theirs) < 1e-13


@pytest.mark.parametrize(
    ("method", "error"), [("rk4(h=0.01)", 1e-5), ("tsit5(rtol=1e-10, atol=1e-10)", 1e-7)]
)
def test_gradients_by_the_corners_values(method: str, error: float) -> None:
    """z(1) = exp(X(1) - X(0)) - 1, so that only the ends count."""
    xs = torch.tensor(XS, dtype=torch.float64, requires_grad=True)
    (g,) = torch.autograd.grad(final(method, xs=xs, gradient="discrete").sum(), xs)
    e = math.exp(1.0)
    torch.testing.assert_close(g, torch.tensor([-e, 0, 0, 0, e], dtype=torch.float64), atol=error, rtol=0)


def test_saved_values_inside_of_steps_and_at_corners() -> None:
    s = ndl.solve(MODEL().bind(X=linear(TS, XS)), span=(0, 1), method="rk4(h=0.01)", save="every 0.125")
    exact = torch.exp(linear(TS, XS)(s.t)) - 1
    torch.testing.assert_close(s.z.values, exact, atol=1e-5, rtol=0)


def test_a_kernel_says_why_it_does_not_serve() -> None:
    with pytest.raises(ndl.NDLError, match="corners"):
        final("tsit5(rtol=1e-6)", backend="cpu")
