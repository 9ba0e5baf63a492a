"""How many steps a run takes, and how often a splitting visits a term: what banks of weights must know."""

from __future__ import annotations

import torch
from ndl.runtime.banks import Bank, banks_of, grow_banks
from ndl.runtime.errors import SettingError
from ndl.runtime.flows import Flow
from ndl.runtime.methods import Method, StepSolver
from ndl.runtime.model import Model
from ndl.runtime.problem import Problem
from ndl.runtime.stepping.pace import fixed_step
from ndl.runtime.stepping.trail import fixed_table
from torch import Tensor


def settle_banks(model: Model, problem: Problem) -> bool:
    """Give the nets `per step` and `per use` of a model their weights for the steps of a run; whether some
    have been made. Raises `SettingError` where the steps of the run cannot be counted beforehand."""
    banks = banks_of(model)
    if not banks:
        return False
    grown = any(not len(bank) for bank in banks.values())
    bank = next(iter(banks.values()))
    steps = counted_steps(problem, bank)
    method = problem.method
    seen = visits_of(method) if method.kind == "split" else {}

    def visits(path: str, bank: Bank) -> int:
        return sum(seen.get(term, 0) for term in terms_of(model, path))

    for path, bank in banks.items():
        if bank.per == "use" and not visits(path, bank):
            raise SettingError(
                f"`{bank.path}` has weights for each visit of a splitting, and `{method.name}` "
                + (f"visits none of its terms ({listed(terms_of(model, path))})" if seen else "is none"),
                code="NDL528",
                help="name the terms in a splitting, `strang(a: euler, b: euler)`, or write `per step`",
            )
    grow_banks(model, steps, visits, model.tensor(0.0))
    return grown


def counted_steps(problem: Problem, bank: Bank) -> int:
    """The number of steps of a run whose steps have a given size and end where that says."""
    model, method = problem.model, problem.method
    name = f"`{bank.path}` has weights for each step"
    if method.kind not in ("ode", "sde", "split"):
        raise SettingError(f"{name}, and `{method.name}` takes none", code="NDL528")
    step = fixed_step(method.options, problem.t0, problem.t1, method.name)
    if step is None:
        raise SettingError(
            f"{name}, and how many steps `{method.name}` takes is not known before the run",
            code="NDL528",
            help=f"fix them: `{method.name}(steps=10)`, or `h=` with a span",
        )
    if model.EVENTS or model.DELAYS:
        raise SettingError(
            f"{name}, and the events or delays of `{model.NAME}` end steps as the run goes", code="NDL528"
        )
    return int(fixed_table(problem, step).many[0])


def visits_of(method: Method) -> dict[str, int]:
    """How often one step of a splitting visits each of its terms: a step with flows that only count."""
    from ndl.runtime.stepping.split import SplitStepper

    solver = method.solver
    assert isinstance(solver, StepSolver)
    count = dict.fromkeys(method.parts, 0)

    def counting(name: str) -> Flow:
        def flow(x: Tensor, t: Tensor, h: Tensor) -> Tensor:
            count[name] += 1
            return x

        return flow

    x = torch.zeros(1, 1, dtype=torch.float64)
    SplitStepper(solver).flow([counting(name) for name in method.parts])(x, x[:, 0], x[:, 0] + 1)
    return count


def terms_of(model: Model, path: str) -> tuple[str, ...]:
    """The terms that read the bank at these dotted attributes."""
    net = path.split(".")[0]
    return tuple(term.name for term in model.TERMS if net in term.nets)


def listed(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{n}`" for n in names) or "there is none"
