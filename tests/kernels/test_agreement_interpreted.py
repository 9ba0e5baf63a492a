"""Some cells of the matrix of agreement by the interpreter of kernels, by Triton's interpreter, and against
central differences."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from agreement import SOURCE, Ran, method_of, off
from interpreted import interpret_runs

import ndl

INTERPRETED = [
    ("ode", "rk4", "Struck"), ("ode", "tsit5", "Plain"), ("ode", "rosenbrock23", "Tied"),
    ("ode", "bdf", "Stiff"),
    ("ode", "heun", "Shaken"), ("ode", "midpoint", "Learned"), ("sde", "milstein", "Diagonal"),
    ("sde", "sra1", "Additive"), ("sde", "heun", "General"), ("split", "verlet", "Swinging"),
    ("ode", "reversible_heun", "Plain"),
]  # fmt: skip


def gradient_of(solver: str) -> str:
    """What interpreters are asked for: without a tape where steps are undone."""
    return "reversible" if solver in ("verlet", "reversible_heun") else "discrete"


@pytest.fixture(scope="module")
def program() -> Any:
    return ndl.loads(SOURCE)


@pytest.mark.parametrize(("kind", "solver", "problem"), INTERPRETED)
def test_the_interpreter_agrees(
    program: Any, monkeypatch: pytest.MonkeyPatch, kind: str, solver: str, problem: str
) -> None:
    method = method_of(kind, solver, "h=0.5")
    a = Ran(program, problem, method, "cpu", "discrete")
    interpret_runs(monkeypatch)
    b = Ran(program, problem, method, "cpu", gradient_of(solver))
    assert off(a.values, b.values) < 1e-12
    assert all(off(g, h) < 1e-11 for g, h in zip(a.grads, b.grads, strict=True))


@pytest.fixture(scope="module")
def tiled(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What Triton's interpreter finds, in a process of its own."""
    pytest.importorskip("triton")
    folder = tmp_path_factory.mktemp("agreement")
    here = Path(__file__).parent
    more = {"NDL_CACHE_DIR": str(folder / "cache"), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(here)}
    done = subprocess.run(
        [sys.executable, here / "triton_agreement_worker.py", folder],
        env={**os.environ, **more}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return np.load(folder / "agreement.npz")


@pytest.mark.parametrize(("kind", "solver", "problem"), INTERPRETED)
def test_triton_agrees(program: Any, tiled: Any, kind: str, solver: str, problem: str) -> None:
    a = Ran(program, problem, method_of(kind, solver, "h=0.5"), "cpu", "discrete")
    found = [torch.from_numpy(tiled[f"{solver} {problem} {k}"]) for k in range(1 + len(a.grads))]
    assert off(a.values, found[0]) < 1e-12
    assert all(off(g, h) < 1e-11 for g, h in zip(a.grads, found[1:], strict=True))


@pytest.mark.parametrize(
    ("kind", "solver", "problem"),
    [
        ("ode", "tsit5", "Plain"), ("ode", "rodas5", "Stiff"), ("ode", "bdf", "Tied"),
        ("ode", "rk4", "Shaken"),
        ("sde", "milstein", "Diagonal"), ("sde", "heun", "General"), ("split", "yoshida4", "Swinging"),
    ],
)  # fmt: skip
def test_gradients_against_central_differences(program: Any, kind: str, solver: str, problem: str) -> None:
    method, size = method_of(kind, solver, "h=0.25"), 1e-5
    ran = Ran(program, problem, method, "cpu", "discrete")
    sides = [Ran(program, problem, method, "cpu", "none", shift=s * size) for s in (1, -1)]
    weight = torch.linspace(-1, 1, len(ran.values), dtype=torch.float64)
    rate = ((sides[0].values - sides[1].values) * weight).sum() / (2 * size)
    assert float(rate) == pytest.approx(float(ran.grads[0].sum()), rel=1e-7)
