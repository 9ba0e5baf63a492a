"""What every kind of method offers a kernel: a step, its continuous output, and what is carried on.

The kernels of whole solves (`ode_adaptive`, `ode_fixed`, `ode_adjoint`) know no method; a `Stepper` writes
the code of one step. It is the counterpart of `ndl.runtime.stepping.stepper`, which it must reproduce.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from ndl.compiler.kernels.code import Code
from ndl.compiler.kernels.control import Control
from ndl.compiler.kernels.field import Field
from ndl.compiler.kernels.ir import Unsupported, Value
from ndl.compiler.kernels.kept import NOTHING, Kept
from ndl.compiler.kernels.outputs import Dense
from ndl.compiler.kernels.recorded import Cubic, Record, Slopes


@dataclass(frozen=True)
class Variant:
    """What a kernel is made for. `own` names the weights of which each trajectory has its own; `save`: values
    at times inside the span are kept, `tape`: what the derivative needs of each step; `sign` is the direction
    of time, `vector` says that there is a tolerance for each state; `kept` are the arrays that a run leaves
    to its adjoint, None asks the adjoint for which it reads; `drivers` says that the derivative is also by
    the coefficients of paths, `undone` that steps are undone on the way back, which starts from what is
    carried at the end. `trail`: the run leaves what it takes to take steps again from checkpoints."""

    precision: str
    adaptive: bool
    own: frozenset[str]
    save: bool
    tape: bool
    sign: float = 1.0
    vector: bool = False
    grow: float = 10.0
    kept: Kept | None = NOTHING
    drivers: bool = False
    undone: bool = False
    trail: bool = False
    beta: float | None = None
    """The power of the error before in the rule for steps; None is the method's own."""


@dataclass
class Attempt:
    """A step tried from x0 at t by h. `taken` is carried on when it is accepted, `left` when it is not;
    `cost` counts evaluations; `ok` is false where an iteration failed. `memory` are the numbers besides the
    state through which later steps depend on this one; what was written after the first `since` visible
    instructions is the same code in a run and in its adjoint (None where a method does not say so)."""

    t: Value
    h: Value
    x0: list[Value]
    x1: list[Value]
    cost: Value
    error: list[Value] | None = None
    ok: Value | None = None
    taken: list[Value] = field(default_factory=list)
    left: list[Value] = field(default_factory=list)
    memory: list[Value] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)
    since: int | None = None


class Stepper(ABC):
    """One method, writing into `code`. `error_order` is the lower order of its pair; `memory` counts the
    numbers of `Attempt.memory`, which stand first in what the tape keeps of a step besides the state."""

    name: str
    error_order: float
    memory: int = 0
    scaled: bool = False
    """Whether the method itself looks at the tolerances."""
    notes: int = 0
    """Numbers that are saved besides the state."""
    dyadic: bool = False
    """Whether adaptive steps end at dyadic times."""
    straight: bool = False
    """Whether a step is straight code, of which nets have a derivative."""
    looks: int = 0
    """On how many times and sizes of earlier steps a step depends; they stand behind the memory."""
    proposes: bool = False
    """Whether it knows beforehand how large a step the tolerances allow (`proposal`)."""
    output: Sequence[Sequence[float]] | None = None
    """The polynomials that continuous output is made of; None where it is a cubic."""
    renews: bool = False
    """Whether rejected attempts may change what the accepted one starts from (`renewed`)."""

    def __init__(self, code: Code, field: Field) -> None:
        self.code, self.field = code, field

    def prepare(self, control: Control | None) -> None:
        """In the entry block: take the tolerances of an adaptive run, None for fixed steps."""
        self.control = control

    @abstractmethod
    def carried(self, names: Sequence[str]) -> tuple[str, ...]:
        """Names of what is carried, given those of the states."""

    @abstractmethod
    def begin(self, t: Value, x: list[Value], f0: list[Value] | None) -> list[Value]:
        """What is carried at first; `f0` is the slope there if it is known."""

    def restart(
        self, t: Value, x: list[Value], f0: list[Value] | None, made: Attempt, cut: Value
    ) -> list[Value]:
        """What is carried after a jump to x at t, where an accepted step ended or an event has `cut` it."""
        return self.begin(t, x, f0)

    def leaf(self) -> Value | None:
        """The time in which continuous output is smooth, where it is rough."""
        return None

    def aim(self, end: Value) -> None:
        """Where the step that is tried next ends, if that is not t + h, rounded."""
        return

    def proposal(self, t: Value, h: Value, x: list[Value], carry: list[Value]) -> Value:
        """The size of a step from (t, x) whose error is within the tolerances; h is the last one's."""
        raise NotImplementedError(self.name)

    @abstractmethod
    def attempt(self, t: Value, h: Value, x: list[Value], carry: list[Value]) -> Attempt:
        """Try a step."""

    def seen(self, number: Value, t: Value, h: Value) -> AbstractContextManager[None]:
        """With the model's functions as step number `number`, from t by h, sees them."""
        return nullcontext()

    def slope(self, t: Value, x: Sequence[Value]) -> list[Value]:
        """dx/dt as the method reads it, for the choice of the first step."""
        return self.field.rate(t, x)

    def noted(self, carry: Sequence[Value]) -> list[Value]:
        """What is saved besides the state, from what is carried."""
        return []

    def kept(self, made: Attempt) -> list[Value]:
        """What `again` wants of a step besides the state at its start."""
        return []

    @property
    def width(self) -> int:
        """How many numbers `kept` gives."""
        return 0

    @abstractmethod
    def again(self, t: Value, h: Value, x: list[Value], kept: list[Value]) -> Attempt:
        """A step that was accepted, as code that can be differentiated."""

    def undone(self, k: Value, t: Value, h: Value, x1: list[Value], memory: list[Value]) -> list[Value]:
        """Where step k, which has ended in x1 with that memory, began at t: the state, and what `kept` gives
        of the step. The same step by -h finds it, for methods that are symmetric. Raises `Unsupported` for
        others."""
        raise Unsupported(f"steps of `{self.name}` are not undone")

    def start(self, t: Value, x: list[Value]) -> list[Value]:
        """The memory at the start of a run."""
        return []

    def known_times(self, t: Value) -> list[Value]:
        """The earlier times and sizes at the start of a run."""
        return []

    def held(self, carry: Sequence[Value]) -> list[Value]:
        """What a checkpoint has of what is carried, as reals."""
        return list(carry)

    def resumed(self, k: Value, t: Value, x: list[Value], held: list[Value]) -> list[Value]:
        """What is carried at the start (t, x) of step k, from a checkpoint there."""
        return held

    @property
    def holds(self) -> int:
        """How many numbers `held` gives."""
        return 0

    def renewed(self, carry: list[Value], fresh: Value) -> list[Value]:
        """What is carried, with what the attempts before the accepted one made of it; `fresh` is what
        `freshened` said of that."""
        return carry

    def freshened(self, made: Attempt) -> Value:
        """Whether an accepted step, or an attempt before it, renewed what is carried."""
        return self.flag(False)

    @abstractmethod
    def dense(self, made: Attempt) -> Dense:
        """Continuous output over an accepted step."""

    def record(self) -> Record:
        """How the past has continuous output."""
        return Cubic(self.code) if self.output is None else Slopes(self.code, self.output)

    def whole(self, number: int) -> Value:
        return self.code.const(number, "i32")

    def flag(self, value: bool) -> Value:
        return self.code.const(value, "bool")


def moved(
    code: Code, x: Sequence[Value], slopes: Sequence[Sequence[Value]], row: Sequence[float]
) -> list[Value]:
    """x + sum_j a_j h k_j."""
    out = list(x)
    for a, k in zip(row, slopes):
        if a:
            out = [code.op("fma", a, v, o) for v, o in zip(k, out)]
    return out


def combined(code: Code, slopes: Sequence[Sequence[Value]], row: Sequence[float]) -> list[Value]:
    """sum_j d_j h k_j."""
    out = [code.const(0.0)] * len(slopes[0])
    for d, k in zip(row, slopes):
        if d:
            out = [code.op("fma", d, v, o) for v, o in zip(k, out)]
    return out
