"""A lowered model: its weights, states and processes, and one function for each thing a solver asks.

Every `Function` below takes, in this order, the inputs named in its docstring line; the flat state
is split by name, so a function's inputs are `t` (scalar) and one node for each state it needs, all
states in order. Weights are reached through `param` and `call` nodes and live once in the model
(`params`, `parts`); every function of the model shares them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ndl.compiler.ir.graph import Function, ParamSpec
from ndl.compiler.ir.grid import Grid
from ndl.compiler.source import NO_SPAN, Span
from ndl.compiler.types import Tensor


@dataclass(frozen=True)
class StateSpec:
    """A state after reduction to first order: `theta'` of a second-order equation is a state of its
    own, named `theta'`. `algebraic` states have no rate. `source`, in a state that holds an earlier value,
    names the state whose value it takes next, after a step of the solver (`by_step`) or when an event fires;
    it starts where that one does. `complex`: the last axis, of 2, has the real and the imaginary part."""

    name: str
    type: Tensor
    algebraic: bool = False
    lower: float | None = None
    upper: float | None = None
    span: Span = field(default=NO_SPAN, repr=False, compare=False)
    source: str | None = None
    by_step: bool = False
    complex: bool = False

    @property
    def size(self) -> int:
        total = 1
        for n in self.type.extents:
            total *= n
        return total


@dataclass(frozen=True)
class InputSpec:
    """A path (`on_time`) or a constant given at run time; read in a graph by op `path` (attrs
    `name`, `order` of time derivative; input t) or by op `input`."""

    name: str
    type: Tensor
    on_time: bool


@dataclass(frozen=True)
class NoiseSpec:
    """A driving noise with `size` independent components; `law` is `wiener`, with the Cholesky factor of its
    covariance already multiplied into the diffusion, or `waves`, a component for each wave of a grid."""

    name: str
    size: int
    shape: tuple[int, ...]
    law: str = "wiener"


@dataclass(frozen=True)
class EventSpec:
    """`guard` is absent for `every` (then `period`), `sample` (then `column`) and `poisson` (then `period`,
    the mean time from jump to jump, and the stream of its numbers as `column`). `reset` returns the new
    values of the states in `resets`, computed from those before the event."""

    kind: str  # rising falling crossing every sample poisson
    text: str  # the trigger as written
    guard: Function | None = None
    reset: Function | None = None
    resets: tuple[str, ...] = ()
    period: Function | None = None
    column: str | None = None
    stop: bool = False
    why: str | None = None
    span: Span = field(default=NO_SPAN, repr=False, compare=False)


@dataclass(frozen=True)
class RequireSpec:
    """`condition` is a Bool; `text` is what was written."""

    condition: Function
    text: str
    why: str | None = None
    span: Span = field(default=NO_SPAN, repr=False, compare=False)


@dataclass(frozen=True)
class IntegralSpec:
    """`integral(kernel, s in lower..upper)`; upper None means `..t` (Volterra). The kernel's inputs are
    `t`, `s` and the states at s."""

    lower: Function
    upper: Function | None
    kernel: Function


@dataclass(frozen=True)
class DrawSpec:
    """A random value; an input of the functions that read it. `per`: sample, step, firing of `event`, or
    member of a family, whose law may be `members` (a list of values). `stream`: its own name if empty."""

    name: str
    type: Tensor
    law: str
    arguments: tuple[Any, ...]
    per: str = "sample"
    event: int | None = None
    stream: str = ""


@dataclass(frozen=True)
class DelaySpec:
    """A read `x(e)` of a state's past, the path `past <number>` in a graph; `constant` says that its lag
    t - e is the same all through a run."""

    state: str
    constant: bool
    span: Span = field(default=NO_SPAN, repr=False, compare=False)


@dataclass(frozen=True)
class ObserveSpec:
    """`observe y ~ law(…)`: a draw at each saved time, its arguments functions of (t, states)."""

    name: str
    type: Tensor
    law: str
    arguments: tuple[Function, ...]


@dataclass(frozen=True)
class FourierSpec:
    """The part of a state's rate (or of what a `term` says of it) that multiplies the state's Fourier modes
    along `axes` of its array by the output `symbol`, half of them on the last axis; `whole`, of a complex
    state, all of them."""

    term: str
    state: str
    axes: tuple[int, ...]
    symbol: Function
    whole: bool = False


@dataclass(frozen=True)
class SchemeSpec:
    """What a scheme was used for along one coordinate: states whose fluxes depend on each other, and how the
    speed of their waves is found."""

    coordinate: str
    scheme: str
    states: tuple[str, ...]
    speed: str


@dataclass(frozen=True)
class ModelIR:
    """Everything that the backends need to know of a model.

    initial     () -> one output for each state; a first guess for algebraic ones
    drift       (t, states) -> one output for each state: its rate, or the residual of `0 = e` for an
                algebraic state (in the order of the algebraic states)
    diffusion   (t, states) -> an output `state,noise` for each pair that meets, of shape state x noise
                ("@" and scalar forms) or, when `noise_kind` is `diagonal`, of the state's own shape
    derived     name -> (t, states, noises by name) -> value
    terms       name -> (t, states) -> one output for each state
    breaks      (t, states) -> values whose change of sign is a discontinuity of the drift
    forcing     for `y(t) = e`: (t, values of the integrals `integral0`…, ) -> one output for each state
    lags        (t, states) -> an output `lag<number>` for each delayed read that a run makes
    jacobian    (t, states) -> the derivative of the drift by the flat state, one matrix; None where it is
                not a formula
    correction  (t, states) -> what the Itô drift has more than the Stratonovich one, one output for each
                state; None where it is 0 or not a formula
    series      order -> (t, states) -> the Taylor coefficients 0, …, order of the solution, `[order + 1, n]`,
                for a module that is to have them
    sparsity    the places (row, column) where that matrix is not structurally 0
    fourier     what of the drift, and of terms that are nothing else, is diagonal in Fourier space
    schemes     what carries fields, and by which scheme
    pace        (t, states) -> `pace`, the largest speed over the width of a cell, summed over coordinates:
                the reciprocal of the step of Courant number 1
    energy      (t, states) -> `energy`, the number that `minimize` names, of fields on grids of points
    measure     (t, states) -> the integral of all components of these fields: its derivative are the weights
    laplacian   (t, states) -> the Laplacian of each of these fields, 0 where a condition gives the value;
                None where an end has no condition
    grids       those of the domains on which states or weights are fields
    equations   the equations as text, one for each state or constraint, for docstrings
    """

    name: str
    doc: str
    params: tuple[ParamSpec, ...]
    parts: Mapping[str, Function]
    states: tuple[StateSpec, ...]
    inputs: tuple[InputSpec, ...]
    noises: tuple[NoiseSpec, ...]
    initial: Function
    drift: Function | None
    diffusion: Function | None = None
    noise_kind: str = "none"  # none additive scalar diagonal commutative general
    calculus: str = "ito"
    derived: Mapping[str, Function] = field(default_factory=dict)
    terms: Mapping[str, Function] = field(default_factory=dict)
    events: tuple[EventSpec, ...] = ()
    requires: tuple[RequireSpec, ...] = ()
    breaks: Function | None = None
    integrals: tuple[IntegralSpec, ...] = ()
    forcing: Function | None = None
    draws: tuple[DrawSpec, ...] = ()
    observes: tuple[ObserveSpec, ...] = ()
    delays: tuple[DelaySpec, ...] = ()
    lags: Function | None = None
    outputs: tuple[str, ...] = ()
    equations: tuple[str, ...] = ()
    spans: Mapping[str, Span] = field(default_factory=dict)
    jacobian: Function | None = None
    sparsity: tuple[tuple[int, int], ...] | None = None
    correction: Function | None = None
    series: Mapping[int, Function] = field(default_factory=dict)
    grids: tuple[Grid, ...] = ()
    fourier: tuple[FourierSpec, ...] = ()
    schemes: tuple[SchemeSpec, ...] = ()
    pace: Function | None = None
    energy: Function | None = None
    measure: Function | None = None
    laplacian: Function | None = None
    waves: Mapping[str, tuple[tuple[Any, ...], ...]] = field(default_factory=dict)
    """Of states and weights that are fields on grids, for each axis (layout, ends, count) of their waves."""

    @property
    def without_body(self) -> bool:
        """Whether some nets come from Python, or are formulas that are to be found."""
        return any(p.without_body for p in self.parts.values())

    @property
    def counted(self) -> bool:
        """Whether some weights have a set for each step of a run, or each visit of a splitting."""
        return any(p.counted for p in self.parts.values())


@dataclass(frozen=True)
class SolverIR:
    """A lowered `solver`: a checked tableau, or a step.

    tableau     rows c, A, b, b_hat as exact `Fraction`s or floats, when it has one
    step        inputs by name as `arguments` says (`f`, `g`, `A`, `B`, `F`, `E`, `b` are callables,
                reached by op `apply` with attr `callee`), then `state:<name>` for each carried state and
                `prev:<name>:<k>`; outputs `x`, then `error` if the solver estimates it, then
                `state:<name>` for each carried state
    dense       the weights of a tableau's dense output: by stage, the coefficients of theta, theta^2, …
    until       for iterative solvers: same inputs as the step -> Bool
    size        same inputs as the step -> the size `size` of a step from here whose error is within the
                tolerances `rtol` and `atol` (vectors), for methods that know it beforehand; h is the last one
    stiffness   same inputs as the step -> `stiffness` [2, n]: differences of slopes and of states
    merit       for root solvers: same inputs as the step -> `merit`, a number that each step makes smaller
    options     name -> default
    calculus    for noise: the calculus in which the step reads the equation
    noise       for noise: the most general kind of noise that it serves at its order
    """

    name: str
    kind: str
    order: float
    embedded: float | None
    options: Mapping[str, Any]
    data: tuple[str, ...] = ()
    c: tuple[Any, ...] = ()
    a: tuple[tuple[Any, ...], ...] = ()
    b: tuple[Any, ...] = ()
    b_hat: tuple[Any, ...] | None = None
    arguments: tuple[str, ...] = ()
    step: Function | None = None
    states: Mapping[str, Function] = field(default_factory=dict)
    dense: tuple[tuple[float, ...], ...] | None = None
    until: Function | None = None
    size: Function | None = None
    stiffness: Function | None = None
    merit: Function | None = None
    calculus: str = "ito"
    noise: str = "general"
    doc: str = ""
    span: Span = field(default=NO_SPAN, repr=False, compare=False)
