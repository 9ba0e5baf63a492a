"""From a method's solver to the stepper that runs it."""

from __future__ import annotations

from ndl.runtime.chance import draws_by_step
from ndl.runtime.errors import SettingError
from ndl.runtime.methods import StepSolver, Tableau
from ndl.runtime.problem import Problem
from ndl.runtime.stepping.explicit import ExplicitRK
from ndl.runtime.stepping.pace import fixed_step
from ndl.runtime.stepping.stepper import Stepper


def stepper_of(problem: Problem) -> Stepper:
    """The stepper of the problem's method. Raises `SettingError` for one that cannot serve the model."""
    solver, name = problem.method.solver, problem.method.name
    if isinstance(solver, Tableau) and solver.implicit:
        from ndl.runtime.stepping.implicit import DiagonallyImplicitRK

        return DiagonallyImplicitRK(solver, problem)
    if isinstance(solver, Tableau):
        if all(s.algebraic for s in problem.model.STATES) and problem.algebraic:
            raise SettingError(
                f"`{name}` makes steps in time, and nothing of `{problem.model.NAME}` moves",
                help="use `newton(tol=1e-10)`, or `direct()` where the equations are linear",
            )
        if problem.algebraic:
            raise SettingError(
                f"`{name}` is explicit and cannot keep the algebraic equations of `{problem.model.NAME}`",
                help="use `rodas5`, `kvaerno5` or another stiffly accurate method",
            )
        return ExplicitRK(solver, problem.x0.detach())
    if isinstance(solver, StepSolver) and solver.KIND == "ode":
        if problem.algebraic and "mass" not in solver.ARGUMENTS:
            raise SettingError(
                f"the step of `{name}` takes no `mass`: it cannot keep the algebraic equations of "
                f"`{problem.model.NAME}`",
                help="use `rodas5`, `kvaerno5` or another stiffly accurate method",
            )
        from ndl.runtime.stepping.stepped import SteppedSolver

        return SteppedSolver(solver, problem)
    raise SettingError(f"`{name}` does not solve ordinary differential equations")


def refuse_stale(problem: Problem) -> None:
    """Raise `SettingError` where an error is estimated by earlier steps that had other draws: it falls as the
    first power of the step, so that steps become as short as the tolerance and the run has no end."""
    model, method, solver = problem.model, problem.method, problem.method.solver
    if not isinstance(solver, StepSolver) or solver.KIND != "ode" or not draws_by_step(model):
        return
    if not (solver.PREVIOUS or solver.STATES):
        return
    if fixed_step(method.options, problem.t0, problem.t1, method.name) is not None:
        return
    raise SettingError(
        f"`{method.name}` estimates its error by earlier steps, and each step of `{model.NAME}` has draws of "
        "its own",
        help=f"write `{method.name}(h=…)`, or a method that starts each step anew, `rosenbrock23` or `tsit5`",
    )
