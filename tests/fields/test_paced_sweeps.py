"""Sweeps whose errors choose the steps, and gradients in float32, against torch."""

from typing import Any

import pytest
import test_field_gradients as problems
import torch
from ndl.runtime.kernels.field_paced import PacedFieldRun
from test_field_gradients import gradients

import ndl

METHODS = {
    "Burgers": ("tsit5(rtol=1e-6)", [0, 0.004, 0.008]),
    "Held": ("bosh3(rtol=1e-4)", "steps"),
    "Rough": ("heun(rtol=1e-3)", [0.002, 0.006, 0.01]),
    "Vector": ("dopri5(rtol=1e-4)", [0.03, 0.1]),
    "Solid": ("bosh3(rtol=1e-4)", "end"),
}


@pytest.fixture(autouse=True)
def by_sweeps(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Solutions that sweeps have found; where they leave one to torch, the test fails."""
    found: list[Any] = []
    plain = PacedFieldRun.solve

    def solve(self: PacedFieldRun) -> Any:
        found.append(plain(self))
        assert found[-1] is not None
        return found[-1]

    monkeypatch.setattr(PacedFieldRun, "solve", solve)
    for name, (method, save) in METHODS.items():
        monkeypatch.setitem(problems.CASES, name, {**problems.CASES[name], "h": method})
        monkeypatch.setitem(problems.SAVES, name, save)
    return found


@pytest.mark.parametrize("name", METHODS)
def test_values_and_gradients_are_those_of_torch(name: str, by_sweeps: list[Any]) -> None:
    expected, found = gradients(name, "torch"), gradients(name, "cpu")
    assert len(by_sweeps) == 1
    for a, b in zip(expected, found):
        assert float(a.abs().max()) > 1e-6
        torch.testing.assert_close(b, a, rtol=1e-9, atol=1e-10)


def test_members_have_steps_and_gradients_of_their_own(by_sweeps: list[Any]) -> None:
    random = torch.Generator().manual_seed(4)
    k = 0.1 + 0.05 * torch.rand(3, 33, dtype=torch.float64, generator=random)
    for bound in ({"k": k}, {"a": torch.tensor([1.0, 15.0, 200.0])}):
        for a, b in zip(gradients("Rough", "torch", **bound), gradients("Rough", "cpu", **bound)):
            torch.testing.assert_close(b, a, rtol=1e-9, atol=1e-12)
    counts = [s.stats.steps.tolist() for s in by_sweeps]
    assert len(set(counts[0])) > 1


def test_rejected_steps_are_those_of_torch(by_sweeps: list[Any]) -> None:
    start = torch.rand(2, 33, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    model = problems.model_of("Rough").bind(u=start)
    how = {"span": (0, 0.06), "method": "tsit5(rtol=1e-5, h0=0.05)", "save": [0.011, 0.06]}
    runs = [ndl.solve(model, **how, backend=backend) for backend in ("torch", "cpu")]
    assert len(by_sweeps) == 1
    a, b = runs
    assert int(a.stats.rejected.sum()) > 0
    for name in ("steps", "rejected"):
        assert getattr(a.stats, name).tolist() == getattr(b.stats, name).tolist()
    torch.testing.assert_close(b["u"], a["u"], rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(b.steps.error, a.steps.error, rtol=1e-6, atol=1e-10, equal_nan=True)


@pytest.mark.parametrize("method", ["heun(steps=10)", "bosh3(rtol=1e-3, atol=1e-5)"])
def test_gradients_in_float32_are_those_in_float64(method: str) -> None:
    model, found = problems.model_of("Rough"), []
    save = [0.0033, 0.01] if "bosh3" in method else "end"
    for dtype, precision in ((torch.float64, "float64"), (torch.float32, "float32")):
        k = model.k.detach().to(dtype).requires_grad_()
        u = model.initial_values()["u"].to(dtype).requires_grad_()
        s = ndl.solve(
            model.bind(k=k, u=u), span=(0, 0.01), method=method, save=save, gradient="discrete",
            precision=precision, backend="cpu",
        )  # fmt: skip
        assert s["u"].dtype == dtype
        found.append(torch.autograd.grad((s["u"] ** 2).sum(), [k, u]))
    for a, b in zip(*found):
        assert b.dtype == torch.float32
        assert float((a - b).abs().max()) < 1e-4 * float(a.abs().max())
