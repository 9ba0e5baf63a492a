"""Small models written by hand, tableaux and step solvers, for the tests of the solve engine."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from ndl.runtime.info import DerivedInfo, EventInfo, ParameterInfo, RequireInfo, State
from ndl.runtime.methods import Method, StepSolver, Tableau
from ndl.runtime.model import Model
from ndl.runtime.weights import Constrained
from torch import Tensor


class Small(Model):
    """A model whose parameters and initial values are numbers or tensors given to the constructor."""

    DEFAULTS: ClassVar[dict[str, Any]] = {}

    def __init__(self, *, seed: int = 0, **values: Any) -> None:
        super().__init__(seed=seed)
        for p in self.PARAMETERS:
            self.define(p.name, values.pop(p.name, self.DEFAULTS.get(p.name)))
        initial = {s.name: self.DEFAULTS.get(s.name, 0.0) for s in self.STATES}
        self.start({**initial, **values})


def scalars(*names: str, algebraic: tuple[str, ...] = ()) -> tuple[State, ...]:
    return tuple(
        State(n, (), i, n in algebraic, attribute=n.replace("'", "_dot")) for i, n in enumerate(names)
    )


class Decay(Small):
    NAME = "Decay"
    STATES = scalars("x")
    PARAMETERS = (ParameterInfo("k"),)
    DEFAULTS: ClassVar[dict[str, Any]] = {"k": 1.0, "x": 1.0}
    DERIVED = (DerivedInfo("double", method="double"),)

    def vector_field(self, t: Tensor, x: Tensor) -> Tensor:
        return -self.k[..., None] * x

    def double(self, t: Tensor, x: Tensor) -> Tensor:
        return 2 * self.k * x[..., 0]


class Bounded(Decay):
    """x' = -k x with k > 0, whose weight is stored by its logarithm."""

    NAME = "Bounded"
    PARAMETERS = (ParameterInfo("k", lower=0.0),)
    k = Constrained("k", lower=0.0)


class Forced(Small):
    """x' = -x + cos(t)(1 + sin t) with a known solution when x(0) is given; depends on t."""

    NAME = "Forced"
    STATES = scalars("x")
    DEFAULTS: ClassVar[dict[str, Any]] = {"x": 0.5}

    def vector_field(self, t: Tensor, x: Tensor) -> Tensor:
        return -x * torch.cos(t)[..., None] + torch.cos(t)[..., None]

    @staticmethod
    def exact(t: Tensor) -> Tensor:
        return 1 - 0.5 * torch.exp(-torch.sin(t))


class Lorenz(Small):
    NAME = "Lorenz"
    STATES = scalars("x", "y", "z")
    PARAMETERS = (ParameterInfo("rho"),)
    DEFAULTS: ClassVar[dict[str, Any]] = {"rho": 28.0, "x": 1.0, "y": 1.0, "z": 1.0}

    def vector_field(self, t: Tensor, s: Tensor) -> Tensor:
        x, y, z = s.unbind(-1)
        return torch.stack([10 * (y - x), x * (self.rho - z) - y, x * y - 8 / 3 * z], -1)


class VanDerPol(Small):
    NAME = "VanDerPol"
    STATES = scalars("x", "y")
    PARAMETERS = (ParameterInfo("mu"),)
    DEFAULTS: ClassVar[dict[str, Any]] = {"mu": 5.0, "x": 2.0, "y": 0.0}

    def vector_field(self, t: Tensor, s: Tensor) -> Tensor:
        x, y = s.unbind(-1)
        return torch.stack([y, self.mu * (1 - x * x) * y - x], -1)


class Robertson(Small):
    NAME = "Robertson"
    STATES = scalars("a", "b", "c")
    DEFAULTS: ClassVar[dict[str, Any]] = {"a": 1.0}

    def vector_field(self, t: Tensor, s: Tensor) -> Tensor:
        a, b, c = s.unbind(-1)
        slow, back, fast = 0.04 * a, 1e4 * b * c, 3e7 * b * b
        return torch.stack([back - slow, slow - back - fast, fast], -1)

    def jacobian(self, t: Tensor, s: Tensor) -> Tensor:
        _, b, c = s.unbind(-1)
        slow = torch.full_like(b, 0.04)
        first = torch.stack([-slow, 1e4 * c, 1e4 * b], -1)
        last = torch.stack([0 * b, 6e7 * b, 0 * b], -1)
        return torch.stack([first, -first - last, last], -2)


class RobertsonDAE(Robertson):
    NAME = "RobertsonDAE"
    STATES = scalars("a", "b", "c", algebraic=("c",))

    def vector_field(self, t: Tensor, s: Tensor) -> Tensor:
        a, b, c = s.unbind(-1)
        slow, back, fast = 0.04 * a, 1e4 * b * c, 3e7 * b * b
        return torch.stack([back - slow, slow - back - fast, a + b + c - 1], -1)

    def jacobian(self, t: Tensor, s: Tensor) -> Tensor:
        J = super().jacobian(t, s)
        return torch.cat([J[..., :2, :], torch.ones_like(J[..., 2:, :])], -2)


class Ball(Small):
    NAME = "Ball"
    STATES = scalars("h", "v")
    PARAMETERS = (ParameterInfo("g"), ParameterInfo("e"))
    DEFAULTS: ClassVar[dict[str, Any]] = {"g": 9.81, "e": 0.8, "h": 10.0, "v": 0.0}
    EVENTS = (EventInfo("falling", "falling(h)", ("v",)),)

    def vector_field(self, t: Tensor, x: Tensor) -> Tensor:
        v = x[..., 1]
        return torch.stack([v, (-self.g).expand(v.shape)], -1)

    def guard_0(self, t: Tensor, x: Tensor) -> Tensor:
        return x[..., 0]

    def reset_0(self, t: Tensor, x: Tensor) -> Tensor:
        return torch.stack([x[..., 0], -self.e * x[..., 1]], -1)


class FirstTouch(Ball):
    NAME = "FirstTouch"
    EVENTS = (EventInfo("falling", "falling(h)", (), stop=True),)


class Counter(Small):
    """x' = 1; y counts what the events of a subclass do, z holds x at the last of them."""

    NAME = "Counter"
    STATES = scalars("x", "y", "z")
    DEFAULTS: ClassVar[dict[str, Any]] = {}

    def vector_field(self, t: Tensor, s: Tensor) -> Tensor:
        x = s[..., 0]
        return torch.stack([torch.ones_like(x), 0 * x, 0 * x], -1)

    def count(self, t: Tensor, s: Tensor) -> Tensor:
        x, y, _ = s.unbind(-1)
        return torch.stack([x, y + 1, x], -1)


class Every(Counter):
    EVENTS = (EventInfo("every", "every 0.3", ("y", "z")),)

    def period_0(self) -> Tensor:
        return torch.tensor(0.3, dtype=torch.float64)

    reset_0 = Counter.count


class Sampled(Counter):
    EVENTS = (EventInfo("sample", "sample(m)", ("y", "z"), column="m"),)
    reset_0 = Counter.count


class Waves(Counter):
    """Counts the passages of sin(3x) in each of the three ways."""

    STATES = scalars("x", "down", "up", "both")
    EVENTS = (
        EventInfo("falling", "falling(sin(3*x))", ("down",)),
        EventInfo("rising", "rising(sin(3*x))", ("up",)),
        EventInfo("crossing", "crossing(sin(3*x))", ("both",)),
    )

    def vector_field(self, t: Tensor, s: Tensor) -> Tensor:
        return torch.cat([torch.ones_like(s[..., :1]), torch.zeros_like(s[..., 1:])], -1)

    def guard_0(self, t: Tensor, s: Tensor) -> Tensor:
        return torch.sin(3 * s[..., 0])

    guard_1 = guard_2 = guard_0

    def add(self, s: Tensor, place: int) -> Tensor:
        return s + torch.eye(4, dtype=s.dtype)[place]

    def reset_0(self, t: Tensor, s: Tensor) -> Tensor:
        return self.add(s, 1)

    def reset_1(self, t: Tensor, s: Tensor) -> Tensor:
        return self.add(s, 2)

    def reset_2(self, t: Tensor, s: Tensor) -> Tensor:
        return self.add(s, 3)


class Simultaneous(Counter):
    """Two events at once: the first adds 1 to y, the second, which sees it, multiplies y by 10."""

    STATES = scalars("x", "y")
    EVENTS = (EventInfo("rising", "rising(x - 1)", ("y",)), EventInfo("rising", "rising(2*x - 2)", ("y",)))

    def vector_field(self, t: Tensor, s: Tensor) -> Tensor:
        return torch.stack([torch.ones_like(s[..., 0]), 0 * s[..., 0]], -1)

    def guard_0(self, t: Tensor, s: Tensor) -> Tensor:
        return s[..., 0] - 1

    def guard_1(self, t: Tensor, s: Tensor) -> Tensor:
        return 2 * s[..., 0] - 2

    def reset_0(self, t: Tensor, s: Tensor) -> Tensor:
        return torch.stack([s[..., 0], s[..., 1] + 1], -1)

    def reset_1(self, t: Tensor, s: Tensor) -> Tensor:
        return torch.stack([s[..., 0], s[..., 1] * 10], -1)


class Endless(Simultaneous):
    """Two events that throw x back and forth over their guards without progress in t."""

    EVENTS = (EventInfo("rising", "rising(x - 1)", ("x",)), EventInfo("falling", "falling(x)", ("x",)))

    def guard_1(self, t: Tensor, s: Tensor) -> Tensor:
        return s[..., 0]

    def reset_0(self, t: Tensor, s: Tensor) -> Tensor:
        return torch.stack([-torch.ones_like(s[..., 0]), s[..., 1]], -1)

    def reset_1(self, t: Tensor, s: Tensor) -> Tensor:
        return torch.stack([2 * torch.ones_like(s[..., 0]), s[..., 1]], -1)


class Kinked(Small):
    """x' = c until x reaches 1, then x' = -2 x: x(t) = exp(-2 (t - 1/c)) from t = 1/c on."""

    NAME = "Kinked"
    STATES = scalars("x")
    PARAMETERS = (ParameterInfo("c"),)
    DEFAULTS: ClassVar[dict[str, Any]] = {"c": 1.25, "x": 0.0}
    BREAKS = 1

    def vector_field(self, t: Tensor, x: Tensor) -> Tensor:
        late = self.breaks(t, x) > 0
        return torch.where(late, -2 * x, self.c[..., None].expand(x.shape))

    def breaks(self, t: Tensor, x: Tensor) -> Tensor:
        return (t - 1 / self.c)[..., None].expand(x.shape)


class Relay(Small):
    """x' = 1 below x = 1, 1/10 above: a break of the state, x(t) = 1 + (t - 1)/10 from t = 1 on."""

    NAME = "Relay"
    STATES = scalars("x")
    PARAMETERS = (ParameterInfo("c"),)
    DEFAULTS: ClassVar[dict[str, Any]] = {"c": 1.0, "x": 0.0}
    BREAKS = 1

    def vector_field(self, t: Tensor, x: Tensor) -> Tensor:
        return torch.where(x > 1, 0.1, self.c[..., None]) * (1 + 0.5 * torch.cos(x))

    def breaks(self, t: Tensor, x: Tensor) -> Tensor:
        return x - 1


class Blowup(Small):
    NAME = "Blowup"
    STATES = scalars("x")
    DEFAULTS: ClassVar[dict[str, Any]] = {"x": 1.0}

    def vector_field(self, t: Tensor, x: Tensor) -> Tensor:
        return x * x


class Guarded(Decay):
    NAME = "Guarded"
    REQUIRES = (RequireInfo("x > 0.5", "too little is left"),)

    def require_0(self, t: Tensor, x: Tensor) -> Tensor:
        return x[..., 0] > 0.5


EULER = Tableau("euler", 1, None, (0.0,), ((),), (1.0,))
HEUN = Tableau("heun", 2, 1, (0.0, 1.0), ((), (1.0,)), (0.5, 0.5), (1.0, 0.0))
RK4 = Tableau(
    "rk4",
    4,
    None,
    (0.0, 0.5, 0.5, 1.0),
    ((), (0.5,), (0.0, 0.5), (0.0, 0.0, 1.0)),
    (1 / 6, 1 / 3, 1 / 3, 1 / 6),
)
BOSH3 = Tableau(
    "bosh3", 3, 2, (0.0, 0.5, 0.75, 1.0), ((), (0.5,), (0.0, 0.75), (2 / 9, 1 / 3, 4 / 9)),
    (2 / 9, 1 / 3, 4 / 9, 0.0), (7 / 24, 1 / 4, 1 / 3, 1 / 8),
)  # fmt: skip
# Dormand, Prince (1980); dense output: Hairer, Nørsett, Wanner I, section II.6 (Shampine's order 4)
DOPRI5 = Tableau(
    "dopri5", 5, 4,
    (0.0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0),
    (
        (), (1 / 5,), (3 / 40, 9 / 40), (44 / 45, -56 / 15, 32 / 9),
        (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
        (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
        (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
    ),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84, 0.0),
    (5179 / 57600, 0.0, 7571 / 16695, 393 / 640, -92097 / 339200, 187 / 2100, 1 / 40),
    (
        (1.0, -8048581381 / 2820520608, 8663915743 / 2820520608, -12715105075 / 11282082432),
        (0.0, 0.0, 0.0, 0.0),
        (0.0, 131558114200 / 32700410799, -68118460800 / 10900136933, 87487479700 / 32700410799),
        (0.0, -1754552775 / 470086768, 14199869525 / 1410260304, -10690763975 / 1880347072),
        (0.0, 127303824393 / 49829197408, -318862633887 / 49829197408, 701980252875 / 199316789632),
        (0.0, -282668133 / 205662961, 2019193451 / 616988883, -1453857185 / 822651844),
        (0.0, 40617522 / 29380423, -110615467 / 29380423, 69997945 / 29380423),
    ),
)  # fmt: skip
IMPLICIT_EULER = Tableau("implicit_euler", 1, None, (1.0,), ((1.0,),), (1.0,))
TRAPEZOIDAL = Tableau("trapezoidal", 2, None, (0.0, 1.0), ((0.0,), (0.5, 0.5)), (0.5, 0.5))
# Hairer, Wanner II, table IV.6.5
SDIRK = Tableau(
    "sdirk", 4, 3, (1 / 4, 3 / 4, 11 / 20, 1 / 2, 1.0),
    (
        (1 / 4,), (1 / 2, 1 / 4), (17 / 50, -1 / 25, 1 / 4), (371 / 1360, -137 / 2720, 15 / 544, 1 / 4),
        (25 / 24, -49 / 48, 125 / 16, -85 / 12, 1 / 4),
    ),
    (25 / 24, -49 / 48, 125 / 16, -85 / 12, 1 / 4),
    (59 / 48, -17 / 96, 225 / 32, -85 / 12, 0.0),
)  # fmt: skip


class Midpoint(StepSolver):
    NAME, KIND, ORDER = "midpoint_step", "ode", 2.0

    def step(self, f: Any, x: Tensor, t: Tensor, h: Tensor, **extras: Any) -> tuple[Tensor, None, dict]:
        hx = h[..., None]
        return x + hx * f(x + hx / 2 * f(x, t), t + h / 2), None, {}


class Rosenbrock23(StepSolver):
    """Shampine, Reichelt, "The MATLAB ODE suite", SIAM J. Sci. Comput. 18 (1997) 1–22."""

    NAME, KIND, ORDER, EMBEDDED = "rosenbrock23", "ode", 2.0, 3.0
    ARGUMENTS = ("f", "x", "t", "h", "mass")

    def step(self, f: Any, x: Tensor, t: Tensor, h: Tensor, **extras: Any) -> tuple[Tensor, Tensor, dict]:
        M, d, hx = torch.diag(extras["mass"]), 1 / (2 + math.sqrt(2)), h[..., None]
        T = hx * d * f.time_derivative(x, t)
        W = M - h[..., None, None] * d * f.jacobian(x, t)

        def solve(r: Tensor) -> Tensor:
            return torch.linalg.solve(W, r[..., None])[..., 0]

        f0 = f(x, t)
        k1 = solve(f0 + T)
        f1 = f(x + hx / 2 * k1, t + h / 2)
        k2 = solve(f1 - k1 @ M) + k1
        x1 = x + hx * k2
        k3 = solve(f(x1, t + h) - (6 + math.sqrt(2)) * (k2 @ M - f1) - 2 * (k1 @ M - f0) + T)
        return x1, hx / 6 * (k1 - 2 * k2 + k3), {}


def method(solver: Tableau | StepSolver, **options: Any) -> Method:
    name = solver.name if isinstance(solver, Tableau) else solver.NAME
    return Method(name, "ode", solver, options)
