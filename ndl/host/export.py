"""A program as a Python module, its graphs as text."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ndl.compiler.backends.torch.module import print_module
from ndl.compiler.check.values import OperatorV, SolverV
from ndl.compiler.ir.graph import Function
from ndl.compiler.ir.model import ModelIR, SolverIR
from ndl.compiler.ir.series import NoSeries
from ndl.compiler.ir.text import print_function
from ndl.compiler.passes.series import series_function
from ndl.compiler.syntax import tree
from ndl.compiler.syntax.walk import walk

if TYPE_CHECKING:
    from ndl.session import Program


def python_source(program: Program) -> str:
    """The models, and the solvers that the file's runs name, as one module."""
    host = program.host
    models = [host.compilation.model(m).optimized for m in program._model_values().values()]
    solvers = [host.compilation.solver_ir(s) for s in used_solvers(program)]
    return print_module(
        [with_series(m, solvers) for m in models],
        solvers,
        file=program.path.name,
        doc=program.checked.module.files[0].doc or "",
    )


def with_series(model: ModelIR, solvers: Sequence[SolverIR]) -> ModelIR:
    """The model with the Taylor series that the solvers ask for, where it has them."""
    found = {}
    for solver in solvers:
        for node in solver.step.graph if solver.step is not None else ():
            if node.op == "apply_series":
                with suppress(NoSeries):
                    found[node.attr("order")] = series_function(model, node.attr("order"))
    return replace(model, series=found)


def used_solvers(program: Program) -> list[SolverV]:
    """The solvers that runs and tests of the file name, in the order of their first mention."""
    found: dict[int, SolverV] = {}
    for item in program.checked.module.items:
        if not isinstance(item, (tree.Solve, tree.Train, tree.Test, tree.Solver)):
            continue
        for node in walk(item):
            value = program.checked.module.scope.find(node.id) if isinstance(node, tree.Name) else None
            if isinstance(value, tuple) and value and isinstance(value[0], SolverV):
                for s in value:
                    found.setdefault(id(s.decl), s)
    return [s for s in found.values() if not s.decl.data]


def ir_text(model: ModelIR) -> str:
    """Every function of a model, one after the other."""
    functions: list[tuple[str, Any]] = [("initial", model.initial), ("drift", model.drift)]
    functions += [("diffusion", model.diffusion), ("jacobian", model.jacobian), ("breaks", model.breaks)]
    functions += [(f"derived {n}", f) for n, f in model.derived.items()]
    functions += [(f"term {n}", f) for n, f in model.terms.items()]
    for k, e in enumerate(model.events):
        functions += [(f"guard {k}", e.guard), (f"reset {k}", e.reset)]
    functions += [(f"require {k}", r.condition) for k, r in enumerate(model.requires)]
    functions.append(("forcing", model.forcing))
    functions += [(f"kernel {k}", i.kernel) for k, i in enumerate(model.integrals)]
    parts = [
        f"# {name} of {model.name}\n{print_function(f)}" for name, f in functions if isinstance(f, Function)
    ]
    return "\n".join(parts)


__all__ = ["OperatorV", "ir_text", "python_source"]
