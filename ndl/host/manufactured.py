"""`ndl test --manufactured`: a model's forced problem on a sequence of grids, and the orders that show."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import sympy as sp

from ndl.compiler.check.applications import model_names, parts_of
from ndl.compiler.check.values import DomainV, ModelV
from ndl.compiler.diagnostics import NDLError
from ndl.compiler.manufactured.exact import TIME, coordinate
from ndl.compiler.manufactured.forced import Forced, manufactured
from ndl.host.overrides import read

if TYPE_CHECKING:
    from ndl.session import Program

FLOOR, STEADY_FLOOR = 2e-10, 4e-12
"""Errors below this are those of the steps in time and of rounding."""
SPECTRAL = 1e-8
SLACK = 0.5
SIZES = {2: (16, 32, 64), 4: (16, 32, 64), 6: (16, 24, 32), 8: (20, 28, 36), 0: (8, 16, 24)}
PLANE = {2: (12, 24), 4: (12, 24), 6: (12, 18), 8: (16, 20), 0: (8, 12, 16)}
STEADY = {2: (32, 64, 128), 4: (32, 64), 6: (16, 24, 32), 8: (20, 28, 36), 0: (8, 16, 24)}
STEADY_PLANE = {2: (16, 32), 4: (16, 32, 48), 6: (16, 24, 32), 8: (20, 28), 0: (8, 12, 16)}
SPACE = {2: (8, 12), 4: (8, 12), 6: (10, 14), 8: (16, 18), 0: (8, 14)}
DENSE = 400
"""So many values are followed by a method for stiff equations."""


@dataclass
class Row:
    """One grid: points along the first coordinate, the largest error and its root mean square."""

    n: int
    step: float
    """The distance of neighbours as a share of the domain."""
    largest: float
    mean: float
    order: float | None = None


@dataclass
class Study:
    """The errors of one model on grids of one kind. `expected` is the order, 0 for spectral; that of
    elements shows in the root mean square."""

    model: str
    grid: str
    expected: int
    rows: list[Row] = field(default_factory=list)
    trouble: NDLError | None = None
    floor: float = FLOOR

    @property
    def observed(self) -> float | None:
        """The last order whose errors are above the floor."""
        found = [r.order for r in self.rows if r.order is not None]
        return found[-1] if found else None

    @property
    def passed(self) -> bool:
        if self.trouble is not None or not self.rows:
            return False
        last = self.rows[-1].largest
        if not self.expected:
            return last < SPECTRAL
        if self.observed is None:
            return last < self.floor
        return self.observed > self.expected - SLACK


class Verification:
    """The forced problem of one model of a program."""

    def __init__(
        self, program: Program, model: ModelV, settings: Mapping[str, str], sizes: Sequence[int] = ()
    ) -> None:
        self.program, self.model = program, model
        self.settings, self.sizes = dict(settings), tuple(sizes)
        self.forced: Forced = manufactured(model, program.host.sink)

    def grids(self) -> list[str]:
        """Differences of order 2 and 4, and the spectral grid that fits each coordinate."""
        domain = next(d for d in self.forced.domains.values() if d is not None)
        axes = ["fourier(n)" if p else "chebyshev(n)" for p in domain.periodic]
        spectral = axes[0] if len(set(axes)) == 1 else f"[{', '.join(axes)}]"
        return ["uniform(n)", "uniform(n, order=4)", spectral]

    def study(self, grid: str) -> Study:
        """The errors on grids of one kind, `n` in its place."""
        found = Study(self.model.decl.name, grid, expected_order(grid))
        found.floor = STEADY_FLOOR if self.forced.steady else FLOOR
        try:
            for n in self.sizes or self._sizes(found.expected):
                found.rows.append(self._row(grid, n))
        except NDLError as error:
            found.trouble = error
        for before, row in zip(found.rows, found.rows[1:]):
            if row.largest > found.floor and found.expected:
                sizes = (before.mean, row.mean) if "fem(" in grid else (before.largest, row.largest)
                row.order = math.log(sizes[0] / sizes[1]) / math.log(before.step / row.step)
        return found

    def _sizes(self, order: int) -> tuple[int, ...]:
        kinds = (STEADY, STEADY_PLANE, SPACE) if self.forced.steady else (SIZES, PLANE, SPACE)
        table = kinds[self._coordinates() - 1]
        return table[order if order in table else 2]

    def _coordinates(self) -> int:
        return max(len(d.coordinates) for d in self.forced.domains.values() if d is not None)

    def _row(self, grid: str, n: int) -> Row:
        nodes = [d for d in self.forced.domains.values() if d is not None and not all(d.periodic)]
        points = n + 1 if nodes and not re.search(r"cells|fem\(", grid) and expected_order(grid) else n
        text = re.sub(r"\bn\b", str(points), grid)
        solution = self._solved(text, points)
        errors = [self._errors(solution, name) for name, d in self.forced.domains.items() if d is not None]
        every = np.concatenate([e.ravel() for e in errors])
        return Row(points, 1.0 / n, float(np.abs(every).max()), float(np.sqrt((np.abs(every) ** 2).mean())))

    def _solved(self, grid: str, n: int) -> Any:
        texts = {"span": "0..0.5", "save": "end"} if not self.forced.steady else {}
        texts["method"] = self._method(n)
        texts |= {**self.settings, "grid": grid}
        host, where = self.program.host, self.model.decl.name_span
        spans = {k: (e, e.span) for k, e in ((k, read(k, v, "setting ")) for k, v in texts.items())}
        scope = self.program.checked.module.scope
        return host.guarded(
            lambda: host.solution(host.evaluator(), self.forced.model, spans, scope, where), where
        )

    def _method(self, n: int) -> str:
        if self.forced.steady:
            return "newton(tol=1e-9)"
        count = sum(
            cells.size * n ** len(d.coordinates)
            if (d := self.forced.domains[name]) is not None
            else cells.size
            for name, cells in self.forced.solutions.items()
        )
        stiff = count <= DENSE
        return "rodas5(rtol=1e-10, atol=1e-12)" if stiff else "tsit5(rtol=1e-10, atol=1e-12)"

    def _errors(self, solution: Any, name: str) -> Any:
        """The distance of a field from its solution at the points."""
        domain = self.forced.domains[name]
        assert isinstance(domain, DomainV)
        found = getattr(solution.final, name).detach().numpy()
        t = 0.0 if self.forced.steady else float(solution.t[-1])
        values = [coordinate(c) for c in domain.coordinates]
        points = [np.asarray(getattr(solution.grid, c)) for c in domain.coordinates]
        cells = self.forced.solutions[name]
        errors = np.empty_like(found)
        for place in np.ndindex(cells.shape):
            exact = sp.lambdify([*values, TIME], cells[place], "numpy")
            at = (..., *place)
            errors[at] = found[at] - exact(*points, t)
        return errors


def applied(program: Program, name: str, values: Mapping[str, str]) -> ModelV:
    """A model of the program with what it declares set, in the words of the language; what it does not
    declare is for other models."""
    model: ModelV = program._model_values()[name]
    known = names_of(program, name)
    values = {k: v for k, v in values.items() if k.rstrip("'") in known}
    if not values:
        return model
    host, where = program.host, model.decl.name_span
    text = f"{name}({', '.join(f'{k}={v}' for k, v in values.items())})"
    scope = program.checked.module.scope
    found: ModelV = host.guarded(lambda: host.evaluator().eval(read("model", text, ""), scope), where)
    return found


def names_of(program: Program, name: str) -> list[str]:
    """What an application of a model may set."""
    model = program._model_values()[name]
    return model_names(parts_of(program.host.evaluator(), model.decl))


SCHEMES = {"upwind": 1, "weno5": 5, "minmod": 1, "vanleer": 1, "mc": 1}
"""Orders in the largest error; that of limited schemes is 1 at the crests of a wave."""


def expected_order(grid: str) -> int:
    """The lowest order of the differences or elements of a grid; 0 when all of it is spectral."""
    found = []
    for mesh in re.findall(r"fem\([^)]*\)", grid):
        order = re.search(r"order\s*=\s*(\d)", mesh)
        found.append(int(order[1]) + 1 if order else 2)
    for axis in re.findall(r"uniform\([^)]*\)", grid):
        order, scheme = re.search(r"order\s*=\s*(\d)", axis), re.search(r"scheme\s*=\s*(\w+)", axis)
        found.append(int(order[1]) if order else 2)
        if scheme and scheme[1] in SCHEMES:
            found.append(SCHEMES[scheme[1]])
    return min(found, default=0)


def studies(
    program: Program,
    model: ModelV,
    grids: Sequence[str] = (),
    settings: Mapping[str, str] | None = None,
    sizes: Sequence[int] = (),
) -> Iterator[Study]:
    """The studies of one model. Raises `NDLError` (NDL449) where it has no manufactured solution."""
    made = Verification(program, model, settings or {}, sizes)
    for grid in grids or made.grids():
        yield made.study(grid)
