"""Events and breaks in Triton kernels, and delays beside noise, with gradients: under Triton's interpreter
against the CPU's kernels, and compiled ahead of time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import test_noisy_events as noisy
from interpreted import by_triton
from ndl.compiler.backends.triton.ahead import compiled
from ndl.compiler.kernels.ir import Kernel
from ndl.runtime.kernels.request import Request
from test_event_gradients import SOURCE, gradient

import ndl
from ndl.host.kernels import Kernels

pytest.importorskip("triton")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What a process that interprets finds."""
    folder = tmp_path_factory.mktemp("events")
    by_triton("triton_events_worker.py", folder)
    return np.load(folder / "events.npz")


@pytest.mark.parametrize(("model", "count"), [("Touch", 3), ("Kicked", 3), ("noisy", 3), ("delayed", 2)])
def test_runs_and_gradients_are_those_of_the_cpu(model: str, count: int, found: Any) -> None:
    keys = [k for k in found.files if k.startswith(f"{model}/triton/")]
    assert len(keys) == count
    for key in keys:
        wanted = found[key.replace("/triton/", "/cpu/")]
        assert float(np.abs(wanted).max()) > 1e-3
        np.testing.assert_allclose(found[key], wanted, rtol=1e-9, atol=1e-9 * float(np.abs(wanted).max()))


def test_they_compile_ahead_of_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The adjoint of a run past events and breaks, and a run with events under noise."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    asked: list[Kernel] = []
    real = Kernels.kernel

    def noted(self: Kernels, request: Request, *more: Any) -> Any:
        made = real(self, request, *more)
        asked.append(made[0])
        return made

    monkeypatch.setattr(Kernels, "kernel", noted)
    gradient(ndl.loads(SOURCE), "Kicked", "tsit5(rtol=1e-3)", "cpu", span=(0, 1))
    noisy.solved(ndl.loads(noisy.SOURCE), "First", "heun(h=0.5)", "cpu", save="end")
    assert len(asked) == 3
    for kernel in asked[1:]:
        _, taken = compiled(kernel, 90)
        assert taken.spills == 0 and 16 < taken.registers <= 255, taken
