"""Steps of stochastic equations dx = f dt + g dW as scalar code: solvers written as a `step` of kind `sde`,
and explicit tableaux, which run as Stratonovich methods with the slopes f h + g dW."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ndl.compiler.ir.graph import Function, Node
from ndl.compiler.ir.model import SolverIR
from ndl.compiler.kernels.explicit import Tableau
from ndl.compiler.kernels.field import Field
from ndl.compiler.kernels.ir import Unsupported, Value
from ndl.compiler.kernels.refusals import reads_back
from ndl.compiler.kernels.reverse import pullback
from ndl.compiler.kernels.scalars import Scalars, Values
from ndl.compiler.kernels.stepper import moved

Diffusion = list[list[tuple[Value, int]]]
"""For each state, entries of g and the noise that each belongs to."""

Point = tuple[str, Value, tuple[Value, ...]]
"""`f` or `g`, a time and a state."""


class NoisyMethod(ABC):
    """One step of a method: the new state and what it carries on. `calculus` is the reading that it wants,
    `memory` counts the numbers that it carries, `areas` says that it looks at dZ."""

    name: str
    calculus: str
    error_order: float
    memory: int = 0
    areas: bool = False

    def __init__(self, field: Field) -> None:
        self.field = field
        self.components = sum(n.size for n in field.model.noises)
        self.entries = _entries(field)
        self.columns = [[c for _, c in row] for row in self.entries]

    def start(self, t: Value, x: Sequence[Value]) -> list[Value]:
        """What is carried at first."""
        return []

    @abstractmethod
    def step(
        self, t: Value, h: Value, x: Sequence[Value], carry: Sequence[Value], noise: Sequence[Value]
    ) -> NoisyResult:
        """A step; `noise` is dW, then dZ."""

    def names(self, states: Sequence[str]) -> list[str]:
        """Names of what is carried, given those of the model's states."""
        return []

    def drift(self, t: Value, x: Sequence[Value]) -> list[Value]:
        """The drift in the calculus of the method (`ndl.runtime.diffusion.NoisyField`)."""
        model, code = self.field.model, self.field.code
        rate = self.field.rate(t, x) if model.drift is not None else [code.const(0.0)] * len(x)
        if self.calculus == model.calculus or model.noise_kind in ("none", "additive"):
            return rate
        if model.correction is None:
            raise Unsupported("its drift correction is not a formula")
        found = self.field.evaluate(model.correction, t, x)
        more = [v for s in model.states for v in np.asarray(found[s.name], object).flat]
        name = "sub" if self.calculus == "stratonovich" else "add"
        return [code.op(name, a, b) for a, b in zip(rate, more)]

    def diffusion(self, t: Value, x: Sequence[Value]) -> Diffusion:
        """g(x, t)."""
        model = self.field.model
        assert model.diffusion is not None
        found = self.field.evaluate(model.diffusion, t, x)
        places = _offsets(model.states)
        rows: list[list[Value]] = [[] for _ in x]
        for name, value in found.items():
            mine = places[name.rpartition(",")[0]]
            for r, row in zip(mine, np.asarray(value, object).reshape(len(mine), -1)):
                rows[r] += list(row)
        return [[(row[j], c) for j, c in entries] for row, entries in zip(rows, self.entries)]

    def rates(self, callee: str, t: Value, x: Sequence[Value]) -> list[Value]:
        """f or the entries of g."""
        return self.drift(t, x) if callee == "f" else [v for row in self.diffusion(t, x) for v, _ in row]

    def rows(self, entries: Sequence[Value]) -> Diffusion:
        """g from its entries."""
        left = iter(entries)
        return [[(next(left), c) for c in row] for row in self.columns]

    def applied(self, g: Diffusion, v: Sequence[Value]) -> list[Value]:
        """g @ v."""
        scalars = self.field.scalars
        return [scalars.dot([(a, v[c]) for a, c in row]) for row in g]


@dataclass
class NoisyResult:
    """What a step gives: the state, what is carried, the error if there is an estimate, evaluations, and g
    at the start where the step has asked for it."""

    x: list[Value]
    carry: list[Value]
    error: list[Value] | None
    cost: int
    g: Diffusion | None = None


class NoisyStep(NoisyMethod):
    """A step of a solver written in the language. Carried are its states; and the rates at one of them,
    where a step ends with what the next one begins with and the rates are nets, so that it is worth the
    memory."""

    def __init__(self, field: Field, solver: SolverIR, options: Mapping[str, float]) -> None:
        super().__init__(field)
        if solver.step is None or solver.kind != "sde":
            raise Unsupported(f"`{solver.name}` is not a step for equations with noise")
        names = {n.attr("name") for n in solver.step.inputs}
        if any(name.startswith("prev:") for name in names) or "n" in names:
            raise Unsupported(f"`{solver.name}` looks at earlier steps")
        self.name, self.calculus, self.options = solver.name, solver.calculus, options
        self.error_order = min(solver.order, solver.embedded or solver.order)
        self.function = solver.step
        self.states = [n.removeprefix("state:") for n, _ in solver.step.outputs if n.startswith("state:")]
        if any(name in solver.states for name in self.states):
            raise Unsupported(f"`{solver.name}` starts from more than the initial state")
        self.areas = "dZ" in names
        # beside delays the end of a step reads another piece of the past than the start of the next
        worth = field.nets and not field.past
        self.repeated = repeated(solver.step, self.states) if worth else {}
        entries = sum(map(len, self.columns))
        many = {"f": field.size, "g": entries}
        self.memory = len(self.states) * field.size + sum(many[callee] for callee in self.repeated)

    def start(self, t: Value, x: Sequence[Value]) -> list[Value]:
        carry = [v for _ in self.states for v in x]
        return [*carry, *(v for callee in self.repeated for v in self.rates(callee, t, x))]

    def names(self, states: Sequence[str]) -> list[str]:
        found = [f"{s}.{name}" for s in self.states for name in states]
        return [*found, *(f"rate.{i}" for i in range(self.memory - len(found)))]

    def _known(
        self, t: Value, states: Mapping[str, Sequence[Value]], values: Sequence[Value]
    ) -> dict[Point, list[Value]]:
        """The carried rates by where they are."""
        found, at = {}, 0
        for callee, name in self.repeated.items():
            count = self.field.size if callee == "f" else sum(map(len, self.columns))
            found[callee, t, tuple(states[name])] = list(values[at : at + count])
            at += count
        return found

    def step(
        self, t: Value, h: Value, x: Sequence[Value], carry: Sequence[Value], noise: Sequence[Value]
    ) -> NoisyResult:
        n, m = self.field.size, self.components
        given: dict[str, Values] = {k: _scalar(self.field.code.const(v)) for k, v in self.options.items()}
        given |= {"x": _array(x), "t": _scalar(t), "h": _scalar(h)}
        given |= {"dW": _array(noise[:m]), "dZ": _array(noise[m:])}
        states = {name: carry[i * n : (i + 1) * n] for i, name in enumerate(self.states)}
        given |= {f"state:{name}": _array(values) for name, values in states.items()}
        scalars = _Steps(self, self._known(t, states, carry[len(states) * n :]))
        found = scalars.call(self.function, given)

        def values(name: str) -> list[Value]:
            return list(np.broadcast_to(found[name], (n,)))

        after = [v for name in self.states for v in values(f"state:{name}")]
        end = self.field.code.op("add", t, h)
        for callee, name in self.repeated.items():
            after += scalars.rates(callee, end, values(f"state:{name}"))
        error = values("error") if "error" in found else None
        known = scalars.known.get(("g", t, tuple(x)))
        g = None if known is None else self.rows(known)
        return NoisyResult(values("x"), after, error, scalars.cost, g)


class NoisyTableau(NoisyMethod):
    """A step of an explicit tableau (Rümelin 1982, SIAM J. Numer. Anal. 19, 604–613)."""

    calculus = "stratonovich"

    def __init__(self, field: Field, tableau: Tableau) -> None:
        super().__init__(field)
        self.tableau, self.name, self.error_order = tableau, tableau.name, 0.5

    def step(
        self, t: Value, h: Value, x: Sequence[Value], carry: Sequence[Value], noise: Sequence[Value]
    ) -> NoisyResult:
        code, tableau = self.field.code, self.tableau
        used = 1 + max(i for i, b in enumerate(tableau.b) if b != 0)
        slopes: list[list[Value]] = []
        first = self.diffusion(t, x)
        for i in range(used):
            y, at = moved(code, x, slopes, tableau.a[i]), code.op("fma", h, tableau.c[i], t)
            kick = self.applied(self.diffusion(at, y) if i else first, noise)
            slopes.append([code.op("fma", f, h, g) for f, g in zip(self.drift(at, y), kick)])
        return NoisyResult(moved(code, x, slopes, tableau.b), [], None, 2 * used, first)


class _Steps(Scalars):
    """A step's graph with f, g and the derivative of g(x, t) @ v; `cost` counts evaluations."""

    def __init__(self, method: NoisyMethod, known: dict[Point, list[Value]]) -> None:
        super().__init__(method.field.code, _no_weights, {"n": method.field.size, "m": method.components})
        self.method, self.known, self.cost = method, known, 0

    def other(self, node: Node, operands: list[Values]) -> Values:
        if node.op == "apply":
            return _array(self._applied(node.attr("callee"), operands))
        if node.op == "apply_jac" and node.attr("callee") == "g" and node.attr("wrt") == 0:
            x, one, code = list(operands[0].flat), self.code.const(1.0), self.code
            assert self.method.field.model.diffusion is not None
            if reads_back([self.method.field.model.diffusion]):
                raise Unsupported(f"`{self.method.name}` differentiates what reads delayed states")
            values = self._applied("g", operands)
            body = code.visible()
            return np.array([pullback(code, body, {v: one}, x) for v in values], dtype=object)
        return super().other(node, operands)

    def _applied(self, callee: str, operands: list[Values]) -> list[Value]:
        x, t = list(operands[0].flat), np.asarray(operands[1], object).item()
        self.cost += 1
        if callee == "f":
            return self.rates("f", t, x)
        if callee == "g":
            return self.method.applied(self.method.rows(self.rates("g", t, x)), list(operands[2].flat))
        raise Unsupported(f"its step asks for `{callee}`")

    def rates(self, callee: str, t: Value, x: Sequence[Value]) -> list[Value]:
        """f or the entries of g at a point, once."""
        point = callee, t, tuple(x)
        if point not in self.known:
            self.known[point] = self.method.rates(callee, t, x)
        return self.known[point]


def repeated(step: Function, states: Sequence[str]) -> dict[str, str]:
    """The rates (`f`, `g`) that a step asks for both at a carried state, at its start, and at the new value
    of that, at its end: by the state's name."""
    inputs = {n.attr("name"): n.id for n in step.inputs}
    outputs = {name: n.id for name, n in step.outputs}
    t, h = inputs["t"], inputs["h"]
    ends = {n.id for n in step.graph if n.op == "add" and set(n.inputs) == {t, h}}
    asked = {
        (n.attr("callee"), n.inputs[0], n.inputs[1] if n.inputs[1] == t else "end")
        for n in step.graph
        if n.op == "apply" and (n.inputs[1] == t or n.inputs[1] in ends)
    }
    return {
        callee: name
        for name in states
        for callee in ("f", "g")
        if (callee, inputs.get(f"state:{name}"), t) in asked
        and (callee, outputs[f"state:{name}"], "end") in asked
    }


def _entries(field: Field) -> list[list[tuple[int, int]]]:
    """Of each state, the entries of g that are not always 0: the number of each in its row, and its noise."""
    model = field.model
    assert model.diffusion is not None
    places, noises = _offsets(model.states), _offsets(model.noises)
    rows: list[list[tuple[int, bool]]] = [[] for r in places.values() for _ in r]
    for name, values in field.probed(model.diffusion).items():
        state, _, noise = name.rpartition(",")
        for r, row in zip(places[state], values.reshape(len(places[state]), -1)):
            columns = [r] if model.noise_kind == "diagonal" else list(noises[noise])
            rows[r] += [(c, number == 0) for c, number in zip(columns, row)]
    return [[(j, c) for j, (c, zero) in enumerate(row) if not zero] for row in rows]


def _offsets(items: Sequence[Any]) -> dict[str, range]:
    """Where each state or noise stands among the numbers of all."""
    found, at = {}, 0
    for item in items:
        found[item.name] = range(at, at + item.size)
        at += item.size
    return found


def _array(values: Sequence[Value]) -> Values:
    out = np.empty(len(values), dtype=object)
    out[:] = list(values)
    return out


def _scalar(value: Value) -> Values:
    return np.array(value, dtype=object)


def _no_weights(name: str, shape: tuple[int, ...]) -> Values:
    raise LookupError(name)
