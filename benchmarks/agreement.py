"""Fields by NDL and by py-pde on the same points: `python -m benchmarks.agreement`.

Diffusion in a channel and Gray–Scott on a torus, both by differences of second order and adaptive steps with
small errors, so that nothing but rounding and the steps may differ. Exits with an error where they do not
agree. py-pde compiles with numba, which takes longer than a test should.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

import ndl

TOLERANCE = 1e-8
N = 16
SETTINGS = {"solver": "scipy", "backend": "numpy", "tracker": None, "rtol": 1e-10, "atol": 1e-12}

CHANNEL = """domain Channel = periodic(x in 0..1) * interval(y in 0..1)

model M:
    state u: R on Channel = sin(2*pi*x)*(1 + y^2)
    u' = 0.1*lap(u)
    on boundary(Channel): dn(u) = 0.3
"""

GRAY_SCOTT = """domain Torus = periodic(x in 0..1, y in 0..1)

model M:
    state u: R on Torus = 1 - 0.5*exp(-100*((x - 0.5)^2 + (y - 0.4)^2))
    state v: R on Torus = 0.25*exp(-100*((x - 0.5)^2 + (y - 0.4)^2))
    u' = 2e-5*lap(u) - u*v^2 + 0.04*(1 - u)
    v' = 1e-5*lap(v) + u*v^2 - 0.1*v
"""


def ours(text: str, grid: str, end: float) -> Any:
    """The fields at the end of a run."""
    model = ndl.loads(text).M
    method = "tsit5(rtol=1e-10, atol=1e-12)"
    return ndl.solve(model, span=(0, end), grid=grid, method=method, save="end").final


def diffusion() -> float:
    """The largest difference of the fields after half a unit of time."""
    import pde

    ring, cells = np.arange(N) / N, (np.arange(N) + 0.5) / N
    grid = pde.CartesianGrid([(-0.5 / N, 1 - 0.5 / N), (0, 1)], N, periodic=[True, False])
    start = np.sin(2 * np.pi * ring)[:, None] * (1 + cells[None, :] ** 2)
    equation = pde.DiffusionPDE(0.1, bc={"x": "periodic", "y": {"derivative": 0.3}})
    theirs = equation.solve(pde.ScalarField(grid, start), t_range=0.5, **SETTINGS).data
    found = ours(CHANNEL, f"uniform({N}, {N}, at=cells)", 0.5)
    return float(np.abs(found.u.numpy() - theirs).max())


def gray_scott() -> float:
    """The largest difference of both fields after 50 units of time."""
    import pde

    x = np.arange(N) / N
    grid = pde.CartesianGrid([(-0.5 / N, 1 - 0.5 / N)] * 2, N, periodic=True)
    bump = np.exp(-100 * ((x[:, None] - 0.5) ** 2 + (x[None, :] - 0.4) ** 2))
    rates = {"u": "2e-5*laplace(u) - u*v**2 + 0.04*(1 - u)", "v": "1e-5*laplace(v) + u*v**2 - 0.1*v"}
    start = pde.FieldCollection([pde.ScalarField(grid, 1 - 0.5 * bump), pde.ScalarField(grid, 0.25 * bump)])
    theirs = pde.PDE(rates).solve(start, t_range=50, **SETTINGS).data
    found = ours(GRAY_SCOTT, f"uniform({N}, {N})", 50)
    return float(np.abs(np.stack([found.u.numpy(), found.v.numpy()]) - theirs).max())


def main() -> int:
    """Print the differences; 1 where one is too large."""
    found = {"diffusion": diffusion(), "Gray–Scott": gray_scott()}
    for name, difference in found.items():
        print(f"{name:<11} {difference:.1e} from py-pde (at most {TOLERANCE:.0e})")
    return int(max(found.values()) > TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())
