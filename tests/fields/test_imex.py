"""Implicit–explicit steps by named terms."""

from __future__ import annotations

import torch

import ndl

TEXT = """
domain Ring = periodic(x in 0..1)

model Bistable:
    param nu = 0.05
    state u: R on Ring = 0.3*sin(2*pi*x) + 0.1
    term diffusion = nu*lap(u)
    term reaction  = 4*(u - u^3)
    u' = diffusion + reaction
"""


def test_a_step_is_euler_s_of_one_term_and_implicit_in_the_other() -> None:
    """Twenty steps of 20 times what explicit steps bear, against the matrices written out."""
    n, h, nu = 64, 0.05, 0.05
    (model,) = ndl.loads(TEXT).models.values()
    method = f"imex(diffusion: implicit_euler, reaction: euler, h={h})"
    s = ndl.solve(model, span=(0, 1), grid=f"uniform({n})", method=method, save="end").final
    x = torch.arange(n, dtype=torch.float64) / n
    u = 0.3 * torch.sin(2 * torch.pi * x) + 0.1
    eye = torch.eye(n, dtype=torch.float64)
    lap = (torch.roll(eye, 1, 0) - 2 * eye + torch.roll(eye, -1, 0)) * n**2
    for _ in range(20):
        u = torch.linalg.solve(eye - h * nu * lap, u + h * 4 * (u - u**3))
    assert float((s.u - u).abs().max()) < 1e-9


def test_terms_leave_given_values_alone() -> None:
    """At points where conditions give the values no term changes them."""
    text = """
domain Rod = interval(x in 0..1)

model M:
    state u: R on Rod = sin(pi*x) + x
    term diffusion = 0.5*lap(u)
    term reaction  = -u^3
    u' = diffusion + reaction
    on left(Rod): u = 0
    on right(Rod): u = 1
"""
    (model,) = ndl.loads(text).models.values()
    how = {"span": (0, 0.2), "grid": "uniform(17)", "save": "end"}
    exact = ndl.solve(model, method="tsit5(rtol=1e-9, atol=1e-11)", **how).final.u
    errors = []
    for h in (0.02, 0.01):
        method = f"ars222(diffusion: implicit_euler, reaction: euler, h={h})"
        errors.append(float((ndl.solve(model, method=method, **how).final.u - exact).abs().max()))
    assert errors[1] < 2e-4 and 3 < errors[0] / errors[1] < 6, errors
