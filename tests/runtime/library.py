"""The standard library's solvers, compiled from their NDL text, for tests."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from ndl.compiler.backends.torch.module import compile_source, print_module
from ndl.compiler.check.builtins import make_builtins
from ndl.compiler.check.check_solver import check_solver
from ndl.compiler.check.evaluator import Evaluator, TypeBuilder
from ndl.compiler.check.modules import Loader, stdlib_folder
from ndl.compiler.diagnostics import Sink
from ndl.compiler.ir.model import SolverIR
from ndl.compiler.lower.solvers import lower_solver
from ndl.runtime.methods import Method, Tableau

FOLDER = stdlib_folder() / "solvers"


def files() -> list[Path]:
    return sorted(FOLDER.glob("*.ndl"))


@cache
def lowered() -> dict[str, SolverIR]:
    """Every solver of the library, checked without a finding."""
    sink = Sink()
    loader = Loader(sink, [], make_builtins())
    found: dict[str, SolverIR] = {}
    for file in files():
        module = loader.load_path(file)
        assert module is not None
        for name, values in module.names.items():
            if not isinstance(values, tuple):  # what the module's tests are about
                continue
            for value in values:
                check_solver(Evaluator(TypeBuilder(), sink), value)
                one = lower_solver(value, sink)
                found[f"{name} for {one.kind}"] = one
                # alone, a name means a tableau (`heun`), else the method for noise (`reversible_heun`)
                if name not in found or found[name].step is not None:
                    found[name] = one
    assert not sink.found, sink.found
    return found


@cache
def solver(name: str) -> Any:
    """A `Tableau`, or a class that extends `StepSolver`, of `name` or `name for kind`."""
    text = print_module([], [lowered()[name]])
    return getattr(compile_source(text, f"stdlib_{name.replace(' ', '_')}"), name.split()[0])


def method(name: str, parts: dict[str, Any] | None = None, **options: Any) -> Method:
    """A solver of the library with its options, as a program would write it."""
    made = solver(name)
    if isinstance(made, Tableau):
        return Method(name, "ode", made, options, parts or {})
    own = {k: v for k, v in options.items() if k in made.OPTIONS}
    return Method(name, made.KIND, made(**own), options, parts or {})
