"""Every tableau of the standard library has exactly the orders that it claims."""

from pathlib import Path

import ndl.stdlib
import pytest
from ndl.compiler.symbolic.order_conditions import Coefficients, check_tableau, coefficients, order_of
from ndl.compiler.syntax import tree
from ndl.compiler.syntax.parser import load_source, parse

FOLDER = Path(ndl.stdlib.__file__).parent / "solvers"


def tableaux():
    for file in sorted(FOLDER.glob("*.ndl")):
        source, found = load_source(file)
        parsed, more = parse(source)
        assert not found and not more
        for solver in parsed.items:
            if isinstance(solver, tree.Solver):
                for statement in solver.body:
                    if isinstance(statement, tree.Tableau):
                        yield pytest.param(solver, statement, id=solver.name)


@pytest.mark.parametrize("solver, tableau", list(tableaux()))
def test_orders_are_as_claimed(solver, tableau):
    embedded = solver.embedded.value if solver.embedded is not None else None
    assert check_tableau(solver.name, solver.order.value, embedded, tableau, solver.order.span) == []
    read = coefficients(tableau)
    assert isinstance(read, Coefficients)
    assert order_of(read.a, read.b).order == solver.order.value


def test_the_library_has_its_tableaux():
    names = {p.id for p in tableaux()}
    assert {"euler", "heun", "rk4", "bosh3", "dopri5", "tsit5", "dopri8", "vern7", "kvaerno5"} <= names
