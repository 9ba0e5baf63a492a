"""Methods written as a `step`: Rosenbrock methods, multistep methods and a user's own, as scalar code.

The counterpart of `ndl.runtime.stepping.stepped`. `f(x, t)` is the model's rates, its derivative by x the
model's Jacobian; linear systems are solved in registers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
from ndl.compiler.ir.graph import Function, Node
from ndl.compiler.ir.model import SolverIR
from ndl.compiler.kernels.code import Code
from ndl.compiler.kernels.field import Field
from ndl.compiler.kernels.ir import Unsupported, Value
from ndl.compiler.kernels.linear import Factors
from ndl.compiler.kernels.outputs import Dense, Hermite
from ndl.compiler.kernels.rootfinding import differentiable, newton
from ndl.compiler.kernels.scalars import Scalars, Values, each
from ndl.compiler.kernels.slopes import Shorter, rates, smooth_slopes
from ndl.compiler.kernels.stepper import Attempt, Stepper
from ndl.compiler.types import Tensor

INVOLVED = ("apply_jac", "apply_series", "inv", "root", "solve")
"""What makes a step more than rates and sums of them."""


class StepScalars(Scalars):
    """A step's graph as scalar code. Counts evaluations; a matrix is factorised once."""

    def __init__(self, field: Field, fuses: bool = False) -> None:
        """`fuses`: a product and the sum that reads it are one operation, rounded once."""
        super().__init__(field.code, _no_weights, {"n": field.size})
        self.field, self.fuses = field, fuses
        self.points: set[tuple[Value, ...]] = set()
        self.iterations: list[Value] = []
        self.roots: list[Value] = []
        """Of equations that the step solves, one after the other."""
        self.known: list[Value] | None = None
        """The same, where they are known beforehand."""
        self.series: list[Value] = []
        self._factors: dict[tuple[Value, ...], Factors] = {}

    def other(self, node: Node, operands: list[Values]) -> Values:
        if node.op in ("apply", "apply_jac", "apply_series"):
            return self._applied(node, operands)
        if node.op == "root":
            return self._rooted(node, *operands)
        return super().other(node, operands)

    def _elementwise(self, name: str, operands: Sequence[Values]) -> Values:
        if not self.fuses or name != "add":
            return super()._elementwise(name, operands)
        return each(self._added, *self.spread(operands))

    def _added(self, a: Value, b: Value) -> Value:
        for term, product in ((a, b), (b, a)):
            if product in self.code.products:
                return self.code.op("fma", *self.code.products[product], term)
        return self.code.op("add", a, b)

    def _applied(self, node: Node, operands: list[Values]) -> Values:
        if node.attr("callee") != "f" or len(operands) != 2:
            raise Unsupported(f"its step asks for `{node.attr('callee')}`")
        x, t = list(operands[0].flat), np.asarray(operands[1], object).item()
        if node.op == "apply_series":
            self.points.add((*x, t))
            found = self.field.series(t, x, node.attr("order"))
            self.series += list(found.flat)
            return found
        if node.op == "apply":
            self.points.add((*x, t))
            return _array(self.field.rate(t, x))
        if node.attr("wrt") == 0:
            return np.array(self.field.jacobian(t, x), dtype=object)
        return _array(self.field.time_rate(t, x))

    def _rooted(self, node: Node, guess: Values, *captured: Values) -> Values:
        function = node.attr("function")
        z, *names = (i.attr("name") for i in function.inputs)
        given = dict(zip(names, captured))

        def residual(at: list[Value]) -> list[Value]:
            inner = type(self)(self.field, self.fuses)
            found = inner.call(function, {**given, z: _array(at).reshape(guess.shape)})["residual"]
            return list(np.broadcast_to(found, guess.shape).flat)

        if self.known is not None:
            at, self.known = self.known[: guess.size], self.known[guess.size :]
            return _array(differentiable(self.code, residual, at)).reshape(guess.shape)
        found = newton(self.code, residual, list(guess.flat))
        self.iterations.append(found.iterations)
        self.roots += found.z
        return _array(found.z).reshape(guess.shape)

    def factors(self, a: Values) -> Factors:
        key = tuple(a.flat)
        if key not in self._factors:
            self._factors[key] = super().factors(a)
        return self._factors[key]


class SteppedMethod(Stepper):
    """Runs `SolverIR.step`. Carried are its states and the earlier values that it reads (all that
    later steps depend on), then earlier times and sizes, the number of steps, and the last size."""

    def __init__(self, code: Code, field: Field, solver: SolverIR, options: Mapping[str, float]) -> None:
        super().__init__(code, field)
        if solver.step is None or solver.kind != "ode":
            raise Unsupported(f"`{solver.name}` is not a step for ordinary equations")
        self.solver, self.options, self.name = solver, options, solver.name
        self.function: Function = solver.step
        self.error_order = min(solver.order, solver.embedded or solver.order)
        self.shapes = self._shapes()
        depths = _depths(solver.step)
        self.places = [("state", name, 1) for name in self.shapes]
        self.places += [
            ("prev", name, k) for name in depths if name not in ("t", "h")
            for k in range(1, depths[name] + 1 - (name in self.shapes))
        ]  # fmt: skip
        self.memory = sum(self._size(name) for _, name, _ in self.places)
        self.unknowns = self._unknowns()
        self.times = [(name, k) for name in ("t", "h") for k in range(1, depths.get(name, 0) + 1)]
        self.looks = len(self.times)
        ops = {node.op for node in solver.step.graph}
        self.stiff = "apply_jac" in ops
        self.straight = ops.isdisjoint(INVOLVED)
        plain = not (self.shapes or depths or "n" in solver.arguments)
        self.proposes = solver.size is not None
        self.short = plain and (solver.order > 4 or self.proposes)

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each carried state."""
        scalars = Scalars(self.code, _no_weights, {"n": self.field.size})
        return {
            name.removeprefix("state:"): scalars.extents(cast(Tensor, node.type).shape)
            for name, node in self.function.outputs
            if name.startswith("state:")
        }

    def _unknowns(self) -> int:
        """How many unknowns the equations have that a step solves."""
        scalars = Scalars(self.code, _no_weights, {"n": self.field.size})
        types = [cast(Tensor, node.type) for node in self.function.graph if node.op == "root"]
        return sum(int(np.prod(scalars.extents(type.shape))) for type in types)

    def _size(self, name: str) -> int:
        return int(np.prod(self.shapes.get(name, (self.field.size,))))

    @property
    def width(self) -> int:
        return self.holds + self.unknowns

    def carried(self, names: Sequence[str]) -> tuple[str, ...]:
        parts = [
            f"{name}.{i}" if kind == "state" else f"{name} {k} before.{i}"
            for kind, name, k in self.places
            for i in range(self._size(name))
        ]
        return (*parts, *(f"{name} {k} before" for name, k in self.times), "count", "last h")

    # ------------------------------------------------------------ the start

    def start(self, t: Value, x: list[Value]) -> list[Value]:
        states = self._first_states(t, x, StepScalars(self.field))
        return [v for _, name, _ in self.places for v in states.get(name, x)]

    def _first_states(self, t: Value, x: list[Value], scalars: StepScalars) -> dict[str, list[Value]]:
        found = {}
        for name, shape in self.shapes.items():
            value: Values = _array(x)
            if name in self.solver.states:
                given = {**self._options(), "x": _array(x), "t": _scalar(t), "mass": self._mass()}
                value = scalars.call(self.solver.states[name], given)["start"]
            found[name] = list(np.broadcast_to(value, shape).flat)
        return found

    def begin(self, t: Value, x: list[Value], f0: list[Value] | None) -> list[Value]:
        zero = self.code.const(0.0)
        return [*self.start(t, x), *self.known_times(t), zero, zero]

    def known_times(self, t: Value) -> list[Value]:
        return [t if name == "t" else self.code.const(0.0) for name, _ in self.times]

    @property
    def holds(self) -> int:
        return self.memory + len(self.times) + 2

    # ------------------------------------------------------------ the step

    def proposal(self, t: Value, h: Value, x: list[Value], carry: list[Value]) -> Value:
        assert self.solver.size is not None and self.control is not None
        given = self._given(t, h, x, carry)
        given |= {"rtol": _array(self.control.rtol), "atol": _array(self.control.atol)}
        size: Value = StepScalars(self.field, self.proposes).call(self.solver.size, given)["size"].item()
        return size

    def _given(self, t: Value, h: Value, x: list[Value], carry: list[Value]) -> dict[str, Values]:
        """What a step is given, by name."""
        memory, times, count = carry[: self.memory], carry[self.memory : -2], carry[-2]
        seen = self._seen(memory)
        given = {**self._options(), "x": _array(x), "t": _scalar(t), "h": _scalar(h), "mass": self._mass()}
        given["n"] = _scalar(count)
        given |= {f"state:{name}": seen[name, 0] for name in self.shapes}
        given |= {f"prev:{name}:{k}": v for (name, k), v in self._earlier(seen, times, count, h).items()}
        return given

    def attempt(
        self, t: Value, h: Value, x: list[Value], carry: list[Value], roots: list[Value] | None = None
    ) -> Attempt:
        """Try a step; of its equations the `roots` may be known."""
        code, n = self.code, self.field.size
        memory, times, count = carry[: self.memory], carry[self.memory : -2], carry[-2]
        seen = self._seen(memory)
        scalars = StepScalars(self.field, self.proposes)
        scalars.known = roots
        given = self._given(t, h, x, carry)
        since = code.mark() if self.straight else None
        found = scalars.call(self.function, given)
        x1 = list(np.broadcast_to(found["x"], (n,)))
        error = list(np.broadcast_to(found["error"], (n,))) if "error" in found else None
        after = {name: list(found[f"state:{name}"].flat) for name in self.shapes}
        kept = self._shifted(seen, after, x)
        past = dict(zip(self.times, times))
        shifts = [past[name, k - 1] if k > 1 else (t if name == "t" else h) for name, k in self.times]
        taken = [*kept, *shifts, code.op("add", count, 1.0), h]
        cost = self.whole(len(scalars.points))
        for more in scalars.iterations:
            cost = code.op("add", cost, more)
        extra = {"carry": carry, "series": scalars.series, "roots": scalars.roots}
        return Attempt(t, h, x, x1, cost, error, None, taken, list(carry), kept, extra, since)

    def _seen(self, memory: list[Value]) -> dict[tuple[str, int], Values]:
        """What is carried, by name and how many steps ago (0: a state as the step finds it)."""
        found, at = {}, 0
        for kind, name, k in self.places:
            size, shape = self._size(name), self.shapes.get(name, (self.field.size,))
            ago = 0 if kind == "state" else k + (name in self.shapes) - 1
            found[name, ago] = _array(memory[at : at + size]).reshape(shape)
            at += size
        return found

    def _earlier(
        self, seen: dict[tuple[str, int], Values], times: Sequence[Value], count: Value, h: Value
    ) -> dict[tuple[str, int], Values]:
        """`prev(name, k)`: a state one step ago is what it is before the step assigns it."""
        found: dict[tuple[str, int], Values] = {(name, ago + 1): v for (name, ago), v in seen.items()}
        for (name, k), value in zip(self.times, times):
            if name == "h":
                # before the start, the step was what it is now
                known = self.code.op("ge", count, float(k))
                value = self.code.op("select", known, value, h)
            found[name, k] = _scalar(value)
        return found

    def _shifted(
        self, seen: dict[tuple[str, int], Values], after: dict[str, list[Value]], x: list[Value]
    ) -> list[Value]:
        """The memory after the step."""
        found: list[Value] = []
        for kind, name, k in self.places:
            if kind == "state":
                found += after[name]
            elif k == 1 and name == "x":
                found += x
            else:
                found += list(seen[name, k + (name in self.shapes) - 2].flat)
        return found

    def kept(self, made: Attempt) -> list[Value]:
        return [*made.extra["carry"], *made.extra["roots"]]

    def again(self, t: Value, h: Value, x: list[Value], kept: list[Value]) -> Attempt:
        return self.attempt(t, h, x, kept[: self.holds], kept[self.holds :] if self.unknowns else None)

    def alone(self, t: Value, h: Value, x: list[Value], smooth: bool) -> list[Value]:
        """The end of a step that nothing came before. `smooth`: as code that can be differentiated."""
        carry = self.begin(t, x, None)
        made = self.attempt(t, h, x, carry)
        if smooth and self.unknowns:
            made = self.attempt(t, h, x, carry, made.extra["roots"])
        return made.x1

    def undone(self, k: Value, t: Value, h: Value, x1: list[Value], memory: list[Value]) -> list[Value]:
        code, zero = self.code, self.code.const(0.0)
        if self.times or any(kind != "state" for kind, *_ in self.places) or "n" in self.solver.arguments:
            raise Unsupported(f"`{self.name}` looks at earlier steps, which are not undone")
        back = self.attempt(code.op("add", t, h), code.op("neg", h), x1, [*memory, zero, zero])
        carry = [*back.memory, zero, self._size_before(k) if self.stiff else zero]
        roots = self.attempt(t, h, back.x1, carry).extra["roots"] if self.unknowns else []
        return [*back.x1, *carry, *roots]

    def _size_before(self, k: Value) -> Value:
        """The size of the step before fixed step k; 0 before the first."""
        code = self.code
        some = code.op("gt", k, self.whole(0))
        at = code.op("select", some, code.op("sub", k, self.whole(1)), k)
        return code.op("select", some, code.load("sizes", at), 0.0)

    def _options(self) -> dict[str, Values]:
        return {name: _scalar(self.code.const(value)) for name, value in self.options.items()}

    def _mass(self) -> Values:
        return _array([self.code.const(m) for m in self.field.mass])

    # ------------------------------------------------------------ continuous output

    def dense(self, made: Attempt) -> Dense:
        code, t, h = self.code, made.t, made.h
        if self.short:
            # a series depends on the start of the step alone: inside it, its coefficients are at hand
            known = {*made.x0, *made.x1}
            more = [
                v for v in dict.fromkeys(made.extra["series"]) if v not in known and code.number(v) is None
            ]
            return Shorter(
                self.field, made, lambda h: self.attempt(t, h, made.x0, self.begin(t, made.x0, None)).x1, more
            )
        last, end = made.extra["carry"][-1], code.op("add", t, h)
        if self.stiff:
            size = code.op("select", code.op("eq", last, 0.0), h, last)
            f0 = smooth_slopes(self.field, t, made.x0, size)
            f1 = smooth_slopes(self.field, end, made.x1, h)
        else:
            f0, f1 = rates(self.field, t, made.x0), rates(self.field, end, made.x1)
        hf0, hf1 = ([code.op("mul", v, h) for v in f] for f in (f0, f1))
        return Hermite(code, made.x0, made.x1, hf0, hf1)


def _depths(function: Function) -> dict[str, int]:
    """The largest k of `prev(name, k)` for each name."""
    found: dict[str, int] = {}
    for node in function.graph:
        if node.op == "input" and str(node.attr("name")).startswith("prev:"):
            _, name, k = node.attr("name").split(":")
            found[name] = max(found.get(name, 0), int(k))
    return dict(sorted(found.items()))


def _array(values: Sequence[Value]) -> Values:
    out: Any = np.empty(len(values), dtype=object)
    out[:] = list(values)
    return out


def _scalar(value: Value) -> Values:
    return np.array(value, dtype=object)


def _no_weights(name: str, shape: tuple[int, ...]) -> Value:
    raise Unsupported(f"its step has a weight `{name}`")
