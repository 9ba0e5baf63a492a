"""Every solver of the library on every kind of problem: by torch and by kernels the same, or a reason why not
(`agreement.GAPS`, which must name each gap and no other)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from agreement import GAPS, PROBLEMS, SOURCE, Ran, cells, gap, method_of, off, refused, solvers

import ndl

STAGES = ("implicit_euler", "trapezoidal", "sdirk", "kvaerno5")
"""Where it records a gradient, torch corrects the stages of these once more than its run did."""

ADAPTIVE = (
    "bosh3", "dopri5", "tsit5", "vern7", "dopri8", "heun", "taylor", "rosenbrock23", "rodas5", "sdirk",
    "kvaerno5", "bdf",
)  # fmt: skip


@pytest.fixture(scope="module")
def program() -> Any:
    return ndl.loads(SOURCE)


def test_the_table_of_gaps_is_about_cells_that_there_are() -> None:
    there = {(solver, problem) for _, solver, problem in cells()}
    named = {(s, p) for names, problems, *_ in GAPS for s in names.split() for p in problems.split()}
    assert named <= there
    assert len(there) > 120 and {p for ps in PROBLEMS.values() for p in ps} == {p for _, p in there}


@pytest.mark.parametrize(("kind", "solver", "problem"), cells())
def test_torch_and_kernels_agree(program: Any, kind: str, solver: str, problem: str) -> None:
    """Fixed steps: values to 1e-12, gradients to 1e-9."""
    method = method_of(kind, solver, "h=0.25")
    words = gap(solver, problem, "run")
    if words is not None:
        assert words in refused(program, problem, method, "none")
        return
    words, gradient = gap(solver, problem, "gradient"), "discrete"
    if words is not None:
        assert words in refused(program, problem, method, "discrete")
        gradient = "none"
    a, b = (Ran(program, problem, method, backend, gradient) for backend in ("torch", "cpu"))
    tight = 1e-10 if solver in STAGES and gradient != "none" else 1e-12
    assert torch.equal(a.steps, b.steps)
    assert off(a.values, b.values) < tight
    assert all(off(g, h) < 1e-9 for g, h in zip(a.grads, b.grads, strict=True))


@pytest.mark.parametrize("solver", ADAPTIVE)
def test_adaptive_runs_take_the_same_steps(program: Any, solver: str) -> None:
    a, b = (
        Ran(program, "Plain", f"{solver}(rtol=1e-4)", backend, "none", save="end")
        for backend in ("torch", "cpu")
    )
    assert torch.equal(a.steps, b.steps) and torch.equal(a.rejected, b.rejected)
    assert off(a.values, b.values) < 1e-9


def test_solvers_of_equations_in_time_are_found() -> None:
    assert {"rk4", "bdf", "taylor", "etdrk4"} <= {name for name, kind in solvers() if kind == "ode"}
    assert {"sri", "reversible_heun"} <= {name for name, kind in solvers() if kind == "sde"}
