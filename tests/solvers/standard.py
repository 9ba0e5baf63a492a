"""Standard problems in NDL with references that SciPy computes from right-hand sides written here again.

Each is well conditioned over its span: the global error of a good method is then of its tolerance's size.
Orbits that are chaotic or nearly collide (Arenstorf's, two bodies of eccentricity 0.9) and relaxation
oscillators over several jumps turn a local error of one tolerance into thousands, whatever the method.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from helpers import Floats
from scipy.integrate import solve_ivp

TEXT = '''
model Rigid:
    """Euler's equations of a rigid body: DETEST B5 (Hull and others 1972)."""
    state x = 0.0, y = 1.0, z = 1.0
    x' = y*z
    y' = -x*z
    z' = -0.51*x*y

model Chain:
    """A radioactive chain with two fast and slow members: DETEST C1, shortened."""
    state x: R[5] = [1, 0, 0, 0, 0]
    const A = [[-1, 0, 0, 0, 0], [1, -1, 0, 0, 0], [0, 1, -1, 0, 0], [0, 0, 1, -1, 0], [0, 0, 0, 1, 0]]
    x' = A @ x

model TwoBodies:
    """Two bodies with eccentricity 0.1: DETEST D1."""
    state x = 0.9, y = 0.0
    state x' = 0.0
    state y' = sqrt(1.1/0.9)
    r = sqrt(x^2 + y^2)
    x'' = -x/r^3
    y'' = -y/r^3

model Pendulum:
    state q = 1.0
    state q' = 0.0
    q'' = -sin(q)

model VanDerPol:
    """DETEST E2; stiff for a large mu."""
    param mu = 1.0
    state x = 2.0, y = 0.0
    x' = y
    y' = mu*(1 - x^2)*y - x

model Hires:
    """Photomorphogenesis: HIRES (Hairer and Wanner II, section IV.10)."""
    state a = 1.0, b = 0.0, c = 0.0, d = 0.0, p = 0.0, q = 0.0, r = 0.0, s = 0.0057
    a' = -1.71*a + 0.43*b + 8.32*c + 0.0007
    b' = 1.71*a - 8.75*b
    c' = -10.03*c + 0.43*d + 0.035*p
    d' = 8.32*b + 1.71*c - 1.12*d
    p' = -1.745*p + 0.43*q + 0.43*r
    q' = -280*q*s + 0.69*d + 1.71*p - 0.43*q + 0.69*r
    r' = 280*q*s - 1.81*r
    s' = -280*q*s + 1.81*r

model Robertson:
    state a = 1.0, b = 0.0, c = 0.0
    a' = -0.04*a + 1e4*b*c
    b' = 0.04*a - 1e4*b*c - 3e7*b^2
    c' = 3e7*b^2

model Logistic:
    """DETEST A4."""
    state x = 1.0
    x' = x/4*(1 - x/20)

model Kaps:
    """The problem of Kaps (Dekker and Verwer 1984), with solution exp(-2*t), exp(-t) for any stiffness."""
    state x = 1.0, y = 1.0
    x' = -1002*x + 1000*y^2
    y' = x - y*(1 + y)

model Orego:
    """The Oregonator (Hairer and Wanner II, section IV.10), over the slow part before its first jump."""
    state x = 1.0, y = 2.0, z = 3.0
    x' = 77.27*(y + x*(1 - 8.375e-6*x - y))
    y' = (z - (1 + x)*y)/77.27
    z' = 0.161*(x - z)
'''


def _rigid(t: float, u: Floats) -> list[float]:
    return [u[1] * u[2], -u[0] * u[2], -0.51 * u[0] * u[1]]


def _chain(t: float, u: Floats) -> list[float]:
    return [-u[0], u[0] - u[1], u[1] - u[2], u[2] - u[3], u[3]]


def _bodies(t: float, u: Floats) -> list[float]:
    cube = (u[0] ** 2 + u[1] ** 2) ** 1.5
    return [u[2], u[3], -u[0] / cube, -u[1] / cube]


def _pendulum(t: float, u: Floats) -> list[float]:
    return [u[1], -np.sin(u[0])]


def _oscillator(mu: float) -> Callable[[float, Floats], list[float]]:
    return lambda t, u: [u[1], mu * (1 - u[0] ** 2) * u[1] - u[0]]


def _hires(t: float, u: Floats) -> list[float]:
    a, b, c, d, p, q, r, s = u
    fast = 280 * q * s
    return [
        -1.71 * a + 0.43 * b + 8.32 * c + 0.0007,
        1.71 * a - 8.75 * b,
        -10.03 * c + 0.43 * d + 0.035 * p,
        8.32 * b + 1.71 * c - 1.12 * d,
        -1.745 * p + 0.43 * q + 0.43 * r,
        -fast + 0.69 * d + 1.71 * p - 0.43 * q + 0.69 * r,
        fast - 1.81 * r,
        -fast + 1.81 * r,
    ]


def _robertson(t: float, u: Floats) -> list[float]:
    slow, back, fast = 0.04 * u[0], 1e4 * u[1] * u[2], 3e7 * u[1] ** 2
    return [-slow + back, slow - back - fast, fast]


def _logistic(t: float, u: Floats) -> list[float]:
    return [u[0] / 4 * (1 - u[0] / 20)]


def _kaps(t: float, u: Floats) -> list[float]:
    return [-1002 * u[0] + 1000 * u[1] ** 2, u[0] - u[1] * (1 + u[1])]


def _orego(t: float, u: Floats) -> list[float]:
    x, y, z = u
    return [77.27 * (y + x * (1 - 8.375e-6 * x - y)), (z - (1 + x) * y) / 77.27, 0.161 * (x - z)]


@dataclass(frozen=True)
class Standard:
    """A model of `TEXT`, the names of its states, and the same right-hand side for SciPy."""

    model: str
    states: tuple[str, ...]
    rhs: Callable[[float, Floats], list[float]]
    start: tuple[float, ...]
    end: float
    stiff: bool = False
    values: tuple[tuple[str, float], ...] = ()
    small: float = 1.0
    """atol as a part of rtol."""

    @property
    def span(self) -> str:
        return f"0..{self.end!r}"

    @cache  # noqa: B019 (a handful of problems, kept for the session)
    def reference(self) -> tuple[Floats, Floats]:
        """Twenty times and the solution there, `[20, n]`, by SciPy at 1e-13 (stiff: 1e-12)."""
        t = np.linspace(0, self.end, 21)[1:]
        method, rtol = ("Radau", 1e-12) if self.stiff else ("DOP853", 1e-13)
        found = solve_ivp(
            self.rhs, (0, self.end), self.start, method, t_eval=t, rtol=rtol, atol=rtol * 1e-3 * self.small
        )
        return t, found.y.T


PROBLEMS = {
    "rigid": Standard("Rigid", ("x", "y", "z"), _rigid, (0.0, 1.0, 1.0), 12.0),
    "chain": Standard("Chain", ("x",), _chain, (1.0, 0.0, 0.0, 0.0, 0.0), 10.0),
    "bodies": Standard(
        "TwoBodies", ("x", "y", "x'", "y'"), _bodies, (0.9, 0.0, 0.0, float(np.sqrt(1.1 / 0.9))), 1.5
    ),
    "pendulum": Standard("Pendulum", ("q", "q'"), _pendulum, (1.0, 0.0), 6.0),
    "oscillator": Standard("VanDerPol", ("x", "y"), _oscillator(1.0), (2.0, 0.0), 10.0),
    "stiff oscillator": Standard(
        "VanDerPol", ("x", "y"), _oscillator(1000.0), (2.0, 0.0), 500.0, True, (("mu", 1000.0),)
    ),
    "hires": Standard(
        "Hires", tuple("abcdpqrs"), _hires, (1.0, *[0.0] * 6, 0.0057), 321.8122, True, small=1e-2
    ),
    "robertson": Standard("Robertson", ("a", "b", "c"), _robertson, (1.0, 0.0, 0.0), 40.0, True, small=1e-4),
    "logistic": Standard("Logistic", ("x",), _logistic, (1.0,), 20.0),
    "kaps": Standard("Kaps", ("x", "y"), _kaps, (1.0, 1.0), 5.0, True),
    "orego": Standard("Orego", ("x", "y", "z"), _orego, (1.0, 2.0, 3.0), 30.0, True),
}
