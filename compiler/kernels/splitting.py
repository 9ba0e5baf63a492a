"""Steps of splittings as scalar code: each part of a right-hand side followed by a flow of its own. The
counterpart of `ndl.runtime.stepping.split` and `flows`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from ndl.compiler.ir.graph import Node
from ndl.compiler.ir.model import SolverIR
from ndl.compiler.kernels.code import Code
from ndl.compiler.kernels.control import Control
from ndl.compiler.kernels.explicit import ExplicitStepper
from ndl.compiler.kernels.field import Field
from ndl.compiler.kernels.implicit import ImplicitStepper
from ndl.compiler.kernels.ir import Unsupported, Value
from ndl.compiler.kernels.outputs import Dense, Hermite
from ndl.compiler.kernels.scalars import Scalars, Values
from ndl.compiler.kernels.stepped import SteppedMethod
from ndl.compiler.kernels.stepper import Attempt, Stepper

LARGEST_EXACT = 16
"""States beyond which an exponential is too large for registers."""


class Flow(ABC):
    """Where a part alone takes x from t in a time h, which is `share` of the splitting's step."""

    straight = True

    @abstractmethod
    def __call__(self, x: list[Value], t: Value, h: Value, share: float) -> list[Value]: ...


@dataclass
class HeldFlow(Flow):
    """x + h f where `moves`, the others held; `inside` is the fraction of h at which time stands."""

    field: Field
    moves: Sequence[bool]
    inside: float

    def __call__(self, x: list[Value], t: Value, h: Value, share: float) -> list[Value]:
        code = self.field.code
        at = code.op("fma", h, self.inside, t) if self.inside else t
        rate = self.field.rate(at, x)
        return [code.op("fma", h, f, v) if m else v for m, f, v in zip(self.moves, rate, x)]


@dataclass
class SteppedFlow(Flow):
    """`count` equal steps of a method, each started afresh. `smooth`: as code that can be differentiated."""

    stepper: Stepper
    count: int
    smooth: bool = False

    @property
    def straight(self) -> bool:  # type: ignore[override]
        return self.stepper.straight

    def __call__(self, x: list[Value], t: Value, h: Value, share: float) -> list[Value]:
        code = self.stepper.code
        size = code.op("div", h, float(self.count))
        for k in range(self.count):
            at = code.op("add", t, code.op("mul", size, float(k)))
            if isinstance(self.stepper, ExplicitStepper):
                x = self.stepper.again(at, size, x, []).x1
            elif isinstance(self.stepper, ImplicitStepper):
                x = self.stepper.alone(at, size, x, self.stepper.start(at, x), self.smooth)
            else:
                assert isinstance(self.stepper, SteppedMethod)
                x = self.stepper.alone(at, size, x, self.smooth)
        return x


@dataclass
class ExactFlow(Flow):
    """exp(h L) x + b of a linear part, from the matrices [exp | b] that the runtime has made: for the size
    of all steps and, where they are `uneven`, for that of the last, which is shorter."""

    field: Field
    name: str
    uneven: bool

    def __call__(self, x: list[Value], t: Value, h: Value, share: float) -> list[Value]:
        code = self.field.code
        matrix = self._matrix(share, 0)
        if self.uneven:
            usual = code.op("mul", code.load("sizes", 0), abs(share) * (1 - 1e-9))
            shorter = code.op("lt", code.op("abs", h), code.op("abs", usual))
            pairs = zip(matrix.flat, self._matrix(share, 1).flat)
            chosen = np.empty(matrix.size, dtype=object)
            chosen[:] = [code.op("select", shorter, b, a) for a, b in pairs]
            matrix = chosen.reshape(matrix.shape)
        out = []
        for row in matrix:
            total = row[-1]
            for a, v in zip(row, x):
                total = code.op("fma", a, v, total)
            out.append(total)
        return out

    def _matrix(self, share: float, group: int) -> Values:
        return self.field.weights[exact_name(self.name, share, group)].values


def exact_name(part: str, share: float, group: int) -> str:
    """The name of the matrix of a part's exact flow over a share of a step."""
    return f"exp {part} {share!r} {group}"


class SplitStepper(Stepper):
    """`step(A, B, x, t, h)`: A is the first part's flow, B that of the rest, split in turn alike."""

    def __init__(self, field: Field, solver: SolverIR, flows: Sequence[Flow]) -> None:
        super().__init__(field.code, field)
        assert solver.step is not None
        self.solver, self.flows, self.name = solver, flows, solver.name
        self.error_order = float(solver.order)
        self.straight = all(flow.straight for flow in flows)
        self.shares = shares(solver)

    def carried(self, names: Sequence[str]) -> tuple[str, ...]:
        return ()

    def begin(self, t: Value, x: list[Value], f0: list[Value] | None) -> list[Value]:
        return []

    def attempt(self, t: Value, h: Value, x: list[Value], carry: list[Value]) -> Attempt:
        x1 = self._flow(self.flows, x, t, h, 1.0)
        return Attempt(t, h, x, x1, self.whole(len(self.flows)))

    def prepare(self, control: Control | None) -> None:
        for flow in self._stepped():
            flow.stepper.prepare(None)

    def _stepped(self) -> list[SteppedFlow]:
        return [flow for flow in self.flows if isinstance(flow, SteppedFlow)]

    def again(self, t: Value, h: Value, x: list[Value], kept: list[Value]) -> Attempt:
        for flow in self._stepped():
            flow.smooth = True
        return self.attempt(t, h, x, [])

    def undone(self, k: Value, t: Value, h: Value, x1: list[Value], memory: list[Value]) -> list[Value]:
        code = self.code
        return self._flow(self.flows, x1, code.op("add", t, h), code.op("neg", h), -1.0)

    def _flow(self, flows: Sequence[Flow], x: list[Value], t: Value, h: Value, share: float) -> list[Value]:
        if len(flows) == 1:
            return flows[0](x, t, h, share)
        turns = iter(self.shares)

        def apply(callee: str, x: list[Value], t: Value, h: Value) -> list[Value]:
            name, part = next(turns)
            assert name == callee
            chosen = flows[:1] if callee == "A" else flows[1:]
            return self._flow(chosen, x, t, h, share * part)

        return _run(self.code, self.solver, x, t, h, apply)

    def dense(self, made: Attempt) -> Dense:
        code, f = self.code, self.field
        ends = (f.rate(made.t, made.x0), f.rate(code.op("add", made.t, made.h), made.x1))
        hf0, hf1 = ([code.op("mul", v, made.h) for v in rate] for rate in ends)
        return Hermite(code, made.x0, made.x1, hf0, hf1)


Apply = Callable[[str, list[Value], Value, Value], list[Value]]


class _Steps(Scalars):
    def __init__(self, code: Code, n: int, apply: Apply) -> None:
        super().__init__(code, _no_weights, {"n": n})
        self.apply = apply

    def other(self, node: Node, operands: list[Values]) -> Values:
        if node.op != "apply":
            return super().other(node, operands)
        x, t, h = list(operands[0].flat), *(np.asarray(o, object).item() for o in operands[1:])
        return _array(self.apply(node.attr("callee"), x, t, h))


def _run(code: Code, solver: SolverIR, x: Sequence[Value], t: Value, h: Value, apply: Apply) -> list[Value]:
    assert solver.step is not None
    names = {n.attr("name") for n in solver.step.inputs}
    if any(":" in name for name in names) or "n" in names:
        raise Unsupported(f"`{solver.name}` looks at earlier steps")
    given = {"x": _array(x), "t": np.array(t, dtype=object), "h": np.array(h, dtype=object)}
    return list(_Steps(code, len(x), apply).call(solver.step, given)["x"].flat)


def shares(solver: SolverIR) -> list[tuple[str, float]]:
    """Which flow a step asks for, in order, and for how long, with a step of 1."""
    probe, found = Code("f64"), []

    def apply(callee: str, x: list[Value], t: Value, h: Value) -> list[Value]:
        share = probe.number(h)
        if share is None:
            raise Unsupported(f"a step of `{solver.name}` is divided at times that are not known beforehand")
        found.append((callee, float(share)))
        return [probe.value("real") for _ in x]

    with probe.block(["real", "real"]) as block:
        _run(probe, solver, [block.params[0]], block.params[1], probe.const(1.0), apply)
    return found


def exact_shares(solver: SolverIR, exact: Sequence[bool], step: float = 1.0) -> list[tuple[int, float]]:
    """For how long each exact part is followed at a time in a `step`: its number among the parts, and a
    share."""
    found: dict[tuple[int, float], None] = {}

    def walk(first: int, share: float) -> None:
        if first == len(exact) - 1:
            if exact[first]:
                found[first, share] = None
            return
        for callee, part in shares(solver):
            if callee != "A":
                walk(first + 1, share * part)
            elif exact[first]:
                found[first, share * part] = None

    walk(0, step)
    return list(found)


def _array(values: Sequence[Value]) -> Values:
    out = np.empty(len(values), dtype=object)
    out[:] = list(values)
    return out


def _no_weights(name: str, shape: tuple[int, ...]) -> Values:
    raise Unsupported(f"its step has a weight `{name}`")
