"""Every solver of the library on every kind of problem that it can take: cases, runs, and the rules that
say what a solver cannot take."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from agreement_problems import CHECKED, PROBLEMS, SOURCE, SPANS
from compared import off
from interpreted import interpret_runs
from ndl.compiler.check.values import MethodV
from ndl.compiler.diagnostics import NDLError
from ndl.runtime.diffusion import KINDS
from ndl.runtime.methods import Tableau

import ndl

SOLVERS = Path(__file__).parents[2] / "stdlib" / "solvers"
COUNT = 2


@dataclass(frozen=True)
class Case:
    """A solver, of the kind `ode`, `sde` or `split`, on a problem; `drawn`: with steps of the noise, two of
    which are one of the run."""

    kind: str
    solver: str
    problem: str
    adaptive: bool = False
    gradient: str = "discrete"
    drawn: bool = False

    def __str__(self) -> str:
        more = "-adaptive" if self.adaptive else "-drawn" if self.drawn else ""
        more += "" if self.gradient == "discrete" else f"-{self.gradient}"
        return f"{self.kind}-{self.solver}-{self.problem}{more}"

    @property
    def method(self) -> str:
        """As text. Terms are followed as the kind of splitting wants them; Hamiltonians have no names."""
        steps, parts = "steps=4", ""
        if self.adaptive:
            steps = "rtol=0.3, atol=0.3" if self.kind == "sde" else "rtol=1e-3, atol=1e-3"
        if self.kind == "split" and self.problem not in ("Swinging", "Bounced"):
            parts = "spin: exact, push: rk4, "
            if self.solver.startswith("ars"):  # made of steps of Euler's
                parts = "spin: implicit_euler, push: euler, "
        return f"{self.solver}({parts}{steps})"


@cache
def program() -> Any:
    return ndl.loads(SOURCE)


@cache
def model(problem: str) -> Any:
    """What the compiled model says of itself."""
    return type(getattr(program(), problem)())


@cache
def made(kind: str, solver: str) -> Any:
    """A solver as the runtime has it: a tableau or a class of steps."""
    host = program().host
    found = MethodV(host.module.scope.find(solver), {})
    return host.compilation.solver(host.compilation.choose(found, kind))


# ---------------------------------------------------------------- which cases there are


@cache
def declared() -> dict[tuple[str, str], bool]:
    """Kinds and names of the library's solvers of equations in time as their sources declare them, and
    whether they estimate their error: `order 2(1)`."""
    text = "\n".join(path.read_text() for path in sorted(SOLVERS.glob("*.ndl")))
    line = r"^solver (\w+)\b.* for (ode|sde|split) order [\w.]+(\(.+\))?:$"
    found = re.findall(line, text, flags=re.MULTILINE)
    return {(kind, name): bool(lower) for name, kind, lower in sorted(found, key=lambda f: (f[1], f[0]))}


def solvers() -> list[tuple[str, str]]:
    return list(declared())


def cases() -> list[Case]:
    return [Case(kind, name, problem) for kind, name in solvers() for problem in PROBLEMS[kind]]


def drawn_cases() -> list[Case]:
    """With areas and without, of one noise and of several."""
    pairs = [("sra1", "Additive"), ("sri", "Diagonal"), ("heun", "General"), ("milstein", "Scalar")]
    return [Case("sde", solver, problem, drawn=True) for solver, problem in pairs]


def adaptive_cases(given: Mapping[str, Sequence[str]]) -> list[Case]:
    """What adaptive solvers are given: not draws for each step, which are others where steps are others."""
    paced = [pair for pair, estimates in declared().items() if estimates]
    return [Case(k, s, p, True) for k, s in paced for p in given[k] if p != "Shaken"]


def spread(choices: Sequence[Sequence[Case]]) -> list[Case]:
    """One of each row of choices, in which every problem stands about as often: those with few choices
    first, and of each the problem that was taken least."""
    taken: dict[str, int] = {}
    found = []
    for row in sorted((row for row in choices if row), key=len):
        case = min(row, key=lambda c: taken.get(c.problem, 0))
        taken[case.problem] = taken.get(case.problem, 0) + 1
        found.append(case)
    return found


@cache
def design() -> list[Case]:
    """What the interpreters, which are slow, are given if it is not all: every solver once with fixed steps
    and once with adaptive ones, on problems of every kind, and two runs that are undone. Roots under noise, a
    search of a path down to 1e-7, take Triton's minutes: `test_triton_events.py` has one."""

    def rows(found: list[Case]) -> list[list[Case]]:
        quick = [c for c in found if gap(c) is None and not held(c)]
        return [[c for c in quick if (c.kind, c.solver) == pair] for pair in solvers()]

    undone = [Case("split", "verlet", "Swinging"), Case("ode", "reversible_heun", "Plain")]
    undone.append(Case("sde", "reversible_heun", "General", drawn=True))
    free = [replace(c, gradient="none") for c in spread(rows(adaptive_cases(CHECKED)))]
    return [
        *spread(rows(cases())),
        *free,
        *drawn_cases(),
        *(replace(c, gradient="reversible") for c in undone),
    ]


# ---------------------------------------------------------------- what there is not


def _fourier(solver: Any) -> bool:
    """Whether a step follows a linear part that is diagonal in Fourier space."""
    ir = None if isinstance(solver, Tableau) else solver.IR
    return ir is not None and any(n.op in ("apply_phi", "apply_linear") for n in ir.step.graph)


def _explicit(solver: Any) -> bool:
    """Whether a solver keeps no algebraic equations: no stage is implicit, no step reads the mass matrix."""
    return not solver.implicit if isinstance(solver, Tableau) else "mass" not in solver.ARGUMENTS


def _served(solver: Any) -> int:
    """The most general kind of noise that a solver takes, by its rank."""
    return KINDS.index("general" if isinstance(solver, Tableau) else solver.NOISE)


Rule = tuple[Callable[[Any, Any], bool], str]
"""(solver, model) -> whether it holds; a pattern of what the error then says."""

UNFIT: tuple[Rule, ...] = (
    (lambda s, m: any(x.algebraic for x in m.STATES) and _explicit(s), "algebraic equations"),
    (
        lambda s, m: _fourier(s) and not m.FOURIER,
        "diagonal in Fourier space, and this equation has no such part",
    ),
    (lambda s, m: KINDS.index(m.NOISE_KIND) > _served(s), r"needs \w+ noise or simpler"),
)
"""What no backend solves."""


@cache
def gap(case: Case) -> str | None:
    """The pattern of the reason why no backend runs a case; None where they do: those have kernels, there
    and back."""
    solver, problem = made(case.kind, case.solver), model(case.problem)
    return next((words for holds, words in UNFIT if holds(solver, problem)), None)


def held(case: Case) -> bool:
    """Whether the gradient is no derivative: the path of a noise is held while the time of a root moves."""
    events = model(case.problem).EVENTS
    return bool(model(case.problem).NOISES) and any(e.kind != "every" for e in events)


def newton(case: Case) -> bool:
    """Whether torch corrects stages once more where it records a gradient."""
    solver = made(case.kind, case.solver)
    return isinstance(solver, Tableau) and solver.implicit


def refused(case: Case, backend: str) -> str:
    """The first line of the error of a run; empty where there is none."""
    try:
        Ran(case, backend)
    except NDLError as error:
        return str(error).splitlines()[0]
    return ""


# ---------------------------------------------------------------- runs


class Ran:
    """A run: steps, how often each event fired, values `[COUNT, …]` of members that have values of k of their
    own, a weighted sum of them for each (`losses`, `[COUNT]`), and the gradients of the sum of these: by each
    k, or by the weights of nets."""

    def __init__(self, case: Case, backend: str, shift: float = 0.0) -> None:
        """`shift` is added to what gradients are taken by: to every k, or along `directions` to weights."""
        self.steps, self.rejected, self.values = torch.zeros(0), torch.zeros(0), torch.zeros(0)
        instance = getattr(program(), case.problem)()
        leaves = [p for p in instance.parameters() if p.requires_grad]
        if hasattr(instance, "k"):
            k = shift + float(instance.k.detach()) * torch.linspace(0.9, 1.1, COUNT, dtype=torch.float64)
            leaves = [k.requires_grad_(True)]
            instance = instance.bind(k=k)
        else:
            with torch.no_grad():
                for p, d in zip(leaves, directions(leaves)):
                    p += shift * d
        self.fired: dict[int, int] = {}
        length = SPANS.get(case.problem, 1.0)
        more = {"noise_step": length / 8} if case.drawn else {}
        s = ndl.solve(
            instance, method=case.method, backend=backend, gradient=case.gradient, span=(0, length),
            save="end" if case.adaptive else f"every {length / 2}", ensemble=COUNT, seed=3, **more,
        )  # fmt: skip
        if model(case.problem).EVENTS:
            index = s.events.index
            self.fired = {i: int((index == i).sum()) for i in range(len(model(case.problem).EVENTS))}
        values = torch.cat([s[n].values.reshape(COUNT, -1) for n in s.names()], 1)
        self.steps, self.rejected, self.values = s.stats.steps, s.stats.rejected, values.detach()
        losses = values @ torch.linspace(-1, 1, values.shape[1], dtype=torch.float64)
        self.losses, self.grads = losses.detach(), list[torch.Tensor]()
        if case.gradient != "none":
            self.grads = [g.to(torch.float64) for g in torch.autograd.grad(losses.sum(), leaves)]


def directions(leaves: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """A direction in the space of weights."""
    return [torch.linspace(-1, 1, p.numel(), dtype=p.dtype).reshape(p.shape) for p in leaves]


@cache
def ran(case: Case, backend: str) -> Ran:
    """A run that is made once."""
    return Ran(case, backend)


def interpreted(case: Case) -> Ran:
    """The run by the interpreter of kernels."""
    with pytest.MonkeyPatch.context() as patch:
        interpret_runs(patch)
        return Ran(case, "cpu")


def central(case: Case, size: float = 1e-5) -> tuple[torch.Tensor, torch.Tensor]:
    """Derivatives by each k, or along a direction of weights: by the gradient, and by central differences."""
    exact, after, before = ran(case, "cpu"), Ran(case, "cpu", size), Ran(case, "cpu", -size)
    rate = (after.losses - before.losses) / (2 * size)
    if len(exact.grads) == 1 and exact.grads[0].shape == rate.shape:
        return exact.grads[0], rate
    along = sum((g * d).sum() for g, d in zip(exact.grads, directions(exact.grads), strict=True))
    return torch.as_tensor(along), rate.sum()


def same(a: Ran, b: Ran) -> str:
    """What is not the same of two runs: steps and events, values to 1e-12, gradients to 1e-9; or nothing."""
    if not (torch.equal(a.steps, b.steps) and torch.equal(a.rejected, b.rejected) and a.fired == b.fired):
        return " and ".join(f"steps {r.steps}, rejected {r.rejected}, events {r.fired}" for r in (a, b))
    values = off(a.values, b.values)
    slopes = max((off(g, h) for g, h in zip(a.grads, b.grads, strict=True)), default=0.0)
    return "" if values < 1e-12 and slopes < 1e-9 else f"values by {values}, gradients by {slopes}"
