"""Steps of stochastic equations dx = f dt + g dW as scalar code: solvers written as a `step` of kind
`sde`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ndl.compiler.ir.graph import Node
from ndl.compiler.ir.model import SolverIR
from ndl.compiler.kernels.field import Field
from ndl.compiler.kernels.ir import Value
from ndl.compiler.kernels.reverse import pullback
from ndl.compiler.kernels.scalars import Scalars, Unsupported, Values


class NoisyStep:
    """One step of a solver: the new state and what it carries on."""

    def __init__(self, field: Field, solver: SolverIR, options: Mapping[str, float]) -> None:
        if solver.step is None or solver.kind != "sde":
            raise Unsupported(f"`{solver.name}` is not a step for equations with noise")
        names = {n.attr("name") for n in solver.step.inputs}
        if any(name.startswith("prev:") for name in names) or "n" in names:
            raise Unsupported(f"`{solver.name}` looks at earlier steps")
        self.field, self.solver, self.options = field, solver, options
        self.step = solver.step
        self.states = [n.removeprefix("state:") for n, _ in solver.step.outputs if n.startswith("state:")]
        if any(name in solver.states for name in self.states):
            raise Unsupported(f"`{solver.name}` starts from more than the initial state")
        self.areas = "dZ" in names
        self.components = sum(n.size for n in field.model.noises)

    def begin(self, x: Sequence[Value]) -> list[Value]:
        """What is carried at first: the initial state, for each carried state."""
        return [v for _ in self.states for v in x]

    def __call__(
        self, t: Value, h: Value, x: Sequence[Value], carry: Sequence[Value], noise: Sequence[Value]
    ) -> tuple[list[Value], list[Value]]:
        """The new state and carry; `noise` is dW, then dZ."""
        n, m = self.field.size, self.components
        given: dict[str, Values] = {k: _scalar(self.field.code.const(v)) for k, v in self.options.items()}
        given |= {"x": _array(x), "t": _scalar(t), "h": _scalar(h)}
        given |= {"dW": _array(noise[:m]), "dZ": _array(noise[m:])}
        for i, name in enumerate(self.states):
            given[f"state:{name}"] = _array(carry[i * n : (i + 1) * n])
        found = _Steps(self.field, self.solver, m).call(self.step, given)
        x1 = list(np.broadcast_to(found["x"], (n,)))
        after = [v for name in self.states for v in np.broadcast_to(found[f"state:{name}"], (n,))]
        return x1, after


class _Steps(Scalars):
    """A step's graph with f, g and the derivative of g(x, t) @ v."""

    def __init__(self, field: Field, solver: SolverIR, components: int) -> None:
        super().__init__(field.code, _no_weights, {"n": field.size, "m": components})
        self.field, self.solver, self.components = field, solver, components

    def other(self, node: Node, operands: list[Values]) -> Values:
        if node.op == "apply":
            return _array(self._applied(node.attr("callee"), operands))
        if node.op == "apply_jac" and node.attr("callee") == "g" and node.attr("wrt") == 0:
            x, one, code = list(operands[0].flat), self.code.const(1.0), self.code
            values = self._applied("g", operands)
            body = code.visible()
            return np.array([pullback(code, body, {v: one}, x) for v in values], dtype=object)
        return super().other(node, operands)

    def _applied(self, callee: str, operands: list[Values]) -> list[Value]:
        x, t = list(operands[0].flat), np.asarray(operands[1], object).item()
        if callee == "f":
            return self._drift(t, x)
        if callee == "g":
            return self._diffused(t, x, list(operands[2].flat))
        raise Unsupported(f"its step asks for `{callee}`")

    def _drift(self, t: Value, x: list[Value]) -> list[Value]:
        """The drift in the calculus of the method (`ndl.runtime.diffusion.NoisyField`)."""
        model, code = self.field.model, self.code
        rate = self.field.rate(t, x) if model.drift is not None else [code.const(0.0)] * len(x)
        if self.solver.calculus == model.calculus or model.noise_kind in ("none", "additive"):
            return rate
        if model.correction is None:
            raise Unsupported("its drift correction is not a formula")
        found = self.field.evaluate(model.correction, t, x)
        more = [v for s in model.states for v in np.asarray(found[s.name], object).flat]
        name = "sub" if self.solver.calculus == "stratonovich" else "add"
        return [code.op(name, a, b) for a, b in zip(rate, more)]

    def _diffused(self, t: Value, x: list[Value], v: list[Value]) -> list[Value]:
        """g(x, t) @ v."""
        model, code = self.field.model, self.code
        assert model.diffusion is not None
        found = self.field.evaluate(model.diffusion, t, x)
        zero = code.const(0.0)
        places, noises = _offsets(model.states), _offsets(model.noises)
        out: list[list[tuple[Value, Value]]] = [[] for _ in x]
        for name, value in found.items():
            state, _, noise = name.rpartition(",")
            rows, columns = places[state], noises[noise]
            if model.noise_kind == "diagonal":
                for r, g in zip(rows, np.asarray(value, object).flat):
                    out[r].append((g, v[r]))
                continue
            for r, row in zip(rows, np.asarray(value, object).reshape(len(rows), len(columns))):
                out[r] += list(zip(row, (v[c] for c in columns)))
        return [self.dot(pairs) if pairs else zero for pairs in out]


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
