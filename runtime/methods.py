"""What a method is to the runtime: a tableau, or a step written in NDL, with its options.

Shapes: a state is `x [..., n]`; a time `t` and a step `h` have the batch shape of `x` or none. `h` may
be negative. Generated step solvers extend `StepSolver`; the engine hands them a `VectorField`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from ndl.runtime.colouring import Colouring
from ndl.runtime.errors import SettingError
from ndl.runtime.fourier import FourierPart
from ndl.runtime.second_order import inner_derivative, is_repeated
from torch import Tensor


@dataclass(frozen=True)
class Tableau:
    """A Runge–Kutta method: stages k_i = f(x + h sum_j A[i][j] k_j, t + c[i] h), x1 = x + h sum b_i k_i.

    `A` is strictly lower triangular (explicit) or lower triangular (diagonally implicit); rows may be
    short, missing entries are 0. `b_hat` are the weights of the embedded method of order `embedded`.
    `dense[i][k]` gives b_i(theta) = sum_k dense[i][k] theta^(k+1); None means cubic Hermite. Stages beyond
    `len(b)`'s last nonzero weight of `b` and `b_hat` serve dense output only and are evaluated on demand.
    """

    name: str
    order: float
    embedded: float | None
    c: tuple[float, ...]
    A: tuple[tuple[float, ...], ...]
    b: tuple[float, ...]
    b_hat: tuple[float, ...] | None = None
    dense: tuple[tuple[float, ...], ...] | None = None

    @property
    def stages(self) -> int:
        return len(self.c)

    @property
    def implicit(self) -> bool:
        """Whether a stage depends on itself."""
        return any(len(row) > i and row[i] != 0 for i, row in enumerate(self.A))


class StepSolver:
    """Base of step solvers generated from `solver NAME for KIND: step(…)`.

    NAME, KIND ('ode', 'sde', 'split', 'root', 'linear', 'energy'), ORDER and EMBEDDED (None: no error
    estimate) are static. OPTIONS maps names to defaults, the instance's values are attributes of
    `options`. STATES maps the name of each carried state to its initial value: None for the initial x,
    a number for that constant in the shape of x, or a function `(solver, f, x, t, **extras) -> Tensor`.
    ARGUMENTS are the step's argument names as written. PREVIOUS maps a name ('x', 't', 'h' or a carried
    state) to the largest k of `prev(name, k)`. For noise, CALCULUS is how the step reads the equation and
    NOISE the most general kind that it serves (additive, scalar, diagonal, commutative, general).
    """

    NAME: ClassVar[str] = ""
    KIND: ClassVar[str] = "ode"
    ORDER: ClassVar[float] = 1.0
    EMBEDDED: ClassVar[float | None] = None
    OPTIONS: ClassVar[Mapping[str, Any]] = {}
    STATES: ClassVar[Mapping[str, Any]] = {}
    ARGUMENTS: ClassVar[tuple[str, ...]] = ("f", "x", "t", "h")
    PREVIOUS: ClassVar[Mapping[str, int]] = {}
    CALCULUS: ClassVar[str] = "ito"
    NOISE: ClassVar[str] = "general"
    DATA: ClassVar[tuple[str, ...]] = ()
    """The names of what the solver is given before its options."""

    IR: ClassVar[Any] = None
    """The solver as the compiler has lowered it, for kernels."""

    def __init__(self, **options: Any) -> None:
        unknown = sorted(set(options) - set(self.OPTIONS))
        if unknown:
            raise TypeError(f"`{self.NAME}` has no option `{unknown[0]}`; it has {', '.join(self.OPTIONS)}")
        self.options: dict[str, Any] = {**self.OPTIONS, **options}
        self.data: dict[str, Any] = {}
        """What DATA names: numbers, vectors, matrices, and functions of flat states `[..., n]`."""

    def initial_states(self, f: Any, x: Tensor, t: Tensor, **extras: Any) -> dict[str, Tensor]:
        """The carried states before the first step."""
        out: dict[str, Tensor] = {}
        for name, value in self.STATES.items():
            if value is None:
                out[name] = x
            elif callable(value):
                found = value(self, **self._wanted(value, {"f": f, "x": x, "t": t, **extras}))
                out[name] = found if found.ndim >= x.ndim else found.expand(x.shape)
            else:
                out[name] = torch.full_like(x, float(value))
        return out

    def _wanted(self, function: Callable[..., Any], offered: dict[str, Any]) -> dict[str, Any]:
        """What a function of the step's arguments takes, by name; None for what is not known yet."""
        parameters = list(inspect.signature(function).parameters.values())[1:]
        known = {**dict.fromkeys(self.STATES), self.ARGUMENTS[0]: offered["f"], **offered}
        # a name that the module has already is written with a line after it
        plain = [p.name for p in parameters if p.kind is not p.VAR_KEYWORD]
        taken = {name: known.pop(name.rstrip("_"), None) for name in plain}
        return {**known, **taken} if len(plain) < len(parameters) else taken

    def step(
        self, f: Any, x: Tensor, t: Tensor, h: Tensor, **extras: Any
    ) -> tuple[Tensor, Tensor | None, dict[str, Tensor]]:
        """One step from (x, t): the new state, a local error estimate `[..., n]` or None, carried states.

        `extras` holds, by name, the carried states, the other arguments that ARGUMENTS names (`g`, `dW`,
        `n`, …), and `prev`: a dict from a name of PREVIOUS to its earlier values, the latest first.
        """
        raise NotImplementedError

    def until(self, F: Any, x: Tensor, **extras: Any) -> Tensor:
        """For iterative solvers: Bool `[...]`, tested after each step."""
        raise NotImplementedError

    merit: Callable[..., Tensor] | None = None
    """`merit(F, x, **extras) -> [...]`: what each step of a root solver makes smaller; its moves are
    shortened until they do, unless the option `damped` is false."""

    dense: Callable[..., Tensor] | None = None
    """`dense(theta, x0, x1, h, carried) -> x`: continuous output over the last step, theta `[...]` in 0..1,
    `carried` the states after it. None: cubic Hermite."""

    size: Callable[..., Tensor] | None = None
    """`size(f, x, t, h, rtol, atol, **extras) -> [...]`: how large a step from (x, t) the tolerances `[n]`
    allow, for methods that know it beforehand; h is the size of the last one."""

    stiffness: Callable[..., Tensor] | None = None
    """`stiffness(f, x, t, h, **extras) -> [..., 2, n]`: the difference of two slopes of a step from
    (x, t), and that of the states where they were taken; the ratio of their norms estimates that of the
    Jacobian."""

    reverse: Callable[..., tuple[Tensor, dict[str, Tensor]]] | None = None
    """`reverse(f, x1, t1, h, **extras) -> (x, carried)`: the state before the step that led to (x1, t1), for
    algebraically reversible methods; `extras` as for `step`, carried states being those after the step."""


@dataclass(frozen=True)
class Method:
    """A solver with its options as a user wrote them.

    `options` holds rtol, atol, h, steps, hmax, h0, tol, quadrature, …; `parts` the solvers of the
    terms of a splitting, in order. `kind` is that of the solver: 'ode' for every tableau.
    """

    name: str
    kind: str
    solver: Tableau | StepSolver | Any
    options: dict[str, Any] = field(default_factory=dict)
    parts: dict[str, Method] = field(default_factory=dict)


COPIES = 128
"""Components up to which a derivative by time takes a backward pass over copies."""


class VectorField:
    """The right-hand side as step solvers see it: f(x, t) `[..., n]`, counted.

    For a state with a rate it is the rate; for an algebraic state the residual of its equation.
    `mass` is the diagonal of the mass matrix, `[n]`: 1 for states with a rate, 0 for algebraic ones.
    """

    def __init__(
        self,
        function: Callable[[Tensor, Tensor], Tensor],
        jacobian: Callable[[Tensor, Tensor], Tensor] | None = None,
        time_derivative: Callable[[Tensor, Tensor], Tensor] | None = None,
        mass: Tensor | None = None,
    ) -> None:
        """`function(t, x)` and its derivatives by x and by t, arguments in the model's order; derivatives
        that are not given come from automatic differentiation."""
        self.function = function
        self._jacobian = jacobian
        self._time_derivative = time_derivative
        self.mass = mass
        self.select: Callable[[Tensor], VectorField] | None = None
        """For a family, the field of the rows `[m]` of its members; None where one field serves any rows."""
        self.expand: Callable[[Tensor, Tensor, int], Tensor] | None = None
        """Of (t, x, order), the Taylor coefficients of the solution, where the model has them."""
        self.colours: Colouring | None = None
        """How its Jacobian is put together where that is sparse; or `matrices`, of (t, x), gives it."""
        self.matrices: Callable[[Tensor, Tensor], np.ndarray] | None = None
        self.linear: FourierPart | None = None
        """The linear part that is diagonal in Fourier space, where the model has one."""
        self.evaluations = 0
        self.jacobians = 0
        self._expanded: tuple[Any, ...] = ()

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        self.evaluations += 1
        return self.function(t, x)

    def series(self, x: Tensor, t: Tensor, order: int) -> Tensor:
        """Taylor coefficients 0, …, order of the solution through x at t, `[..., order + 1, n]`;
        the last ones are remembered, since a method asks for them first for its step's size."""
        if self.expand is None:
            raise SettingError(
                "the Taylor series of this equation, which is not the model's own, is not known",
                help="use `gradient = discrete`, or another method",
            )
        self.evaluations += 1
        key = (x, order, torch.is_grad_enabled())
        if self._expanded and all(a is b for a, b in zip(self._expanded, key)):
            known_t, found = self._expanded[3:]
            if torch.equal(known_t, t):
                return found  # type: ignore[no-any-return]
        found = self.expand(t, x, order)
        self._expanded = (*key, t, found)
        return found

    def phi(self, order: int, h: Tensor, v: Tensor) -> Tensor:
        """phi_order(h L) v, L the linear part that is diagonal in Fourier space."""
        return self._diagonal().phi(order, torch.as_tensor(h, dtype=v.dtype, device=v.device), v)

    def linear_part(self, v: Tensor) -> Tensor:
        """L v."""
        return self._diagonal().apply(v)

    def _diagonal(self) -> FourierPart:
        if self.linear is None:
            raise SettingError(
                "this method follows the linear part of an equation exactly where it is diagonal in Fourier "
                "space, and this equation has no such part",
                help="store its fields on `fourier(…)` grids, or use `rodas5` or another stiff method",
            )
        return self.linear

    @property
    def sparse(self) -> Callable[[Tensor, Tensor], np.ndarray] | None:
        """Of (x, t), df/dx for each row of x `[B, n]` as an array of sparse matrices; None for a field whose
        Jacobian is dense."""
        if self.matrices is None and self.colours is None:
            return None
        return self._sparse

    def _sparse(self, x: Tensor, t: Tensor) -> np.ndarray:
        self.jacobians += 1
        with torch.no_grad():
            t, x = t.detach(), x.detach()
            if self.matrices is not None:
                return self.matrices(t, x)
            assert self.colours is not None
            return self.colours.matrices(lambda y: self.function(t.expand(y.shape[:-1]), y), x)

    def jacobian(self, x: Tensor, t: Tensor) -> Tensor:
        """df/dx, `[..., n, n]`."""
        self.jacobians += 1
        if self._jacobian is not None:
            return self._jacobian(t, x)
        n = x.shape[-1]
        basis = torch.eye(n, dtype=x.dtype, device=x.device)
        columns = [
            torch.func.jvp(lambda y: self.function(t, y), (x,), (basis[j].expand_as(x).contiguous(),))[1]
            for j in range(n)
        ]
        return torch.stack(columns, dim=-1)

    def time_derivative(self, x: Tensor, t: Tensor) -> Tensor:
        """The partial derivative df/dt, `[..., n]`, by automatic differentiation: one backward pass over n
        copies, or forwards where another transform is at work or the tape is not to be kept."""
        if self._time_derivative is not None:
            return self._time_derivative(t, x)
        t = torch.as_tensor(t, dtype=x.dtype, device=x.device)
        plain = torch._C._functorch.peek_interpreter_stack() is None
        if plain and x.shape[-1] <= COPIES and not (is_repeated() and torch.is_grad_enabled()):
            return self._by_time(t, x)
        value: Tensor = torch.func.jvp(lambda s: self.function(s, x), (t,), (torch.ones_like(t),))[1]
        return value.expand_as(x)

    def _by_time(self, t: Tensor, x: Tensor) -> Tensor:
        n, taped = x.shape[-1], torch.is_grad_enabled()
        with torch.enable_grad():
            copies = t.expand(n, *x.shape[:-1])
            copies = copies if taped and t.requires_grad else copies.detach().requires_grad_(True)
            with inner_derivative():
                value = self.function(copies, (x if taped else x.detach()).expand(n, *x.shape))
            if not value.requires_grad:
                return torch.zeros_like(x)
            seed = torch.eye(n, dtype=x.dtype, device=x.device).reshape(n, *[1] * (x.ndim - 1), n)
            shape = (n, *x.shape)
            found = torch.autograd.grad(
                value.expand(shape), copies, seed.expand(shape), create_graph=taped, allow_unused=True
            )[0]
        return torch.zeros_like(x) if found is None else found.movedim(0, -1)
