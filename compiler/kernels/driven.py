"""Steps of methods for noise as the loops of kernels take them: the path of each step, and values inside
it."""

from __future__ import annotations

from collections.abc import Sequence

from ndl.compiler.kernels.cells import LEAVES, Cells
from ndl.compiler.kernels.control import Control
from ndl.compiler.kernels.field import Field
from ndl.compiler.kernels.ir import Value
from ndl.compiler.kernels.noisy import Diffusion, NoisyMethod
from ndl.compiler.kernels.outputs import Dense
from ndl.compiler.kernels.path import FreePath, GridPath, Path
from ndl.compiler.kernels.recorded import Record
from ndl.compiler.kernels.stepped_path import SteppedPath
from ndl.compiler.kernels.stepper import Attempt, Stepper


class NoisyStepper(Stepper):
    """A method on a Brownian path. Carried are what the method carries, the path (W, then its integrals) at
    the step's start, the place on it, and the path at the run's start.

    A tape has, besides the state: the method's states, the increments over the step, and the path at its
    start where values inside steps are wanted.
    """

    straight = dyadic = True

    def __init__(
        self, field: Field, method: NoisyMethod, grid: bool, inside: bool, stepped: bool = False
    ) -> None:
        """`grid`: the path is asked at the ends of fixed steps, in order; `inside`: some saved times lie
        inside steps; `stepped`: steps are whole steps of the noise."""
        super().__init__(field.code, field)
        self.method, self.name, self.error_order = method, method.name, method.error_order
        self.inside, self.notes = inside, method.components
        self.memory = method.memory
        self.cells = Cells(field.code, method.components, method.areas)
        self.free = FreePath(self.cells)
        self.path: Path = self.free
        if stepped or grid:
            self.path = (SteppedPath if stepped else GridPath)(self.cells)
        self._aim: Value | None = None

    def prepare(self, control: Control | None) -> None:
        self.cells.prepare()

    def slope(self, t: Value, x: Sequence[Value]) -> list[Value]:
        return self.method.drift(t, x)

    # ------------------------------------------------------------ what is carried

    def carried(self, names: Sequence[str]) -> tuple[str, ...]:
        m = self.notes
        path = [f"{name}.{c}" for name in ("W", "area") for c in range(m)][: self.cells.numbers]
        return (*self.method.names(names), *path, *(f"W0.{c}" for c in range(m)), *self.path.names)

    def begin(self, t: Value, x: list[Value], f0: list[Value] | None) -> list[Value]:
        place, now = self.path.start(t)
        return [*self.start(t, x), *now, *now[: self.notes], *place]

    def start(self, t: Value, x: list[Value]) -> list[Value]:
        return self.method.start(t, x)

    def restart(
        self, t: Value, x: list[Value], f0: list[Value] | None, made: Attempt, cut: Value
    ) -> list[Value]:
        """The path goes on; it is asked anew where an event has cut the step short."""
        at, (old, new) = self.cells.numbers, (v[self.memory :] for v in (made.left, made.taken))
        end = at + self.notes

        def again() -> list[Value]:
            place, now = self.path.ahead(old[end:], t)
            return [*now, *place]

        found = self.code.when(cut, again, [*new[:at], *new[end:]])
        return [*self.start(t, x), *found[:at], *new[at:end], *found[at:]]

    def leaf(self) -> Value:
        return self.code.op("div", 1 / LEAVES, self.cells.unit)

    def aim(self, end: Value) -> None:
        self._aim = end

    def noted(self, carry: Sequence[Value]) -> list[Value]:
        """W - W(t0)."""
        at, now = self.cells.numbers, carry[self.memory :]
        return self.cells.relative(now[at : at + self.notes], now)

    # ------------------------------------------------------------ checkpoints

    @property
    def holds(self) -> int:
        return self.memory

    def held(self, carry: Sequence[Value]) -> list[Value]:
        return list(carry[: self.memory])

    def resumed(self, k: Value, t: Value, x: list[Value], held: list[Value]) -> list[Value]:
        """The path is made again; what it was at the run's start, no derivative asks."""
        place, now = self.path.resumed(k, t)
        return [*held, *now, *now[: self.notes], *place]

    # ------------------------------------------------------------ the step

    def attempt(self, t: Value, h: Value, x: list[Value], carry: list[Value]) -> Attempt:
        states, path, at = carry[: self.memory], carry[self.memory :], self.cells.numbers
        now, first, place = path[:at], path[at : at + self.notes], path[at + self.notes :]
        end = self.code.op("add", t, h) if self._aim is None else self._aim
        place, after = self.path.ahead(place, end)
        noise = self.cells.increments(h, now, after)
        made = self._made(t, h, x, states, noise)
        made.extra |= {"now": now, "first": first}
        made.taken, made.left = [*made.memory, *after, *first, *place], list(carry)
        return made

    def _made(
        self, t: Value, h: Value, x: list[Value], states: Sequence[Value], noise: Sequence[Value]
    ) -> Attempt:
        since = self.code.mark()
        found = self.method.step(t, h, x, states, noise)
        extra = {"states": states, "noise": noise, "g": found.g}
        cost = self.whole(found.cost)
        return Attempt(t, h, x, found.x, cost, found.error, memory=found.carry, extra=extra, since=since)

    def kept(self, made: Attempt) -> list[Value]:
        m, extra = self.notes, made.extra
        noise = extra["noise"] if self.method.areas else extra["noise"][:m]
        return [*extra["states"], *noise, *(extra["now"][:m] if self.inside else [])]

    @property
    def width(self) -> int:
        m = self.notes
        return self.memory + m + (m if self.method.areas else 0) + (m if self.inside else 0)

    def again(self, t: Value, h: Value, x: list[Value], kept: list[Value]) -> Attempt:
        m, zero = self.notes, self.code.const(0.0)
        many = 2 * m if self.method.areas else m
        states, noise = kept[: self.memory], kept[self.memory :][:many]
        made = self._made(t, h, x, states, noise if self.method.areas else [*noise, *[zero] * m])
        now = kept[self.memory + many :]
        made.extra |= {"now": now, "first": now}
        return made

    def dense(self, made: Attempt) -> Dense:
        return Bridged(self, made) if self.inside else Ends(self, made)

    def record(self) -> Record:
        return Bridges(self)

    def path_at(self, time: Value) -> list[Value]:
        """The path, which has no derivative by time: where a time follows the state, the path is held."""
        code = self.code
        since = code.made
        found = self.free.between(time)
        for instr in code.visible():
            if instr.op == "while":
                code.fixed.update(instr.results)
        code.derivative(found, since, lambda g: [])
        return found


class Ends(Dense):
    """Values at the ends of steps alone."""

    def __init__(self, stepper: NoisyStepper, made: Attempt) -> None:
        noted = stepper.noted(made.taken) if made.taken else []
        self.targets, self.values = made.x1, [*made.x1, *noted]

    def at(self, theta: Value) -> list[Value]:
        return self.values


class Bridged(Dense):
    """x0 + theta (x1 - x0) + g(x0) (W - W0 - theta dW), with the path asked at the time: error O(h)."""

    def __init__(self, stepper: NoisyStepper, made: Attempt) -> None:
        self.stepper, self.made = stepper, made
        known: Diffusion | None = made.extra["g"]
        self.g = stepper.method.diffusion(made.t, made.x0) if known is None else known
        entries = (v for row in self.g for v, _ in row)
        self.targets = [*made.x1, *made.x0, *(v for v in entries if stepper.code.number(v) is None)]

    def at(self, theta: Value) -> list[Value]:
        code, made, s = self.stepper.code, self.made, self.stepper
        time = code.op("add", made.t, code.op("mul", theta, made.h))
        now = s.path_at(time)
        gone, dW = s.cells.relative(made.extra["now"], now), made.extra["noise"]
        bridge = [code.op("sub", w, code.op("mul", theta, d)) for w, d in zip(gone, dW)]
        kicks = s.method.applied(self.g, bridge)
        x = [
            code.op("add", code.op("fma", theta, code.op("sub", b, a), a), k)
            for a, b, k in zip(made.x0, made.x1, kicks)
        ]
        return [*x, *s.cells.relative(made.extra["first"], now)]


class Bridges(Record):
    """Of `Bridged`: the path at the start and its increment, of the channels that move what is kept; of a
    component its values at both ends and its row of g."""

    def __init__(self, stepper: NoisyStepper) -> None:
        super().__init__(stepper.code)
        self.stepper, self.columns = stepper, stepper.method.columns
        self.channels = sorted({c for p in stepper.field.past.kept for c in self.columns[p]})

    def width(self, p: int | None) -> int:
        return 2 * len(self.channels) if p is None else 2 + len(self.columns[p])

    def common(self, dense: Dense) -> list[Value]:
        assert isinstance(dense, Bridged)
        extra = dense.made.extra
        return [extra[name][c] for name in ("now", "noise") for c in self.channels]

    def inside(self, common: Sequence[Value], theta: Value, time: Value) -> list[Value]:
        """How far the path is off the line between its ends, of each channel."""
        if not self.channels:
            return []
        code, many = self.code, len(self.channels)
        now, scale = self.stepper.path_at(time), self.stepper.cells.scale
        found = [code.const(0.0)] * self.stepper.notes
        for c, first, dW in zip(self.channels, common[:many], common[many:], strict=True):
            gone = code.op("mul", scale, code.op("sub", now[c], first))
            found[c] = code.op("sub", gone, code.op("mul", theta, dW))
        return found

    def of(self, dense: Dense, p: int) -> list[Value]:
        assert isinstance(dense, Bridged)
        return [dense.made.x0[p], dense.made.x1[p], *(v for v, _ in dense.g[p])]

    def value(self, p: int, numbers: Sequence[Value], inside: Sequence[Value], theta: Value) -> Value:
        code, (a, b, *row) = self.code, numbers
        kick = self.stepper.method.applied([list(zip(row, self.columns[p], strict=True))], inside)[0]
        return code.op("add", code.op("fma", theta, code.op("sub", b, a), a), kick)
