"""The passes in the order in which they run on every function of a model: a table of contents.

simplify stands before fold, which turns 1/3 into a decimal; cse and dce clean up after both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ndl.compiler.ir.graph import Function
from ndl.compiler.ir.model import EventSpec, IntegralSpec, ModelIR, RequireSpec
from ndl.compiler.ir.verify import verify
from ndl.compiler.passes.correction import with_correction
from ndl.compiler.passes.cse import eliminate_common_subexpressions
from ndl.compiler.passes.dce import eliminate_dead_code
from ndl.compiler.passes.fold import fold
from ndl.compiler.passes.fourier import with_fourier
from ndl.compiler.passes.jacobian import with_jacobian
from ndl.compiler.passes.noise_kind import with_noise_kind
from ndl.compiler.passes.reach import with_reach
from ndl.compiler.passes.simplify import simplify

Rewrite = Callable[[Function], Function]


@dataclass(frozen=True)
class Pass:
    """A function from functions to functions, known by its name to `without`."""

    name: str
    run: Rewrite


PASSES = (
    Pass("simplify", simplify),
    Pass("fold", fold),
    Pass("cse", eliminate_common_subexpressions),
    Pass("dce", eliminate_dead_code),
)


@dataclass(frozen=True)
class Options:
    """`enabled` False leaves every function as it was lowered, `derivatives` False leaves the Jacobian and
    the drift correction to the runtime, `without` names passes to skip."""

    enabled: bool = True
    derivatives: bool = True
    without: tuple[str, ...] = ()


def optimize(model: ModelIR, options: Options | None = None) -> ModelIR:
    """The model with its true kind of noise, every function optimised, its derivatives attached."""
    options = options or Options()
    model = with_reach(with_fourier(with_noise_kind(model)))
    if options.enabled:
        chosen = [p for p in PASSES if p.name not in options.without]
        model = map_functions(model, lambda function: run_passes(function, chosen))
    if options.derivatives:
        model = with_correction(with_jacobian(model))
        for function in (model.jacobian, model.correction):
            if function is not None:
                verify(function)
    return model


def run_passes(function: Function, passes: Sequence[Pass] = PASSES) -> Function:
    """The passes in turn, each function verified before the first and after each."""
    verify(function)
    for step in passes:
        function = step.run(function)
        verify(function)
    return function


def map_functions(model: ModelIR, run: Rewrite) -> ModelIR:
    """The model with `run` applied to each of its functions; parts belong to the functions that call them."""

    def maybe(function: Function | None) -> Function | None:
        return None if function is None else run(function)

    def event(spec: EventSpec) -> EventSpec:
        guard, reset, period = maybe(spec.guard), maybe(spec.reset), maybe(spec.period)
        return replace(spec, guard=guard, reset=reset, period=period)

    def require(spec: RequireSpec) -> RequireSpec:
        return replace(spec, condition=run(spec.condition))

    def integral(spec: IntegralSpec) -> IntegralSpec:
        return replace(spec, lower=run(spec.lower), upper=maybe(spec.upper), kernel=run(spec.kernel))

    return replace(
        model,
        parts={name: run(part) for name, part in model.parts.items()},
        initial=run(model.initial),
        drift=maybe(model.drift),
        diffusion=maybe(model.diffusion),
        derived={name: run(function) for name, function in model.derived.items()},
        terms={name: run(function) for name, function in model.terms.items()},
        events=tuple(map(event, model.events)),
        requires=tuple(map(require, model.requires)),
        breaks=maybe(model.breaks),
        lags=maybe(model.lags),
        pace=maybe(model.pace),
        energy=maybe(model.energy),
        measure=maybe(model.measure),
        laplacian=maybe(model.laplacian),
        integrals=tuple(map(integral, model.integrals)),
        forcing=maybe(model.forcing),
        fourier=tuple(replace(spec, symbol=run(spec.symbol)) for spec in model.fourier),
    )
