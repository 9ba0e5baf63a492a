"""The gradient of all steps at once is the gradient of the steps one after the other."""

from __future__ import annotations

import pytest
import torch
from ndl.compiler.source import Source
from ndl.runtime import at_once

from ndl.session import Program

TEXT = """
model Pair:
    param a > 0 = 1.3, b = 0.7
    state x = 1.0, y = 0.5
    x' = a*x - b*x*y + 0.1*sin(t)
    y' = b*x*y - y

solve Pair:
    span = 0..1
    method = METHOD

test "unused":
    assert 1 == 1
"""

METHODS = ("tsit5(rtol=1e-6, atol=1e-8)", "rk4(h=0.03)", "dopri5(rtol=1e-5)", "bosh3(h=0.02)")


def gradients(
    method: str, family: bool, save: str, at: bool, monkeypatch: pytest.MonkeyPatch, twice: bool = False
) -> list[torch.Tensor]:
    """Gradients of a loss over saved values by parameters and initial values; `twice`, those of the sum of
    their squares."""
    if not at:
        monkeypatch.setattr(at_once, "applies", lambda *_: False)
    host = Program.load(Source("pair.ndl", TEXT.replace("METHOD", method))).host
    model = host.ev.eval(_name("Pair"), host.module.scope)
    instance = host.instance(model)
    instance.fit_initial()
    a = torch.tensor([1.3, 0.9, 1.1], dtype=torch.float64, requires_grad=True)
    bound = instance.bind(b=a * 0.6) if family else instance
    from ndl.runtime.solve import solve

    settings = {"method": (_name(method), _name("x").span)}
    found = host.method(
        host.ev, model, host.ev.eval(settings["method"][0], host.module.scope), {}, model.decl.span
    )
    plans = {"end": "end", "steps": "steps", "grid": [0.0, 0.31, 0.5, 1.0]}
    s = solve(bound, span=(0.0, 1.0), method=found, save=plans[save], gradient="discrete")
    loss = (s["x"].values ** 2).mean() + (s["y"].values * s["x"].values).sum() + s.final["y"].sum() ** 2
    wanted = [p for p in instance.parameters() if p.requires_grad] + ([a] if family else [])
    found = torch.autograd.grad(loss, wanted, allow_unused=True, create_graph=twice)
    if twice:
        squares = sum((g**2).sum() for g in found if g is not None)
        found = torch.autograd.grad(squares, wanted, allow_unused=True)
    return [g for g in found if g is not None]


def _name(text: str):
    from ndl.compiler.syntax.parser import parse_expression

    expr, problems = parse_expression(Source("expression", text))
    assert expr is not None and not problems
    return expr


@pytest.mark.parametrize("save", ["end", "steps", "grid"])
@pytest.mark.parametrize("family", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_equal_to_the_steps_in_turn(
    method: str, family: bool, save: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if save == "steps" and family and "rtol" in method:
        save = "grid"  # members with different numbers of steps have padded paths
    fast = gradients(method, family, save, True, monkeypatch)
    slow = gradients(method, family, save, False, monkeypatch)
    assert len(fast) == len(slow) > 2
    for a, b in zip(fast, slow):
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("family", [False, True])
@pytest.mark.parametrize(("method", "save"), zip(METHODS, ("grid", "steps", "end")))
def test_second_derivatives_are_those_of_the_steps_in_turn(
    method: str, save: str, family: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    fast = gradients(method, family, save, True, monkeypatch, twice=True)
    slow = gradients(method, family, save, False, monkeypatch, twice=True)
    assert len(fast) == len(slow) > 2
    for a, b in zip(fast, slow):
        assert torch.allclose(a, b, rtol=1e-8, atol=1e-10)


def test_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison above compares two ways, not one with itself."""
    calls = []
    real = at_once.solve_at_once
    monkeypatch.setattr(at_once, "solve_at_once", lambda *a: calls.append(1) or real(*a))
    gradients(METHODS[0], False, "grid", True, monkeypatch)
    assert calls
