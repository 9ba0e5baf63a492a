"""The path that kernels make: moments, covariances and conditionals of bridges, within 4.5 deviations; and
one path for fixed and adaptive steps."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from compared import has_areas, near_zero

import ndl

SOURCE = """
model Motion:
    state x = 0.0
    noise W: wiener
    dx = dW

model Integral:
    state q = 0.0
    state p = 0.0
    noise W: wiener
    dq = p*dt
    dp = dW
"""
MANY = 40_000


@pytest.fixture(scope="module")
def program() -> Any:
    return ndl.loads(SOURCE)


def run(program: Any, name: str, method: str, save: str, span: tuple = (0, 1), count: int = MANY) -> Any:
    return ndl.solve(
        getattr(program, name)(), span=span, method=method, save=save, backend="cpu", ensemble=count, seed=2
    )


def test_bridges_inside_a_step(program: Any) -> None:
    """W at 0.3 and 0.7 of a step, given both of its ends: mean t W(1), variance t (1 - t), covariance
    s (1 - t), and independence of W(1)."""
    W = run(program, "Motion", "euler_maruyama(h=1)", "[0.3, 0.7, 1.0]").W.values.reshape(MANY, 3)
    s, t, end = W[:, 0], W[:, 1], W[:, 2]
    a, b = s - 0.3 * end, t - 0.7 * end
    for bridge in (a, b):
        near_zero(bridge, 0.21**0.5)
        near_zero(bridge.square() - 0.21, 0.21 * 2**0.5)
        near_zero(bridge * end, 0.21**0.5)
        near_zero(bridge**4 - 3 * 0.21**2, 96**0.5 * 0.21**2)
    near_zero(a * b - 0.3 * 0.3, (0.21 * 0.21 + 0.09**2) ** 0.5)


@pytest.mark.parametrize("method", ["sra1(h=1)", "sra1(h=0.3)", "sra1(rtol=1e-1, atol=1e-1)"])
def test_the_integral_of_the_path(program: Any, method: str) -> None:
    """SRA1 has q(1), the integral of W, exactly in steps of any size."""
    s = run(program, "Integral", method, "end")
    has_areas(s.final.q, s.final.W)


def test_one_path_and_its_integral(program: Any) -> None:
    """Of fixed and of adaptive steps, over several root cells and from a time that is no binary fraction."""
    span = (-1030.3, 1029.1)
    found = [
        run(program, "Integral", method, "end", span, 16).final
        for method in ("sra1(h=3.7)", "sra1(steps=900)", "sra1(rtol=1e-2, atol=1e-2)")
    ]
    for other in found[1:]:
        torch.testing.assert_close(other.W, found[0].W, rtol=0, atol=1e-11)
        torch.testing.assert_close(other.q, found[0].q, rtol=1e-11, atol=1e-8)


def test_steps_longer_than_root_cells(program: Any) -> None:
    """Of a thousand units."""
    few, many = (run(program, "Integral", f"sra1(steps={n})", "end", (-700, 1300), 8) for n in (2, 40))
    torch.testing.assert_close(few.final.W, many.final.W, rtol=0, atol=1e-11)
    torch.testing.assert_close(few.final.q, many.final.q, rtol=1e-11, atol=1e-8)


@pytest.mark.parametrize(
    ("method", "span"),
    [("sra1(h=0.01)", (-0.5, 0.3)), ("sra1(h=1/64)", (0.1, 0.8)), ("heun(steps=30)", (0, 3e-6))],
)
def test_the_path_is_torchs(program: Any, method: str, span: tuple) -> None:
    """Decimal and binary steps, saved at each and between: to 1e-12 of the numbers of the span."""
    times = [span[0] + share * (span[1] - span[0]) for share in (0.23, 0.5, 0.9, 1)]
    a, b = (
        ndl.solve(program.Integral(), span=span, method=method, save=str(times), backend=backend,
                  ensemble=16, seed=5)
        for backend in ("torch", "cpu")
    )  # fmt: skip
    for name in ("W", "p", "q"):
        torch.testing.assert_close(b[name].values, a[name].values, rtol=1e-11, atol=1e-12)
