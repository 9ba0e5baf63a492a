"""Values between the saved times of runs by kernels: the method's continuous output, as torch has it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from agreement_problems import SOURCE
from ndl.runtime.errors import SettingError

import ndl

LATE = """
model Late:
    param k = 1.1
    state x = 1.0
    x' = -k*x(t - 0.3)
"""

CASES = [
    ("Plain", "tsit5()"),
    ("Plain", "rk4(h=0.1)"),
    ("Stiff", "rosenbrock23(rtol=1e-4)"),
    ("Tied", "rodas5()"),
    ("Struck", "tsit5()"),
    ("Shaken", "rk4(h=0.1)"),
    ("Learned", "dopri5(h=0.1)"),
    ("Late", "tsit5()"),
    ("Additive", "euler_maruyama(h=0.1)"),
    ("Diagonal", "sosri(rtol=0.1, atol=0.1)"),
    ("Turning", "strang(spin: exact, push: rk4, h=0.1)"),
    ("Swinging", "verlet(h=0.1)"),
]


@pytest.fixture(scope="module")
def program() -> Any:
    return ndl.loads(SOURCE + LATE)


@pytest.mark.parametrize("save", ["steps", [0.2, 0.7, 1.0]], ids=["steps", "times"])
@pytest.mark.parametrize(("name", "method"), CASES, ids=[f"{n}-{m.split('(')[0]}" for n, m in CASES])
def test_values_between(program: Any, name: str, method: str, save: Any) -> None:
    model, at = getattr(program, name)(seed=1), torch.tensor([0.07, 0.2, 0.35, 0.691, 0.7, 0.9])
    how: dict[str, Any] = {"span": (0, 1), "method": method, "ensemble": 2, "seed": 3}
    found, wanted = (ndl.solve(model, save=save, backend=b, **how)(at) for b in ("cpu", "torch"))
    for state in model.STATES:
        values = found[state.name]
        assert not values.requires_grad
        torch.testing.assert_close(values, wanted[state.name], rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize(("name", "method"), [CASES[0], CASES[1], CASES[3], CASES[5], CASES[8]])
def test_their_gradients(program: Any, name: str, method: str) -> None:
    model = getattr(program, name)()
    state, at = model.STATES[0].name, torch.tensor([0.07, 0.2, 0.35, 0.9])
    weights = [p for p in model.parameters() if p.requires_grad]
    found = []
    for backend in ("cpu", "torch"):
        s = ndl.solve(model, span=(0, 1), method=method, save=[0.2, 0.7, 1.0], backend=backend, seed=3,
                      ensemble=2, gradient="discrete")  # fmt: skip
        found.append(torch.autograd.grad((s(at)[state] ** 2).sum(), weights))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-9)


def test_a_single_long_run_is_as_good_between_its_saved_times() -> None:
    """`auto` takes a kernel for it; the cubic through values a unit apart would be off by 0.8."""
    ring = ndl.loads("model R:\n    state x = 1.0, v = 0.0\n    x' = v\n    v' = -25*x\n").R()
    s = ndl.solve(ring, span=(0, 6), method="tsit5(rtol=1e-9, atol=1e-9)", save="every 1.0")
    assert int(s.stats.steps) > 256
    times = torch.linspace(0, 6, 50, dtype=torch.float64)
    torch.testing.assert_close(s.x(times), torch.cos(5 * times), rtol=0, atol=1e-6)


def test_what_does_not_fit_is_told(program: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    s = ndl.solve(program.Stiff(), span=(0, 1), method="rosenbrock23()", save=[0.5, 1.0], backend="cpu")
    monkeypatch.setattr("ndl.runtime.memory.SMALL", 0)
    monkeypatch.setattr("ndl.runtime.memory.free", lambda device: 1e3)
    assert torch.equal(s.x(0.5), s.x.values[0])
    with pytest.raises(SettingError, match="1 kB of memory") as told:
        s.x(0.6)
    assert "`save`" in str(told.value.help)
