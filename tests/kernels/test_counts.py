"""Evaluations of a run are those of its steps: the same by both backends, whatever is saved."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

import ndl

SOURCE = """
model Stiff:
    param mu = 50.0
    state x: R[2] = [2.0, 0.0]
    x' = [x[1], mu*(1 - x[0]^2)*x[1] - x[0] + 0.1*sin(t)]

model Kinked:
    state x = 0.2
    x' = if x > 1 then 0.5 - x*0.3 else 2 - x + 0.3*t
"""


@cache
def models() -> Any:
    return ndl.loads(SOURCE)


METHODS = [
    *("heun(rtol=1e-2)", "bosh3", "vern7", "dopri8", "sdirk", "rosenbrock23(rtol=1e-4)", "rodas5"),
    *("rk4(steps=9)", "dopri5(steps=9)", "dopri8(steps=9)", "implicit_euler(steps=9)", "rodas5(steps=9)"),
]


def counts(name: str, method: str, **settings: Any) -> tuple[int, int, int]:
    s = ndl.solve(getattr(models(), name)(), method=method, span=(0, 0.1), **settings).stats
    return int(s.steps), int(s.rejected), int(s.evaluations)


@pytest.mark.parametrize("method", METHODS)
def test_evaluations(method: str) -> None:
    wanted = counts("Stiff", method, save="end", gradient="none", backend="cpu")
    for gradient in ("none", "discrete"):
        found = counts("Stiff", method, save="every 0.03", gradient=gradient, backend="torch")
        assert found == wanted


@pytest.mark.parametrize("method", ["heun(rtol=1e-4)", "vern7", "rodas5"])
def test_evaluations_at_breaks(method: str) -> None:
    found = [
        ndl.solve(
            models().Kinked(), method=method, span=(0, 1), save=save, backend=backend, gradient="none"
        ).stats
        for backend, save in (("torch", "every 0.1"), ("cpu", "end"))
    ]
    assert int(found[0].evaluations) == int(found[1].evaluations)
    assert int(found[0].steps) == int(found[1].steps)
