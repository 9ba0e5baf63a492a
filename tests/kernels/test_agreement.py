"""Every solver of the library on every kind of problem that it can take: torch, the CPU's kernels, the
interpreter of kernels and Triton's agree, and with central differences; what a solver cannot take is refused
for the reason that the rules of `agreement` derive. `--every-cell` gives everything to all of them, Triton's
in portions, each a test."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from agreement import (
    Case,
    Ran,
    adaptive_cases,
    cases,
    central,
    declared,
    design,
    drawn_cases,
    gap,
    held,
    interpreted,
    made,
    newton,
    ran,
    refused,
    same,
)
from agreement_problems import CHECKED, PROBLEMS
from compared import off
from interpreted import by_triton
from ndl.runtime.methods import Tableau


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    every = bool(metafunc.config.getoption("--every-cell"))
    if "paced" in metafunc.fixturenames:
        metafunc.parametrize("paced", adaptive_cases(PROBLEMS if every else CHECKED), ids=str)
    if "portion" in metafunc.fixturenames:
        many = 24 if every else 2
        names = [f"{k}of{many}" for k in range(1, many + 1)]
        metafunc.parametrize("portion", [(k, many) for k in range(many)], ids=names)


@pytest.fixture
def every(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--every-cell"))


def fits(case: Case) -> bool:
    """Whether backends run a case; where not, they say why."""
    why = gap(case)
    if why is not None:
        assert re.search(why, refused(case, "torch")) and refused(case, "cpu")
    return why is None


def by_torch(case: Case) -> Ran:
    """Torch's run; its values without the last correction of stages, which serves gradients alone."""
    found = ran(case, "torch")
    if newton(case):
        found.values = ran(replace(case, gradient="none"), "torch").values
    return found


@pytest.mark.parametrize("case", [*cases(), *drawn_cases()], ids=str)
def test_backends_agree(case: Case, every: bool) -> None:
    """Fixed steps: torch, compiled kernels and interpreted ones, gradients also as differences give them."""
    if not fits(case):
        return
    found = ran(case, "cpu")
    assert same(by_torch(case), found) == ""
    assert all(found.fired.values())
    if every or case in design():
        assert same(found, interpreted(case)) == ""
    if not held(case):
        exact, differences = central(case)
        assert off(exact, differences) < 1e-7


def test_adaptive_runs_take_the_same_steps(paced: Case, every: bool) -> None:
    if not fits(paced):
        return
    free = replace(paced, gradient="none")
    found = ran(free, "cpu")
    assert same(ran(free, "torch"), found) == ""
    if every or free in design():
        assert same(found, interpreted(free)) == ""


def test_triton_agrees(portion: tuple[int, int], every: bool, tmp_path: Path) -> None:
    """Under its interpreter, in a process of its own, with torch."""
    pytest.importorskip("triton")
    by_triton("triton_agreement_worker.py", tmp_path, *map(str, portion), *(["every"] if every else []))
    found = torch.load(tmp_path / "ran.pt", weights_only=False)
    wrong = {str(c): r if isinstance(r, str) else same(by_torch(c), r) for c, r in found.items()}
    assert wrong and not any(wrong.values()), {c: why for c, why in wrong.items() if why}


def test_the_design_has_every_solver_and_every_kind() -> None:
    taken = design()
    fixed = {c for c in taken if not c.adaptive and c.gradient == "discrete"}
    served = {(c.kind, c.solver) for c in cases() if gap(c) is None}
    assert {(c.kind, c.solver) for c in fixed} == served
    assert {(c.kind, c.problem) for c in fixed} == {(c.kind, c.problem) for c in cases() if not held(c)}
    paced = {c for c in taken if c.adaptive}
    assert {(c.kind, c.solver) for c in paced} == {
        pair for pair, estimates in declared().items() if estimates
    }
    assert {(c.kind, c.problem) for c in paced} == {
        (c.kind, c.problem) for c in adaptive_cases(CHECKED) if not held(c)
    }


def test_solvers_are_what_their_sources_say() -> None:
    for (kind, name), estimates in declared().items():
        found = made(kind, name)
        assert ((found.b_hat if isinstance(found, Tableau) else found.EMBEDDED) is not None) == estimates
    assert {"rk4", "bdf", "taylor", "etdrk4"} <= {name for kind, name in declared() if kind == "ode"}
    assert {"sri", "reversible_heun"} <= {name for kind, name in declared() if kind == "sde"}
    assert {"lie", "verlet", "ars443"} <= {name for kind, name in declared() if kind == "split"}
