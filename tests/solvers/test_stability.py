"""Fixed steps beyond the limit of stability are told; what an equation makes grow is not."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import ndl

PROGRAM = """
domain Rod = interval(x in 0..1)
domain Ring = periodic(x in 0..1)

model Heat:
    state u: R on Rod = sin(pi*x)
    u' = lap(u)
    on boundary(Rod): u = 0

model Wave:
    state u: R on Ring = exp(-100*(x - 0.5)^2)
    state u': R on Ring = 0
    u'' = lap(u)

model Decay:
    param k = 300.0
    state x = 1.0
    x' = -k*x

model Growth:
    state x = 1.0, fast = 1.0
    x' = x
    fast' = -20*(fast - x)

model Spring:
    state x = 1.0, v = 0.0
    x' = v
    v' = -100*x

model Struck:
    state x = 1.0, n = 0.0
    x' = -50*x
    when every 0.1: n <- n + 1

model Tripled:
    state x = 1.0
    x' = -x
    when every 0.1: x <- 3*x

model Rough:
    noise W: wiener
    state x = 1.0
    dx = -50*x*dt + 0.1*dW

model Rising:
    noise W: wiener
    state x = 1.0
    dx = 6*x*dt + 0.1*dW

model Swing:
    state x = 1.0, v = 0.0
    x' = v + 0.5*x
    v' = -100*x + 0.5*v
"""


def solved(name: str, span: float, method: str, **settings: object) -> ndl.Solution:
    return ndl.solve(ndl.loads(PROGRAM).models[name], span=(0, span), method=method, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "span", "method", "settings"),
    [
        ("Heat", 0.02, "rk4(h=0.001)", {"grid": "uniform(101)"}),
        ("Heat", 0.004, "rk4(h=0.001)", {"grid": "uniform(101)", "precision": "float32", "backend": "torch"}),
        ("Heat", 0.02, "rk4(h=0.001)", {"grid": "chebyshev(20)"}),
        ("Wave", 1.0, "rk4(h=0.05)", {"grid": "uniform(100)"}),
        ("Wave", 1.0, "leapfrog(h=0.02)", {"grid": "uniform(100)"}),
        ("Decay", 1.0, "rk4(h=0.01)", {}),
        ("Spring", 30.0, "euler(h=0.01)", {}),
        ("Struck", 2.0, "euler(h=0.1)", {}),
        ("Rough", 2.0, "euler_maruyama(h=0.1)", {}),
    ],
)
def test_steps_that_are_too_long(name: str, span: float, method: str, settings: dict[str, str]) -> None:
    with pytest.raises(ndl.NDLError) as caught:
        solved(name, span, method, save="end", **settings)
    (told,) = caught.value.diagnostics
    assert told.code == "NDL658" and f"{name}` stopped" in told.message and "unstable" in told.message


def test_the_step_that_is_offered_is_stable() -> None:
    with pytest.raises(ndl.NDLError) as caught:
        solved("Heat", 0.02, "euler(h=0.001)", grid="uniform(101)", save="end")
    help_ = str(caught.value.diagnostics[0].help)
    h = float(help_.split("`h=")[1].split("`")[0])
    assert h <= 0.5 * 0.01**2 * (1 + 1e-9)  # the limit of Euler's method
    s = solved("Heat", 0.02, f"euler(h={h})", grid="uniform(101)", save="end")
    x = np.linspace(0, 1, 101)
    assert np.abs(s.final.u.numpy() - math.exp(-(math.pi**2) * 0.02) * np.sin(math.pi * x)).max() < 1e-3


def test_a_member_is_named() -> None:
    decay = ndl.loads(PROGRAM).models["Decay"]
    family = decay().bind(k=torch.tensor([1.0, 2.0, 300.0]))
    with pytest.raises(ndl.NDLError, match=r"NDL658.*member 2"):
        ndl.solve(family, span=(0, 1), method="rk4(h=0.01)")


@pytest.mark.parametrize(
    ("name", "span", "method"),
    [
        ("Growth", 15.0, "rk4(h=0.05)"),
        ("Growth", 15.0, "euler(h=0.1)"),  # at the limit of the fast part: it neither grows nor decays
        ("Swing", 40.0, "rk4(h=0.02)"),
        ("Tripled", 2.0, "euler(h=0.05)"),
        ("Rising", 2.0, "euler_maruyama(h=0.01)"),
        ("Growth", -15.0, "rk4(h=0.02)"),  # backwards the fast part grows
    ],
)
def test_what_an_equation_makes_grow(name: str, span: float, method: str) -> None:
    s = solved(name, span, method, save="end")
    assert max(abs(float(s.final.get(n))) for n in s.names()) > 1e4
