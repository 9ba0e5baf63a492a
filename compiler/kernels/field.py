"""The equations of a model as scalar code: its rates and diffusion, and where its weights come from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from copy import copy
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from ndl.compiler.ir.graph import Function
from ndl.compiler.ir.model import ModelIR
from ndl.compiler.ir.series import NoSeries
from ndl.compiler.kernels.code import Code
from ndl.compiler.kernels.draws import Draws
from ndl.compiler.kernels.drivers import DrivenScalars, Drivers
from ndl.compiler.kernels.ir import KernelError, Unsupported, Value
from ndl.compiler.kernels.past import Past
from ndl.compiler.kernels.refusals import refuse
from ndl.compiler.kernels.reverse import pullback
from ndl.compiler.kernels.scalars import Scalars, Values, shape_of
from ndl.compiler.kernels.vectors import Held
from ndl.compiler.passes.series import series_function

LONGEST = 2000
"""Instructions of the rates beyond which the same is true."""

LARGEST_RANK = 5
"""Axes of a weight that may stay whole: those of a convolution over space."""

LARGEST_NET = 1 << 18
"""Weights of nets beyond which they no longer stay in a cache near the processor."""


@dataclass
class Weight:
    """A parameter, weight or input that the equations read: its rows start at `offset`."""

    name: str
    shape: tuple[int, ...]
    each: bool
    offset: int
    whole: bool = False
    values: Values = None

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))


@dataclass
class Field:
    """Evaluates a model's functions in a kernel.

    What all trajectories share stands in the table `weights`, what each has of its own (`own` names it) in
    the member buffer `own`. The shared ones are loaded on entry; the others are carried from `begin` on.
    Weights of products that stay whole stand in the table `nets` and are read from there.
    """

    code: Code
    model: ModelIR
    own: frozenset[str] = frozenset()
    checks: bool = False
    """Whether the kernel looks at what must hold (`holds`)."""
    watches: bool = False
    """Whether the kernel watches for events."""
    weights: dict[str, Weight] = field(default_factory=dict)
    terms: tuple[str, ...] = ()
    """Terms that are evaluated on their own."""
    made: tuple[tuple[str, tuple[int, ...]], ...] = ()
    """Names and shapes of what the runtime makes of weights: each trajectory's own where some weight is."""
    term: str | None = None
    """The term whose rate this is; the whole right-hand side if None."""
    unlocated: str = ""
    """Why discontinuities of the rates cannot be looked for, if they cannot."""

    def __post_init__(self) -> None:
        refuse(self.model, self.checks, self.watches)
        self.drivers = Drivers(self.code, self.model.inputs, self.own)
        self.scalars: Scalars = DrivenScalars(self.code, self._weight, self.drivers, self._delayed)
        self.draws = Draws(self.code, self.model.draws)
        self.past = Past(self.code, self.model, self.lag)
        self._turns: dict[str, Value] = {}
        self._series: dict[int, Function] = {}
        self.code.buffer("weights", "table", "in")
        self.code.buffer("own", "member", "in")

    @property
    def size(self) -> int:
        """n, the number of scalar states."""
        return sum(s.size for s in self.model.states)

    @property
    def mass(self) -> list[float]:
        """The diagonal of the mass matrix: 0 for algebraic states."""
        return [float(not s.algebraic) for s in self.model.states for _ in range(s.size)]

    @property
    def algebraic(self) -> bool:
        """Whether some equations have no rate."""
        return any(s.algebraic for s in self.model.states)

    def declare(self) -> None:
        """Find every weight that the equations read, in a scratch block."""
        apart: set[str] = set()
        while True:
            before = set(apart)
            seen, held = self._probe(apart)
            if apart == before:
                break
        counts = {"each": 0, "whole": 0, "shared": 0}
        for name, shape in seen.items():
            kind = "each" if name in self.own else "whole" if name in held - apart else "shared"
            w = Weight(name, shape, kind == "each", counts[kind], kind == "whole")
            self.weights[name] = w
            counts[kind] += w.size
        for name, shape in self.made:
            kind = "each" if self.own else "shared"
            self.weights[name] = w = Weight(name, shape, bool(self.own), counts[kind])
            counts[kind] += w.size
        if counts["whole"] > LARGEST_NET:
            raise Unsupported(f"its nets have {counts['whole']} weights, more than {LARGEST_NET}")
        if self.nets:
            self.code.buffer("nets", "table", "in")

    def _probe(self, apart: set[str]) -> tuple[dict[str, tuple[int, ...]], set[str]]:
        """Shapes of the weights, and which may stay whole; those of which an entry is read go to `apart`."""
        probe = Code(self.code.precision)
        probe.buffer("nets", "table", "in")
        seen: dict[str, tuple[int, ...]] = {}
        held: set[str] = set()

        def entries(name: str, shape: tuple[int, ...]) -> Values:
            size = int(np.prod(shape))
            if size > LONGEST:
                raise Unsupported(f"it reads each entry of `{name}`: more than {LONGEST} operations")
            out = np.empty(size, dtype=object)
            out[:] = [probe.value("real") for _ in range(size)]
            return out.reshape(shape)

        def note(name: str, shape: tuple[int, ...]) -> Values:
            seen.setdefault(name, shape)

            def load() -> Values:
                apart.add(name)
                return entries(name, shape)

            if name in self.own or name in apart or not 1 <= len(shape) <= LARGEST_RANK:
                return entries(name, shape)
            held.add(name)
            return Held(shape, "nets", 0, load)

        with probe.block(["real"] * (self.size + 1)) as block:
            drivers = Drivers(probe, self.model.inputs, self.own)
            scalars = DrivenScalars(probe, note, drivers, partial(_delay_placeholder, probe))
            t, *x = block.params
            model = self.model
            conditions = [r.condition for r in model.requires]
            events = [f for e in model.events for f in (e.guard, e.reset, e.period)]
            terms = [model.terms[name] for name in self.terms]
            more = (*conditions, *events, *terms, model.lags)
            for function in (model.drift, model.diffusion, model.correction, *more):
                if function is not None:
                    found = scalars.call(function, self.arguments(t, x, scalars))
                    scalars.spread(list(found.values()))
            if model.breaks is not None:
                try:
                    found = scalars.call(model.breaks, self.arguments(t, x, scalars))
                    scalars.spread(list(found.values()))
                except Unsupported as reason:
                    self.unlocated = str(reason)
        self.drivers.read = drivers.read
        length = sum(1 for _ in block.walk())
        if length > LONGEST:
            raise Unsupported(f"its rates are {length} operations, more than {LONGEST}")
        return seen, held

    @property
    def nets(self) -> bool:
        """Whether some weights stay whole."""
        return any(w.whole for w in self.weights.values())

    def sums(self) -> str | None:
        """Where the cotangents of what stays whole are added up, declared; None where nothing is."""
        return self.code.buffer("grad_nets", "sum", "out") if self.nets else None

    def load_shared(self) -> None:
        """Load what is shared, in the entry block."""
        self.drivers.prepare()
        self.draws.prepare()
        for w in self.weights.values():
            if not w.each and not w.whole:
                w.values = self._rows("weights", w)

    def load_own(self) -> list[Value]:
        """Load what each trajectory has of its own, in `begin`; the values that it carries."""
        rows = [self._rows("own", w) for w in self.weights.values() if w.each]
        return [v for r in rows for v in r.flat]

    def carry_own(self, values: Sequence[Value]) -> None:
        """The carried values, as `step` and `finish` have them."""
        at = 0
        for w in self.weights.values():
            if w.each:
                w.values = np.array([*values[at : at + w.size], None], dtype=object)[:-1].reshape(w.shape)
                at += w.size

    @property
    def carried(self) -> tuple[str, ...]:
        """Names of what `load_own` gives."""
        return tuple(
            f"{w.name}{list(place) if place else ''}"
            for w in self.weights.values()
            if w.each
            for place in np.ndindex(*w.shape)
        )

    def _rows(self, buffer: str, w: Weight) -> Values:
        out = np.empty(w.shape, dtype=object)
        for k, place in enumerate(np.ndindex(*w.shape)):
            out[place] = self.code.load(buffer, w.offset + k)
        return out

    def _weight(self, name: str, shape: tuple[int, ...]) -> Values:
        w = self.weights[name]
        return Held(shape, "nets", w.offset, lambda: _unreachable(name)) if w.whole else w.values

    def flat_weights(self, each: bool) -> list[Value]:
        """The scalar weights that are shared (or each trajectory's own), in the order of their rows."""
        chosen = [w for w in self.weights.values() if w.each is each and not w.whole]
        return [v for w in chosen for v in w.values.flat]

    # ------------------------------------------------------------ functions of (t, x)

    def arguments(self, t: Value, x: Sequence[Value], scalars: Scalars | None = None) -> dict[str, Values]:
        """A model function's inputs by name: t, each state in its shape, and the constant inputs."""
        given: dict[str, Any] = {"t": np.array(t, dtype=object)}
        at = 0
        for s in self.model.states:
            pieces = np.empty(s.size, dtype=object)
            pieces[:] = list(x[at : at + s.size])
            given[s.name] = pieces.reshape(s.type.extents)
            at += s.size
        weights = (scalars or self.scalars).weights
        drawn = self._drawn if scalars is None else partial(_placeholder, scalars.code)
        for i in self.model.inputs:
            given[i.name] = _Lazy(weights, i.name, i.type.extents)
        states = {s.name for s in self.model.states}
        for d in self.model.draws:
            if d.name in states:
                continue  # a start that is drawn, of which no rate reads more than the state
            given[d.name] = _Lazy(drawn if d.name in self.draws.specs else weights, d.name, d.type.extents)
        return _Given(given)

    # ------------------------------------------------------------ delays

    def _delayed(self, k: int, shape: tuple[int, ...], t: Value) -> Values:
        return self.past.read(k, shape, t)

    def lag(self, k: int, t: Value | None = None, x: Sequence[Value] | None = None) -> Value | None:
        """How far back read number k goes, where that changes at (t, x); None for what only an event reads
        when it sets a state."""
        assert self.model.lags is not None
        zero = self.code.const(0.0)
        known = self.evaluate(self.model.lags, t or zero, x or [zero] * self.size)
        found = known.get(f"lag{k}")
        value: Value | None = None if found is None else np.asarray(found, object).item()
        return value

    # ------------------------------------------------------------ draws

    @property
    def drawing(self) -> bool:
        """Whether each step has draws of its own."""
        return any(d.per == "step" for d in self.draws.specs.values())

    @contextmanager
    def turned(self, turn: Value, event: int | None = None) -> Iterator[None]:
        """With the draws of step number `turn`, or of an event that fired so often before."""
        per = "step" if event is None else "firing"
        mine = [d.name for d in self.draws.specs.values() if d.per == per and d.event == event]
        # parts of the field (`part`) share what stands here
        before = dict(self._turns)
        self._turns.update(dict.fromkeys(mine, turn))
        try:
            yield
        finally:
            self._turns.clear()
            self._turns.update(before)

    def _drawn(self, name: str, shape: tuple[int, ...]) -> Values:
        """A draw in its turn; outside of steps and firings the first one."""
        return self.draws.value(name, self._turns.get(name, self.code.const(0, "i32")))

    def evaluate(self, function: Function, t: Value, x: Sequence[Value]) -> dict[str, Values]:
        found = self.scalars.call(function, self.arguments(t, x))
        return dict(zip(found, self.scalars.spread(list(found.values()))))

    def series(self, t: Value, x: Sequence[Value], order: int) -> Values:
        """Taylor coefficients 0, …, order of the solution through x at t, `[order + 1, n]`."""
        if order not in self._series:
            try:
                self._series[order] = series_function(self.model, order)
            except NoSeries as reason:
                raise Unsupported(str(reason)) from None
        return self.evaluate(self._series[order], t, x)["series"]

    def probed(self, function: Function) -> dict[str, Any]:
        """What a function gives, as numbers where that is known beforehand and None elsewhere."""
        probe = Code(self.code.precision)
        probe.buffer("nets", "table", "in")

        def weight(name: str, shape: tuple[int, ...]) -> Values:
            w = self.weights[name]
            if w.whole:
                return Held(shape, "nets", w.offset, lambda: _unreachable(name))
            out = np.empty(w.size, dtype=object)
            out[:] = [probe.value("real") for _ in range(w.size)]
            return out.reshape(shape)

        with probe.block(["real"] * (self.size + 1)) as block:
            drivers = Drivers(probe, self.model.inputs, self.own)
            scalars = DrivenScalars(probe, weight, drivers, partial(_delay_placeholder, probe))
            t, *x = block.params
            found = scalars.call(function, self.arguments(t, x, scalars))
            values = dict(zip(found, scalars.spread(list(found.values()))))
        numbers = np.frompyfunc(probe.number, 1, 1)
        return {k: np.asarray(numbers(np.asarray(v, object)), object) for k, v in values.items()}

    def rate(self, t: Value, x: Sequence[Value]) -> list[Value]:
        """dx/dt, `n` values; of an algebraic state the residual of its equation."""
        function = self.model.drift if self.term is None else self.model.terms[self.term]
        assert function is not None
        found = self.evaluate(function, t, x)
        return [v for s in self.model.states for v in np.asarray(found[s.name], object).flat]

    def part(self, term: str) -> Field:
        """The same weights with a term alone as the rate."""
        found = copy(self)
        found.term = term
        return found

    @property
    def checked(self) -> bool:
        """Whether there is something that must hold."""
        return bool(self.model.requires) or any(
            s.lower is not None or s.upper is not None for s in self.model.states
        )

    def holds(self, t: Value, x: Sequence[Value]) -> Value | None:
        """Whether all requirements and bounds of states hold; None where there are none. A bounded state may
        leave its bound by 1e-6 of its size: that is the solver's error, not the model's."""
        code, found = self.code, []
        for r in self.model.requires:
            found.append(self._number(r.condition, t, x))
        at = 0
        for s in self.model.states:
            part, at = x[at : at + s.size], at + s.size
            if s.lower is None and s.upper is None:
                continue
            sizes = [code.op("abs", v) for v in part]
            top = sizes[0]
            for v in sizes[1:]:
                top = code.op("maximum", top, v)
            slack = code.op("mul", code.op("add", top, 1e-6), 1e-6)
            if s.lower is not None:
                least = code.op("sub", s.lower, slack)
                found += [code.op("not", code.op("lt", v, least)) for v in part]
            if s.upper is not None:
                most = code.op("add", slack, s.upper)
                found += [code.op("not", code.op("gt", v, most)) for v in part]
        if not found:
            return None
        every: Value = found[0]
        for value in found[1:]:
            every = code.op("and", every, value)
        return every

    def guard(self, k: int, t: Value, x: Sequence[Value]) -> Value:
        """The value whose sign fires event k."""
        function = self.model.events[k].guard
        assert function is not None
        return self._number(function, t, x)

    def reset(self, k: int, t: Value, x: Sequence[Value], turn: Value | None = None) -> list[Value]:
        """x just after event k, which had fired `turn` times before."""
        event, out, at = self.model.events[k], list(x), 0
        assert event.reset is not None
        with nullcontext() if turn is None else self.turned(turn, k):
            found = self.evaluate(event.reset, t, x)
        for s in self.model.states:
            if s.name in event.resets:
                value = np.broadcast_to(np.asarray(found[s.name], object), s.type.extents)
                out[at : at + s.size] = list(value.flat)
            at += s.size
        return out

    def period(self, k: int) -> Value:
        """The time between firings of event k."""
        function = self.model.events[k].period
        assert function is not None
        return self._number(function, self.code.const(0.0), [self.code.const(0.0)] * self.size)

    @property
    def break_count(self) -> int:
        """How many values the break functions of the model are."""
        if self.model.breaks is None or self.drawing:
            return 0  # draws move a break at each step: it is not to be located
        return sum(int(np.prod(shape_of(node))) for _, node in self.model.breaks.outputs)

    def breaks(self, t: Value, x: Sequence[Value]) -> list[Value]:
        """Values whose change of sign is a discontinuity of the rates."""
        if self.unlocated:
            raise Unsupported(f"a discontinuity is to be located: {self.unlocated}")
        assert self.model.breaks is not None
        found = self.evaluate(self.model.breaks, t, x)
        return [v for value in found.values() for v in np.asarray(value, object).flat]

    def _number(self, function: Function, t: Value, x: Sequence[Value]) -> Value:
        (value,) = self.evaluate(function, t, x).values()
        found: Value = np.asarray(value, object).item()
        return found

    def jacobian(self, t: Value, x: Sequence[Value]) -> list[list[Value]]:
        """The derivative of the rates by the state, row by row: the model's formula, or by pullback."""
        if self.model.jacobian is None or self.term is not None:
            return self._pulled(t, x, x)
        found = self.evaluate(self.model.jacobian, t, x)["jacobian"]
        return [list(row) for row in np.asarray(found, object)]

    def time_rate(self, t: Value, x: Sequence[Value]) -> list[Value]:
        """The partial derivative of the rates by t."""
        # x may itself have been computed from t
        return [row[0] for row in self._pulled(t, x, [t, *x])]

    def _pulled(self, t: Value, x: Sequence[Value], wrt: Sequence[Value]) -> list[list[Value]]:
        rates, one = self.rate(t, x), self.code.const(1.0)
        body = self.code.visible()
        return [pullback(self.code, body, {rate: one}, wrt) for rate in rates]


def _placeholder(code: Code, name: str, shape: tuple[int, ...]) -> Values:
    """A draw's numbers where nobody knows its turn."""
    out = np.empty(int(np.prod(shape)), dtype=object)
    out[:] = [code.value("real") for _ in range(len(out))]
    return out.reshape(shape)


def _delay_placeholder(code: Code, k: int, shape: tuple[int, ...], t: Value) -> Values:
    return _placeholder(code, f"past {k}", shape)


def _unreachable(name: str) -> Values:
    raise KernelError(f"an entry of `{name}`, which stays whole, is read")


@dataclass
class _Lazy:
    """A constant input, loaded as a weight only where it is read."""

    weights: Any
    name: str
    shape: tuple[int, ...]


class _Given(dict[str, Any]):
    def __getitem__(self, name: str) -> Any:
        value = super().__getitem__(name)
        return value.weights(value.name, value.shape) if isinstance(value, _Lazy) else value
